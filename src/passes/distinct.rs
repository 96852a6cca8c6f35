//! Names for what a pass has added, where the model has them already.

use std::collections::HashSet;

use crate::ir::{EditError, Graph, Model, Name, ValueId};

/// Renames values whose name an earlier node of the same graph has. What the model had before keeps its names.
pub(super) fn distinct_names(model: &mut Model, pass: &'static str) -> Result<(), EditError> {
    for path in model.graph_paths() {
        if let Some(graph) = model.graph_at_mut(&path) {
            in_graph(graph, pass)?;
        }
    }
    Ok(())
}

fn in_graph(graph: &mut Graph, pass: &'static str) -> Result<(), EditError> {
    let mut seen: HashSet<Name> = HashSet::new();
    let mut repeated: Vec<(ValueId, Name)> = Vec::new();
    // New nodes come after those that were there.
    for id in graph.node_ids() {
        let Some(node) = graph.get(id) else { continue };
        for (output, value) in node.outputs().iter().enumerate() {
            if !value.name.is_empty() && !value.omitted && !seen.insert(value.name.clone()) {
                repeated.push((ValueId::new(id, output), value.name.clone()));
            }
        }
    }
    if repeated.is_empty() {
        return Ok(());
    }
    let mut editor = graph.edit(pass);
    for (value, name) in repeated {
        let mut number = 1u64;
        let fresh = loop {
            let candidate = Name::from(format!("{name}_{number}"));
            if seen.insert(candidate.clone()) {
                break candidate;
            }
            number += 1;
        };
        editor.rename(value, fresh)?;
    }
    Ok(())
}
