//! Replacing known values by constants, within the bounds on growth.
//!
//! Works from the outputs back, so that only values which something unknown reads become constants: intermediate results
//! never stand in the file.

use std::collections::HashMap;

use super::known::Known;
use super::{Fold, NAME};
use crate::ir::{EditError, Graph, NodeId, NodeKind, ValueId};
use crate::passes::PassError;
use crate::passes::encoded_size::{added_constant, saved_by};
use crate::passes::scope::{Scope, read_by, reader_counts};
use crate::passes::simplify::sweep::is_removable;

/// Replaces what is worth it.
pub(super) fn commit(
    fold: &mut Fold<'_>,
    graph: &mut Graph,
    scope: &Scope<'_>,
    known: &Known,
) -> Result<(), PassError> {
    let mut readers = reader_counts(graph);
    for id in known.order.iter().rev().copied() {
        if readers.get(id.index()).copied().unwrap_or(0) == 0 {
            continue;
        }
        if graph.operator(id).is_some_and(|operator| operator.is("Identity")) {
            share(fold, graph, scope, &mut readers, id)?;
        } else {
            replace(fold, graph, scope, known, &mut readers, id)?;
        }
    }
    Ok(())
}

/// Lets the readers of an Identity of a known value read that value itself: its data is never copied.
fn share(
    fold: &mut Fold<'_>,
    graph: &mut Graph,
    scope: &Scope<'_>,
    readers: &mut [u32],
    id: NodeId,
) -> Result<(), PassError> {
    let Some(source) = graph.input(id, 0) else {
        return Ok(());
    };
    let value = ValueId::new(id, 0);
    // A graph output's name would go over to the source.
    if graph.is_graph_output(value) && scope.protected(graph, source.node) {
        return Ok(());
    }
    let saved = saved_by(graph, id);
    let mut editor = graph.edit(NAME);
    match editor.replace(value, source) {
        Ok(()) => {}
        Err(EditError::OutputName { .. } | EditError::Type { .. } | EditError::Cycle { .. }) => return Ok(()),
        Err(error) => return Err(scope.defect(error)),
    }
    editor.remove(id).map_err(|error| scope.defect(error))?;
    let moved = readers.get(id.index()).copied().unwrap_or(0);
    if let Some(count) = readers.get_mut(source.node.index()) {
        *count = (*count + moved).saturating_sub(1);
    }
    if let Some(count) = readers.get_mut(id.index()) {
        *count = 0;
    }
    fold.budget.spend(0, saved);
    fold.report.add("constant behind Identity", 1);
    Ok(())
}

/// Replaces an evaluated operator by its outputs, if the budget allows it.
fn replace(
    fold: &mut Fold<'_>,
    graph: &mut Graph,
    scope: &Scope<'_>,
    known: &Known,
    readers: &mut [u32],
    id: NodeId,
) -> Result<(), PassError> {
    let Some(outputs) = known.outputs(id) else {
        return Ok(());
    };
    let used: Vec<(ValueId, usize)> = (0..outputs.len())
        .map(|output| (ValueId::new(id, output), output))
        .filter(|(value, _)| graph.use_count(*value) > 0)
        .collect();
    let dying = dying_with(graph, scope, readers, id);
    let added: u64 = used
        .iter()
        .filter_map(|(value, output)| {
            Some(added_constant(
                &graph.value(*value)?.name,
                outputs.get(*output)?,
                scope.in_function,
            ))
        })
        .sum();
    let saved: u64 = dying.iter().map(|dead| saved_by(graph, *dead)).sum();
    if !fold.budget.spend(added, saved) {
        let reason = format!(
            "the file would grow by {} bytes, more than `max-growth` leaves",
            added.saturating_sub(saved)
        );
        fold.refuse(graph.label(id), reason);
        return Ok(());
    }
    let op_type = graph
        .operator(id)
        .map(|operator| operator.op_type.to_string())
        .unwrap_or_default();
    let mut editor = graph.edit(NAME);
    for (value, output) in used {
        let Some(tensor) = outputs.get(output) else {
            continue;
        };
        let constant = editor.add_constant("", tensor.clone());
        editor
            .replace(value, constant)
            .map_err(|error| scope.defect(error))?;
    }
    for dead in &dying {
        for value in read_by(editor.graph(), *dead).collect::<Vec<_>>() {
            if let Some(count) = readers.get_mut(value.node.index()) {
                *count = count.saturating_sub(1);
            }
        }
        editor.remove(*dead).map_err(|error| scope.defect(error))?;
    }
    if let Some(count) = readers.get_mut(id.index()) {
        *count = 0;
    }
    fold.report.add(&format!("constant {op_type}"), 1);
    Ok(())
}

/// `id` and every node that nothing reads once `id` is gone, a node after its readers.
fn dying_with(graph: &Graph, scope: &Scope<'_>, readers: &[u32], id: NodeId) -> Vec<NodeId> {
    let mut left: HashMap<NodeId, u32> = HashMap::new();
    let mut dying = vec![id];
    let mut next = 0;
    while let Some(dead) = dying.get(next).copied() {
        next += 1;
        for value in read_by(graph, dead) {
            let count = left
                .entry(value.node)
                .or_insert_with(|| readers.get(value.node.index()).copied().unwrap_or(0));
            *count = count.saturating_sub(1);
            let is_constant = matches!(
                graph.get(value.node).map(|node| &node.kind),
                Some(NodeKind::Constant(_))
            );
            if *count == 0
                && (is_constant || graph.operator(value.node).is_some())
                && is_removable(graph, scope, value.node)
            {
                dying.push(value.node);
            }
        }
    }
    dying
}
