//! Names of two graphs in one namespace.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::ir::{Graph, Name, NodeKind, Operator};

/// The names of the target, and those that the part's values get there.
pub(super) struct Names {
    taken: HashSet<Name>,
    nodes: HashSet<Name>,
    /// Names that the part itself uses: no new name may be one of them.
    own: HashSet<Name>,
    given: HashMap<Name, Name>,
    prefix: String,
}

impl Names {
    pub(super) fn new(target: &Graph, part: &Graph, prefix: &str) -> Self {
        let (mut taken, mut own) = (HashSet::new(), HashSet::new());
        collect(target, &mut taken);
        collect(part, &mut own);
        let nodes = target
            .node_ids()
            .filter_map(|id| target.get(id)?.name.clone())
            .collect();
        Self {
            taken,
            nodes,
            own,
            given: HashMap::new(),
            prefix: prefix.to_owned(),
        }
    }

    /// The name of a value of the part's main graph.
    pub(super) fn outer(&mut self, name: &Name) -> Name {
        self.inner(name)
    }

    /// The name of a value of a body; bodies beside each other may use one name twice.
    pub(super) fn inner(&mut self, name: &Name) -> Name {
        if name.is_empty() {
            return Name::default();
        }
        if let Some(given) = self.given.get(name) {
            return given.clone();
        }
        let mut new = name.clone();
        let mut number = 0u64;
        while self.taken.contains(&new) || new != *name && self.own.contains(&new) {
            new = match number {
                0 => Name::from(format!("{}/{name}", self.prefix)),
                _ => Name::from(format!("{}/{name}_{number}", self.prefix)),
            };
            number += 1;
        }
        self.taken.insert(new.clone());
        self.given.insert(name.clone(), new.clone());
        new
    }

    /// The name of a node. Names of nodes need not be unique, and those of the part stay apart from the target's.
    pub(super) fn node(&self, name: &Name, prefix: &str) -> Name {
        match self.nodes.contains(name) {
            true => Name::from(format!("{prefix}/{name}")),
            false => name.clone(),
        }
    }

    /// The name that a value of the part has got.
    pub(super) fn given(&self, name: &str) -> String {
        self.given
            .get(&Name::from(name))
            .map_or_else(|| name.to_owned(), Name::to_string)
    }

    /// Old and new names where they differ, by old name.
    pub(super) fn renamed(&self) -> Vec<(String, String)> {
        let changed: BTreeMap<String, String> = self
            .given
            .iter()
            .filter(|(old, new)| old != new)
            .map(|(old, new)| (old.to_string(), new.to_string()))
            .collect();
        changed.into_iter().collect()
    }
}

/// Every name in a graph and its bodies.
fn collect(graph: &Graph, names: &mut HashSet<Name>) {
    for id in graph.node_ids() {
        let Some(node) = graph.get(id) else { continue };
        if !matches!(node.kind, NodeKind::Capture(_)) {
            names.extend(
                node.outputs()
                    .iter()
                    .map(|value| value.name.clone())
                    .filter(|name| !name.is_empty()),
            );
        }
        for (_, body) in node.operator().into_iter().flat_map(Operator::bodies) {
            collect(body, names);
        }
    }
    names.extend(graph.outputs().iter().map(|output| output.name.clone()));
}
