//! `superseded-operator`

use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;
use crate::ops;

pub(super) const CHECK: Check = Check {
    code: "superseded-operator",
    severity: Severity::Note,
    summary: "An operator that later opsets no longer have.",
    about: "Upsample, Scatter and the like are valid in the model's opset and forbidden in newer ones: a model that is raised without \
            rewriting them does not load, and new runtimes carry the old kernels for as long as they care to.",
    cure: Cure::advice("`secateur convert-opset` to that opset or a later one rewrites it into what took its place"),
    examples: &[
        Example::found(
            onnx!(9, "g (float[1, 1, 2, 2] x) => (float[1, 1, 4, 4] y) <float[4] s = {1, 1, 2, 2}> { [grow] y = Upsample(x, s) }"),
            &["grow"],
        ),
        Example::silent(onnx!(
            13,
            "g (float[1, 1, 2, 2] x) => (float[1, 1, 4, 4] y) <float[4] s = {1, 1, 2, 2}> { y = Resize(x, , s) }"
        )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        for (id, operator) in view.operators().filter(|(_, operator)| operator.domain().is_empty()) {
            let versions = ops::schemas("", &operator.op_type);
            let Some(end) = versions.last().filter(|last| last.deprecated && last.since > view.opset) else {
                continue;
            };
            let message = format!("{} ends with opset {}, the model is of opset {}", operator.op_type, end.since, view.opset);
            found.add(view.node(id), message);
        }
    }
}
