//! Statistics for `quantize`, collected apart from it: on one machine, or on several that each take a part of the data.

use std::collections::{BTreeMap, BTreeSet};

use super::{NAME, Profile, Quantize, label, plan, roles};
use crate::data::{DataError, Dataset};
use crate::engine::Engine;
use crate::ir::{Graph, Model, model_digest};
use crate::passes::{Context, PassError, PassReport, ResourceError};
use crate::statistics::{self, Statistics, Subject, Wanted};

/// Makes `model` ready as `quantize` does, runs it on the data that `open` answers for its inputs, and summarises every value
/// that a profile may want: histograms, and means and extremes of channels.
pub fn collect_statistics(
    model: &mut Model,
    context: &Context<'_>,
    open: &dyn Fn(&Graph) -> Result<Dataset, DataError>,
    engine: &dyn Engine,
    jobs: usize,
) -> Result<Statistics, PassError> {
    Quantize::default().make_ready(model, context, &mut PassReport::default())?;
    let opset = model.opset().unwrap_or(13);
    let mut names: BTreeSet<String> = BTreeSet::new();
    // Symmetric codes imply no clamp, so there are pairs in front of more of them.
    let profiles = Profile::ALL
        .into_iter()
        .flat_map(|profile| [(profile, false), (profile, true)]);
    for (profile, symmetric) in profiles {
        let wishes = roles::Wishes {
            excluded: &|_| None,
            activation: profile.activation(),
            symmetric,
            named: &|_| None,
            simulated: &|_, _, _| None,
        };
        let plan = plan::plan(&model.graph, profile, opset, &wishes);
        let inputs = plan
            .products
            .iter()
            .filter_map(|product| model.graph.input(*product, 0));
        let wanted = plan
            .activations
            .iter()
            .flat_map(|((value, _), sources)| sources.iter().copied().chain([*value]))
            .chain(inputs);
        names.extend(
            wanted
                .filter(|value| model.graph.constant(*value).is_none())
                .map(|value| label(model, value)),
        );
    }
    let names: Vec<String> = names.into_iter().collect();
    let data = open(&model.graph).map_err(resource)?;
    let samples = data.sample_range();
    let total = samples.end - samples.start;
    let wanted = Wanted {
        histograms: true,
        channel_means: true,
        channel_extremes: true,
        sample_extremes: true,
    };
    let progress =
        |done: u64| (context.progress)("collecting", done.saturating_sub(samples.start), Some(total));
    let values =
        statistics::collect(model, &names, wanted, &data, engine, jobs, &progress).map_err(resource)?;
    let subject = Subject {
        model: model_digest(model),
        data: data.digest().to_owned(),
        samples: data.samples(),
        batch: data.batch_size(),
        engine: engine.name().to_owned(),
        rows_per_sample: None,
    };
    Ok(Statistics::of(subject, samples, values, BTreeMap::new()))
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
