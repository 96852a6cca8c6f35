//! `dead-node`

use crate::analysis::needed;
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{Subject, operator_name};

pub(super) const CHECK: Check = Check {
    code: "dead-node",
    severity: Severity::Warning,
    summary: "No output of the graph depends on the node.",
    about: "Left over from an export or from cutting a model. Most runtimes drop it when they load; converters and counters of parameters do \
            not. In bodies and functions too.",
    cure: Cure::step("`secateur eliminate-dead-code` removes it", "eliminate-dead-code", "{}"),
    examples: &[
        Example::found(
            onnx!(17, "g (float[2] x) => (float[2] y) { [spare] z = Exp(x) y = Relu(x) }"),
            &["spare"],
        ),
        Example::found(
            onnx!(
                17,
                "g (bool c, float[2] x) => (float[2] y) { y = If (c) <then_branch = t () => (float[2] a) { [spare] u = Exp(x) a = Relu(x) }, \
                 else_branch = e () => (float[2] b) { b = Neg(x) }> }"
            ),
            &["spare"],
        ),
        Example::silent(onnx!(17, "g (float[2] x) => (float[2] y) { z = Exp(x) y = Relu(z) }")),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        let needed = needed(view.graph);
        for (id, operator) in view.operators().filter(|(id, _)| !needed.contains(id)) {
            let outputs = view.graph.get(id).map_or(0, |node| node.outputs().len());
            let message = format!(
                "nothing needs the {} of this {}",
                if outputs == 1 { "output" } else { "outputs" },
                operator_name(operator)
            );
            found.add(view.node(id), message);
        }
    }
}
