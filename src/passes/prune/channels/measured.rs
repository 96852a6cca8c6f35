//! Ranking by what data says of single weights: gradients of the loss, or the size of what a weight multiplies.

use std::collections::BTreeMap;

use super::evidence::Evidence;
use super::options::Criterion;
use super::reconstruction::input_members;
use crate::axes::{Group, Solution, Unit};
use crate::ir::{Graph, Tensor, ValueId};
use crate::statistics::Gradient;

/// Per constant and axis: the score of each index.
type Sums = BTreeMap<(ValueId, usize), Vec<f64>>;

/// Sums of `values`, one an element of a tensor of this shape, at each index of an axis.
fn along(values: &[f64], dims: &[u64], axis: usize) -> Vec<f64> {
    let size = dims.get(axis).copied().unwrap_or(1).max(1) as usize;
    let run = dims.iter().skip(axis + 1).product::<u64>().max(1) as usize;
    let mut sums = vec![0.0; size];
    for (at, chunk) in values.chunks(run).enumerate() {
        sums[at % size] += chunk.iter().sum::<f64>();
    }
    sums
}

/// Each unit's mean over the members that have sums; `None` if none has.
fn mean_of_members(group: &Group, sums: &Sums) -> Option<Vec<f64>> {
    let known: Vec<Option<&Vec<f64>>> = group
        .members
        .iter()
        .map(|member| sums.get(&(member.value, member.axis)))
        .collect();
    let count = known.iter().flatten().count();
    if count == 0 {
        return None;
    }
    let score = |unit: &Unit| -> f64 {
        let total: f64 = unit
            .slices
            .iter()
            .filter_map(|(member, index)| {
                known
                    .get(*member as usize)
                    .copied()
                    .flatten()?
                    .get(*index as usize)
            })
            .sum();
        total / count as f64
    };
    Some(group.units.iter().map(score).collect())
}

fn free(solution: &Solution) -> impl Iterator<Item = (usize, &Group)> {
    let groups = solution.groups().iter().enumerate();
    groups.filter(|(_, group)| group.pin.is_none())
}

/// The criteria `gradient`, `taylor` and `fisher`; no entry for a group without a parameter that has a gradient.
pub(super) fn by_gradients(
    graph: &Graph,
    solution: &Solution,
    criterion: Criterion,
    evidence: &Evidence,
) -> BTreeMap<usize, Vec<f64>> {
    let Some(statistics) = evidence.gradients() else {
        return BTreeMap::new();
    };
    let count = statistics.gradients.max(1) as f64;
    let mut sums = Sums::new();
    for (_, group) in free(solution) {
        for member in &group.members {
            let known = graph.constant(member.value).and_then(|tensor| {
                let gradient = statistics.values.get(&member.name)?;
                (gradient.dims == tensor.dims()).then_some((tensor, gradient))
            });
            if let Some((tensor, gradient)) = known
                && let Some(each) = estimates(criterion, tensor, gradient, count)
            {
                sums.entry((member.value, member.axis))
                    .or_insert_with(|| along(&each, tensor.dims(), member.axis));
            }
        }
    }
    free(solution)
        .filter_map(|(at, group)| Some((at, mean_of_members(group, &sums)?)))
        .collect()
}

/// What each element of a parameter contributes.
fn estimates(criterion: Criterion, tensor: &Tensor, gradient: &Gradient, count: f64) -> Option<Vec<f64>> {
    let weights = tensor.to_f64().ok()?;
    let pairs = |sums: &[f64], each: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
        sums.iter()
            .zip(&weights)
            .map(|(sum, w)| each(sum / count, *w))
            .collect()
    };
    Some(match criterion {
        Criterion::Gradient => pairs(&gradient.sum, &|mean, _| mean.abs()),
        Criterion::Taylor => pairs(&gradient.absolute, &|mean, weight| mean * weight.abs()),
        Criterion::Fisher => pairs(&gradient.squared, &|mean, weight| 0.5 * mean * weight * weight),
        _ => return None,
    })
}

/// The criterion `wanda`; no entry for a group that no layer with moments reads.
pub(super) fn by_inputs(
    graph: &Graph,
    solution: &Solution,
    evidence: &Evidence,
) -> BTreeMap<usize, Vec<f64>> {
    let mut sums = Sums::new();
    for (_, group) in free(solution) {
        for member in input_members(group, evidence)
            .into_iter()
            .filter_map(|at| group.members.get(at))
        {
            if !sums.contains_key(&(member.value, member.axis))
                && let Some(channels) = channels(graph, member.value, evidence)
            {
                sums.insert((member.value, member.axis), channels);
            }
        }
    }
    free(solution)
        .filter_map(|(at, group)| Some((at, mean_of_members(group, &sums)?)))
        .collect()
}

/// For each input channel of the layers that multiply with a weight: the sum of `|w|` times the root mean square of its column.
fn channels(graph: &Graph, weight: ValueId, evidence: &Evidence) -> Option<Vec<f64>> {
    let tensor = graph.constant(weight)?;
    let mut total: Option<Vec<f64>> = None;
    for (layer, moments) in evidence.readers(weight) {
        let matrices = layer.matrices(tensor).ok()?;
        let second = moments.second_moment();
        let taps = layer.taps().max(1);
        let mut sums = vec![0.0; layer.channels];
        for ((_, _, column), value) in matrices.indexed_iter() {
            let scale = second
                .get((column, column))
                .copied()
                .unwrap_or(0.0)
                .max(0.0)
                .sqrt();
            if let Some(sum) = sums.get_mut(column / taps) {
                *sum += value.abs() * scale;
            }
        }
        match &mut total {
            Some(total) => total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum),
            None => total = Some(sums),
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_their_formulas() {
        let tensor = Tensor::from_slice(&[2], &[2f32, -3.0]).unwrap();
        let gradient = Gradient {
            dims: vec![2],
            sum: vec![-4.0, 0.0],
            absolute: vec![6.0, 2.0],
            squared: vec![8.0, 4.0],
        };
        let of = |criterion| estimates(criterion, &tensor, &gradient, 2.0).unwrap();
        assert_eq!(of(Criterion::Gradient), [2.0, 0.0]);
        assert_eq!(of(Criterion::Taylor), [6.0, 3.0]);
        assert_eq!(of(Criterion::Fisher), [8.0, 9.0]);
        assert!(estimates(Criterion::Lamp, &tensor, &gradient, 2.0).is_none());
    }

    #[test]
    fn sums_run_along_an_axis() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(along(&values, &[2, 3], 0), [6.0, 15.0]);
        assert_eq!(along(&values, &[2, 3], 1), [5.0, 7.0, 9.0]);
    }
}
