//! `qdq-bias-scale`

use crate::ir::{DType, NodeId};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{GraphView, Subject};

pub(super) const CHECK: Check = Check {
    code: "qdq-bias-scale",
    severity: Severity::Error,
    summary: "The scale of a 32-bit bias is not the product of the scales of input and weight.",
    about: "The bias is added to the sum of products of codes, so integer kernels read its codes in the scale of that sum and have no input for \
            another one. ONNX Runtime fuses the layer all the same: the bias then counts by the wrong factor, only when optimisations are on.",
    cure: Cure::advice(
        "quantize the float model again: `secateur quantize` takes the scales of biases from those of input and weight; a float bias is fine, too",
    ),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (uint8[1, 1, 4, 4] x) => (uint8[1, 1, 4, 4] y) <float s = {0.5}, uint8 z = {0}, int8[1, 1, 1, 1] w = {5}, \
                 int32[1] b = {7}, float t = {0.3}> { a = DequantizeLinear(x, s, z) v = DequantizeLinear(w, s) \
                 c = DequantizeLinear(b, t) [conv] d = Conv(a, v, c) y = QuantizeLinear(d, s, z) }"
            ),
            &["conv"],
        ),
        Example::silent(onnx!(
            17,
            "g (uint8[1, 1, 4, 4] x) => (uint8[1, 1, 4, 4] y) <float s = {0.5}, uint8 z = {0}, int8[1, 1, 1, 1] w = {5}, \
             int32[1] b = {7}, float t = {0.25}> { a = DequantizeLinear(x, s, z) v = DequantizeLinear(w, s) \
             c = DequantizeLinear(b, t) d = Conv(a, v, c) y = QuantizeLinear(d, s, z) }"
        )),
    ],
    run,
};

/// Scales that differ by less are the same but for rounding.
const TOLERANCE: f64 = 1e-3;

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        for (id, operator) in view.operators() {
            if !operator.is("Conv") && !operator.is("Gemm") {
                continue;
            }
            // `beta` is a factor of the bias that integer kernels do not have.
            let factored = operator.float("alpha").is_some_and(|alpha| alpha != 1.0);
            if let Some(message) = wrong(view, id).filter(|_| !factored) {
                found.add(view.node(id), message);
            }
        }
    }
}

fn wrong(view: &GraphView<'_>, id: NodeId) -> Option<String> {
    let (bias, source) = view.producer(id, 2)?;
    let integers = view.input_type(bias, 0).and_then(|ty| ty.dtype()) == Some(DType::I32);
    if !source.is("DequantizeLinear") || !integers {
        return None;
    }
    let scale = |slot: usize| {
        let (producer, operator) = view.producer(id, slot)?;
        let scale = operator.is("DequantizeLinear").then(|| view.constant(producer, 1))??;
        scale.to_f64().ok()
    };
    let (input, weight) = (scale(0)?, scale(1)?);
    let own = view.constant(bias, 1)?.to_f64().ok()?;
    let [input] = input[..] else { return None };
    let count = own.len().max(weight.len());
    let at = |list: &[f64], index: usize| list.get(index).or(list.first().filter(|_| list.len() == 1)).copied();
    let mut off = (0..count).filter_map(|index| {
        let (own, wanted) = (at(&own, index)?, input * at(&weight, index)?);
        ((own - wanted).abs() > TOLERANCE * wanted.abs()).then_some((own, wanted))
    });
    let (own, wanted) = off.next()?;
    let others = off.count();
    Some(format!(
        "the bias has the scale {own:e}, input and weight give {wanted:e} (a factor of {:.3}){}",
        wanted / own,
        if others > 0 { format!("; so do {others} more channels differ") } else { String::new() }
    ))
}
