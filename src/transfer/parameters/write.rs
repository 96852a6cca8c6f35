//! Putting tensors into a graph, slot by slot.

use std::collections::BTreeMap;

use crate::ir::{EditError, Editor, Graph, NodeId, NodeKind, Slot, Tensor, ValueId};
use crate::transfer::adapt::Adapted;
use crate::transfer::units::Unit;

/// A slot and the tensor that it is to read.
struct Write {
    node: NodeId,
    slot: usize,
    tensor: Tensor,
}

/// New tensors by the constant that the slots read now.
#[derive(Default)]
pub struct Writes {
    slots: BTreeMap<ValueId, Vec<Write>>,
    biases: Vec<(NodeId, Tensor)>,
}

impl Writes {
    /// The weights of a unit.
    pub(super) fn add(&mut self, unit: &Unit, adapted: Adapted) {
        for (at, tensor) in adapted.tensors {
            if let Some(part) = unit.parts.get(at) {
                self.slot(part.constant, part.node, part.slot, tensor);
            }
        }
        if let Some(bias) = adapted.bias {
            self.biases.push((unit.node, bias));
        }
    }

    /// A slot of a node.
    pub fn slot(&mut self, constant: ValueId, node: NodeId, slot: usize, tensor: Tensor) {
        self.slots
            .entry(constant)
            .or_default()
            .push(Write { node, slot, tensor });
    }

    /// Changes constants in place where all that read them get the same; else the slots get constants of their own.
    pub fn apply(self, graph: &mut Graph) -> Result<(), EditError> {
        let mut editor = graph.edit("transfer-parameters");
        for (constant, writes) in self.slots {
            let direct = writes
                .iter()
                .all(|write| editor.graph().input(write.node, write.slot) == Some(constant));
            let alone = editor.graph().use_count(constant) == writes.len();
            let first = writes.first().map(|write| write.tensor.clone());
            let same = writes
                .iter()
                .zip(first.iter().cycle())
                .all(|(write, first)| same(&write.tensor, first));
            match first {
                Some(tensor) if direct && alone && same => editor.set_constant(constant.node, tensor)?,
                _ => split(&mut editor, constant, writes)?,
            }
        }
        for (node, tensor) in self.biases {
            let bias = editor.add_constant("", tensor);
            editor.set_input(node, 2, Some(bias))?;
        }
        Ok(())
    }
}

fn same(a: &Tensor, b: &Tensor) -> bool {
    a.shares_data_with(b) && a.dims() == b.dims() || a.same_as(b)
}

fn split(editor: &mut Editor<'_>, constant: ValueId, writes: Vec<Write>) -> Result<(), EditError> {
    let mut made: Vec<(Tensor, ValueId)> = Vec::new();
    let mut old = Vec::new();
    for write in writes {
        let known = made.iter().find(|(tensor, _)| same(tensor, &write.tensor));
        let value = match known {
            Some((_, value)) => *value,
            None => {
                let value = editor.add_constant("", write.tensor.clone());
                made.push((write.tensor, value));
                value
            }
        };
        old.extend(editor.graph().input(write.node, write.slot));
        editor.set_input(write.node, write.slot, Some(value))?;
    }
    // What stood for the constant goes with it.
    for value in old.into_iter().chain([constant]) {
        let removable = matches!(
            editor.graph().get(value.node).map(|node| &node.kind),
            Some(NodeKind::Operator(_) | NodeKind::Constant(_))
        );
        if removable && !editor.graph().is_used(value.node) {
            editor.remove_unused(value.node);
        }
    }
    Ok(())
}

/// Slots that read a value.
pub(super) fn readers(graph: &Graph, value: ValueId) -> Vec<(NodeId, usize)> {
    graph
        .uses(value)
        .into_iter()
        .filter_map(|at| match at.slot {
            Slot::Input(slot) if graph.operator(at.node).is_some() => Some((at.node, slot as usize)),
            _ => None,
        })
        .collect()
}
