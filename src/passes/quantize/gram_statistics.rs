//! Gram matrices for the passes that fit weights to data: from a statistics file, or collected for the layers at hand.
//!
//! A file is of the model as it was given. Passes prepare the model first, which keeps the meaning of named values, so layers are
//! found by the value that they read and how; a layer whose input lost its name has no entry.

use std::collections::BTreeMap;
use std::path::Path;

use crate::analysis;
use crate::data::{DataError, Dataset};
use crate::engine::Engine;
use crate::ir::{Graph, Model, model_digest};
use crate::passes::simplify::Simplify;
use crate::passes::{Context, Kept, Pass as _, PassError, PassReport, prepare};
use crate::statistics::gram::{self, GramOptions, Grams, Layer};
use crate::statistics::{FileFault, Statistics, StatisticsFileError, Subject};

/// Where Gram matrices come from.
#[derive(Clone, Copy, Debug)]
pub(in crate::passes) struct GramSource<'a> {
    /// The pass that asks.
    pub(in crate::passes) pass: &'static str,
    /// The role of the data.
    pub(in crate::passes) data: &'a str,
    /// A statistics file that takes the place of data.
    pub(in crate::passes) stats: Option<&'a Path>,
}

/// The digest that Gram matrices of `model` are kept under.
fn digest(model: &Model) -> String {
    let mut named = model.clone();
    named.name_values();
    model_digest(&named)
}

/// Gram matrices for `layers` of `prepared`, which was made from `given` without changing what its values are.
pub(in crate::passes) fn grams(
    source: GramSource<'_>,
    given: &Model,
    prepared: &Model,
    layers: &[Layer],
    context: &Context<'_>,
) -> Result<Grams, PassError> {
    let pass = source.pass;
    if let Some(path) = source.stats {
        let file = context.base.join(path);
        let found = Statistics::read(&file).map_err(|error| PassError::resource(pass, error))?;
        if found.subject.model != digest(given) {
            let reason = FileFault::OtherModel;
            let error = StatisticsFileError::File { file, reason };
            return Err(PassError::resource(pass, error));
        }
        if found.grams.by_key.is_empty() {
            let reason = FileFault::NoGrams;
            let error = StatisticsFileError::File { file, reason };
            return Err(PassError::resource(pass, error));
        }
        return Ok(found.grams);
    }
    let resources = context.resources(source.pass, "needs calibration data or stats")?;
    let data = resources
        .data(source.data, &prepared.graph)
        .map_err(|error| PassError::resource(pass, error))?;
    let engine = resources
        .engine()
        .map_err(|error| PassError::resource(pass, error))?;
    let samples = data.sample_range();
    let total = samples.end - samples.start;
    let progress =
        |done: u64| (context.progress)("collecting", done.saturating_sub(samples.start), Some(total));
    let options = GramOptions::default();
    let jobs = resources.jobs();
    Kept::grams(resources.kept(), (prepared, layers), &data, || {
        gram::collect(prepared, layers, options, &data, engine, jobs, &progress)
    })
    .map_err(|error| PassError::resource(pass, error))
}

/// Statistics for `secateur stats --for gram`: simplifies a copy of `model`, so that layers are what passes make of them, and sums
/// up the rows of each.
pub fn collect_gram_statistics(
    model: &Model,
    context: &Context<'_>,
    options: GramOptions,
    open: &dyn Fn(&Graph) -> Result<Dataset, DataError>,
    engine: &dyn Engine,
    jobs: usize,
) -> Result<(Statistics, PassReport), PassError> {
    let pass = "stats";
    let mut prepared = model.clone();
    analysis::infer(&mut prepared);
    prepared.name_values();
    let mut report = Simplify::default().run(&mut prepared, context)?;
    prepare::name(&mut prepared);
    let (layers, skipped) = gram::layers(&prepared.graph);
    report.notes = skipped
        .iter()
        .map(|one| format!("{}: {}", one.node, one.reason))
        .collect();
    let data = open(&prepared.graph).map_err(|error| PassError::resource(pass, error))?;
    let samples = data.sample_range();
    let total = samples.end - samples.start;
    let progress =
        |done: u64| (context.progress)("collecting", done.saturating_sub(samples.start), Some(total));
    let (grams, range) = gram::collect_sums(&prepared, &layers, options, &data, engine, jobs, &progress)
        .map_err(|error| PassError::resource(pass, error))?;
    let subject = Subject {
        model: digest(model),
        data: data.digest().to_owned(),
        samples: data.samples(),
        batch: data.batch_size(),
        engine: engine.name().to_owned(),
        rows_per_sample: Some(options.rows_per_sample as u64),
    };
    if range.is_empty() {
        report.notes.push(format!(
            "no samples: rows are added up in chunks of {} samples, and none begins in this part",
            gram::CHUNK_SAMPLES
        ));
    }
    Ok((Statistics::of(subject, range, BTreeMap::new(), grams), report))
}
