//! Putting the units of one model in the order of another's: channels may be permuted without changing what a model computes, so two
//! models of one architecture rarely have them in the same order.
//!
//! Weight matching (Ainsworth, Hayase, Srinivasa: Git Re-Basin, 2023, section 3.2), with the axis solver's groups as the symmetries.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::Array2;

use crate::axes::rewrite::permutable;
use crate::axes::{Group, Solution};
use crate::ir::{Model, NodeId, Tensor, TensorError, ValueId};
use crate::linalg::assign;

/// Sweeps over all groups at most.
const SWEEPS: usize = 50;

/// What was aligned.
#[derive(Debug)]
pub struct Aligned {
    /// The tensors in the order of the reference.
    pub tensors: BTreeMap<NodeId, Tensor>,
    /// Groups whose units were reordered: the first constant, and how many units moved.
    pub moved: Vec<(String, usize)>,
    /// Sweeps over all groups.
    pub sweeps: usize,
    /// Groups that could not be reordered: the first constant and why; pinned ones are not named.
    pub left: Vec<(String, String)>,
}

/// A constant axis.
type Place = (NodeId, usize);

/// A constant in double precision.
struct Values {
    dims: Vec<usize>,
    values: Vec<f64>,
}

impl Values {
    fn of(tensor: &Tensor) -> Result<Self, TensorError> {
        Ok(Self {
            dims: tensor.dims().iter().map(|size| *size as usize).collect(),
            values: tensor.to_f64()?,
        })
    }
}

/// Reorders the units of `tensors`, weights of another model by the constants of `model` that they correspond to, so that they are most
/// alike to `model`'s own: the sum of products is as large as can be reached by one group at a time.
///
/// # Errors
/// When a tensor does not hold what it declares.
pub fn align(
    model: &Model,
    solution: &Solution,
    tensors: &BTreeMap<NodeId, Tensor>,
) -> Result<Aligned, TensorError> {
    let (groups, left) = movable(model, solution, tensors);
    let mut matching = Matching::new(model, &groups, tensors)?;
    let mut sweeps = 0;
    while sweeps < SWEEPS {
        sweeps += 1;
        if !matching.sweep(&groups, sweeps == 1) {
            break;
        }
    }
    let Matching { orders, current, .. } = matching;
    let mut aligned = tensors.clone();
    for (id, tensor) in &mut aligned {
        let axes: Vec<Option<&[u32]>> = (0..tensor.rank())
            .map(|axis| orders.get(&(*id, axis)).map(Vec::as_slice))
            .collect();
        let moves = |order: &[u32]| order.iter().enumerate().any(|(at, from)| at != *from as usize);
        if axes.iter().flatten().any(|order| moves(order)) {
            *tensor = permuted(tensor, &axes)?;
        }
    }
    let moved = groups
        .iter()
        .zip(&current)
        .filter_map(|(group, order)| {
            let moved = order.iter().enumerate().filter(|(at, from)| at != *from).count();
            let first = group.members.first()?.name.clone();
            (moved > 0).then_some((first, moved))
        })
        .collect();
    Ok(Aligned {
        tensors: aligned,
        moved,
        sweeps,
        left,
    })
}

/// The groups whose units may be reordered, and for those that may not the first constant and why; pinned ones are not named.
fn movable<'s>(
    model: &Model,
    solution: &'s Solution,
    tensors: &BTreeMap<NodeId, Tensor>,
) -> (Vec<&'s Group>, Vec<(String, String)>) {
    let verdicts = permutable(model, solution);
    let mut groups = Vec::new();
    let mut left = Vec::new();
    for (group, verdict) in solution.groups().iter().zip(verdicts) {
        match verdict {
            Ok(())
                if group
                    .members
                    .iter()
                    .all(|member| tensors.contains_key(&member.value.node)) =>
            {
                groups.push(group)
            }
            Err(obstacle) if group.pin.is_none() => {
                let first = group
                    .members
                    .first()
                    .map(|member| member.name.clone())
                    .unwrap_or_default();
                left.push((first, obstacle.to_string()));
            }
            _ => {}
        }
    }
    (groups, left)
}

/// The search for the orders.
struct Matching {
    own: BTreeMap<NodeId, Values>,
    others: BTreeMap<NodeId, Values>,
    /// The order of each axis of a constant.
    orders: BTreeMap<Place, Vec<u32>>,
    /// The groups that each axis of a constant has units of.
    covering: BTreeMap<Place, Vec<usize>>,
    /// The order of the units of each group.
    current: Vec<Vec<usize>>,
    visited: BTreeSet<usize>,
}

impl Matching {
    fn new(
        model: &Model,
        groups: &[&Group],
        tensors: &BTreeMap<NodeId, Tensor>,
    ) -> Result<Self, TensorError> {
        let mut matching = Self {
            own: BTreeMap::new(),
            others: BTreeMap::new(),
            orders: BTreeMap::new(),
            covering: BTreeMap::new(),
            current: groups
                .iter()
                .map(|group| (0..group.units.len()).collect())
                .collect(),
            visited: BTreeSet::new(),
        };
        for (index, group) in groups.iter().enumerate() {
            for member in &group.members {
                let id = member.value.node;
                let (Some(mine), Some(other)) = (model.graph.constant(ValueId::new(id, 0)), tensors.get(&id))
                else {
                    continue;
                };
                matching.own.insert(id, Values::of(mine)?);
                matching.others.insert(id, Values::of(other)?);
                let place = (id, member.axis);
                matching
                    .orders
                    .entry(place)
                    .or_insert_with(|| (0..member.size).collect());
                matching.covering.entry(place).or_default().push(index);
            }
        }
        Ok(matching)
    }

    /// Gives each group the best order for the orders of the others. Answers whether one changed.
    fn sweep(&mut self, groups: &[&Group], first: bool) -> bool {
        let mut changed = false;
        for (index, group) in groups.iter().enumerate() {
            // At first only what is in order on all other axes says something.
            let anchored: Vec<usize> = (0..group.members.len())
                .filter(|at| {
                    group.members.get(*at).is_some_and(|member| {
                        self.covering
                            .range((member.value.node, 0)..=(member.value.node, usize::MAX))
                            .filter(|((_, axis), _)| *axis != member.axis)
                            .all(|(_, by)| by.iter().all(|by| self.visited.contains(by)))
                    })
                })
                .collect();
            let members = if !first || anchored.is_empty() {
                (0..group.members.len()).collect()
            } else {
                anchored
            };
            let likeness = likeness(group, &members, &self.own, &self.others, &self.orders);
            let wanted = assign((-&likeness).view());
            let sum = |order: &[usize]| -> f64 {
                order
                    .iter()
                    .enumerate()
                    .filter_map(|(row, column)| likeness.get([row, *column]))
                    .sum()
            };
            self.visited.insert(index);
            let Some(order) = self.current.get_mut(index) else {
                continue;
            };
            let (now, then) = (sum(order), sum(&wanted));
            // Rounding must not move units to and fro.
            if wanted != *order && then > now + 1e-12 * now.abs() {
                *order = wanted;
                changed = true;
                reorder(group, order, &mut self.orders);
            }
        }
        changed
    }
}

/// The elements of each unit in a member.
fn elements(group: &Group, member: usize) -> Vec<Vec<u32>> {
    group
        .units
        .iter()
        .map(|unit| {
            unit.slices
                .iter()
                .filter(|(of, _)| *of as usize == member)
                .map(|(_, element)| *element)
                .collect()
        })
        .collect()
}

/// Writes the order of a group's units into the orders of the axes that it covers.
fn reorder(group: &Group, order: &[usize], orders: &mut BTreeMap<Place, Vec<u32>>) {
    for (at, member) in group.members.iter().enumerate() {
        let Some(axis) = orders.get_mut(&(member.value.node, member.axis)) else {
            continue;
        };
        let elements = elements(group, at);
        for (unit, from) in order.iter().enumerate() {
            let (Some(to), Some(from)) = (elements.get(unit), elements.get(*from)) else {
                continue;
            };
            for (to, from) in to.iter().zip(from) {
                if let Some(slot) = axis.get_mut(*to as usize) {
                    *slot = *from;
                }
            }
        }
    }
}

/// Sums of products `[N, N]` of each unit of the reference (rows) with each of the other model (columns).
fn likeness(
    group: &Group,
    members: &[usize],
    own: &BTreeMap<NodeId, Values>,
    others: &BTreeMap<NodeId, Values>,
    orders: &BTreeMap<Place, Vec<u32>>,
) -> Array2<f64> {
    let count = group.units.len();
    let mut total = Array2::zeros((count, count));
    for at in members {
        let Some(member) = group.members.get(*at) else {
            continue;
        };
        let id = member.value.node;
        let (Some(mine), Some(other)) = (own.get(&id), others.get(&id)) else {
            continue;
        };
        let units = elements(group, *at);
        let left = rows(mine, member.axis, &units, |_| None);
        let right = rows(other, member.axis, &units, |axis| {
            orders.get(&(id, axis)).map(Vec::as_slice)
        });
        total = total + left.dot(&right.t());
    }
    total
}

/// A row a unit: its elements along `axis`, with all other axes in the order given.
fn rows<'a>(
    tensor: &Values,
    axis: usize,
    units: &[Vec<u32>],
    order: impl Fn(usize) -> Option<&'a [u32]>,
) -> Array2<f64> {
    let mut strides = vec![1usize; tensor.dims.len()];
    for at in (0..tensor.dims.len().saturating_sub(1)).rev() {
        strides[at] = strides[at + 1] * tensor.dims[at + 1];
    }
    // Offsets of all positions on the other axes.
    let mut offsets = vec![0usize];
    for (at, (size, stride)) in tensor.dims.iter().zip(&strides).enumerate() {
        if at == axis {
            continue;
        }
        let order = order(at);
        let place = |index: usize| {
            order
                .and_then(|order| order.get(index))
                .map_or(index, |from| *from as usize)
        };
        offsets = offsets
            .iter()
            .flat_map(|offset| (0..*size).map(move |index| (offset, index)))
            .map(|(offset, index)| offset + place(index) * stride)
            .collect();
    }
    let along = strides.get(axis).copied().unwrap_or(1);
    let per_unit = units.first().map_or(0, Vec::len);
    let mut values = Vec::with_capacity(units.len() * per_unit * offsets.len());
    for unit in units {
        for element in unit {
            let start = *element as usize * along;
            values.extend(
                offsets
                    .iter()
                    .map(|offset| tensor.values.get(start + offset).copied().unwrap_or(0.0)),
            );
        }
    }
    let shape = (units.len(), per_unit * offsets.len());
    Array2::from_shape_vec(shape, values).unwrap_or_else(|_| Array2::zeros(shape))
}

/// The tensor with reordered axes.
fn permuted(tensor: &Tensor, axes: &[Option<&[u32]>]) -> Result<Tensor, TensorError> {
    let width = tensor.dtype().bits() / 8;
    let raw = tensor.raw()?;
    let mut starts = vec![0usize];
    let mut inner: usize = tensor.dims().iter().product::<u64>() as usize;
    for (size, order) in tensor.dims().iter().zip(axes) {
        let size = *size as usize;
        inner /= size.max(1);
        let place = |index: usize| {
            order
                .and_then(|order| order.get(index))
                .map_or(index, |from| *from as usize)
        };
        starts = starts
            .iter()
            .flat_map(|start| (0..size).map(move |index| (start, index)))
            .map(|(start, index)| start + place(index) * inner)
            .collect();
    }
    let mut bytes = Vec::with_capacity(raw.len());
    for start in starts {
        bytes.extend_from_slice(raw.get(start * width..(start + 1) * width).unwrap_or_default());
    }
    Tensor::from_raw(tensor.dtype(), tensor.dims().iter().copied(), bytes)
}
