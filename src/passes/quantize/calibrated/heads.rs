//! The last products of models whose answers have parts that mean different things: scores and boxes, distributions and offsets.
//!
//! What such a product answers is read as it is: a score against a threshold, a distance that a stride multiplies. One range of codes for
//! all channels gives each part the step of the widest, and no layer behind evens that out.

use std::collections::{HashMap, HashSet};

use crate::analysis::NodeCost;
use crate::ir::{Graph, GraphPath, NodeId, ValueId};

/// The largest share of the multiply-accumulates that heads may have to be worth their float kernels.
const MOST: f64 = 0.2;

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

/// The last products of `graph`, where its answers have parts: `product` tells products with a constant weight. In topological order.
pub(super) fn heads(graph: &Graph, product: &dyn Fn(NodeId) -> bool, costs: &[NodeCost]) -> Vec<NodeId> {
    let order = graph.topological_order();
    let after = followed(graph, &order, product);
    let last: Vec<NodeId> = order
        .iter()
        .copied()
        .filter(|id| product(*id) && !reads_distribution(graph, *id) && !after.contains(id))
        .filter(|id| reaches_output(graph, *id))
        .collect();
    let parted = last.len() > 1 || last.iter().any(|id| parts(graph, *id));
    if !parted || share(&last, costs) > MOST {
        return Vec::new();
    }
    let behind = order
        .iter()
        .copied()
        .filter(|id| product(*id) && reads_distribution(graph, *id) && !after.contains(id));
    let chosen: HashSet<NodeId> = last.into_iter().chain(behind).collect();
    order.into_iter().filter(|id| chosen.contains(id)).collect()
}

/// Nodes with a product somewhere behind them. What makes the mean of a distribution does not count as one: it reads out a head.
fn followed(graph: &Graph, order: &[NodeId], product: &dyn Fn(NodeId) -> bool) -> HashSet<NodeId> {
    let mut followed = HashSet::new();
    let counts = |id: NodeId| {
        let operator = graph.operator(id);
        let weighted = operator.is_some_and(|operator| WEIGHTED.contains(&&*operator.op_type));
        (weighted || product(id)) && !reads_distribution(graph, id)
    };
    for id in order.iter().rev() {
        let mut readers = readers(graph, *id);
        if readers.any(|reader| counts(reader) || followed.contains(&reader)) {
            followed.insert(*id);
        }
    }
    followed
}

fn readers(graph: &Graph, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
    let outputs = graph.get(id).map_or(0, |node| node.outputs().len());
    (0..outputs).flat_map(move |output| {
        let uses = graph.uses(ValueId::new(id, output));
        uses.iter().map(|found| found.node).collect::<Vec<_>>()
    })
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
            "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" | "Flatten" | "Identity" => {
                at = graph.input(value.node, 0);
            }
            _ => return false,
        }
    }
    false
}

/// Nodes behind `id`, itself left out, in no particular order.
pub(super) fn behind(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    let mut seen = HashSet::from([id]);
    let mut found = Vec::new();
    let mut open = vec![id];
    while let Some(at) = open.pop() {
        for reader in readers(graph, at).filter(|reader| graph.operator(*reader).is_some()) {
            if seen.insert(reader) {
                found.push(reader);
                open.push(reader);
            }
        }
    }
    found
}

/// Whether an answer of the model comes from `id`.
fn reaches_output(graph: &Graph, id: NodeId) -> bool {
    let answers = |id: NodeId| {
        let outputs = graph.get(id).map_or(0, |node| node.outputs().len());
        (0..outputs).any(|output| graph.is_graph_output(ValueId::new(id, output)))
    };
    answers(id) || behind(graph, id).into_iter().any(answers)
}

/// Whether what `id` answers is cut into parts: by a Split, or by more than one Slice of one value.
fn parts(graph: &Graph, id: NodeId) -> bool {
    std::iter::once(id).chain(behind(graph, id)).any(|at| {
        let splits = graph.operator(at).is_some_and(|operator| operator.is("Split"));
        let slices = readers(graph, at)
            .filter(|reader| {
                graph
                    .operator(*reader)
                    .is_some_and(|operator| operator.is("Slice"))
            })
            .count();
        splits && at != id || slices > 1
    })
}

/// The share of `nodes` in the multiply-accumulates; 0 where they are not known.
fn share(nodes: &[NodeId], costs: &[NodeCost]) -> f64 {
    let known: HashMap<NodeId, u64> = costs
        .iter()
        .filter(|cost| cost.path == GraphPath::MAIN)
        .filter_map(|cost| Some((cost.node, cost.macs?)))
        .collect();
    let all: u64 = known.values().sum();
    let own: u64 = nodes.iter().filter_map(|node| known.get(node)).sum();
    if all == 0 { 0.0 } else { own as f64 / all as f64 }
}
