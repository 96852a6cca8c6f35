//! Names for values that have none.

use std::collections::HashSet;

use crate::ir::graph::Graph;
use crate::ir::model::Model;
use crate::ir::name::Name;
use crate::ir::node::NodeKind;

impl Graph {
    /// Names every unnamed output that is not omitted. `taken` holds each name of the model and grows.
    pub fn name_values(&mut self, taken: &mut HashSet<Name>) {
        let mut counter = 0usize;
        for id in self.topological_order() {
            let Some(node) = self.nodes.node_weight_mut(id) else {
                continue;
            };
            let stem = match &node.kind {
                NodeKind::Operator(operator) => operator.op_type.to_lowercase(),
                NodeKind::Constant(_) => "constant".to_owned(),
                NodeKind::Input(_) => "input".to_owned(),
                NodeKind::Capture(_) | NodeKind::Output | NodeKind::Removed => continue,
            };
            for value in node
                .outputs
                .iter_mut()
                .filter(|value| value.name.is_empty() && !value.omitted)
            {
                value.name = loop {
                    counter += 1;
                    let candidate = Name::from(format!("{stem}_{counter}"));
                    if taken.insert(candidate.clone()) {
                        break candidate;
                    }
                };
            }
        }
    }
}

impl Model {
    /// Names every unnamed value of the model, deterministically and without collisions.
    pub fn name_values(&mut self) {
        let paths = self.graph_paths();
        let mut taken = HashSet::new();
        for path in &paths {
            let Some(graph) = self.graph_at(path) else {
                continue;
            };
            for id in graph.node_ids() {
                if let Some(node) = graph.get(id) {
                    taken.extend(
                        node.outputs
                            .iter()
                            .map(|value| value.name.clone())
                            .filter(|name| !name.is_empty()),
                    );
                }
            }
            taken.extend(graph.outputs.iter().map(|output| output.name.clone()));
        }
        for path in &paths {
            if let Some(graph) = self.graph_at_mut(path) {
                graph.name_values(&mut taken);
            }
        }
    }
}
