//! `overridable-initializer`

use crate::ir::{NodeKind, tensor_type};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "overridable-initializer",
    severity: Severity::Warning,
    summary: "A weight is also a graph input, so that no runtime may count on its value.",
    about: "From IR version 4 on, an initializer that stands among the graph inputs is a default which a caller may replace. Nothing behind \
            it is folded, fused or quantized: ONNX Runtime leaves Conv and BatchNormalization apart, and quantizers skip the layer. Old \
            exporters list all weights this way without meaning it. A single number with a default is an option that somebody may set, and \
            only a note.",
    cure: Cure::step(
        "`secateur bind-defaults` makes constants of them; `--constant-inputs` does so before any other step",
        "bind-defaults",
        "{}",
    ),
    examples: &[
        Example::found(
            onnx!(17, "g (float[N, 2] x, float[2, 2] w = {1, 2, 3, 4}) => (float[N, 2] y) { y = MatMul(x, w) }"),
            &["w"],
        ),
        Example::found(
            onnx!(17, "g (float[N] x, float scale = {2}) => (float[N] y) { y = Mul(x, scale) }"),
            &["scale"],
        ),
        Example::silent(onnx!(
            17,
            "g (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }"
        )),
        // Before IR version 4 every initializer is listed, and is a constant.
        Example::silent(
            "<ir_version: 3, opset_import: [\"\" : 8]> g (float[N, 2] x, float[2, 2] w = {1, 2, 3, 4}) => (float[N, 2] y) \
             { y = MatMul(x, w) }",
        ),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    let Some(main) = subject.main() else { return };
    for id in main.graph.inputs() {
        let Some(node) = main.graph.get(*id) else { continue };
        let NodeKind::Input(input) = &node.kind else { continue };
        let Some((tensor, _)) = &input.default else { continue };
        let readers = main.graph.readers(*id).count();
        let readers = match readers {
            0 => "nothing reads it".to_owned(),
            1 => "its reader cannot be folded".to_owned(),
            count => format!("its {count} readers cannot be folded"),
        };
        let message = format!(
            "{} ({} bytes) is a graph input with a default; {readers}",
            tensor_type(tensor),
            tensor.byte_len(),
        );
        let finding = found.add(main.value(&main.graph.label(*id)), message);
        if tensor.elements() <= 1 {
            finding.severity = Severity::Note;
        }
    }
}
