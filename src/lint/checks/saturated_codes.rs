//! `saturated-codes`

use crate::analysis::linear::operand;
use crate::ir::{DType, Slot, ValueId};
use crate::lint::check::{Check, Cure, Example, Found, Severity, elements256, onnx, sixteen};
use crate::lint::subject::{GraphView, Subject};
use crate::lint::weights::Weight;

/// From this share of the codes on a weight is cut off.
const SHARE: f64 = 0.05;
/// Above this share it is meant: weights of one bit.
const MEANT: f64 = 0.8;
/// Smaller weights have too few codes for a share to mean something.
const LEAST: u64 = 256;

pub(super) const CHECK: Check = Check {
    code: "saturated-codes",
    severity: Severity::Warning,
    summary: "Many codes of a weight stand at the ends of their type: the scale is too small for it.",
    about: "A scale from the range of the weight puts one element of each channel at the end. Where one in twenty stands there, the rest of \
            the distribution was cut off, and the layer computes with smaller weights than it was trained with. Usually a scale of another \
            layer, or a percentile that was meant for activations.",
    cure: Cure::advice("quantize the float model again; `secateur quantize` takes the scale from the weight, and `--rounding` may search a better one"),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[1, 256] x) => (float[1, 1] y) <int8[256, 1] w = {",
                sixteen!("127,"), sixteen!("-128,"), sixteen!("5,"), sixteen!("6,"), sixteen!("7,"), sixteen!("8,"), sixteen!("9,"),
                sixteen!("1,"), sixteen!("2,"), sixteen!("3,"), sixteen!("4,"), sixteen!("5,"), sixteen!("6,"), sixteen!("7,"),
                sixteen!("8,"), "1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}, float s = {0.01}> { v = DequantizeLinear(w, s) y = MatMul(x, v) }"
            ),
            &["w"],
        ),
        Example::silent(onnx!(
            17,
            "g (float[1, 256] x) => (float[1, 1] y) <int8[256, 1] w = {",
            elements256!("5,", "127"),
            "}, float s = {0.01}> { v = DequantizeLinear(w, s) y = MatMul(x, v) }"
        )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for weight in &subject.weights.all {
        let elements = weight.tensor.elements();
        let Some(view) = subject.graphs.get(weight.graph).filter(|_| elements >= LEAST) else {
            continue;
        };
        if !matches!(weight.tensor.dtype(), DType::I8 | DType::U8) {
            continue;
        }
        let Some((scales, zero)) = dequantized(view, weight) else { continue };
        let (lowest, highest) = weight.scan.extremes;
        // An unsigned code of 0 with that zero point is the number 0.
        let bottom = weight.tensor.dtype() == DType::U8 && zero == 0;
        let ends = if bottom { highest } else { lowest + highest };
        // A range of its own puts each channel at both ends once.
        let share = ends.saturating_sub(2 * scales) as f64 / elements as f64;
        if (SHARE..MEANT).contains(&share) {
            let message = format!(
                "{ends} of {elements} codes ({:.1} %) stand at the ends of {}, with {scales} {}",
                ends as f64 * 100.0 / elements as f64,
                weight.tensor.dtype(),
                if scales == 1 { "scale" } else { "scales" }
            );
            found.add(view.value(weight.name), message);
        }
    }
}

/// The number of scales of a weight and its zero point, where every reader dequantizes it for a layer.
fn dequantized(view: &GraphView<'_>, weight: &Weight<'_>) -> Option<(u64, i64)> {
    let mut answer = None;
    for reader in view.graph.uses(ValueId::new(weight.id, 0)) {
        let operator = view.graph.operator(reader.node)?;
        if !operator.is("DequantizeLinear") || reader.slot != Slot::Input(0) {
            return None;
        }
        let layer = view.graph.uses(ValueId::new(reader.node, 0)).into_iter().any(|next| {
            let (Slot::Input(slot), Some(layer)) = (next.slot, view.graph.operator(next.node)) else {
                return false;
            };
            operand(layer, slot as usize, weight.tensor.rank()).is_some()
        });
        if !layer {
            return None;
        }
        let zero = view.constant(reader.node, 2).and_then(|zero| zero.to_i64().ok());
        let zero = zero.and_then(|points| points.first().copied()).unwrap_or(0);
        answer = Some((view.constant(reader.node, 1)?.elements(), zero));
    }
    answer
}
