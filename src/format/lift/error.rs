//! What keeps a well-formed message from being a graph.

use super::super::problem::ExternalProblem;
use crate::ir::TensorError;

/// A message that decodes but is no model. [`LiftError::code`] is stable.
#[derive(Debug, thiserror::Error)]
pub enum LiftError {
    /// `ModelProto.graph` is missing.
    #[error("the model has no graph")]
    NoGraph,
    /// A value that nothing defines.
    #[error("{graph}: {node} reads {value:?}, which nothing defines")]
    Undefined {
        /// The value.
        value: String,
        /// The reader.
        node: String,
        /// The graph.
        graph: String,
    },
    /// An output that nothing defines.
    #[error("{graph}: nothing defines the output {value:?}")]
    NoOutput {
        /// The output.
        value: String,
        /// The graph.
        graph: String,
    },
    /// A node without an operator.
    #[error("{graph}: {node} names no operator")]
    NoOperator {
        /// The node.
        node: String,
        /// The graph.
        graph: String,
    },
    /// A value that is defined twice.
    #[error("{graph}: {value:?} is defined twice, the second time by {node}")]
    Duplicate {
        /// The value.
        value: String,
        /// The second definition.
        node: String,
        /// The graph.
        graph: String,
    },
    /// A tensor whose data does not fit its declaration.
    #[error("tensor {tensor:?}: {source}")]
    Tensor {
        /// The tensor or the node and attribute it stands in.
        tensor: String,
        /// What is wrong.
        source: TensorError,
    },
    /// An element type that ONNX does not have, or that is missing.
    #[error("tensor {tensor:?} has the unknown element type {number}")]
    ElementType {
        /// The tensor.
        tensor: String,
        /// The number found; 0 is undefined.
        number: i32,
    },
    /// A negative dimension of a tensor.
    #[error("tensor {tensor:?} has the dimension {dim}")]
    Dimension {
        /// The tensor.
        tensor: String,
        /// The dimension.
        dim: i64,
    },
    /// A tensor that carries its data in more than one field.
    #[error("tensor {tensor:?} has data in more than one field")]
    Ambiguous {
        /// The tensor.
        tensor: String,
    },
    /// A tensor in segments, which no tool writes.
    #[error("tensor {tensor:?} is a segment of a tensor, which is not supported")]
    Segment {
        /// The tensor.
        tensor: String,
    },
    /// External data that cannot be read.
    #[error("external data of tensor {tensor:?}: {source}")]
    External {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        source: ExternalProblem,
    },
    /// An attribute with fields that contradict its type, or of an unknown type.
    #[error("{node}: attribute {attribute:?} {problem}")]
    Attribute {
        /// The node.
        node: String,
        /// The attribute.
        attribute: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// An initializer or graph input without a name.
    #[error("{graph}: an initializer, input or output has no name")]
    Unnamed {
        /// The graph.
        graph: String,
    },
}

impl LiftError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoGraph => "missing-graph",
            Self::Undefined { .. } => "undefined-value",
            Self::NoOutput { .. } => "missing-output",
            Self::NoOperator { .. } => "missing-name",
            Self::Duplicate { .. } => "duplicate-value",
            Self::Tensor { source, .. } => match source {
                TensorError::Overflow { .. } => "dims-overflow",
                TensorError::Length { .. } => "tensor-size",
                TensorError::Field { .. } | TensorError::Type { .. } => "tensor-data-field",
            },
            Self::ElementType { .. } => "unknown-dtype",
            Self::Dimension { .. } => "negative-dim",
            Self::Ambiguous { .. } => "tensor-data-field",
            Self::Segment { .. } => "segment",
            Self::External { source, .. } => source.code(),
            Self::Attribute { .. } => "attribute-type",
            Self::Unnamed { .. } => "missing-name",
        }
    }

    /// The node, tensor or value at fault.
    pub fn subject(&self) -> Option<&str> {
        match self {
            Self::NoGraph | Self::NoOutput { .. } => None,
            Self::NoOperator { node, .. }
            | Self::Undefined { node, .. }
            | Self::Duplicate { node, .. }
            | Self::Attribute { node, .. } => Some(node),
            Self::Tensor { tensor, .. }
            | Self::ElementType { tensor, .. }
            | Self::Dimension { tensor, .. }
            | Self::Ambiguous { tensor }
            | Self::Segment { tensor }
            | Self::External { tensor, .. } => Some(tensor),
            Self::Unnamed { graph } => Some(graph),
        }
    }

    /// The value at fault, where it is another than the subject.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::Undefined { value, .. } | Self::NoOutput { value, .. } | Self::Duplicate { value, .. } => {
                Some(value)
            }
            _ => None,
        }
    }
}
