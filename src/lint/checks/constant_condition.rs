//! `constant-condition`

use crate::ir::{NodeId, Operator};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{GraphView, Subject};

pub(super) const CHECK: Check = Check {
    code: "constant-condition",
    severity: Severity::Warning,
    summary: "An If whose condition is a constant, or a Loop that never runs.",
    about: "A branch on a flag that was fixed when the model was exported. The other branch and its weights stay in the file, fusions stop at \
            the body, and TensorRT and WebGPU treat the node as control flow.",
    cure: Cure::step(
        "`secateur simplify` puts the branch that is taken in its place",
        "simplify",
        r#"{"only": ["fold-constants"]}"#,
    ),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[2] x) => (float[2] y) <bool c = {1}> { [choice] y = If (c) <then_branch = t () => (float[2] a) { a = Relu(x) }, \
                 else_branch = e () => (float[2] b) { b = Neg(x) }> }"
            ),
            &["choice"],
        ),
        Example::silent(onnx!(
            17,
            "g (bool c, float[2] x) => (float[2] y) { y = If (c) <then_branch = t () => (float[2] a) { a = Relu(x) }, \
             else_branch = e () => (float[2] b) { b = Neg(x) }> }"
        )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        for (id, operator) in view.operators() {
            if let Some(message) = decided(view, id, operator) {
                found.add(view.node(id), message);
            }
        }
    }
}

fn decided(view: &GraphView<'_>, id: NodeId, operator: &Operator) -> Option<String> {
    let number = |slot: usize| view.constant(id, slot).and_then(|tensor| tensor.single_i64());
    if operator.is("If") {
        let taken = if number(0)? != 0 { "then_branch" } else { "else_branch" };
        return Some(format!("the condition is a constant: {taken} is taken in every run"));
    }
    if !operator.is("Loop") {
        return None;
    }
    match (number(0), number(1)) {
        (Some(0), _) => Some("the number of rounds is the constant 0".to_owned()),
        (_, Some(0)) => Some("the condition before the first round is the constant false".to_owned()),
        _ => None,
    }
}
