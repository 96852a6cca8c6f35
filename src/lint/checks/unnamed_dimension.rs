//! `unnamed-dimension`

use crate::ir::{NodeKind, ValueId};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "unnamed-dimension",
    severity: Severity::Note,
    summary: "An input has a dimension with neither a size nor a name.",
    about: "Without a name no runtime knows that two such dimensions are equal, so that shapes behind them stay unknown: memory is not \
            planned ahead, shape arithmetic is not folded, and ONNX Runtime's free_dimension_override has nothing to name.",
    cure: Cure::advice("`secateur bind --bind 'INPUT[AXIS]=SIZE'` fixes it; exporters name it (`dynamic_axes`, `dynamic_shapes`)"),
    examples: &[
        Example::found(onnx!(17, "g (float[?, 3] x) => (float[?, 3] y) { y = Relu(x) }"), &["x"]),
        Example::silent(onnx!(17, "g (float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }")),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    let Some(main) = subject.main() else { return };
    for id in main.graph.inputs() {
        let Some(node) = main.graph.get(*id) else { continue };
        let has_default = matches!(&node.kind, NodeKind::Input(input) if input.default.is_some());
        let shape = main.graph.ty(ValueId::new(*id, 0)).shape();
        let Some(shape) = shape.filter(|_| !has_default) else {
            continue;
        };
        let axes: Vec<String> = shape
            .iter()
            .enumerate()
            .filter(|(_, dim)| !dim.is_known())
            .map(|(axis, _)| axis.to_string())
            .collect();
        if axes.is_empty() {
            continue;
        }
        let message = match axes.as_slice() {
            [axis] => format!("axis {axis} of {} has neither a size nor a name", shape.len()),
            _ => format!("axes {} of {} have neither a size nor a name", axes.join(", "), shape.len()),
        };
        found.add(main.value(&main.graph.label(*id)), message);
    }
}
