//! `unfused-qdq`

use crate::analysis::linear::weight_slots;
use crate::ir::{DType, NodeId, Operator, ValueId};
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
            the float model and less accurate. With signed activations on x86 there is one more way: ONNX Runtime turns int8 codes into \
            uint8 only where one node reads them, and what lies beside a branch or a constant stays in float. By the kernels that \
            `secateur quantize --profile` knows of ONNX Runtime on the CPU and of TensorRT.",
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
        // Signed codes that two nodes read.
        Example::found(
            onnx!(
                17,
                "g (float[2] x) => (int8[2] y, int8[2] w) <float s = {0.1}, int8 z = {0}> \
                 { q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z) [sum] b = Add(a, a) y = QuantizeLinear(b, s, z) \
                 [product] c = Mul(a, a) w = QuantizeLinear(c, s, z) }"
            ),
            &["sum", "product"],
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
    let pair = ["QuantizeLinear", "DequantizeLinear"]
        .iter()
        .any(|name| operator.is(name));
    if pair || !operator.domain().is_empty() || operator.has_bodies() {
        return None;
    }
    let sides = sides(view, id);
    if !sides.contains(&Side::Codes) {
        return None;
    }
    let quantized = quantizer(view, id);
    let form = profile.integer_form(&operator.op_type);
    let name = &operator.op_type;
    let ort = profile == Profile::OrtX86;
    let lost = match form {
        None if quantized.is_some() && !sides.contains(&Side::Float) => Some(format!(
            "{name} has no integer kernel: it computes in float between two pairs"
        )),
        Some(IntegerForm::Codes | IntegerForm::Moves) if quantized.is_some() && sides.contains(&Side::Float) => {
            Some(format!("{name} reads codes and a float value: one operand has no pair"))
        }
        Some(IntegerForm::Codes) if operator.is("Conv") && ort && quantized.is_none() => {
            let weight = view
                .producer(id, 1)
                .is_some_and(|(_, source)| source.is("DequantizeLinear"));
            weight.then(|| {
                format!("{name} reads codes, but no QuantizeLinear is behind it: it computes in float")
            })
        }
        _ => None,
    };
    lost.or_else(|| {
        let signed = ort && signed_on_x86(view, id, form?, quantized);
        signed.then(|| {
            format!(
                "{name} has int8 codes on one side that are constant or that several nodes read: x86 has kernels for uint8, and ONNX \
                 Runtime converts computed codes with one reader alone"
            )
        })
    })
}

/// Whether ONNX Runtime on x86 leaves an operator in float because of signed codes. It turns the int8 codes of a pair into uint8 where one
/// node reads what the pair gives; its kernels take uint8, and moves take what is the same on both sides.
fn signed_on_x86(view: &GraphView<'_>, id: NodeId, form: IntegerForm, quantizer: Option<NodeId>) -> bool {
    // A weight may be signed; what is added to or multiplied with codes element by element has their type.
    let weighted = view.graph.operator(id).is_some_and(|operator| !weight_slots(operator).is_empty());
    let inputs = view.graph.inputs_of(id).into_iter().flatten();
    let dequantized = inputs.filter(|value| {
        let producer = view.graph.operator(value.node);
        producer.is_some_and(|source| source.is("DequantizeLinear"))
            && !(weighted && view.constant(value.node, 0).is_some())
    });
    let mut stays: Vec<bool> = dequantized.map(|value| stays_signed(view, value.node)).collect();
    if let Some(quantizer) = quantizer {
        let behind = view.only_reader(quantizer);
        let signed = view.graph.ty(ValueId::new(quantizer, 0)).dtype() == Some(DType::I8);
        stays.push(signed && behind.is_none_or(|reader| stays_signed(view, reader)));
    }
    match form {
        IntegerForm::Codes | IntegerForm::FloatResult => stays.contains(&true),
        IntegerForm::Moves => stays.contains(&true) && stays.contains(&false),
        IntegerForm::Implied => false,
    }
}

/// Whether the codes that a DequantizeLinear reads are int8 and stay so: they do not come from a pair with one reader.
fn stays_signed(view: &GraphView<'_>, dequantize: NodeId) -> bool {
    let signed = view.input_type(dequantize, 0).and_then(|ty| ty.dtype()) == Some(DType::I8);
    let source = view.producer(dequantize, 0);
    let pair = source.is_some_and(|(source, operator)| {
        operator.is("QuantizeLinear") && view.only_reader(source) == Some(dequantize)
    });
    let back = view.graph.operator(dequantize).is_some_and(|operator| operator.is("DequantizeLinear"));
    signed && !(back && pair && view.graph.use_count(ValueId::new(dequantize, 0)) == 1)
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

/// The QuantizeLinear that alone reads the result, through a clamp at most.
fn quantizer(view: &GraphView<'_>, id: NodeId) -> Option<NodeId> {
    let makes_codes = |at: NodeId| {
        let reader = view.only_reader(at)?;
        let operator = view.graph.operator(reader)?;
        operator.is("QuantizeLinear").then_some(reader)
    };
    let clamp = view.only_reader(id).filter(|reader| {
        let operator = view.graph.operator(*reader);
        operator.is_some_and(|operator| operator.is("Relu") || operator.is("Clip"))
    });
    makes_codes(id).or_else(|| makes_codes(clamp?))
}
