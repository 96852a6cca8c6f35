//! `contradictory-shapes`

use crate::analysis::graph_name;
use crate::lint::check::{Check, Cure, Example, FindingPlace, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "contradictory-shapes",
    severity: Severity::Error,
    summary: "A node whose inputs do not fit each other, or an attribute out of range: no runtime can run it.",
    about: "Only what no run can repair: sizes that are numbers on both sides, in nodes that the outputs need. Other verbs refuse such a \
            model with the first of these; here all of them are listed.",
    cure: Cure::advice("export again: the model was cut or edited without its shapes"),
    examples: &[
        Example::found(
            onnx!(17, "g (float[2, 3] x) => (float[2, 4] y) <float[5, 4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20}> \
                       { [product] y = MatMul(x, w) }"),
            &["product"],
        ),
        Example::silent(onnx!(17, "g (float[2, K] x, float[5, 4] w) => (float[2, 4] y) { y = MatMul(x, w) }")),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for conflict in &subject.conflicts {
        let place = FindingPlace {
            graph: graph_name(subject.model, &conflict.path),
            node: Some(conflict.node.clone()),
            operator: Some(conflict.operator.clone()),
            value: None,
        };
        found.add(place, conflict.reason.clone());
    }
}
