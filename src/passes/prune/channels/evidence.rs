//! What data says about a model: moments of the inputs of layers and gradients of the loss, collected once, for ranking and for the
//! refit.

use ndarray::Array2;

use super::choose::Start;
use super::options::{Criterion, PruneChannels};
use crate::engine::Engine;
use crate::ir::{Model, ValueId};
use crate::passes::train::gradient_statistics;
use crate::passes::{Context, Kept, PassError, ResourceError, Resources};
use crate::statistics::GradientStatistics;
use crate::statistics::gram::{self, Gram, GramOptions, Grams, Layer};

const NAME: &str = "prune-channels";

/// What data says about a model.
#[derive(Debug, Default)]
pub struct Evidence {
    layers: Vec<Layer>,
    grams: Grams,
    samples: u64,
    gradients: Option<GradientStatistics>,
}

/// What ranking may ask beside the model.
#[derive(Clone, Copy, Default)]
pub struct Measured<'a> {
    /// What data says.
    pub evidence: Option<&'a Evidence>,
    /// The engine whose time `target-latency` is of.
    pub clock: Option<&'a dyn Engine>,
    /// Shapes before the first round, which `max-ratio` is a share of; without them those of the model.
    pub start: Option<&'a Start>,
}

/// Added to each variance, as a share of their mean: keeps factorisations stable.
const RIDGE: f64 = 1e-4;

/// Greatest shrinkage of correlations.
const MOST_SHRINKAGE: f64 = 0.9;

impl Evidence {
    /// Whether the options ask for samples.
    pub(super) fn takes_samples(options: &PruneChannels) -> bool {
        options.refit || matches!(options.criterion, Criterion::Reconstruction | Criterion::Wanda)
    }

    /// Whether the options ask for labelled samples.
    pub(super) fn takes_labels(options: &PruneChannels) -> bool {
        matches!(
            options.criterion,
            Criterion::Gradient | Criterion::Taylor | Criterion::Fisher
        )
    }

    /// Runs `model` over the data that the options ask for; `None` if they ask for none.
    pub(super) fn collect(
        model: &Model,
        options: &PruneChannels,
        context: &Context<'_>,
    ) -> Result<Option<Self>, PassError> {
        let (samples, labels) = (Self::takes_samples(options), Self::takes_labels(options));
        if !samples && !labels {
            return Ok(None);
        }
        let resources = context.resources(NAME, "refit and this criterion need data and an engine")?;
        let mut evidence = Self::default();
        if samples {
            evidence.take_samples(model, options, resources, context)?;
        }
        if labels {
            let objective = options.loss.objective(options.loss_output.as_deref());
            let open = |model: &Model| resources.data(&options.training, &model.graph);
            let engine = resources.engine().map_err(resource)?;
            let jobs = resources.jobs();
            let found = gradient_statistics(model, &objective, open, engine, jobs, context.progress);
            evidence.gradients = Some(found.map_err(resource)?);
        }
        Ok(Some(evidence))
    }

    fn take_samples(
        &mut self,
        model: &Model,
        options: &PruneChannels,
        resources: &dyn Resources,
        context: &Context<'_>,
    ) -> Result<(), PassError> {
        let (layers, _) = gram::layers(&model.graph);
        let data = resources.data(&options.data, &model.graph).map_err(resource)?;
        let engine = resources.engine().map_err(resource)?;
        let samples = data.sample_range();
        let total = samples.end - samples.start;
        let progress = |done: u64| {
            (context.progress)("second moments", done.saturating_sub(samples.start), Some(total));
        };
        let jobs = resources.jobs();
        self.grams = Kept::grams(resources.kept(), (model, &layers), &data, || {
            gram::collect(
                model,
                &layers,
                GramOptions::default(),
                &data,
                engine,
                jobs,
                &progress,
            )
        })
        .map_err(resource)?;
        self.layers = layers;
        self.samples = total;
        Ok(())
    }

    /// The gradient statistics, if there are any.
    pub(super) fn gradients(&self) -> Option<&GradientStatistics> {
        self.gradients.as_ref()
    }

    /// How much the correlations of a covariance are worth less than they seem, `λ = ρ / (1 - ρ)` for the estimate
    /// `(1 - ρ) C + ρ diag(C)`.
    ///
    /// `ρ` is that of oracle approximating shrinkage (Chen, Wiesel, Eldar and Hero 2010) of the correlation matrix towards the
    /// identity. Rows of one sample, the positions of an image, depend on each other: the rows count as the geometric mean of their
    /// number and the number of samples.
    pub(super) fn shrinkage(&self, rows: u64, covariance: &Array2<f64>) -> f64 {
        let scale: Vec<f64> = covariance.diag().iter().map(|variance| variance.sqrt()).collect();
        let mut square = 0.0;
        let mut live = 0.0;
        for (row, a) in covariance
            .rows()
            .into_iter()
            .zip(&scale)
            .filter(|(_, a)| **a > 0.0)
        {
            live += 1.0;
            for (value, b) in row.iter().zip(&scale).filter(|(_, b)| **b > 0.0) {
                square += (value / (a * b)).powi(2);
            }
        }
        if live < 2.0 {
            return 0.0;
        }
        let rows = ((rows as f64) * (self.samples.max(1) as f64)).sqrt();
        let above = (1.0 - 2.0 / live) * square + live * live;
        let below = (rows + 1.0 - 2.0 / live) * (square - live);
        let share = if below > 0.0 { above / below } else { 1.0 };
        let share = share.clamp(0.0, MOST_SHRINKAGE);
        share / (1.0 - share)
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

/// Adds `λ` of each variance to it, and a ridge that is answered.
pub(super) fn damp(covariance: &mut Array2<f64>, shrinkage: f64) -> f64 {
    let ridge = RIDGE * covariance.diag().mean().unwrap_or(0.0) + f64::MIN_POSITIVE;
    for variance in covariance.diag_mut() {
        *variance += shrinkage * variance.max(0.0) + ridge;
    }
    ridge
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
