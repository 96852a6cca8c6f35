//! How many bytes a model takes in a file, and how many of them are nodes and constants: the latter estimated so that what a pass adds
//! is never counted too low and what it saves never too high.

use prost::Message as _;

use crate::format::{ExternalFiles, ToProtoError, model_to_proto};
use crate::ir::{AttributeValue, Graph, Model, Node, NodeId, NodeKind, Tensor};

/// A number of bytes in a unit that reads well.
pub fn readable_bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let unit = UNITS.get(unit).copied().unwrap_or("B");
    if unit == "B" {
        format!("{count} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

/// The bytes that a model takes as a file, with its constants inside.
pub fn file_bytes(model: &Model) -> Result<u64, ToProtoError> {
    Ok(model_to_proto(model, &ExternalFiles::default())?.encoded_len() as u64)
}

/// Bytes of a tag and a length below 128.
const FIELD: u64 = 2;
/// What a `Constant` node takes beside the tensor: operator type, attribute name and type, and their tags.
const CONSTANT_NODE: u64 = 48;

/// The bytes that a new constant of this name adds, its place in an external file excepted; in functions it is a node.
pub(super) fn added_constant(name: &str, tensor: &Tensor, in_function: bool) -> u64 {
    let field = |bytes: u64| 1 + varint(bytes) + bytes;
    let dims: u64 = tensor.dims().iter().map(|dim| 1 + varint(*dim)).sum();
    let node = if in_function { CONSTANT_NODE } else { 0 };
    node + field(FIELD + dims + field(name.len() as u64) + field(tensor.byte_len()))
}

/// Bytes of a varint.
fn varint(value: u64) -> u64 {
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

/// The bytes that go with a node, at least.
pub(super) fn saved_by(graph: &Graph, id: NodeId) -> u64 {
    let Some(node) = graph.get(id) else { return 0 };
    let name = node.name.as_deref().map_or(0, |name| name.len() as u64 + FIELD);
    match &node.kind {
        NodeKind::Constant(constant) => {
            let data = constant.tensor.as_ref().map_or(0, Tensor::byte_len);
            data + output_names(node) + name + 3 * FIELD
        }
        NodeKind::Operator(operator) => {
            let inputs: u64 = graph
                .inputs_of(id)
                .into_iter()
                .map(|input| {
                    FIELD
                        + input
                            .and_then(|value| graph.value(value))
                            .map_or(0, |value| value.name.len() as u64)
                })
                .sum();
            let attributes: u64 = operator
                .attributes()
                .iter()
                .map(|a| a.name.len() as u64 + 4 * FIELD + attribute_bytes(&a.value))
                .sum();
            inputs + output_names(node) + name + operator.op_type.len() as u64 + attributes + 2 * FIELD
        }
        NodeKind::Input(_) | NodeKind::Capture(_) | NodeKind::Output | NodeKind::Removed => 0,
    }
}

fn output_names(node: &Node) -> u64 {
    node.outputs()
        .iter()
        .map(|value| value.name.len() as u64 + FIELD)
        .sum()
}

fn attribute_bytes(value: &AttributeValue) -> u64 {
    match value {
        AttributeValue::Tensor(tensor) => tensor.byte_len(),
        AttributeValue::Tensors(tensors) => tensors.iter().map(Tensor::byte_len).sum(),
        AttributeValue::Floats(values) => 4 * values.len() as u64,
        AttributeValue::Ints(values) => values.len() as u64,
        AttributeValue::String(text) => text.len() as u64,
        AttributeValue::Graph(graph) => graph_bytes(graph),
        AttributeValue::Graphs(graphs) => graphs.iter().map(graph_bytes).sum(),
        _ => 0,
    }
}

/// The bytes of all nodes and constants of a graph, bodies included.
fn graph_bytes(graph: &Graph) -> u64 {
    let defaults: u64 = graph
        .inputs()
        .iter()
        .filter_map(|id| match &graph.get(*id)?.kind {
            NodeKind::Input(input) => input.default.as_ref().map(|(tensor, _)| tensor.byte_len()),
            _ => None,
        })
        .sum();
    defaults + graph.node_ids().map(|id| saved_by(graph, id)).sum::<u64>()
}

/// The bytes of all nodes and constants of a model.
pub(super) fn model_bytes(model: &Model) -> u64 {
    graph_bytes(&model.graph)
        + model
            .functions
            .iter()
            .map(|function| graph_bytes(&function.graph))
            .sum::<u64>()
}

/// How many bytes a pass may still add to the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    left: i128,
}

impl Budget {
    /// What `max_growth` allows beyond `original` bytes when the model has `now` bytes.
    pub(super) fn new(original: u64, now: u64, max_growth: f64) -> Self {
        let growth = if max_growth.is_finite() && max_growth > 0.0 {
            original as f64 * max_growth
        } else {
            0.0
        };
        Self {
            left: i128::from(original) - i128::from(now) + growth as i128,
        }
    }

    /// Spends `added - saved` bytes, or refuses. Bytes saved may be spent later.
    pub(super) fn spend(&mut self, added: u64, saved: u64) -> bool {
        let marginal = i128::from(added) - i128::from(saved);
        if marginal > 0 && marginal > self.left {
            return false;
        }
        self.left -= marginal;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_lets_savings_be_spent_and_nothing_more() {
        let mut budget = Budget::new(1000, 1000, 0.0);
        assert!(!budget.spend(10, 9));
        assert!(budget.spend(10, 30));
        assert!(budget.spend(20, 0));
        assert!(!budget.spend(1, 0));
        let mut budget = Budget::new(1000, 1100, 0.05);
        assert!(!budget.spend(1, 0), "the file is already larger than allowed");
        assert!(
            budget.spend(1, 1),
            "what saves as much as it adds is always allowed"
        );
    }
}
