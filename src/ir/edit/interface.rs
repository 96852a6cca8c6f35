//! Inputs and outputs of a graph.

use super::{EditError, Editor};
use crate::ir::name::Name;
use crate::ir::node::{Input, Node, NodeId, NodeKind, Slot, Use, Value, ValueId};
use crate::ir::tensor::Tensor;
use crate::ir::types::ValueType;

impl Editor<'_> {
    /// Adds one more graph input, behind all others. With a default the caller may leave it out.
    pub fn add_graph_input(&mut self, value: Value, default: Option<Tensor>) -> ValueId {
        let listed = self
            .graph
            .node_ids()
            .filter_map(|id| match &self.graph.get(id)?.kind {
                NodeKind::Input(input) => Some(input.index),
                NodeKind::Constant(constant) => constant.listed_input.as_ref().map(|listed| listed.0),
                _ => None,
            });
        let index = listed.max().map_or(0, |last| last + 1);
        let default = default.map(|tensor| {
            let at = self.graph.next_initializer;
            self.graph.next_initializer += 1;
            (tensor, at)
        });
        let position = self.next_position(None);
        let input = Input {
            declared: None,
            default,
            index,
        };
        let id = self.graph.nodes.add_node(Node {
            kind: NodeKind::Input(Box::new(input)),
            name: None,
            meta: None,
            outputs: vec![value],
            position,
        });
        self.graph.inputs.push(id);
        self.after.push(id);
        ValueId::new(id, 0)
    }

    /// Removes a graph input that nothing reads.
    pub fn remove_graph_input(&mut self, id: NodeId) -> Result<(), EditError> {
        let label = self.graph.label(id);
        if !self.graph.inputs.contains(&id) {
            return Err(EditError::Interface(label));
        }
        if self.graph.is_used(id) {
            return Err(EditError::Used(label));
        }
        self.before.push(label);
        self.graph.inputs.retain(|input| *input != id);
        if let Some(node) = self.graph.nodes.node_weight_mut(id) {
            node.kind = NodeKind::Removed;
            node.outputs = Vec::new();
            node.meta = None;
        }
        Ok(())
    }

    /// Takes a graph output away, by its index. The value behind it stays, with its name: see [`Editor::remove_unused`].
    pub fn remove_graph_output(&mut self, index: usize) -> Result<(), EditError> {
        let sink = self.graph.sink;
        let values = self.graph.output_values();
        if index >= self.graph.outputs.len() {
            return Err(EditError::NoOutput {
                node: self.graph.label(sink),
                output: index as u32,
            });
        }
        let removed = self.graph.outputs.remove(index);
        self.before.push(removed.name.to_string());
        for at in index..values.len() {
            let slot = Slot::Input(at as u32);
            match values.get(at + 1).copied().flatten() {
                Some(next) => self.connect(next, sink, slot),
                None => self.disconnect(Use { node: sink, slot }),
            }
        }
        Ok(())
    }

    /// Declares the type of a graph output.
    pub fn set_output_type(&mut self, index: usize, ty: ValueType) {
        if let Some(output) = self.graph.outputs.get_mut(index) {
            output.ty = ty;
            output.declared = None;
        }
    }

    /// Gives a graph output and the value that it stands for another name. The value must be an operator's and no other output.
    pub fn rename_graph_output(&mut self, index: usize, name: impl Into<Name>) -> Result<(), EditError> {
        let name = name.into();
        let values = self.graph.output_values();
        let value = values.get(index).copied().flatten();
        let value = value.ok_or(EditError::NoNode(self.graph.sink().index()))?;
        let others = values.iter().filter(|other| **other == Some(value)).count();
        if others != 1 || self.graph.operator(value.node).is_none() {
            return Err(EditError::Interface(self.graph.label(value.node)));
        }
        if let Some(output) = self.graph.outputs.get_mut(index) {
            output.name = name.clone();
            output.declared = None;
        }
        if let Some(own) = self.value_mut(value) {
            own.name = name;
            own.declared = None;
        }
        Ok(())
    }
}
