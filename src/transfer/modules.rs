//! The modules that nodes and weights of an exported network belong to.
//!
//! Exporters rename weights that they fold or transpose (`onnx::MatMul_31`, `val_13`), but a node still says where it comes from:
//! PyTorch's TorchScript exporter in its name (`/enc/layers.0/q_proj/MatMul`), the dynamo exporter in the metadata
//! `pkg.torch.onnx.name_scopes` and `pkg.torch.onnx.class_hierarchy`.

use crate::ir::{Graph, NodeId};

const SCOPES: &str = "pkg.torch.onnx.name_scopes";
const CLASSES: &str = "pkg.torch.onnx.class_hierarchy";

/// The dotted names of the modules that a node may belong to, the likeliest first: `enc.layers.0.q_proj`.
pub fn of_node(graph: &Graph, id: NodeId) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let scopes = listed(graph, id, SCOPES);
    // The last scope is the operation, the one before it the module that runs it.
    let module = scopes.len().checked_sub(2).and_then(|at| scopes.get(at));
    let outputs = graph.get(id).into_iter().flat_map(|node| node.outputs());
    let labels = std::iter::once(graph.label(id)).chain(outputs.map(|value| value.name.to_string()));
    for name in module
        .filter(|module| !module.is_empty())
        .cloned()
        .into_iter()
        .chain(labels.filter_map(|label| of_label(&label)))
    {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// The class of the module that a node belongs to, where the exporter says it: `torch.nn.modules.linear.Linear`.
pub fn class_of_node(graph: &Graph, id: NodeId) -> Option<String> {
    let classes = listed(graph, id, CLASSES);
    classes.get(classes.len().checked_sub(2)?).cloned()
}

/// A list of words that the exporter has written in Python's form.
fn listed(graph: &Graph, id: NodeId, key: &str) -> Vec<String> {
    let meta = graph.get(id).and_then(|node| node.meta.as_ref());
    let entry = meta
        .into_iter()
        .flat_map(|meta| &meta.metadata)
        .find(|entry| entry.key.as_deref() == Some(key));
    let text = entry.and_then(|entry| entry.value.as_deref()).unwrap_or("");
    let Some(inner) = text
        .trim()
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
    else {
        return Vec::new();
    };
    inner
        .split(',')
        .map(|word| word.trim().trim_matches(['\'', '"']).to_owned())
        .collect()
}

/// The module that a node's name stands for: `/a/b/MatMul` is of `a.b`. A part that repeats the one before it with a number, as in
/// `/layer/layer.0/`, stands for both.
pub fn of_label(label: &str) -> Option<String> {
    let (module, _) = label.strip_prefix('/')?.rsplit_once('/')?;
    let mut parts: Vec<&str> = Vec::new();
    for part in module.split('/') {
        if parts
            .last()
            .is_some_and(|last| part.strip_prefix(last).is_some_and(|rest| rest.starts_with('.')))
        {
            parts.pop();
        }
        parts.push(part);
    }
    Some(parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_module_names() {
        for (label, module) in [
            ("/enc/layers.0/q_proj/MatMul", Some("enc.layers.0.q_proj")),
            ("/layer1/layer1.0/conv1/Conv", Some("layer1.0.conv1")),
            ("/features/features.0/features.0.0/Conv", Some("features.0.0")),
            ("/MatMul", None),
            ("node_linear", None),
        ] {
            assert_eq!(of_label(label).as_deref(), module, "{label}");
        }
    }
}
