//! `output-not-computed`

use crate::ir::NodeKind;
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "output-not-computed",
    severity: Severity::Warning,
    summary: "A graph output is an input or a constant.",
    about: "What comes out does not depend on what the model computes: a value that was traced as a constant, or an input that is handed \
            through. TensorRT refuses an input that is also an output.",
    cure: Cure::advice("export again and look at what the output was traced from, or leave it out with `secateur extract --outputs`"),
    examples: &[
        Example::found(
            onnx!(17, "g (float[2] x) => (float[2] y, float[2] w) <float[2] w = {1, 2}> { y = Mul(x, w) }"),
            &["w"],
        ),
        Example::found(onnx!(17, "g (float[2] x) => (float[2] y, float[2] x) { y = Relu(x) }"), &["x"]),
        Example::silent(onnx!(17, "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Mul(x, w) }")),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    let Some(main) = subject.main() else { return };
    for (output, value) in main.graph.outputs().iter().zip(main.graph.output_values()) {
        let Some(value) = value else { continue };
        let what = match main.graph.get(value.node).map(|node| &node.kind) {
            Some(NodeKind::Input(_)) => "is a graph input that is handed through",
            Some(NodeKind::Constant(_)) => "is a constant, the same in every run",
            _ => continue,
        };
        found.add(main.value(&output.name), format!("the output {what}"));
    }
}
