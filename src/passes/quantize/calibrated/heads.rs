//! The last products of models whose answers have parts that mean different things: scores and boxes, distributions and offsets.
//!
//! What such a product answers is read as it is: a score against a threshold, a distance that a stride multiplies. One range of codes for
//! all channels gives each part the step of the widest, and no layer behind evens that out.

use std::collections::HashSet;

use super::profile::{Pairs, Role};
use super::types::Types;
use super::{Heads, Quantize, opset};
use crate::analysis::{self, NodeCost};
use crate::ir::{Graph, GraphPath, Model, NodeId, ValueId};
use crate::ops::is_view;
use crate::quantize::Kind;

/// The largest share of the multiply-accumulates that heads may have to be worth their float kernels.
const MOST: f64 = 0.2;

/// The type of codes of heads that cannot stay float.
pub(super) const WIDE: Kind = Kind::Uint16;

/// Said of a head that stays float.
pub(super) const HEAD: &str = "its results are parts of the answer that mean different things, and one range of codes for all would be coarse \
     for most (heads: codes quantizes it)";

/// Operators with weights, whether a plan may have them on codes or not: what stands before them is no last layer.
const WEIGHTED: [&str; 8] = [
    "Conv",
    "ConvTranspose",
    "Einsum",
    "GRU",
    "Gemm",
    "LSTM",
    "MatMulNBits",
    "RNN",
];

/// Nodes that the rule on heads decides on.
#[derive(Default)]
pub(super) struct HeadNodes {
    /// They stay float.
    pub(super) float: HashSet<NodeId>,
    /// They have wide codes.
    pub(super) wide: HashSet<NodeId>,
    /// Of heads that are quantized all the same: why.
    pub(super) note: Option<String>,
}

impl HeadNodes {
    /// The first opset that has the codes; 0 where there are none.
    pub(super) fn opset(&self) -> i64 {
        if self.wide.is_empty() {
            0
        } else {
            WIDE.opset(false)
        }
    }
}

impl Quantize {
    /// What the rule on heads says of nodes that no entry of `layers` decides on.
    pub(super) fn head_nodes(&self, model: &Model, types: &Types<'_>) -> HeadNodes {
        let (graph, opset) = (&model.graph, opset(model));
        let traits = self.profile.traits();
        let role = |id| self.profile.role(graph, id, opset).0;
        let product = |id| matches!(role(id), Role::Anchor | Role::FloatOutAnchor);
        let widens = traits.pairs == Pairs::Everywhere
            && traits.activations.contains(&WIDE)
            && types.activation.bits() < WIDE.bits();
        if self.heads == Heads::Codes || traits.pairs != Pairs::Around && !widens {
            return HeadNodes::default();
        }
        let mut found = heads(graph, &product);
        // A product that answers in float loses nothing in its result.
        found.retain(|id| !types.of(graph, *id).named && (widens || role(*id) == Role::Anchor));
        let mut nodes = HeadNodes::default();
        let share = match found.is_empty() {
            true => 0.0,
            false => share(&found, &analysis::cost(model, &|_| None).by_node),
        };
        if share > MOST {
            nodes.note = Some(format!(
                "{} last products are parts of the answer that mean different things and are quantized all the same: they have {:.0} % of the \
                 multiply-accumulates, and up to {:.0} % are left to float or 16 bits; exclude or layers names those to leave",
                found.len(),
                share * 100.0,
                MOST * 100.0
            ));
        } else if widens {
            nodes.wide = behind(graph, &found);
            nodes.wide.extend(found);
        } else {
            nodes.float.extend(found);
        }
        nodes
    }
}

/// The last products of `graph`, where its answers have parts: `product` tells products with a constant weight.
fn heads(graph: &Graph, product: &dyn Fn(NodeId) -> bool) -> Vec<NodeId> {
    let order = graph.topological_order();
    let (followed, answers) = followed(graph, &order, product);
    let last: Vec<NodeId> = order
        .into_iter()
        .filter(|id| product(*id) && !followed.contains(id) && answers.contains(id))
        .collect();
    let first = last.iter().filter(|id| !reads_distribution(graph, **id)).count();
    if first > 1 || parts(graph, &last) {
        last
    } else {
        Vec::new()
    }
}

/// Nodes with a product somewhere behind them, and those that an answer of the model comes from. What makes the mean of a distribution
/// does not count as a product: it reads out a head.
fn followed(
    graph: &Graph,
    order: &[NodeId],
    product: &dyn Fn(NodeId) -> bool,
) -> (HashSet<NodeId>, HashSet<NodeId>) {
    let (mut followed, mut answers) = (HashSet::new(), HashSet::new());
    let counts = |id: NodeId| {
        let weighted = graph.operator(id).is_some_and(|operator| {
            // What other domains and bodies do is not known.
            !operator.domain().is_empty() || operator.has_bodies() || WEIGHTED.contains(&&*operator.op_type)
        });
        (weighted || product(id)) && !reads_distribution(graph, id)
    };
    for id in order.iter().rev() {
        let readers = readers(graph, *id);
        if readers
            .iter()
            .any(|reader| counts(*reader) || followed.contains(reader))
        {
            followed.insert(*id);
        }
        if is_answer(graph, *id) || readers.iter().any(|reader| answers.contains(reader)) {
            answers.insert(*id);
        }
    }
    (followed, answers)
}

fn is_answer(graph: &Graph, id: NodeId) -> bool {
    values(graph, id).any(|value| graph.is_graph_output(value))
}

fn values(graph: &Graph, id: NodeId) -> impl Iterator<Item = ValueId> {
    let outputs = graph.get(id).map_or(0, |node| node.outputs().len());
    (0..outputs).map(move |output| ValueId::new(id, output))
}

fn readers(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    let uses = values(graph, id).flat_map(|value| graph.uses(value));
    uses.map(|found| found.node).collect()
}

/// Whether a product reads, through moves, what a Softmax makes.
fn reads_distribution(graph: &Graph, id: NodeId) -> bool {
    let mut at = graph.input(id, 0);
    while let Some(value) = at {
        let Some(operator) = graph.operator(value.node) else {
            return false;
        };
        match &*operator.op_type {
            "Softmax" => return true,
            other if other == "Transpose" || is_view(other) => at = graph.input(value.node, 0),
            _ => return false,
        }
    }
    false
}

/// Operators behind `nodes`.
fn behind(graph: &Graph, nodes: &[NodeId]) -> HashSet<NodeId> {
    let mut seen = HashSet::new();
    let mut open = nodes.to_vec();
    while let Some(at) = open.pop() {
        for reader in readers(graph, at) {
            if graph.operator(reader).is_some() && seen.insert(reader) {
                open.push(reader);
            }
        }
    }
    seen
}

/// Whether what `nodes` answer is cut into parts: by a Split, or by more than one Slice of one value.
fn parts(graph: &Graph, nodes: &[NodeId]) -> bool {
    let is = |id: NodeId, name: &str| graph.operator(id).is_some_and(|operator| operator.is(name));
    let behind = behind(graph, nodes);
    let sliced = |id: &NodeId| {
        let readers = readers(graph, *id);
        readers.iter().filter(|reader| is(**reader, "Slice")).count() > 1
    };
    behind.iter().any(|id| is(*id, "Split")) || nodes.iter().chain(&behind).any(sliced)
}

/// The share of `nodes` in the multiply-accumulates; 0 where they are not known.
fn share(nodes: &[NodeId], costs: &[NodeCost]) -> f64 {
    let nodes: HashSet<NodeId> = nodes.iter().copied().collect();
    let known = || {
        let main = costs.iter().filter(|cost| cost.path == GraphPath::MAIN);
        main.filter_map(|cost| Some((cost.node, cost.macs?)))
    };
    let all: u64 = known().map(|(_, macs)| macs).sum();
    let own: u64 = known()
        .filter(|(node, _)| nodes.contains(node))
        .map(|(_, macs)| macs)
        .sum();
    if all == 0 { 0.0 } else { own as f64 / all as f64 }
}
