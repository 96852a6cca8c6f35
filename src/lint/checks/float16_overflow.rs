//! `float16-overflow`

use crate::ir::{DType, tensor_type};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "float16-overflow",
    severity: Severity::Note,
    summary: "A constant becomes infinite in float16.",
    about: "Masks written as -3.4e38 or -1e9, sentinels of detectors, a norm that was never scaled. As float32 they are fine; a conversion \
            that rounds every constant makes them infinite, and 0 times infinity or a row that is masked as a whole is NaN then. It matters to \
            whoever runs the model in half precision, as TensorRT, WebGPU and QNN do for speed.",
    cure: Cure::advice(
        "`secateur convert-float` keeps what reads such a constant in float32; other converters need it on their list of exceptions, or a mask \
         of -1e4",
    ),
    examples: &[
        Example::found(
            onnx!(17, "g (float[2] x) => (float[2] y) <float mask = {-1e9}> { y = Add(x, mask) }"),
            &["mask"],
        ),
        Example::silent(onnx!(17, "g (float[2] x) => (float[2] y) <float mask = {-65504}> { y = Add(x, mask) }")),
        // Infinite already: nothing changes.
        Example::silent(onnx!(17, "g (float[2] x) => (float[2] y) <float mask = {-inf}> { y = Add(x, mask) }")),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for weight in &subject.weights.all {
        let (count, elements) = (weight.scan.above_half, weight.tensor.elements());
        if count == 0 || weight.tensor.dtype() != DType::F32 {
            continue;
        }
        let Some(view) = subject.graphs.get(weight.graph) else {
            continue;
        };
        let message = format!(
            "{count} of {elements} elements of {} exceed 65504, the largest of them {:e}",
            tensor_type(weight.tensor),
            weight.scan.largest as f32
        );
        found.add(view.value(weight.name), message);
    }
}
