//! Gradient statistics for the passes that ask how much the loss depends on a weight: from a file, or collected on labelled data.

use std::path::Path;

use crate::ir::{Model, ValueId, model_digest};
use crate::passes::train::gradient_statistics;
use crate::passes::{Context, PassError, ResourceError};
use crate::statistics::{GradientStatistics, Objective};

/// Where gradients come from.
pub(super) struct GradientSource<'a> {
    /// The pass that asks.
    pub(super) pass: &'static str,
    /// Its option that asks.
    pub(super) asked_by: &'static str,
    /// The role of the labelled data.
    pub(super) labelled: &'a str,
    /// A statistics file that takes the place of data.
    pub(super) stats: Option<&'a Path>,
    /// What gradients are of.
    pub(super) objective: Objective,
}

/// Gradients of the parameters of a model.
pub(super) struct Gradients {
    pub(super) statistics: GradientStatistics,
    /// They are of the model before it was prepared, and hold only for weights that are still as they were.
    pub(super) only_same: bool,
}

/// Reads or collects the gradients of `model`, which was made ready from `original`, every value of both with a name.
pub(super) fn gradients(
    source: &GradientSource<'_>,
    model: &Model,
    original: &Model,
    context: &Context<'_>,
) -> Result<Gradients, PassError> {
    match source.stats {
        Some(path) => read(source.pass, &context.base.join(path), model, original),
        None => Ok(Gradients {
            statistics: collect(source, model, context)?,
            only_same: false,
        }),
    }
}

fn read(pass: &'static str, path: &Path, model: &Model, original: &Model) -> Result<Gradients, PassError> {
    let resource = |error: ResourceError| PassError::resource(pass, error);
    let statistics = GradientStatistics::read(path).map_err(|error| resource(error.into()))?;
    let only_same = match &statistics.subject.model {
        own if *own == model_digest(model) => false,
        own if *own == model_digest(original) => true,
        _ => {
            let message = format!("the statistics {} are of another model", path.display());
            return Err(resource(message.into()));
        }
    };
    Ok(Gradients {
        statistics,
        only_same,
    })
}

fn collect(
    source: &GradientSource<'_>,
    model: &Model,
    context: &Context<'_>,
) -> Result<GradientStatistics, PassError> {
    let resource = |error: ResourceError| PassError::resource(source.pass, error);
    let lacks = format!("{} needs labelled data and an engine", source.asked_by);
    let resources = context.resources(source.pass, &lacks)?;
    let engine = resources.engine().map_err(resource)?;
    let open = |model: &Model| resources.data(source.labelled, &model.graph);
    let jobs = resources.jobs();
    gradient_statistics(model, &source.objective, open, engine, jobs, context.progress).map_err(resource)
}

/// Whether a weight is in `original` under the same name, bit for bit.
pub(super) fn is_same(model: &Model, original: &Model, weight: ValueId, name: &str) -> bool {
    let before = original
        .graph
        .find_value(name)
        .and_then(|value| original.graph.constant(value));
    match (before, model.graph.constant(weight)) {
        (Some(before), Some(now)) => {
            before.dims() == now.dims()
                && before.dtype() == now.dtype()
                && matches!((before.raw(), now.raw()), (Ok(before), Ok(now)) if before == now)
        }
        _ => false,
    }
}
