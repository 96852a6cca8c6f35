//! Which weights of a graph are quantized, and who reads them.

use std::sync::Arc;

use super::options::{Coding, Overrides};
use super::widths::Planned;
use super::{Found, NAME, QuantizeWeights};
use crate::ir::{DType, Graph, NodeId, NodeKind, Operator, Slot, ValueId};
use crate::passes::layer_patterns::layer_names;
use crate::passes::{Context, PassError};
use crate::quantize::{Granularity, Scheme};

/// One operator that reads a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    pub(super) node: NodeId,
    pub(super) slot: usize,
}

/// One weight.
#[derive(Clone, Debug)]
pub(in crate::passes) struct Target {
    pub(super) weight: ValueId,
    /// Axis of the output channels.
    pub(in crate::passes) channel_axis: usize,
    /// Axis that is summed over, where it is one.
    pub(super) sum_axis: Option<usize>,
    /// All readers are MatMul.
    pub(super) is_matrix_product: bool,
    pub(super) readers: Vec<Reader>,
    /// How it is coded; what the options say of its first reader.
    pub(super) coding: Coding,
    /// What gradients say of it.
    pub(super) planned: Option<Arc<Planned>>,
}

impl Target {
    /// The constant weight in slot 1 of `node`, as that node alone reads it.
    pub(in crate::passes) fn of_node(graph: &Graph, node: NodeId, coding: Coding) -> Option<Self> {
        let (operator, weight) = (graph.operator(node)?, graph.input(node, 1)?);
        let rank = graph.constant(weight)?.rank();
        let (channel_axis, sum_axis) = axes(operator, rank)?;
        Some(Self {
            weight,
            channel_axis,
            sum_axis,
            is_matrix_product: operator.is("MatMul") && rank == 2,
            readers: vec![Reader { node, slot: 1 }],
            coding,
            planned: None,
        })
    }

    /// How scales are laid out over the weight.
    pub(in crate::passes) fn granularity(&self) -> Granularity {
        self.coding.granularity(self.channel_axis, self.sum_axis)
    }

    /// The scheme of one output channel.
    pub(super) fn scheme(&self, channel: usize) -> Scheme {
        let width = self.planned.as_ref().and_then(|planned| planned.width(channel));
        Scheme {
            bits: width.or(self.coding.bits),
            ..self.coding.scheme()
        }
    }
}

/// Axes of the output channels and of the sum, for the weight in slot 1.
fn axes(operator: &Operator, rank: usize) -> Option<(usize, Option<usize>)> {
    match &*operator.op_type {
        "MatMul" if rank >= 2 => Some((rank - 1, Some(rank - 2))),
        "Gemm" if rank == 2 => Some(match operator.int("transB").unwrap_or(0) {
            0 => (1, Some(0)),
            _ => (0, Some(1)),
        }),
        "Conv" if rank >= 3 => Some((0, None)),
        "ConvTranspose" if rank >= 3 && operator.int("group").unwrap_or(1) == 1 => Some((1, None)),
        _ => None,
    }
}

/// The weights of `graph` that the options cover.
pub(super) fn targets(
    graph: &Graph,
    options: &QuantizeWeights,
    context: &Context<'_>,
    notes: &mut Vec<String>,
) -> Result<Vec<Target>, PassError> {
    let excluded = regex::RegexSet::new(&options.exclude).map_err(|error| PassError::Option {
        pass: NAME,
        message: format!("exclude: {error}"),
    })?;
    let overrides = Overrides::new(options)?;
    let mut found = Found::new();
    for id in graph.topological_order() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        if !operator.domain().is_empty() || !options.operators.iter().any(|name| operator.is(name)) {
            continue;
        }
        let Some(weight) = graph.input(id, 1) else {
            continue;
        };
        let is_constant = matches!(
            graph.get(weight.node).map(|node| &node.kind),
            Some(NodeKind::Constant(_))
        );
        let Some(tensor) = graph.constant(weight).filter(|_| is_constant) else {
            continue;
        };
        let label = graph.label(id);
        let names = || layer_names(graph, id, false);
        if names()
            .iter()
            .any(|name| excluded.is_match(name) || context.keeps(name))
        {
            notes.push(format!("{label} stays float: excluded"));
            continue;
        }
        if tensor.dtype() != DType::F32 {
            if tensor.dtype().is_float() {
                notes.push(format!(
                    "{label} stays {}: only float weights are quantized",
                    tensor.dtype()
                ));
            }
            continue;
        }
        if tensor.elements() < options.minimum_elements {
            notes.push(format!("{label} stays float: {} elements", tensor.elements()));
            continue;
        }
        let Some((channel_axis, sum_axis)) = axes(operator, tensor.rank()) else {
            notes.push(format!(
                "{label} stays float: a weight of shape {:?}",
                tensor.dims()
            ));
            continue;
        };
        let Some(coding) = overrides.coding(&layer_names(graph, id, true)) else {
            notes.push(format!("{label} stays float: so `layers` says"));
            continue;
        };
        let target = found.entry(weight).or_insert_with(|| Target {
            weight,
            channel_axis,
            sum_axis,
            is_matrix_product: true,
            readers: Vec::new(),
            coding,
            planned: None,
        });
        if target.coding != coding {
            notes.push(format!(
                "{label} has the type of the weight's first reader, {:?}",
                target.coding.kind
            ));
        }
        if (target.channel_axis, target.sum_axis) != (channel_axis, sum_axis) {
            notes.push(format!("{label} stays float: its weight is also read transposed"));
            continue;
        }
        target.is_matrix_product &= operator.is("MatMul") && tensor.rank() == 2;
        target.readers.push(Reader { node: id, slot: 1 });
    }
    Ok(found
        .into_values()
        .filter(|target| {
            let covered = |node: NodeId, slot: Slot| {
                target
                    .readers
                    .iter()
                    .any(|reader| reader.node == node && slot == Slot::Input(reader.slot as u32))
            };
            let other = graph
                .uses(target.weight)
                .into_iter()
                .find(|u| !covered(u.node, u.slot));
            if let Some(other) = other {
                let name = graph.value(target.weight).map(|value| value.name.to_string());
                notes.push(format!(
                    "{} stays float: {} reads it as float",
                    name.unwrap_or_default(),
                    if other.node == graph.sink() {
                        "a graph output".to_owned()
                    } else {
                        graph.label(other.node)
                    }
                ));
            }
            other.is_none()
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_axis_of_each_product() {
        let axis = |operator, rank| axes(&operator, rank).map(|found| found.0);
        assert_eq!(axis(Operator::new("Conv"), 4), Some(0));
        assert_eq!(axis(Operator::new("Gemm").with("transB", 1), 2), Some(0));
        assert_eq!(axis(Operator::new("Gemm"), 2), Some(1));
        assert_eq!(axis(Operator::new("ConvTranspose"), 4), Some(1));
        assert_eq!(axis(Operator::new("ConvTranspose").with("group", 2), 4), None);
        assert_eq!(axis(Operator::new("MatMul"), 2), Some(1));
    }
}
