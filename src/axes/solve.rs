//! The driver: goes over the main graph in topological order and applies the rules.

use std::sync::OnceLock;

use super::elements::Axis;
use super::pins::Pin;
use super::rule::{Axes, Gathered, Rule, Sum};
use super::rules;
use super::units::{self, Group};
use crate::analysis::{Contradiction, infer};
use crate::ir::{DType, FunctionIndex, Graph, Model, NodeId, NodeKind, ValueId, opset_version};

/// What can be removed from a model, and why the rest cannot.
#[derive(Debug)]
pub struct Solution {
    pub(super) gathered: Gathered,
    /// The class of each element.
    pub(super) roots: Vec<u32>,
    /// Version of ONNX's own operators.
    pub(super) opset: i64,
    groups: Vec<Group>,
    /// See [`Self::contradictions`].
    contradictions: OnceLock<Vec<Contradiction>>,
}

impl Solution {
    /// What inference finds wrong in the model itself, which is the one that was solved: a search removes from it many times, and
    /// infers it once.
    pub(super) fn contradictions(&self, model: &Model) -> &[Contradiction] {
        self.contradictions
            .get_or_init(|| infer(&mut model.clone()).contradictions)
    }

    /// Removal units that play the same part (the channels of one layer), in graph order; pinned ones included.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The axes of a value of the main graph; `None` for one of unknown rank.
    pub fn axes(&self, value: ValueId) -> Option<&[Axis]> {
        self.gathered.axes_of(value).map(|axes| &**axes)
    }

    pub(super) fn sums(&self) -> &[Sum] {
        &self.gathered.sums
    }
}

/// Solves the main graph of a model whose types have been inferred and whose shape arithmetic has been folded: what is
/// computed at run time instead of known pins what depends on it.
pub fn solve(model: &Model) -> Solution {
    let graph = &model.graph;
    let functions = model.function_index();
    let mut gathered = Gathered::default();
    for id in graph.topological_order() {
        let axes = match graph.get(id).map(|node| &node.kind) {
            Some(NodeKind::Operator(_)) => operator(model, &functions, id, &mut gathered),
            Some(NodeKind::Constant(_)) => vec![constant(graph, id, &mut gathered)],
            _ => vec![fixed(graph, ValueId::new(id, 0))],
        };
        if gathered.axes.len() <= id.index() {
            gathered.axes.resize(id.index() + 1, Vec::new());
        }
        if let Some(slot) = gathered.axes.get_mut(id.index()) {
            *slot = axes;
        }
    }
    for (value, output) in graph.output_values().into_iter().zip(graph.outputs()) {
        let Some(axes) = value.and_then(|value| gathered.axes_of(value)).cloned() else {
            continue;
        };
        for (at, axis) in axes.into_iter().enumerate() {
            let name = output.name.to_string();
            let pin = Pin {
                operator: "graph output".to_owned(),
                node: name.clone(),
                value: name,
                axis: at,
                reason: "outputs keep their shape",
            };
            gathered.pin(axis, pin);
        }
    }
    pin_single_elements(graph, &mut gathered);
    let roots: Vec<u32> = (0..gathered.elements.len() as u32)
        .map(|element| gathered.elements.find(element))
        .collect();
    let groups = units::groups(graph, &gathered, &roots);
    Solution {
        gathered,
        roots,
        opset: model.opset().unwrap_or(0),
        groups,
        contradictions: OnceLock::new(),
    }
}

/// An axis keeps at least one element, so the element of an axis of one stays.
fn pin_single_elements(graph: &Graph, gathered: &mut Gathered) {
    for id in graph.node_ids() {
        for output in 0..graph.get(id).map_or(0, |node| node.outputs().len()) {
            let value = ValueId::new(id, output);
            let Some(axes) = gathered.axes_of(value).cloned() else {
                continue;
            };
            for (at, axis) in axes
                .into_iter()
                .enumerate()
                .filter(|(_, axis)| axis.count() == Some(1))
            {
                let operator = graph
                    .operator(id)
                    .map_or("Constant".to_owned(), |operator| operator.op_type.to_string());
                let name = graph
                    .value(value)
                    .map(|value| value.name.to_string())
                    .unwrap_or_default();
                let pin = Pin {
                    operator,
                    node: graph.label(id),
                    value: name,
                    axis: at,
                    reason: "it is the only element of the axis",
                };
                gathered.pin(axis, pin);
            }
        }
    }
}

fn fixed(graph: &Graph, value: ValueId) -> Option<Axes> {
    graph
        .ty(value)
        .rank()
        .map(|rank| Axes::from_elem(Axis::Fixed, rank))
}

/// The axes of a constant: elements for weights, none for what holds sizes and indices.
fn constant(graph: &Graph, id: NodeId, gathered: &mut Gathered) -> Option<Axes> {
    let Some(tensor) = graph.get(id).and_then(|node| node.constant()) else {
        return fixed(graph, ValueId::new(id, 0));
    };
    let sizes = matches!(
        tensor.dtype(),
        DType::I64 | DType::String | DType::Complex64 | DType::Complex128
    );
    Some(
        tensor
            .dims()
            .iter()
            .map(|dim| match u32::try_from(*dim) {
                Ok(len) if len > 1 && !sizes && !tensor.dtype().is_packed() => {
                    gathered.elements.fresh(len as usize)
                }
                _ => Axis::Fixed,
            })
            .collect(),
    )
}

fn operator(
    model: &Model,
    functions: &FunctionIndex<'_>,
    id: NodeId,
    gathered: &mut Gathered,
) -> Vec<Option<Axes>> {
    let graph = &model.graph;
    let Some(node) = graph.get(id) else {
        return Vec::new();
    };
    let Some(operator) = node.operator() else {
        return Vec::new();
    };
    let version = opset_version(&model.opset_imports, operator.domain()).unwrap_or(0);
    let outputs = vec![None; node.outputs().len()];
    let inputs = graph.inputs_of(id);
    let mut rule = Rule {
        gathered,
        graph,
        id,
        operator,
        version,
        inputs,
        outputs,
        seen: 0,
    };
    let called = functions.called_by(graph, id).is_some();
    let known = match rules::find(operator.domain(), &operator.op_type) {
        Some(apply) if !called && !operator.has_bodies() && !operator.has_references() => {
            apply(&mut rule).is_some()
        }
        _ => false,
    };
    if known {
        rule.pin_unseen();
    } else {
        for slot in 0..rule.inputs.len() {
            rule.pin_all(slot, "no rule says what this operator does to it");
        }
        rule.outputs.iter_mut().for_each(|axes| *axes = None);
    }
    let outputs = std::mem::take(&mut rule.outputs);
    if operator.capture_count() > 0 {
        for value in graph.captures_of(id).into_iter().flatten() {
            let Some(axes) = gathered.axes_of(value).cloned() else {
                continue;
            };
            for (at, axis) in axes.into_iter().enumerate() {
                let pin = Pin {
                    operator: operator.op_type.to_string(),
                    node: graph.label(id),
                    value: graph
                        .value(value)
                        .map(|value| value.name.to_string())
                        .unwrap_or_default(),
                    axis: at,
                    reason: "a body captures it",
                };
                gathered.pin(axis, pin);
            }
        }
    }
    outputs
        .into_iter()
        .enumerate()
        .map(|(output, axes)| axes.or_else(|| fixed(graph, ValueId::new(id, output))))
        .collect()
}
