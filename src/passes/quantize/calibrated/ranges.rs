//! Ranges of activations: from the data, from a file of statistics, or fixed; and what is to be said of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};

use rayon::prelude::*;

use super::candidates::{QuantizeStart, Ranges};
use super::cuts::{self, Cut};
use super::{NAME, Profile, Quantize, label, plan};
use crate::ir::{Graph, Model, ValueId};
use crate::passes::{Context, PassError, ResourceError};
use crate::quantize::{Calibrator, Kind, Parameters, Scheme, calibrated_range, extremes, parameters};
use crate::statistics::{self, Statistics, Wanted};

/// Calibration data with fewer samples is warned about.
const FEWEST_SAMPLES: u64 = 8;

/// What data say of activations.
pub(super) struct Calibrated {
    /// Scale and zero point of each value, for each type that it is stored in.
    pub(super) activations: BTreeMap<(ValueId, Kind), Parameters>,
    /// Means of the channels of values that products read.
    pub(super) means: BTreeMap<ValueId, Vec<f64>>,
    /// What the user should know of the data.
    pub(super) warnings: Vec<String>,
}

/// Parameters that an engine wants for 16-bit results of an operator, whatever the data: QNN's Sigmoid and Tanh.
fn fixed_parameters(profile: Profile, graph: &Graph, sources: &[ValueId], kind: Kind) -> Option<Parameters> {
    let [source] = sources else { return None };
    let operator = graph.operator(source.node)?;
    if profile != Profile::Qnn {
        return None;
    }
    let (scale, zero_point) = match kind {
        Kind::Uint16 if operator.is("Sigmoid") => (1.0 / 65536.0, 0),
        Kind::Uint16 if operator.is("Tanh") => (1.0 / 32768.0, 32768),
        Kind::Int16 if operator.is("Sigmoid") || operator.is("Tanh") => (1.0 / 32768.0, 0),
        _ => return None,
    };
    Some(Parameters { scale, zero_point })
}

/// A warning about a set of samples that is too small to say what values others have.
fn too_few(samples: u64) -> Option<String> {
    (samples < FEWEST_SAMPLES).then(|| {
        format!(
            "ranges come from {samples} {}: take {FEWEST_SAMPLES} or more, better a hundred, that are like what the model will get",
            if samples == 1 { "sample" } else { "samples" }
        )
    })
}

/// Values that the calibration data never moves and that warnings name.
const MOST_CONSTANTS: usize = 5;

/// Warnings about values that the calibration data never moves: their range says nothing about other data.
fn constant_values(
    model: &Model,
    plan: &plan::GraphPlan,
    ranges: &BTreeMap<String, statistics::Summary>,
) -> Vec<String> {
    let names: BTreeSet<String> = plan
        .activations
        .values()
        .flatten()
        .map(|value| label(model, *value))
        .collect();
    let mut constant = names.iter().filter_map(|name| {
        let (low, high) = ranges.get(name)?.histogram.extremes()?;
        (low == high).then(|| {
            format!("{name} is {low} everywhere in the calibration data: its range is no guide to other data")
        })
    });
    let mut notes: Vec<String> = constant.by_ref().take(MOST_CONSTANTS).collect();
    let more = constant.count();
    notes.extend((more > 0).then(|| format!("and {more} more values never move in the calibration data")));
    notes
}

/// A warning about values in whose counts a sample that filled up the last batch stands several times.
fn repeated_samples(ranges: &BTreeMap<String, statistics::Summary>) -> Option<String> {
    let names: Vec<&str> = ranges
        .iter()
        .filter(|(_, summary)| summary.repeats)
        .map(|(name, _)| name.as_str())
        .collect();
    let first = names.first()?;
    Some(format!(
        "the model fixes its batch size, and a last batch that is not full counts its last sample several times in {} {} ({first}), where \
         no axis is known to be the batch: give a number of samples that fills all batches",
        names.len(),
        if names.len() == 1 { "value" } else { "values" },
    ))
}

impl Quantize {
    /// Whether zero is in the middle of the codes of activations.
    pub(super) fn is_symmetric(&self) -> bool {
        self.symmetric_activations
            .unwrap_or(self.profile.traits().symmetric)
    }

    /// Parameters of every activation of the plan. What data say is kept in the start; with it comes the digest of the model that a file
    /// of statistics has to be of.
    pub(super) fn calibrated(
        &self,
        model: &Model,
        plan: &plan::GraphPlan,
        from: (&QuantizeStart, Option<&str>),
        context: &Context<'_>,
    ) -> Result<Calibrated, PassError> {
        let traits = self.profile.traits();
        let mut warnings = Vec::new();
        let values = self.wanted_values(model, plan);
        let ranges = self.ranges(model, values, from, context)?;
        warnings.extend(too_few(ranges.samples));
        let ranges = &ranges.values;
        let calibrate = |((value, kind), sources): (&(ValueId, Kind), &Vec<ValueId>)| {
            let scheme = Scheme {
                minimum_range: traits.minimum_range,
                ..Scheme::new(*kind, self.is_symmetric())
            };
            if let Some(fixed) = fixed_parameters(self.profile, &model.graph, sources, *kind) {
                return Ok(((*value, *kind), fixed, Vec::new()));
            }
            let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
            for source in sources {
                let range = self.range_of(model, *source, &scheme, ranges)?;
                (low, high) = (low.min(range.0), high.max(range.1));
            }
            let found = parameters(low, high, &scheme)
                .map_err(|error| resource(format!("{}: {error}", label(model, *value))))?;
            let cuts = sources
                .iter()
                .filter_map(|source| Cut::of(label(model, *source), ranges, (low, high)));
            Ok(((*value, *kind), found, cuts.collect()))
        };
        let calibrated: Vec<((ValueId, Kind), Parameters, Vec<Cut>)> = plan
            .activations
            .par_iter()
            .map(calibrate)
            .collect::<Result<_, PassError>>()?;
        let mut cut_off = Vec::new();
        let mut activations = BTreeMap::new();
        for (key, found, cuts) in calibrated {
            activations.insert(key, found);
            cut_off.extend(cuts);
        }
        warnings.extend(cuts::warning(cut_off));
        warnings.extend(constant_values(model, plan, ranges));
        warnings.extend(repeated_samples(ranges));
        let means = self
            .mean_values(model, plan)
            .into_iter()
            .filter_map(|value| Some((value, ranges.get(&label(model, value))?.channel_means()?)))
            .collect();
        Ok(Calibrated {
            activations,
            means,
            warnings,
        })
    }

    /// Inputs of products whose channel means are wanted.
    fn mean_values(&self, model: &Model, plan: &plan::GraphPlan) -> Vec<ValueId> {
        let products = plan.products.iter().filter(|_| self.correct_bias);
        products
            .filter_map(|product| model.graph.input(*product, 0))
            .collect()
    }

    /// The range of one value: fixed by its operator, that of a constant, or from the data.
    fn range_of(
        &self,
        model: &Model,
        value: ValueId,
        scheme: &Scheme,
        ranges: &BTreeMap<String, statistics::Summary>,
    ) -> Result<(f32, f32), PassError> {
        let name = label(model, value);
        if let Some(tensor) = model.graph.constant(value) {
            let values = tensor.to_f32().map_err(|e| resource(format!("{name}: {e}")))?;
            let (low, high, not_finite) = extremes(&values);
            if not_finite > 0 {
                return Err(resource(format!(
                    "{name} has {not_finite} values that are not finite"
                )));
            }
            return Ok((low.min(0.0), high.max(0.0)));
        }
        if model
            .graph
            .operator(value.node)
            .is_some_and(|operator| operator.is("Softmax"))
        {
            return Ok((0.0, 1.0));
        }
        ranges
            .get(&name)
            .and_then(|summary| {
                let average = summary.mean_extremes();
                calibrated_range(&summary.histogram, average, self.calibrate, scheme)
            })
            .ok_or_else(|| resource(format!("no values of {name} in the calibration data")))
    }

    /// Names of the values of which a plan needs ranges or means.
    pub(super) fn wanted_values(&self, model: &Model, plan: &plan::GraphPlan) -> BTreeSet<String> {
        let values = plan.activations.values().flatten().copied();
        values
            .chain(self.mean_values(model, plan))
            .filter(|value| model.graph.constant(*value).is_none())
            .map(|value| label(model, value))
            .collect()
    }

    /// What the calibration data, or a file of statistics, say of these values: data are run for those of which nothing is known yet.
    pub(super) fn ranges<'s>(
        &self,
        model: &Model,
        values: BTreeSet<String>,
        (start, collected_of): (&'s QuantizeStart, Option<&str>),
        context: &Context<'_>,
    ) -> Result<MutexGuard<'s, Ranges>, PassError> {
        let mut known = start.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.stats {
            if known.samples == 0 {
                let file = context.base.join(path);
                let found = Statistics::read(&file).map_err(resource)?;
                if Some(found.subject.model.as_str()) != collected_of {
                    let message = format!("{}: the statistics are of another model", file.display());
                    return Err(resource(message));
                }
                known.samples = found.ranges.iter().map(|(start, end)| end - start).sum();
                known.values = found.values;
            }
            return Ok(known);
        }
        let missing: Vec<String> = values
            .into_iter()
            .filter(|value| !known.values.contains_key(value))
            .collect();
        if missing.is_empty() && known.samples > 0 {
            return Ok(known);
        }
        let resources = context.resources(NAME, "needs calibration data")?;
        let data = resources.data(&self.data, &model.graph).map_err(resource)?;
        let engine = resources.engine().map_err(resource)?;
        let total = data.sample_range().end - data.sample_range().start;
        let progress = |done: u64| (context.progress)("calibrating", done, Some(total));
        let wanted = Wanted {
            histograms: self.calibrate != Calibrator::MinMax,
            channel_means: self.correct_bias,
            channel_extremes: false,
            sample_extremes: self.calibrate == Calibrator::MovingAverage,
        };
        let jobs = resources.jobs();
        let found = statistics::collect(model, &missing, wanted, &data, engine, jobs, &progress);
        known.values.extend(found.map_err(resource)?);
        known.samples = total;
        Ok(known)
    }
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
