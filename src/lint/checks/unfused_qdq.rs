//! `unfused-qdq`

use crate::ir::{NodeId, Operator};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{GraphView, Subject};
use crate::lint::targets::Target;
use crate::passes::{IntegerForm, Profile};

pub(super) const CHECK: Check = Check {
    code: "unfused-qdq",
    severity: Severity::Warning,
    summary: "An operator between quantized values runs in float: its pairs cost and save nothing.",
    about: "A runtime fuses DequantizeLinear, the operator and QuantizeLinear into one integer kernel, where it has one and all sides are \
            there. It has none for the operator (Gelu, LayerNormalization and the like between two pairs), one operand came without a pair, \
            or a convolution has no QuantizeLinear behind it: then values are dequantized, computed in float and rounded again, slower than \
            the float model and less accurate. By the kernels that `secateur quantize --profile` knows of ONNX Runtime on the CPU and of \
            TensorRT.",
    cure: Cure::advice(
        "quantize the float model again with `secateur quantize`, which places pairs by the kernels of a profile; or leave the operator out \
         (`--exclude`)",
    ),
    examples: &[
        // An operator without an integer kernel.
        Example::found(
            onnx!(
                17,
                "g (uint8[2, 4] x) => (uint8[2, 4] y) <float s = {0.1}, uint8 z = {0}> \
                 { a = DequantizeLinear(x, s, z) [erf] b = Erf(a) y = QuantizeLinear(b, s, z) }"
            ),
            &["erf"],
        )
        .on("ort"),
        // A convolution whose result stays float.
        Example::found(
            onnx!(
                17,
                "g (uint8[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <float s = {0.1}, uint8 z = {0}, int8[1, 1, 1, 1] w = {5}> \
                 { a = DequantizeLinear(x, s, z) v = DequantizeLinear(w, s) [conv] y = Conv(a, v) }"
            ),
            &["conv"],
        )
        .on("ort"),
        // One operand without a pair.
        Example::found(
            onnx!(
                17,
                "g (uint8[2] x, float[2] f) => (uint8[2] y) <float s = {0.1}, uint8 z = {0}> \
                 { a = DequantizeLinear(x, s, z) [sum] b = Add(a, f) y = QuantizeLinear(b, s, z) }"
            ),
            &["sum"],
        )
        .on("ort"),
        Example::silent(onnx!(
            17,
            "g (uint8[1, 1, 4, 4] x) => (uint8[1, 1, 4, 4] y) <float s = {0.1}, uint8 z = {0}, int8[1, 1, 1, 1] w = {5}> \
             { a = DequantizeLinear(x, s, z) v = DequantizeLinear(w, s) c = Conv(a, v) r = Relu(c) y = QuantizeLinear(r, s, z) }"
        ))
        .on("ort"),
        // The product has a kernel whose result is float.
        Example::silent(onnx!(
            17,
            "g (uint8[2, 2] x) => (float[2, 2] y) <float s = {0.1}, uint8 z = {0}, int8[2, 2] w = {1, 2, 3, 4}> \
             { a = DequantizeLinear(x, s, z) v = DequantizeLinear(w, s) y = MatMul(a, v) }"
        ))
        .on("ort"),
        // A float operator behind the last pair.
        Example::silent(onnx!(
            17,
            "g (uint8[2, 4] x) => (float[2, 4] y) <float s = {0.1}, uint8 z = {0}> { a = DequantizeLinear(x, s, z) y = Erf(a) }"
        ))
        .on("ort"),
    ],
    run,
};

/// The table of kernels for a runtime, where it says which operators of a pair run on integers.
fn profile(target: &Target) -> Option<Profile> {
    match target.name {
        "ort" => Some(Profile::OrtX86),
        "tensorrt" => Some(Profile::Tensorrt),
        _ => None,
    }
}

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for target in found.targets {
        let Some(profile) = profile(target) else { continue };
        for view in &subject.graphs {
            for (id, operator) in view.operators() {
                if let Some(message) = unfused(view, id, operator, profile) {
                    found.add_for(target, Severity::Warning, view.node(id), message);
                }
            }
        }
    }
}

/// What a data operand is.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    /// The result of a DequantizeLinear of codes that are computed.
    Codes,
    /// A constant, or a DequantizeLinear of one.
    Constant,
    /// A float value.
    Float,
}

fn unfused(view: &GraphView<'_>, id: NodeId, operator: &Operator, profile: Profile) -> Option<String> {
    let pair = ["QuantizeLinear", "DequantizeLinear"].iter().any(|name| operator.is(name));
    if pair || !operator.domain().is_empty() || operator.has_bodies() {
        return None;
    }
    let sides = sides(view, id);
    if !sides.contains(&Side::Codes) {
        return None;
    }
    let quantized = is_quantized(view, id);
    let form = profile.integer_form(&operator.op_type);
    let name = &operator.op_type;
    let around = profile == Profile::OrtX86;
    match form {
        None if quantized && !sides.contains(&Side::Float) => {
            Some(format!("{name} has no integer kernel: it computes in float between two pairs"))
        }
        Some(IntegerForm::Codes) if quantized && sides.contains(&Side::Float) => {
            Some(format!("{name} reads codes and a float value: one operand has no pair"))
        }
        Some(IntegerForm::Codes) if operator.is("Conv") && around && !quantized => {
            let weight = view.producer(id, 1).is_some_and(|(_, source)| source.is("DequantizeLinear"));
            weight.then(|| format!("{name} reads codes, but no QuantizeLinear is behind it: it computes in float"))
        }
        _ => None,
    }
}

/// Operands of the same data; sizes, axes and the like are none.
fn sides(view: &GraphView<'_>, id: NodeId) -> Vec<Side> {
    let inputs = view.graph.inputs_of(id).into_iter().flatten();
    let floats = inputs.filter(|value| view.graph.ty(*value).dtype().is_none_or(|dtype| dtype.is_float()));
    floats
        .map(|value| {
            let producer = view.graph.operator(value.node);
            let dequantized = producer.is_some_and(|source| source.is("DequantizeLinear"));
            match (view.graph.constant(value), dequantized) {
                (Some(_), _) => Side::Constant,
                (None, true) if view.constant(value.node, 0).is_some() => Side::Constant,
                (None, true) => Side::Codes,
                (None, false) => Side::Float,
            }
        })
        .collect()
}

/// Whether all that reads the result makes codes of it, through a clamp at most.
fn is_quantized(view: &GraphView<'_>, id: NodeId) -> bool {
    let makes_codes = |at: NodeId| {
        view.only_reader(at)
            .and_then(|reader| view.graph.operator(reader))
            .is_some_and(|reader| reader.is("QuantizeLinear"))
    };
    let clamp = view.only_reader(id).filter(|reader| {
        let operator = view.graph.operator(*reader);
        operator.is_some_and(|operator| operator.is("Relu") || operator.is("Clip"))
    });
    makes_codes(id) || clamp.is_some_and(makes_codes)
}
