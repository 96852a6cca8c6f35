//! A digest of what a model computes, for results that must not be used with another one.

use super::{Graph, Model, NodeKind};

/// BLAKE3 over operators, their attributes and inputs, constants and the interface, in topological order; bodies included.
pub fn model_digest(model: &Model) -> String {
    let mut hasher = blake3::Hasher::new();
    for import in &model.opset_imports {
        text(&mut hasher, import.domain());
        hasher.update(&import.version.unwrap_or(0).to_le_bytes());
    }
    graph_digest(&mut hasher, &model.graph);
    for function in &model.functions {
        text(&mut hasher, function.header.name.as_deref().unwrap_or(""));
        graph_digest(&mut hasher, &function.graph);
    }
    hasher.finalize().to_hex().to_string()
}

fn text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

fn graph_digest(hasher: &mut blake3::Hasher, graph: &Graph) {
    let order = graph.topological_order();
    let mut places = std::collections::HashMap::new();
    for (place, id) in order.iter().enumerate() {
        places.insert(*id, place as u64);
    }
    for id in order {
        let Some(node) = graph.get(id) else { continue };
        for value in node.outputs() {
            text(hasher, &value.name);
        }
        for input in graph.inputs_of(id) {
            let source = input.map(|value| (places.get(&value.node).copied().unwrap_or(0), value.output));
            text(hasher, &format!("{source:?}"));
        }
        match &node.kind {
            NodeKind::Constant(_) => {
                if let Some(tensor) = node.constant() {
                    text(hasher, &format!("{} {:?}", tensor.dtype(), tensor.dims()));
                    if let Ok(raw) = tensor.raw() {
                        hasher.update(&raw);
                    }
                }
            }
            NodeKind::Operator(operator) => {
                text(hasher, operator.domain());
                text(hasher, &operator.op_type);
                for attribute in operator.attributes() {
                    text(hasher, &attribute.name);
                    let bodies = attribute.value.graphs();
                    if bodies.is_empty() {
                        text(hasher, &format!("{:?}", attribute.value));
                    }
                    bodies.iter().for_each(|body| graph_digest(hasher, body));
                }
            }
            _ => {}
        }
    }
    for output in graph.outputs() {
        text(hasher, &output.name);
    }
}
