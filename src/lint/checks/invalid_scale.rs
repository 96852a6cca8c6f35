//! `invalid-scale`

use crate::ir::Operator;
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "invalid-scale",
    severity: Severity::Error,
    summary: "A scale of quantization is not a positive normal number.",
    about: "A range of zero that was calibrated on constant data, or a scale that underflowed. Dividing by it gives infinity and NaN, and \
            runtimes differ in what code that becomes; subnormal scales are zero wherever flushing is on.",
    cure: Cure::advice("calibrate again on data in which the value moves; `secateur quantize` gives such a value the smallest range instead"),
    examples: &[
        Example::found(
            onnx!(17, "g (float[2] x) => (float[2] y) <float s = {0}, uint8 z = {0}> { [codes] q = QuantizeLinear(x, s, z) [back] y = DequantizeLinear(q, s, z) }"),
            &["codes", "back"],
        ),
        Example::found(
            onnx!(17, "g (float[2, 2] x) => (float[2, 2] y) <int8[2, 2] w = {1, 2, 3, 4}, float[2] s = {0.1, nan}> { [back] v = DequantizeLinear(w, s) y = MatMul(x, v) }"),
            &["back"],
        ),
        Example::silent(onnx!(
            17,
            "g (float[2] x) => (float[2] y) <float s = {0.1}, uint8 z = {0}> { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }"
        )),
    ],
    run,
};

/// The input slots of an operator that are scales.
fn scales(operator: &Operator) -> &'static [usize] {
    const SLOTS: [(&str, &[usize]); 4] = [
        ("QuantizeLinear", &[1]),
        ("DequantizeLinear", &[1]),
        ("QLinearConv", &[1, 4, 6]),
        ("QLinearMatMul", &[1, 4, 6]),
    ];
    let entry = SLOTS.iter().find(|(name, _)| operator.is(name));
    entry.map_or(&[], |(_, slots)| slots)
}

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        for (id, operator) in view.operators() {
            for slot in scales(operator) {
                let Some(values) = view.constant(id, *slot).and_then(|tensor| tensor.to_f64().ok()) else {
                    continue;
                };
                let good = |scale: &f64| scale.is_finite() && *scale >= f64::from(f32::MIN_POSITIVE);
                let bad: Vec<&f64> = values.iter().filter(|scale| !good(scale)).collect();
                if let Some(first) = bad.first() {
                    let message = match values.len() {
                        1 => format!("the scale is {first:e}"),
                        all => format!("{} of {all} scales are not positive numbers, the first of them {first:e}", bad.len()),
                    };
                    found.add(view.node(id), message);
                    break;
                }
            }
        }
    }
}
