//! The error of each node against the reference: it gets the reference's values, and its result is compared with the
//! reference's value of the same name, after the rounding to codes that follows it.

use std::collections::BTreeMap;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use super::cut::{Cut, cut};
use super::matching::{Matching, Row, value_names};
use super::samples::Samples;
use super::{NodeOptions, keep_worst};
use crate::analysis::infer;
use crate::engine::compare::{Comparison, Tolerances, compare};
use crate::engine::{Engine, EngineError, RunValue, RunValues, Session};
use crate::ir::{Graph, Model};
use crate::verify::report::{NotChecked, VerifyOptions};
use crate::verify::session::{self, Shapes};

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
    /// What kept nodes from being compared, where the errors stand by themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_checked: Vec<NotChecked>,
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
            Err(error) => {
                block("data", None, error.to_string());
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
        let there = value_names(&prepared.model.graph);
        *matched = Some(Matching::new(&reference.graph, &model.graph, &there));
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
