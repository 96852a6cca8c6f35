//! What calibration data says about the inputs of layers: collected once, for ranking and for the refit.

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
}

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
        Ok(Some(Self { layers, grams }))
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
