//! The error of each node against the reference: it gets the reference's values, and its result is compared with the
//! reference's value of the same name, after the rounding to codes that follows it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use super::codes::{self, is_code, is_dequantize, is_quantize};
use super::cut::{Cut, Form, Plan, Source, cut, name_of};
use super::samples::Samples;
use super::{NodeOptions, keep_worst};
use crate::analysis::infer;
use crate::engine::compare::{Comparison, Tolerances, compare};
use crate::engine::{Engine, EngineError, RunValue, RunValues, Session};
use crate::ir::{DType, Graph, Model, NodeId, NodeKind, Slot, ValueId};
use crate::ops::Traits;
use crate::verify::judge::{NotChecked, VerifyOptions};
use crate::verify::session::{self, Shapes};

/// How names of codes end that stand for the value before.
const CODE_SUFFIX: &str = "_quantized";

/// How far one node is off.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NodeError {
    /// The node of the model.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// The reference's value that its result stands for.
    pub value: String,
    /// Power of the reference's value over power of the error, in decibels; `null` without an error or without a signal.
    pub sqnr_db: Option<f64>,
    /// Largest absolute error.
    pub max_abs: Option<f64>,
    /// Share of the reference's elements beyond the range of the codes; `null` where the result is no code.
    pub clipped: Option<f64>,
    /// Elements compared.
    pub elements: u64,
    /// Elements that are NaN or infinite where the reference's are other ones.
    pub undefined: u64,
    /// What is wrong beside the numbers: another shape, NaN in another place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The errors of all nodes.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct NodeErrors {
    /// The engine that ran both models.
    pub engine: String,
    /// Samples that were compared.
    pub samples: u64,
    /// Nodes that were compared.
    pub nodes: u64,
    /// Those whose results have the reference's numbers exactly.
    pub exact: u64,
    /// Half of the nodes with an error have at most this SQNR, in decibels.
    pub median_sqnr_db: Option<f64>,
    /// The worst nodes, the worst first.
    pub worst: Vec<NodeError>,
}

/// One comparison: an end of the cut and the reference's value.
struct Row {
    node: NodeId,
    value: String,
    /// Lowest and highest number of the codes, and the distance of two.
    span: Option<(f64, f64, f64)>,
}

#[derive(Clone, Default)]
struct Sum {
    comparison: Comparison,
    clipped: u64,
}

/// Both models ready to run at one set of shapes.
struct Ready {
    reference: Box<dyn Session>,
    cut: Cut,
    session: Box<dyn Session>,
}

pub(super) fn errors(
    reference: &Model,
    model: &Model,
    engine: &dyn Engine,
    samples: &Samples,
    options: &VerifyOptions,
    nodes: &NodeOptions,
    blocked: &mut Vec<NotChecked>,
) -> NodeErrors {
    let (mut known, mut inferred) = (reference.clone(), model.clone());
    infer(&mut known);
    infer(&mut inferred);
    let mut found = NodeErrors {
        engine: engine.name().to_owned(),
        ..NodeErrors::default()
    };
    let mut matched: Option<Matching> = None;
    let mut ready: BTreeMap<Shapes, Ready> = BTreeMap::new();
    let mut sums: Vec<Sum> = Vec::new();
    let mut block = |what: &str, operator: Option<String>, reason: String| {
        blocked.push(NotChecked {
            what: what.to_owned(),
            operator,
            reason,
        });
    };
    let mut next = 0;
    'samples: while next < samples.count() {
        let part = match samples.next(next) {
            Ok(part) => part,
            Err(reason) => {
                block("data", None, reason);
                break;
            }
        };
        next += part.len() as u64;
        for (shapes, sample) in &part {
            if ready.contains_key(shapes) {
                continue;
            }
            match prepare(&known, &inferred, engine, shapes, sample, &mut matched) {
                Ok(made) => {
                    ready.insert(shapes.clone(), made);
                }
                Err(error) => {
                    let operator = match &error {
                        EngineError::Unsupported { operator, .. } => Some(operator.clone()),
                        _ => None,
                    };
                    block("nodes against the reference", operator, error.to_string());
                    break 'samples;
                }
            }
        }
        let Some(matching) = &matched else { break };
        let run = |(shapes, sample): &(Shapes, RunValues)| -> Result<Option<Vec<Sum>>, EngineError> {
            match ready.get(shapes) {
                Some(ready) => ready.compare(sample, &matching.rows, &options.tolerances),
                None => Ok(None),
            }
        };
        let results: Vec<_> = part.par_iter().map(run).collect();
        for result in results {
            match result {
                Ok(Some(result)) => {
                    found.samples += 1;
                    sums.resize(matching.rows.len(), Sum::default());
                    for (sum, one) in sums.iter_mut().zip(&result) {
                        sum.comparison.add(&one.comparison);
                        sum.clipped += one.clipped;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    block("nodes against the reference", None, error.to_string());
                    break 'samples;
                }
            }
        }
    }
    if let Some(matching) = &matched {
        summarise(&mut found, &inferred.graph, &matching.rows, &sums, nodes.worst);
    }
    found
}

fn summarise(found: &mut NodeErrors, graph: &Graph, rows: &[Row], sums: &[Sum], worst: usize) {
    let mut all = Vec::new();
    for (row, sum) in rows.iter().zip(sums) {
        let figures = sum.comparison.figures(&row.value);
        if figures.elements == 0 {
            continue;
        }
        let sqnr = sum.comparison.sqnr_db();
        found.nodes += 1;
        if sqnr == f64::INFINITY && figures.reason.is_none() {
            found.exact += 1;
            continue;
        }
        let error = NodeError {
            node: graph.label(row.node),
            operator: graph
                .operator(row.node)
                .map_or_else(|| "input".to_owned(), |operator| operator.op_type.to_string()),
            value: row.value.clone(),
            sqnr_db: Some(sqnr).filter(|sqnr| sqnr.is_finite() && figures.reason.is_none()),
            max_abs: figures.max_abs,
            clipped: row.span.map(|_| sum.clipped as f64 / figures.elements as f64),
            elements: figures.elements,
            undefined: figures.undefined,
            reason: figures.reason,
        };
        let key = if error.reason.is_some() {
            f64::NEG_INFINITY
        } else {
            sqnr
        };
        all.push((key, error));
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    found.median_sqnr_db = all
        .get(all.len().saturating_sub(1) / 2)
        .map(|(key, _)| *key)
        .filter(|key| key.is_finite());
    found.worst = keep_worst(all, worst, |(key, _)| *key)
        .into_iter()
        .map(|(_, error)| error)
        .collect();
}

fn prepare(
    reference: &Model,
    model: &Model,
    engine: &dyn Engine,
    shapes: &Shapes,
    sample: &RunValues,
    matched: &mut Option<Matching>,
) -> Result<Ready, EngineError> {
    let prepared = session::prepare(reference, engine, shapes)?;
    if matched.is_none() {
        let there: HashSet<String> = values(&prepared.model.graph);
        *matched = Some(matching(reference, model, &there));
    }
    let Some(matching) = matched else {
        return Err(EngineError::Failed {
            engine: engine.name(),
            reason: "no values were matched".to_owned(),
        });
    };
    let session = prepared.compile(engine, matching.expose.iter().cloned().collect(), true)?;
    let mut computed = session.run(sample)?;
    computed.extend(sample.iter().map(|(name, value)| (name.clone(), value.clone())));
    let cut = cut(model, &matching.plan, &computed);
    let student = session::prepare(&cut.model, engine, &Shapes::new())?.compile(engine, Vec::new(), true)?;
    Ok(Ready {
        reference: session,
        cut,
        session: student,
    })
}

impl Ready {
    /// Compares every row on one sample; `None` where the reference refuses the sample.
    fn compare(
        &self,
        sample: &RunValues,
        rows: &[Row],
        tolerances: &Tolerances,
    ) -> Result<Option<Vec<Sum>>, EngineError> {
        let Ok(mut expected) = self.reference.run(sample) else {
            return Ok(None);
        };
        expected.extend(sample.iter().map(|(name, value)| (name.clone(), value.clone())));
        let Some(inputs) = self.cut.feed(&expected) else {
            return Ok(None);
        };
        let found = self.session.run(&inputs)?;
        let sums = rows.iter().zip(&self.cut.outputs).map(|(row, output)| {
            let (Some(a), Some(b)) = (expected.get(&row.value), found.get(output)) else {
                return Sum::default();
            };
            Sum {
                comparison: compare(a, b, tolerances),
                clipped: row.span.map_or(0, |span| clipped(a, span)),
            }
        });
        Ok(Some(sums.collect()))
    }
}

/// Elements more than half a step beyond what codes can stand for.
fn clipped(value: &RunValue, (low, high, step): (f64, f64, f64)) -> u64 {
    let RunValue::Tensor(tensor) = value else { return 0 };
    let (low, high) = (low - step / 2.0, high + step / 2.0);
    tensor.to_f64().map_or(0, |values| {
        values.iter().filter(|v| **v < low || **v > high).count() as u64
    })
}

/// What stands for what.
struct Matching {
    plan: Plan,
    rows: Vec<Row>,
    /// Values that the reference has to show.
    expose: BTreeSet<String>,
}

/// Names of the values of a graph.
fn values(graph: &Graph) -> HashSet<String> {
    graph
        .node_ids()
        .filter_map(|id| graph.get(id))
        .flat_map(|node| node.outputs())
        .filter(|value| !value.omitted && !value.name.is_empty())
        .map(|value| value.name.to_string())
        .collect()
}

/// Values of the reference that depend on data, and their types.
struct Known<'a> {
    graph: &'a Graph,
    types: HashMap<String, (ValueId, DType)>,
    /// Names in the model.
    theirs: HashSet<String>,
}

impl Known<'_> {
    fn dtype(&self, name: &str) -> Option<DType> {
        self.types.get(name).map(|(_, dtype)| *dtype)
    }

    /// The value that codes made from `name` stand for: behind clamps that the model leaves to the range of its codes.
    fn behind_clamps(&self, name: String) -> String {
        let Some((value, _)) = self.types.get(&name) else {
            return name;
        };
        let uses = self.graph.uses(*value);
        let [only] = uses.as_slice() else { return name };
        let clamps = self
            .graph
            .operator(only.node)
            .is_some_and(|operator| operator.is("Relu") || operator.is("Clip"));
        match name_of(self.graph, ValueId::new(only.node, 0)) {
            Some(next)
                if clamps
                    && only.slot == Slot::Input(0)
                    && !self.theirs.contains(next.as_str())
                    && self.types.contains_key(next.as_str()) =>
            {
                self.behind_clamps(next.to_string())
            }
            _ => name,
        }
    }
}

#[allow(
    clippy::too_many_lines,
    reason = "one walk, whose parts share what was matched before"
)]
fn matching(reference: &Model, model: &Model, there: &HashSet<String>) -> Matching {
    let graph = &model.graph;
    let known = known(&reference.graph, there, values(graph));
    let depends = codes::data_dependent(graph);
    let mut anchors: Vec<(ValueId, String)> = Vec::new();
    let mut coded: BTreeMap<ValueId, String> = BTreeMap::new();
    let mut found = Matching {
        plan: Plan::default(),
        rows: Vec::new(),
        expose: BTreeSet::new(),
    };
    let mut anchor_of: HashMap<ValueId, String> = HashMap::new();
    for id in graph
        .topological_order()
        .into_iter()
        .filter(|id| depends.contains(id))
    {
        let count = graph.get(id).map_or(0, |node| node.outputs().len());
        for value in (0..count).map(|output| ValueId::new(id, output)) {
            let (Some(name), Some(dtype)) = (name_of(graph, value), graph.ty(value).dtype()) else {
                continue;
            };
            let name = name.to_string();
            let theirs = known.dtype(&name);
            let behind = graph.input(id, 0);
            if is_dequantize(graph, id)
                && let Some(code) = behind.and_then(|code| coded.get(&code)).cloned()
            {
                let name = if theirs.is_some() { name } else { code };
                found.redirect(graph, value, &name, &known, |_, _| false);
            } else if is_code(dtype) && graph.operator(id).is_some() {
                let shown = graph
                    .uses(value)
                    .into_iter()
                    .filter(|reader| is_dequantize(graph, reader.node) && reader.slot == Slot::Input(0))
                    .find_map(|reader| name_of(graph, ValueId::new(reader.node, 0)))
                    .map(|name| name.to_string())
                    .filter(|name| known.dtype(name).is_some());
                let source = behind
                    .filter(|_| is_quantize(graph, id))
                    .and_then(|value| anchor_of.get(&value).cloned());
                let stem = name
                    .strip_suffix(CODE_SUFFIX)
                    .filter(|stem| codes::coding(graph, value).is_some() && known.dtype(stem).is_some());
                let guess = source.or_else(|| stem.map(str::to_owned));
                if let Some(name) = shown.or_else(|| guess.map(|name| known.behind_clamps(name))) {
                    coded.insert(value, name);
                }
            } else if let Some(theirs) = theirs {
                if theirs.is_float() && dtype.is_float() {
                    anchors.push((value, name.clone()));
                    anchor_of.insert(value, name);
                } else if theirs == dtype && graph.operator(id).is_some() {
                    // Indices and flags that depend on data: another one would make what follows incomparable.
                    found.redirect(graph, value, &name, &known, |_, _| false);
                }
            }
        }
    }
    for (value, name) in &anchors {
        let rounds = |node: NodeId, slot: Slot| is_quantize(graph, node) && slot == Slot::Input(0);
        let is_input = matches!(
            graph.get(value.node).map(|node| &node.kind),
            Some(NodeKind::Input(_))
        );
        if !is_input {
            found.redirect(graph, *value, name, &known, rounds);
        }
        let is_coded = graph
            .uses(*value)
            .iter()
            .any(|reader| rounds(reader.node, reader.slot));
        let random = graph
            .operator(value.node)
            .is_some_and(|operator| Traits::of(operator.domain(), &operator.op_type).random);
        if !is_input && !is_coded && !random {
            found.show(graph, *value, value.node, name, None, &known);
        }
    }
    for (value, name) in &coded {
        let dtype = graph.ty(*value).dtype();
        let coding = codes::coding(graph, *value).zip(dtype);
        let reads_codes = |node: NodeId, slot: Slot| is_dequantize(graph, node) && slot == Slot::Input(0);
        if let Some((coding, dtype)) = coding {
            let form = Form::Codes(coding, dtype);
            found.give(graph, *value, name, form, reads_codes);
        }
        let source = graph
            .input(value.node, 0)
            .filter(|source| is_quantize(graph, value.node) && graph.operator(source.node).is_some());
        let node = source.map_or(value.node, |source| source.node);
        let span = coding.and_then(|(coding, dtype)| codes::span(graph, coding, dtype));
        let shown = graph
            .uses(*value)
            .into_iter()
            .find(|reader| reads_codes(reader.node, reader.slot));
        match (shown, coding) {
            (Some(reader), _) => found.show(graph, ValueId::new(reader.node, 0), node, name, span, &known),
            (None, Some((coding, dtype))) if known.dtype(name) == Some(DType::F32) => {
                found.end(*value, Form::Codes(coding, dtype), node, name, span);
            }
            _ => {}
        }
    }
    found
}

fn known<'a>(graph: &'a Graph, there: &HashSet<String>, theirs: HashSet<String>) -> Known<'a> {
    let depends = codes::data_dependent(graph);
    let mut types = HashMap::new();
    for id in graph.node_ids().filter(|id| depends.contains(id)) {
        let count = graph.get(id).map_or(0, |node| node.outputs().len());
        for value in (0..count).map(|output| ValueId::new(id, output)) {
            if let (Some(name), Some(dtype)) = (name_of(graph, value), graph.ty(value).dtype())
                && there.contains(name.as_str())
            {
                types.insert(name.to_string(), (value, dtype));
            }
        }
    }
    Known { graph, types, theirs }
}

impl Matching {
    /// Lets the readers of `value` read the reference's value `name` instead, but for those that are spared.
    fn redirect(
        &mut self,
        graph: &Graph,
        value: ValueId,
        name: &str,
        known: &Known<'_>,
        spared: impl Fn(NodeId, Slot) -> bool,
    ) {
        let form = match (known.dtype(name), graph.ty(value).dtype()) {
            (Some(theirs), Some(own)) if theirs != own => Form::Cast(own),
            _ => Form::Same,
        };
        self.give(graph, value, name, form, spared);
    }

    fn give(
        &mut self,
        graph: &Graph,
        value: ValueId,
        name: &str,
        form: Form,
        spared: impl Fn(NodeId, Slot) -> bool,
    ) {
        for reader in graph.uses(value) {
            if reader.node == graph.sink() || spared(reader.node, reader.slot) {
                continue;
            }
            let source = Source {
                given: name.to_owned(),
                form,
            };
            self.plan.sources.insert((reader.node, reader.slot), source);
            self.expose.insert(name.to_owned());
        }
    }

    fn show(
        &mut self,
        graph: &Graph,
        value: ValueId,
        node: NodeId,
        name: &str,
        span: Option<(f64, f64, f64)>,
        known: &Known<'_>,
    ) {
        let form = match (known.dtype(name), graph.ty(value).dtype()) {
            (Some(theirs), Some(own)) if theirs != own => Form::Cast(theirs),
            _ => Form::Same,
        };
        self.end(value, form, node, name, span);
    }

    fn end(&mut self, value: ValueId, form: Form, node: NodeId, name: &str, span: Option<(f64, f64, f64)>) {
        self.plan.ends.push((value, form));
        self.rows.push(Row {
            node,
            value: name.to_owned(),
            span,
        });
        self.expose.insert(name.to_owned());
    }
}
