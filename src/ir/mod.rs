//! The intermediate representation: a model as graphs of nodes and values.
//!
//! Invariants:
//! - A value is one output slot of one node; every use of it is an edge, graph outputs and captures by bodies included.
//! - An edge says which output goes into which slot; it is added, taken away and counted in the same time at any number of edges.
//! - Only [`edit`] changes a graph and only [`build`] makes one; [`check()`] judges one.
//! - Cloning shares tensor data.
//!
//! Depends on [`crate::proto`] for the parts of a file that no rewrite looks into, and on nothing else.

mod annotations;
mod attribute;
mod bind;
pub mod build;
mod check;
mod digest;
mod dtype;
pub mod edit;
mod functions;
mod graph;
mod imports;
mod minifloat;
mod model;
mod name;
mod node;
mod rename;
mod symbols;
mod tensor;
mod types;
mod wires;

pub use annotations::Annotations;
pub use attribute::{Attribute, AttributeValue};
pub use build::{GraphBuilder, tensor_type};
pub use check::{CheckError, NEWEST_IR_VERSION, Problem, check, check_sorted};
pub use digest::model_digest;
pub use dtype::DType;
pub use edit::{EditError, Editor};
pub use functions::{FunctionIndex, FunctionKey};
pub use graph::{Graph, GraphMeta, GraphOutput, Inputs, Provenance};
pub use imports::{Imports, OpsetImport, opset_version};
pub(crate) use minifloat::round as round_minifloat;
pub use minifloat::{decode as decode_minifloat, encode as encode_minifloat};
pub use model::{Function, GraphPath, Model};
pub use name::Name;
pub use node::{
    BodyIndex, Capture, Constant, ConstantOrigin, Input, Node, NodeId, NodeKind, NodeMeta, Operator,
    Position, ShapeContent, Slot, Use, Value, ValueId,
};
pub use symbols::{Dim, Expr, Shape};
pub use tensor::{
    Dims, Element, Tensor, TensorData, TensorError, TensorMeta, packed_bits, to_little_endian, to_odd,
};
pub use types::{TensorType, ValueType};
