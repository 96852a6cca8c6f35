//! What could go, what it would free, and what pins the rest.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::choose::Left;
use super::score::Scores;
use crate::analysis::{Cost, cost};
use crate::axes::{Group, Solution};
use crate::ir::{Graph, Model, NodeId};

/// One group of units.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Explained {
    /// The axes of constants that the units cut.
    pub members: Vec<MemberReport>,
    /// Number of units.
    pub units: usize,
    /// Number of units that were removed.
    pub removed: usize,
    /// Lowest and highest score; `None` for a pinned group.
    pub scores: Option<(f64, f64)>,
    /// Bytes of constants that one unit frees.
    pub bytes_per_unit: u64,
    /// Multiply-accumulates that one unit frees, where known.
    pub macs_per_unit: u64,
    /// Why no unit can go, or why the group was left alone.
    pub pinned_by: Option<String>,
}

/// An axis of a constant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MemberReport {
    /// Name of the constant.
    pub constant: String,
    /// The axis.
    pub axis: usize,
    /// Elements of the axis that a unit takes.
    pub per_unit: u32,
}

/// Reasons that say that an axis is none of channels; nobody asks why such an axis was not pruned.
const STRUCTURAL: &[&str] = &[
    "the axis belongs to the kernel",
    "the axis counts directions",
    "the axis is spatial",
    "the axis is time",
    "the axis is the batch",
    "it is the only element of the axis",
];

/// Every group in graph order, but for axes that are no channels.
pub fn explain(model: &Model, solution: &Solution) -> Vec<Explained> {
    describe(model, solution, &Scores::default(), &HashMap::new(), &[])
}

pub(super) fn describe(
    model: &Model,
    solution: &Solution,
    scores: &Scores,
    left: &HashMap<usize, Left>,
    chosen: &[(usize, usize)],
) -> Vec<Explained> {
    let frees = frees(model, solution);
    solution
        .groups()
        .iter()
        .enumerate()
        .filter(|(_, group)| {
            group
                .pin
                .as_ref()
                .is_none_or(|pin| !STRUCTURAL.contains(&pin.reason))
        })
        .map(|(at, group)| {
            let scores = scores.get(at).filter(|scores| !scores.is_empty()).map(|scores| {
                (
                    scores.iter().copied().fold(f64::MAX, f64::min),
                    scores.iter().copied().fold(f64::MIN, f64::max),
                )
            });
            let pinned_by = group.pin.as_ref().map(ToString::to_string).or_else(|| {
                left.get(&at).map(|left| match left {
                    Left::Kept => "a keep pattern".to_owned(),
                    Left::Covered => "units of another group that share its elements".to_owned(),
                })
            });
            Explained {
                members: group
                    .members
                    .iter()
                    .map(|m| MemberReport {
                        constant: m.name.clone(),
                        axis: m.axis,
                        per_unit: m.per_unit,
                    })
                    .collect(),
                units: group.units.len(),
                removed: chosen.iter().filter(|(group, _)| *group == at).count(),
                scores,
                bytes_per_unit: frees.get(at).map_or(0, |frees| frees.bytes),
                macs_per_unit: frees.get(at).map_or(0, |frees| frees.macs),
                pinned_by,
            }
        })
        .collect()
}

/// What one unit of a group frees.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frees {
    /// Bytes of constants.
    pub(super) bytes: u64,
    /// Multiply-accumulates, where known.
    pub(super) macs: u64,
}

/// What a unit of each group frees, in the order of groups.
pub(super) fn frees(model: &Model, solution: &Solution) -> Vec<Frees> {
    let cost = cost(model, &|_| None);
    let macs: HashMap<NodeId, u64> = main_graph(&cost).collect();
    let of = |group: &Group| Frees {
        bytes: bytes(&model.graph, group),
        macs: freed(&model.graph, group, &macs),
    };
    solution.groups().iter().map(of).collect()
}

fn main_graph(cost: &Cost) -> impl Iterator<Item = (NodeId, u64)> {
    let main = cost
        .by_node
        .iter()
        .filter(|node| node.path.function.is_none() && node.path.bodies.is_empty());
    main.filter_map(|node| Some((node.node, node.macs?)))
}

fn bytes(graph: &Graph, group: &Group) -> u64 {
    group
        .members
        .iter()
        .filter_map(|member| {
            let tensor = graph.constant(member.value)?;
            Some(tensor.byte_len() / u64::from(member.size.max(1)) * u64::from(member.per_unit))
        })
        .sum()
}

fn freed(graph: &Graph, group: &Group, macs: &HashMap<NodeId, u64>) -> u64 {
    group
        .members
        .iter()
        .filter(|member| graph.ty(member.value).rank().is_some_and(|rank| rank >= 2))
        .flat_map(|member| {
            graph
                .uses(member.value)
                .into_iter()
                .map(move |used| (member, used.node))
        })
        .filter_map(|(member, node)| {
            Some(macs.get(&node)? / u64::from(member.size.max(1)) * u64::from(member.per_unit))
        })
        .sum()
}
