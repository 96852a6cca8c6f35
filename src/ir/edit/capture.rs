//! Values of a graph that a body in it reads.

use super::{EditError, Editor};
use crate::ir::model::{GraphPath, Model};
use crate::ir::name::Name;
use crate::ir::node::{BodyIndex, Capture, Node, NodeId, NodeKind, Operator, Position, Slot, Value, ValueId};

impl Editor<'_> {
    /// Lets a body of `owner` read `value` of this graph, and answers what it is called there. A value that the body captures
    /// already is not captured again.
    pub fn capture(&mut self, owner: NodeId, body: BodyIndex, value: ValueId) -> Result<ValueId, EditError> {
        let ty = self.live_value(value)?.ty.clone();
        let known = self.graph.constant(value).cloned();
        let captured = self.graph.captures_of(owner);
        let slot = match captured.iter().position(|other| *other == Some(value)) {
            Some(slot) => slot as u32,
            None => {
                let operator: &mut Operator = self.operator_mut(owner)?;
                let slot = operator.capture_count;
                operator.capture_count += 1;
                self.connect(value, owner, Slot::Capture(slot));
                slot
            }
        };
        let label = self.graph.label(owner);
        let inner = self
            .graph
            .body_mut(owner, body)
            .ok_or(EditError::NotOperator(label))?;
        let there = inner.node_ids().find(
            |id| matches!(inner.get(*id).map(|node| &node.kind), Some(NodeKind::Capture(one)) if one.index == slot),
        );
        if let Some(id) = there {
            return Ok(ValueId::new(id, 0));
        }
        let serial = inner.next_serial;
        inner.next_serial += 1;
        // The graph around names it.
        let outputs = vec![Value::typed(Name::default(), ty)];
        let id = inner.nodes.add_node(Node {
            kind: NodeKind::Capture(Capture { index: slot, known }),
            name: None,
            meta: None,
            outputs,
            position: Position { original: 0, serial },
        });
        self.after.push(owner);
        Ok(ValueId::new(id, 0))
    }
}

impl Model {
    /// Lets the graph at `inner` read `value` of the graph at `outer`, which lies around it or is the same, through every body
    /// between them.
    pub fn capture(
        &mut self,
        origin: &'static str,
        outer: &GraphPath,
        inner: &GraphPath,
        value: ValueId,
    ) -> Result<ValueId, EditError> {
        let (mut path, mut value) = (outer.clone(), value);
        for (owner, body) in inner.bodies.iter().skip(outer.bodies.len()) {
            let around = self.graph_at_mut(&path).ok_or(EditError::NoNode(owner.index()))?;
            value = around.edit(origin).capture(*owner, *body, value)?;
            path = path.body(*owner, *body);
        }
        Ok(value)
    }
}
