//! The pass `smooth-quant`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sites::{move_factors, prepared, weight_extremes};
use crate::analysis;
use crate::ir::Model;
use crate::passes::{About, Context, Needs, Pass, PassError, PassReport, ResourceError, Safety};
use crate::statistics::{Along, second_moments};

const NAME: &str = "smooth-quant";

/// Moves outliers of activations into weights, so that 8-bit codes of both lose less (Xiao et al. 2022).
///
/// Between a normalization and the matrix products that read it, channel `j` is divided by `max|x_j|^alpha / max|w_j|^(1 - alpha)`,
/// and the weights that multiply it take the factor. The model computes the same up to rounding. Run it before `quantize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SmoothQuant {
    /// How much of the range moves: 0 leaves weights even, 1 activations.
    pub alpha: f64,
    /// The role of the data that says how far each channel goes.
    pub data: String,
    /// Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen.
    pub prepare: bool,
}

impl Default for SmoothQuant {
    fn default() -> Self {
        Self {
            alpha: 0.5,
            data: "calibration".to_owned(),
            prepare: true,
        }
    }
}

impl Pass for SmoothQuant {
    fn about(&self) -> About {
        About::new(NAME, Safety::Rounding).needing(Needs::CALIBRATION)
    }

    fn data_roles(&self) -> Vec<String> {
        vec![self.data.clone()]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        if !(0.0..=1.0).contains(&self.alpha) {
            return Err(PassError::Option {
                pass: NAME,
                message: format!("alpha is from 0 to 1, not {}", self.alpha),
            });
        }
        let original = model.clone();
        let (found, mut report) = prepared(model, self.prepare, context)?;
        if found.is_empty() {
            *model = original;
            report.changes.clear();
            return Ok(report);
        }
        let resources = context.resources(NAME, "needs calibration data")?;
        let data = resources.data(&self.data, &model.graph).map_err(resource)?;
        let total = data.sample_range().end - data.sample_range().start;
        let wanted: Vec<Along> = found
            .iter()
            .map(|site| Along {
                value: site.name.clone(),
                axis: -1,
            })
            .collect();
        let moments = second_moments(
            model,
            &wanted,
            &data,
            resources.engine().map_err(resource)?,
            resources.jobs(),
            &|done| (context.progress)("calibrating", done, Some(total)),
        )
        .map_err(resource)?;
        let mut channels = 0;
        for (site, along) in found.iter().zip(&wanted) {
            let Some(largest) = moments
                .get(along)
                .map(|moments| &moments.largest)
                .filter(|largest| largest.len() == site.channels)
            else {
                continue;
            };
            let weights = weight_extremes(&model.graph, site).map_err(resource)?;
            let factors: Vec<f64> = largest
                .iter()
                .zip(&weights)
                .map(|(x, w)| factor(f64::from(*x), *w, self.alpha))
                .collect();
            channels += factors.iter().filter(|factor| **factor != 1.0).count() as u64;
            move_factors(model, site, &factors, NAME)?;
        }
        analysis::infer(model);
        report.evened = Some(Box::new(model.clone()));
        report.add("site", found.len() as u64);
        report.add("channel", channels);
        Ok(report)
    }
}

/// What a channel is divided by; 1 for one that is never or nowhere used.
fn factor(activation: f64, weight: f64, alpha: f64) -> f64 {
    let factor = activation.powf(alpha) / weight.powf(1.0 - alpha);
    if factor.is_normal() {
        factor.clamp(1e-5, 1e5)
    } else {
        1.0
    }
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}

#[cfg(test)]
mod tests {
    use super::factor;

    #[test]
    fn half_of_the_range_moves_so_that_both_sides_are_even() {
        let found = factor(16.0, 0.25, 0.5);
        assert!((16.0 / found - 0.25 * found).abs() < 1e-12);
        assert_eq!((factor(0.0, 1.0, 0.5), factor(1.0, 0.0, 0.5)), (1.0, 1.0));
        assert_eq!(factor(4.0, 1.0, 1.0), 4.0);
    }
}
