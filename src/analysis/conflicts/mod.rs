//! Shapes that contradict each other and attributes out of range, so that the model cannot run: found here, named by node and
//! shapes or attribute, before an engine sees the model.
//!
//! Only what no run can repair is a conflict: numbers on both sides, none of them 0 (which exporters write for "unknown"), in nodes
//! that the outputs need and that are sure to run. Shapes are inferred without what a file declares of inner values.

mod attributes;
mod elementwise;
mod layers;
mod layout;
mod products;

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use super::call::{Call, axis};
use super::functions::Functions;
use super::infer::infer;
use super::liveness::needed;
use crate::ir::{Dim, Graph, GraphPath, Model, NodeId, NodeKind, ValueId, ValueType, opset_version};

/// A node whose inputs do not fit each other, or an attribute of which is out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The graph of the node.
    pub path: GraphPath,
    /// The node.
    pub node: String,
    /// Operator type.
    pub operator: String,
    /// Which shapes or which attribute, and why they do not fit.
    pub reason: String,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}): {}", self.node, self.operator, self.reason)
    }
}

/// Says why the inputs of an operator do not fit each other, if they do not.
type Check = fn(&Call<'_>) -> Option<String>;

/// The checks of one family.
type Family = &'static [(&'static str, Check)];

static TABLE: LazyLock<HashMap<&'static str, Check>> = LazyLock::new(|| {
    [
        elementwise::CHECKS,
        layers::CHECKS,
        layout::CHECKS,
        products::CHECKS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .collect()
});

/// Every conflict of a model, in graph order.
pub fn conflicts(model: &Model) -> Vec<Conflict> {
    let mut inferred = model.clone();
    for path in inferred.graph_paths() {
        if let Some(graph) = inferred.graph_at_mut(&path) {
            forget(graph, path != GraphPath::MAIN);
        }
    }
    infer(&mut inferred);
    let functions = Functions::new(&inferred.functions);
    let mut walk = Walk {
        model: &inferred,
        functions: &functions,
        seen: BTreeSet::new(),
        found: Vec::new(),
    };
    walk.graph(&inferred.graph, &GraphPath::MAIN, 0);
    walk.found
}

/// Forgets what the file declares of values that operators produce and, of a body or function, of its inputs.
fn forget(graph: &mut Graph, inner: bool) {
    let forgotten: Vec<(NodeId, usize)> = graph
        .node_ids()
        .filter_map(|id| {
            let node = graph.get(id)?;
            match node.kind {
                NodeKind::Operator(_) => Some((id, node.outputs().len())),
                NodeKind::Input(_) if inner => Some((id, 1)),
                _ => None,
            }
        })
        .collect();
    for (id, outputs) in forgotten {
        (0..outputs).for_each(|output| graph.set_facts(ValueId::new(id, output), ValueType::Unknown, None));
    }
}

/// Bodies within bodies and calls within calls that are followed.
const DEPTH: usize = 32;

struct Walk<'m> {
    model: &'m Model,
    functions: &'m Functions<'m>,
    /// Functions that have been looked at.
    seen: BTreeSet<usize>,
    found: Vec<Conflict>,
}

impl Walk<'_> {
    fn graph(&mut self, graph: &Graph, path: &GraphPath, depth: usize) {
        if depth > DEPTH {
            return;
        }
        let needed = needed(graph);
        for id in graph.topological_order() {
            let Some(NodeKind::Operator(operator)) = graph.get(id).map(|node| &node.kind) else {
                continue;
            };
            if !needed.contains(&id) || operator.has_references() {
                continue;
            }
            let version = opset_version(self.model.opsets(path), operator.domain()).unwrap_or(0);
            let Some(call) = Call::of(graph, id, version) else {
                continue;
            };
            if let Some(index) = self.functions.find(graph, id) {
                let function = self.model.functions.get(index);
                if let Some(function) = function.filter(|_| self.seen.insert(index)) {
                    self.graph(&function.graph, &GraphPath::function(index), depth + 1);
                }
                continue;
            }
            for (index, body) in operator.bodies() {
                let attribute = operator
                    .attributes()
                    .get(index.attribute)
                    .map(|attribute| attribute.name.as_str());
                if is_sure_to_run(&call, attribute) {
                    self.graph(body, &path.body(id, index), depth + 1);
                }
            }
            if !operator.domain().is_empty() {
                continue;
            }
            let check = TABLE.get(operator.op_type.as_str());
            let reason = attributes::out_of_range(&call).or_else(|| check.and_then(|check| check(&call)));
            if let Some(reason) = reason {
                self.found.push(Conflict {
                    path: path.clone(),
                    node: graph.label(id),
                    operator: operator.op_type.to_string(),
                    reason,
                });
            }
        }
    }
}

/// Whether a body runs in every run of the model.
fn is_sure_to_run(call: &Call<'_>, attribute: Option<&str>) -> bool {
    let number = |input: usize| call.single(input).and_then(|dim| dim.fixed());
    match call.operator.op_type.as_str() {
        "If" => match number(0) {
            Some(0) => attribute == Some("else_branch"),
            Some(_) => attribute == Some("then_branch"),
            None => false,
        },
        "Loop" => {
            number(0).is_some_and(|count| count > 0) && (!call.has(1) || number(1).is_some_and(|c| c != 0))
        }
        _ => false,
    }
}

/// A size above 0 that is a number.
fn fixed(dim: &Dim) -> Option<i64> {
    dim.fixed().filter(|size| *size > 0)
}

/// Whether two sizes are numbers and differ.
fn apart(a: &Dim, b: &Dim) -> bool {
    matches!((fixed(a), fixed(b)), (Some(a), Some(b)) if a != b)
}

/// Dimensions as messages show them.
fn shown(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape
        .iter()
        .map(|dim| {
            if dim.is_known() {
                dim.to_string()
            } else {
                "?".to_owned()
            }
        })
        .collect();
    format!("[{}]", dims.join(", "))
}

/// The product of dimensions, where all are numbers above 0.
fn product(dims: &[Dim]) -> Option<i64> {
    dims.iter()
        .try_fold(1i64, |product, dim| product.checked_mul(fixed(dim)?))
}

/// Why an axis is none of a tensor, `extra` being how many more axes than its rank it may name.
fn bad_axis(value: i64, rank: usize, extra: usize) -> Option<String> {
    (rank > 0 && axis(value, rank + extra).is_none())
        .then(|| format!("axis {value} is out of range for a tensor of rank {rank}"))
}

#[cfg(test)]
mod tests;
