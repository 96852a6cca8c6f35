//! Parameters that the solver has no units for, and why: what stands outside the main graph, what a caller may override, and what
//! has no axis to cut.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::explain::Explained;
use crate::ir::{Graph, Model, NodeKind, Tensor};

/// Parameters that no unit reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Unreached {
    /// The constant, the operator whose bodies hold them, or the function.
    pub place: String,
    /// Number of parameters.
    pub parameters: u64,
    /// Why none of them can go.
    pub reason: String,
}

/// What no group of `explained` covers, in graph order.
pub(super) fn unreached(model: &Model, explained: &[Explained]) -> Vec<Unreached> {
    let known: BTreeSet<&str> = explained
        .iter()
        .flat_map(|group| group.members.iter().map(|member| member.constant.as_str()))
        .collect();
    let mut found = Vec::new();
    for id in model.graph.node_ids() {
        let Some(node) = model.graph.get(id) else { continue };
        let name = node.outputs().first().map_or("", |value| value.name.as_str());
        let (tensor, reason) = match &node.kind {
            NodeKind::Input(input) => (
                input.default.as_ref().map(|(tensor, _)| tensor),
                "it is the default of a graph input, which a caller may replace by another value of the same shape",
            ),
            NodeKind::Constant(_) if known.contains(name) => continue,
            NodeKind::Constant(_) => (node.constant(), "none of its axes holds units that could go"),
            _ => continue,
        };
        let Some(parameters) = tensor.map(parameters).filter(|count| *count > 0) else {
            continue;
        };
        found.push(Unreached {
            place: name.to_owned(),
            parameters,
            reason: reason.to_owned(),
        });
    }
    found.extend(elsewhere(model));
    found
}

/// Parameters in bodies and in functions, by the operator or function that holds them.
fn elsewhere(model: &Model) -> Vec<Unreached> {
    let mut counts: BTreeMap<(Option<usize>, Option<usize>), Unreached> = BTreeMap::new();
    for path in model.graph_paths() {
        let owner = path.bodies.first().map(|(node, _)| *node);
        if path.function.is_none() && owner.is_none() {
            continue;
        }
        let total = model.graph_at(&path).map_or(0, inside);
        if total == 0 {
            continue;
        }
        let key = (
            path.function,
            owner.filter(|_| path.function.is_none()).map(|node| node.index()),
        );
        let entry = counts.entry(key).or_insert_with(|| match (path.function, owner) {
            (Some(index), _) => Unreached {
                place: model
                    .functions
                    .get(index)
                    .map(|function| function.header.name().to_owned())
                    .unwrap_or_default(),
                parameters: 0,
                reason: "it stands in a model-local function: inline-functions brings it into the main graph"
                    .to_owned(),
            },
            (None, owner) => {
                let operator =
                    owner.and_then(|node| Some((model.graph.operator(node)?, model.graph.label(node))));
                let (operator, label) = operator
                    .map_or((String::new(), String::new()), |(operator, label)| {
                        (operator.op_type.to_string(), label)
                    });
                Unreached {
                    reason: format!(
                        "it stands in a body of {operator} {label}, and only the main graph is pruned"
                    ),
                    place: label,
                    parameters: 0,
                }
            }
        });
        entry.parameters += total;
    }
    counts.into_values().collect()
}

fn inside(graph: &Graph) -> u64 {
    graph
        .node_ids()
        .filter_map(|id| graph.get(id)?.constant())
        .map(parameters)
        .sum()
}

/// Elements of a constant that holds weights: floats and quantized codes.
fn parameters(tensor: &Tensor) -> u64 {
    let dtype = tensor.dtype();
    let quantized = dtype.is_integer() && dtype.bits() <= 8;
    if dtype.is_float() || quantized {
        tensor.elements()
    } else {
        0
    }
}
