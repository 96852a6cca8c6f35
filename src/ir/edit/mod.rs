//! The only way to change a graph.
//!
//! An [`Editor`] works on one graph on behalf of one rule or pass and records what it did. It keeps three laws:
//! graph inputs and outputs keep name, order and type, where a change of them is not what was asked for; a value is only replaced by
//! one whose type does not contradict it; and ids stay valid, because a removed node stays behind, empty, until [`Graph::compact`].

mod capture;
mod interface;
mod naming;
mod remove;
mod renaming;
mod replace;
mod reshape;

use std::collections::HashMap;
use std::sync::Arc;

use super::build::tensor_type;
use super::graph::{Graph, Provenance};
use super::name::Name;
use super::node::{
    Constant, ConstantOrigin, Node, NodeId, NodeKind, NodeMeta, Operator, Position, ShapeContent, Slot, Use,
    Value, ValueId,
};
use super::tensor::Tensor;
use super::types::ValueType;
use super::{Attribute, AttributeValue};

pub use renaming::NewNames;
pub use reshape::{Reshape, reshape};

/// Why an edit was refused. The graph is as before.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
pub enum EditError {
    /// The node has been removed or never was.
    #[error("node {0} does not exist")]
    NoNode(usize),
    /// The node has no such output.
    #[error("{node} has no output {output}")]
    NoOutput {
        /// The node.
        node: String,
        /// The output slot.
        output: u32,
    },
    /// The node is not an operator.
    #[error("{0} is not an operator")]
    NotOperator(String),
    /// The replacement cannot have the type of what it replaces.
    #[error("{new} of type {new_type} cannot stand for {old} of type {old_type}")]
    Type {
        /// The value to be replaced.
        old: String,
        /// Its type.
        old_type: String,
        /// The replacement.
        new: String,
        /// Its type.
        new_type: String,
    },
    /// The value is a graph output, and its name cannot go to the replacement: that is a graph input, a captured value or a
    /// graph output of another name.
    #[error("{new} cannot take the name of the graph output {output}")]
    OutputName {
        /// The graph output.
        output: String,
        /// The replacement.
        new: String,
    },
    /// The node is still read.
    #[error("{0} is still used")]
    Used(String),
    /// Graph inputs and the output sink cannot be removed.
    #[error("{0} belongs to the graph's interface")]
    Interface(String),
    /// The replacement itself depends on the value it replaces.
    #[error("replacing {old} by {new} would make a cycle")]
    Cycle {
        /// The value to be replaced.
        old: String,
        /// The replacement.
        new: String,
    },
}

/// Changes one graph on behalf of one rule or pass.
#[derive(Debug)]
pub struct Editor<'g> {
    graph: &'g mut Graph,
    origin: Name,
    before: Vec<String>,
    after: Vec<NodeId>,
}

impl Graph {
    /// An editor that records its changes under the name of the rule or pass.
    pub fn edit(&mut self, origin: impl Into<Name>) -> Editor<'_> {
        Editor {
            graph: self,
            origin: origin.into(),
            before: Vec::new(),
            after: Vec::new(),
        }
    }
}

impl Drop for Editor<'_> {
    fn drop(&mut self) {
        if self.before.is_empty() && self.after.is_empty() {
            return;
        }
        let after = self
            .after
            .iter()
            .filter(|id| self.graph.is_live(**id))
            .map(|id| self.graph.label(*id))
            .collect();
        let before = std::mem::take(&mut self.before);
        self.graph.journal.push(Provenance {
            origin: self.origin.clone(),
            before,
            after,
        });
    }
}

impl Editor<'_> {
    /// The graph as it is now.
    pub fn graph(&self) -> &Graph {
        self.graph
    }

    /// Lets an analysis record facts in the graph between two edits.
    pub fn analyse<R>(&mut self, analysis: impl FnOnce(&mut Graph) -> R) -> R {
        analysis(self.graph)
    }

    fn live(&self, id: NodeId) -> Result<&Node, EditError> {
        self.graph.get(id).ok_or(EditError::NoNode(id.index()))
    }

    fn live_value(&self, id: ValueId) -> Result<&Value, EditError> {
        let node = self.live(id.node)?;
        node.outputs
            .get(id.output as usize)
            .ok_or_else(|| EditError::NoOutput {
                node: self.graph.label(id.node),
                output: id.output,
            })
    }

    fn value_mut(&mut self, id: ValueId) -> Option<&mut Value> {
        self.graph
            .nodes
            .node_weight_mut(id.node)?
            .outputs
            .get_mut(id.output as usize)
    }

    fn operator_mut(&mut self, id: NodeId) -> Result<&mut Operator, EditError> {
        if self.graph.operator(id).is_none() {
            return Err(match self.graph.nodes.node_weight(id) {
                Some(_) => EditError::NotOperator(self.graph.label(id)),
                None => EditError::NoNode(id.index()),
            });
        }
        match self.graph.nodes.node_weight_mut(id).map(|node| &mut node.kind) {
            Some(NodeKind::Operator(operator)) => Ok(operator),
            _ => Err(EditError::NoNode(id.index())),
        }
    }

    fn value_label(&self, id: ValueId) -> String {
        match self.graph.value(id).map(|value| &value.name) {
            Some(name) if !name.is_empty() => name.to_string(),
            _ => format!("output {} of {}", id.output, self.graph.label(id.node)),
        }
    }

    fn next_position(&mut self, near: Option<NodeId>) -> Position {
        let original = near
            .and_then(|id| self.graph.nodes.node_weight(id))
            .map_or(u32::MAX - 1, |n| n.position.original);
        let serial = self.graph.next_serial;
        self.graph.next_serial += 1;
        Position { original, serial }
    }

    /// Adds an operator that reads `inputs`, placed where `near` is. Unnamed outputs get a name when the model is written,
    /// or that of the value they replace.
    pub fn add_operator(
        &mut self,
        near: NodeId,
        operator: Operator,
        inputs: &[Option<ValueId>],
        outputs: Vec<Value>,
    ) -> Result<NodeId, EditError> {
        self.add_operator_with_captures(near, operator, inputs, &[], outputs)
    }

    /// Adds a copy of the operator `id` of another graph, placed where `near` is. `copies` has what stands here for each value there;
    /// an operand without is left out, a captured value without is an error. `operator` is what the copy is of, in case its bodies have
    /// other names here.
    pub fn copy_operator(
        &mut self,
        near: NodeId,
        (other, id): (&Graph, NodeId),
        operator: Operator,
        copies: &HashMap<ValueId, ValueId>,
        outputs: Vec<Value>,
    ) -> Result<NodeId, EditError> {
        let mapped = |value: ValueId| copies.get(&value).copied();
        let inputs: Vec<Option<ValueId>> = other
            .inputs_of(id)
            .into_iter()
            .map(|value| value.and_then(mapped))
            .collect();
        let captures: Vec<ValueId> = other
            .captures_of(id)
            .into_iter()
            .flatten()
            .filter_map(mapped)
            .collect();
        if captures.len() != operator.capture_count() {
            return Err(EditError::NoNode(id.index()));
        }
        self.add_operator_with_captures(near, operator, &inputs, &captures, outputs)
    }

    /// Adds an operator with bodies that capture `captures`, in the order of their capture slots.
    pub fn add_operator_with_captures(
        &mut self,
        near: NodeId,
        mut operator: Operator,
        inputs: &[Option<ValueId>],
        captures: &[ValueId],
        outputs: Vec<Value>,
    ) -> Result<NodeId, EditError> {
        for value in inputs.iter().flatten().chain(captures) {
            self.live_value(*value)?;
        }
        operator.input_count = inputs.len() as u32;
        operator.capture_count = captures.len() as u32;
        let position = self.next_position(Some(near));
        let id = self.graph.nodes.add_node(Node {
            kind: NodeKind::Operator(operator),
            name: None,
            meta: None,
            outputs,
            position,
        });
        for (index, value) in inputs.iter().enumerate() {
            if let Some(value) = value {
                self.connect(*value, id, Slot::Input(index as u32));
            }
        }
        for (index, value) in captures.iter().enumerate() {
            self.connect(*value, id, Slot::Capture(index as u32));
        }
        self.after.push(id);
        Ok(id)
    }

    /// Adds an initializer. An empty name is filled in when the model is written.
    pub fn add_constant(&mut self, name: impl Into<Name>, tensor: Tensor) -> ValueId {
        let index = self.graph.next_initializer;
        self.graph.next_initializer += 1;
        let position = self.next_position(None);
        let value = Value::typed(name, tensor_type(&tensor));
        let constant = Constant {
            tensor: Some(tensor),
            origin: ConstantOrigin::Initializer(index),
            listed_input: None,
        };
        self.place_constant(value, constant, position)
    }

    fn place_constant(&mut self, value: Value, constant: Constant, position: Position) -> ValueId {
        let id = self.graph.nodes.add_node(Node {
            kind: NodeKind::Constant(Box::new(constant)),
            name: None,
            meta: None,
            outputs: vec![value],
            position,
        });
        self.after.push(id);
        ValueId::new(id, 0)
    }

    /// Adds a copy of another graph's constant, placed where `near` is. A `Constant` node stays one; an initializer comes after
    /// all others.
    pub fn copy_constant(&mut self, near: NodeId, mut value: Value, mut constant: Constant) -> ValueId {
        if let Some(tensor) = &constant.tensor {
            value.ty = tensor_type(tensor);
        }
        if let ConstantOrigin::Initializer(index) | ConstantOrigin::Sparse(_, index) = &mut constant.origin {
            *index = self.graph.next_initializer;
            self.graph.next_initializer += 1;
        }
        constant.listed_input = None;
        let position = self.next_position(Some(near));
        self.place_constant(value, constant, position)
    }

    /// Replaces the elements of a constant, which must keep dtype and shape unless nothing reads it yet; a changed shape or
    /// dtype is for [`reshape`].
    pub fn set_constant(&mut self, id: NodeId, tensor: Tensor) -> Result<(), EditError> {
        let label = self.graph.label(id);
        let ty = tensor_type(&tensor);
        let node = self
            .graph
            .nodes
            .node_weight_mut(id)
            .ok_or(EditError::NoNode(id.index()))?;
        let NodeKind::Constant(constant) = &mut node.kind else {
            return Err(EditError::NotOperator(label));
        };
        if let Some(value) = node.outputs.first_mut() {
            if value.ty.contradicts(&ty) {
                return Err(EditError::Type {
                    old: label.clone(),
                    old_type: value.ty.to_string(),
                    new: label,
                    new_type: ty.to_string(),
                });
            }
            value.ty = ty;
            value.content = None;
        }
        constant.tensor = Some(tensor);
        self.before.push(label);
        Ok(())
    }

    /// Records what analysis found out about a value.
    pub fn set_facts(
        &mut self,
        id: ValueId,
        ty: ValueType,
        content: Option<Arc<ShapeContent>>,
    ) -> Result<(), EditError> {
        self.live_value(id)?;
        self.graph.set_facts(id, ty, content);
        Ok(())
    }

    /// Names a value that is not part of the graph's interface.
    pub fn rename(&mut self, id: ValueId, name: impl Into<Name>) -> Result<(), EditError> {
        self.live_value(id)?;
        if matches!(self.live(id.node)?.kind, NodeKind::Input(_)) || self.graph.is_graph_output(id) {
            return Err(EditError::Interface(self.value_label(id)));
        }
        if let Some(value) = self.value_mut(id) {
            value.name = name.into();
            value.declared = None;
        }
        Ok(())
    }

    /// Sets the node's name.
    pub fn set_node_name(&mut self, id: NodeId, name: Option<Name>) -> Result<(), EditError> {
        self.live(id)?;
        if let Some(node) = self.graph.nodes.node_weight_mut(id) {
            node.name = name;
        }
        Ok(())
    }

    /// Sets what a node carries beside operator, inputs, outputs and attributes.
    pub fn set_node_meta(&mut self, id: NodeId, meta: NodeMeta) -> Result<(), EditError> {
        self.live(id)?;
        if let Some(node) = self.graph.nodes.node_weight_mut(id) {
            node.meta = Some(meta).filter(|m| *m != NodeMeta::default()).map(Arc::new);
        }
        Ok(())
    }

    /// Sets an attribute, in its old place if there is one.
    pub fn set_attribute(
        &mut self,
        id: NodeId,
        name: impl Into<Name>,
        value: impl Into<AttributeValue>,
    ) -> Result<(), EditError> {
        let attribute = Attribute::new(name, value);
        let operator = self.operator_mut(id)?;
        match operator.attributes.iter_mut().find(|a| a.name == attribute.name) {
            Some(existing) => *existing = attribute,
            None => operator.attributes.push(attribute),
        }
        self.after.push(id);
        Ok(())
    }

    /// Removes an attribute, if it is there.
    pub fn remove_attribute(&mut self, id: NodeId, name: &str) -> Result<(), EditError> {
        self.operator_mut(id)?.attributes.retain(|a| a.name != *name);
        self.after.push(id);
        Ok(())
    }

    /// Turns an operator into another one with the same inputs, bodies and outputs.
    pub fn set_operator_type(
        &mut self,
        id: NodeId,
        domain: Option<Name>,
        op_type: impl Into<Name>,
    ) -> Result<(), EditError> {
        let op_type = op_type.into();
        let operator = self.operator_mut(id)?;
        operator.op_type = op_type;
        operator.written_domain = domain;
        operator.opaque = false;
        self.after.push(id);
        Ok(())
    }

    /// Lets `node` read `value`, or nothing, in input slot `index`; slots up to it are added.
    pub fn set_input(&mut self, node: NodeId, index: usize, value: Option<ValueId>) -> Result<(), EditError> {
        if let Some(value) = value {
            self.live_value(value)?;
        }
        let operator = self.operator_mut(node)?;
        operator.input_count = operator.input_count.max(index as u32 + 1);
        self.disconnect(Use {
            node,
            slot: Slot::Input(index as u32),
        });
        if let Some(value) = value {
            self.connect(value, node, Slot::Input(index as u32));
        }
        self.after.push(node);
        Ok(())
    }

    /// Lets the bodies of `node` read `value` through capture slot `index`, which is there already.
    pub fn set_capture(&mut self, node: NodeId, index: u32, value: ValueId) -> Result<(), EditError> {
        self.live_value(value)?;
        if index >= self.operator_mut(node)?.capture_count {
            return Err(EditError::NotOperator(self.graph.label(node)));
        }
        self.connect(value, node, Slot::Capture(index));
        self.after.push(node);
        Ok(())
    }

    /// Cuts the input slots of `node` down to `count`.
    pub fn truncate_inputs(&mut self, node: NodeId, count: usize) -> Result<(), EditError> {
        let old = self.operator_mut(node)?.input_count;
        for index in count as u32..old {
            self.disconnect(Use {
                node,
                slot: Slot::Input(index),
            });
        }
        let operator = self.operator_mut(node)?;
        operator.input_count = operator.input_count.min(count as u32);
        Ok(())
    }

    /// Leaves an optional output out; it must not be read.
    pub fn omit_output(&mut self, id: ValueId) -> Result<(), EditError> {
        self.live_value(id)?;
        if self.graph.use_count(id) > 0 {
            return Err(EditError::Used(self.value_label(id)));
        }
        if let Some(value) = self.value_mut(id) {
            *value = Value::omitted();
        }
        Ok(())
    }

    /// Drops trailing outputs down to `count`; they must not be read.
    pub fn truncate_outputs(&mut self, node: NodeId, count: usize) -> Result<(), EditError> {
        let total = self.live(node)?.outputs.len();
        for output in count..total {
            if self.graph.use_count(ValueId::new(node, output)) > 0 {
                return Err(EditError::Used(self.value_label(ValueId::new(node, output))));
            }
        }
        if let Some(node) = self.graph.nodes.node_weight_mut(node) {
            node.outputs.truncate(count);
        }
        Ok(())
    }

    /// Adds one more output to an operator.
    pub fn add_output(&mut self, node: NodeId, value: Value) -> Result<ValueId, EditError> {
        self.operator_mut(node)?;
        let Some(weight) = self.graph.nodes.node_weight_mut(node) else {
            return Err(EditError::NoNode(node.index()));
        };
        weight.outputs.push(value);
        Ok(ValueId::new(node, weight.outputs.len() - 1))
    }

    /// Exposes a value as one more graph output. Its name becomes part of the interface.
    pub fn add_graph_output(
        &mut self,
        value: ValueId,
        name: impl Into<Name>,
        ty: ValueType,
    ) -> Result<(), EditError> {
        self.live_value(value)?;
        let name = name.into();
        let index = self.graph.outputs.len() as u32;
        let sink = self.graph.sink;
        self.graph.outputs.push(super::graph::GraphOutput {
            name,
            declared: None,
            ty,
        });
        self.connect(value, sink, Slot::Input(index));
        Ok(())
    }

    fn disconnect(&mut self, at: Use) {
        self.graph.wires.disconnect(at);
    }

    fn connect(&mut self, value: ValueId, node: NodeId, slot: Slot) {
        self.graph.wires.connect(value, Use { node, slot });
    }
}

impl Graph {
    /// Records what analysis found out about a value. Facts are not part of the model's meaning and are never written.
    pub fn set_facts(&mut self, id: ValueId, ty: ValueType, content: Option<Arc<ShapeContent>>) {
        if let Some(value) = self
            .nodes
            .node_weight_mut(id.node)
            .and_then(|n| n.outputs.get_mut(id.output as usize))
        {
            value.ty = ty;
            value.content = content;
        }
    }

    /// Records whether an operator is beyond the table of its domain: see [`Operator::is_opaque`].
    pub fn set_opaque(&mut self, id: NodeId, opaque: bool) {
        if let Some(NodeKind::Operator(operator)) = self.nodes.node_weight_mut(id).map(|node| &mut node.kind)
        {
            operator.opaque = opaque;
        }
    }

    /// Records that a captured value is this constant, or that it is none.
    pub fn set_captured_constant(&mut self, id: NodeId, tensor: Option<Tensor>) {
        if let Some(NodeKind::Capture(capture)) = self.nodes.node_weight_mut(id).map(|node| &mut node.kind) {
            capture.known = tensor;
        }
    }
}
