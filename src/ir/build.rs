//! Building a graph from nothing: how files become graphs, and how rewrites make new bodies.

use std::sync::Arc;

use petgraph::stable_graph::StableDiGraph;

use super::graph::{Graph, GraphMeta, GraphOutput};
use super::name::Name;
use super::node::{
    Capture, Constant, ConstantOrigin, Input, Node, NodeId, NodeKind, NodeMeta, Operator, Position, Slot,
    Use, Value, ValueId,
};
use super::tensor::Tensor;
use super::wires::Wires;

/// Builds one graph. Nodes may be added in any order and connected afterwards; [`crate::ir::check()`] judges the result.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: Graph,
    next_position: u32,
}

impl Default for GraphBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new() -> Self {
        let mut nodes = StableDiGraph::default();
        let sink = nodes.add_node(Node {
            kind: NodeKind::Output,
            name: None,
            meta: None,
            outputs: Vec::new(),
            position: Position {
                original: u32::MAX,
                serial: u32::MAX,
            },
        });
        let graph = Graph {
            nodes,
            wires: Wires::new(sink),
            inputs: Vec::new(),
            sink,
            outputs: Vec::new(),
            next_serial: 1,
            next_initializer: 0,
            journal: Vec::new(),
            meta: GraphMeta::default(),
        };
        Self {
            graph,
            next_position: 0,
        }
    }

    /// Reserves room for about this many nodes.
    pub fn reserve(&mut self, nodes: usize) {
        self.graph.nodes.reserve_nodes(nodes);
        self.graph.wires.reserve(nodes, nodes * 2);
    }

    fn add(
        &mut self,
        kind: NodeKind,
        name: Option<Name>,
        meta: Option<NodeMeta>,
        outputs: Vec<Value>,
    ) -> NodeId {
        let position = Position {
            original: self.next_position,
            serial: 0,
        };
        self.next_position += 1;
        let meta = meta.filter(|m| *m != NodeMeta::default()).map(Arc::new);
        self.graph.nodes.add_node(Node {
            kind,
            name,
            meta,
            outputs,
            position,
        })
    }

    /// The next graph input.
    pub fn input(&mut self, value: Value, input: Input) -> ValueId {
        if let Some((_, index)) = &input.default {
            self.graph.next_initializer = self.graph.next_initializer.max(index.saturating_add(1));
        }
        let id = self.add(NodeKind::Input(Box::new(input)), None, None, vec![value]);
        self.graph.inputs.push(id);
        ValueId::new(id, 0)
    }

    /// A value captured through slot `index` of the owner of this body.
    pub fn capture(&mut self, value: Value, index: u32) -> ValueId {
        let id = self.add(
            NodeKind::Capture(Capture { index, known: None }),
            None,
            None,
            vec![value],
        );
        ValueId::new(id, 0)
    }

    /// A constant as a file has it.
    pub fn constant(
        &mut self,
        value: Value,
        constant: Constant,
        name: Option<Name>,
        meta: Option<NodeMeta>,
    ) -> ValueId {
        if let ConstantOrigin::Initializer(index) | ConstantOrigin::Sparse(_, index) = &constant.origin {
            self.graph.next_initializer = self.graph.next_initializer.max(index.saturating_add(1));
        }
        let id = self.add(NodeKind::Constant(Box::new(constant)), name, meta, vec![value]);
        ValueId::new(id, 0)
    }

    /// A new initializer.
    pub fn initializer(&mut self, name: impl Into<Name>, tensor: Tensor) -> ValueId {
        let index = self.graph.next_initializer;
        let value = Value::typed(name, tensor_type(&tensor));
        let constant = Constant {
            tensor: Some(tensor),
            origin: ConstantOrigin::Initializer(index),
            listed_input: None,
        };
        self.constant(value, constant, None, None)
    }

    /// An operator with `inputs` input slots and `captures` capture slots, none connected yet.
    pub fn operator(
        &mut self,
        mut operator: Operator,
        inputs: usize,
        captures: usize,
        outputs: Vec<Value>,
        name: Option<Name>,
        meta: Option<NodeMeta>,
    ) -> NodeId {
        operator.input_count = inputs as u32;
        operator.capture_count = captures as u32;
        self.add(NodeKind::Operator(operator), name, meta, outputs)
    }

    /// An operator that reads these values.
    pub fn node(&mut self, operator: Operator, inputs: &[Option<ValueId>], outputs: Vec<Value>) -> NodeId {
        let id = self.operator(operator, inputs.len(), 0, outputs, None, None);
        for (index, input) in inputs.iter().enumerate() {
            if let Some(value) = input {
                self.connect(*value, id, Slot::Input(index as u32));
            }
        }
        id
    }

    /// Lets `node` read `value` in `slot`.
    pub fn connect(&mut self, value: ValueId, node: NodeId, slot: Slot) {
        self.graph.wires.connect(value, Use { node, slot });
    }

    /// The next graph output.
    pub fn output(&mut self, output: GraphOutput, value: Option<ValueId>) {
        let index = self.graph.outputs.len() as u32;
        self.graph.outputs.push(output);
        if let Some(value) = value {
            self.connect(value, self.graph.sink, Slot::Input(index));
        }
    }

    /// Name, documentation and metadata of the graph.
    pub fn meta(&mut self) -> &mut GraphMeta {
        &mut self.graph.meta
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph.
    pub fn finish(self) -> Graph {
        self.graph
    }
}

/// The type of a constant's value.
pub fn tensor_type(tensor: &Tensor) -> super::types::ValueType {
    let shape = tensor
        .dims()
        .iter()
        .map(|d| i64::try_from(*d).map_or(super::Dim::Unknown, super::Dim::Fixed))
        .collect();
    super::types::ValueType::tensor(tensor.dtype(), Some(shape))
}
