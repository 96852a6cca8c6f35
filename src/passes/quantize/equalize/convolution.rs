//! Convolutions whose weights are scaled by channel.

use std::collections::BTreeMap;
use std::ops::Range;

use super::NAME;
use crate::ir::{DType, EditError, Graph, NodeId, NodeKind, Operator, Tensor, TensorError, ValueId};

/// A convolution's weights in double precision.
pub(super) struct Convolution {
    pub(super) weight: ValueId,
    pub(super) bias: Option<ValueId>,
    pub(super) dims: Vec<u64>,
    pub(super) group: usize,
    pub(super) values: Vec<f64>,
    pub(super) offsets: Option<Vec<f64>>,
}

/// A convolution with constant float weights that it alone reads.
pub(super) fn convolution(graph: &Graph, id: NodeId) -> Option<Convolution> {
    let operator: &Operator = graph.operator(id).filter(|operator| operator.is("Conv"))?;
    let constant = |value: ValueId| {
        let own = matches!(
            graph.get(value.node).map(|node| &node.kind),
            Some(NodeKind::Constant(_))
        );
        graph
            .constant(value)
            .filter(|tensor| own && tensor.dtype() == DType::F32 && graph.use_count(value) == 1)
    };
    let weight = graph.input(id, 1)?;
    let tensor = constant(weight).filter(|tensor| tensor.rank() >= 3)?;
    let bias = graph.input(id, 2);
    let offsets = match bias {
        Some(bias) => Some(constant(bias)?.to_f64().ok()?),
        None => None,
    };
    let group = usize::try_from(operator.int("group").unwrap_or(1)).ok()?;
    Some(Convolution {
        weight,
        bias,
        dims: tensor.dims().to_vec(),
        group: group.max(1),
        values: tensor.to_f64().ok()?,
        offsets,
    })
}

impl Convolution {
    pub(super) fn outputs(&self) -> usize {
        self.dims.first().copied().unwrap_or(0) as usize
    }

    pub(super) fn inputs(&self) -> usize {
        self.dims.get(1).copied().unwrap_or(0) as usize * self.group
    }

    /// Flat ranges of the weights that multiply input channel `channel`.
    pub(super) fn reading(&self, channel: usize) -> Vec<Range<usize>> {
        let per_group = (self.inputs() / self.group).max(1);
        let place = self.dims.iter().skip(2).product::<u64>() as usize;
        let rows = self.outputs() / self.group;
        let group = channel / per_group;
        (group * rows..(group + 1) * rows)
            .map(|row| {
                let start = (row * per_group + channel % per_group) * place;
                start..start + place
            })
            .collect()
    }

    /// The flat range of the weights that give output channel `channel`.
    pub(super) fn giving(&self, channel: usize) -> Range<usize> {
        let size = self.values.len() / self.outputs().max(1);
        channel * size..(channel + 1) * size
    }

    pub(super) fn largest(&self, ranges: &[Range<usize>]) -> f64 {
        let values = ranges
            .iter()
            .flat_map(|range| self.values.get(range.clone()).unwrap_or(&[]));
        values.fold(0.0, |largest, value| largest.max(value.abs()))
    }

    /// Divides what gives output channel `channel` by `factor`, bias included.
    pub(super) fn divide_output(&mut self, channel: usize, factor: f64) {
        let range = self.giving(channel);
        self.scale(&[range], 1.0 / factor);
        let offset = self.offsets.as_mut().and_then(|offsets| offsets.get_mut(channel));
        if let Some(offset) = offset {
            *offset /= factor;
        }
    }

    pub(super) fn scale(&mut self, ranges: &[Range<usize>], factor: f64) {
        for range in ranges {
            if let Some(values) = self.values.get_mut(range.clone()) {
                values.iter_mut().for_each(|value| *value *= factor);
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Writes the weights of `convolutions` into the graph.
pub(super) fn write(
    graph: &mut Graph,
    convolutions: &BTreeMap<NodeId, Convolution>,
) -> Result<(), WriteError> {
    let mut editor = graph.edit(NAME);
    for convolution in convolutions.values() {
        let weight = Tensor::from_f64(DType::F32, &convolution.dims, &convolution.values)?;
        editor.set_constant(convolution.weight.node, weight)?;
        if let (Some(bias), Some(offsets)) = (convolution.bias, &convolution.offsets) {
            let tensor = Tensor::from_f64(DType::F32, &[offsets.len() as u64], offsets)?;
            editor.set_constant(bias.node, tensor)?;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn of(dims: &[u64], group: usize, values: Vec<f64>) -> Convolution {
        Convolution {
            weight: ValueId::new(NodeId::new(0), 0),
            bias: None,
            dims: dims.to_vec(),
            group,
            values,
            offsets: None,
        }
    }

    #[test]
    fn depthwise_and_dense_weights_are_found_by_channel() {
        let dense = of(&[2, 3, 1, 1], 1, vec![0., 1., 2., 3., 4., 5.]);
        assert_eq!(dense.reading(1), [1..2, 4..5]);
        assert_eq!(dense.giving(1), 3..6);
        let depthwise = of(&[3, 1, 1, 2], 3, vec![0.; 6]);
        assert_eq!(depthwise.reading(1).first(), Some(&(2..4)));
        assert_eq!((depthwise.inputs(), depthwise.outputs()), (3, 3));
    }
}
