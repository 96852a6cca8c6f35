//! `denormal-weights`

use crate::ir::tensor_type;
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx, sixteen};
use crate::lint::subject::Subject;

/// One in so many elements has to be subnormal: fewer cost nothing that can be measured.
const SHARE: u64 = 200;
/// Smaller constants are read too seldom to matter.
const LEAST: u64 = 256;

pub(super) const CHECK: Check = Check {
    code: "denormal-weights",
    severity: Severity::Warning,
    summary: "A weight holds subnormal numbers, which make kernels slow.",
    about: "Numbers below 1.18e-38 are what weight decay leaves of weights that nothing needs. Processors multiply them by microcode, up to a \
            hundred times slower, unless flushing to zero is on; they add nothing to any result. Reported from one element in 200 on, in constants of 256 \
            elements and more.",
    cure: Cure::advice(
        "set them to zero before the export (`weight[weight.abs() < 1e-30] = 0`), or turn flushing on: \
         `session.set_denormal_as_zero` in ONNX Runtime",
    ),
    examples: &[
        Example::found(onnx!(
                17,
                "g (float[1, 256] x) => (float[1, 1] y) <float[256, 1] w = {",
                sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"),
                "-2e-39, 1e-40, 1e-41, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,",
                "-2e-39}> { y = MatMul(x, w) }"
            ),
            &["w"],
        ),
        Example::silent(onnx!(
                17,
                "g (float[1, 256] x) => (float[1, 1] y) <float[256, 1] w = {",
                sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"), sixteen!("1,"),
                "0, 1e-37, -0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,",
                "1e-37}> { y = MatMul(x, w) }"
            )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for weight in &subject.weights.all {
        let (count, elements) = (weight.scan.subnormal, weight.tensor.elements());
        if elements < LEAST || count == 0 || count.saturating_mul(SHARE) < elements {
            continue;
        }
        let Some(view) = subject.graphs.get(weight.graph) else {
            continue;
        };
        let message = format!(
            "{count} of {elements} elements of {} ({:.1} %) are subnormal",
            tensor_type(weight.tensor),
            count as f64 * 100.0 / elements as f64
        );
        found.add(view.value(weight.name), message);
    }
}
