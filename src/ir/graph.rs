//! A graph of nodes in petgraph's `StableDiGraph`, with edges of their own. Reading is public; changes go through [`crate::ir::edit`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use petgraph::stable_graph::StableDiGraph;
use smallvec::SmallVec;

use super::annotations::Annotations;
use super::name::Name;
use super::node::{
    BodyIndex, Constant, Node, NodeId, NodeKind, Operator, Position, Slot, Use, Value, ValueId,
};
use super::tensor::Tensor;
use super::types::ValueType;
use super::wires::Wires;
use crate::proto;

/// Values read by a node, one entry an input slot; `None` where an optional input is left out.
pub type Inputs = SmallVec<[Option<ValueId>; 6]>;

/// A main graph, a body or the body of a function.
#[derive(Clone, Debug)]
pub struct Graph {
    pub(super) nodes: StableDiGraph<Node, (), u32>,
    pub(super) wires: Wires,
    pub(super) inputs: Vec<NodeId>,
    pub(super) sink: NodeId,
    pub(super) outputs: Vec<GraphOutput>,
    pub(super) next_serial: u32,
    pub(super) next_initializer: u32,
    pub(super) journal: Vec<Provenance>,
    /// Name, documentation, metadata and what the file says about values that no node produces.
    pub meta: GraphMeta,
}

/// A graph output: its name and type survive every rewrite.
#[derive(Clone, Debug, Default)]
pub struct GraphOutput {
    /// Name.
    pub name: Name,
    /// The declaration as the file wrote it (absent in functions).
    pub declared: Option<proto::ValueInfoProto>,
    /// Declared type, updated by [`crate::ir::edit`]'s `reshape` only.
    pub ty: ValueType,
}

/// What a `GraphProto` carries beside nodes and values.
#[derive(Clone, Debug, Default)]
pub struct GraphMeta {
    /// Graph name.
    pub name: Option<String>,
    /// Documentation.
    pub doc_string: Option<String>,
    /// `metadata_props`.
    pub metadata: Vec<proto::StringStringEntryProto>,
    /// Quantization annotations.
    pub quantization: Annotations,
    /// `value_info` entries for inputs, outputs, initializers, repeated or unknown names, with their index in the file.
    pub other_value_info: Vec<(u32, proto::ValueInfoProto)>,
}

/// One change that a rewrite made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The rule or pass.
    pub origin: Name,
    /// Nodes that were removed or replaced, as [`Graph::label`] calls them.
    pub before: Vec<String>,
    /// Nodes that stand for them.
    pub after: Vec<String>,
}

impl Graph {
    /// The node behind an id; `None` when it has been removed.
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.node_weight(id).filter(|node| node.is_live())
    }

    /// Whether the node is there.
    pub fn is_live(&self, id: NodeId) -> bool {
        self.get(id).is_some()
    }

    /// The operator behind an id.
    pub fn operator(&self, id: NodeId) -> Option<&Operator> {
        self.get(id)?.operator()
    }

    /// A value's name, type and content.
    pub fn value(&self, id: ValueId) -> Option<&Value> {
        self.get(id.node)?.outputs.get(id.output as usize)
    }

    /// What is known of a value's type; [`ValueType::Unknown`] for one that does not exist.
    pub fn ty(&self, id: ValueId) -> &ValueType {
        static UNKNOWN: ValueType = ValueType::Unknown;
        self.value(id).map_or(&UNKNOWN, |value| &value.ty)
    }

    /// The tensor of a constant value: a constant of this graph, or a captured one that is known.
    /// An input with a default is no constant.
    pub fn constant(&self, id: ValueId) -> Option<&Tensor> {
        match &self.get(id.node)?.kind {
            NodeKind::Constant(constant) => constant.tensor.as_ref(),
            NodeKind::Capture(capture) => capture.known.as_ref(),
            _ => None,
        }
    }

    /// Graph inputs in order, those with defaults included.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// Graph outputs in order.
    pub fn outputs(&self) -> &[GraphOutput] {
        &self.outputs
    }

    /// The node that reads the graph outputs.
    pub fn sink(&self) -> NodeId {
        self.sink
    }

    /// The values that are graph outputs, in order; `None` for one that nothing produces.
    pub fn output_values(&self) -> Inputs {
        self.inputs_of(self.sink)
    }

    /// Values that `node` reads through its input slots.
    pub fn inputs_of(&self, node: NodeId) -> Inputs {
        let count = match self.get(node).map(|n| &n.kind) {
            Some(NodeKind::Operator(operator)) => operator.input_count(),
            Some(NodeKind::Output) => self.outputs.len(),
            _ => 0,
        };
        self.slots(node, count, |slot| match slot {
            Slot::Input(index) => Some(index),
            Slot::Capture(_) => None,
        })
    }

    /// The value that `node` reads in input slot `index`.
    pub fn input(&self, node: NodeId, index: usize) -> Option<ValueId> {
        self.wires.value_at(node, Slot::Input(index as u32))
    }

    /// Values that the bodies of `node` capture from this graph.
    pub fn captures_of(&self, node: NodeId) -> Inputs {
        let count = self.operator(node).map_or(0, Operator::capture_count);
        self.slots(node, count, |slot| match slot {
            Slot::Capture(index) => Some(index),
            Slot::Input(_) => None,
        })
    }

    fn slots(&self, node: NodeId, count: usize, index: impl Fn(Slot) -> Option<u32>) -> Inputs {
        let mut slots: Inputs = SmallVec::from_elem(None, count);
        for (slot, value) in self.wires.incoming(node) {
            if let Some(slot) = index(slot).and_then(|at| slots.get_mut(at as usize)) {
                *slot = Some(value);
            }
        }
        slots
    }

    /// Every use of a value, graph outputs and captures included, ordered by node position and slot.
    pub fn uses(&self, value: ValueId) -> Vec<Use> {
        let mut uses: Vec<Use> = self.wires.readers_of(value).collect();
        uses.sort_by_key(|u| (self.nodes.node_weight(u.node).map(|n| n.position), u.node, u.slot));
        uses
    }

    /// Number of uses of a value.
    pub fn use_count(&self, value: ValueId) -> usize {
        self.wires.use_count(value)
    }

    /// Every use of the node's outputs as (output slot, use), newest first.
    pub fn readers(&self, node: NodeId) -> impl Iterator<Item = (u32, Use)> + '_ {
        self.wires.readers(node)
    }

    /// Every use of a value, newest first.
    pub fn readers_of(&self, value: ValueId) -> impl Iterator<Item = Use> + '_ {
        self.wires.readers_of(value)
    }

    /// Whether any output of the node is read.
    pub fn is_used(&self, node: NodeId) -> bool {
        self.wires.is_used(node)
    }

    /// Whether the value is a graph output.
    pub fn is_graph_output(&self, value: ValueId) -> bool {
        self.wires.is_shown(value)
    }

    /// Every live node, in the order of ids: stable, but neither the file's order nor topological.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.node_indices().filter(|id| self.is_live(*id))
    }

    /// What stands for captured values, with the capture slots of the owner that they read, in the order of ids.
    pub fn captures(&self) -> impl Iterator<Item = (NodeId, u32)> + '_ {
        self.node_ids().filter_map(|id| match &self.get(id)?.kind {
            NodeKind::Capture(capture) => Some((id, capture.index)),
            _ => None,
        })
    }

    /// The values that stand for this capture slot of the owner.
    pub fn captured(&self, slot: u32) -> impl Iterator<Item = ValueId> + '_ {
        self.captures()
            .filter(move |(_, index)| *index == slot)
            .map(|(id, _)| ValueId::new(id, 0))
    }

    /// Number of operators, without those in bodies.
    pub fn operator_count(&self) -> usize {
        self.node_ids().filter(|id| self.operator(*id).is_some()).count()
    }

    /// Every live node (inputs, constants, captures, operators; not the sink) such that a node follows what it reads,
    /// independent ones in the order of their positions. On a cycle the nodes of the cycle and those behind it are missing:
    /// [`crate::ir::check`] reports that.
    pub fn topological_order(&self) -> Vec<NodeId> {
        let mut pending = vec![
            0u32;
            self.nodes
                .node_indices()
                .next_back()
                .map_or(0, |last| last.index() + 1)
        ];
        let mut ready = BinaryHeap::new();
        for id in self.nodes.node_indices() {
            let count = self.wires.incoming(id).count() as u32;
            pending[id.index()] = count;
            if count == 0 && self.is_live(id) {
                ready.push(Reverse((self.rank_of(id), id)));
            }
        }
        let mut order = Vec::with_capacity(self.nodes.node_count());
        while let Some(Reverse((_, id))) = ready.pop() {
            if id != self.sink {
                order.push(id);
            }
            for (_, reader) in self.wires.readers(id) {
                let target = reader.node;
                if let Some(count) = pending.get_mut(target.index()) {
                    *count -= 1;
                    if *count == 0 {
                        ready.push(Reverse((self.rank_of(target), target)));
                    }
                }
            }
        }
        order
    }

    fn rank_of(&self, id: NodeId) -> (u8, Position) {
        let Some(node) = self.nodes.node_weight(id) else {
            return (u8::MAX, Position::default());
        };
        let class = match node.kind {
            NodeKind::Input(_) => 0,
            NodeKind::Capture(_) => 1,
            NodeKind::Constant(_) | NodeKind::Operator(_) => 2,
            NodeKind::Output | NodeKind::Removed => 3,
        };
        (class, node.position)
    }

    /// Constants that are initializers (not `Constant` nodes), in file order, new ones last.
    pub fn initializers(&self) -> Vec<(NodeId, &Constant)> {
        use super::node::ConstantOrigin::*;
        let mut found: Vec<(u32, NodeId, &Constant)> = self
            .nodes
            .node_indices()
            .filter_map(|id| match &self.nodes.node_weight(id)?.kind {
                NodeKind::Constant(constant) => match constant.origin {
                    Initializer(at) | Sparse(_, at) => Some((at, id, &**constant)),
                    Node { .. } => None,
                },
                _ => None,
            })
            .collect();
        found.sort_by_key(|(at, id, _)| (*at, *id));
        found
            .into_iter()
            .map(|(_, id, constant)| (id, constant))
            .collect()
    }

    /// The live value with this name in this graph (not in bodies). Linear: build a map for many look-ups.
    pub fn find_value(&self, name: &str) -> Option<ValueId> {
        self.node_ids().find_map(|id| {
            let output = self
                .get(id)?
                .outputs
                .iter()
                .position(|value| value.name == *name && !value.omitted)?;
            Some(ValueId::new(id, output))
        })
    }

    /// How messages call a node: its name, else its first output's name, else its operator and position.
    pub fn label(&self, id: NodeId) -> String {
        let Some(node) = self.nodes.node_weight(id) else {
            return format!("removed node {}", id.index());
        };
        if let Some(name) = node.name.as_ref().filter(|name| !name.is_empty()) {
            return name.to_string();
        }
        if let Some(value) = node.outputs.iter().find(|value| !value.name.is_empty()) {
            return value.name.to_string();
        }
        match node.operator() {
            Some(operator) => format!("{}#{}", operator.op_type, node.position.original),
            None => format!("node {}", id.index()),
        }
    }

    /// A body of an operator.
    pub fn body(&self, node: NodeId, body: BodyIndex) -> Option<&Graph> {
        self.operator(node)?
            .attributes
            .get(body.attribute)?
            .value
            .graphs()
            .get(body.index)
    }

    /// A body of an operator, to be edited in place.
    pub fn body_mut(&mut self, node: NodeId, body: BodyIndex) -> Option<&mut Graph> {
        match &mut self.nodes.node_weight_mut(node)?.kind {
            NodeKind::Operator(operator) => operator
                .attributes
                .get_mut(body.attribute)?
                .value
                .graphs_mut()
                .get_mut(body.index),
            _ => None,
        }
    }

    /// Every body in this graph: the owning node and which body, in topological order of the owners.
    pub fn bodies(&self) -> Vec<(NodeId, BodyIndex)> {
        let mut owners: Vec<NodeId> = self
            .node_ids()
            .filter(|id| self.operator(*id).is_some_and(Operator::has_bodies))
            .collect();
        owners.sort_by_key(|id| self.nodes.node_weight(*id).map(|n| (n.position, *id)));
        owners
            .into_iter()
            .flat_map(|id| {
                self.operator(id)
                    .into_iter()
                    .flat_map(move |op| op.bodies().map(move |(at, _)| (id, at)))
            })
            .collect()
    }

    /// The changes made so far, oldest first.
    pub fn journal(&self) -> &[Provenance] {
        &self.journal
    }

    /// Drops removed nodes for good. Ids of removed nodes may be used again afterwards, so no id of one may be kept.
    pub fn compact(&mut self) {
        self.nodes
            .retain_nodes(|graph, id| graph.node_weight(id).is_some_and(Node::is_live));
    }
}
