//! `weight-not-finite`

use crate::ir::{Slot, ValueId, tensor_type};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{GraphView, Subject};
use crate::lint::weights::Held;

/// Operators in which an infinite operand makes every result infinite or no number. Elsewhere it may be a mask or a bound.
const LAYERS: [&str; 11] = [
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "DequantizeLinear",
    "GRU",
    "Gemm",
    "InstanceNormalization",
    "LSTM",
    "LayerNormalization",
    "MatMul",
    "RNN",
];

pub(super) const CHECK: Check = Check {
    code: "weight-not-finite",
    severity: Severity::Error,
    summary: "A constant holds NaN, or a layer's weight holds an infinite number.",
    about: "A training run that diverged, or a checkpoint in float16 that overflowed. Every output that the element reaches is NaN. Infinite \
            numbers count in the operands of layers alone: as a mask before Softmax or a bound of Clip they are meant.",
    cure: Cure::advice("take an earlier checkpoint; a weight that overflowed in float16 has to be exported in float32"),
    examples: &[
        Example::found(
            onnx!(17, "g (float[2] x) => (float[2] y) <float[2] w = {1, nan}> { y = Mul(x, w) }"),
            &["w"],
        ),
        Example::found(
            onnx!(17, "g (float[1, 2] x) => (float[1, 1] y) <float[2, 1] w = {1, inf}> { y = MatMul(x, w) }"),
            &["w"],
        ),
        Example::silent(onnx!(
            17,
            "g (float[1, 2] x) => (float[1, 2] y) <float[2] mask = {0, -inf}> { a = Add(x, mask) y = Softmax(a) }"
        )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for weight in &subject.weights.all {
        let Some(view) = subject.graphs.get(weight.graph) else {
            continue;
        };
        let (nan, infinite) = (weight.scan.nan, weight.scan.infinite);
        if weight.held == Held::Default || nan == 0 && infinite == 0 {
            continue;
        }
        let of = format!("of {} elements of {}", weight.tensor.elements(), tensor_type(weight.tensor));
        if nan > 0 {
            found.add(view.value(weight.name), format!("{nan} {of} are NaN"));
        } else if feeds_layer(view, ValueId::new(weight.id, 0)) {
            found.add(view.value(weight.name), format!("{infinite} {of} are infinite, and a layer reads them"));
        }
    }
}

fn feeds_layer(view: &GraphView<'_>, value: ValueId) -> bool {
    view.graph.readers_of(value).any(|reader| {
        let operator = view.graph.operator(reader.node);
        matches!(reader.slot, Slot::Input(_))
            && operator.is_some_and(|operator| LAYERS.iter().any(|name| operator.is(name)))
    })
}
