//! What calibration data says about the inputs of layers: collected once, for ranking and for the refit.

use ndarray::Array2;

use super::options::{Criterion, PruneChannels};
use crate::ir::{Model, ValueId};
use crate::passes::{Context, PassError};
use crate::statistics::gram::{self, Gram, GramOptions, Grams, Layer};

const NAME: &str = "prune-channels";

/// Second moments of what the layers of a model read.
#[derive(Debug)]
pub struct Evidence {
    layers: Vec<Layer>,
    grams: Grams,
    samples: u64,
}

/// Least damping, as a share of the mean variance: keeps factorisations stable.
const LEAST_DAMPING: f64 = 1e-4;

/// Greatest share of the mean variance in a shrunk covariance.
const MOST_SHRINKAGE: f64 = 0.9;

impl Evidence {
    /// Whether the options ask for it.
    pub(super) fn is_wanted(options: &PruneChannels) -> bool {
        options.refit || options.criterion == Criterion::Reconstruction
    }

    /// Runs `model` over the calibration data, if the options ask for what that says.
    pub(super) fn collect(
        model: &Model,
        options: &PruneChannels,
        context: &Context<'_>,
    ) -> Result<Option<Self>, PassError> {
        if !Self::is_wanted(options) {
            return Ok(None);
        }
        let resource = |message: String| PassError::Resource { pass: NAME, message };
        let resources = context.resources.ok_or_else(|| {
            resource("refit and the criterion reconstruction need data and an engine".to_owned())
        })?;
        let (layers, _) = gram::layers(&model.graph);
        let data = resources.data(&options.data, &model.graph).map_err(resource)?;
        let engine = resources.engine().map_err(resource)?;
        let samples = data.sample_range();
        let total = samples.end - samples.start;
        let progress = |done: u64| {
            (context.progress)("second moments", done.saturating_sub(samples.start), Some(total));
        };
        let jobs = resources.jobs();
        let grams = gram::collect(
            model,
            &layers,
            GramOptions::default(),
            &data,
            engine,
            jobs,
            &progress,
        )
        .map_err(|error| resource(error.to_string()))?;
        Ok(Some(Self {
            layers,
            grams,
            samples: total,
        }))
    }

    /// What to add to each variance, as a share of their mean, before a covariance is inverted.
    ///
    /// Oracle approximating shrinkage (Chen, Wiesel, Eldar and Hero 2010) gives the share ρ of the mean variance in the estimate
    /// `(1 - ρ) C + ρ μ I`; this is `ρ / (1 - ρ)`. Rows of one sample, the positions of an image, depend on each other: the
    /// rows count as the geometric mean of their number and the number of samples.
    pub(super) fn damping(&self, moments: &Gram, covariance: &Array2<f64>) -> f64 {
        let columns = covariance.nrows().max(1) as f64;
        let rows = ((moments.rows as f64) * (self.samples.max(1) as f64)).sqrt();
        let trace = covariance.diag().sum();
        let square: f64 = covariance.iter().map(|value| value * value).sum();
        let above = (1.0 - 2.0 / columns) * square + trace * trace;
        let below = (rows + 1.0 - 2.0 / columns) * (square - trace * trace / columns);
        let share = if below > 0.0 { above / below } else { 1.0 };
        let share = share.clamp(0.0, MOST_SHRINKAGE);
        (share / (1.0 - share)).max(LEAST_DAMPING)
    }

    /// Every layer, those without rows included.
    pub(super) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The moments of the rows of a layer that has one group.
    pub(super) fn moments(&self, layer: &Layer) -> Option<&Gram> {
        match self.grams.of(layer)? {
            [moments] => Some(moments),
            _ => None,
        }
    }

    /// The layers of one group that multiply with `weight`.
    pub(super) fn readers(&self, weight: ValueId) -> impl Iterator<Item = (&Layer, &Gram)> {
        self.layers
            .iter()
            .filter(move |layer| layer.weight == weight)
            .filter_map(|layer| Some((layer, self.moments(layer)?)))
    }
}
