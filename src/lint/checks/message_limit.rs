//! `message-limit`

use crate::lint::check::{Check, Cure, Example, FindingPlace, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "message-limit",
    severity: Severity::Warning,
    summary: "The model is close to the 2 GiB that one protobuf message can hold.",
    about: "A step that adds something (a decomposition, float32 copies of weights, metadata) makes a file that no tool reads. From nine tenths \
            of the limit on.",
    cure: Cure::advice("keep the weights in external data: `onnx.save_model(..., save_as_external_data=True)`"),
    examples: &[
        Example::found(
            onnx!(17, "g (float[4] x) => (float[4] y) <float[4] w = {1, 2, 3, 4}> { y = Mul(x, w) }"),
            &["the model"],
        )
        .within(100),
        Example::silent(onnx!(17, "g (float[4] x) => (float[4] y) <float[4] w = {1, 2, 3, 4}> { y = Mul(x, w) }")),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    let Some(file) = &subject.file else { return };
    if file.message_bytes > file.message_limit / 10 * 9 {
        let message = format!(
            "the message has {} bytes, {:.0} % of the {} that it may have",
            file.message_bytes,
            file.message_bytes as f64 * 100.0 / file.message_limit as f64,
            file.message_limit
        );
        found.add(FindingPlace::default(), message);
    }
}
