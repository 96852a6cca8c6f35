//! Weights that one body alone reads move into it: what dequantizes them stands beside its reader there, and engines fuse the two.

use super::NAME;
use super::target::{Search, WeightTarget};
use crate::ir::{BodyIndex, EditError, Graph, Model, NodeId, NodeKind, ValueId};
use crate::passes::left::LeftAlone;

/// Moves the weights that `search` finds, body by body inwards. Answers how many moves there were.
pub(super) fn sink(model: &mut Model, search: &Search<'_>) -> Result<u64, EditError> {
    let mut moves = 0;
    // Outer graphs come first, so that a weight goes on from body to body.
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at_mut(&path) else {
            continue;
        };
        for target in search.targets(graph, &mut LeftAlone::default()) {
            if let Some((owner, body)) = only_body(&target) {
                moves += u64::from(into(graph, target.weight, owner, body)?);
            }
        }
    }
    Ok(moves)
}

/// The body that all readers are in, at once or deeper.
fn only_body(target: &WeightTarget) -> Option<(NodeId, BodyIndex)> {
    let mut bodies = target.readers.iter().map(|reader| reader.bodies.first().copied());
    let first = bodies.next()??;
    bodies.all(|body| body == Some(first)).then_some(first)
}

fn into(graph: &mut Graph, weight: ValueId, owner: NodeId, body: BodyIndex) -> Result<bool, EditError> {
    let captured = graph.captures_of(owner);
    let direct = graph.uses(weight).iter().all(|at| at.node == owner);
    let slot = captured.iter().position(|value| *value == Some(weight));
    let Some((slot, true)) = slot.map(|slot| (slot as u32, direct)) else {
        return Ok(false);
    };
    let Some((value, NodeKind::Constant(constant))) = graph
        .get(weight.node)
        .and_then(|node| Some((node.outputs().first()?.clone(), node.kind.clone())))
    else {
        return Ok(false);
    };
    let Some(inner) = graph.body_mut(owner, body) else {
        return Ok(false);
    };
    let captures: Vec<NodeId> = inner
        .node_ids()
        .filter(|id| {
            let kind = inner.get(*id).map(|node| &node.kind);
            matches!(kind, Some(NodeKind::Capture(one)) if one.index == slot)
        })
        .collect();
    let Some(near) = captures.first().copied() else {
        return Ok(false);
    };
    let mut editor = inner.edit(NAME);
    let fresh = editor.copy_constant(near, value, *constant);
    for capture in captures {
        editor.replace(ValueId::new(capture, 0), fresh)?;
    }
    drop(editor);
    let mut editor = graph.edit(NAME);
    editor.prune_captures(owner)?;
    editor.remove(weight.node)?;
    Ok(true)
}
