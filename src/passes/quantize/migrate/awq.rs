//! The pass `awq`.

use ndarray::{Array1, Array2};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sites::{Site, move_factors, prepared};
use crate::analysis;
use crate::ir::{Graph, Model, TensorError};
use crate::passes::{About, Context, Needs, Pass, PassError, PassReport, ResourceError, Safety};
use crate::quantize::{Grid, Kind, Parameters, QuantizeError, Scheme, nearest, output_error, parameters};
use crate::statistics::gram::{self, Gram, GramOptions, Layer};

const NAME: &str = "awq";

/// Exponents that the search tries, from 0 (nothing moves) to 1.
const STEPS: u32 = 20;

/// Scales the weights that multiply large activations up before they are rounded, so that they lose less (activation-aware weight
/// quantization, Lin et al. 2023).
///
/// Between a normalization and the matrix products that read it, channel `j` is divided by `rms(x_j)^alpha`, and the weights that
/// multiply it take the factor; `alpha` is the one with which the rounded weights change the products' outputs least on the
/// calibration data, from second moments. The model computes the same up to rounding. Run it before `quantize-weights` with the
/// same type and block.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Awq {
    /// Type of the codes that the weights will have.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Elements along the summed dimension that will share a scale; 0: a whole output channel.
    pub block: usize,
    /// Zero is in the middle of the codes; else each scale has a zero point.
    pub symmetric: bool,
    /// The role of the data that second moments come from.
    pub data: String,
    /// Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen.
    pub prepare: bool,
}

impl Default for Awq {
    fn default() -> Self {
        Self {
            kind: Kind::Int4,
            block: 32,
            symmetric: true,
            data: "calibration".to_owned(),
            prepare: true,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SearchError {
    #[error(transparent)]
    Codes(#[from] QuantizeError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Factors of a site, and by how much the error falls: after over before.
struct Choice {
    factors: Vec<f64>,
    left: f64,
}

impl Pass for Awq {
    fn about(&self) -> About {
        About::new(NAME, Safety::Rounding).needing(Needs::CALIBRATION)
    }

    fn data_roles(&self) -> Vec<String> {
        vec![self.data.clone()]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let original = model.clone();
        let (found, mut report) = prepared(model, self.prepare, context)?;
        let read: Vec<Layer> = gram::layers(&model.graph)
            .0
            .into_iter()
            .filter(|layer| found.iter().any(|site| site.value == layer.input))
            .collect();
        let resources = context.resources(NAME, "needs calibration data")?;
        let data = resources.data(&self.data, &model.graph).map_err(resource)?;
        let total = data.sample_range().end - data.sample_range().start;
        let grams = gram::collect(
            model,
            &read,
            GramOptions::default(),
            &data,
            resources.engine().map_err(resource)?,
            resources.jobs(),
            &|done| (context.progress)("second moments", done, Some(total)),
        )
        .map_err(resource)?;
        let mut moved = 0;
        for site in &found {
            let layers: Vec<&Layer> = read.iter().filter(|layer| layer.input == site.value).collect();
            let Some(gram) = layers
                .first()
                .and_then(|layer| grams.of(layer))
                .and_then(<[Gram]>::first)
            else {
                continue;
            };
            let choice = self
                .search(&model.graph, site, &layers, gram)
                .map_err(|error| resource(format!("{}: {error}", site.name)))?;
            let Some(choice) = choice else { continue };
            move_factors(model, site, &choice.factors, NAME)?;
            moved += 1;
            report.notes.push(format!(
                "{}: {:.0} % of the error of rounded weights is left",
                site.name,
                100.0 * choice.left
            ));
        }
        if moved == 0 {
            *model = original;
            report.changes.clear();
            return Ok(report);
        }
        analysis::infer(model);
        report.evened = Some(Box::new(model.clone()));
        report.add("site", moved);
        Ok(report)
    }
}

impl Awq {
    /// The factors with the least error; `None` when none is better than no factors.
    fn search(
        &self,
        graph: &Graph,
        site: &Site,
        layers: &[&Layer],
        gram: &Gram,
    ) -> Result<Option<Choice>, SearchError> {
        let mut weights: Vec<Array2<f64>> = Vec::new();
        for layer in layers {
            let Some(tensor) = graph.constant(layer.weight) else {
                return Ok(None);
            };
            let matrices = layer.matrices(tensor)?;
            weights.push(matrices.index_axis_move(ndarray::Axis(0), 0));
        }
        let sizes = gram
            .matrix
            .diag()
            .mapv(|square| (square / gram.rows.max(1) as f64).sqrt());
        if sizes.len() != site.channels {
            return Ok(None);
        }
        let plain = self.error(&weights, &gram.matrix, &Array1::ones(site.channels))?;
        let mut best: Option<(f64, Array1<f64>)> = None;
        for step in 1..=STEPS {
            let alpha = f64::from(step) / f64::from(STEPS);
            let mut factors = sizes.mapv(|size| size.powf(alpha));
            // Around one, so that the values between stay in the range that they have.
            let logs = factors.iter().filter(|f| f.is_normal()).map(|f| f.ln());
            let (sum, count) = logs.fold((0.0, 0u32), |(sum, count), log| (sum + log, count + 1));
            let middle = (sum / f64::from(count.max(1))).exp();
            factors.mapv_inplace(|factor| {
                let factor = factor / middle;
                if factor.is_normal() {
                    factor.clamp(1e-4, 1e4)
                } else {
                    1.0
                }
            });
            let error = self.error(&weights, &gram.matrix, &factors)?;
            if error < plain && best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, factors));
            }
        }
        Ok(best.map(|(error, factors)| Choice {
            factors: factors.to_vec(),
            left: error / plain,
        }))
    }

    /// The error of the products' outputs when weights times factors are rounded and the rows divided by the factors.
    fn error(
        &self,
        weights: &[Array2<f64>],
        moment: &Array2<f64>,
        factors: &Array1<f64>,
    ) -> Result<f64, SearchError> {
        let inverse = factors.mapv(f64::recip);
        let scaled_moment = moment * &inverse * inverse.view().insert_axis(ndarray::Axis(1));
        let mut sum = 0.0;
        for matrix in weights {
            let scaled = matrix * factors;
            let grid = self.grid(&scaled)?;
            let codes = nearest(scaled.view(), &grid);
            sum += output_error(scaled.view(), scaled_moment.view(), &grid, &codes);
        }
        Ok(sum)
    }

    /// Ranges as `quantize-weights` takes them: from the lowest to the highest weight.
    fn grid(&self, weights: &Array2<f64>) -> Result<Grid, SearchError> {
        let columns = weights.ncols().max(1);
        let size = if self.block == 0 {
            columns
        } else {
            self.block.min(columns)
        };
        let scheme = Scheme::new(self.kind, self.symmetric);
        let mut found: Vec<Parameters> = Vec::new();
        for row in weights.rows() {
            for block in row.to_vec().chunks(size) {
                let (low, high) = block.iter().fold((0f64, 0f64), |(low, high), value| {
                    (low.min(*value), high.max(*value))
                });
                found.push(parameters(low as f32, high as f32, &scheme)?);
            }
        }
        Ok(Grid {
            kind: self.kind,
            parameters: found,
            blocks: columns.div_ceil(size),
            size,
            limits: Vec::new(),
        })
    }
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
