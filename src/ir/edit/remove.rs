//! Nodes and captures that nothing reads go.

use super::{EditError, Editor};
use crate::ir::node::{NodeId, NodeKind};

impl Editor<'_> {
    /// Removes a node that nothing reads.
    pub fn remove(&mut self, id: NodeId) -> Result<(), EditError> {
        let node = self.live(id)?;
        if matches!(node.kind, NodeKind::Input(_) | NodeKind::Output) {
            return Err(EditError::Interface(self.graph.label(id)));
        }
        if self.graph.is_used(id) {
            return Err(EditError::Used(self.graph.label(id)));
        }
        self.before.push(self.graph.label(id));
        self.graph.wires.disconnect_all(id);
        if let Some(node) = self.graph.nodes.node_weight_mut(id) {
            node.kind = NodeKind::Removed;
            node.outputs = Vec::new();
            node.meta = None;
        }
        Ok(())
    }

    /// Removes `id` if nothing reads it, then what only it read, and so on. Answers what was removed.
    /// Graph inputs stay.
    pub fn remove_unused(&mut self, id: NodeId) -> Vec<NodeId> {
        let mut removed = Vec::new();
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            let removable = self
                .graph
                .get(id)
                .is_some_and(|node| !matches!(node.kind, NodeKind::Input(_) | NodeKind::Output));
            if !removable || self.graph.is_used(id) {
                continue;
            }
            let incoming = self.graph.wires.incoming(id).rev();
            let sources: Vec<NodeId> = incoming.map(|(_, value)| value.node).collect();
            if self.remove(id).is_ok() {
                removed.push(id);
                pending.extend(sources);
            }
        }
        removed
    }

    /// Drops capture slots of `owner` that no body reads any more, and the captures in its bodies that nothing reads.
    /// Answers how many slots went.
    pub fn prune_captures(&mut self, owner: NodeId) -> Result<usize, EditError> {
        let operator = self.operator_mut(owner)?;
        let count = operator.capture_count as usize;
        let mut used = vec![false; count];
        for attribute in &mut operator.attributes {
            for body in attribute.value.graphs_mut() {
                let captures: Vec<(NodeId, u32)> = body.captures().collect();
                for (id, index) in captures {
                    if body.is_used(id) {
                        if let Some(flag) = used.get_mut(index as usize) {
                            *flag = true;
                        }
                    } else if let Some(node) = body.nodes.node_weight_mut(id) {
                        node.kind = NodeKind::Removed;
                        node.outputs = Vec::new();
                    }
                }
            }
        }
        let mut renumbered = Vec::with_capacity(count);
        let mut next = 0u32;
        for flag in &used {
            renumbered.push(flag.then_some(next));
            next += u32::from(*flag);
        }
        if next as usize == count {
            return Ok(0);
        }
        let operator = self.operator_mut(owner)?;
        operator.capture_count = next;
        for attribute in &mut operator.attributes {
            for body in attribute.value.graphs_mut() {
                for id in body.nodes.node_indices().collect::<Vec<_>>() {
                    if let Some(NodeKind::Capture(capture)) =
                        body.nodes.node_weight_mut(id).map(|n| &mut n.kind)
                        && let Some(Some(index)) = renumbered.get(capture.index as usize)
                    {
                        capture.index = *index;
                    }
                }
            }
        }
        self.graph.wires.renumber_captures(owner, &renumbered);
        Ok(count - next as usize)
    }
}
