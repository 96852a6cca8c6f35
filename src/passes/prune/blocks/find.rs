//! Residual blocks: regions that only add to a value.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::linear;
use crate::ir::{Dim, Graph, NodeId, ValueId, ValueType};

/// A region between a value and an addition to it: without the region the sum is the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The addition.
    pub add: NodeId,
    /// What is added to; it stays.
    pub skip: ValueId,
    /// What is added, the region's result.
    pub branch: ValueId,
    /// The nodes on the ways from the one to the other, in the order of the graph.
    pub nodes: Vec<NodeId>,
}

/// The blocks of a graph, and the additions that look like the end of one and are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The blocks, in the order of their additions.
    pub blocks: Vec<Block>,
    /// Additions of two computed values that are the end of no block, and why.
    pub others: Vec<(NodeId, &'static str)>,
}

/// Finds the blocks of a graph whose types have been inferred.
///
/// The region is what depends on the value and is needed for what is added; it may read other values, such as masks. It has a layer
/// with weights: an activation function that is made of several operators, such as GELU, is no block.
pub fn find(graph: &Graph) -> Found {
    let order = graph.topological_order();
    let place: BTreeMap<NodeId, usize> = order.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let mut found = Found::default();
    for add in order {
        let Some([a, b]) = summands(graph, add) else {
            continue;
        };
        if !have_one_shape(graph, [a, b, ValueId::new(add, 0)]) {
            continue;
        }
        let before = |value: ValueId| ancestors(graph, value, &place);
        let both = [(a, b, before(b)), (b, a, before(a))];
        let Some((skip, branch, nodes)) = both
            .into_iter()
            .find(|(skip, _, nodes)| nodes.contains(&skip.node))
        else {
            found.others.push((
                add,
                "neither summand is computed from the other: a projection stands beside",
            ));
            continue;
        };
        let region = between(graph, skip, &nodes, &place);
        if !region.iter().any(|id| has_weights(graph, *id)) {
            continue;
        }
        let inside: BTreeSet<NodeId> = region.iter().copied().collect();
        let leaves = |id: &NodeId| {
            let outside = |node: NodeId| !inside.contains(&node) && node != add && !reads_shape(graph, node);
            graph.readers(*id).any(|(_, user)| outside(user.node))
        };
        if region.iter().any(leaves) {
            found.others.push((add, "a value inside is read outside as well"));
            continue;
        }
        found.blocks.push(Block {
            add,
            skip,
            branch,
            nodes: region,
        });
    }
    found
}

/// The two computed values that a node adds.
fn summands(graph: &Graph, id: NodeId) -> Option<[ValueId; 2]> {
    let operator = graph.operator(id)?;
    if !(operator.is("Add") || operator.is("Sum") && operator.input_count() == 2) {
        return None;
    }
    let inputs = [graph.input(id, 0)?, graph.input(id, 1)?];
    let computed = |value: &ValueId| graph.constant(*value).is_none();
    (inputs.iter().all(computed) && inputs[0] != inputs[1]).then_some(inputs)
}

/// Whether the values are tensors of one type and shape, as far as is known: none is stretched to another.
fn have_one_shape(graph: &Graph, values: [ValueId; 3]) -> bool {
    let shapes = values.map(|value| match graph.ty(value) {
        ValueType::Tensor(tensor) => tensor.shape.as_ref().map(|shape| (tensor.dtype, shape)),
        _ => None,
    });
    let [Some(a), Some(b), Some(c)] = shapes else {
        return false;
    };
    let same = |(a, b): (&Dim, &Dim)| a == b;
    [b, c]
        .iter()
        .all(|other| other.0 == a.0 && other.1.len() == a.1.len() && a.1.iter().zip(other.1.iter()).all(same))
}

/// The nodes that a value depends on, with its own.
fn ancestors(graph: &Graph, value: ValueId, place: &BTreeMap<NodeId, usize>) -> BTreeSet<NodeId> {
    let (mut found, mut pending) = (BTreeSet::new(), vec![value.node]);
    while let Some(id) = pending.pop() {
        if !place.contains_key(&id) || !found.insert(id) {
            continue;
        }
        let read = graph.inputs_of(id).into_iter().chain(graph.captures_of(id));
        pending.extend(read.flatten().map(|value| value.node));
    }
    found
}

/// Those of `nodes` that depend on `skip` by more than its shape, in the order of the graph.
fn between(
    graph: &Graph,
    skip: ValueId,
    nodes: &BTreeSet<NodeId>,
    place: &BTreeMap<NodeId, usize>,
) -> Vec<NodeId> {
    let (mut found, mut pending) = (BTreeMap::new(), Vec::new());
    let mut push = |user: NodeId, pending: &mut Vec<NodeId>| {
        if let Some(at) = place.get(&user).filter(|_| nodes.contains(&user))
            && !reads_shape(graph, user)
            && found.insert(*at, user).is_none()
        {
            pending.push(user);
        }
    };
    for user in graph.readers_of(skip) {
        push(user.node, &mut pending);
    }
    while let Some(id) = pending.pop() {
        for (_, user) in graph.readers(id) {
            push(user.node, &mut pending);
        }
    }
    found.into_values().collect()
}

/// Whether a node reads the shape of a value and none of its elements.
fn reads_shape(graph: &Graph, id: NodeId) -> bool {
    let operator = graph.operator(id);
    operator.is_some_and(|operator| operator.is("Shape") || operator.is("Size"))
}

fn has_weights(graph: &Graph, id: NodeId) -> bool {
    let Some(operator) = graph.operator(id) else {
        return false;
    };
    let is_weight = |slot: &usize| {
        let read = graph.input(id, *slot).and_then(|value| graph.constant(value));
        read.is_some_and(|tensor| tensor.rank() >= 2)
    };
    operator.has_bodies() || linear::weight_slots(operator).iter().any(is_weight)
}
