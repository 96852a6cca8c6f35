//! Gram matrices of a model's layers, collected apart from the passes that fit weights to data.
//!
//! A file is of the model as it was given. Passes prepare the model first, which keeps the meaning of named values, so layers are
//! found by the value that they read and how; a layer whose input lost its name has no entry.

use super::{Context, Pass as _, PassError, PassReport, Simplify};
use crate::analysis;
use crate::data::{DataError, Dataset};
use crate::engine::Engine;
use crate::ir::{Graph, Model};
use crate::statistics::gram::{self, GramOptions};
use crate::statistics::{self, Statistics, Subject};

/// The digest that Gram matrices of `model` are kept under.
fn digest(model: &Model) -> String {
    let mut named = model.clone();
    named.name_values();
    statistics::model_digest(&named)
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
    let resource = |message: String| PassError::Resource {
        pass: "stats",
        message,
    };
    let mut prepared = model.clone();
    analysis::infer(&mut prepared);
    prepared.name_values();
    let mut report = Simplify::default().run(&mut prepared, context)?;
    prepared.name_values();
    analysis::infer(&mut prepared);
    let (layers, skipped) = gram::layers(&prepared.graph);
    report.notes = skipped
        .iter()
        .map(|one| format!("{}: {}", one.node, one.reason))
        .collect();
    let data = open(&prepared.graph).map_err(|error| resource(error.to_string()))?;
    let samples = data.sample_range();
    let total = samples.end - samples.start;
    let progress =
        |done: u64| (context.progress)("collecting", done.saturating_sub(samples.start), Some(total));
    let grams = gram::collect(&prepared, &layers, options, &data, engine, jobs, &progress)
        .map_err(|error| resource(error.to_string()))?;
    let statistics = Statistics {
        subject: Subject {
            model: digest(model),
            data: data.digest().to_owned(),
            samples: data.samples(),
            batch: data.batch_size(),
            engine: engine.name().to_owned(),
        },
        ranges: vec![(samples.start, samples.end)],
        grams,
        ..Statistics::default()
    };
    Ok((statistics, report))
}
