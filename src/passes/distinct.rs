//! Names for what a pass has added, where the model has them already.

use std::collections::{HashMap, HashSet};

use crate::ir::{EditError, Graph, GraphPath, Model, Name, NodeId, NodeKind, ValueId};

/// One value that a graph defines.
struct Definition {
    path: usize,
    value: ValueId,
    /// Inputs and outputs of a graph keep their names.
    interface: bool,
    /// Not of the file.
    inserted: bool,
}

/// Renames values whose name another value of the same graph, of a graph around it or of a body in it has. Names may be shared
/// only by bodies that stand beside each other. What the file had keeps its names, and so do inputs and outputs.
pub(crate) fn distinct_names(model: &mut Model, pass: &'static str) -> Result<(), EditError> {
    let paths = model.graph_paths();
    let mut taken: HashSet<Name> = HashSet::new();
    let mut by_name: HashMap<Name, Vec<Definition>> = HashMap::new();
    for (at, path) in paths.iter().enumerate() {
        let Some(graph) = model.graph_at(path) else {
            continue;
        };
        taken.extend(graph.outputs().iter().map(|output| output.name.clone()));
        for id in graph.node_ids() {
            collect(graph, id, at, &mut taken, &mut by_name);
        }
    }
    let mut repeated: Vec<(usize, ValueId, Name)> = Vec::new();
    for (name, mut definitions) in by_name {
        if definitions.len() < 2 {
            continue;
        }
        definitions.sort_by_key(|one| (!one.interface, one.inserted, one.path, one.value));
        let mut kept: Vec<usize> = Vec::new();
        for one in definitions {
            let clashes = kept.iter().any(|other| {
                let (Some(a), Some(b)) = (paths.get(*other), paths.get(one.path)) else {
                    return false;
                };
                encloses(a, b) || encloses(b, a)
            });
            match clashes && !one.interface {
                true => repeated.push((one.path, one.value, name.clone())),
                false => kept.push(one.path),
            }
        }
    }
    repeated.sort();
    for (at, value, name) in repeated {
        let mut number = 1u64;
        let fresh = loop {
            let candidate = Name::from(format!("{name}_{number}"));
            if taken.insert(candidate.clone()) {
                break candidate;
            }
            number += 1;
        };
        if let Some(graph) = paths.get(at).and_then(|path| model.graph_at_mut(path)) {
            graph.edit(pass).rename(value, fresh)?;
        }
    }
    Ok(())
}

/// The values of one node, by name.
fn collect(
    graph: &Graph,
    id: NodeId,
    path: usize,
    taken: &mut HashSet<Name>,
    by_name: &mut HashMap<Name, Vec<Definition>>,
) {
    let Some(node) = graph.get(id) else { return };
    // A captured value is defined by the graph around.
    if matches!(node.kind, NodeKind::Capture(_)) {
        return;
    }
    for (output, value) in node.outputs().iter().enumerate() {
        if value.name.is_empty() || value.omitted {
            continue;
        }
        taken.insert(value.name.clone());
        let of = ValueId::new(id, output);
        by_name.entry(value.name.clone()).or_default().push(Definition {
            path,
            value: of,
            interface: matches!(node.kind, NodeKind::Input(_)) || graph.is_graph_output(of),
            inserted: node.position().serial > 0,
        });
    }
}

/// Whether the graph at `inner` is the one at `outer` or lies in it.
fn encloses(outer: &GraphPath, inner: &GraphPath) -> bool {
    outer.function == inner.function && inner.bodies.starts_with(&outer.bodies)
}
