//! How much each weight matters.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::layers::Layer;
use super::options::Criterion;
use crate::ir::GraphPath;
use crate::statistics::{Along, Gradient, GradientStatistics, SecondMoments};

/// What criteria know beside the weights.
#[derive(Default)]
pub(super) struct Evidence {
    pub(super) gradients: Option<GradientStatistics>,
    pub(super) moments: BTreeMap<Along, SecondMoments>,
    pub(super) seed: u64,
}

/// What a criterion does not know of a layer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Unscored {
    #[error("what it multiplies has no name in the main graph")]
    Unnamed,
    #[error("nothing is known of {value}")]
    NoMoments { value: String },
    #[error("{value} has {channels} channels, the weights sum over {summed}")]
    Channels {
        value: String,
        channels: usize,
        summed: usize,
    },
    #[error("the loss has no gradient with respect to it")]
    NoGradient,
    #[error("its gradients have the shape {dims:?}")]
    GradientShape { dims: Vec<u64> },
}

/// A score for each weight of a layer, in the order of its elements.
pub(super) fn scores(
    criterion: Criterion,
    layer: &Layer,
    weights: &[f32],
    evidence: &Evidence,
    at: usize,
) -> Result<Vec<f32>, Unscored> {
    Ok(match criterion {
        Criterion::Magnitude => weights.iter().map(|weight| weight.abs()).collect(),
        Criterion::Random => {
            let mut rng = ChaCha8Rng::seed_from_u64(evidence.seed);
            rng.set_stream(at as u64);
            weights.iter().map(|_| (rng.next_u32() >> 8) as f32).collect()
        }
        Criterion::Gradient => by_gradient(layer, evidence, weights, |gradient, at, _| {
            gradient.sum.get(at).map(|sum| sum.abs())
        })?,
        Criterion::Taylor => by_gradient(layer, evidence, weights, |gradient, at, weight| {
            gradient.absolute.get(at).map(|sum| sum * weight.abs())
        })?,
        Criterion::Fisher => by_gradient(layer, evidence, weights, |gradient, at, weight| {
            gradient.squared.get(at).map(|sum| 0.5 * sum * weight * weight)
        })?,
        Criterion::Wanda => {
            let input = layer.input.as_ref().ok_or(Unscored::Unnamed)?;
            let moments = evidence.moments.get(input).ok_or_else(|| Unscored::NoMoments {
                value: input.value.to_string(),
            })?;
            let norms = moments.norms();
            let size = |axis: usize| layer.dims.get(axis).copied().unwrap_or(1).max(1);
            let (outputs, inputs) = (size(layer.output_axis), size(layer.sum_axis));
            if norms.len() != inputs * layer.groups {
                return Err(Unscored::Channels {
                    value: input.value.to_string(),
                    channels: norms.len(),
                    summed: inputs * layer.groups,
                });
            }
            let (output, sum) = (layer.along(layer.output_axis), layer.along(layer.sum_axis));
            let per_group = (outputs / layer.groups).max(1);
            let norm = |at: usize| {
                norms.get(output(at) / per_group * inputs * usize::from(layer.groups > 1) + sum(at))
            };
            weights
                .iter()
                .enumerate()
                .map(|(at, weight)| (f64::from(weight.abs()) * norm(at).copied().unwrap_or(0.0)) as f32)
                .collect()
        }
    })
}

/// Scores from what is known of the gradients of a parameter, as means over samples.
fn by_gradient(
    layer: &Layer,
    evidence: &Evidence,
    weights: &[f32],
    score: impl Fn(&Gradient, usize, f64) -> Option<f64>,
) -> Result<Vec<f32>, Unscored> {
    let known = evidence
        .gradients
        .as_ref()
        .filter(|_| layer.path == GraphPath::MAIN);
    let found = known.and_then(|statistics| Some((statistics, statistics.values.get(&layer.name)?)));
    let (statistics, gradient) = found.ok_or(Unscored::NoGradient)?;
    let dims: Vec<u64> = layer.dims.iter().map(|dim| *dim as u64).collect();
    if gradient.dims != dims {
        return Err(Unscored::GradientShape {
            dims: gradient.dims.clone(),
        });
    }
    let count = statistics.gradients.max(1) as f64;
    Ok(weights
        .iter()
        .enumerate()
        .map(|(at, weight)| (score(gradient, at, f64::from(*weight)).unwrap_or(0.0) / count) as f32)
        .collect())
}
