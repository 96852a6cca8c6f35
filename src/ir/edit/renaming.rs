//! New names for values, inputs and outputs of graphs among them: what [`super::Editor::rename`] refuses.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ir::graph::Graph;
use crate::ir::model::{GraphPath, Model};
use crate::ir::name::Name;
use crate::ir::node::{NodeKind, ValueId};

/// New names of values, by the graph that defines them.
pub type NewNames = HashMap<GraphPath, HashMap<ValueId, Name>>;

/// New names by old ones, for places that name values by text.
type Texts = HashMap<String, Name>;

impl Model {
    /// Gives values new names, all at once, so that two may swap theirs. Inputs and outputs of graphs may be among them: a graph output
    /// is called what its value is. Declarations, quantization annotations and device configurations follow, in bodies too; training
    /// information does not. Whether a name is free is up to the caller.
    pub fn rename_values(&mut self, names: &NewNames) {
        let nothing = Texts::new();
        rename(&mut self.graph, &GraphPath::MAIN, names, &nothing);
        for (index, function) in self.functions.iter_mut().enumerate() {
            rename(&mut function.graph, &GraphPath::function(index), names, &nothing);
        }
    }
}

/// Renames in one graph and its bodies; `around` is what became of names of the graphs around.
fn rename(graph: &mut Graph, path: &GraphPath, names: &NewNames, around: &Texts) {
    let mut texts = around.clone();
    graph.name_captures(around);
    for (value, name) in names.get(path).into_iter().flatten() {
        graph.give_name(*value, name, &mut texts);
    }
    if !texts.is_empty() || names.contains_key(path) {
        graph.name_outputs();
        graph.rename_texts(&texts);
    }
    for (node, body) in graph.bodies() {
        if let Some(inner) = graph.body_mut(node, body) {
            rename(inner, &path.body(node, body), names, &texts);
        }
    }
}

impl Graph {
    /// Lets captures be called what the values of the graph around are.
    fn name_captures(&mut self, around: &Texts) {
        if around.is_empty() {
            return;
        }
        for node in self.nodes.node_weights_mut() {
            if !matches!(node.kind, NodeKind::Capture(_)) {
                continue;
            }
            for value in &mut node.outputs {
                if let Some(name) = around.get(value.name.as_str()) {
                    value.name = name.clone();
                }
            }
        }
    }

    /// Renames a value that this graph defines. A captured one is named by the graph around.
    fn give_name(&mut self, id: ValueId, name: &Name, texts: &mut Texts) {
        let Some(node) = self.nodes.node_weight_mut(id.node) else {
            return;
        };
        if matches!(node.kind, NodeKind::Capture(_)) {
            return;
        }
        let Some(value) = node.outputs.get_mut(id.output as usize) else {
            return;
        };
        let old = std::mem::replace(&mut value.name, name.clone());
        if !old.is_empty() {
            texts.insert(old.to_string(), name.clone());
        }
        if let Some(declared) = &mut value.declared {
            declared.1.name = Some(name.to_string());
        }
        let written = match &mut node.kind {
            NodeKind::Input(input) => input.declared.as_mut(),
            NodeKind::Constant(constant) => constant.listed_input.as_mut().map(|listed| &mut listed.1),
            _ => None,
        };
        if let Some(written) = written {
            written.name = Some(name.to_string());
        }
    }

    /// Lets graph outputs be called what their values are.
    fn name_outputs(&mut self) {
        let values = self.output_values();
        let Graph { nodes, outputs, .. } = self;
        for (output, value) in outputs.iter_mut().zip(values) {
            let name = value.and_then(|id| {
                let node = nodes.node_weight(id.node)?;
                Some(node.outputs.get(id.output as usize)?.name.clone())
            });
            // A captured value may have no name here.
            let Some(name) = name.filter(|name| !name.is_empty() && *name != output.name) else {
                continue;
            };
            if let Some(declared) = &mut output.declared {
                declared.name = Some(name.to_string());
            }
            output.name = name;
        }
    }

    /// Changes names where they are texts.
    fn rename_texts(&mut self, texts: &Texts) {
        let change = |text: &mut Option<String>| {
            let new = text.as_deref().and_then(|old| texts.get(old));
            if let Some(new) = new.map(ToString::to_string) {
                *text = Some(new);
            }
        };
        self.meta.quantization.for_each_mut(|annotation| {
            change(&mut annotation.tensor_name);
            for entry in &mut annotation.quant_parameter_tensor_names {
                change(&mut entry.value);
            }
        });
        for (_, info) in &mut self.meta.other_value_info {
            change(&mut info.name);
        }
        for node in self.nodes.node_weights_mut() {
            let Some(meta) = &mut node.meta else { continue };
            if meta.device_configurations.is_empty() {
                continue;
            }
            for configuration in &mut Arc::make_mut(meta).device_configurations {
                for spec in &mut configuration.sharding_spec {
                    change(&mut spec.tensor_name);
                }
            }
        }
    }
}
