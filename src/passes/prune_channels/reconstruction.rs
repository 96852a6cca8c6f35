//! Ranking by what a cut costs the layers that read the channel, after the best refit of their weights.
//!
//! For a layer with weights `W`, covariance `C` of its rows and `P = (C + λI)⁻¹`, the outputs lose `tr(W_K ((P[K,K])⁻¹ - λI) W_Kᵀ)`
//! of squared error when the columns `K` go and the rest is refitted: Optimal Brain Surgeon (Hassibi and Stork 1992) for whole
//! channels. A channel that others can stand in for, or whose value hardly varies, costs little.

use std::collections::BTreeMap;

use ndarray::{Array2, Axis as Along};

use super::evidence::Evidence;
use super::refit::DAMPING;
use crate::axes::{Group, Solution};
use crate::ir::{Graph, ValueId};
use crate::linalg::Cholesky;
use crate::statistics::gram::Layer;

/// For a layer: its weights `[outputs, columns]`, the inverse covariance, and the variance of its outputs.
struct Prepared<'e> {
    layer: &'e Layer,
    weights: Array2<f64>,
    inverse: Array2<f64>,
    /// `λ`
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
            let covariance = moments.covariance();
            let variance = (&weights.dot(&covariance) * &weights).sum();
            let ridge = DAMPING * covariance.diag().mean()?;
            let inverse = Cholesky::damped(covariance, DAMPING).ok()?.inverse().ok()?;
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

impl Prepared<'_> {
    /// The share of the outputs' variance that the channels carry alone.
    fn cost(&self, channels: &[usize]) -> Option<f64> {
        let taps = self.layer.taps();
        let columns: Vec<usize> = channels
            .iter()
            .flat_map(|channel| channel * taps..(channel + 1) * taps)
            .collect();
        if columns.iter().any(|column| *column >= self.weights.ncols()) {
            return None;
        }
        let block = self.inverse.select(Along(0), &columns).select(Along(1), &columns);
        let part = self.weights.select(Along(1), &columns);
        let solved = Cholesky::new(block).ok()?.solve(part.t()).ok()?;
        let lost = (&solved.t() * &part).sum() - self.ridge * (&part * &part).sum();
        Some(lost.max(0.0) / self.variance.max(f64::MIN_POSITIVE))
    }
}

/// Scores of the units of each group that layers with moments read; other groups have no entry.
pub(super) fn scores(graph: &Graph, solution: &Solution, evidence: &Evidence) -> BTreeMap<usize, Vec<f64>> {
    let mut prepared: BTreeMap<ValueId, Vec<Prepared<'_>>> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for (at, group) in solution.groups().iter().enumerate() {
        if group.pin.is_some() {
            continue;
        }
        let inputs = input_members(group, evidence);
        for member in &inputs {
            if let Some(value) = group.members.get(*member).map(|member| member.value) {
                prepared
                    .entry(value)
                    .or_insert_with(|| prepare(graph, evidence, value));
            }
        }
        let score = |unit: &crate::axes::Unit| -> Option<f64> {
            let mut total = None;
            for member in &inputs {
                let channels: Vec<usize> = unit
                    .slices
                    .iter()
                    .filter(|(of, _)| *of as usize == *member)
                    .map(|(_, index)| *index as usize)
                    .collect();
                for reader in prepared.get(&group.members.get(*member)?.value)? {
                    *total.get_or_insert(0.0) += reader.cost(&channels)?;
                }
            }
            total
        };
        let scores: Option<Vec<f64>> = group.units.iter().map(score).collect();
        if let Some(scores) = scores {
            found.insert(at, scores);
        }
    }
    found
}

/// Members that are the input channels of a layer.
fn input_members(group: &Group, evidence: &Evidence) -> Vec<usize> {
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
