//! How far two engines are apart on each node. Both get the values that the first one computes for the whole model, and their
//! results are compared in codes of the result.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::Serialize;

use super::codes::{self, is_code, is_dequantize, is_quantize};
use super::cut::{Cut, CutPlan, Form, Source, cut, name_of};
use super::samples::Samples;
use super::{NodeOptions, keep_worst};
use crate::analysis::infer;
use crate::engine::{Engine, EngineError, RunValue, RunValues, Session};
use crate::ir::{Graph, Model, NodeId, Slot, Tensor, ValueId};
use crate::ops::{Traits, works_on_codes};
use crate::verify::report::NotChecked;
use crate::verify::session::{self, Shapes};

/// A float result is measured as if its range were divided into the codes of 8 bits.
const STEPS: f64 = 255.0;

/// How far two engines are apart on one node.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NodeAgreement {
    /// The node.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// The result.
    pub value: String,
    /// Largest difference in codes; of a float result in 255ths of its range.
    pub codes: f64,
    /// Share of elements that differ: codes at all, floats by more than half of a 255th of the range.
    pub differing: f64,
    /// Elements compared.
    pub elements: u64,
    /// What differs beside numbers: a shape, an index, NaN in another place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How far two engines are apart on all nodes.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Agreement {
    /// The engine whose values both get, and the other one; empty where there is only one.
    pub engines: Vec<String>,
    /// Samples that were compared.
    pub samples: u64,
    /// Results that were compared.
    pub nodes: u64,
    /// Largest difference of all, in codes.
    pub most_codes: Option<f64>,
    /// Share of all elements that differ.
    pub differing: Option<f64>,
    /// The worst nodes, the worst first; nodes without a difference are left out.
    pub worst: Vec<NodeAgreement>,
}

/// What adds up over samples.
#[derive(Clone, Debug, Default)]
struct Apart {
    codes: f64,
    differing: u64,
    elements: u64,
    reason: Option<String>,
}

impl Apart {
    fn add(&mut self, other: &Apart) {
        self.codes = self.codes.max(other.codes);
        self.differing += other.differing;
        self.elements += other.elements;
        if self.reason.is_none() {
            self.reason.clone_from(&other.reason);
        }
    }
}

struct Ready {
    teacher: Box<dyn Session>,
    cut: Cut,
    student: Box<dyn Session>,
}

pub(super) fn agreement(
    model: &Model,
    pair: Result<(&dyn Engine, &dyn Engine), &EngineError>,
    samples: &Samples,
    options: &NodeOptions,
    blocked: &mut Vec<NotChecked>,
) -> Agreement {
    let mut found = Agreement::default();
    let mut block = |reason: String, operator: Option<String>| {
        blocked.push(NotChecked {
            what: "agreement of engines".to_owned(),
            operator,
            reason,
        });
    };
    let mut inferred = model.clone();
    infer(&mut inferred);
    let graph = &inferred.graph;
    if !graph
        .node_ids()
        .any(|id| graph.operator(id).is_some_and(works_on_codes))
    {
        block("no node of the main graph works on codes".to_owned(), None);
        return found;
    }
    let (teacher, student) = match pair {
        Ok(pair) => pair,
        Err(error) => {
            block(error.to_string(), None);
            return found;
        }
    };
    found.engines = vec![teacher.name().to_owned(), student.name().to_owned()];
    let mut ready: BTreeMap<Shapes, Ready> = BTreeMap::new();
    let mut rows: Option<Vec<ValueId>> = None;
    let mut sums: Vec<Apart> = Vec::new();
    let mut next = 0;
    'samples: while next < samples.count() {
        let part = match samples.next(next) {
            Ok(part) => part,
            Err(error) => {
                block(error.to_string(), None);
                break;
            }
        };
        next += part.len() as u64;
        for (shapes, sample) in &part {
            if ready.contains_key(shapes) {
                continue;
            }
            match prepare(&inferred, teacher, student, shapes, sample) {
                Ok((made, ends)) => {
                    rows.get_or_insert(ends);
                    ready.insert(shapes.clone(), made);
                }
                Err(error) => {
                    let operator = match &error {
                        EngineError::Unsupported { operator, .. } => Some(operator.clone()),
                        _ => None,
                    };
                    block(error.to_string(), operator);
                    break 'samples;
                }
            }
        }
        let run = |(shapes, sample): &(Shapes, RunValues)| match ready.get(shapes) {
            Some(ready) => ready.compare(sample),
            None => Ok(Vec::new()),
        };
        let results: Vec<_> = part.par_iter().map(run).collect();
        for result in results {
            match result {
                Ok(result) => {
                    found.samples += 1;
                    sums.resize(sums.len().max(result.len()), Apart::default());
                    sums.iter_mut().zip(&result).for_each(|(sum, one)| sum.add(one));
                }
                Err(error) => {
                    block(error.to_string(), None);
                    break 'samples;
                }
            }
        }
    }
    summarise(&mut found, graph, &rows.unwrap_or_default(), &sums, options.worst);
    found
}

fn summarise(found: &mut Agreement, graph: &Graph, rows: &[ValueId], sums: &[Apart], worst: usize) {
    let mut all = Vec::new();
    let (mut elements, mut differing) = (0, 0);
    for (value, sum) in rows
        .iter()
        .zip(sums)
        .filter(|(_, sum)| sum.elements > 0 || sum.reason.is_some())
    {
        found.nodes += 1;
        elements += sum.elements;
        differing += sum.differing;
        found.most_codes = Some(found.most_codes.unwrap_or(0.0).max(sum.codes));
        if sum.differing == 0 && sum.reason.is_none() {
            continue;
        }
        all.push(NodeAgreement {
            node: graph.label(producer(graph, *value)),
            operator: graph
                .operator(producer(graph, *value))
                .map(|operator| operator.op_type.to_string())
                .unwrap_or_default(),
            value: name_of(graph, *value)
                .map(|name| name.to_string())
                .unwrap_or_default(),
            codes: sum.codes,
            differing: sum.differing as f64 / sum.elements.max(1) as f64,
            elements: sum.elements,
            reason: sum.reason.clone(),
        });
    }
    found.differing = (elements > 0).then(|| differing as f64 / elements as f64);
    found.worst = keep_worst(all, worst, |node| {
        if node.reason.is_some() {
            f64::NEG_INFINITY
        } else {
            -node.codes
        }
    });
}

/// The node that computes what a `QuantizeLinear` rounds; else the node itself.
fn producer(graph: &Graph, value: ValueId) -> NodeId {
    graph
        .input(value.node, 0)
        .filter(|source| is_quantize(graph, value.node) && graph.operator(source.node).is_some())
        .map_or(value.node, |source| source.node)
}

fn prepare(
    model: &Model,
    teacher: &dyn Engine,
    student: &dyn Engine,
    shapes: &Shapes,
    sample: &RunValues,
) -> Result<(Ready, Vec<ValueId>), EngineError> {
    let prepared = session::prepare(model, teacher, shapes)?;
    let graph = &prepared.model.graph;
    let there: HashSet<String> = graph
        .node_ids()
        .filter_map(|id| graph.get(id))
        .flat_map(|node| node.outputs())
        .map(|value| value.name.to_string())
        .collect();
    let plan = plan(&model.graph, &there);
    let rows: Vec<ValueId> = plan.ends.iter().map(|(value, _)| *value).collect();
    let names: BTreeSet<String> = rows
        .iter()
        .filter_map(|value| name_of(&model.graph, *value))
        .map(|name| name.to_string())
        .collect();
    let session = prepared.compile(teacher, names.into_iter().collect(), true)?;
    let mut computed = session.run(sample)?;
    computed.extend(sample.iter().map(|(name, value)| (name.clone(), value.clone())));
    let cut = cut(model, &plan, &computed);
    let other = session::prepare(&cut.model, student, &Shapes::new())?.compile(student, Vec::new(), true)?;
    let ready = Ready {
        teacher: session,
        cut,
        student: other,
    };
    Ok((ready, rows))
}

impl Ready {
    fn compare(&self, sample: &RunValues) -> Result<Vec<Apart>, EngineError> {
        let mut expected = self.teacher.run(sample)?;
        expected.extend(sample.iter().map(|(name, value)| (name.clone(), value.clone())));
        let Some(inputs) = self.cut.feed(&expected) else {
            return Ok(Vec::new());
        };
        let found = self.student.run(&inputs)?;
        Ok(self
            .cut
            .outputs
            .iter()
            .map(|name| match (expected.get(name), found.get(name)) {
                (Some(RunValue::Tensor(a)), Some(RunValue::Tensor(b))) => apart(a, b),
                _ => Apart::default(),
            })
            .collect())
    }
}

/// Cuts behind every result but those that an engine computes together with the rounding that follows.
fn plan(graph: &Graph, there: &HashSet<String>) -> CutPlan {
    let depends = codes::data_dependent(graph);
    let mut plan = CutPlan::default();
    for id in graph.topological_order() {
        let Some(operator) = graph.operator(id).filter(|_| depends.contains(&id)) else {
            continue;
        };
        let random = Traits::of(operator.domain(), &operator.op_type).random;
        let reads_numbers = graph.inputs_of(id).into_iter().flatten().any(|value| {
            depends.contains(&value.node)
                && graph
                    .ty(value)
                    .dtype()
                    .is_some_and(|dtype| dtype.is_float() || is_code(dtype))
        });
        for output in 0..graph.get(id).map_or(0, |node| node.outputs().len()) {
            let value = ValueId::new(id, output);
            let (Some(name), Some(dtype)) = (name_of(graph, value), graph.ty(value).dtype()) else {
                continue;
            };
            let result = if dtype.is_float() {
                !is_dequantize(graph, id) && !absorbed(graph, value)
            } else {
                // Sums of products of codes in 32 bits belong to the result that they are scaled to.
                is_code(dtype) || reads_numbers && dtype != crate::ir::DType::I32
            };
            if !result || !there.contains(name.as_str()) {
                continue;
            }
            for reader in graph.uses(value) {
                if reader.node != graph.sink() {
                    let source = Source {
                        given: name.to_string(),
                        form: Form::Same,
                    };
                    plan.sources.insert((reader.node, reader.slot), source);
                }
            }
            if !random {
                plan.ends.push((value, Form::Same));
            }
        }
    }
    // A value that is given but not compared has to be shown by the teacher all the same: only random ones are.
    plan.sources.retain(|_, source| {
        plan.ends
            .iter()
            .any(|(end, _)| name_of(graph, *end).is_some_and(|name| *name == *source.given))
    });
    plan
}

/// Whether only QuantizeLinear reads the value, at once or behind clamps.
fn absorbed(graph: &Graph, value: ValueId) -> bool {
    let uses = graph.uses(value);
    !uses.is_empty()
        && uses.iter().all(|reader| {
            reader.slot == Slot::Input(0)
                && (is_quantize(graph, reader.node)
                    || graph
                        .operator(reader.node)
                        .is_some_and(|operator| operator.is("Relu") || operator.is("Clip"))
                        && absorbed(graph, ValueId::new(reader.node, 0)))
        })
}

/// Compares one result of both engines.
fn apart(teacher: &Tensor, student: &Tensor) -> Apart {
    let mut found = Apart {
        elements: teacher.elements(),
        ..Apart::default()
    };
    if teacher.dtype() != student.dtype() || teacher.dims() != student.dims() {
        found.reason = Some(format!(
            "{} {:?} instead of {} {:?}",
            student.dtype(),
            student.dims(),
            teacher.dtype(),
            teacher.dims()
        ));
        return found;
    }
    let (Ok(expected), Ok(other)) = (teacher.to_f64(), student.to_f64()) else {
        if !teacher.same_as(student) {
            found.reason = Some("other elements".to_owned());
        }
        return found;
    };
    let unit = if teacher.dtype().is_float() {
        let finite = expected.iter().filter(|value| value.is_finite());
        let (low, high) = finite.fold((0.0f64, 0.0f64), |(low, high), value| {
            (low.min(*value), high.max(*value))
        });
        if high > low {
            (high - low) / STEPS
        } else {
            1.0 / STEPS
        }
    } else {
        1.0
    };
    let least = if teacher.dtype().is_float() { 0.5 } else { 0.0 };
    for (a, b) in expected.iter().zip(&other) {
        if !a.is_finite() || !b.is_finite() {
            if !(a.is_nan() && b.is_nan() || a == b) {
                found.differing += 1;
                found.reason.get_or_insert_with(|| format!("{b} in place of {a}"));
            }
            continue;
        }
        let codes = (a - b).abs() / unit;
        found.codes = found.codes.max(codes);
        found.differing += u64::from(codes > least);
    }
    let exact = !teacher.dtype().is_float() && !is_code(teacher.dtype());
    if exact && found.differing > 0 {
        found.reason = Some(format!(
            "{} of {} indices or flags differ",
            found.differing, found.elements
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_differ_by_number_floats_by_their_range_and_flags_not_at_all() {
        let codes = |values: &[u8]| Tensor::from_slice(&[values.len() as u64], values).unwrap();
        let found = apart(&codes(&[1, 7, 9]), &codes(&[1, 8, 9]));
        assert_eq!((found.codes, found.differing, found.reason), (1.0, 1, None));
        let floats = |values: &[f32]| Tensor::from_slice(&[values.len() as u64], values).unwrap();
        let found = apart(&floats(&[0.0, 255.0]), &floats(&[0.25, 257.0]));
        assert_eq!((found.codes, found.differing, found.reason), (2.0, 1, None));
        let found = apart(&floats(&[1.0, 2.0]), &floats(&[1.0, f32::NAN]));
        assert!(found.reason.is_some());
        let flags = |values: &[bool]| Tensor::from_bools(&[values.len() as u64], values).unwrap();
        assert!(apart(&flags(&[true]), &flags(&[false])).reason.is_some());
        assert!(apart(&flags(&[true]), &flags(&[true])).reason.is_none());
    }
}
