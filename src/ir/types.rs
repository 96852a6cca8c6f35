//! Types of values: tensors with symbolic shapes, sequences, optionals, maps and sparse tensors.

use std::fmt;

use super::dtype::DType;
use super::symbols::{Dim, Shape};

/// What is known of a value's type. Every part may be unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ValueType {
    /// Nothing is known.
    #[default]
    Unknown,
    /// A dense tensor.
    Tensor(TensorType),
    /// A sparse tensor.
    Sparse(TensorType),
    /// A sequence of values of one type.
    Sequence(Box<ValueType>),
    /// A value that may be absent.
    Optional(Box<ValueType>),
    /// A map from an integer or string key.
    Map(DType, Box<ValueType>),
    /// A type of a domain that is not ONNX's own.
    Opaque,
}

/// Element type and shape of a tensor; `None` is unknown (an unknown shape has an unknown rank).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorType {
    /// Element type.
    pub dtype: Option<DType>,
    /// Dimensions.
    pub shape: Option<Shape>,
}

impl ValueType {
    /// A tensor type.
    pub fn tensor(dtype: impl Into<Option<DType>>, shape: impl Into<Option<Shape>>) -> Self {
        Self::Tensor(TensorType {
            dtype: dtype.into(),
            shape: shape.into(),
        })
    }

    /// Element type and shape of a dense tensor.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Element type of a dense tensor.
    pub fn dtype(&self) -> Option<DType> {
        self.as_tensor()?.dtype
    }

    /// Shape of a dense tensor.
    pub fn shape(&self) -> Option<&Shape> {
        self.as_tensor()?.shape.as_ref()
    }

    /// Rank of a dense tensor.
    pub fn rank(&self) -> Option<usize> {
        self.shape().map(|shape| shape.len())
    }

    /// All dimensions of a dense tensor, when all are numbers.
    pub fn fixed_shape(&self) -> Option<Vec<i64>> {
        self.shape()?.iter().map(Dim::fixed).collect()
    }

    /// Whether no value can be of both types: another kind, element type, rank, or dimensions that always differ.
    pub fn contradicts(&self, other: &ValueType) -> bool {
        match (self, other) {
            (Self::Unknown, _) | (_, Self::Unknown) => false,
            (Self::Tensor(a), Self::Tensor(b)) | (Self::Sparse(a), Self::Sparse(b)) => a.contradicts(b),
            (Self::Sequence(a), Self::Sequence(b)) | (Self::Optional(a), Self::Optional(b)) => {
                a.contradicts(b)
            }
            (Self::Map(ka, a), Self::Map(kb, b)) => ka != kb || a.contradicts(b),
            (Self::Opaque, Self::Opaque) => false,
            _ => true,
        }
    }

    /// Everything that either side knows. Where both know a dimension, a number wins over an expression, and the left
    /// side wins otherwise; the two must not contradict each other.
    pub fn refined_by(&self, other: &ValueType) -> ValueType {
        match (self, other) {
            (Self::Unknown, known) => known.clone(),
            (Self::Tensor(a), Self::Tensor(b)) => Self::Tensor(a.refined_by(b)),
            (Self::Sparse(a), Self::Sparse(b)) => Self::Sparse(a.refined_by(b)),
            (Self::Sequence(a), Self::Sequence(b)) => Self::Sequence(Box::new(a.refined_by(b))),
            (Self::Optional(a), Self::Optional(b)) => Self::Optional(Box::new(a.refined_by(b))),
            (Self::Map(key, a), Self::Map(_, b)) => Self::Map(*key, Box::new(a.refined_by(b))),
            (known, _) => known.clone(),
        }
    }
}

impl TensorType {
    fn contradicts(&self, other: &TensorType) -> bool {
        if matches!((self.dtype, other.dtype), (Some(a), Some(b)) if a != b) {
            return true;
        }
        match (&self.shape, &other.shape) {
            (Some(a), Some(b)) => a.len() != b.len() || a.iter().zip(b).any(|(a, b)| a.differs(b)),
            _ => false,
        }
    }

    fn refined_by(&self, other: &TensorType) -> TensorType {
        let shape = match (&self.shape, &other.shape) {
            (Some(a), Some(b)) if a.len() == b.len() => Some(
                a.iter()
                    .zip(b)
                    .map(|(a, b)| match (a, b) {
                        (Dim::Unknown, known) => known.clone(),
                        (Dim::Expr(_), Dim::Fixed(_)) => b.clone(),
                        _ => a.clone(),
                    })
                    .collect(),
            ),
            (a, b) => a.as_ref().or(b.as_ref()).cloned(),
        };
        TensorType {
            dtype: self.dtype.or(other.dtype),
            shape,
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            Some(dtype) => write!(f, "{dtype}")?,
            None => f.write_str("?")?,
        }
        match &self.shape {
            None => f.write_str("[..]"),
            Some(shape) if shape.is_empty() => Ok(()),
            Some(shape) => {
                f.write_str("[")?;
                for (index, dim) in shape.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{dim}")?;
                }
                f.write_str("]")
            }
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("?"),
            Self::Tensor(tensor) => write!(f, "{tensor}"),
            Self::Sparse(tensor) => write!(f, "sparse_tensor({tensor})"),
            Self::Sequence(element) => write!(f, "seq({element})"),
            Self::Optional(element) => write!(f, "optional({element})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Opaque => f.write_str("opaque"),
        }
    }
}
