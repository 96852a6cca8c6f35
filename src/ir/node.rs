//! Nodes of a graph and the values they produce.

use std::sync::Arc;

use petgraph::stable_graph::NodeIndex;

use super::attribute::{Attribute, AttributeValue};
use super::dtype::DType;
use super::graph::Graph;
use super::name::Name;
use super::symbols::Dim;
use super::tensor::Tensor;
use super::types::ValueType;
use crate::proto;

/// A node of one graph. Stays the same while the node lives; see [`crate::ir::edit`] for when it is used again.
pub type NodeId = NodeIndex<u32>;

/// A value: one output slot of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId {
    /// The node that produces the value.
    pub node: NodeId,
    /// Which of its outputs.
    pub output: u32,
}

impl ValueId {
    /// Output `output` of `node`.
    pub fn new(node: NodeId, output: usize) -> Self {
        Self {
            node,
            output: output as u32,
        }
    }
}

/// Where a node reads a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// The operator's input with this index; for the output sink the graph output with this index.
    Input(u32),
    /// A value that the operator's bodies capture from this graph.
    Capture(u32),
}

/// A use of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Use {
    /// The reader.
    pub node: NodeId,
    /// Where it reads.
    pub slot: Slot,
}

/// The order of a node in its graph: its place in the file, then the order of insertion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Index in the file; a node that a rewrite inserts takes that of the node it stands for.
    pub original: u32,
    /// 0 for nodes of the file, counted up for inserted ones.
    pub serial: u32,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// What the node is.
    pub kind: NodeKind,
    /// Node name; not unique, often empty.
    pub name: Option<Name>,
    /// Documentation, metadata, overload and device configurations.
    pub meta: Option<Arc<NodeMeta>>,
    pub(super) outputs: Vec<Value>,
    pub(super) position: Position,
}

/// What a `NodeProto` carries beside operator, inputs, outputs and attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeMeta {
    /// Documentation.
    pub doc_string: Option<String>,
    /// `metadata_props`.
    pub metadata: Vec<proto::StringStringEntryProto>,
    /// Overload of the model-local function that the node calls.
    pub overload: Option<Name>,
    /// Multi-device configurations.
    pub device_configurations: Vec<proto::NodeDeviceConfigurationProto>,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// A graph input. With a default it is an initializer that the caller may override (IR version 4 on), and hence no constant.
    Input(Box<Input>),
    /// A constant.
    Constant(Box<Constant>),
    /// An operator or a call of a model-local function.
    Operator(Operator),
    /// In a body: the value that the owning node's capture slot with this index reads.
    Capture(Capture),
    /// The one sink that reads the graph outputs, each in the input slot of its index.
    Output,
    /// A removed node: no outputs, no edges; dropped by [`Graph::compact`].
    Removed,
}

/// A graph input.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The declaration as the file wrote it. [`Value::ty`] is what holds now.
    pub declared: Option<proto::ValueInfoProto>,
    /// Default value: the initializer of the same name, and its index among the initializers.
    pub default: Option<(Tensor, u32)>,
    /// Index among the file's graph inputs.
    pub index: u32,
}

/// A constant value.
#[derive(Clone, Debug)]
pub struct Constant {
    /// The elements. For a sparse constant `None`.
    pub tensor: Option<Tensor>,
    /// How the file wrote it.
    pub origin: ConstantOrigin,
    /// Before IR version 4 every initializer stands among the graph inputs, too: its index there and its declaration.
    pub listed_input: Option<Box<(u32, proto::ValueInfoProto)>>,
}

/// How a constant stands in the file.
#[derive(Clone, Debug)]
pub enum ConstantOrigin {
    /// An initializer, with its index in the file; new ones come after all others.
    Initializer(u32),
    /// A `Constant` node: the attribute that holds the value, and how the domain was written.
    Node {
        /// The attribute that holds the value (`value`, `value_float`, `value_ints` ...) as the file has it.
        attribute: Attribute,
        /// The domain as written.
        domain: Option<Name>,
    },
    /// A sparse initializer, with its index in the file.
    Sparse(Box<proto::SparseTensorProto>, u32),
}

/// A value captured from the graph around a body.
#[derive(Clone, Debug, Default)]
pub struct Capture {
    /// Capture slot of the owning node.
    pub index: u32,
    /// The captured constant, when the outer value is one: a fact that analysis refreshes, never written.
    pub known: Option<Tensor>,
}

/// An operator of a graph.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Operator type.
    pub op_type: Name,
    /// Domain as written; see [`Operator::domain`].
    pub written_domain: Option<Name>,
    pub(super) opaque: bool,
    pub(super) attributes: Vec<Attribute>,
    pub(super) input_count: u32,
    pub(super) capture_count: u32,
}

/// A value and what is known of it.
#[derive(Clone, Debug, Default)]
pub struct Value {
    /// Name; empty for an output that is omitted or not named yet.
    pub name: Name,
    /// Whether the node leaves this optional output out (written as an empty name).
    pub omitted: bool,
    /// The best known type: declared by the file, or inferred.
    pub ty: ValueType,
    /// The elements, for a small integer tensor whose elements are known as numbers or expressions of symbols.
    pub content: Option<Arc<ShapeContent>>,
    /// The `value_info` entry of the file and its index.
    pub declared: Option<Box<(u32, proto::ValueInfoProto)>>,
}

/// Elements of a small tensor of integers, booleans (0 and 1) or whole floats, as dimensions, in row-major order. One of
/// rank 2 or more has a type with a fixed shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeContent {
    /// Whether the tensor has rank 0; then there is one element.
    pub scalar: bool,
    /// The elements. An unknown one is [`Dim::Unknown`].
    pub elements: Vec<Dim>,
}

impl Value {
    /// A value with a name and nothing known.
    pub fn named(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// The tensor of an `int64`, `int32` or `bool` value whose elements are all known as numbers.
    pub fn content_tensor(&self) -> Option<Tensor> {
        let content = self.content.as_deref()?;
        let elements: Vec<i64> = content.elements.iter().map(Dim::fixed).collect::<Option<_>>()?;
        let dims: Vec<u64> = match self.ty.rank() {
            _ if content.scalar => Vec::new(),
            Some(rank) if rank > 1 => self
                .ty
                .fixed_shape()?
                .into_iter()
                .map(|dim| u64::try_from(dim).ok())
                .collect::<Option<_>>()?,
            _ => vec![elements.len() as u64],
        };
        match self.ty.dtype()? {
            DType::I64 => Tensor::from_slice(&dims, &elements).ok(),
            DType::I32 => {
                let narrow: Vec<i32> = elements
                    .into_iter()
                    .map(|v| i32::try_from(v).ok())
                    .collect::<Option<_>>()?;
                Tensor::from_slice(&dims, &narrow).ok()
            }
            DType::Bool => {
                let truths: Vec<u8> = elements
                    .into_iter()
                    .map(|v| u8::try_from(v).ok().filter(|v| *v <= 1))
                    .collect::<Option<_>>()?;
                Tensor::from_raw(DType::Bool, dims, truths).ok()
            }
            _ => None,
        }
    }

    /// A value that is left out.
    pub fn omitted() -> Self {
        Self {
            omitted: true,
            ..Self::default()
        }
    }

    /// A value with a type.
    pub fn typed(name: impl Into<Name>, ty: ValueType) -> Self {
        Self {
            name: name.into(),
            ty,
            ..Self::default()
        }
    }
}

impl Node {
    /// The operator, if the node is one.
    pub fn operator(&self) -> Option<&Operator> {
        match &self.kind {
            NodeKind::Operator(operator) => Some(operator),
            _ => None,
        }
    }

    /// The tensor of a constant node.
    pub fn constant(&self) -> Option<&Tensor> {
        match &self.kind {
            NodeKind::Constant(constant) => constant.tensor.as_ref(),
            _ => None,
        }
    }

    /// Whether the node has not been removed.
    pub fn is_live(&self) -> bool {
        !matches!(self.kind, NodeKind::Removed)
    }

    /// Values the node produces, omitted ones included.
    pub fn outputs(&self) -> &[Value] {
        &self.outputs
    }

    /// Order among the graph's nodes.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl Operator {
    /// An operator of ONNX's own domain without attributes.
    pub fn new(op_type: impl Into<Name>) -> Self {
        Self {
            op_type: op_type.into(),
            written_domain: None,
            opaque: false,
            attributes: Vec::new(),
            input_count: 0,
            capture_count: 0,
        }
    }

    /// The same operator of another domain.
    pub fn in_domain(mut self, domain: impl Into<Name>) -> Self {
        self.written_domain = Some(domain.into()).filter(|d: &Name| !d.is_empty());
        self
    }

    /// The same operator with one more attribute.
    pub fn with(mut self, name: impl Into<Name>, value: impl Into<AttributeValue>) -> Self {
        self.attributes.push(Attribute::new(name, value));
        self
    }

    /// The same operator with these attributes.
    pub fn with_attributes(mut self, attributes: Vec<Attribute>) -> Self {
        self.attributes = attributes;
        self
    }

    /// The domain that says what the operator means: ONNX's own is the empty text however it is written (`ai.onnx`), and an
    /// opaque operator is of [`Operator::OPAQUE`], whatever its file says.
    pub fn domain(&self) -> &str {
        if self.opaque {
            Self::OPAQUE
        } else {
            self.imported_domain()
        }
    }

    /// The domain of opaque operators: no file can have it, so nothing that knows operators takes one for what it is not.
    pub const OPAQUE: &'static str = "?";

    /// Whether the operator is written as one of a domain whose table lacks it in the imported version: what it means is not
    /// known, and it is carried through as it is.
    pub fn is_opaque(&self) -> bool {
        self.opaque
    }

    /// The domain whose opset import holds for the operator; ONNX's own is the empty text.
    pub fn imported_domain(&self) -> &str {
        match self.written_domain.as_deref() {
            None | Some("ai.onnx") => "",
            Some(domain) => domain,
        }
    }

    /// Whether this is the operator `op_type` of ONNX's own domain.
    pub fn is(&self, op_type: &str) -> bool {
        self.op_type == *op_type && self.domain().is_empty()
    }

    /// Attributes in file order.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Number of input slots, empty ones included.
    pub fn input_count(&self) -> usize {
        self.input_count as usize
    }

    /// Number of values that the bodies capture.
    pub fn capture_count(&self) -> usize {
        self.capture_count as usize
    }

    /// The attribute with this name.
    pub fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.attributes.iter().find(|a| a.name == *name).map(|a| &a.value)
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attribute(name)? {
            AttributeValue::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        match self.attribute(name)? {
            AttributeValue::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// A text attribute; `None` if it is not UTF-8.
    pub fn string(&self, name: &str) -> Option<&str> {
        match self.attribute(name)? {
            AttributeValue::String(value) => std::str::from_utf8(value).ok(),
            _ => None,
        }
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attribute(name)? {
            AttributeValue::Ints(values) => Some(values),
            _ => None,
        }
    }

    /// A list of floats.
    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        match self.attribute(name)? {
            AttributeValue::Floats(values) => Some(values),
            _ => None,
        }
    }

    /// A tensor attribute.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        match self.attribute(name)? {
            AttributeValue::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Whether an attribute refers to one of the enclosing function.
    pub fn has_references(&self) -> bool {
        self.attributes
            .iter()
            .any(|a| matches!(a.value, AttributeValue::Reference(..)))
    }

    /// Each body with the index of its attribute and its index there.
    pub fn bodies(&self) -> impl Iterator<Item = (BodyIndex, &Graph)> {
        self.attributes.iter().enumerate().flat_map(|(attribute, a)| {
            a.value
                .graphs()
                .iter()
                .enumerate()
                .map(move |(index, graph)| (BodyIndex { attribute, index }, graph))
        })
    }

    /// Whether the operator has a body.
    pub fn has_bodies(&self) -> bool {
        self.attributes.iter().any(|a| !a.value.graphs().is_empty())
    }
}

/// Which body of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BodyIndex {
    /// Index among the operator's attributes.
    pub attribute: usize,
    /// Index in the attribute (0 unless it is a list of graphs).
    pub index: usize,
}
