//! How much the model's outputs depend on each row of each weight.

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::options::{Compress, Importance};
use super::{Case, NAME};
use crate::autodiff::Loss;
use crate::ir::{Model, model_digest};
use crate::passes::kept::{Kept, Squares};
use crate::passes::quantize::weights::rows;
use crate::passes::train::gradient_statistics;
use crate::passes::{Context, PassError, PassReport, ResourceError};
use crate::statistics::{Objective, StatisticsError};

/// Share of a row's importance that its layer's mean makes up: few samples say little of a single row.
const SHARED: f64 = 0.1;

/// Σ over outputs of the mean of (∂y/∂w)², by weight name: each output counts the same.
pub(super) type Movement = BTreeMap<String, Vec<f64>>;

/// Takes the gradients of the outputs on the data; `None` where the model has none, which the report says.
pub(super) fn movement(
    model: &Model,
    options: &Compress,
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<Option<Movement>, PassError> {
    let outputs: Vec<String> = model
        .graph
        .outputs()
        .iter()
        .filter(|output| output.ty.dtype().is_some_and(crate::ir::DType::is_float))
        .map(|output| output.name.to_string())
        .collect();
    let mut all = Movement::new();
    let mut failed = None;
    for output in &outputs {
        match of_output(model, output, options, context)? {
            Ok(found) => add(&mut all, &found),
            Err(error) => failed = Some(error.to_string()),
        }
    }
    if all.is_empty() {
        let why = failed.unwrap_or_else(|| "no output is a float".to_owned());
        report.warnings.push(format!(
            "gradients of the outputs cannot be taken ({why}): every layer's own output counts the same"
        ));
        return Ok(None);
    }
    if let Some(why) = failed {
        report
            .warnings
            .push(format!("gradients of some outputs cannot be taken: {why}"));
    }
    Ok(Some(all))
}

/// The squares of one output's gradients; why there are none.
fn of_output(
    model: &Model,
    output: &str,
    options: &Compress,
    context: &Context<'_>,
) -> Result<Result<Squares, StatisticsError>, PassError> {
    let resources = context.resources(NAME, "importance: gradients needs data and an engine")?;
    let engine = resources
        .engine()
        .map_err(|error| PassError::resource(NAME, error))?;
    let objective = Objective {
        loss: Loss::InnerProduct,
        output: Some(output.to_owned()),
    };
    let data = resources
        .data(&options.data, &model.graph)
        .map_err(|error| PassError::resource(NAME, error))?;
    let key = || format!("{} {} {output}", model_digest(model), data.digest());
    let open = |model: &Model| resources.data(&options.data, &model.graph);
    let collect = || -> Result<Squares, ResourceError> {
        let jobs = resources.jobs();
        let found = gradient_statistics(model, &objective, open, engine, jobs, context.progress)?;
        let squares = found.values.into_iter();
        Ok(Squares::new(
            squares.map(|(name, one)| (name, one.squared)).collect(),
        ))
    };
    match Kept::squares(resources.kept(), key, collect) {
        Ok(found) => Ok(Ok(found)),
        Err(ResourceError::Statistics(
            error @ (StatisticsError::Autodiff(_)
            | StatisticsError::OutputSize
            | StatisticsError::NoFullBatch { .. }),
        )) => Ok(Err(error)),
        Err(other) => Err(PassError::resource(NAME, other)),
    }
}

/// Adds what moves one output, scaled so that all weights together move it by one.
fn add(all: &mut Movement, found: &Squares) {
    let whole: f64 = found.values().flatten().sum();
    if whole <= 0.0 || !whole.is_finite() {
        return;
    }
    for (name, squares) in found.iter() {
        let own = squares.iter().map(|square| square / whole);
        match all.get_mut(name) {
            Some(sums) if sums.len() == squares.len() => {
                sums.iter_mut().zip(own).for_each(|(sum, more)| *sum += more);
            }
            Some(_) => {}
            None => {
                all.insert(name.clone(), own.collect());
            }
        }
    }
}

/// `tr(W H Wᵀ)`: the power of what a layer puts out; without moments that of the weight.
fn power(weights: ArrayView2<'_, f32>, moments: &[Array2<f64>]) -> f64 {
    if moments.is_empty() {
        return weights
            .iter()
            .map(|value| f64::from(*value) * f64::from(*value))
            .sum();
    }
    let per_group = weights.nrows().div_ceil(moments.len()).max(1);
    weights
        .axis_chunks_iter(Axis(0), per_group)
        .zip(moments)
        .map(|(rows, moment)| {
            let rows = rows.mapv(f64::from);
            (&rows.dot(moment) * &rows).sum()
        })
        .sum()
}

/// The same of a case.
fn power_of(case: &Case, by: Importance) -> f64 {
    let moments = match by {
        Importance::Weights => &[],
        _ => case.moments.as_slice(),
    };
    power(case.weights.view(), moments)
}

/// The importance of each row of each case.
pub(super) fn importance(cases: &[Case], movement: Option<&Movement>, by: Importance) -> Vec<Vec<f64>> {
    let measured: Vec<Option<Array1<f64>>> = cases
        .iter()
        .map(|case| movement.and_then(|movement| moved(case, movement)))
        .collect();
    let shares = cases.iter().zip(&measured).filter_map(|(case, rows)| {
        let mean = rows.as_ref()?.mean()?;
        let power = power_of(case, by);
        (power > 0.0).then_some(mean * power)
    });
    // What a layer without gradients is taken for: one whose output counts as much as is usual.
    let usual = median(shares.collect()).unwrap_or(1.0);
    cases
        .iter()
        .zip(measured)
        .map(|(case, rows)| match rows {
            Some(rows) => rows.to_vec(),
            None => {
                let power = power_of(case, by);
                let own = if power > 0.0 { usual / power } else { usual };
                vec![own; case.weights.nrows()]
            }
        })
        .collect()
}

/// Importances of rows from gradients: `s` such that `s · diag(H)` has the sum of the row's squares.
fn moved(case: &Case, movement: &Movement) -> Option<Array1<f64>> {
    let squares = movement.get(&case.name)?;
    let squares = rows(squares.clone(), &case.dims, case.target.channel_axis)?;
    if squares.dim() != case.weights.dim() {
        return None;
    }
    let per_group = case.weights.nrows().div_ceil(case.moments.len().max(1)).max(1);
    let columns = case.weights.ncols() as f64;
    let mut own = Array1::zeros(squares.nrows());
    for (row, squares) in squares.rows().into_iter().enumerate() {
        let trace = match case.moments.get(row / per_group) {
            Some(moment) => moment.diag().sum(),
            None => columns,
        };
        own[row] = if trace > 0.0 { squares.sum() / trace } else { 0.0 };
    }
    let mean = own.mean().filter(|mean| *mean > 0.0 && mean.is_finite())?;
    Some(own.mapv(|value: f64| (1.0 - SHARED) * value + SHARED * mean))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
