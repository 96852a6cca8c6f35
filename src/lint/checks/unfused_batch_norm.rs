//! `unfused-batch-norm`

use std::collections::HashSet;
use std::path::PathBuf;

use regex::RegexSet;

use crate::fold::TractEvaluator;
use crate::ir::{Model, NodeId};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{GraphView, Subject};
use crate::passes::{Context, Limits, Pass as _, Simplify};

pub(super) const CHECK: Check = Check {
    code: "unfused-batch-norm",
    severity: Severity::Warning,
    summary: "A BatchNormalization stands behind a layer that it could be folded into.",
    about: "Scale and shift of each channel are factors of the weights before them. ONNX Runtime folds some of these when it loads a model, \
            other runtimes and every quantizer take the node as it is: weights are then quantized without the factor that they are \
            multiplied with. Only those are counted that the step folds: a weight that others read, too, would have to be stored twice.",
    cure: Cure::step(
        "`secateur simplify` folds it into the weights",
        "simplify",
        r#"{"only": ["conv-batch-norm", "conv-transpose-batch-norm", "gemm-batch-norm"]}"#,
    ),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <float[1, 1, 1, 1] w = {2}, float[1] s = {1}, float[1] b = {0}, \
                 float[1] m = {0}, float[1] v = {1}> { c = Conv(x, w) [norm] y = BatchNormalization(c, s, b, m, v) }"
            ),
            &["norm"],
        ),
        // The channels of the groups stand side by side in the weights.
        Example::found(
            onnx!(
                17,
                "g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y) <float[2, 1, 1, 1] w = {2, 3}, float[2] s = {1, 2}, float[2] b = {0, 1}, \
                 float[2] m = {0, 1}, float[2] v = {1, 2}> { c = ConvTranspose <group = 2> (x, w) [norm] y = BatchNormalization(c, s, b, m, v) }"
            ),
            &["norm"],
        ),
        // Statistics that two layers share.
        Example::found(
            onnx!(
                17,
                "g (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <float[1, 1, 1, 1] w = {2}, float[1, 1, 1, 1] u = {3}, float[1] s = {1}, \
                 float[1] b = {0}, float[1] m = {0}, float[1] v = {1}> { c = Conv(x, w) [first] d = BatchNormalization(c, s, b, m, v) \
                 e = Relu(d) f = Conv(e, u) [second] y = BatchNormalization(f, s, b, m, v) }"
            ),
            &["first", "second"],
        ),
        // The bias differs from row to row.
        Example::silent(onnx!(
            17,
            "g (float[2, 1] x) => (float[2, 1] y) <float[1, 1] w = {2}, float[2, 1] k = {1, 2}, float[1] s = {1}, float[1] b = {0}, \
             float[1] m = {0}, float[1] v = {1}> { c = Gemm(x, w, k) y = BatchNormalization(c, s, b, m, v) }"
        )),
        // Something else reads what the convolution puts out.
        Example::silent(onnx!(
            17,
            "g (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y, float[1, 1, 4, 4] z) <float[1, 1, 1, 1] w = {2}, float[1] s = {1}, \
             float[1] b = {0}, float[1] m = {0}, float[1] v = {1}> { c = Conv(x, w) y = BatchNormalization(c, s, b, m, v) z = Relu(c) }"
        )),
        Example::silent(onnx!(
            17,
            "g (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <float[1] s = {1}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1}> \
             { c = Relu(x) y = BatchNormalization(c, s, b, m, v) }"
        )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    let mut candidates = Vec::new();
    for view in &subject.graphs {
        for (id, operator) in view.operators().filter(|(_, operator)| operator.is("BatchNormalization")) {
            let outputs = view.graph.get(id).map_or(0, |node| node.outputs().len());
            let constant = (1..5).all(|slot| view.constant(id, slot).is_some());
            if outputs != 1 || operator.int("training_mode").unwrap_or(0) != 0 || !constant {
                continue;
            }
            if let Some((layer, name)) = layer_before(view, id) {
                candidates.push((view, id, layer, name));
            }
        }
    }
    if candidates.is_empty() {
        return;
    }
    let Some(left) = left_by_cure(subject.model) else {
        return;
    };
    for (view, id, layer, name) in candidates {
        if left.contains(&(view.name.clone(), view.graph.label(id))) {
            continue;
        }
        let channels = view.constant(id, 1).map_or(0, |scale| scale.elements());
        let message = format!(
            "the weights of {name} {} could take it in, with {channels} {}",
            view.graph.label(layer),
            if channels == 1 { "channel" } else { "channels" }
        );
        found.add(view.node(id), message);
    }
}

/// The graphs and nodes of the normalizations that the step of the cure leaves; `None` where it does not run. Nothing else says what it
/// folds: its rules have clauses of their own, and bounds on the size of the file.
fn left_by_cure(model: &Model) -> Option<HashSet<(Option<String>, String)>> {
    let (_, options) = CHECK.cure.step?;
    let step: Simplify = serde_json::from_str(options).ok()?;
    let context = Context {
        evaluator: &TractEvaluator,
        limits: Limits::default(),
        keep: RegexSet::empty(),
        seed: 0,
        base: PathBuf::new(),
        progress: &|_, _, _| {},
        resources: None,
    };
    let mut folded = model.clone();
    step.run(&mut folded, &context).ok()?;
    let mut left = HashSet::new();
    for view in &Subject::views(&folded) {
        for (id, operator) in view.operators() {
            if operator.is("BatchNormalization") {
                left.insert((view.name.clone(), view.graph.label(id)));
            }
        }
    }
    Some(left)
}

/// The layer that only this node reads, with a constant weight and at most a constant bias.
fn layer_before<'m>(view: &GraphView<'m>, norm: NodeId) -> Option<(NodeId, &'m str)> {
    let (layer, operator) = view.producer(norm, 0)?;
    let kind = ["Conv", "ConvTranspose", "Gemm"].iter().any(|name| operator.is(name));
    let bias = view.graph.input(layer, 2).is_none() || view.constant(layer, 2).is_some();
    let alone = view.only_reader(layer) == Some(norm);
    (kind && bias && alone && view.constant(layer, 1).is_some()).then_some((layer, operator.op_type.as_str()))
}
