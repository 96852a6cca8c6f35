//! The pass `equalize`: cross-layer equalization of convolutions.
//!
//! Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (2019), section 4.1. The bound of
//! a Clip between two convolutions is kept: a channel that reaches it on the data is left alone, the others stay below it. Values
//! that additions tie together are beyond the paper: there the data says how far each channel goes.

mod convolution;
mod pairs;
mod residual;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use convolution::{Convolution, WriteError, write};
use pairs::{Pair, equalize, find};
use residual::Group;

use crate::analysis;
use crate::ir::{Model, NodeId};
use crate::passes::{About, Context, Needs, Pass, PassError, PassReport, ResourceError, Safety, prepare};
use crate::statistics::{self, Wanted};

const NAME: &str = "equalize";

/// Lowest and highest value of each channel, by the name of the value.
type Extremes = BTreeMap<String, Vec<(f32, f32)>>;

/// Evens out the ranges of the channels between convolutions, so that one scale for a whole tensor loses less.
///
/// A channel between two convolutions is divided by a number that its weights in the second one are multiplied with; with nothing
/// or Relu between them the result is the same up to rounding. Between them may also be a Clip from 0 to a bound: then the data
/// says how far each channel goes, channels that reach the bound stay as they are, and the others are not moved past
/// nine tenths of it. Values that additions tie together (residual connections) are scaled as one, by how far their channels go on
/// the data. Run it before `quantize`; where weights have a scale for each channel, with `pairs: false`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Equalize {
    /// Even out the weights of pairs of convolutions: for one scale a weight tensor. With a scale for each channel of the weights it
    /// may harm activations.
    pub pairs: bool,
    /// Even out values that additions tie together; without `pairs` also those that one convolution gives to another directly.
    pub residual: bool,
    /// How much of the range moves out of such values: 0 nothing, 1 all, so that every channel goes equally far.
    pub strength: f64,
    /// Sweeps over all pairs of convolutions at most.
    pub sweeps: u32,
    /// The role of the data that says how far channels go.
    pub data: String,
    /// Simplify the model first, so that batch normalization is part of the convolutions.
    pub prepare: bool,
}

impl Default for Equalize {
    fn default() -> Self {
        Self {
            pairs: true,
            residual: true,
            strength: 1.0,
            sweeps: 20,
            data: "calibration".to_owned(),
            prepare: true,
        }
    }
}

impl Pass for Equalize {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).needing(Needs::CALIBRATION)
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        let original = model.clone();
        report.changes = prepare::simplify(model, self.prepare, context)?.changes;
        prepare::name(model);
        let mut convolutions: BTreeMap<NodeId, Convolution> = BTreeMap::new();
        let mut pairs = match self.pairs {
            true => find(&model.graph, context, &mut convolutions),
            false => Vec::new(),
        };
        let (groups, notes) = match self.residual {
            true => residual::groups(&model.graph, !self.pairs, context, &mut convolutions),
            false => Default::default(),
        };
        let extremes = self.extremes(model, &pairs, &groups, context)?;
        for pair in &mut pairs {
            if let Some((name, bound)) = &pair.bound {
                let channels = of(&extremes, name)?;
                pair.highest = channels.iter().map(|(_, high)| f64::from(*high)).collect();
                pair.reached = channels.iter().map(|(_, high)| *high >= bound * 0.999).collect();
            }
        }
        let mut changed: BTreeMap<(NodeId, usize), f64> = BTreeMap::new();
        for group in &groups {
            let mut largest: Vec<Vec<f64>> = Vec::with_capacity(group.values.len());
            for name in &group.values {
                let channels = of(&extremes, name)?.iter();
                largest.push(
                    channels
                        .map(|(low, high)| f64::from(low.abs().max(high.abs())))
                        .collect(),
                );
            }
            let factors = residual::factors(&largest, group.channels, self.strength);
            residual::apply(group, &factors, &mut convolutions);
            for (channel, factor) in factors.iter().enumerate() {
                changed.extend(group.producers.iter().map(|id| ((*id, channel), *factor)));
            }
        }
        for _ in 0..self.sweeps {
            let mut largest = 0f64;
            for pair in &mut pairs {
                largest = largest.max(equalize(pair, &mut convolutions, &mut changed));
            }
            if largest < 1e-3 {
                break;
            }
        }
        let channels = changed
            .values()
            .filter(|factor| (**factor - 1.0).abs() > 1e-3)
            .count();
        if channels == 0 {
            *model = original;
            return Ok(PassReport {
                notes: ["no channel between convolutions to even out".to_owned()]
                    .into_iter()
                    .chain(notes)
                    .collect(),
                ..PassReport::default()
            });
        }
        write(&mut model.graph, &convolutions).map_err(|error| match error {
            WriteError::Edit(source) => PassError::Edit { pass: NAME, source },
            WriteError::Tensor(error) => PassError::resource(NAME, error),
        })?;
        analysis::infer(model);
        report.evened = Some(Box::new(model.clone()));
        report.notes = notes;
        report.add("pair", pairs.len() as u64);
        report.add("residual group", groups.len() as u64);
        report.add("channel", channels as u64);
        Ok(report)
    }
}

impl Equalize {
    /// How far the channels of values go that scaling depends on: lowest and highest, by the name of the value.
    fn extremes(
        &self,
        model: &Model,
        pairs: &[Pair],
        groups: &[Group],
        context: &Context<'_>,
    ) -> Result<Extremes, PassError> {
        let bounded = pairs
            .iter()
            .filter_map(|pair| Some(pair.bound.as_ref()?.0.clone()));
        let tied = groups.iter().flat_map(|group| group.values.iter().cloned());
        let mut names: Vec<String> = bounded.chain(tied).collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Ok(Extremes::new());
        }
        let resources = context.resources(NAME, "needs calibration data")?;
        let data = resources.data(&self.data, &model.graph).map_err(resource)?;
        let engine = resources.engine().map_err(resource)?;
        let wanted = Wanted {
            channel_extremes: true,
            ..Wanted::default()
        };
        let total = data.sample_range().end - data.sample_range().start;
        let progress = |done: u64| (context.progress)("calibrating", done, Some(total));
        let found = statistics::collect(model, &names, wanted, &data, engine, resources.jobs(), &progress)
            .map_err(resource)?;
        Ok(found
            .into_iter()
            .filter_map(|(name, summary)| Some((name, summary.channel_extremes?)))
            .collect())
    }
}

fn of<'e>(extremes: &'e Extremes, name: &str) -> Result<&'e [(f32, f32)], PassError> {
    let found = extremes.get(name).map(Vec::as_slice);
    found.ok_or_else(|| resource(format!("no channels in the values of {name}")))
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
