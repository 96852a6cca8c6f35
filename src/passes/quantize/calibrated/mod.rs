//! Static quantization: QuantizeLinear and DequantizeLinear pairs where the target engine turns them into integer kernels.

mod apply;
mod candidates;
mod clamps;
mod cuts;
mod explain;
mod form;
mod heads;
mod options;
mod plan;
mod prepare;
mod products;
mod profile;
mod ranges;
mod roles;
mod scheme;
mod statistics_run;
mod types;

use std::collections::BTreeMap;

use self::apply::{ApplyError, Found, ProductScheme};
use self::heads::{HEAD, HeadNodes, WIDE};
use self::products::Saturated;
use self::ranges::Calibrated;
use self::types::Types;
use super::gram_statistics::GramSource;
use super::weights::{Moments, collect};
use super::{Equalize, Rounding};
use crate::analysis::{self, linear};
use crate::ir::{Graph, GraphPath, Model, NodeId, ValueId, model_digest};
use crate::passes::distinct::distinct_names;
use crate::passes::form::ConvertOpset;
use crate::passes::layer_patterns::layer_names;
use crate::passes::left::{Left, LeftAlone};
use crate::passes::simplify::{DeduplicateInitializers, Simplify};
use crate::passes::{
    About, Context, Needs, Pass, PassError, PassReport, PlannedNode, ResourceError, Runs, Safety, Selector,
};
use crate::quantize::{Calibrator, Kind};

pub use apply::Saturation;
pub use candidates::{QuantizableLayer, QuantizeStart};
pub use options::{Heads, Quantize};
pub use profile::{IntegerForm, Profile, operators};
pub use scheme::Target;
pub use statistics_run::collect_statistics;
pub use types::LayerTypes;

const NAME: &str = "quantize";

impl Pass for Quantize {
    fn about(&self) -> About {
        let needs = match self.scheme.other_pass(self) {
            Some(other) => other.about().needs,
            None => Needs {
                calibration: self.stats.is_none()
                    || self.rounding != Rounding::Nearest && self.gram_stats.is_none(),
                engine: self.until.is_some(),
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
        if let Some(other) = self.scheme.other_pass(self) {
            self.check_static_only()?;
            return other.run(model, context);
        }
        if self.until.is_some() {
            return Err(option(
                "until: a search runs the pass more than once: run it as a step of a pipeline".to_owned(),
            ));
        }
        let start = self.start(model, context)?;
        let (made, report) = self.finish(&start, context)?;
        *model = made;
        Ok(report)
    }
}

impl Quantize {
    /// Quantizes what [`Self::start`] made ready. `self` may have other `layers` and `exclude` than the options that the start is of.
    ///
    /// # Errors
    /// Types that the engine does not take, data that do not fit.
    pub fn finish(
        &self,
        start: &QuantizeStart,
        context: &Context<'_>,
    ) -> Result<(Model, PassReport), PassError> {
        let types = Types::new(self)?;
        let excluded = self.excluded()?;
        let mut report = start.report.clone();
        let mut made = start.ready.clone();
        let model = &mut made;
        // Statistics are of the model as it is before types of few engines raise the opset.
        let collected_of = self.stats.as_ref().map(|_| model_digest(model));
        let mut heads = self.head_nodes(model, &types);
        if convert(model, types.opset().max(heads.opset()), context, &mut report)? {
            heads = self.head_nodes(model, &types);
        }
        let plan = self.plan(model, &types, (&heads, &excluded), context);
        report.notes.extend(types.idle());
        report.notes.extend(heads.note);
        if plan.products.is_empty() {
            let nodes = explain::nodes(model, &plan);
            let mut notes = report.notes;
            let elsewhere = out_of_reach(model);
            notes.push(match elsewhere.is_empty() {
                true => {
                    "no convolution or matrix product with a constant weight: nothing to quantize".to_owned()
                }
                false => "every convolution and matrix product with a constant weight that could be quantized is in a body or \
                          a function, which stay float: nothing to quantize"
                    .to_owned(),
            });
            let products = nodes
                .iter()
                .filter(|node| is_product(&node.operator) || node.why == CALLS);
            let mut left = stay_float(products);
            left.extend(elsewhere);
            let report = PassReport {
                notes,
                left,
                nodes,
                ..PassReport::default()
            };
            return Ok((start.original.clone(), report));
        }
        let schemes = self.product_schemes(&model.graph, &plan, &types)?;
        let Calibrated {
            activations,
            means,
            warnings,
        } = self.calibrated(model, &plan, (start, collected_of.as_deref()), context)?;
        report.notes.extend(warnings);
        let moments = start.moments(|| self.moments(&start.original, model, context))?;
        let nodes = explain::nodes(model, &plan);
        let in_bodies = explain::in_bodies(model);
        let weights = weights(&model.graph, &plan);
        let found = Found {
            activations,
            means,
            schemes,
            rounding: moments.map(|moments| (self.rounding, moments)),
        };
        let applied = apply::apply(&mut model.graph, &plan, found).map_err(|error| match error {
            ApplyError::Edit(source) => PassError::Edit { pass: NAME, source },
            other => resource(other.to_string()),
        })?;
        report.notes.extend(applied.notes);
        if self.profile.traits().operator_form {
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
        self.report_saturated(&model.graph, &applied.saturated, &mut report);
        report_doubled(&model.graph, &weights, &mut report);
        report.merge(DeduplicateInitializers::default().run(model, context)?);
        let float = nodes.iter().filter(|node| node.runs == Runs::Float);
        report.left.extend(stay_float(float));
        report.notes.extend(in_bodies);
        report.nodes = nodes;
        Ok((made, report))
    }
}

fn opset(model: &Model) -> i64 {
    model.opset().unwrap_or(13)
}

/// Why a node stays float that calls a function of the model.
const CALLS: &str = "it calls a function, and what functions hold stays float";

/// Why nodes stay float, by reason.
fn stay_float<'a>(nodes: impl Iterator<Item = &'a PlannedNode>) -> Vec<Left> {
    let mut left = LeftAlone::default();
    for node in nodes {
        let hidden = HIDDEN.iter().find(|hidden| hidden.why() == node.why);
        let cure = match (node.why == CALLS, hidden) {
            (true, _) => "`inline-functions` first",
            (false, Some(hidden)) => hidden.cure(),
            (false, None) => "",
        };
        left.add(node.node.clone(), node.why.clone(), cure);
    }
    left.into_entries()
}

/// What may stand between a weight of the main graph and its numbers.
const HIDDEN: [linear::Hidden; 3] = [
    linear::Hidden::Computed,
    linear::Hidden::Sparse,
    linear::Hidden::Default,
];

/// Products with constant weights that no plan reaches, since they are in bodies and functions.
fn out_of_reach(model: &Model) -> Vec<Left> {
    let mut left = LeftAlone::default();
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at(&path).filter(|_| path != GraphPath::MAIN) else {
            continue;
        };
        for id in graph.topological_order() {
            let Some(operator) = graph.operator(id).filter(|one| is_product(&one.op_type)) else {
                continue;
            };
            let slots = linear::weight_slots(operator).iter();
            let operands: Vec<ValueId> = slots.filter_map(|slot| graph.input(id, *slot)).collect();
            let constant = operands
                .iter()
                .any(|value| linear::origin(model, &path, *value).is_some());
            let hidden = operands
                .iter()
                .find_map(|value| linear::hidden(model, &path, *value));
            let function = "it is in a function, and what functions hold stays float";
            match (path.function.is_some(), constant, hidden) {
                (true, true, _) => left.add(graph.label(id), function, "`inline-functions` first"),
                (false, true, _) => left.add(
                    graph.label(id),
                    "it is in a body, and what bodies hold stays float",
                    "`quantize-dynamic` and `quantize-weights` reach it",
                ),
                (_, false, Some(hidden)) => left.add(graph.label(id), hidden.why(), hidden.cure()),
                (_, false, None) => {}
            }
        }
    }
    left.into_entries()
}

/// The weight of each product of a plan.
fn weights(graph: &Graph, plan: &plan::GraphPlan) -> Vec<ValueId> {
    let mut found: Vec<ValueId> = plan
        .products
        .iter()
        .filter_map(|id| graph.input(*id, 1))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Says which of these weights stay in the file beside their codes, for whom, and what that costs.
fn report_doubled(graph: &Graph, weights: &[ValueId], report: &mut PassReport) {
    for weight in weights {
        let (Some(tensor), Some(at)) = (graph.constant(*weight), graph.uses(*weight).first().copied()) else {
            continue;
        };
        let reader = match graph.operator(at.node) {
            Some(operator) => format!("{} ({})", graph.label(at.node), operator.op_type),
            None => "an output of the graph".to_owned(),
        };
        let name = graph.value(*weight).map(|value| value.name.to_string());
        report.leave(
            name.unwrap_or_default(),
            format!(
                "in float beside its codes, as {reader} reads it, which costs {} bytes",
                tensor.byte_len()
            ),
        );
    }
}

/// Why a node of the main graph stays float, where that lies with how its weight is stored, or with a function that it calls.
fn reason_of_weight(model: &Model, id: NodeId) -> Option<String> {
    if model.calls_function(id) {
        return Some(CALLS.to_owned());
    }
    let graph = &model.graph;
    let operator = graph.operator(id)?;
    let product = operator.domain().is_empty() && is_product(&operator.op_type);
    let weight = graph.input(id, 1).filter(|_| product)?;
    if graph.constant(weight).is_some() {
        return None;
    }
    let why = match linear::origin(model, &GraphPath::MAIN, weight) {
        Some(origin) if origin.cast => {
            "its weight is behind a Cast, which is taken in only where products of the main graph alone read it"
        }
        Some(_) => "its weight is behind a Transpose or Identity",
        None => linear::hidden(model, &GraphPath::MAIN, weight)
            .filter(|hidden| *hidden != linear::Hidden::Codes)?
            .why(),
    };
    Some(why.to_owned())
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

/// Raises the opset to `needed` where it is lower. Answers whether it was.
fn convert(
    model: &mut Model,
    needed: i64,
    context: &Context<'_>,
    report: &mut PassReport,
) -> Result<bool, PassError> {
    let lower = model.opset().is_none_or(|version| version < needed);
    if lower {
        report.merge(ConvertOpset::at_least(needed).run(model, context)?);
        model.name_values();
        analysis::infer(model);
    }
    Ok(lower)
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
            ("symmetric-activations", self.symmetric_activations.is_some()),
            ("symmetric-weights", !self.symmetric_weights),
            ("block", self.block > 0),
            ("layers", !self.layers.is_empty()),
            ("rounding", self.rounding != Rounding::Nearest),
            ("gram-stats", self.gram_stats.is_some()),
            ("until", self.until.is_some()),
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
        model: &Model,
        types: &Types<'_>,
        (heads, excluded): (&HeadNodes, &regex::RegexSet),
        context: &Context<'_>,
    ) -> plan::GraphPlan {
        let graph = &model.graph;
        let reason = |id| {
            let names = layer_names(graph, id, false);
            if names.iter().any(|name| excluded.is_match(name)) {
                return Some("excluded".to_owned());
            }
            if types.of(graph, id).float {
                return Some("so `layers` says".to_owned());
            }
            if heads.float.contains(&id) {
                return Some(HEAD.to_owned());
            }
            let kept = names.iter().any(|name| context.keeps(name));
            kept.then(|| "protected by keep".to_owned())
        };
        let wishes = roles::Wishes {
            excluded: &reason,
            activation: types.activation,
            symmetric: self.is_symmetric(),
            named: &|id| {
                let named = types.of(graph, id).activation;
                named.or_else(|| heads.wide.contains(&id).then_some(WIDE))
            },
            simulated: &|id, role, kind| types.simulated(role, kind, Some(types.of(graph, id).weight)),
        };
        let mut plan = plan::plan(graph, self.profile, opset(model), &wishes);
        for (id, decision) in &mut plan.decisions {
            if let plan::Decision::Float(why) = decision
                && reason(*id).is_none()
                && let Some(own) = reason_of_weight(model, *id)
            {
                *why = own;
            }
        }
        plan
    }

    /// How the weight of each product is stored.
    fn product_schemes(
        &self,
        graph: &Graph,
        plan: &plan::GraphPlan,
        types: &Types<'_>,
    ) -> Result<BTreeMap<NodeId, ProductScheme>, PassError> {
        let traits = self.profile.traits();
        let one = |product: &NodeId| {
            let kind = plan.kinds.get(product).copied().unwrap_or(types.activation);
            let weight = types.of(graph, *product).weight;
            if let Some(why) = types.refused(kind, weight.kind) {
                return Err(PassError::Option {
                    pass: NAME,
                    message: format!("{}: {why}", graph.label(*product)),
                });
            }
            let multiplies = kind == Kind::Uint8 && weight.kind == Kind::Int8;
            let saturates = multiplies && traits.saturates && !self.reduce_range;
            let scheme = ProductScheme {
                weight,
                integer_bias: traits.integer_bias && !kind.is_float() && !weight.kind.is_float(),
                reduced: self.reduce_range,
                saturation: match (saturates, self.saturation) {
                    (false, _) => Saturation::Ignore,
                    // The search for codes that do not saturate is over a scale alone.
                    (true, Saturation::Avoid) if !weight.symmetric => Saturation::Report,
                    (true, saturation) => saturation,
                },
                correct_bias: self.correct_bias,
            };
            Ok((*product, scheme))
        };
        plan.products.iter().map(one).collect()
    }

    /// Says which products had, or may have, sums of codes beyond 16 bits.
    fn report_saturated(&self, graph: &Graph, saturated: &[Saturated], report: &mut PassReport) {
        let (avoided, left): (Vec<&Saturated>, Vec<_>) =
            saturated.iter().partition(|product| product.avoided);
        let channels: usize = avoided.iter().map(|product| product.channels).sum();
        if self.saturation == Saturation::Avoid {
            report.add("saturation-avoided-in-channel", channels as u64);
        }
        report.notes.extend(left.iter().map(|product| {
            format!(
                "{}: {} of {} channels may saturate on x86 without VNNI",
                graph.label(product.node),
                product.channels,
                product.of
            )
        }));
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

    /// Evens out the channels of what additions tie together.
    fn even_out(
        &self,
        model: &mut Model,
        context: &Context<'_>,
        report: &mut PassReport,
    ) -> Result<(), PassError> {
        let pass = Equalize {
            pairs: false,
            prepare: false,
            data: self.data.clone(),
            ..Equalize::default()
        };
        let evened = pass.run(model, context)?;
        // Where there is nothing to even out, nothing is to be said.
        for change in evened.changes.iter().filter(|change| change.rule == "channel") {
            report.add("channel-evened-out", change.count);
        }
        model.name_values();
        report.evened = evened.evened.map(|_| Box::new(model.clone()));
        Ok(())
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
}

fn resource(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
