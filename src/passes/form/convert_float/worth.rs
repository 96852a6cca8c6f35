//! Whether a conversion pays: operators that are converted together save half of their weights and cost the Casts around them.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::{ConversionPlan, Decisions};
use crate::ir::{DType, Graph, GraphPath, Model, NodeId, NodeKind, Slot, Tensor, Use, ValueId};

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
pub(super) fn leave_what_does_not_pay(plan: &mut ConversionPlan, model: &Model) {
    let Weighed {
        mut losing,
        left,
        reached,
    } = weigh_all(plan, model);
    // Single numbers, as bounds and scales are, are no weights to save on.
    let weights = weights(model);
    if left == 0 && reached > 0 && weights > 0 && !is_quantized(model) && 4 * reached >= weights {
        return;
    }
    let reason = if reached > 0 { REASON } else { NOTHING };
    // What stays float keeps the floats of the weights that it shares.
    while !losing.is_empty() {
        for (path, nodes) in losing {
            leave(plan, model, &path, nodes, reason);
        }
        losing = weigh_all(plan, model).losing;
    }
}

/// Every group of a plan, weighed.
struct Weighed {
    losing: Vec<(GraphPath, Vec<NodeId>)>,
    /// Operators of the groups that pay.
    left: usize,
    /// Bytes that all groups would save.
    reached: u64,
}

fn weigh_all(plan: &ConversionPlan, model: &Model) -> Weighed {
    let mut weighed = Weighed {
        losing: Vec::new(),
        left: 0,
        reached: 0,
    };
    let wide = read_wide(plan, model);
    for (path, decisions) in &plan.graphs {
        let Some(graph) = model.graph_at(path) else {
            continue;
        };
        for mut group in groups(graph, decisions) {
            weigh((model, path, graph), decisions, &wide, &mut group);
            weighed.reached += group.saved;
            if group.saved > group.added {
                weighed.left += group.nodes.len();
            } else {
                weighed.losing.push((path.clone(), group.nodes));
            }
        }
    }
    weighed
}

/// Takes operators of one graph out of the plan.
fn leave(plan: &mut ConversionPlan, model: &Model, path: &GraphPath, nodes: Vec<NodeId>, reason: &str) {
    let Some(graph) = model.graph_at(path) else {
        return;
    };
    let overridable = nodes.iter().any(|id| reads_default(graph, *id));
    let gives = |id: NodeId| {
        let found = plan.graphs.get(path);
        found.is_some_and(|found| narrow_outputs(found, id).next().is_some())
    };
    let given: BTreeSet<NodeId> = nodes.iter().copied().filter(|id| gives(*id)).collect();
    for id in nodes {
        // What only reads floats, as Shape does, does not care.
        if given.contains(&id) {
            plan.stays(graph, id, if overridable { OVERRIDABLE } else { reason });
        }
        if let Some(decisions) = plan.graphs.get_mut(path) {
            decisions.leave(id);
        }
    }
}

/// A constant and the graph that holds it.
type Stored = (GraphPath, ValueId);

/// The constant that a value of the graph at `path` is, through captures of bodies.
fn stored(model: &Model, path: &GraphPath, value: ValueId) -> Option<Stored> {
    let (mut path, mut value) = (path.clone(), value);
    loop {
        let graph = model.graph_at(&path)?;
        match &graph.get(value.node)?.kind {
            NodeKind::Constant(_) => return Some((path, value)),
            NodeKind::Capture(capture) => (path, value) = model.captured(&path, capture.index)?,
            _ => return None,
        }
    }
}

/// The constants that something reads as floats, in their own graph or in a body.
fn read_wide(plan: &ConversionPlan, model: &Model) -> BTreeSet<Stored> {
    let mut found = BTreeSet::new();
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at(&path) else {
            continue;
        };
        let decisions = plan.graphs.get(&path);
        for id in graph.node_ids() {
            let value = ValueId::new(id, 0);
            // A capture is read where a body reads it.
            let wide = |at: &Use| {
                !matches!(at.slot, Slot::Capture(_)) && !decisions.is_some_and(|all| all.reads_narrow(*at))
            };
            let constant = matches!(
                graph.get(id).map(|node| &node.kind),
                Some(NodeKind::Constant(_) | NodeKind::Capture(_))
            );
            if constant && graph.uses(value).iter().any(wide) {
                found.extend(stored(model, &path, value));
            }
        }
    }
    found
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
    found.into_values().collect()
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
fn weigh(
    (model, path, graph): (&Model, &GraphPath, &Graph),
    decisions: &Decisions,
    wide: &BTreeSet<Stored>,
    group: &mut Group,
) {
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
        match graph.constant(value).map(|tensor| tensor.byte_len() / 2) {
            Some(half) if stored(model, path, value).is_some_and(|constant| wide.contains(&constant)) => {
                group.added += half + name(value);
            }
            Some(half) => group.saved += half,
            None => group.added += CAST + 2 * name(value),
        }
    }
}
