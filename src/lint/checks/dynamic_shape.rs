//! `dynamic-shape`

use crate::ir::{NodeKind, ValueId};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "dynamic-shape",
    severity: Severity::Error,
    summary: "QNN takes fixed sizes alone, and an input has a free dimension.",
    about: "The execution provider leaves every node with a dimension that is no number to the CPU, and a free batch leaves it all nodes.",
    cure: Cure::advice("`secateur bind --bind NAME=SIZE` fixes it, and everything that follows from it"),
    examples: &[
        Example::found(onnx!(17, "g (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }"), &["x"]).on("qnn"),
        Example::silent(onnx!(17, "g (float[1, 3] x) => (float[1, 3] y) { y = Relu(x) }")).on("qnn"),
        Example::silent(onnx!(17, "g (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }")).on("ort"),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    let Some(main) = subject.main() else { return };
    for target in found.targets.iter().filter(|target| target.name == "qnn") {
        for id in main.graph.inputs() {
            let fed = main.graph.get(*id).is_some_and(|node| {
                matches!(&node.kind, NodeKind::Input(input) if input.default.is_none())
            });
            let ty = main.graph.ty(ValueId::new(*id, 0));
            if fed && ty.fixed_shape().is_none() {
                let message = format!("the input is {ty}");
                found.add_for(target, Severity::Error, main.value(&main.graph.label(*id)), message);
            }
        }
    }
}
