//! `unused-input`

use crate::ir::NodeKind;
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "unused-input",
    severity: Severity::Note,
    summary: "A graph input that nothing reads.",
    about: "Callers have to feed it all the same, and TensorRT drops it from the engine, so that its name is not found there. It is often the \
            sign of an argument that the export turned into a constant.",
    cure: Cure::advice(
        "no step removes an input, as callers may feed it: export again without it, or cut the model with `secateur extract`",
    ),
    examples: &[
        Example::found(onnx!(17, "g (float[2] x, int64[1] n) => (float[2] y) { y = Relu(x) }"), &["n"]),
        Example::silent(onnx!(17, "g (float[2] x, float[2] n) => (float[2] y) { y = Add(x, n) }")),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    let Some(main) = subject.main() else { return };
    for id in main.graph.inputs().iter().filter(|id| !main.graph.is_used(**id)) {
        let node = main.graph.get(*id);
        if let Some(NodeKind::Input(input)) = node.map(|node| &node.kind)
            && input.default.is_none()
        {
            found.add(main.value(&main.graph.label(*id)), "no node and no output reads this input");
        }
    }
}
