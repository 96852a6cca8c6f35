//! Ranking by what a cut costs the layers that read the channels, after the best refit of their weights.
//!
//! For a layer with weights `W`, covariance `C` of its rows and `P = C⁻¹`, the outputs lose `tr(W_K (P[K,K])⁻¹ W_Kᵀ)` of squared error when the columns `K` go and the rest is refitted: Optimal Brain Surgeon (Hassibi and Stork 1992) for whole
//! channels. A channel that others can stand in for, or whose value hardly varies, costs little, but only as long as those others
//! stay. So units are eliminated one after the other, the cheapest first, and after each the weights of the rest are refitted:
//! `W -= W_K (P[K,K])⁻¹ P[K,:]` and `P -= P[:,K] (P[K,K])⁻¹ P[K,:]`. A unit's score is what the layer loses at its turn.

use std::collections::BTreeMap;
use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Axis as Along};
use rayon::prelude::*;

use super::evidence::{Evidence, damp};
use crate::axes::{Group, Solution, Unit};
use crate::ir::{Graph, ValueId};
use crate::linalg::Cholesky;
use crate::statistics::gram::Layer;

/// Rounds of elimination of a group: units of one round are ranked against each other without a refit in between.
const ROUNDS: usize = 128;

/// For a layer: its weights `[outputs, columns]`, the inverse covariance, and the variance of its outputs.
struct Prepared<'e> {
    layer: &'e Layer,
    weights: Array2<f64>,
    inverse: Array2<f64>,
    /// What was added to each variance only to invert.
    ridge: f64,
    variance: f64,
}

fn prepare<'e>(graph: &Graph, evidence: &'e Evidence, weight: ValueId) -> Vec<Prepared<'e>> {
    let Some(tensor) = graph.constant(weight) else {
        return Vec::new();
    };
    evidence
        .readers(weight)
        .filter_map(|(layer, moments)| {
            let weights = layer.matrices(tensor).ok()?.index_axis_move(Along(0), 0);
            let mut covariance = moments.covariance();
            let shrinkage = evidence.shrinkage(moments.rows, &covariance);
            let ridge = damp(&mut covariance, shrinkage);
            let variance = (&weights.dot(&covariance) * &weights).sum() - ridge * (&weights * &weights).sum();
            let inverse = Cholesky::new(covariance).ok()?.inverse().ok()?;
            Some(Prepared {
                layer,
                weights,
                inverse,
                ridge,
                variance,
            })
        })
        .collect()
}

/// A layer's share in an elimination: the columns of the units that are left, unit by unit.
struct Reader {
    weights: Array2<f64>,
    inverse: Array2<f64>,
    ridge: f64,
    variance: f64,
    /// The columns of each unit; empty for a unit that is gone.
    columns: Vec<Range<usize>>,
}

impl Prepared<'_> {
    /// The columns of units, which take these input channels; `None` if they overlap or reach beyond the layer.
    fn reader(&self, units: &[Vec<usize>]) -> Option<Reader> {
        let taps = self.layer.taps();
        let mut picked: Vec<usize> = Vec::new();
        let mut columns = Vec::with_capacity(units.len());
        for channels in units {
            let from = picked.len();
            picked.extend(
                channels
                    .iter()
                    .flat_map(|channel| channel * taps..(channel + 1) * taps),
            );
            columns.push(from..picked.len());
        }
        let mut sorted = picked.clone();
        sorted.sort_unstable();
        let distinct = sorted.windows(2).all(|pair| matches!(pair, [a, b] if a < b));
        if !distinct || sorted.last().is_some_and(|last| *last >= self.weights.ncols()) {
            return None;
        }
        Some(Reader {
            weights: self.weights.select(Along(1), &picked),
            inverse: self.inverse.select(Along(0), &picked).select(Along(1), &picked),
            ridge: self.ridge,
            variance: self.variance,
            columns,
        })
    }
}

impl Reader {
    /// The share of the outputs' variance that a unit carries alone, as long as the others that are left stay.
    fn cost(&self, unit: usize) -> Option<f64> {
        let columns: Vec<usize> = self.columns.get(unit)?.clone().collect();
        let part = self.weights.select(Along(1), &columns);
        let lost = match columns.as_slice() {
            [] => 0.0,
            [only] => {
                let square = part.iter().map(|weight| weight * weight).sum::<f64>();
                let diagonal = *self.inverse.get((*only, *only))?;
                square / diagonal.max(f64::MIN_POSITIVE) - self.ridge * square
            }
            _ => {
                let block = self.inverse.select(Along(0), &columns).select(Along(1), &columns);
                let solved = Cholesky::new(block).ok()?.solve(part.t()).ok()?;
                (&solved.t() * &part).sum() - self.ridge * (&part * &part).sum()
            }
        };
        Some(lost.max(0.0) / self.variance.max(f64::MIN_POSITIVE))
    }

    /// Eliminates units and refits the rest.
    fn eliminate(&mut self, units: &[usize]) -> Option<()> {
        let gone: Vec<usize> = units
            .iter()
            .filter_map(|unit| self.columns.get(*unit).cloned())
            .flatten()
            .collect();
        if gone.is_empty() {
            return Some(());
        }
        let rows = self.inverse.select(Along(0), &gone);
        let factor = Cholesky::new(rows.select(Along(1), &gone)).ok()?;
        let solved = factor.solve(rows.view()).ok()?;
        let part = self.weights.select(Along(1), &gone);
        general_mat_mul(-1.0, &part, &solved, 1.0, &mut self.weights);
        general_mat_mul(-1.0, &rows.t(), &solved, 1.0, &mut self.inverse);
        for unit in units {
            let range = &mut self.columns[*unit];
            *range = range.start..range.start;
        }
        Some(())
    }

    /// Drops the columns of units that are gone, once they are more than half.
    fn compact(&mut self) {
        let left: usize = self.columns.iter().map(Range::len).sum();
        if left * 2 > self.weights.ncols() {
            return;
        }
        let mut picked = Vec::with_capacity(left);
        for range in &mut self.columns {
            let from = picked.len();
            picked.extend(range.clone());
            *range = from..picked.len();
        }
        self.weights = self.weights.select(Along(1), &picked);
        self.inverse = self.inverse.select(Along(0), &picked).select(Along(1), &picked);
    }
}

/// The sum over readers.
fn total(readers: &[Reader], unit: usize) -> Option<f64> {
    readers.iter().map(|reader| reader.cost(unit)).sum()
}

/// Scores by elimination, which never fall in the order in which units go; `None` where a matrix is not definite.
fn eliminate(mut readers: Vec<Reader>, units: usize) -> Option<Vec<f64>> {
    let mut scores = vec![0.0; units];
    let mut left: Vec<usize> = (0..units).collect();
    let round = units.div_ceil(ROUNDS);
    let mut floor = 0.0f64;
    while !left.is_empty() {
        let costs: Vec<Option<f64>> = left.par_iter().map(|unit| total(&readers, *unit)).collect();
        let mut ranked: Vec<(f64, usize)> = Vec::with_capacity(left.len());
        for (unit, cost) in left.iter().zip(costs) {
            ranked.push((cost?, *unit));
        }
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        ranked.truncate(round);
        for (cost, unit) in &ranked {
            floor = floor.next_up().max(*cost);
            scores[*unit] = floor;
        }
        let mut gone: Vec<usize> = ranked.iter().map(|(_, unit)| *unit).collect();
        gone.sort_unstable();
        left.retain(|unit| gone.binary_search(unit).is_err());
        let done: Option<Vec<()>> = readers
            .par_iter_mut()
            .map(|reader| {
                reader.eliminate(&gone)?;
                reader.compact();
                Some(())
            })
            .collect();
        done?;
    }
    Some(scores)
}

/// Scores of the units of each group that layers with moments read; other groups have no entry.
pub(super) fn scores(graph: &Graph, solution: &Solution, evidence: &Evidence) -> BTreeMap<usize, Vec<f64>> {
    let groups: Vec<(usize, &Group, Vec<usize>)> = solution
        .groups()
        .iter()
        .enumerate()
        .filter(|(_, group)| group.pin.is_none())
        .map(|(at, group)| (at, group, input_members(group, evidence)))
        .filter(|(_, _, inputs)| !inputs.is_empty())
        .collect();
    let value = |group: &Group, member: usize| group.members.get(member).map(|member| member.value);
    let mut last: BTreeMap<ValueId, usize> = BTreeMap::new();
    for (at, group, inputs) in &groups {
        last.extend(
            inputs
                .iter()
                .filter_map(|member| Some((value(group, *member)?, *at))),
        );
    }
    let mut prepared: BTreeMap<ValueId, Vec<Prepared<'_>>> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for (at, group, inputs) in &groups {
        for weight in inputs.iter().filter_map(|member| value(group, *member)) {
            prepared
                .entry(weight)
                .or_insert_with(|| prepare(graph, evidence, weight));
        }
        if let Some(scores) = ranked(group, inputs, &prepared) {
            found.insert(*at, scores);
        }
        // An inverse is as large as the Gram matrix: it goes with the last group that needs it.
        prepared.retain(|weight, _| last.get(weight).is_some_and(|last| last > at));
    }
    found
}

fn ranked(
    group: &Group,
    inputs: &[usize],
    prepared: &BTreeMap<ValueId, Vec<Prepared<'_>>>,
) -> Option<Vec<f64>> {
    let mut readers = Vec::new();
    for member in inputs {
        let channels = |unit: &Unit| -> Vec<usize> {
            unit.slices
                .iter()
                .filter(|(of, _)| *of as usize == *member)
                .map(|(_, index)| *index as usize)
                .collect()
        };
        let units: Vec<Vec<usize>> = group.units.iter().map(channels).collect();
        for layer in prepared.get(&group.members.get(*member)?.value)? {
            readers.push(layer.reader(&units)?);
        }
    }
    if readers.is_empty() {
        return None;
    }
    eliminate(readers, group.units.len())
}

/// Members that are the input channels of a layer.
pub(super) fn input_members(group: &Group, evidence: &Evidence) -> Vec<usize> {
    (0..group.members.len())
        .filter(|at| {
            group.members.get(*at).is_some_and(|member| {
                evidence
                    .readers(member.value)
                    .any(|(layer, _)| member.axis == 1 - layer.output_axis().min(1))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader over seeded moments, one column a unit.
    fn reader(units: usize, outputs: usize) -> (Reader, Array2<f64>) {
        let rows = 4 * units;
        let mut state = 7u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as f64 / (1u64 << 31) as f64 - 0.5
        };
        let mut samples = Array2::from_shape_simple_fn((rows, units), &mut draw);
        // The first two columns say nearly the same.
        let copy = samples.column(0).to_owned() * 1.01;
        samples.column_mut(1).assign(&copy);
        let weights = Array2::from_shape_simple_fn((outputs, units), &mut draw);
        let ridge = 1e-9;
        let covariance = samples.t().dot(&samples) / rows as f64;
        let damped = &covariance + &(Array2::<f64>::eye(units) * ridge);
        let reader = Reader {
            weights,
            inverse: Cholesky::new(damped).unwrap().inverse().unwrap(),
            ridge,
            variance: 1.0,
            columns: (0..units).map(|unit| unit..unit + 1).collect(),
        };
        (reader, covariance)
    }

    #[test]
    fn of_two_columns_that_say_the_same_one_is_free_and_the_other_is_not() {
        let (reader, _) = reader(8, 5);
        let (a, b) = (reader.cost(0).unwrap(), reader.cost(1).unwrap());
        let scores = eliminate(vec![reader], 8).unwrap();
        let (free, dear) = (scores[0].min(scores[1]), scores[0].max(scores[1]));
        assert!(
            a.max(b) < 1e-6 && free < 1e-6 && dear > 1e-3,
            "{a} {b} {scores:?}"
        );
    }

    #[test]
    fn the_sum_of_scores_is_the_loss_of_the_best_refit() {
        let (reader, covariance) = reader(6, 3);
        let weights = reader.weights.clone();
        let scores = eliminate(vec![reader], 6).unwrap();
        let mut order: Vec<usize> = (0..6).collect();
        order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
        let (gone, stay) = order.split_at(3);
        let c =
            |rows: &[usize], columns: &[usize]| covariance.select(Along(0), rows).select(Along(1), columns);
        let w = weights.select(Along(1), gone);
        let inner = Cholesky::new(c(stay, stay))
            .unwrap()
            .solve(c(stay, gone).view())
            .unwrap();
        let schur = c(gone, gone) - c(gone, stay).dot(&inner);
        let loss = (&w.dot(&schur) * &w).sum();
        let sum: f64 = gone.iter().map(|at| scores[*at]).sum();
        assert!((loss - sum).abs() <= 1e-4 * loss, "{loss} {sum}");
    }
}
