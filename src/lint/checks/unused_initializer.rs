//! `unused-initializer`

use crate::analysis::needed;
use crate::ir::tensor_type;
use crate::lint::check::{Check, Cure, Example, Found, Severity, elements256, onnx, sixteen};
use crate::lint::subject::Subject;
use crate::lint::weights::Held;

/// Constants below this many bytes are only a note.
const LEAST: u64 = 1024;

pub(super) const CHECK: Check = Check {
    code: "unused-initializer",
    severity: Severity::Warning,
    summary: "A constant is stored that no output depends on.",
    about: "Weights of layers that were cut off, or of heads that exist in training only. ONNX Runtime warns of each when it loads the model \
            and drops it; the file stays as large. Below 1 KiB it is a note.",
    cure: Cure::step("`secateur eliminate-dead-code` removes it", "eliminate-dead-code", "{}"),
    examples: &[
        Example::found(
            onnx!(17, "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Relu(x) }"),
            &["w"],
        ),
        Example::found(
            onnx!(
                17,
                "g (float[256] x) => (float[256] y) <float[256] w = {",
                elements256!("1,", "2"),
                "}> { z = Mul(x, w) y = Relu(x) }"
            ),
            &["w"],
        ),
        Example::silent(onnx!(17, "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Mul(x, w) }")),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    // Constants stand in the order of their graphs.
    for group in subject.weights.all.chunk_by(|a, b| a.graph == b.graph) {
        let view = group.first().and_then(|weight| subject.graphs.get(weight.graph));
        let Some(view) = view else { continue };
        let needed = needed(view.graph);
        for weight in group.iter().filter(|weight| weight.held != Held::Default) {
            if needed.contains(&weight.id) {
                continue;
            }
            let bytes = weight.tensor.byte_len();
            let message = format!(
                "{} ({bytes} bytes) {}",
                tensor_type(weight.tensor),
                match view.graph.is_used(weight.id) {
                    true => "is read by dead nodes alone",
                    false => "is read by nothing",
                }
            );
            let finding = found.add(view.value(weight.name), message);
            if bytes < LEAST {
                finding.severity = Severity::Note;
            }
        }
    }
}
