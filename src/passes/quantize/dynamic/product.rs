//! A matrix product with a constant weight.

use crate::analysis::linear::Origin;
use crate::ir::{GraphPath, NodeId, Tensor};

/// A product to be replaced.
pub(super) struct Product {
    pub(super) path: GraphPath,
    pub(super) node: NodeId,
    /// The slot of the weight; the other one is the input.
    pub(super) weight_slot: usize,
    /// Where the weight is stored.
    pub(super) origin: Origin,
    /// Its name.
    pub(super) name: String,
    /// Its elements.
    pub(super) tensor: Tensor,
    /// Axis of the stored weight that the outputs lie on.
    pub(super) output_axis: usize,
}
