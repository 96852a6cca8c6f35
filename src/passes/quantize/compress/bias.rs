//! Biases with short fractions: what is behind them is small beside what the codes of weights lose.

use crate::ir::{DType, EditError, Graph, Model, NodeId, NodeKind, Slot, Tensor};
use crate::passes::{Context, PassReport};

/// Bits of a fraction that stay.
const KEPT: u32 = 10;
/// Bits of a float's fraction.
const FRACTION: u32 = 23;

/// Rounds the biases of the main graph.
pub(super) fn shorten(
    model: &mut Model,
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<(), EditError> {
    let graph = &model.graph;
    let found: Vec<(NodeId, Tensor)> = graph
        .node_ids()
        .filter_map(|id| Some((id, shortened(graph, id, context)?)))
        .collect();
    report.add("bias-shortened", found.len() as u64);
    let mut editor = model.graph.edit(super::NAME);
    for (id, tensor) in found {
        editor.set_constant(id, tensor)?;
    }
    Ok(())
}

/// The rounded bias, if the node is one.
fn shortened(graph: &Graph, id: NodeId, context: &Context<'_>) -> Option<Tensor> {
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
    let short: Vec<f32> = values.iter().map(|value| rounded(*value)).collect();
    let changed = short
        .iter()
        .zip(&*values)
        .any(|(a, b)| a.to_bits() != b.to_bits());
    changed.then(|| Tensor::from_slice(tensor.dims(), &short).ok())?
}

/// To the nearest value with a short fraction; what is not finite stays.
fn rounded(value: f32) -> f32 {
    if !value.is_finite() {
        return value;
    }
    let half = 1u32 << (FRACTION - KEPT - 1);
    let bits = value.to_bits().saturating_add(half) & !((1u32 << (FRACTION - KEPT)) - 1);
    let short = f32::from_bits(bits);
    if short.is_finite() { short } else { value }
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn fractions_are_rounded_to_ten_bits() {
        assert_eq!(rounded(1.0), 1.0);
        assert_eq!(rounded(-(1.0 + 3.0 / 4096.0)), -(1.0 + 1.0 / 1024.0));
        assert_eq!(rounded(f32::MAX), f32::MAX);
        assert!(rounded(f32::NAN).is_nan());
        for value in [0.1f32, -7.3, 1e-20, 3.0e4] {
            assert!((rounded(value) - value).abs() <= value.abs() / 2048.0);
            assert_eq!(rounded(value).to_bits() & 0x1fff, 0);
        }
    }
}
