//! Ranking units.

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::evidence::Evidence;
use super::options::{Criterion, Norm, PruneChannels};
use super::{measured, reconstruction};
use crate::axes::{Group, Solution};
use crate::ir::{Graph, Slot, ValueId};

/// Scores of every unit, by group; no entry for a pinned group.
#[derive(Debug, Default)]
pub(super) struct Scores {
    by_group: BTreeMap<usize, Vec<f64>>,
    /// Groups whose scores estimate a loss, so that they can be compared with those of other such groups.
    losses: BTreeSet<usize>,
}

impl Scores {
    /// The scores of the units of a group.
    pub(super) fn get(&self, group: usize) -> Option<&[f64]> {
        self.by_group.get(&group).map(Vec::as_slice)
    }

    /// What to divide the scores of a group by before they are compared with those of others: 1 for losses. Other scores are
    /// scaled to the mean of the group, and that to the mean of all losses.
    pub(super) fn unit(&self, group: usize) -> f64 {
        let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len().max(1) as f64;
        if self.losses.contains(&group) {
            return 1.0;
        }
        let own = self.get(group).map_or(0.0, mean);
        let losses: Vec<f64> = self
            .losses
            .iter()
            .filter_map(|group| self.get(*group))
            .map(mean)
            .collect();
        let common = if losses.is_empty() { 1.0 } else { mean(&losses) };
        if own > 0.0 && common > 0.0 {
            own / common
        } else {
            1.0
        }
    }

    /// Whether all scores estimate losses, but for groups of which nothing was measured.
    pub(super) fn are_losses(&self) -> bool {
        !self.losses.is_empty()
    }
}

/// Per constant and axis: the sum of `|w|^p` at each index.
type Sums = BTreeMap<(ValueId, usize), Vec<f64>>;

/// Scores the units of every group that is not pinned.
pub(super) fn scores(
    graph: &Graph,
    solution: &Solution,
    options: &PruneChannels,
    evidence: Option<&Evidence>,
    seed: u64,
) -> Scores {
    let groups = || {
        solution
            .groups()
            .iter()
            .enumerate()
            .filter(|(_, group)| group.pin.is_none())
    };
    if options.criterion == Criterion::Random {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let draw = |(at, group): (usize, &Group)| {
            let scores = group.units.iter().map(|_| (rng.next_u64() >> 11) as f64);
            (at, scores.collect())
        };
        return Scores {
            by_group: groups().map(draw).collect(),
            losses: BTreeSet::new(),
        };
    }
    let mut wanted: BTreeMap<ValueId, BTreeSet<usize>> = BTreeMap::new();
    for (_, group) in groups() {
        for member in &group.members {
            wanted.entry(member.value).or_default().insert(member.axis);
        }
    }
    let mut sums = Sums::new();
    for (value, axes) in wanted {
        let Some(values) = graph.constant(value).and_then(|tensor| tensor.to_f32().ok()) else {
            continue;
        };
        let dims: Vec<usize> = graph
            .constant(value)
            .map(|tensor| tensor.dims().iter().map(|dim| *dim as usize).collect())
            .unwrap_or_default();
        for axis in axes {
            sums.insert((value, axis), along(&values, &dims, axis, options.norm));
        }
    }
    let mut measured = match (options.criterion, evidence) {
        (Criterion::Reconstruction, Some(evidence)) => reconstruction::scores(graph, solution, evidence),
        (Criterion::Wanda, Some(evidence)) => measured::by_inputs(graph, solution, evidence),
        (Criterion::Gradient | Criterion::Taylor | Criterion::Fisher, Some(evidence)) => {
            measured::by_gradients(graph, solution, options.criterion, evidence)
        }
        _ => BTreeMap::new(),
    };
    let losses = match options.criterion {
        Criterion::Reconstruction | Criterion::Taylor | Criterion::Fisher => {
            measured.keys().copied().collect()
        }
        _ => BTreeSet::new(),
    };
    let by_group = groups()
        .map(|(at, group)| {
            let magnitude = || magnitudes(group, &sums, options.norm);
            let scores = match options.criterion {
                Criterion::BatchNorm => {
                    batch_norm(graph, group, &sums, options.norm).unwrap_or_else(magnitude)
                }
                Criterion::Lamp => lamp(&magnitude()),
                Criterion::Fpgm => distances(graph, group),
                Criterion::Reconstruction
                | Criterion::Wanda
                | Criterion::Gradient
                | Criterion::Taylor
                | Criterion::Fisher => measured.remove(&at).unwrap_or_else(magnitude),
                Criterion::Magnitude | Criterion::Random => magnitude(),
            };
            (at, scores)
        })
        .collect();
    Scores { by_group, losses }
}

fn along(values: &[f32], dims: &[usize], axis: usize, norm: Norm) -> Vec<f64> {
    let size = dims.get(axis).copied().unwrap_or(1);
    let run: usize = dims.iter().skip(axis + 1).product();
    let mut sums = vec![0.0; size];
    for (at, chunk) in values.chunks(run.max(1)).enumerate() {
        let sum: f64 = match norm {
            Norm::L1 => chunk.iter().map(|v| f64::from(v.abs())).sum(),
            Norm::L2 => chunk.iter().map(|v| f64::from(*v) * f64::from(*v)).sum(),
        };
        sums[at % size] += sum;
    }
    sums
}

/// For each unit the mean over members of the norm of the slices that it cuts.
fn magnitudes(group: &Group, sums: &Sums, norm: Norm) -> Vec<f64> {
    group
        .units
        .iter()
        .map(|unit| {
            let mut by_member = vec![0.0; group.members.len()];
            for (member, index) in &unit.slices {
                let Some(owner) = group.members.get(*member as usize) else {
                    continue;
                };
                let sum = sums
                    .get(&(owner.value, owner.axis))
                    .and_then(|sums| sums.get(*index as usize))
                    .copied();
                by_member[*member as usize] += sum.unwrap_or(0.0);
            }
            let total: f64 = by_member
                .iter()
                .map(|sum| if norm == Norm::L2 { sum.sqrt() } else { *sum })
                .sum();
            total / by_member.len().max(1) as f64
        })
        .collect()
}

/// The mean size of the scales of BatchNormalization among the members.
fn batch_norm(graph: &Graph, group: &Group, sums: &Sums, norm: Norm) -> Option<Vec<f64>> {
    let is_scale = |value: ValueId| {
        graph.uses(value).iter().any(|used| {
            used.slot == Slot::Input(1)
                && graph
                    .operator(used.node)
                    .is_some_and(|operator| operator.is("BatchNormalization"))
        })
    };
    let scales: Vec<bool> = group
        .members
        .iter()
        .map(|member| is_scale(member.value))
        .collect();
    if !scales.contains(&true) {
        return None;
    }
    let of = |unit: &crate::axes::Unit| {
        let found: Vec<f64> = unit
            .slices
            .iter()
            .filter(|(member, _)| scales.get(*member as usize) == Some(&true))
            .filter_map(|(member, index)| {
                let owner = group.members.get(*member as usize)?;
                let sum = *sums.get(&(owner.value, owner.axis))?.get(*index as usize)?;
                Some(if norm == Norm::L2 { sum.sqrt() } else { sum })
            })
            .collect();
        found.iter().sum::<f64>() / found.len().max(1) as f64
    };
    Some(group.units.iter().map(of).collect())
}

/// Each squared score over the sum of those that are no smaller.
fn lamp(magnitudes: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..magnitudes.len()).collect();
    let square = |at: &usize| magnitudes[*at] * magnitudes[*at];
    order.sort_by(|a, b| square(a).total_cmp(&square(b)).then(a.cmp(b)));
    let mut remaining: f64 = order.iter().map(square).sum();
    let mut scores = vec![0.0; magnitudes.len()];
    for at in &order {
        scores[*at] = if remaining > 0.0 {
            square(at) / remaining
        } else {
            0.0
        };
        remaining -= square(at);
    }
    scores
}

/// The sum of distances between the parameters of a unit and those of every other unit, in the first member of rank 2 or more
/// that the units cut along its first axis, or else in the first member.
fn distances(graph: &Graph, group: &Group) -> Vec<f64> {
    let chosen = group
        .members
        .iter()
        .position(|member| member.axis == 0 && graph.ty(member.value).rank().is_some_and(|rank| rank >= 2))
        .unwrap_or(0);
    let Some(member) = group.members.get(chosen) else {
        return vec![0.0; group.units.len()];
    };
    let Some(tensor) = graph.constant(member.value) else {
        return vec![0.0; group.units.len()];
    };
    let values = tensor.to_f32().unwrap_or_default();
    let dims: Vec<usize> = tensor.dims().iter().map(|dim| *dim as usize).collect();
    let size = dims.get(member.axis).copied().unwrap_or(1);
    let run: usize = dims.iter().skip(member.axis + 1).product();
    let vectors: Vec<Vec<f32>> = group
        .units
        .iter()
        .map(|unit| {
            let indices = unit
                .slices
                .iter()
                .filter(|(at, _)| *at as usize == chosen)
                .map(|(_, index)| *index as usize);
            indices
                .flat_map(|index| {
                    values
                        .chunks(run.max(1))
                        .skip(index)
                        .step_by(size.max(1))
                        .flatten()
                        .copied()
                })
                .collect()
        })
        .collect();
    let distance = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(x, y)| f64::from(x - y) * f64::from(x - y))
            .sum::<f64>()
            .sqrt()
    };
    let mut scores = vec![0.0; vectors.len()];
    for (i, a) in vectors.iter().enumerate() {
        for (j, b) in vectors.iter().enumerate().skip(i + 1) {
            let apart = distance(a, b);
            for at in [i, j] {
                scores[at] += apart;
            }
        }
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_run_along_an_axis() {
        let values = [1.0, -2.0, 3.0, 4.0, 5.0, -6.0];
        assert_eq!(along(&values, &[2, 3], 0, Norm::L1), [6.0, 15.0]);
        assert_eq!(along(&values, &[2, 3], 1, Norm::L1), [5.0, 7.0, 9.0]);
        assert_eq!(along(&values, &[2, 3], 1, Norm::L2), [17.0, 29.0, 45.0]);
    }

    #[test]
    fn lamp_keeps_the_order_and_gives_the_greatest_one() {
        let scores = lamp(&[3.0, 1.0, 2.0]);
        assert_eq!(scores[0], 1.0);
        assert!((scores[1] - 1.0 / 14.0).abs() < 1e-12 && (scores[2] - 4.0 / 13.0).abs() < 1e-12);
    }
}
