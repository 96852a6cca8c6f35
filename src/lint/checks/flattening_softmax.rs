//! `flattening-softmax`

use crate::ir::{Dim, NodeId, Operator};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{GraphView, Subject};

pub(super) const CHECK: Check = Check {
    code: "flattening-softmax",
    severity: Severity::Note,
    summary: "A Softmax of an opset before 13 that is taken over several axes at once.",
    about: "Before opset 13 the input is made a matrix at `axis` (1 by default), and the sum runs over everything behind it: over channels, rows \
            and columns together. From 13 on it runs over one axis. Converters that carry the attribute over compute something else, and \
            so do runtimes that know the new form alone.",
    cure: Cure::advice("`secateur convert-opset --to 13` or later writes the flattening out, if it was meant; else name the axis in the source"),
    examples: &[
        Example::found(onnx!(11, "g (float[2, 3, 4] x) => (float[2, 3, 4] y) { [soft] y = Softmax(x) }"), &["soft"]),
        Example::silent(onnx!(11, "g (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Softmax <axis = -1> (x) }")),
        Example::silent(onnx!(11, "g (float[2, 3] x) => (float[2, 3] y) { y = Softmax(x) }")),
        Example::silent(onnx!(11, "g (float[2, 3, 1, 1] x) => (float[2, 3, 1, 1] y) { y = Softmax(x) }")),
        Example::silent(onnx!(13, "g (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Softmax <axis = 1> (x) }")),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in subject.graphs.iter().filter(|view| view.opset < 13) {
        for (id, operator) in view.operators() {
            if let Some(message) = flattens(view, id, operator) {
                found.add(view.node(id), message);
            }
        }
    }
}

fn flattens(view: &GraphView<'_>, id: NodeId, operator: &Operator) -> Option<String> {
    ["Softmax", "LogSoftmax", "Hardmax"].iter().find(|name| operator.is(name))?;
    let shape = view.input_type(id, 0)?.shape()?;
    let rank = i64::try_from(shape.len()).ok()?;
    let axis = operator.int("axis").unwrap_or(1);
    let axis = if axis < 0 { axis + rank } else { axis };
    let summed = shape.get(usize::try_from(axis).ok()?..)?;
    let several = summed.iter().filter(|dim| **dim != Dim::Fixed(1)).count() > 1;
    several.then(|| {
        let dims: Vec<String> = summed.iter().map(ToString::to_string).collect();
        format!("the sum runs over the last {} of {rank} axes together: {}", summed.len(), dims.join(" x "))
    })
}
