//! The pass in two halves: many results, with other layers in float, from one model that was made ready and one set of statistics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, OnceLock};

use super::types::Types;
use super::{NAME, Profile, Quantize, Target, explain, is_product, label};
use crate::analysis::cost;
use crate::ir::{DType, Dim, Graph, GraphPath, Model, NodeId, ValueId, model_digest};
use crate::passes::layer_patterns::layer_names;
use crate::passes::quantize::weights::Moments;
use crate::passes::select::names;
use crate::passes::simplify::Simplify;
use crate::passes::{Context, Pass as _, PassError, PassReport, Runs};
use crate::quantize::Kind;
use crate::statistics::Summary;

/// A model that was made ready for pairs, with what data said of it so far.
pub struct QuantizeStart {
    /// The model as it was given.
    pub(super) original: Model,
    /// The model that pairs go into.
    pub(super) ready: Model,
    /// What was done to make it ready.
    pub(super) report: PassReport,
    pub(super) ranges: Mutex<Ranges>,
    moments: OnceLock<Moments>,
}

/// What the calibration data say of values.
#[derive(Default)]
pub(super) struct Ranges {
    /// Samples that were run, 0 before the first run.
    pub(super) samples: u64,
    pub(super) values: BTreeMap<String, Summary>,
}

/// A layer that is quantized and need not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantizableLayer {
    /// The node.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// A regular expression that only this node has in a list of `layers`.
    pub pattern: String,
    /// Multiply-accumulates; 0 where they are not known.
    pub macs: u64,
    /// Elements that it reads and puts out, constants aside.
    pub elements: u64,
}

impl QuantizeStart {
    pub(super) fn new(original: Model, ready: Model, report: PassReport) -> Self {
        Self {
            original,
            ready,
            report,
            ranges: Mutex::default(),
            moments: OnceLock::new(),
        }
    }

    /// Second moments, collected once; `None` where the rounding needs none.
    pub(super) fn moments(
        &self,
        collect: impl FnOnce() -> Result<Option<Moments>, PassError>,
    ) -> Result<Option<&Moments>, PassError> {
        if let Some(known) = self.moments.get() {
            return Ok(Some(known));
        }
        let found = collect()?;
        Ok(found.map(|found| self.moments.get_or_init(|| found)))
    }

    /// Multiply-accumulates of the nodes of the main graph, by what reports call them.
    pub fn macs(&self) -> BTreeMap<String, u64> {
        let nodes = cost(&self.ready, &|_| None).by_node.into_iter();
        nodes
            .filter(|node| node.path == GraphPath::MAIN)
            .filter_map(|node| Some((node.label, node.macs?)))
            .collect()
    }
}

impl Quantize {
    /// Makes a model ready, and collects nothing yet. [`Self::finish`] makes a result of it, with other `layers` as often as one likes.
    ///
    /// # Errors
    /// Options that do not fit each other or the profile; what a pass that prepares the model answers.
    pub fn start(&self, model: &Model, context: &Context<'_>) -> Result<QuantizeStart, PassError> {
        let types = Types::new(self)?;
        self.check(&types)?;
        let mut report = PassReport::default();
        let mut ready = model.clone();
        self.make_ready(&mut ready, context, &mut report)?;
        if self.equalize
            && self.stats.is_none()
            && !types.activation.is_float()
            && types.activation.bits() <= 8
        {
            self.even_out(&mut ready, context, &mut report)?;
        }
        Ok(QuantizeStart::new(model.clone(), ready, report))
    }

    pub(super) fn excluded(&self) -> Result<regex::RegexSet, PassError> {
        crate::schema::patterns(&self.exclude).map_err(|error| PassError::Option {
            pass: NAME,
            message: format!("exclude: {error}"),
        })
    }

    /// The layers that these options quantize: products, and operators that join values. Collects statistics of all that any choice
    /// among them may need.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn quantized_layers(
        &self,
        start: &QuantizeStart,
        context: &Context<'_>,
    ) -> Result<Vec<QuantizableLayer>, PassError> {
        let types = Types::new(self)?;
        let model = &start.ready;
        let graph = &model.graph;
        let heads = self.head_nodes(model, &types);
        let plan = self.plan(model, &types, (&heads, &self.excluded()?), context);
        let runs = explain::nodes(model, &plan).into_iter().map(|node| node.runs);
        let decided = plan.decisions.iter().map(|(id, _)| *id).zip(runs);
        let integer: Vec<NodeId> = decided
            .filter(|(_, runs)| *runs == Runs::Integer)
            .map(|(id, _)| id)
            .collect();
        let around = |id: NodeId| inputs(graph, id).into_iter().chain(outputs(graph, id));
        let mut values = self.wanted_values(model, &plan);
        values.extend(
            integer
                .iter()
                .flat_map(|id| around(*id))
                .map(|value| label(model, value)),
        );
        let collected_of = self.stats.as_ref().map(|_| model_digest(model));
        drop(self.ranges(model, values, (start, collected_of.as_deref()), context)?);
        let macs = start.macs();
        let names = Names::of(graph, replayable(&start.original, context)?);
        let layers = integer.into_iter().filter_map(|id| {
            let operator = graph.operator(id)?.op_type.to_string();
            let joins = inputs(graph, id).len() > 1;
            if !is_product(&operator) && !joins {
                return None;
            }
            let node = graph.label(id);
            Some(QuantizableLayer {
                pattern: names.pattern(graph, id)?,
                macs: macs.get(&node).copied().unwrap_or(0),
                elements: around(id).map(|value| elements(graph, value)).sum(),
                node,
                operator,
            })
        });
        Ok(layers.collect())
    }

    /// The 16-bit type of activations that the profile has kernels for, if these options leave 8 bits.
    pub fn wider_activations(&self) -> Option<Kind> {
        let traits = self.profile.traits();
        let runs = |kind: &&Kind| kind.bits() == 16 && !kind.is_float() && !traits.simulated.contains(kind);
        let narrow = self.activations.is_none_or(|kind| kind.bits() <= 8) && self.scheme == Target::default();
        // What is made for no engine in particular meets few with such kernels.
        let known = narrow && self.profile != Profile::Generic;
        traits.activations.iter().find(runs).copied().filter(|_| known)
    }
}

/// Names that a pattern may have, and how many nodes each one names.
struct Names {
    known: BTreeSet<String>,
    nodes: BTreeMap<String, usize>,
}

impl Names {
    fn of(graph: &Graph, known: BTreeSet<String>) -> Self {
        let mut nodes = BTreeMap::new();
        for id in graph.node_ids().filter(|id| graph.operator(*id).is_some()) {
            let own: BTreeSet<String> = layer_names(graph, id, true).into_iter().collect();
            for name in own {
                *nodes.entry(name).or_insert(0) += 1;
            }
        }
        Self { known, nodes }
    }

    /// A pattern that names this node and no other.
    fn pattern(&self, graph: &Graph, id: NodeId) -> Option<String> {
        let own = layer_names(graph, id, true).into_iter();
        let mut alone = own.filter(|name| self.known.contains(name) && self.nodes.get(name) == Some(&1));
        let name = alone.next()?;
        Some(format!("^{}$", regex::escape(&name)))
    }
}

/// The names that patterns of a step find in a model before it runs.
fn replayable(original: &Model, context: &Context<'_>) -> Result<BTreeSet<String>, PassError> {
    let mut prepared = original.clone();
    Simplify::default().run(&mut prepared, context)?;
    prepared.name_values();
    Ok(names(original).into_iter().chain(names(&prepared)).collect())
}

/// The float values that a node reads, constants aside.
fn inputs(graph: &Graph, id: NodeId) -> Vec<ValueId> {
    let read = graph.inputs_of(id).into_iter().flatten();
    read.filter(|value| is_float(graph, *value) && graph.constant(*value).is_none())
        .collect()
}

/// The float values that a node puts out.
fn outputs(graph: &Graph, id: NodeId) -> Vec<ValueId> {
    let count = graph.get(id).map_or(0, |node| node.outputs().len());
    let all = (0..count).map(|output| ValueId::new(id, output));
    all.filter(|value| is_float(graph, *value)).collect()
}

fn is_float(graph: &Graph, value: ValueId) -> bool {
    graph.ty(value).dtype() == Some(DType::F32)
}

/// Elements of a value; sizes that are not known count as 1.
fn elements(graph: &Graph, value: ValueId) -> u64 {
    let sizes = graph.ty(value).shape().into_iter().flatten();
    sizes
        .map(|dim| match dim {
            Dim::Fixed(size) => u64::try_from(*size).unwrap_or(1),
            _ => 1,
        })
        .product()
}
