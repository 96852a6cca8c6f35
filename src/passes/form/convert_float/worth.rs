//! Whether a conversion pays: operators that are converted together save half of their weights and cost the Casts around them.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::{Decisions, Plan};
use crate::ir::{DType, Graph, Model, NodeId, NodeKind, Tensor, Use, ValueId};

/// Bytes of a Cast beside the names in it.
const CAST: u64 = 48;
/// Why what does not pay stays float.
const REASON: &str = "its weights are smaller than the Casts around it would be";

/// Why it is so where the weights are inputs.
const OVERRIDABLE: &str = "its weights are also graph inputs, which callers may override (with their defaults made constants they \
     are converted)";

/// Why it is so where no constant would become smaller.
const NOTHING: &str = "no constant of it would become smaller, and Casts would be all that is added (`convert-io` makes the inputs and \
     outputs narrow in their place)";

/// Operators that hand each other narrow values.
#[derive(Default)]
struct Group {
    nodes: Vec<NodeId>,
    saved: u64,
    added: u64,
}

/// Takes out of the plan what does not pay. A model of which nothing would be left is converted all the same where that reaches
/// most of its weights: it is small then. One without constants that become smaller is not, nor is a quantized one.
pub(super) fn leave_what_does_not_pay(plan: &mut Plan, model: &Model) {
    let mut losing: Vec<(crate::ir::GraphPath, Vec<NodeId>)> = Vec::new();
    let (mut left, mut reached) = (0, 0);
    for (path, decisions) in &plan.graphs {
        let Some(graph) = model.graph_at(path) else {
            continue;
        };
        for group in groups(graph, decisions) {
            reached += group.saved;
            if group.saved > group.added {
                left += group.nodes.len();
            } else {
                losing.push((path.clone(), group.nodes));
            }
        }
    }
    if left == 0 && reached > 0 && !is_quantized(model) && 4 * reached >= weights(model) {
        return;
    }
    let reason = if reached > 0 { REASON } else { NOTHING };
    for (path, nodes) in losing {
        let Some(graph) = model.graph_at(&path) else {
            continue;
        };
        let overridable = nodes.iter().any(|id| reads_default(graph, *id));
        let gives = |id: NodeId| {
            let found = plan.graphs.get(&path);
            found.is_some_and(|found| narrow_outputs(found, id).next().is_some())
        };
        let given: BTreeSet<NodeId> = nodes.iter().copied().filter(|id| gives(*id)).collect();
        for id in nodes {
            // What only reads floats, as Shape does, does not care.
            if given.contains(&id) {
                plan.stays(graph, id, if overridable { OVERRIDABLE } else { reason });
            }
            if let Some(decisions) = plan.graphs.get_mut(&path) {
                decisions.leave(id);
            }
        }
    }
}

/// Whether a model has operators that quantize or dequantize.
pub(super) fn is_quantized(model: &Model) -> bool {
    let quantizes = |graph: &Graph| {
        graph.node_ids().any(|id| {
            let name = graph.operator(id).map(|operator| &operator.op_type);
            name.is_some_and(|name| **name == *"QuantizeLinear" || **name == *"DequantizeLinear")
        })
    };
    let paths = model.graph_paths();
    paths
        .iter()
        .filter_map(|path| model.graph_at(path))
        .any(quantizes)
}

/// Whether an operator reads a float input that has a default.
fn reads_default(graph: &Graph, id: NodeId) -> bool {
    let inputs = graph.inputs_of(id).into_iter().flatten();
    inputs
        .filter_map(|value| default(graph, value.node))
        .any(is_weight)
}

/// The default of a graph input.
fn default(graph: &Graph, id: NodeId) -> Option<&Tensor> {
    match &graph.get(id)?.kind {
        NodeKind::Input(input) => input.default.as_ref().map(|(tensor, _)| tensor),
        _ => None,
    }
}

fn is_weight(tensor: &Tensor) -> bool {
    tensor.dtype() == DType::F32 && tensor.elements() > 1
}

/// Bytes of all float constants and defaults of more than one element.
fn weights(model: &Model) -> u64 {
    let of_graph = |graph: &Graph| -> u64 {
        let used = graph.node_ids().filter(|id| graph.is_used(*id));
        let tensors = used.filter_map(|id| graph.get(id)?.constant().or_else(|| default(graph, id)));
        tensors
            .filter(|tensor| is_weight(tensor))
            .map(|tensor| tensor.byte_len())
            .sum()
    };
    let paths = model.graph_paths();
    paths
        .iter()
        .filter_map(|path| model.graph_at(path))
        .map(of_graph)
        .sum()
}

fn groups(graph: &Graph, decisions: &Decisions) -> Vec<Group> {
    let mut parents: BTreeMap<NodeId, NodeId> = decisions.nodes.keys().map(|id| (*id, *id)).collect();
    for value in &decisions.outputs {
        for at in graph.uses(*value) {
            if decisions.reads_narrow(at) && parents.contains_key(&at.node) {
                let (a, b) = (root(&parents, value.node), root(&parents, at.node));
                parents.insert(a.max(b), a.min(b));
            }
        }
    }
    let mut found: BTreeMap<NodeId, Group> = BTreeMap::new();
    for id in decisions.nodes.keys() {
        found.entry(root(&parents, *id)).or_default().nodes.push(*id);
    }
    let mut groups: Vec<Group> = found.into_values().collect();
    groups.iter_mut().for_each(|group| weigh(graph, decisions, group));
    groups
}

/// The outputs of an operator that become narrow.
fn narrow_outputs(decisions: &Decisions, id: NodeId) -> impl Iterator<Item = &ValueId> {
    let from = decisions.outputs.range(ValueId::new(id, 0)..);
    from.take_while(move |value| value.node == id)
}

fn root(parents: &BTreeMap<NodeId, NodeId>, mut id: NodeId) -> NodeId {
    while let Some(parent) = parents.get(&id).filter(|parent| **parent != id) {
        id = *parent;
    }
    id
}

/// Sums up what a group saves and adds.
fn weigh(graph: &Graph, decisions: &Decisions, group: &mut Group) {
    let name = |value: ValueId| graph.value(value).map_or(0, |value| value.name.len() as u64);
    let mut read: BTreeSet<ValueId> = BTreeSet::new();
    for id in &group.nodes {
        let slots = decisions.nodes.get(id).map_or(&[][..], Vec::as_slice);
        read.extend(slots.iter().filter_map(|slot| graph.input(*id, *slot)));
        for value in narrow_outputs(decisions, *id) {
            if graph.uses(*value).iter().any(|at| !decisions.reads_narrow(*at)) {
                group.added += CAST + 2 * name(*value);
            }
        }
    }
    for value in read
        .into_iter()
        .filter(|value| !decisions.outputs.contains(value))
    {
        let stored = matches!(
            graph.get(value.node).map(|node| &node.kind),
            Some(NodeKind::Constant(_))
        );
        match graph.constant(value).map(|tensor| tensor.byte_len() / 2) {
            // Who else reads a captured constant shows outside.
            Some(half) if !stored => group.saved += half,
            Some(half)
                if graph
                    .uses(value)
                    .iter()
                    .all(|at: &Use| decisions.reads_narrow(*at)) =>
            {
                group.saved += half;
            }
            Some(half) => group.added += half + name(value),
            None => group.added += CAST + 2 * name(value),
        }
    }
}
