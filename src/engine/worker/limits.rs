//! How much memory a worker may take for a model.
//!
//! Engines copy weights, repack them and keep values of a run; a model that takes much more than that runs away. What a model may
//! take follows from what it holds and is never more than what the machine has left.

use std::sync::OnceLock;

use crate::engine::{RunValue, RunValues};
use crate::ir::{Model, NodeKind, Tensor, ValueId};

/// What any model may take, in bytes.
const LEAST: u64 = 512 << 20;
/// What it may take for each byte of its weights: as read, converted, repacked, and again for copies next to each other.
const WEIGHTS: u64 = 8;
/// And for each byte of a value whose size is known.
const VALUES: u64 = 2;
/// And for each byte of its inputs, and again for some nodes: values of unknown size are about as large as what goes in.
const INPUTS: u64 = 64;
const INPUTS_EACH_NODE: u64 = 4;

/// What a model holds.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::engine) struct Holds {
    weights: u64,
    values: u64,
    nodes: u64,
}

impl Holds {
    pub(in crate::engine) fn of(model: &Model) -> Self {
        let mut holds = Self::default();
        for graph in model.graph_paths().iter().filter_map(|path| model.graph_at(path)) {
            for id in graph.node_ids() {
                let Some(node) = graph.get(id) else { continue };
                match &node.kind {
                    NodeKind::Constant(constant) => {
                        let bytes = constant.tensor.as_ref().map_or(0, Tensor::byte_len);
                        holds.weights = holds.weights.saturating_add(bytes);
                    }
                    NodeKind::Operator(_) | NodeKind::Input(_) => {
                        holds.nodes += 1;
                        for at in 0..node.outputs().len() {
                            let ty = graph.ty(ValueId::new(id, at));
                            let elements = ty.fixed_shape().and_then(|dims| {
                                dims.iter()
                                    .try_fold(1u64, |all, dim| all.checked_mul(u64::try_from(*dim).ok()?))
                            });
                            let bytes = ty
                                .dtype()
                                .zip(elements)
                                .and_then(|(dtype, all)| dtype.byte_len(all));
                            holds.values = holds.values.saturating_add(bytes.unwrap_or(0));
                        }
                    }
                    _ => {}
                }
            }
        }
        holds
    }

    /// What one operator on these constants holds.
    pub(in crate::engine) fn of_constants<'t>(tensors: impl Iterator<Item = &'t Tensor>) -> Self {
        Self {
            weights: tensors.map(Tensor::byte_len).fold(0, u64::saturating_add),
            values: 0,
            nodes: 1,
        }
    }

    /// Whether a process that had the model is as good as new after it: what was allocated is not all given back.
    pub(super) fn leaves_little(&self) -> bool {
        self.weights.saturating_add(self.values) <= LEAST / 4
    }

    /// Bytes that the model may take on inputs of so many bytes.
    pub(in crate::engine) fn allowed(&self, inputs: u64, chosen: Option<u64>) -> u64 {
        let each = INPUTS.saturating_add(INPUTS_EACH_NODE.saturating_mul(self.nodes));
        let wanted = LEAST
            .saturating_add(WEIGHTS.saturating_mul(self.weights))
            .saturating_add(VALUES.saturating_mul(self.values))
            .saturating_add(each.saturating_mul(inputs));
        chosen.unwrap_or_else(|| wanted.min(machine()))
    }
}

/// Bytes of all tensors in `values`.
pub(super) fn bytes_of(values: &RunValues) -> u64 {
    fn of(value: &RunValue) -> u64 {
        match value {
            RunValue::Tensor(tensor) => tensor.byte_len(),
            RunValue::Sequence(values) => values.iter().map(of).sum(),
            RunValue::Optional(value) => value.as_deref().map_or(0, of),
            RunValue::Map(keys, value) => keys.byte_len() + of(value),
        }
    }
    values.values().map(of).sum()
}

/// Memory that the machine has left as the program starts to use engines, in bytes, less a tenth.
fn machine() -> u64 {
    static LEFT: OnceLock<u64> = OnceLock::new();
    *LEFT.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kilobytes = text.lines().find_map(|line| {
            line.strip_prefix("MemAvailable:")?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        });
        kilobytes.map_or(u64::MAX, |kilobytes| (kilobytes * 1024 / 10 * 9).max(LEAST))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_may_take_more_the_more_it_holds() {
        let (small, large) = (
            Holds::default(),
            Holds {
                weights: 20 << 20,
                values: 50 << 20,
                nodes: 150,
            },
        );
        assert_eq!(small.allowed(0, None), LEAST);
        let (idle, fed) = (large.allowed(0, None), large.allowed(600 << 10, None));
        assert!(idle > small.allowed(0, None) + (200 << 20) && fed > idle);
        assert!(large.allowed(u64::MAX, None) <= machine());
        assert_eq!(large.allowed(u64::MAX, Some(1 << 20)), 1 << 20);
    }
}
