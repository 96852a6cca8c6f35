//! How many units of which group go.

use std::collections::{HashMap, HashSet};

use regex::RegexSet;

use super::options::{AttentionUnits, PruneChannels, Scope};
use super::score::Scores;
use crate::axes::{Group, Solution, Unit};
use crate::ir::{Constant, Graph, NodeId, ValueId};

/// Why a group that is not pinned is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// A `keep` pattern names it.
    Kept,
    /// Its units overlap those of another group, which is taken instead.
    Covered,
}

/// Groups to choose from, and why others are not.
pub(super) fn candidates(
    graph: &Graph,
    solution: &Solution,
    attention: AttentionUnits,
    keep: &[&RegexSet],
) -> (Vec<usize>, HashMap<usize, Left>) {
    let mut left = HashMap::new();
    let mut order: Vec<usize> = Vec::new();
    for (at, group) in solution
        .groups()
        .iter()
        .enumerate()
        .filter(|(_, group)| group.pin.is_none())
    {
        if is_kept(graph, group, keep) {
            left.insert(at, Left::Kept);
        } else {
            order.push(at);
        }
    }
    // Of overlapping groups the first in this order wins.
    let size = |at: &usize| {
        solution.groups().get(*at).map_or((0, 0), |group| {
            let cut: u32 = group.members.iter().map(|member| member.per_unit).sum();
            (group.units.len(), cut)
        })
    };
    order.sort_by(|a, b| {
        let (x, y) = (size(a), size(b));
        let blocks = match attention {
            AttentionUnits::Heads => y.1.cmp(&x.1),
            AttentionUnits::Finest => y.0.cmp(&x.0),
        };
        blocks.then(a.cmp(b))
    });
    let mut owner: HashMap<u32, usize> = HashMap::new();
    let mut chosen = Vec::new();
    for at in order {
        let Some(group) = solution.groups().get(at) else {
            continue;
        };
        let overlaps = group
            .units
            .iter()
            .any(|unit| unit.classes().iter().any(|class| owner.contains_key(class)));
        if overlaps {
            left.insert(at, Left::Covered);
            continue;
        }
        owner.extend(
            group
                .units
                .iter()
                .flat_map(|unit| unit.classes().iter().map(|class| (*class, at))),
        );
        chosen.push(at);
    }
    chosen.sort_unstable();
    (chosen, left)
}

fn is_kept(graph: &Graph, group: &Group, keep: &[&RegexSet]) -> bool {
    let matches = |name: &str| !name.is_empty() && keep.iter().any(|set| set.is_match(name));
    keep.iter().any(|set| !set.is_empty())
        && group.members.iter().any(|member| {
            matches(&member.name)
                || graph.uses(member.value).iter().any(|used| {
                    graph.get(used.node).is_some_and(|node| {
                        node.name.as_deref().is_some_and(matches)
                            || node.outputs().iter().any(|value| matches(&value.name))
                    })
                })
        })
}

/// Shapes of constants before the first round, by name.
#[derive(Clone, Debug, Default)]
pub struct Start(HashMap<String, Vec<u64>>);

impl Start {
    /// The shapes of the constants of this graph.
    pub(super) fn of(graph: &Graph) -> Self {
        let shape = |(id, constant): (NodeId, &Constant)| {
            let name = graph.value(ValueId::new(id, 0))?.name.to_string();
            Some((name, constant.tensor.as_ref()?.dims().to_vec()))
        };
        Self(graph.initializers().into_iter().filter_map(shape).collect())
    }

    /// Units that a group had then, from how far an axis that they lie on has shrunk.
    fn units(&self, group: &Group) -> usize {
        let now = group.units.len();
        let before = group.members.iter().find_map(|member| {
            let size = *self.0.get(&member.name)?.get(member.axis)? as usize;
            Some((now * size).div_ceil((member.size as usize).max(1)))
        });
        before.map_or(now, |before| before.max(now))
    }
}

/// Most units of a group of `count`, once `before`, that may go when `wanted` should.
fn allowed(options: &PruneChannels, (count, before): (usize, usize), wanted: usize) -> usize {
    let most = (before as f64 * options.max_ratio.clamp(0.0, 1.0)).floor() as usize;
    let most = most.saturating_sub(before - count.min(before));
    let keep = count
        .saturating_sub(wanted.min(most))
        .max(options.min_keep.max(1) as usize);
    let step = options.round_to.max(1) as usize;
    count.saturating_sub(keep.div_ceil(step) * step)
}

/// The units to remove at this ratio: pairs of group and unit, ascending. `price` is what a unit of a group frees of a budget,
/// by which losses are divided where all layers compete.
pub(super) fn choose(
    solution: &Solution,
    scores: &Scores,
    candidates: &[usize],
    (options, start): (&PruneChannels, &Start),
    price: &dyn Fn(usize) -> f64,
    ratio: f64,
) -> Vec<(usize, usize)> {
    let ranked = |at: usize| -> Vec<(f64, usize)> {
        let mut units: Vec<(f64, usize)> = scores
            .get(at)
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(unit, score)| (*score, unit))
            .collect();
        units.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        units
    };
    let mut wanted: HashMap<usize, usize> = HashMap::new();
    match options.scope {
        Scope::Layer => {
            for at in candidates {
                let count = solution.groups().get(*at).map_or(0, |group| group.units.len());
                // An epsilon for ratios such as 0.3 of 10.
                wanted.insert(*at, (count as f64 * ratio + 1e-9).floor() as usize);
            }
        }
        Scope::Global => {
            let mut all: Vec<(f64, usize, usize)> = Vec::new();
            for at in candidates {
                let units = ranked(*at);
                let price = if scores.are_losses() { price(*at) } else { 1.0 };
                let unit = scores.unit(*at) * price;
                all.extend(
                    units
                        .into_iter()
                        .map(|(score, at_unit)| (score / unit, *at, at_unit)),
                );
            }
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
            let count = (all.len() as f64 * ratio + 1e-9).floor() as usize;
            for (_, at, _) in all.iter().take(count) {
                *wanted.entry(*at).or_default() += 1;
            }
        }
    }
    let mut cut = Cut::default();
    let mut chosen: Vec<(usize, usize)> = Vec::new();
    for at in candidates {
        let Some(group) = solution.groups().get(*at) else {
            continue;
        };
        let units = ranked(*at);
        let counts = (units.len(), start.units(group));
        let mut take = allowed(options, counts, wanted.get(at).copied().unwrap_or(0));
        for (_, unit) in units {
            if take == 0 {
                break;
            }
            let share = if options.scope == Scope::Layer { ratio } else { 1.0 };
            if group
                .units
                .get(unit)
                .is_some_and(|unit| cut.take(group, unit, share))
            {
                chosen.push((*at, unit));
                take -= 1;
            }
        }
    }
    chosen.sort_unstable();
    chosen
}

/// What has been cut from each axis of a constant: units of a group may overlap (behind channel shuffles they do), so counting units
/// does not bound what an axis loses.
#[derive(Default)]
struct Cut {
    axes: HashMap<(ValueId, usize), HashSet<u32>>,
}

impl Cut {
    /// Cuts a unit, unless an axis would lose more than this share or everything.
    fn take(&mut self, group: &Group, unit: &Unit, share: f64) -> bool {
        for slices in unit.slices.chunk_by(|a, b| a.0 == b.0) {
            let Some(member) = slices
                .first()
                .and_then(|(member, _)| group.members.get(*member as usize))
            else {
                continue;
            };
            let known = self.axes.get(&(member.value, member.axis));
            let new = slices
                .iter()
                .filter(|(_, index)| known.is_none_or(|known| !known.contains(index)))
                .count();
            let after = known.map_or(0, HashSet::len) + new;
            let most = (f64::from(member.size) * share + 1e-9).floor() as usize;
            if after > most.min((member.size as usize).saturating_sub(1)) {
                return false;
            }
        }
        for (member, index) in &unit.slices {
            if let Some(member) = group.members.get(*member as usize) {
                self.axes
                    .entry((member.value, member.axis))
                    .or_default()
                    .insert(*index);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_for_every_count() {
        let options = PruneChannels {
            round_to: 8,
            min_keep: 4,
            max_ratio: 0.75,
            ..PruneChannels::default()
        };
        assert_eq!(allowed(&options, (64, 64), 32), 32);
        assert_eq!(allowed(&options, (64, 64), 33), 32);
        assert_eq!(allowed(&options, (64, 64), 64), 48);
        assert_eq!(allowed(&options, (6, 6), 6), 0);
        // Of what an earlier round took, as much less is left to take.
        assert_eq!(allowed(&options, (32, 64), 32), 16);
        assert_eq!(allowed(&options, (16, 64), 8), 0);
        let options = PruneChannels {
            max_ratio: 1.0,
            ..PruneChannels::default()
        };
        assert_eq!(allowed(&options, (2, 2), 2), 1);
        assert_eq!(allowed(&options, (1, 1), 1), 0);
    }
}
