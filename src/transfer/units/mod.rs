//! Operators that carry weights, in a form that does not depend on the exporter.
//!
//! A unit is one operator with the nodes that belong to it: a convolution with the Add of its bias and the BatchNormalization
//! behind it, a MatMul with its Add, a layer normalisation written out as Mul and Add. Its parts are the weights, each with the
//! slot that reads it and the layout in which it is stored. [`find()`] looks for them.

mod find;

use crate::ir::{NodeId, Slot, Tensor, ValueId};

pub use find::{Behind, constant_behind, find, hides_weights, is_setting, weight_behind};

/// What a part is to its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The weights that the data is multiplied by: `[out, in / group, kernel...]` without layout; embeddings as stored.
    Weight,
    /// What is added, one number an output channel.
    Bias,
    /// The scale of a normalisation.
    Scale,
    /// The offset of a normalisation.
    Offset,
    /// The running mean of a batch normalisation.
    Mean,
    /// The running variance of a batch normalisation.
    Variance,
    /// Weights of a recurrent operator's state.
    Recurrence,
    /// Peephole weights of an LSTM.
    Peephole,
    /// A constant that is data itself: a class token, a position embedding.
    Value,
}

/// How a weight is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    /// `[in, out]` instead of `[out, in]`.
    pub transposed: bool,
    /// What the operator multiplies the stored numbers by.
    pub factor: f64,
}

impl Layout {
    pub(super) const PLAIN: Layout = Layout {
        transposed: false,
        factor: 1.0,
    };
}

/// One weight of a unit.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it is.
    pub role: Role,
    /// The operator that reads it.
    pub node: NodeId,
    /// The slot that reads it.
    pub slot: usize,
    /// The constant.
    pub constant: ValueId,
    /// Its name.
    pub name: String,
    /// Its elements.
    pub tensor: Tensor,
    /// How they are stored.
    pub layout: Layout,
}

/// What a unit computes with its weights.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A convolution or matrix product: output channels from input channels.
    Linear,
    /// A transposed convolution.
    Transposed,
    /// LSTM, GRU or RNN, and its attributes that say what the numbers mean.
    Recurrent(String),
    /// Rows of a table.
    Embedding,
    /// A batch normalisation that belongs to no linear unit.
    BatchNorm,
    /// Scale and offset behind a normalisation over features.
    Norm(&'static str),
    /// A constant that is added, multiplied or otherwise combined: the operator and the slot of a fixed meaning.
    Constant(String),
}

/// An operator with weights, and the nodes that belong to it.
#[derive(Clone, Debug)]
pub struct Unit {
    /// What it computes.
    pub kind: Kind,
    /// The operator.
    pub node: NodeId,
    /// How messages call it.
    pub name: String,
    /// The operator's type.
    pub operator: String,
    /// Groups of channels.
    pub group: u64,
    /// Every weight.
    pub parts: Vec<Part>,
    /// The constant that the batch normalisation adds to the variance.
    pub epsilon: Option<f64>,
    /// Slots through which data comes.
    pub reads: Vec<(NodeId, Slot)>,
    /// What comes out.
    pub output: ValueId,
}

impl Unit {
    /// The part of a role.
    pub fn part(&self, role: Role) -> Option<&Part> {
        self.parts.iter().find(|part| part.role == role)
    }

    /// Whether a batch normalisation belongs to it.
    pub fn normalised(&self) -> bool {
        self.epsilon.is_some()
    }

    /// Dimensions of the weight as `[out, in / group, kernel...]`, for linear units.
    pub fn dims(&self) -> Vec<u64> {
        let Some(part) = self.part(Role::Weight).or(self.parts.first()) else {
            return Vec::new();
        };
        let mut dims = part.tensor.dims().to_vec();
        if part.layout.transposed {
            dims.reverse();
        }
        dims
    }

    /// The kernel of a convolution, without trailing ones: that of a 1x1 convolution and a matrix product is empty.
    pub fn kernel(&self) -> Vec<u64> {
        if !matches!(self.kind, Kind::Linear | Kind::Transposed) {
            return Vec::new();
        }
        let dims = self.dims();
        let kernel = dims.get(2..).unwrap_or(&[]);
        match kernel.iter().all(|size| *size == 1) {
            true => Vec::new(),
            false => kernel.to_vec(),
        }
    }
}

/// Output channels of a linear unit.
pub fn output_channels(unit: &Unit) -> u64 {
    let dims = unit.dims();
    match unit.kind {
        Kind::Transposed => dims.get(1).copied().unwrap_or(0) * unit.group,
        _ => dims.first().copied().unwrap_or(0),
    }
}

/// Dimensions without those of size one.
pub fn squeezed(dims: &[u64]) -> Vec<u64> {
    dims.iter().copied().filter(|size| *size != 1).collect()
}
