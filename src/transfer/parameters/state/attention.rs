//! Projections of an attention, told apart by where their results go.

use std::collections::BTreeSet;

use crate::ir::{Graph, NodeId, Slot, ValueId};

/// What a projection makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Projection {
    /// What asks.
    Query,
    /// What is asked for.
    Key,
    /// What is answered.
    Value,
}

impl Projection {
    /// Its place in a packed weight, and the letter that PyTorch calls it by.
    pub(super) fn place(self) -> (u64, &'static str) {
        match self {
            Projection::Query => (0, "q"),
            Projection::Key => (1, "k"),
            Projection::Value => (2, "v"),
        }
    }
}

/// Operators that leave every number what it is to an attention, but for a factor, an offset or its place.
const ON_THE_WAY: [&str; 17] = [
    "Reshape",
    "Transpose",
    "Mul",
    "Div",
    "Add",
    "Squeeze",
    "Unsqueeze",
    "Identity",
    "Cast",
    "Expand",
    "Flatten",
    "Where",
    "Sqrt",
    "Concat",
    "Slice",
    "Gather",
    "Split",
];

/// What the attention that reads a value takes it for; `None` where none does, or several ways disagree.
pub(super) fn projection(graph: &Graph, value: ValueId) -> Option<Projection> {
    let mut found = BTreeSet::new();
    for (node, slot) in ends(graph, value) {
        let operator = graph.operator(node)?;
        match &*operator.op_type {
            "MatMul" if graph.constant(graph.input(node, 1 - slot.min(1))?).is_none() => {
                let scores = leads_to_softmax(graph, ValueId::new(node, 0));
                let weighs = graph
                    .input(node, 0)
                    .is_some_and(|value| comes_from_softmax(graph, value));
                match (scores, weighs, slot) {
                    (true, _, 0) => found.insert(Projection::Query),
                    (true, _, _) => found.insert(Projection::Key),
                    (false, true, 1) => found.insert(Projection::Value),
                    _ => return None,
                };
            }
            "Attention" | "MultiHeadAttention" => {
                found.insert(match slot {
                    0 => Projection::Query,
                    1 => Projection::Key,
                    2 => Projection::Value,
                    _ => return None,
                });
            }
            _ => {}
        }
    }
    match found.len() {
        1 => found.first().copied(),
        _ => None,
    }
}

/// The first operators behind a value that are not merely on the way.
fn ends(graph: &Graph, value: ValueId) -> Vec<(NodeId, usize)> {
    let mut ends = Vec::new();
    let mut seen = BTreeSet::from([value]);
    let mut pending = vec![value];
    while let Some(value) = pending.pop() {
        for at in graph.uses(value) {
            let (Some(operator), Slot::Input(slot)) = (graph.operator(at.node), at.slot) else {
                continue;
            };
            if ON_THE_WAY.iter().any(|name| operator.is(name)) {
                let outputs = graph.get(at.node).map_or(0, |node| node.outputs().len());
                pending.extend(
                    (0..outputs)
                        .map(|output| ValueId::new(at.node, output))
                        .filter(|next| seen.insert(*next)),
                );
            } else if !operator.is("Shape") {
                ends.push((at.node, slot as usize));
            }
        }
    }
    ends
}

fn leads_to_softmax(graph: &Graph, value: ValueId) -> bool {
    ends(graph, value).iter().any(|(node, _)| {
        graph
            .operator(*node)
            .is_some_and(|operator| operator.is("Softmax"))
    })
}

fn comes_from_softmax(graph: &Graph, mut value: ValueId) -> bool {
    const BOUND: usize = 32;
    for _ in 0..BOUND {
        let Some(operator) = graph.operator(value.node) else {
            return false;
        };
        if operator.is("Softmax") {
            return true;
        }
        // Dropout, rows without any score and changes of form lie between.
        let slot = if operator.is("Where") { 2 } else { 0 };
        match graph.input(value.node, slot) {
            Some(before) if !operator.is("MatMul") => value = before,
            _ => return false,
        }
    }
    false
}
