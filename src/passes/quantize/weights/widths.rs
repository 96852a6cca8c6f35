//! How many bits each weight gets, and codes by how much the loss depends on each weight.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::{Array2, ArrayD, IxDyn};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rounding::Coded;
use super::target::{Search, WeightTarget};
use super::{NAME, QuantizeWeights, WeightError};
use crate::ir::{Graph, Model, Tensor, TensorError, ValueId};
use crate::passes::left::LeftAlone;
use crate::passes::quantize::gradient_source::{GradientSource, Gradients, gradients, is_same};
use crate::passes::{Change, Context, PassError, PassReport};
use crate::quantize::{Kind, QuantizeError, Unit, allocate, code_row, normalised, pack};
use crate::statistics::GradientStatistics;

/// The least number of bits a weight gets.
const LEAST: u32 = 2;

/// What decides on bits and codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BitsBy {
    /// The extremes: every weight has the same number of bits, and codes are spread from the lowest to the highest weight.
    #[default]
    Range,
    /// Gradients on labelled data: the logarithm of E g² says how much the loss depends on a weight. Normalised, it weights
    /// the error that scales and codes are chosen by; from layer to layer it says where bits are worth most.
    LogGradient,
}

/// What shares a number of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Widths {
    /// Each output channel has its own. A type that holds the widest is what all of a weight is stored in.
    #[default]
    Channel,
    /// Each weight tensor.
    Layer,
}

/// What is planned for one weight tensor.
#[derive(Debug)]
pub(super) struct Planned {
    /// Type of the codes.
    pub(super) kind: Kind,
    /// Of each output channel.
    widths: Vec<u32>,
    /// Normalised sensitivities, a row for each output channel.
    sensitivity: Array2<f64>,
}

/// What is planned, by weight of the main graph.
pub(super) type WidthPlan = BTreeMap<ValueId, Arc<Planned>>;

/// A weight with what is known of it.
struct Case {
    weight: ValueId,
    name: String,
    rows: Array2<f64>,
    sensitivity: Array2<f64>,
    /// Mean of E g².
    mean: f64,
}

/// Rows of output channels: `axis` first, all others after it.
pub(in crate::passes::quantize) fn rows(values: Vec<f64>, dims: &[u64], axis: usize) -> Option<Array2<f64>> {
    let dims: Vec<usize> = dims.iter().map(|dim| *dim as usize).collect();
    let mut order: Vec<usize> = (0..dims.len()).filter(|other| *other != axis).collect();
    order.insert(0, axis);
    let channels = *dims.get(axis)?;
    let count = values.len().checked_div(channels)?;
    let array = ArrayD::from_shape_vec(IxDyn(&dims), values).ok()?;
    let moved = array.permuted_axes(order).as_standard_layout().into_owned();
    moved.into_shape_with_order((channels, count)).ok()
}

/// The elements in the order of a tensor of shape `dims` from such rows.
pub(in crate::passes::quantize) fn flat(rows: Array2<i32>, dims: &[u64], axis: usize) -> Option<Vec<i32>> {
    let dims: Vec<usize> = dims.iter().map(|dim| *dim as usize).collect();
    let mut moved: Vec<usize> = dims.clone();
    let channels = moved.remove(axis);
    moved.insert(0, channels);
    let mut order: Vec<usize> = (1..dims.len()).collect();
    order.insert(axis, 0);
    let array = rows.into_shape_with_order(IxDyn(&moved)).ok()?;
    Some(array.permuted_axes(order).iter().copied().collect())
}

/// Collects or reads the gradients and deals out the bits. `original` is the model before the pass prepared it, with every value
/// named: what a file of statistics may be of.
pub(super) fn plan(
    model: &Model,
    original: &Model,
    options: &QuantizeWeights,
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<WidthPlan, PassError> {
    let mut found = Search::new(options, context)?.targets(&model.graph, &mut LeftAlone::default());
    // Rows of a table have whole bytes.
    found.retain(|target| !target.is_table());
    if found.is_empty() {
        return Ok(WidthPlan::new());
    }
    let source = GradientSource {
        pass: NAME,
        asked_by: "criterion: log-gradient",
        labelled: &options.labelled,
        stats: options.gradient_stats.as_deref(),
        objective: options.loss.objective(options.loss_output.as_deref()),
    };
    let Gradients {
        statistics,
        only_same,
    } = gradients(&source, model, original, context)?;
    let mut cases = Vec::new();
    for target in &found {
        let name = name(&model.graph, target);
        let changed = only_same && !is_same(model, original, target.weight, &name);
        match case(model, target, &name, &statistics).filter(|_| !changed) {
            Some(case) => cases.push(case),
            None => report.notes.push(match changed {
                true => format!("{name} is rounded plainly: it is not the weight that the statistics are of"),
                false => format!("{name} is rounded plainly: the loss has no gradient with respect to it"),
            }),
        }
    }
    let greatest = cases.iter().map(|case| case.mean).fold(0.0, f64::max);
    for case in &mut cases {
        case.mean = case.mean.max(1e-6 * greatest).max(f64::MIN_POSITIVE);
    }
    let widths = match options.bits {
        Some(bits) => dealt(&cases, options, bits).map_err(|(name, source)| PassError::Model {
            pass: NAME,
            node: name,
            message: source.to_string(),
        })?,
        None => cases
            .iter()
            .map(|case| vec![options.kind.bits(); case.rows.nrows()])
            .collect(),
    };
    let mut plan = WidthPlan::new();
    let (mut details, mut spent, mut stored, mut total) = (Vec::new(), 0u64, 0u64, 0u64);
    for (case, widths) in cases.into_iter().zip(widths) {
        let (channels, count) = case.rows.dim();
        let least = widths.iter().min().copied().unwrap_or(0);
        let most = widths.iter().max().copied().unwrap_or(0);
        let kind = options.storage(Some(most));
        let own: u64 = widths.iter().map(|bits| u64::from(*bits)).sum();
        details.push(format!(
            "{}: {:.2} bits a weight ({least} to {most}), stored in {}",
            case.name,
            own as f64 / channels.max(1) as f64,
            kind.bits(),
        ));
        spent += own * count as u64;
        stored += (channels * count) as u64 * u64::from(kind.bits());
        total += (channels * count) as u64;
        plan.insert(
            case.weight,
            Arc::new(Planned {
                kind,
                widths,
                sensitivity: case.sensitivity,
            }),
        );
    }
    let mean = |bits: u64| bits as f64 / total.max(1) as f64;
    details.push(format!(
        "all: {:.3} bits a weight, stored in {:.3}",
        mean(spent),
        mean(stored)
    ));
    report.changes.push(Change {
        rule: "bits dealt out".to_owned(),
        count: plan.len() as u64,
        details,
    });
    Ok(plan)
}

fn name(graph: &Graph, target: &WeightTarget) -> String {
    graph
        .value(target.weight)
        .map(|value| value.name.to_string())
        .unwrap_or_default()
}

fn case(model: &Model, target: &WeightTarget, name: &str, statistics: &GradientStatistics) -> Option<Case> {
    let tensor = model.graph.constant(target.weight)?;
    let gradient = statistics.values.get(name)?;
    if gradient.dims != tensor.dims() {
        return None;
    }
    let count = statistics.gradients.max(1) as f64;
    let fisher: Vec<f64> = gradient.squared.iter().map(|sum| sum / count).collect();
    let mean = fisher.iter().sum::<f64>() / fisher.len().max(1) as f64;
    Some(Case {
        weight: target.weight,
        name: name.to_owned(),
        rows: rows(tensor.to_f64().ok()?, tensor.dims(), target.channel_axis)?,
        sensitivity: rows(normalised(&fisher), tensor.dims(), target.channel_axis)?,
        mean,
    })
}

/// Bits of each channel of each case, `bits` in the mean over all weights.
fn dealt(
    cases: &[Case],
    options: &QuantizeWeights,
    bits: f64,
) -> Result<Vec<Vec<u32>>, (String, QuantizeError)> {
    let most = options.kind.bits();
    let mut units: Vec<Unit> = Vec::new();
    let mut total = 0u64;
    for case in cases {
        total += case.rows.len() as u64;
        let of_row = |row: usize| -> Result<Unit, QuantizeError> {
            let (weights, sensitivity) = (case.rows.row(row).to_vec(), case.sensitivity.row(row).to_vec());
            let error = |bits: u32| {
                code_row(&weights, &sensitivity, &options.scheme(options.kind, bits))
                    .map(|row| row.error * case.mean)
            };
            Ok(Unit {
                elements: weights.len() as u64,
                errors: (LEAST..=most).map(error).collect::<Result<_, _>>()?,
            })
        };
        let channels = (0..case.rows.nrows())
            .into_par_iter()
            .map(of_row)
            .collect::<Result<Vec<Unit>, _>>()
            .map_err(|error| (case.name.clone(), error))?;
        match options.widths {
            Widths::Channel => units.extend(channels),
            Widths::Layer => units.push(Unit {
                elements: case.rows.len() as u64,
                errors: (0..=(most - LEAST) as usize)
                    .map(|at| channels.iter().filter_map(|unit| unit.errors.get(at)).sum())
                    .collect(),
            }),
        }
    }
    let mut dealt = allocate(&units, LEAST, (bits * total as f64) as u64).into_iter();
    Ok(cases
        .iter()
        .map(|case| match options.widths {
            Widths::Channel => dealt.by_ref().take(case.rows.nrows()).collect(),
            Widths::Layer => vec![dealt.next().unwrap_or(LEAST); case.rows.nrows()],
        })
        .collect())
}

impl Planned {
    /// Bits of an output channel.
    pub(super) fn width(&self, channel: usize) -> Option<u32> {
        self.widths.get(channel).copied()
    }

    /// Parameters of each output channel, and the codes in the shape of the weight.
    pub(super) fn codes(&self, tensor: &Tensor, target: &WeightTarget) -> Result<Coded, WeightError> {
        let wrong = || TensorError::Type {
            expected: "a weight with output channels",
            found: tensor.dtype(),
        };
        let values = rows(tensor.to_f64()?, tensor.dims(), target.channel_axis).ok_or_else(wrong)?;
        let coded = (0..values.nrows())
            .into_par_iter()
            .map(|row| {
                code_row(
                    &values.row(row).to_vec(),
                    &self.sensitivity.row(row).to_vec(),
                    &target.scheme(row),
                )
            })
            .collect::<Result<Vec<_>, _>>()?;
        let parameters = coded.iter().map(|row| row.parameters).collect();
        let all: Vec<i32> = coded.into_iter().flat_map(|row| row.codes).collect();
        let codes = Array2::from_shape_vec(values.dim(), all)
            .ok()
            .and_then(|codes| flat(codes, tensor.dims(), target.channel_axis))
            .ok_or_else(wrong)?;
        let codes = pack(tensor.dims(), &codes, self.kind)?;
        Ok(Coded { parameters, codes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_axis_go_back_to_where_they_were() {
        let dims = [2u64, 3, 4];
        let values: Vec<f64> = (0..24).map(f64::from).collect();
        for axis in 0..3 {
            let rows = rows(values.clone(), &dims, axis).unwrap();
            assert_eq!(rows.nrows() as u64, dims[axis]);
            let back = flat(rows.mapv(|value| value as i32), &dims, axis).unwrap();
            assert_eq!(back, (0..24).collect::<Vec<i32>>());
        }
        assert_eq!(
            rows(values, &dims, 1).unwrap().row(1).to_vec(),
            [4.0, 5.0, 6.0, 7.0, 16.0, 17.0, 18.0, 19.0]
        );
    }
}
