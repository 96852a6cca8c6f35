//! Static quantization: QuantizeLinear and DequantizeLinear pairs where the target engine turns them into integer kernels.

mod apply;
mod cuts;
mod explain;
mod form;
mod plan;
mod prepare;
mod products;
mod profile;
mod scheme;
mod statistics_run;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::apply::{ApplyError, Found, ProductScheme};
use self::types::Types;
use super::distinct::distinct_names;
use super::gram_statistics::GramSource;
use super::layer_patterns::layer_names;
use super::left::{Left, LeftAlone};
use super::quantize_weights::{Moments, collect};
use super::{
    About, Context, ConvertOpset, DeduplicateInitializers, Needs, Pass, PassError, PassReport, PlannedNode,
    Rounding, Runs, Safety, Selector, Simplify,
};
use crate::analysis;
use crate::ir::{Graph, Model, NodeId, ValueId};
use crate::quantize::{Calibrator, Kind, Parameters, Scheme, calibrated_range, extremes, parameters};
use crate::statistics::{self, Statistics, Wanted};

pub use apply::Saturation;
pub use profile::Profile;
pub use scheme::Target;
pub use statistics_run::collect_statistics;
pub use types::LayerTypes;

/// Quantizes weights and activations to 8-bit integers with Q/DQ pairs, placed so that the target engine runs the operators
/// between them on integers. Ranges come from the calibration data. Options give the whole model or single layers other types:
/// 4-bit weights, 16-bit activations, floats of 8 bits; a value that is read in two types gets a pair for each.
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
    /// Type of the codes of activations; that of the scheme and the profile by default. A type that the engine has no kernel for is
    /// refused, or, by ONNX Runtime's profiles for 16 bits, simulated in float, and the plan says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<Kind>,
    /// Type of the codes of weights; `int8` by default, `float8e4m3fn` with the scheme `float8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Kind>,
    /// Elements along the summed dimension of a matrix product that share a scale of its weight; 0: a whole output channel does.
    pub block: usize,
    /// Other types for single layers: the first entry whose pattern matches the node's name, an output of it or its weight
    /// decides. `{match: REGEX, type: int4|int8|...|float, activations: uint8|uint16|...}`, and `per-channel` or `block` where
    /// they differ. Operators that only move codes have the type of what they read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerTypes>,
    /// How the codes of weights are chosen: as for `quantize-weights`, on the second moments of what the float model's layers read.
    pub rounding: Rounding,
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
    #[schemars(extend("x-file" = "read"))]
    pub stats: Option<PathBuf>,
    /// A statistics file (`secateur stats MODEL --for gram`) to take the second moments for `rounding` from, instead of data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-file" = "read"))]
    pub gram_stats: Option<PathBuf>,
}

impl Default for Quantize {
    fn default() -> Self {
        Self {
            scheme: Target::default(),
            profile: Profile::default(),
            activations: None,
            weights: None,
            block: 0,
            layers: Vec::new(),
            rounding: Rounding::Nearest,
            calibrate: Calibrator::Mse,
            per_channel: true,
            reduce_range: false,
            saturation: Saturation::default(),
            prepare: true,
            correct_bias: true,
            exclude: Vec::new(),
            data: "calibration".to_owned(),
            stats: None,
            gram_stats: None,
        }
    }
}

const NAME: &str = "quantize";

/// Calibration data with fewer samples is warned about.
const FEWEST_SAMPLES: u64 = 8;

impl Pass for Quantize {
    fn about(&self) -> About {
        let needs = match self.scheme.other_pass(self) {
            Some(other) => other.about().needs,
            None => Needs {
                calibration: self.stats.is_none()
                    || self.rounding != Rounding::Nearest && self.gram_stats.is_none(),
                ..Needs::default()
            },
        };
        About::new(NAME, Safety::Approximate).needing(needs)
    }

    fn data_roles(&self) -> Vec<String> {
        match self.scheme.other_pass(self) {
            Some(other) => other.data_roles(),
            None if self.about().needs.calibration => vec![self.data.clone()],
            None => Vec::new(),
        }
    }

    fn selectors(&self) -> Vec<Selector> {
        vec![
            Selector::new("exclude", &self.exclude),
            Selector::new("layers", self.layers.iter().map(|layer| &layer.pattern)),
        ]
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let option = |message: String| PassError::Option { pass: NAME, message };
        let resource = |message: String| PassError::Resource { pass: NAME, message };
        if let Some(other) = self.scheme.other_pass(self) {
            self.check_static_only()?;
            return other.run(model, context);
        }
        let types = Types::new(self)?;
        self.check(&types)?;
        let excluded = regex::RegexSet::new(&self.exclude).map_err(|e| option(format!("exclude: {e}")))?;
        let mut report = PassReport::default();
        let original = model.clone();
        self.make_ready(model, context, &mut report)?;
        // Statistics are of the model as it is before types of few engines raise the opset.
        let collected_of = self.stats.as_ref().map(|_| statistics::model_digest(model));
        convert(model, types.opset(), context, &mut report)?;
        let opset = model.opset().unwrap_or(13);
        let plan = self.plan(&model.graph, opset, &types, &excluded, context);
        report.notes.extend(types.idle());
        if plan.products.is_empty() {
            let nodes = explain::nodes(model, &plan);
            let mut notes = report.notes;
            notes.push(
                "no convolution or matrix product with a constant weight: nothing to quantize".to_owned(),
            );
            let products = nodes.iter().filter(|node| is_product(&node.operator));
            let left = stay_float(products);
            *model = original;
            return Ok(PassReport {
                notes,
                left,
                nodes,
                ..PassReport::default()
            });
        }
        let traits = self.profile.traits();
        let mut schemes: BTreeMap<NodeId, ProductScheme> = BTreeMap::new();
        for product in &plan.products {
            let kind = plan.kinds.get(product).copied().unwrap_or(types.activation);
            let weight = types.of(&model.graph, *product).weight;
            if let Some(why) = types.refused(kind, weight.kind) {
                return Err(option(format!("{}: {why}", model.graph.label(*product))));
            }
            let multiplies = kind == Kind::Uint8 && weight.kind == Kind::Int8;
            let saturates = multiplies && traits.saturates && !self.reduce_range;
            let scheme = ProductScheme {
                weight,
                integer_bias: traits.integer_bias && !kind.is_float() && !weight.kind.is_float(),
                reduced: self.reduce_range,
                saturation: if saturates {
                    self.saturation
                } else {
                    Saturation::Ignore
                },
                correct_bias: self.correct_bias,
            };
            schemes.insert(*product, scheme);
        }
        let notes = &mut report.notes;
        let ranges = self.ranges(model, &plan, collected_of.as_deref(), context, notes)?;
        let calibrate = |((value, kind), sources): (&(ValueId, Kind), &Vec<ValueId>)| {
            let scheme = Scheme {
                minimum_range: traits.minimum_range,
                ..Scheme::new(*kind, traits.symmetric)
            };
            if let Some(fixed) = fixed_parameters(self.profile, &model.graph, sources, *kind) {
                return Ok(((*value, *kind), fixed, Vec::new()));
            }
            let (mut low, mut high) = (f32::INFINITY, f32::NEG_INFINITY);
            for source in sources {
                let range = self.range_of(model, *source, &scheme, &ranges)?;
                (low, high) = (low.min(range.0), high.max(range.1));
            }
            let found = parameters(low, high, &scheme)
                .map_err(|e| resource(format!("{}: {e}", label(model, *value))))?;
            let cuts = sources
                .iter()
                .filter_map(|source| cuts::Cut::of(label(model, *source), &ranges, (low, high)));
            Ok(((*value, *kind), found, cuts.collect()))
        };
        let calibrated: Vec<((ValueId, Kind), Parameters, Vec<cuts::Cut>)> = plan
            .activations
            .par_iter()
            .map(calibrate)
            .collect::<Result<_, PassError>>()?;
        let mut cut_off = Vec::new();
        let mut activations: BTreeMap<(ValueId, Kind), Parameters> = BTreeMap::new();
        for (key, found, cuts) in calibrated {
            activations.insert(key, found);
            cut_off.extend(cuts);
        }
        report.notes.extend(cuts::warning(cut_off));
        report.notes.extend(constant_values(model, &plan, &ranges));
        report.notes.extend(repeated_samples(&ranges));
        let means: BTreeMap<ValueId, Vec<f64>> = self
            .mean_values(model, &plan)
            .into_iter()
            .filter_map(|value| Some((value, ranges.get(&label(model, value))?.channel_means()?)))
            .collect();
        let moments = self.moments(&original, model, context)?;
        let nodes = explain::nodes(model, &plan);
        let in_bodies = explain::in_bodies(model);
        let found = Found {
            activations,
            means,
            schemes,
            rounding: moments.as_ref().map(|moments| (self.rounding, moments)),
        };
        let applied = apply::apply(&mut model.graph, &plan, found).map_err(|error| match error {
            ApplyError::Edit(source) => PassError::Edit { pass: NAME, source },
            other => resource(other.to_string()),
        })?;
        report.notes.extend(applied.notes);
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
        match self.saturation {
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
        let float = nodes.iter().filter(|node| node.runs == Runs::Float);
        report.left.extend(stay_float(float));
        report.notes.extend(in_bodies);
        report.nodes = nodes;
        Ok(report)
    }
}

/// Why nodes stay float, by reason.
fn stay_float<'a>(nodes: impl Iterator<Item = &'a PlannedNode>) -> Vec<Left> {
    let mut left = LeftAlone::default();
    nodes.for_each(|node| left.add(node.node.clone(), node.why.clone(), ""));
    left.into_entries()
}

fn is_product(operator: &str) -> bool {
    matches!(operator, "Conv" | "ConvTranspose" | "Gemm" | "MatMul")
}

fn label(model: &Model, value: ValueId) -> String {
    model
        .graph
        .value(value)
        .map(|v| v.name.to_string())
        .unwrap_or_default()
}

/// Raises the opset to `needed` where it is lower.
fn convert(
    model: &mut Model,
    needed: i64,
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<(), PassError> {
    if model.opset().is_none_or(|version| version < needed) {
        report.merge(ConvertOpset::at_least(needed).run(model, context)?);
        model.name_values();
        analysis::infer(model);
    }
    Ok(())
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
    plan: &plan::Plan,
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
    /// Refuses options that contradict each other.
    fn check(&self, types: &Types<'_>) -> Result<(), PassError> {
        let wrong = |message: &str| {
            Err(PassError::Option {
                pass: NAME,
                message: message.to_owned(),
            })
        };
        if types.any_float() && self.calibrate == Calibrator::Entropy {
            return wrong("calibrate: entropy counts on evenly spaced codes, which floats are not");
        }
        if self.rounding == Rounding::Nearest {
            if self.gram_stats.is_some() {
                return wrong("gram-stats: rounding: nearest uses no second moments");
            }
        } else if self.reduce_range {
            return wrong("reduce-range: the codes of gptq and adaround use the whole type");
        }
        Ok(())
    }

    /// Refuses options of static quantization for the schemes that stand for other passes.
    fn check_static_only(&self) -> Result<(), PassError> {
        let set = [
            ("activations", self.activations.is_some()),
            ("weights", self.weights.is_some()),
            ("block", self.block > 0),
            ("layers", !self.layers.is_empty()),
            ("rounding", self.rounding != Rounding::Nearest),
            ("gram-stats", self.gram_stats.is_some()),
        ];
        match set.iter().find(|(_, set)| *set) {
            None => Ok(()),
            Some((name, _)) => Err(PassError::Option {
                pass: NAME,
                message: format!(
                    "{name}: for the schemes int8, int16 and float8; the passes behind the others have options of their own"
                ),
            }),
        }
    }

    fn plan(
        &self,
        graph: &Graph,
        opset: i64,
        types: &Types<'_>,
        excluded: &regex::RegexSet,
        context: &Context<'_>,
    ) -> plan::Plan {
        let reason = |id| {
            let names = layer_names(graph, id, false);
            if names.iter().any(|name| excluded.is_match(name)) {
                return Some("excluded".to_owned());
            }
            if types.of(graph, id).float {
                return Some("so `layers` says".to_owned());
            }
            let kept = names.iter().any(|name| context.keeps(name));
            kept.then(|| "protected by keep".to_owned())
        };
        let wishes = plan::Wishes {
            excluded: &reason,
            activation: types.activation,
            named: &|id| types.of(graph, id).activation,
            simulated: &|id, role, kind| types.simulated(role, kind, Some(types.of(graph, id).weight)),
        };
        plan::plan(graph, self.profile, opset, &wishes)
    }

    /// Second moments of what products read, for the roundings that need them. `given` is the model before it was made ready.
    fn moments(
        &self,
        given: &Model,
        model: &Model,
        context: &Context<'_>,
    ) -> Result<Option<Moments>, PassError> {
        if self.rounding == Rounding::Nearest {
            return Ok(None);
        }
        let source = GramSource {
            pass: NAME,
            data: &self.data,
            stats: self.gram_stats.as_deref(),
        };
        let operators = ["Conv", "Gemm", "MatMul"].map(str::to_owned);
        collect(source, given, model, &operators, context).map(Some)
    }

    /// Simplifies, converts to an opset that has pairs for channels, and names and types every value.
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
        convert(model, 13, context, report)?;
        model.name_values();
        analysis::infer(model);
        if self.prepare && prepare::products(model, context)? {
            distinct_names(model, NAME).map_err(|source| PassError::Edit { pass: NAME, source })?;
            analysis::infer(model);
        }
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

    fn ranges(
        &self,
        model: &Model,
        plan: &plan::Plan,
        collected_of: Option<&str>,
        context: &Context<'_>,
        notes: &mut Vec<String>,
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
            if Some(found.subject.model.as_str()) != collected_of {
                let message = format!("{}: the statistics are of another model", file.display());
                return Err(resource(message));
            }
            let samples = found.ranges.iter().map(|(start, end)| end - start).sum();
            notes.extend(too_few(samples));
            return Ok(found.values);
        }
        let resources = context.resources(NAME, "needs calibration data")?;
        let data = resources.data(&self.data, &model.graph).map_err(resource)?;
        let engine = resources.engine().map_err(resource)?;
        let total = data.sample_range().end - data.sample_range().start;
        notes.extend(too_few(total));
        let progress = |done: u64| (context.progress)("calibrating", done, Some(total));
        let wanted = Wanted {
            histograms: self.calibrate != Calibrator::MinMax,
            channel_means: self.correct_bias,
            channel_extremes: false,
            sample_extremes: self.calibrate == Calibrator::MovingAverage,
        };
        statistics::collect(model, &values, wanted, &data, engine, resources.jobs(), &progress)
            .map_err(|e| resource(e.to_string()))
    }
}
