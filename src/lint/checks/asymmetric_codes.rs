//! `asymmetric-codes`

use crate::ir::DType;
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "asymmetric-codes",
    severity: Severity::Error,
    summary: "TensorRT takes codes with a zero point of 0 and no others.",
    about: "Its parser refuses QuantizeLinear and DequantizeLinear with another zero point, and codes of 8 bits without a sign. Models quantized for \
            ONNX Runtime on x86 have both in their activations.",
    cure: Cure::advice("`secateur quantize --profile tensorrt` of the float model: signed codes, symmetric around zero"),
    examples: &[
        Example::found(
            onnx!(17, "g (float[2] x) => (float[2] y) <float s = {0.1}, int8 z = {3}> { [codes] q = QuantizeLinear(x, s, z) [back] y = DequantizeLinear(q, s, z) }"),
            &["codes", "back"],
        )
        .on("tensorrt"),
        Example::found(
            onnx!(17, "g (float[2] x) => (uint8[2] q) <float s = {0.1}, uint8 z = {0}> { [codes] q = QuantizeLinear(x, s, z) }"),
            &["codes"],
        )
        .on("tensorrt"),
        Example::silent(onnx!(
            17,
            "g (float[2] x) => (float[2] y) <float s = {0.1}, int8 z = {0}> { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"
        ))
        .on("tensorrt"),
        // The CPU takes them.
        Example::silent(onnx!(
            17,
            "g (float[2] x) => (float[2] y) <float s = {0.1}, int8 z = {3}> { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"
        ))
        .on("ort"),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for target in found.targets.iter().filter(|target| target.name == "tensorrt") {
        for view in &subject.graphs {
            for (id, operator) in view.operators() {
                if !operator.is("QuantizeLinear") && !operator.is("DequantizeLinear") {
                    continue;
                }
                let Some(zero) = view.constant(id, 2) else { continue };
                let shifted = zero.to_i64().is_ok_and(|points| points.iter().any(|point| *point != 0));
                let message = if shifted {
                    "a zero point is not 0"
                } else if zero.dtype() == DType::U8 {
                    "the codes are uint8"
                } else {
                    continue;
                };
                found.add_for(target, Severity::Error, view.node(id), message);
            }
        }
    }
}
