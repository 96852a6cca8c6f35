//! `inference-dropout`

use crate::analysis::is_pure;
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "inference-dropout",
    severity: Severity::Note,
    summary: "A Dropout that drops nothing.",
    about: "In inference it hands its input through. Runtimes skip it; converters and quantizers see a node between two layers that they would \
            otherwise fuse.",
    cure: Cure::step("`secateur simplify` removes it", "simplify", r#"{"only": ["dropout"]}"#),
    examples: &[
        Example::found(
            onnx!(17, "g (float[2] x) => (float[2] y) { a = Relu(x) [drop] b = Dropout(a) y = Exp(b) }"),
            &["drop"],
        ),
        Example::silent(onnx!(17, "g (float[2] x) => (float[2] y) { a = Relu(x) y = Exp(a) }")),
        Example::silent(onnx!(
            17,
            "g (float[2] x) => (float[2] y) <float r = {0.5}, bool t = {1}> { y = Dropout(x, r, t) }"
        )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        for (id, _) in view.operators().filter(|(_, operator)| operator.is("Dropout")) {
            // Before opset 7 a Dropout without `is_test` trains.
            let still = view.opset >= 7 || view.graph.operator(id).and_then(|op| op.int("is_test")) == Some(1);
            if still && is_pure(view.graph, id) {
                found.add(view.node(id), "hands its input through");
            }
        }
    }
}
