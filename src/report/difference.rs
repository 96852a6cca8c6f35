//! What two models have in common and what not, by names.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Serialize;

use super::facts::operators;
use crate::ir::{AttributeValue, Graph, Model, NodeId, Tensor};

/// How model B differs from model A.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Difference {
    /// Whether nothing differs.
    pub same: bool,
    /// Inputs and outputs that are only in one, or of another type, and what differs around the graph.
    pub interface: Vec<String>,
    /// Operator counts that differ: in A, in B.
    pub ops: IndexMap<String, (u64, u64)>,
    /// Nodes of the main graph that only A has.
    pub only_in_a: Vec<String>,
    /// Nodes of the main graph that only B has.
    pub only_in_b: Vec<String>,
    /// Nodes that both have and that differ, with what differs.
    pub changed_nodes: Vec<String>,
    /// Constants that differ, with what differs.
    pub constants: Vec<String>,
    /// What is unusual about the files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Compares by names: nodes by how messages call them, constants by their value's name.
pub fn difference(a: &Model, b: &Model) -> Difference {
    let mut found = Difference::default();
    interface(a, b, &mut found.interface);
    let (left, right) = (operators(a), operators(b));
    for name in left.keys().chain(right.keys()) {
        let count = |ops: &IndexMap<String, u64>| ops.get(name).copied().unwrap_or(0);
        if count(&left) != count(&right) {
            found.ops.insert(name.clone(), (count(&left), count(&right)));
        }
    }
    found.ops.sort_unstable_keys();
    let (left, right) = (nodes(&a.graph), nodes(&b.graph));
    for (label, id) in &left {
        match right.get(label) {
            None => found.only_in_a.push(describe(&a.graph, label, *id)),
            Some(other) => {
                if let Some(what) = node_difference(&a.graph, *id, &b.graph, *other) {
                    found.changed_nodes.push(format!("{label}: {what}"));
                }
            }
        }
    }
    found.only_in_b = right
        .iter()
        .filter(|(label, _)| !left.contains_key(*label))
        .map(|(label, id)| describe(&b.graph, label, *id))
        .collect();
    constants(&a.graph, &b.graph, &mut found.constants);
    if a.functions.len() != b.functions.len() {
        found.interface.push(format!(
            "{} model-local functions, then {}",
            a.functions.len(),
            b.functions.len()
        ));
    }
    found.same = found == Difference::default();
    found
}

fn interface(a: &Model, b: &Model, found: &mut Vec<String>) {
    if a.ir_version() != b.ir_version() {
        found.push(format!("IR version {}, then {}", a.ir_version(), b.ir_version()));
    }
    if a.opset_imports != b.opset_imports {
        let text = |model: &Model| {
            let imports = model.opset_imports.iter().map(|import| {
                let domain = if import.domain().is_empty() {
                    "ai.onnx"
                } else {
                    import.domain()
                };
                format!("{domain} {}", import.version.unwrap_or(0))
            });
            imports.collect::<Vec<_>>().join(", ")
        };
        found.push(format!("opsets {}, then {}", text(a), text(b)));
    }
    let inputs = |model: &Model| -> Vec<(String, String)> {
        let graph = &model.graph;
        let values = graph
            .inputs()
            .iter()
            .filter_map(|id| graph.get(*id)?.outputs().first());
        values
            .map(|value| (value.name.to_string(), value.ty.to_string()))
            .collect()
    };
    let outputs = |model: &Model| -> Vec<(String, String)> {
        model
            .graph
            .outputs()
            .iter()
            .map(|output| (output.name.to_string(), output.ty.to_string()))
            .collect()
    };
    for (what, left, right) in [
        ("input", inputs(a), inputs(b)),
        ("output", outputs(a), outputs(b)),
    ] {
        for (name, ty) in &left {
            match right.iter().find(|(other, _)| other == name) {
                None => found.push(format!("{what} {name} is only in A")),
                Some((_, other)) if other != ty => found.push(format!("{what} {name} is {ty}, then {other}")),
                Some(_) => {}
            }
        }
        for (name, _) in right
            .iter()
            .filter(|(name, _)| !left.iter().any(|(other, _)| other == name))
        {
            found.push(format!("{what} {name} is only in B"));
        }
    }
}

/// Operators by label; equal labels are told apart by a running number.
pub(super) fn nodes(graph: &Graph) -> IndexMap<String, NodeId> {
    let mut found = IndexMap::new();
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for id in graph.topological_order() {
        if graph.operator(id).is_none() {
            continue;
        }
        let label = graph.label(id);
        let count = seen.entry(label.clone()).or_default();
        *count += 1;
        found.insert(
            if *count == 1 {
                label
            } else {
                format!("{label} ({count})")
            },
            id,
        );
    }
    found
}

fn describe(graph: &Graph, label: &str, id: NodeId) -> String {
    graph.operator(id).map_or(label.to_owned(), |operator| {
        format!("{label}: {}", operator.op_type)
    })
}

/// What differs between two nodes, with the old and the new value; `None` where nothing does.
pub(super) fn node_difference(a: &Graph, left: NodeId, b: &Graph, right: NodeId) -> Option<String> {
    let (x, y) = (a.operator(left)?, b.operator(right)?);
    if x.op_type != y.op_type || x.domain() != y.domain() {
        return Some(format!("{}, then {}", x.op_type, y.op_type));
    }
    let attributes: Vec<String> = x
        .attributes()
        .iter()
        .chain(y.attributes())
        .map(|attribute| attribute.name.to_string())
        .filter(|name| match (x.attribute(name), y.attribute(name)) {
            (
                Some(AttributeValue::Graph(_) | AttributeValue::Graphs(_)),
                Some(AttributeValue::Graph(_) | AttributeValue::Graphs(_)),
            ) => false,
            (Some(a), Some(b)) => !a.same_as(b),
            _ => true,
        })
        .collect();
    let mut attributes = attributes;
    attributes.dedup();
    attributes.sort();
    attributes.dedup();
    if !attributes.is_empty() {
        let texts = attributes.iter().map(|name| {
            let (old, new) = (x.attribute(name), y.attribute(name));
            format!("{name} is {}, then {}", text(old), text(new))
        });
        return Some(texts.collect::<Vec<_>>().join("; "));
    }
    let names = |graph: &Graph, id: NodeId| -> Vec<String> {
        let inputs = graph.inputs_of(id);
        inputs
            .iter()
            .map(|value| {
                value
                    .and_then(|value| graph.value(value))
                    .map(|v| v.name.to_string())
                    .unwrap_or_default()
            })
            .collect()
    };
    let (x, y) = (names(a, left), names(b, right));
    (x != y).then(|| format!("reads {}, then {}", x.join(", "), y.join(", ")))
}

/// An attribute's value in a few words.
fn text(value: Option<&AttributeValue>) -> String {
    /// Elements of a list that are shown.
    const SHOWN: usize = 8;
    fn list<T: std::fmt::Display>(values: &[T]) -> String {
        let shown: Vec<String> = values.iter().take(SHOWN).map(T::to_string).collect();
        let rest = if values.len() > SHOWN { ", ..." } else { "" };
        format!("[{}{rest}]", shown.join(", "))
    }
    let utf8 = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
    match value {
        None => "left out".to_owned(),
        Some(AttributeValue::Int(value)) => value.to_string(),
        Some(AttributeValue::Float(value)) => value.to_string(),
        Some(AttributeValue::String(value)) => utf8(value),
        Some(AttributeValue::Ints(values)) => list(values),
        Some(AttributeValue::Floats(values)) => list(values),
        Some(AttributeValue::Strings(values)) => {
            list(&values.iter().map(|value| utf8(value)).collect::<Vec<_>>())
        }
        Some(AttributeValue::Tensor(tensor)) => match (tensor.rank() <= 1, tensor.to_f64()) {
            (true, Ok(elements)) => format!("{} {}", tensor.dtype(), list(&elements)),
            _ => format!("{}{:?}", tensor.dtype(), tensor.dims()),
        },
        Some(AttributeValue::Reference(name, _)) => format!("the attribute {name} of the function"),
        Some(_) => "another value".to_owned(),
    }
}

fn constants(a: &Graph, b: &Graph, found: &mut Vec<String>) {
    let collect = |graph: &Graph| -> BTreeMap<String, Tensor> {
        let constants = graph.node_ids().filter_map(|id| {
            let node = graph.get(id)?;
            Some((node.outputs().first()?.name.to_string(), node.constant()?.clone()))
        });
        constants.collect()
    };
    let (left, right) = (collect(a), collect(b));
    for (name, tensor) in &left {
        match right.get(name) {
            None => found.push(format!("{name} is only in A")),
            Some(other) if tensor.dtype() != other.dtype() || tensor.dims() != other.dims() => {
                let text = |tensor: &Tensor| format!("{}{:?}", tensor.dtype(), tensor.dims());
                found.push(format!("{name} is {}, then {}", text(tensor), text(other)));
            }
            Some(other) if !tensor.same_as(other) => found.push(format!("{name} has other elements")),
            Some(_) => {}
        }
    }
    found.extend(
        right
            .keys()
            .filter(|name| !left.contains_key(*name))
            .map(|name| format!("{name} is only in B")),
    );
}
