//! `training-mode`

use crate::ir::{NodeId, Operator};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{GraphView, Subject};

pub(super) const CHECK: Check = Check {
    code: "training-mode",
    severity: Severity::Warning,
    summary: "A Dropout or BatchNormalization is in training mode.",
    about: "The model was exported without `model.eval()`. A Dropout that drops gives other results in every run, and a BatchNormalization \
            normalises by the batch it is fed: an answer depends on what else is in the batch. tract, TensorRT and QNN refuse both.",
    cure: Cure::advice("export again in evaluation mode: `model.eval()`, and `training=TrainingMode.EVAL`"),
    examples: &[
        Example::found(
            onnx!(17, "g (float[2] x) => (float[2] y) <float r = {0.5}, bool t = {1}> { [drop] y = Dropout(x, r, t) }"),
            &["drop"],
        ),
        Example::found(
            onnx!(
                17,
                "g (float[2, 1, 4] x) => (float[2, 1, 4] y) <float[1] s = {1}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1}> \
                 { [norm] y, p, q = BatchNormalization <training_mode = 1> (x, s, b, m, v) }"
            ),
            &["norm"],
        ),
        Example::silent(onnx!(17, "g (float[2] x) => (float[2] y) <float r = {0.5}> { y = Dropout(x, r) }")),
        Example::silent(onnx!(
            17,
            "g (float[2] x) => (float[2] y) <float r = {0}, bool t = {1}> { y = Dropout(x, r, t) }"
        )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        for (id, operator) in view.operators() {
            if let Some(message) = trains(view, id, operator) {
                found.add(view.node(id), message);
            }
        }
    }
}

fn trains(view: &GraphView<'_>, id: NodeId, operator: &Operator) -> Option<String> {
    let single = |slot: usize| view.constant(id, slot).and_then(|tensor| tensor.single_f64());
    if operator.is("Dropout") {
        // The ratio is an attribute before opset 12, the mode before opset 7.
        let ratio = single(1).or_else(|| operator.float("ratio").map(f64::from)).unwrap_or(0.5);
        let on = match view.opset {
            ..7 => operator.int("is_test").unwrap_or(0) == 0,
            7..12 => false,
            _ => view
                .constant(id, 2)
                .and_then(|tensor| tensor.single_i64())
                .is_some_and(|flag| flag != 0),
        };
        return (on && ratio > 0.0).then(|| format!("drops {:.0} % of the elements in every run", ratio * 100.0));
    }
    if operator.is("BatchNormalization") {
        let outputs = view.graph.get(id)?.outputs().iter();
        let written = outputs.filter(|value| !value.omitted).count();
        let on = match view.opset {
            ..7 => operator.int("is_test").unwrap_or(0) == 0,
            7..14 => written > 1,
            _ => operator.int("training_mode").unwrap_or(0) != 0,
        };
        return on.then(|| "normalises by the statistics of the batch that it is fed".to_owned());
    }
    None
}
