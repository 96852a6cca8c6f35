//! Removing nodes that nothing reads.

use crate::ir::{EditError, Editor, Graph, NodeId, NodeKind};
use crate::passes::scope::{Scope, read_by};

/// Whether a pass may remove the node once nothing reads it.
pub(super) fn is_removable(graph: &Graph, scope: &Scope<'_>, id: NodeId) -> bool {
    let kind = graph.get(id).map(|node| &node.kind);
    matches!(kind, Some(NodeKind::Operator(_) | NodeKind::Constant(_))) && !scope.protected(graph, id)
}

/// Removes `start` where nothing reads it, then what only it read, and so on. Answers how many nodes went.
pub(super) fn remove_unused(
    editor: &mut Editor<'_>,
    scope: &Scope<'_>,
    start: Vec<NodeId>,
) -> Result<u64, EditError> {
    let mut pending = start;
    let mut removed = 0;
    while let Some(id) = pending.pop() {
        let graph = editor.graph();
        if !is_removable(graph, scope, id) || graph.is_used(id) {
            continue;
        }
        let sources: Vec<NodeId> = read_by(graph, id).map(|value| value.node).collect();
        editor.remove(id)?;
        removed += 1;
        pending.extend(sources);
    }
    Ok(removed)
}
