//! Renaming everything that the bodies of a copied operator define.

use super::graph::Graph;
use super::name::Name;
use super::node::{NodeKind, Operator};

impl Operator {
    /// Gives every value that the bodies of an operator define, inner bodies included, the name that `rename` answers for it.
    /// For copies that are not in a graph yet: names are not unique any more once a function has been copied twice.
    pub fn rename_body_values(&mut self, rename: &mut dyn FnMut(&Name) -> Name) {
        for graph in self
            .attributes
            .iter_mut()
            .flat_map(|attribute| attribute.value.graphs_mut())
        {
            graph.rename_all(rename);
        }
    }
}

impl Graph {
    fn rename_all(&mut self, rename: &mut dyn FnMut(&Name) -> Name) {
        for id in self.topological_order() {
            let Some(node) = self.nodes.node_weight_mut(id) else {
                continue;
            };
            if let NodeKind::Operator(operator) = &mut node.kind {
                operator.rename_body_values(rename);
            }
            if matches!(node.kind, NodeKind::Capture(_)) {
                continue;
            }
            for value in node.outputs.iter_mut().filter(|value| !value.name.is_empty()) {
                value.name = rename(&value.name);
                if let Some(declared) = &mut value.declared {
                    declared.1.name = Some(value.name.to_string());
                }
            }
            if let (NodeKind::Input(input), Some(value)) = (&mut node.kind, node.outputs.first())
                && let Some(declared) = &mut input.declared
            {
                declared.name = Some(value.name.to_string());
            }
        }
        // Annotations name values by text.
        self.meta.quantization.for_each_mut(|annotation| {
            let name = annotation.tensor_name.as_deref();
            annotation.tensor_name = name.map(|name| rename(&name.into()).to_string());
            for entry in &mut annotation.quant_parameter_tensor_names {
                let value = entry.value.as_deref();
                entry.value = value.map(|name| rename(&name.into()).to_string());
            }
        });
        for output in &mut self.outputs {
            output.name = rename(&output.name);
            if let Some(declared) = &mut output.declared {
                declared.name = Some(output.name.to_string());
            }
        }
    }
}
