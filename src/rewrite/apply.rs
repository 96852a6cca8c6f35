//! Puts a plan into the graph, if that is allowed and pays.

use std::collections::BTreeSet;

use crate::analysis::infer_node;
use crate::ir::{
    Dim, EditError, Graph, Imports, Name, NodeId, NodeKind, NodeMeta, Shape, Tensor, Value, ValueId,
};

use super::cost::{Cost, macs, node_macs, shape_of};
pub(crate) use super::matcher::readers_of;
use super::plan::Plan;
use super::value::{Reason, Val};

/// About what an operator without its constants takes in a file.
const OPERATOR_BYTES: i64 = 64;

/// What holds for every rewrite of a run.
pub(crate) struct Bounds<'a> {
    /// Whether the user protects a name.
    pub(crate) keep: &'a dyn Fn(&str) -> bool,
    /// Bytes of constants that may still be added; below 0 none.
    pub(crate) growth: i64,
    /// Operators of the pattern: where the cost is the same, the way to the result has to become shorter.
    pub(crate) pattern: usize,
    /// Whether the rewrite must lower the cost.
    pub(crate) must_pay: bool,
}

/// What a rewrite did.
#[derive(Debug)]
pub(crate) struct Applied {
    /// Bytes added, less those removed.
    pub(crate) growth: i64,
    pub(crate) added: Vec<NodeId>,
    /// Values that now stand for others.
    pub(crate) values: Vec<ValueId>,
    /// Values that removed nodes read: they have fewer readers now.
    pub(crate) freed: Vec<ValueId>,
}

/// Why a plan was not put into the graph.
pub(crate) enum Refusal {
    /// It would not help, or is not possible here.
    NoEffect(Reason),
    /// It touches what the user protects.
    Kept(String),
    /// An edit failed although it was checked before: a defect.
    Edit(EditError),
}

/// Applies a plan whose root is `root`.
pub(crate) fn apply(
    graph: &mut Graph,
    imports: &Imports,
    origin: &str,
    root: NodeId,
    plan: &Plan,
    bounds: &Bounds<'_>,
) -> Result<Applied, Refusal> {
    let (dead, growth) = check(graph, plan, bounds)?;
    let identity = inherited_identity(graph, plan, &dead);
    let freed: Vec<ValueId> = dead
        .iter()
        .flat_map(|id| graph.inputs_of(*id).into_iter().flatten())
        .collect();
    let mut edit = graph.edit(origin);
    let mut added: Vec<NodeId> = Vec::with_capacity(plan.nodes.len());
    let mut constants: Vec<NodeId> = Vec::new();
    let mut shared: Vec<(Tensor, ValueId)> = Vec::new();
    let mut constant = |edit: &mut crate::ir::Editor<'_>, tensor: &Tensor| {
        if let Some((_, id)) = shared
            .iter()
            .find(|(known, _)| known.shares_data_with(tensor) && known.same_as(tensor))
        {
            return *id;
        }
        let id = edit.add_constant("", tensor.clone());
        constants.push(id.node);
        shared.push((tensor.clone(), id));
        id
    };
    for (index, planned) in plan.nodes.iter().enumerate() {
        let inputs: Vec<Option<ValueId>> = planned
            .inputs
            .iter()
            .map(|value| match value {
                Val::Value(id) => Some(*id),
                Val::Tensor(tensor) => Some(constant(&mut edit, tensor)),
                Val::New(node, output) => added.get(*node).map(|id| ValueId::new(*id, *output)),
                _ => None,
            })
            .collect();
        let outputs = (0..planned.outputs).map(|_| Value::default()).collect();
        let id = edit
            .add_operator(root, planned.operator.clone(), &inputs, outputs)
            .map_err(Refusal::Edit)?;
        added.push(id);
        if let Some((_, name, meta)) = identity.iter().find(|(at, ..)| *at == index) {
            edit.set_node_name(id, name.clone()).map_err(Refusal::Edit)?;
            edit.set_node_meta(id, meta.clone()).map_err(Refusal::Edit)?;
        }
        edit.analyse(|graph| infer_node(graph, id, imports));
    }
    let mut values = Vec::new();
    let mut failure = None;
    for (old, new) in &plan.results {
        let new = match new {
            Val::Value(id) => *id,
            Val::Tensor(tensor) => constant(&mut edit, tensor),
            Val::New(node, output) => match added.get(*node) {
                Some(id) => ValueId::new(*id, *output),
                None => continue,
            },
            _ => continue,
        };
        // What was known of the old value also holds for the new one.
        let (old_type, new_type) = (edit.graph().ty(*old).clone(), edit.graph().ty(new).clone());
        if let Err(error) = edit.replace(*old, new) {
            failure = Some(error);
            break;
        }
        let known = edit.graph().value(new).and_then(|value| value.content.clone());
        edit.set_facts(new, new_type.refined_by(&old_type), known)
            .map_err(Refusal::Edit)?;
        values.push(new);
    }
    if let Some(error) = failure {
        // Only the first result can fail: the others were checked, so nothing has been replaced yet.
        for id in added.iter().rev().chain(&constants) {
            edit.remove_unused(*id);
        }
        return Err(match error {
            EditError::Type { .. } | EditError::OutputName { .. } | EditError::Cycle { .. }
                if values.is_empty() =>
            {
                Refusal::NoEffect(Reason::Owned(error.to_string()))
            }
            error => Refusal::Edit(error),
        });
    }
    for id in &dead {
        edit.remove(*id).map_err(Refusal::Edit)?;
    }
    Ok(Applied {
        growth,
        added,
        values,
        freed,
    })
}

/// Refuses a plan that is not possible, adds too much or does not pay: none of it depends on the values of constants. Answers the nodes
/// that nothing reads then, and the bytes that are added.
pub(crate) fn check(graph: &Graph, plan: &Plan, bounds: &Bounds<'_>) -> Result<(Vec<NodeId>, i64), Refusal> {
    check_results(graph, plan)?;
    let dead = dead_nodes(graph, plan, bounds)?;
    let growth = added_bytes(plan) + OPERATOR_BYTES * plan.nodes.len() as i64 - dead_bytes(graph, &dead);
    if growth > bounds.growth.max(0) {
        return Err(Refusal::NoEffect(Reason::Owned(format!(
            "the constants would grow by {growth} bytes"
        ))));
    }
    if bounds.must_pay {
        check_cost(graph, plan, &dead, bounds.pattern)?;
    }
    Ok((dead, growth))
}

/// Whether every result can take the place of what it stands for.
fn check_results(graph: &Graph, plan: &Plan) -> Result<(), Refusal> {
    for (old, new) in &plan.results {
        let Val::Value(new) = new else {
            if let Val::Tensor(tensor) = new
                && graph.ty(*old).contradicts(&crate::ir::tensor_type(tensor))
            {
                return Err(Refusal::NoEffect(Reason::Borrowed(
                    "the result is of another type",
                )));
            }
            continue;
        };
        if graph.ty(*old).contradicts(graph.ty(*new)) {
            let reason = format!("{} cannot stand for {}", graph.ty(*new), graph.ty(*old));
            return Err(Refusal::NoEffect(Reason::Owned(reason)));
        }
        if graph.is_graph_output(*old) {
            let named_by_node = matches!(
                graph.get(new.node).map(|n| &n.kind),
                Some(NodeKind::Operator(_) | NodeKind::Constant(_))
            );
            if !named_by_node || graph.is_graph_output(*new) {
                return Err(Refusal::NoEffect(Reason::Borrowed(
                    "the name of a graph output would be lost",
                )));
            }
        }
    }
    Ok(())
}

/// Nodes that nothing reads once the results stand in place, readers before what they read.
fn dead_nodes(graph: &Graph, plan: &Plan, bounds: &Bounds<'_>) -> Result<Vec<NodeId>, Refusal> {
    let referenced: BTreeSet<NodeId> = plan
        .nodes
        .iter()
        .flat_map(|node| &node.inputs)
        .chain(plan.results.iter().map(|(_, new)| new))
        .filter_map(|value| {
            if let Val::Value(id) = value {
                Some(id.node)
            } else {
                None
            }
        })
        .collect();
    let replaced: BTreeSet<ValueId> = plan.results.iter().map(|(old, _)| *old).collect();
    let kept = |id: NodeId| -> Option<String> {
        let node = graph.get(id)?;
        node.operator()?;
        let names = node
            .name
            .iter()
            .chain(node.outputs().iter().map(|value| &value.name));
        names
            .filter(|name| !name.is_empty())
            .find(|name| (bounds.keep)(name))
            .map(Name::to_string)
    };
    let mut dead: Vec<NodeId> = Vec::new();
    let mut members: BTreeSet<NodeId> = BTreeSet::new();
    let mut pending: Vec<NodeId> = Vec::new();
    for old in &replaced {
        if let Some(name) = kept(old.node) {
            return Err(Refusal::Kept(name));
        }
        if !pending.contains(&old.node) {
            pending.push(old.node);
        }
    }
    while let Some(id) = pending.pop() {
        let removable = matches!(
            graph.get(id).map(|node| &node.kind),
            Some(NodeKind::Operator(_) | NodeKind::Constant(_) | NodeKind::Capture(_))
        );
        let unread = |graph: &Graph| {
            graph.readers(id).all(|(output, reader)| {
                members.contains(&reader.node) || replaced.contains(&ValueId { node: id, output })
            })
        };
        if !removable
            || members.contains(&id)
            || referenced.contains(&id)
            || !unread(graph)
            || kept(id).is_some()
        {
            continue;
        }
        members.insert(id);
        dead.push(id);
        let sources = graph
            .inputs_of(id)
            .into_iter()
            .chain(graph.captures_of(id))
            .flatten();
        pending.extend(sources.map(|value| value.node));
    }
    Ok(dead)
}

fn added_bytes(plan: &Plan) -> i64 {
    let mut seen: Vec<&Tensor> = Vec::new();
    let mut bytes = 0;
    let values = plan
        .nodes
        .iter()
        .flat_map(|node| &node.inputs)
        .chain(plan.results.iter().map(|(_, new)| new));
    for value in values {
        if let Val::Tensor(tensor) = value
            && !seen.iter().any(|known| known.shares_data_with(tensor))
        {
            seen.push(tensor);
            bytes += tensor.byte_len() as i64;
        }
    }
    bytes
}

fn dead_bytes(graph: &Graph, dead: &[NodeId]) -> i64 {
    let bytes = |id: &NodeId| match graph.get(*id).map(|node| &node.kind) {
        Some(NodeKind::Operator(_)) => OPERATOR_BYTES,
        Some(NodeKind::Constant(constant)) => constant
            .tensor
            .as_ref()
            .map_or(0, |tensor| tensor.byte_len() as i64),
        _ => 0,
    };
    dead.iter().map(bytes).sum()
}

fn check_cost(graph: &Graph, plan: &Plan, dead: &[NodeId], pattern: usize) -> Result<(), Refusal> {
    let mut before = Cost::default();
    let mut old_macs = Dim::Fixed(0);
    for id in dead {
        let Some(operator) = graph.operator(*id) else {
            continue;
        };
        let reads = graph
            .inputs_of(*id)
            .into_iter()
            .flatten()
            .filter(|value| graph.constant(*value).is_none());
        before.add(&operator.op_type, reads.count());
        old_macs = old_macs.add(&node_macs(graph, *id));
    }
    let mut after = Cost::default();
    let mut new_macs = Dim::Fixed(0);
    for (index, node) in plan.nodes.iter().enumerate() {
        let reads = node.inputs.iter().filter(|value| match value {
            Val::Value(id) => graph.constant(*id).is_none(),
            Val::New(..) => true,
            _ => false,
        });
        after.add(&node.operator.op_type, reads.count());
        let shapes: Vec<Option<Shape>> = node
            .inputs
            .iter()
            .map(|value| match value {
                Val::Value(id) => shape_of(graph, *id),
                Val::Tensor(tensor) => crate::ir::tensor_type(tensor).shape().cloned(),
                _ => None,
            })
            .collect();
        let result = plan
            .results
            .iter()
            .find(|(_, new)| matches!(new, Val::New(node, 0) if *node == index));
        let output = result.and_then(|(old, _)| shape_of(graph, *old));
        new_macs = new_macs.add(&macs(&node.operator, &shapes, output.as_ref()));
    }
    if after > before || after == before && plan.nodes.len() >= pattern {
        return Err(Refusal::NoEffect(Reason::Owned(format!(
            "it would cost {after} instead of {before}"
        ))));
    }
    if new_macs.sub(&old_macs).at_least(1) {
        return Err(Refusal::NoEffect(Reason::Owned(format!(
            "it would take {new_macs} multiplications instead of {old_macs}"
        ))));
    }
    Ok(())
}

/// A new operator of the type of a removed one keeps that one's name, documentation and metadata (the module it comes from, say); one of
/// another type those of the removed operator whose result it computes now.
fn inherited_identity(graph: &Graph, plan: &Plan, dead: &[NodeId]) -> Vec<(usize, Option<Name>, NodeMeta)> {
    let mut taken: Vec<NodeId> = Vec::new();
    let mut pairs: Vec<(usize, NodeId)> = Vec::new();
    for (index, planned) in plan.nodes.iter().enumerate() {
        let same = dead.iter().find(|id| {
            !taken.contains(id)
                && graph
                    .operator(**id)
                    .is_some_and(|operator| operator.op_type == planned.operator.op_type)
        });
        if let Some(id) = same {
            taken.push(*id);
            pairs.push((index, *id));
        }
    }
    let taken_by_type = taken.clone();
    for (old, new) in &plan.results {
        if let Val::New(index, _) = new
            && pairs.iter().all(|(known, _)| known != index)
            && dead.contains(&old.node)
            && !taken.contains(&old.node)
        {
            taken.push(old.node);
            pairs.push((*index, old.node));
        }
    }
    let identity = |(index, id): (usize, NodeId)| {
        let node = graph.get(id)?;
        let mut meta = node.meta.as_deref().cloned().unwrap_or_default();
        if !taken_by_type.contains(&id) {
            // These are about the operator that was there.
            meta.overload = None;
            meta.device_configurations.clear();
        }
        (node.name.is_some() || node.meta.is_some()).then(|| (index, node.name.clone(), meta))
    };
    pairs.into_iter().filter_map(identity).collect()
}
