//! How much of what a layer puts out lies in how many directions.

use ndarray::{Array1, Array2, Axis, s};

use super::options::Basis;
use super::rank::Choice;
use crate::ir::Tensor;
use crate::linalg::symmetric;
use crate::passes::prune::bias::Bias;
use crate::statistics::gram::{Gram, Layer};

/// A layer that can be factorized.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) layer: Layer,
    pub(super) bias: Bias,
    /// `[outputs, ranks]`: the directions, the one with the most variance first, as many as are worth it.
    directions: Array2<f64>,
    /// Share of the variance outside of the first `1, 2, ...` directions.
    lost: Vec<f64>,
    /// The mean of the outputs before the bias, where it is known and can be kept.
    mean: Option<Array1<f64>>,
}

/// The two weights of a layer of some rank.
pub(super) struct Factors {
    /// `[outputs, rank]`.
    pub(super) expand: Array2<f64>,
    /// `[rank, columns]`.
    pub(super) reduce: Array2<f64>,
    /// What the bias gets added.
    pub(super) shift: Option<Vec<f64>>,
}

impl Candidate {
    /// The spectrum of a layer with these weights. `Err` says why it is left alone.
    pub(super) fn new(
        layer: Layer,
        (weight, bias): (&Tensor, Bias),
        basis: Basis,
        moments: Option<&Gram>,
    ) -> Result<Self, &'static str> {
        let most = (layer.outputs * layer.columns - 1) / (layer.outputs + layer.columns);
        if most == 0 {
            return Err("two layers of any rank would be larger");
        }
        let weights = matrix(&layer, weight).ok_or("its weight cannot be read")?;
        let (spread, mean) = match (basis, moments) {
            (Basis::Weights, _) => (weights.dot(&weights.t()), None),
            (Basis::Outputs, None) => return Err("no rows reach it"),
            (Basis::Outputs, Some(moments)) => {
                let keeps_mean = bias != Bias::Nowhere;
                let inputs = match keeps_mean {
                    true => moments.covariance(),
                    false => moments.second_moment(),
                };
                let mean = keeps_mean.then(|| weights.dot(&moments.mean()));
                (weights.dot(&inputs).dot(&weights.t()), mean)
            }
        };
        let found = symmetric(spread.view()).ok_or("the variance of its outputs is not finite")?;
        let values: Vec<f64> = found.values.iter().map(|value| value.max(0.0)).collect();
        // From the smallest on, so that small shares are not lost to rounding.
        let mut rest: Vec<f64> = values
            .iter()
            .rev()
            .scan(0.0, |sum, value| {
                let before = *sum;
                *sum += value;
                Some(before)
            })
            .collect();
        rest.reverse();
        let total: f64 = values.iter().rev().sum();
        let share = |rest: f64| if total > 0.0 { rest / total } else { 0.0 };
        Ok(Self {
            lost: rest.into_iter().take(most).map(share).collect(),
            directions: found.vectors.slice(s![.., ..most]).to_owned(),
            mean,
            layer,
            bias,
        })
    }

    /// The ranks that it may get, the highest first, for a layer that costs this as it is.
    pub(super) fn choices(&self, cost: f64, round_to: usize) -> Vec<Choice> {
        let (outputs, columns) = (self.layer.outputs as f64, self.layer.columns as f64);
        let whole = outputs * columns;
        let choice = |rank: usize| {
            Some(Choice {
                rank,
                freed: cost * (1.0 - rank as f64 * (outputs + columns) / whole),
                lost: *self.lost.get(rank.checked_sub(1)?)?,
            })
        };
        let ranks = (1..=self.lost.len())
            .rev()
            .filter(|rank| rank % round_to.max(1) == 0);
        ranks.filter_map(choice).collect()
    }

    /// The weights of two layers in its place.
    pub(super) fn factors(&self, rank: usize, weight: &Tensor) -> Option<Factors> {
        let weights = matrix(&self.layer, weight)?;
        let expand = self.directions.slice(s![.., ..rank]).to_owned();
        let shift = self.mean.as_ref().map(|mean| {
            let kept = expand.dot(&expand.t().dot(mean));
            (mean - &kept).to_vec()
        });
        Some(Factors {
            reduce: expand.t().dot(&weights),
            expand,
            shift,
        })
    }
}

fn matrix(layer: &Layer, weight: &Tensor) -> Option<Array2<f64>> {
    Some(layer.matrices(weight).ok()?.index_axis_move(Axis(0), 0))
}
