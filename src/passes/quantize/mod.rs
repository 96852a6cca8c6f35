//! Static quantization: QuantizeLinear and DequantizeLinear pairs where the target engine turns them into integer kernels.

mod apply;
mod explain;
mod form;
mod plan;
mod products;
mod profile;
mod scheme;
mod statistics_run;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::apply::{ApplyError, WeightScheme};
use super::distinct::distinct_names;
use super::{
    About, Context, ConvertOpset, DeduplicateInitializers, Needs, Pass, PassError, PassReport, Runs, Safety,
    Simplify,
};
use crate::analysis;
use crate::ir::{Model, ValueId};
use crate::quantize::{Calibrator, Kind, Parameters, Scheme, calibrated_range, parameters};
use crate::statistics::{self, Statistics, Wanted};

pub use apply::Saturation;
pub use profile::Profile;
pub use scheme::Target;
pub use statistics_run::collect_statistics;

/// Quantizes weights and activations to 8-bit integers with Q/DQ pairs, placed so that the target engine runs the operators
/// between them on integers. Ranges come from the calibration data.
///
/// The report names every node with what becomes of it, integer or float in the target engine, and why; `--dry-run` prints
/// it as a table and writes nothing. Operators in bodies of If, Loop and Scan stay float.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Quantize {
    /// What becomes integer or narrow, and to which types. The schemes beside `int8` and `int16` are the passes
    /// `quantize-dynamic`, `quantize-weights` and `convert-float` with their defaults; they need no data.
    pub scheme: Target,
    /// The engine that the result is for: it decides types, symmetry and where pairs go.
    pub profile: Profile,
    /// How ranges of activations are found. The default, `mse`, beats `min-max` on the models of the comparison table; `percentile`
    /// may beat both, or clip what matters.
    pub calibrate: Calibrator,
    /// One scale for each output channel of a weight; else one for the whole weight.
    pub per_channel: bool,
    /// Weights with one bit less, for processors without VNNI that add pairs of products in 16 bits.
    pub reduce_range: bool,
    /// What is done about weights whose products with 8-bit activations saturate on x86 processors without VNNI. Only the
    /// profiles `ort-x86` and `openvino` have such kernels.
    pub saturation: Saturation,
    /// Simplify the model first, so that batch normalization, padding and weights behind Identity, Transpose or Reshape are
    /// part of the products.
    pub prepare: bool,
    /// Move each bias by the mean error that the rounded weights cause, found from the mean of each input channel (Nagel et
    /// al. 2019, section 4.2).
    pub correct_bias: bool,
    /// Nodes that stay float: regular expressions on node names and output names.
    pub exclude: Vec<String>,
    /// The role of the data that ranges come from.
    pub data: String,
    /// A statistics file (`secateur stats MODEL --for quantize`) to take ranges from, instead of data.
    pub stats: Option<PathBuf>,
}

impl Default for Quantize {
    fn default() -> Self {
        Self {
            scheme: Target::default(),
            profile: Profile::default(),
            calibrate: Calibrator::Mse,
            per_channel: true,
            reduce_range: false,
            saturation: Saturation::default(),
            prepare: true,
            correct_bias: true,
            exclude: Vec::new(),
            data: "calibration".to_owned(),
            stats: None,
        }
    }
}

const NAME: &str = "quantize";

impl Pass for Quantize {
    fn about(&self) -> About {
        About::new(NAME, Safety::Approximate).needing(Needs {
            calibration: self.scheme.needs_data() && self.stats.is_none(),
            ..Needs::default()
        })
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        if let Some(other) = self.scheme.other_pass(self) {
            return other.run(model, context);
        }
        let option = |message: String| PassError::Option { pass: NAME, message };
        let resource = |message: String| PassError::Resource { pass: NAME, message };
        let excluded = regex::RegexSet::new(&self.exclude).map_err(|e| option(format!("exclude: {e}")))?;
        let mut report = PassReport::default();
        let original = model.clone();
        self.make_ready(model, context, &mut report)?;
        let opset = model.opset().unwrap_or(13);
        let graph = &model.graph;
        let plan = plan::plan(graph, self.profile, opset, &|id| {
            let names = graph.get(id).into_iter().flat_map(|node| {
                node.name
                    .iter()
                    .map(|name| name.to_string())
                    .chain(node.outputs().iter().map(|value| value.name.to_string()))
            });
            let mut kept = false;
            for name in names {
                if !self.exclude.is_empty() && excluded.is_match(&name) {
                    return Some("excluded".to_owned());
                }
                kept |= context.keeps(&name);
            }
            kept.then(|| "protected by keep".to_owned())
        });
        if plan.products.is_empty() {
            *model = original;
            return Ok(PassReport {
                notes: vec![
                    "no convolution or matrix product with a constant weight: nothing to quantize".to_owned(),
                ],
                ..PassReport::default()
            });
        }
        let kind = self.scheme.activation(self.profile);
        let traits = self.profile.traits();
        let scheme = Scheme {
            minimum_range: traits.minimum_range,
            ..Scheme::new(kind, traits.symmetric)
        };
        let ranges = self.ranges(model, &plan, context)?;
        let mut activations: BTreeMap<ValueId, Parameters> = BTreeMap::new();
        for (value, sources) in &plan.activations {
            let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
            for source in sources {
                let range = self.range_of(model, *source, &scheme, &ranges)?;
                (low, high) = (low.min(range.0), high.max(range.1));
            }
            let found = parameters(low, high, &scheme)
                .map_err(|e| resource(format!("{}: {e}", label(model, *value))))?;
            activations.insert(*value, found);
        }
        report.notes.extend(constant_values(model, &plan, &ranges));
        let means: BTreeMap<ValueId, Vec<f64>> = self
            .mean_values(model, &plan)
            .into_iter()
            .filter_map(|value| Some((value, ranges.get(&label(model, value))?.channel_means()?)))
            .collect();
        let weights = WeightScheme {
            kind: Kind::Int8,
            per_channel: self.per_channel,
            per_channel_operators: traits.per_channel,
            integer_bias: traits.integer_bias,
            reduced: self.reduce_range,
            saturation: if kind == Kind::Uint8 && traits.saturates && !self.reduce_range {
                self.saturation
            } else {
                Saturation::Ignore
            },
        };
        let nodes = explain::nodes(model, &plan);
        let in_bodies = explain::in_bodies(model);
        let applied =
            apply::apply(&mut model.graph, &plan, &activations, &means, kind, weights).map_err(|error| {
                match error {
                    ApplyError::Edit(source) => PassError::Edit { pass: NAME, source },
                    other => resource(other.to_string()),
                }
            })?;
        if traits.operator_form {
            let operators = form::operator_form(&mut model.graph)
                .map_err(|source| PassError::Edit { pass: NAME, source })?;
            report.add("operator-on-codes", operators);
        }
        distinct_names(model, NAME).map_err(|source| PassError::Edit { pass: NAME, source })?;
        analysis::infer(model);
        report.add("activation-pair", applied.pairs);
        report.add(
            "integer-node",
            nodes.iter().filter(|node| node.runs == Runs::Integer).count() as u64,
        );
        report.add("useless-pair-left-out", plan.useless);
        report.add("implied-clamp", plan.clamps.len() as u64);
        let channels: usize = applied.saturated.iter().map(|product| product.channels).sum();
        match weights.saturation {
            Saturation::Avoid => report.add("saturation-avoided-in-channel", channels as u64),
            _ => report.notes.extend(applied.saturated.iter().map(|product| {
                format!(
                    "{}: {} of {} channels may saturate on x86 without VNNI",
                    model.graph.label(product.node),
                    product.channels,
                    product.of
                )
            })),
        }
        report.merge(DeduplicateInitializers::default().run(model, context)?);
        for node in &nodes {
            if node.runs == Runs::Float {
                report
                    .notes
                    .push(format!("{} stays float: {}", node.node, node.why));
            }
        }
        report.notes.extend(in_bodies);
        report.nodes = nodes;
        Ok(report)
    }
}

fn label(model: &Model, value: ValueId) -> String {
    model
        .graph
        .value(value)
        .map(|v| v.name.to_string())
        .unwrap_or_default()
}

/// Warnings about values that the calibration data never moves: their range says nothing about other data.
fn constant_values(
    model: &Model,
    plan: &plan::Plan,
    ranges: &BTreeMap<String, statistics::Summary>,
) -> Vec<String> {
    let names: BTreeSet<String> = plan
        .activations
        .values()
        .flatten()
        .map(|value| label(model, *value))
        .collect();
    names
        .iter()
        .filter_map(|name| {
            let (low, high) = ranges.get(name)?.histogram.extremes()?;
            (low == high).then(|| {
                format!(
                    "{name} is {low} everywhere in the calibration data: its range is no guide to other data"
                )
            })
        })
        .collect()
}

impl Quantize {
    /// Simplifies, converts to an opset that has what the scheme needs, and names and types every value.
    fn make_ready(
        &self,
        model: &mut Model,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<(), PassError> {
        if self.prepare {
            let prepared = Simplify::default().run(model, context)?;
            report.changed |= prepared.changed;
            report.changes = prepared.changes;
        }
        let needed = self.scheme.opset();
        if model.opset().is_none_or(|version| version < needed) {
            report.merge(ConvertOpset { version: needed }.run(model, context)?);
        }
        model.name_values();
        analysis::infer(model);
        Ok(())
    }

    /// Inputs of products whose channel means are wanted.
    fn mean_values(&self, model: &Model, plan: &plan::Plan) -> Vec<ValueId> {
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
        let resource = |message: String| PassError::Resource { pass: NAME, message };
        let name = label(model, value);
        if let Some(tensor) = model.graph.constant(value) {
            let values = tensor.to_f32().map_err(|e| resource(format!("{name}: {e}")))?;
            return Ok(values
                .iter()
                .fold((0f32, 0f32), |(low, high), v| (low.min(*v), high.max(*v))));
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

    fn ranges(
        &self,
        model: &Model,
        plan: &plan::Plan,
        context: &Context<'_>,
    ) -> Result<BTreeMap<String, statistics::Summary>, PassError> {
        let resource = |message: String| PassError::Resource { pass: NAME, message };
        let mut values: Vec<String> = plan
            .activations
            .values()
            .flatten()
            .copied()
            .chain(self.mean_values(model, plan))
            .filter(|value| model.graph.constant(*value).is_none())
            .map(|value| label(model, value))
            .collect();
        values.sort();
        values.dedup();
        if let Some(path) = &self.stats {
            let file = context.base.join(path);
            let found = Statistics::read(&file).map_err(|e| resource(e.to_string()))?;
            if found.subject.model != statistics::model_digest(model) {
                let message = format!("{}: the statistics are of another model", file.display());
                return Err(resource(message));
            }
            return Ok(found.values);
        }
        let resources = context.resources(NAME, "needs calibration data")?;
        let data = resources.data(&self.data, &model.graph).map_err(resource)?;
        let engine = resources.engine().map_err(resource)?;
        let total = data.sample_range().end - data.sample_range().start;
        let progress = |done: u64| (context.progress)("calibrating", done, Some(total));
        let wanted = Wanted {
            histograms: !matches!(self.calibrate, Calibrator::MinMax | Calibrator::MovingAverage),
            channel_means: self.correct_bias,
            channel_extremes: false,
            sample_extremes: self.calibrate == Calibrator::MovingAverage,
        };
        statistics::collect(model, &values, wanted, &data, engine, resources.jobs(), &progress)
            .map_err(|e| resource(e.to_string()))
    }
}
