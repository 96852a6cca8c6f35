//! Biases with short fractions: what is behind them is small beside what the codes of weights lose.

use crate::ir::{DType, EditError, Graph, Model, NodeId, NodeKind, Slot, Tensor};
use crate::passes::{Context, PassReport};

/// Bits of a fraction that stay beyond those that a weight has.
const BEYOND: u32 = 3;
/// The fewest and the most bits of a fraction that stay.
const KEPT: (u32, u32) = (6, 12);
/// Bits of a float's fraction.
const FRACTION: u32 = 23;

/// Rounds the biases of the main graph beside weights of so many bits.
pub(super) fn shorten(
    model: &mut Model,
    bits: f64,
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<(), EditError> {
    let kept = (bits.ceil() as u32 + BEYOND).clamp(KEPT.0, KEPT.1);
    let graph = &model.graph;
    let found: Vec<(NodeId, Tensor)> = graph
        .node_ids()
        .filter_map(|id| Some((id, shortened(graph, id, kept, context)?)))
        .collect();
    report.add("bias-shortened", found.len() as u64);
    let mut editor = model.graph.edit(super::NAME);
    for (id, tensor) in found {
        editor.set_constant(id, tensor)?;
    }
    Ok(())
}

/// The rounded bias, if the node is one.
fn shortened(graph: &Graph, id: NodeId, kept: u32, context: &Context<'_>) -> Option<Tensor> {
    let node = graph.get(id)?;
    if !matches!(node.kind, NodeKind::Constant(_)) {
        return None;
    }
    let value = crate::ir::ValueId::new(id, 0);
    let tensor = graph.constant(value)?;
    let name = graph.value(value).map(|value| value.name.to_string());
    if tensor.dtype() != DType::F32 || tensor.rank() > 2 || name.is_some_and(|name| context.keeps(&name)) {
        return None;
    }
    let uses = graph.uses(value);
    let is_bias = |reader: NodeId, slot: usize| {
        graph.operator(reader).is_some_and(|operator| {
            slot == 2
                && ["Conv", "ConvTranspose", "Gemm"]
                    .iter()
                    .any(|name| operator.is(name))
        })
    };
    let all = uses.iter().all(|one| match one.slot {
        Slot::Input(slot) => is_bias(one.node, slot as usize),
        Slot::Capture(_) => false,
    });
    if uses.is_empty() || !all {
        return None;
    }
    let values = tensor.to_f32().ok()?;
    let short: Vec<f32> = values.iter().map(|value| rounded(*value, kept)).collect();
    let changed = short
        .iter()
        .zip(&*values)
        .any(|(a, b)| a.to_bits() != b.to_bits());
    changed.then(|| Tensor::from_slice(tensor.dims(), &short).ok())?
}

/// To the nearest value with a short fraction; what is not finite stays.
fn rounded(value: f32, kept: u32) -> f32 {
    if !value.is_finite() {
        return value;
    }
    let half = 1u32 << (FRACTION - kept - 1);
    let bits = value.to_bits().saturating_add(half) & !((1u32 << (FRACTION - kept)) - 1);
    let short = f32::from_bits(bits);
    if short.is_finite() { short } else { value }
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn fractions_are_rounded_to_so_many_bits() {
        assert_eq!(rounded(1.0, 10), 1.0);
        assert_eq!(rounded(-(1.0 + 3.0 / 4096.0), 10), -(1.0 + 1.0 / 1024.0));
        assert_eq!(rounded(f32::MAX, 10), f32::MAX);
        assert!(rounded(f32::NAN, 10).is_nan());
        for value in [0.1f32, -7.3, 1e-20, 3.0e4] {
            for kept in [6, 10, 12] {
                let found = rounded(value, kept);
                assert!((found - value).abs() <= value.abs() / (2 << kept) as f32);
                assert_eq!(found.to_bits() & ((1 << (23 - kept)) - 1), 0);
            }
        }
    }
}
