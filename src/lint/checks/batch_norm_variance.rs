//! `batch-norm-variance`

use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "batch-norm-variance",
    severity: Severity::Error,
    summary: "A BatchNormalization takes the root of a number that is not positive.",
    about: "Its variance plus epsilon is zero or below for some channel: a checkpoint whose running variance was never written, or was \
            averaged with signs. The channel is NaN or infinite in every run.",
    cure: Cure::advice("estimate the statistics again on data (a pass in training mode without a step), and export again"),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[1, 2, 4] x) => (float[1, 2, 4] y) <float[2] s = {1, 1}, float[2] b = {0, 0}, float[2] m = {0, 0}, \
                 float[2] v = {1, -0.5}> { [norm] y = BatchNormalization(x, s, b, m, v) }"
            ),
            &["norm"],
        ),
        Example::silent(onnx!(
            17,
            "g (float[1, 2, 4] x) => (float[1, 2, 4] y) <float[2] s = {1, 1}, float[2] b = {0, 0}, float[2] m = {0, 0}, \
             float[2] v = {1, 0}> { y = BatchNormalization(x, s, b, m, v) }"
        )),
    ],
    run,
};

/// The epsilon of a node that has none.
const EPSILON: f32 = 1e-5;

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        for (id, operator) in view.operators().filter(|(_, operator)| operator.is("BatchNormalization")) {
            let Some(variance) = view.constant(id, 4).and_then(|tensor| tensor.to_f64().ok()) else {
                continue;
            };
            let epsilon = operator.float("epsilon").unwrap_or(EPSILON);
            let bad: Vec<f64> = variance
                .iter()
                .copied()
                .filter(|one| one + f64::from(epsilon) <= 0.0)
                .collect();
            let Some(lowest) = bad.iter().copied().reduce(f64::min) else {
                continue;
            };
            let message = format!(
                "the variance of {} of {} channels plus epsilon {epsilon:e} is not positive, down to {lowest:e}",
                bad.len(),
                variance.len()
            );
            found.add(view.node(id), message);
        }
    }
}
