//! Attributes of operators, of every kind that ONNX has.

use bytes::Bytes;

use super::graph::Graph;
use super::name::Name;
use super::tensor::Tensor;
use crate::proto;

/// A named attribute of an operator.
#[derive(Clone, Debug)]
pub struct Attribute {
    /// Attribute name.
    pub name: Name,
    /// Value, or a reference to an attribute of the enclosing function.
    pub value: AttributeValue,
    /// Documentation.
    pub doc_string: Option<String>,
    /// `AttributeProto.type` as the file wrote it; `None` in files that leave it out (IR version 1).
    pub written_type: Option<i32>,
}

/// The value of an attribute.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum AttributeValue {
    Int(i64),
    Float(f32),
    String(Bytes),
    Tensor(Tensor),
    /// A body of If, Loop, Scan or of another operator with bodies.
    Graph(Box<Graph>),
    Sparse(Box<proto::SparseTensorProto>),
    Type(Box<proto::TypeProto>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<Bytes>),
    Tensors(Vec<Tensor>),
    Graphs(Vec<Graph>),
    Sparses(Vec<proto::SparseTensorProto>),
    Types(Vec<proto::TypeProto>),
    /// `ref_attr_name`: the value of that attribute of the enclosing function; the number is `AttributeProto.type`.
    Reference(Name, i32),
    /// An attribute without a value and without a type that says which.
    Missing,
}

impl Attribute {
    /// An attribute as a new node gets it.
    pub fn new(name: impl Into<Name>, value: impl Into<AttributeValue>) -> Self {
        let value = value.into();
        let written_type = value.onnx_type();
        Self {
            name: name.into(),
            value,
            doc_string: None,
            written_type,
        }
    }
}

impl AttributeValue {
    /// The number in `AttributeProto.AttributeType`.
    pub fn onnx_type(&self) -> Option<i32> {
        Some(match self {
            Self::Float(_) => 1,
            Self::Int(_) => 2,
            Self::String(_) => 3,
            Self::Tensor(_) => 4,
            Self::Graph(_) => 5,
            Self::Floats(_) => 6,
            Self::Ints(_) => 7,
            Self::Strings(_) => 8,
            Self::Tensors(_) => 9,
            Self::Graphs(_) => 10,
            Self::Sparse(_) => 11,
            Self::Sparses(_) => 12,
            Self::Type(_) => 13,
            Self::Types(_) => 14,
            Self::Reference(_, number) => *number,
            Self::Missing => return None,
        })
    }

    /// The bodies in this attribute.
    pub fn graphs(&self) -> &[Graph] {
        match self {
            Self::Graph(graph) => std::slice::from_ref(graph),
            Self::Graphs(graphs) => graphs,
            _ => &[],
        }
    }

    /// The bodies in this attribute.
    pub(super) fn graphs_mut(&mut self) -> &mut [Graph] {
        match self {
            Self::Graph(graph) => std::slice::from_mut(graph),
            Self::Graphs(graphs) => graphs,
            _ => &mut [],
        }
    }

    /// Same kind and same value, floats and tensors by their bits; bodies never compare equal.
    pub fn same_as(&self, other: &AttributeValue) -> bool {
        use AttributeValue::*;
        let same_floats =
            |a: &[f32], b: &[f32]| a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()));
        match (self, other) {
            (Int(a), Int(b)) => a == b,
            (Float(a), Float(b)) => a.to_bits() == b.to_bits(),
            (String(a), String(b)) => a == b,
            (Tensor(a), Tensor(b)) => a.same_as(b),
            (Sparse(a), Sparse(b)) => a == b,
            (Type(a), Type(b)) => a == b,
            (Ints(a), Ints(b)) => a == b,
            (Floats(a), Floats(b)) => same_floats(a, b),
            (Strings(a), Strings(b)) => a == b,
            (Tensors(a), Tensors(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same_as(b)),
            (Sparses(a), Sparses(b)) => a == b,
            (Types(a), Types(b)) => a == b,
            (Reference(a, x), Reference(b, y)) => a == b && x == y,
            _ => false,
        }
    }
}

impl From<i64> for AttributeValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<f32> for AttributeValue {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}
impl From<&str> for AttributeValue {
    fn from(value: &str) -> Self {
        Self::String(Bytes::copy_from_slice(value.as_bytes()))
    }
}
impl From<Tensor> for AttributeValue {
    fn from(value: Tensor) -> Self {
        Self::Tensor(value)
    }
}
impl From<Vec<i64>> for AttributeValue {
    fn from(value: Vec<i64>) -> Self {
        Self::Ints(value)
    }
}
impl From<Vec<f32>> for AttributeValue {
    fn from(value: Vec<f32>) -> Self {
        Self::Floats(value)
    }
}
impl From<Graph> for AttributeValue {
    fn from(value: Graph) -> Self {
        Self::Graph(Box::new(value))
    }
}
