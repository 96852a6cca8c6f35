//! The bias of a layer, which what a pass does to the layer's mean outputs goes to.

use crate::ir::{DType, EditError, Editor, Graph, NodeId, Tensor, TensorError, ValueId};
use crate::statistics::gram::Layer;

/// Where a difference of mean outputs can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bias {
    /// A constant that only this layer reads.
    Constant(NodeId),
    /// None yet: the operator takes one in this slot.
    Missing(usize),
    /// Nowhere: what the layer puts out is fitted as it is, means included.
    Nowhere,
}

/// Why a layer cannot be given other weights or another bias.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayerError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

impl Bias {
    /// That of a layer with so many outputs.
    pub(super) fn of(graph: &Graph, layer: &Layer, outputs: usize) -> Self {
        let Some(slot) = layer.bias_slot else {
            return Self::Nowhere;
        };
        let operator = graph.operator(layer.node);
        let factor = |name: &str| operator.and_then(|operator| operator.float(name)).unwrap_or(1.0);
        let is_gemm = operator.is_some_and(|operator| operator.is("Gemm"));
        if is_gemm && (factor("alpha") != 1.0 || factor("beta") != 1.0) {
            return Self::Nowhere;
        }
        let Some(value) = graph.input(layer.node, slot) else {
            return Self::Missing(slot);
        };
        let fits = graph.constant(value).is_some_and(|tensor| {
            tensor.dtype().is_float()
                && tensor.elements() == outputs as u64
                && tensor.dims().last() == Some(&(outputs as u64))
        });
        match fits && graph.uses(value).len() == 1 {
            true => Self::Constant(value.node),
            false => Self::Nowhere,
        }
    }

    /// Adds one number an output to it; a bias that is made gets this type and name.
    pub(super) fn add(
        self,
        editor: &mut Editor<'_>,
        layer: NodeId,
        shift: &[f64],
        (dtype, name): (DType, &str),
    ) -> Result<(), LayerError> {
        match self {
            Self::Nowhere => {}
            Self::Constant(id) => {
                let Some(old) = editor.graph().constant(ValueId::new(id, 0)).cloned() else {
                    return Ok(());
                };
                let moved: Vec<f64> = old.to_f64()?.iter().zip(shift).map(|(a, b)| a + b).collect();
                editor.set_constant(id, Tensor::from_f64(old.dtype(), old.dims(), &moved)?)?;
            }
            Self::Missing(slot) => {
                let tensor = Tensor::from_f64(dtype, &[shift.len() as u64], shift)?;
                let added = editor.add_constant(name, tensor);
                editor.set_input(layer, slot, Some(added))?;
            }
        }
        Ok(())
    }
}
