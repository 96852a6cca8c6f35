//! Which values leave the range of half precision, by running the model.

use std::collections::BTreeSet;

use super::constants::LARGEST_HALF;
use super::{ConvertFloat, NAME};
use crate::data::{Dataset, Spec, SyntheticSpec};
use crate::ir::{DType, Model, NodeKind, ValueId};
use crate::passes::{Context, PassError, ResourceError, Resources};
use crate::statistics::{self, Wanted};

/// Random inputs that ranges are checked on.
const RANDOM_SAMPLES: u64 = 2;
/// How far below the largest half-precision value the results of random inputs must stay: those of real ones may be larger.
const RANDOM_MARGIN: f64 = 4.0;

/// Values that exceed the range of half precision on the data of `range-data`, or come near it on random inputs; or why the latter
/// could not be found out.
pub(super) fn values_beyond(
    model: &Model,
    options: &ConvertFloat,
    context: &Context<'_>,
) -> Result<Result<BTreeSet<String>, ResourceError>, PassError> {
    if options.to.dtype() != DType::F16 {
        return Ok(Ok(BTreeSet::new()));
    }
    if let Some(role) = &options.range_data {
        let resources = context.resources(NAME, "range-data needs data and an engine")?;
        let data = resources.data(role, &model.graph).map_err(resource)?;
        let found = above(model, LARGEST_HALF, &data, resources, context).map_err(resource)?;
        return Ok(Ok(found));
    }
    let Some(resources) = context.resources.filter(|_| options.check_ranges) else {
        return Ok(Ok(BTreeSet::new()));
    };
    let random = Spec {
        synthetic: Some(SyntheticSpec::default()),
        samples: Some(RANDOM_SAMPLES),
        seed: Some(context.seed),
        ..Spec::default()
    };
    Ok(Dataset::open(&random, &context.base, &model.graph)
        .map_err(ResourceError::from)
        .and_then(|data| above(model, LARGEST_HALF / RANDOM_MARGIN, &data, resources, context)))
}

/// Values that exceed `bound` on `data`.
fn above(
    model: &Model,
    bound: f64,
    data: &Dataset,
    resources: &dyn Resources,
    context: &Context<'_>,
) -> Result<BTreeSet<String>, ResourceError> {
    let engine = resources.engine()?;
    let graph = &model.graph;
    let mut names: Vec<String> = graph
        .node_ids()
        .filter(|id| {
            matches!(
                graph.get(*id).map(|node| &node.kind),
                Some(NodeKind::Operator(_) | NodeKind::Input(_))
            )
        })
        .flat_map(|id| {
            let outputs = graph.get(id).map(|node| node.outputs()).unwrap_or_default();
            outputs
                .iter()
                .enumerate()
                .map(move |(output, value)| (ValueId::new(id, output), value))
        })
        // What nothing reads has no range that matters, such as the mask of Dropout, which engines give another type.
        .filter(|(id, _)| graph.use_count(*id) > 0)
        .map(|(_, value)| value)
        .filter(|value| value.ty.dtype() == Some(DType::F32) && !value.name.is_empty())
        .map(|value| value.name.to_string())
        .collect();
    names.sort();
    names.dedup();
    let total = data.sample_range().end - data.sample_range().start;
    let progress = |done: u64| (context.progress)("checking ranges", done, Some(total));
    let found = statistics::collect(
        model,
        &names,
        Wanted::default(),
        data,
        engine,
        resources.jobs(),
        &progress,
    )?;
    Ok(found
        .into_iter()
        .filter(|(_, summary)| {
            summary
                .histogram
                .extremes()
                .is_some_and(|(low, high)| f64::from(low.abs().max(high.abs())) > bound)
        })
        .map(|(name, _)| name)
        .collect())
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
