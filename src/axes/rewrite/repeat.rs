//! Repeating units: every slice that produces a unit is copied, and what sums over it counts each copy for a share.
//!
//! Source: Chen, Goodfellow, Shlens: Net2Net: Accelerating Learning via Knowledge Transfer (2016), section 2.3.

use std::collections::BTreeMap;

use super::super::elements::Axis;
use super::super::solve::Solution;
use super::super::units::{Group, Removal};
use super::{RewriteError, apply};
use crate::ir::{DType, Graph, Model, NodeId, NodeKind, Operator, Slot, Tensor, TensorError, Use, ValueId};
use crate::ops::Traits;

/// Why the units of a group cannot be repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// The units are pinned.
    #[error("{0}")]
    Pinned(String),
    /// A unit is tied to factors of an axis that are units themselves.
    #[error("its units are products of others")]
    Product,
    /// A constant is no float tensor.
    #[error("{constant} holds {dtype}")]
    Type {
        /// The constant.
        constant: String,
        /// Its elements.
        dtype: DType,
    },
    /// An operator sums over the units without weights that could be divided.
    #[error("{operator} {node} sums over it without weights")]
    Sum {
        /// Operator type.
        operator: String,
        /// The node.
        node: String,
    },
    /// An operator reads the units in a way that copies would change.
    #[error("{operator} {node} does not treat copies alike")]
    Operator {
        /// Operator type.
        operator: String,
        /// The node.
        node: String,
    },
    /// A constant is summed over by one reader and not by another.
    #[error("{constant} is read in two ways")]
    Roles {
        /// The constant.
        constant: String,
    },
}

/// What an operator does along an axis of one of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Each element goes its own way.
    Carries,
    /// Products with the elements are summed up.
    Sums,
}

/// Whether each group of units can be repeated, in the order of [`Solution::groups`].
pub fn repeatable(model: &Model, solution: &Solution) -> Vec<Result<(), Obstacle>> {
    verdicts(model, solution, true)
}

/// Whether the units of each group can be put in another order, in the order of [`Solution::groups`]: as [`repeatable`], but sums and
/// element types do not matter.
pub fn permutable(model: &Model, solution: &Solution) -> Vec<Result<(), Obstacle>> {
    verdicts(model, solution, false)
}

fn verdicts(model: &Model, solution: &Solution, copies: bool) -> Vec<Result<(), Obstacle>> {
    let graph = &model.graph;
    // The first thing in the way of each class.
    let mut blocked: BTreeMap<u32, Obstacle> = BTreeMap::new();
    let mut block = |axis: Axis, obstacle: &dyn Fn() -> Obstacle| {
        for element in axis.elements() {
            if let Some(root) = solution.roots.get(element as usize) {
                blocked.entry(*root).or_insert_with(obstacle);
            }
        }
    };
    let named = |id| {
        let operator = graph
            .operator(id)
            .map_or("Constant", |operator| operator.op_type.as_str());
        (operator.to_owned(), graph.label(id))
    };
    for sum in solution.sums().iter().filter(|_| copies) {
        let axis = graph
            .input(sum.node, sum.slot)
            .and_then(|value| solution.axes(value)?.get(sum.axis).copied());
        if let Some(axis) = axis {
            let (operator, node) = named(sum.node);
            block(axis, &|| Obstacle::Sum {
                operator: operator.clone(),
                node: node.clone(),
            });
        }
    }
    for id in graph.node_ids() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        for (slot, value) in graph.inputs_of(id).into_iter().enumerate() {
            let Some(value) = value else { continue };
            for (at, axis) in solution.axes(value).unwrap_or_default().iter().enumerate() {
                if axis.is_free() && role(graph, id, operator, slot, at, value).is_none() {
                    let (operator, node) = named(id);
                    block(*axis, &|| Obstacle::Operator {
                        operator: operator.clone(),
                        node: node.clone(),
                    });
                }
            }
        }
    }
    solution
        .groups()
        .iter()
        .map(|group| judge(graph, group, &blocked, copies))
        .collect()
}

fn judge(
    graph: &Graph,
    group: &Group,
    blocked: &BTreeMap<u32, Obstacle>,
    copies: bool,
) -> Result<(), Obstacle> {
    if let Some(pin) = &group.pin {
        return Err(Obstacle::Pinned(pin.to_string()));
    }
    for unit in &group.units {
        let [class] = unit.classes() else {
            return Err(Obstacle::Product);
        };
        if let Some(obstacle) = blocked.get(class) {
            return Err(obstacle.clone());
        }
    }
    for member in group.members.iter().filter(|_| copies) {
        let dtype = graph.ty(member.value).dtype().unwrap_or(DType::F32);
        if !matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            return Err(Obstacle::Type {
                constant: member.name.clone(),
                dtype,
            });
        }
        if roles(graph, member.value, member.axis).is_none() {
            return Err(Obstacle::Roles {
                constant: member.name.clone(),
            });
        }
    }
    Ok(())
}

/// The role that all readers of a constant give to an axis of it; `None` if they differ or one is not known.
fn roles(graph: &Graph, value: ValueId, axis: usize) -> Option<Role> {
    let mut found = None;
    for Use { node, slot } in graph.uses(value) {
        let Slot::Input(slot) = slot else { return None };
        let role = role(graph, node, graph.operator(node)?, slot as usize, axis, value)?;
        if *found.get_or_insert(role) != role {
            return None;
        }
    }
    Some(found.unwrap_or(Role::Carries))
}

/// What an operator does along an axis of the value in a slot; `None` if copies of an element could change its result otherwise.
fn role(
    graph: &Graph,
    reader: NodeId,
    operator: &Operator,
    slot: usize,
    axis: usize,
    value: ValueId,
) -> Option<Role> {
    let constant = matches!(
        graph.get(value.node).map(|node| &node.kind),
        Some(NodeKind::Constant(_))
    );
    let rank = graph.ty(value).rank()?;
    let sums = |yes: bool| Some(if yes { Role::Sums } else { Role::Carries });
    if !operator.domain().is_empty() {
        return None;
    }
    match operator.op_type.as_str() {
        "Conv" if slot == 1 => {
            let group = operator.int("group").unwrap_or(1);
            let within = graph.ty(value).shape()?.get(1)?.fixed()?;
            // With several groups only the form with one channel each is a copy of itself.
            (constant && (group == 1 || within == 1)).then_some(())?;
            sums(axis == 1 && group == 1)
        }
        "ConvTranspose" if slot == 1 => {
            (constant && operator.int("group").unwrap_or(1) == 1).then_some(())?;
            sums(axis == 0)
        }
        "Gemm" if slot < 2 => {
            let transposed = operator
                .int(if slot == 0 { "transA" } else { "transB" })
                .unwrap_or(0)
                != 0;
            let inner = if (slot == 0) != transposed { 1 } else { 0 };
            // On the data's side it is the weights that are divided.
            sums(axis == inner && constant)
        }
        "MatMul" => {
            let inner = if slot == 0 {
                rank - 1
            } else {
                rank.saturating_sub(2)
            };
            sums(axis == inner && constant)
        }
        "LSTM" | "GRU" | "RNN" => sums(axis == 2 && (slot == 1 || slot == 2)),
        "Conv"
        | "ConvTranspose"
        | "Gemm"
        | "BatchNormalization"
        | "InstanceNormalization"
        | "MaxPool"
        | "AveragePool"
        | "GlobalAveragePool"
        | "GlobalMaxPool"
        | "LpPool"
        | "GlobalLpPool"
        | "Concat"
        | "Flatten"
        | "Reshape"
        | "Transpose"
        | "Squeeze"
        | "Unsqueeze"
        | "Dropout"
        | "Pad"
        | "Resize"
        | "Upsample"
        | "Shape"
        | "ReduceMean"
        | "ReduceSum"
        | "ReduceMax"
        | "ReduceMin"
        | "Expand" => sums(false),
        // Along the axis itself these are pinned, or known to sum.
        "Softmax" | "LogSoftmax" | "LayerNormalization" | "RMSNormalization" | "LRN" => sums(false),
        "Gather" | "Split" if slot == 0 => {
            let along = operator.int("axis").unwrap_or(0);
            let along = if along < 0 { along + rank as i64 } else { along };
            (along != axis as i64).then_some(Role::Carries)
        }
        "Slice" if slot == 0 => {
            let listed = |name: &str, slot: usize| match operator.ints(name) {
                Some(list) => Some(list.to_vec()),
                None => graph.constant(graph.input(reader, slot)?)?.to_i64().ok(),
            };
            let cut = match listed("axes", 3) {
                Some(axes) => axes,
                None if graph.input(reader, 3).is_some() => return None,
                None => (0..listed("starts", 1)?.len() as i64).collect(),
            };
            let named = |at: &i64| (if *at < 0 { at + rank as i64 } else { *at }) == axis as i64;
            (!cut.iter().any(named)).then_some(Role::Carries)
        }
        other => {
            let traits = Traits::of("", other);
            (traits.elementwise_unary || traits.elementwise_broadcast).then_some(Role::Carries)
        }
    }
}

/// The model with repeated units. `share` says for a class and a copy of it what part of the sum the copy is; the shares of all
/// copies of a class have the sum 1.
///
/// # Errors
/// When the graph cannot follow; groups that [`repeatable`] accepts can be repeated.
pub fn repeat(
    model: &Model,
    solution: &Solution,
    repetition: &Removal,
    share: &dyn Fn(u32, u32) -> f64,
    origin: &'static str,
) -> Result<Model, RewriteError> {
    let graph = &model.graph;
    let adjust = |value: ValueId, tensor: Tensor| -> Result<Tensor, TensorError> {
        let axes = solution.axes(value).unwrap_or_default();
        let mut scaled: Option<Vec<f64>> = None;
        for (at, axis) in axes.iter().enumerate() {
            if repetition.kept(*axis).is_none() || roles(graph, value, at) != Some(Role::Sums) {
                continue;
            }
            let values = match &mut scaled {
                Some(values) => values,
                None => scaled.insert(tensor.to_f64()?),
            };
            let placed = repetition.placed(*axis);
            let inner = tensor.dims().iter().skip(at + 1).product::<u64>().max(1) as usize;
            for (block, run) in values.chunks_mut(inner).enumerate() {
                let Some(placed) = placed.get(block % placed.len().max(1)) else {
                    continue;
                };
                let share = share(placed.class, placed.copy);
                if share != 1.0 {
                    run.iter_mut().for_each(|value| *value *= share);
                }
            }
        }
        match scaled {
            Some(values) => Tensor::from_f64(tensor.dtype(), tensor.dims(), &values),
            None => Ok(tensor),
        }
    };
    apply(model, solution, repetition, origin, &adjust)
}
