//! `unsupported-operator`

use std::collections::HashMap;

use crate::ir::{DType, Node, NodeId, Operator, ValueId, opset_version};
use crate::lint::check::{Check, Cure, Example, FindingPlace, Found, Severity, onnx};
use crate::lint::refusals::refusals;
use crate::lint::subject::{GraphView, Subject, operator_name};
use crate::lint::tables::{Kernel, Kernels, kernels, listed};
use crate::lint::targets::Target;
use crate::ops::{Schema, schema};

pub(super) const CHECK: Check = Check {
    code: "unsupported-operator",
    severity: Severity::Error,
    summary: "The runtime has no kernel for an operator, or none for its types.",
    about: "For ONNX Runtime by the kernels that release 1.32 registers for the CPU, with their versions and types; float16 counts where a \
            kernel for float32 is there, as it casts. For tract by what its engine here refuses after rewriting what it lacks. For TensorRT, QNN \
            and WebGPU by the lists of their documentation; what QNN or WebGPU lacks runs on the CPU, and the model is divided there. An \
            operator that is a function of others counts as them.",
    cure: Cure::advice(
        "replace it in the source, write it as a model-local function, or run the part on another runtime; for types, cast around it",
    ),
    examples: &[
        Example::found(
            onnx!(20, "g (uint8[N] x) => (uint8[H, W, C] y) { [decode] y = ImageDecoder(x) }"),
            &["decode"],
        )
        .on("ort"),
        Example::found(
            onnx!(17, "g (double[1, 1, 4, 4] x, double[1, 1, 2, 2] w) => (double[1, 1, 3, 3] y) { [wide] y = Conv(x, w) }"),
            &["wide"],
        )
        .on("ort"),
        Example::found(onnx!(17, "g (float[2, 2] x) => (float[] y) { [det] y = Det(x) }"), &["det"]).on("tensorrt"),
        Example::found(onnx!(17, "g (float[2, 2] x) => (float[] y) { [det] y = Det(x) }"), &["det"]).on("tract"),
        Example::found(onnx!(17, "g (float[2, 2] x) => (float[2, 2] y) { [erf] y = Erf(x) }"), &["erf"]).on("qnn"),
        Example::found(onnx!(17, "g (float[2] x) => (int64[1, N] y) { [where] y = NonZero(x) }"), &["where"]).on("webgpu"),
        Example::silent(onnx!(17, "g (float16[1, 1, 4, 4] x, float16[1, 1, 2, 2] w) => (float16[1, 1, 3, 3] y) { y = Conv(x, w) }"))
            .on("ort"),
        Example::silent(onnx!(17, "g (float[2, 2] x) => (float[] y) { y = Det(x) }")).on("ort"),
        // A function of others.
        Example::silent(onnx!(17, "g (float[2, 2] x) => (float[2, 2] y) { y = HardSwish(x) }")).on("ort"),
        Example::silent(onnx!(17, "g (float[2, 2] x) => (float[2, 2] y) { y = Erf(x) }")).on("tract"),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for target in found.targets {
        match target.name {
            "ort" => each(subject, found, target, &onnx_runtime),
            "tract" => tract(subject, found, target),
            _ => each(subject, found, target, &by_list),
        }
    }
}

/// How much it matters that a runtime does not run an operator, and why it does not.
type Verdict = Option<(Severity, String)>;

/// An operator in its graph.
struct Site<'s> {
    subject: &'s Subject<'s>,
    view: &'s GraphView<'s>,
    id: NodeId,
    operator: &'s Operator,
    target: &'s Target,
}

fn each(subject: &Subject<'_>, found: &mut Found<'_>, target: &Target, judge: &dyn Fn(&Site<'_>) -> Verdict) {
    for view in &subject.graphs {
        for (id, operator) in view.operators() {
            if subject.functions.called_by(view.graph, id).is_some() || operator.is("Constant") {
                continue;
            }
            let site = Site {
                subject,
                view,
                id,
                operator,
                target,
            };
            if let Some((severity, message)) = judge(&site) {
                found.add_for(target, severity, view.node(id), message);
            }
        }
    }
}

fn by_list(site: &Site<'_>) -> Verdict {
    let known = listed(site.target.name)?;
    let contributed = site.operator.imported_domain() == "com.microsoft" && site.target.name != "tensorrt";
    if contributed || known.contains(&site.operator.op_type.as_str()) && site.operator.domain().is_empty() {
        return None;
    }
    let name = operator_name(site.operator);
    Some(match site.target.name {
        "tensorrt" => (Severity::Error, format!("{name} is not on the list of TensorRT's parser")),
        other => (
            Severity::Warning,
            format!("{name} is not on the list of {other}: it runs on the CPU, and the model is divided here"),
        ),
    })
}

/// Operators that ONNX Runtime has before the opset that introduces them.
const EARLY: [&str; 1] = ["LayerNormalization"];

fn onnx_runtime(site: &Site<'_>) -> Verdict {
    let (operator, domain) = (site.operator, site.operator.imported_domain());
    let name = operator_name(operator);
    if operator.is_opaque() {
        let early = EARLY.contains(&operator.op_type.as_str());
        return (!early).then(|| (Severity::Error, format!("the imported opset has no operator {name}")));
    }
    let known = kernels(domain, &operator.op_type);
    if !matches!(domain, "" | "ai.onnx.ml") {
        // Operators of `com.microsoft` without a kernel may be functions.
        let registered = known.is_some() || domain.starts_with("com.microsoft");
        return (!registered).then(|| (Severity::Error, format!("{name} is of no domain that the runtime knows")));
    }
    let version = opset_version(site.subject.model.opsets(&site.view.path), domain).unwrap_or(1);
    let schema = schema(domain, &operator.op_type, version)?;
    let Some(known) = known else {
        return Some((Severity::Error, format!("there is no kernel for {name} on the CPU")));
    };
    if known.function.is_some_and(|first| first <= schema.since) {
        return None;
    }
    let node = site.view.graph.get(site.id)?;
    let held: Vec<&Kernel> = known.kernels.iter().filter(|kernel| fits(kernel, schema.since)).collect();
    if held.is_empty() {
        return Some((Severity::Error, format!("there is no kernel for {name} of opset {}", schema.since)));
    }
    let types = types_of(site.view, site.id, node, schema, known);
    let runs = held.iter().any(|kernel| takes(kernel, &types));
    (!runs).then(|| {
        let given: Vec<String> = types.iter().map(|(variable, dtype)| format!("{variable} = {dtype}")).collect();
        (Severity::Error, format!("there is no kernel for {name} with {}", given.join(", ")))
    })
}

/// Whether a kernel is for the form of an operator that began with this version.
fn fits(kernel: &Kernel, since: i64) -> bool {
    match kernel.last {
        Some(last) => kernel.first <= since && since <= last,
        None => kernel.first == since,
    }
}

/// The element types that the type variables, or parameters, of an operator's kernels have here, as far as they are known.
fn types_of(
    view: &GraphView<'_>,
    id: NodeId,
    node: &Node,
    schema: &Schema,
    known: &Kernels,
) -> Vec<(&'static str, DType)> {
    let names = known.kernels.iter().flat_map(|kernel| kernel.types.iter().map(|(name, _)| *name));
    let inputs = view.graph.inputs_of(id).into_iter().enumerate();
    let inputs = inputs.filter_map(|(slot, value)| Some((schema.input(slot)?, view.graph.ty(value?).dtype()?)));
    let outputs = node.outputs().iter().enumerate().filter(|(_, value)| !value.omitted);
    let outputs = outputs.filter_map(|(slot, _)| {
        let ty = view.graph.ty(ValueId::new(id, slot)).dtype()?;
        Some((schema.output(slot)?, ty))
    });
    let formals: Vec<_> = inputs.chain(outputs).filter(|(formal, _)| formal.homogeneous).collect();
    let mut found: Vec<(&'static str, DType)> = Vec::new();
    for name in names {
        let of = formals.iter().find(|(formal, _)| formal.ty == name || formal.name == name);
        if let Some((_, dtype)) = of.filter(|_| !found.iter().any(|(known, _)| *known == name)) {
            found.push((name, *dtype));
        }
    }
    found
}

/// Whether a kernel takes these types; float16 also where it takes float, as the runtime casts.
fn takes(kernel: &Kernel, types: &[(&str, DType)]) -> bool {
    kernel.types.iter().all(|(name, allowed)| {
        let given = types.iter().find(|(known, _)| known == name);
        given.is_none_or(|(_, dtype)| {
            allowed.contains(dtype) || *dtype == DType::F16 && allowed.contains(&DType::F32)
        })
    })
}

fn tract(subject: &Subject<'_>, found: &mut Found<'_>, target: &Target) {
    let mut graph_of: HashMap<String, Option<String>> = HashMap::new();
    for view in &subject.graphs {
        let labels = view.order.iter().map(|id| view.graph.label(*id));
        labels.for_each(|label| {
            graph_of.entry(label).or_insert_with(|| view.name.clone());
        });
    }
    for refusal in refusals(subject.model) {
        let graph = refusal.node.as_ref().and_then(|node| graph_of.get(node).cloned());
        let place = FindingPlace {
            graph: graph.flatten(),
            node: refusal.node,
            operator: Some(refusal.operator.clone()),
            value: None,
        };
        found.add_for(
            target,
            Severity::Error,
            place,
            format!("{}: {}", refusal.operator, refusal.reason),
        );
    }
}
