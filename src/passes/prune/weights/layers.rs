//! The weights of a model that can be pruned, with the axes of their outputs and of the sum.

use std::collections::HashSet;

use regex::RegexSet;

use super::options::PruneWeights;
use crate::analysis::linear::{self, Origin};
use crate::ir::{Graph, GraphPath, Model, NodeId, Operator, ValueId};
use crate::passes::left::LeftAlone;
use crate::passes::{Context, PassReport};
use crate::statistics::Along;

/// A constant that some operator multiplies with.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// The graph that holds the constant; operators in its bodies may read it, too.
    pub(super) path: GraphPath,
    /// The constant.
    pub(super) value: ValueId,
    /// Its name.
    pub(super) name: String,
    /// The first node that reads it, with its operator, for people.
    pub(super) reader: String,
    /// Shape of the constant.
    pub(super) dims: Vec<usize>,
    /// The axis of the output channels.
    pub(super) output_axis: usize,
    /// The axis that is summed over.
    pub(super) sum_axis: usize,
    /// Groups of a convolution: the input of output channel o starts at `o / (outputs / groups) * inputs`.
    pub(super) groups: usize,
    /// What the weights multiply, if it has a name.
    pub(super) input: Option<Along>,
}

impl Layer {
    pub(super) fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Index along `axis` as a function of the flat index.
    pub(super) fn along(&self, axis: usize) -> impl Fn(usize) -> usize + use<> {
        let inner = self.dims.iter().skip(axis + 1).product::<usize>().max(1);
        let size = self.dims.get(axis).copied().unwrap_or(1).max(1);
        move |flat| flat / inner % size
    }
}

/// What an operator does with a weight.
struct Role {
    slot: usize,
    output_axis: usize,
    sum_axis: usize,
    groups: usize,
    /// The other operand: an input slot, or the first output for weights on the hidden state; and its axis.
    other: Option<(Operand, i64)>,
}

#[derive(Clone, Copy)]
enum Operand {
    Input(usize),
    FirstOutput,
}

/// Every prunable weight in graph order. Reasons for leaving weights alone go to `report`.
pub(super) fn layers(
    model: &Model,
    options: &PruneWeights,
    own: &RegexSet,
    context: &Context<'_>,
    report: &mut PassReport,
) -> Vec<Layer> {
    let mut search = Search {
        model,
        own,
        context,
        found: Vec::new(),
        seen: HashSet::new(),
        notes: Vec::new(),
        left: LeftAlone::default(),
    };
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at(&path) else {
            continue;
        };
        for id in graph.topological_order() {
            let Some(operator) = graph.operator(id) else {
                continue;
            };
            if operator.domain().is_empty() && options.operators.iter().any(|name| operator.is(name)) {
                search.operator(&path, graph, id, operator);
            }
        }
    }
    report.notes.extend(search.notes);
    report.left.extend(search.left.into_entries());
    search.found
}

/// Weights that were found, and why others are left alone.
struct Search<'a> {
    model: &'a Model,
    own: &'a RegexSet,
    context: &'a Context<'a>,
    found: Vec<Layer>,
    /// Constants that an operator has been found for.
    seen: HashSet<(GraphPath, ValueId)>,
    notes: Vec<String>,
    left: LeftAlone,
}

impl Search<'_> {
    /// The weights of one operator.
    fn operator(&mut self, path: &GraphPath, graph: &Graph, id: NodeId, operator: &Operator) {
        let roles = roles(graph, id, operator);
        let mut any = false;
        for role in &roles {
            let origin = graph
                .input(id, role.slot)
                .and_then(|value| linear::origin(self.model, path, value));
            if let Some(origin) = origin {
                any = true;
                self.weight(path, graph, (id, operator), role, origin);
            }
        }
        if any {
            return;
        }
        let operands = linear::weight_slots(operator).iter();
        for value in operands.filter_map(|slot| graph.input(id, *slot)) {
            if linear::origin(self.model, path, value).is_some() {
                self.left.add(
                    graph.label(id),
                    "its weight is a vector, or its rank is not known",
                    "",
                );
                return;
            }
            if let Some(hidden) = linear::hidden(self.model, path, value) {
                self.left.add(graph.label(id), hidden.why(), hidden.cure());
                return;
            }
        }
    }

    /// One weight of one operator.
    fn weight(
        &mut self,
        path: &GraphPath,
        graph: &Graph,
        (id, operator): (NodeId, &Operator),
        role: &Role,
        origin: Origin,
    ) {
        let place = (origin.path.clone(), origin.value);
        let Some(holder) = self.model.graph_at(&origin.path) else {
            return;
        };
        let Some(tensor) = holder.constant(origin.value) else {
            return;
        };
        let name = label(holder, origin.value);
        let reader = format!("{} {}", operator.op_type, graph.label(id));
        if self.keeps(graph, id, &name) {
            self.notes.push(format!("{name} ({reader}) stays: keep"));
            self.seen.insert(place);
            self.found
                .retain(|layer| layer.path != origin.path || layer.value != origin.value);
            return;
        }
        if !self.seen.insert(place) {
            return;
        }
        if !tensor.dtype().is_float() || tensor.dtype().bits() < 16 {
            let note = format!("{name} ({reader}) stays: it holds {}", tensor.dtype());
            self.notes.push(note);
            return;
        }
        let axis = |axis: usize| origin.axes.get(axis).copied();
        let (Some(output_axis), Some(sum_axis)) = (axis(role.output_axis), axis(role.sum_axis)) else {
            self.notes.push(format!(
                "{name} ({reader}) stays: a weight of shape {:?}",
                tensor.dims()
            ));
            return;
        };
        // Data are collected of the values of the main graph alone.
        let input = role.other.filter(|_| *path == GraphPath::MAIN);
        self.found.push(Layer {
            path: origin.path.clone(),
            value: origin.value,
            name,
            reader,
            dims: tensor.dims().iter().map(|dim| *dim as usize).collect(),
            output_axis,
            sum_axis,
            groups: role.groups,
            input: input.and_then(|(operand, axis)| {
                let value = match operand {
                    Operand::Input(slot) => graph.input(id, slot)?,
                    Operand::FirstOutput => ValueId::new(id, 0),
                };
                let value = graph.value(value).filter(|value| !value.omitted)?;
                (!value.name.is_empty()).then(|| Along {
                    value: value.name.to_string(),
                    axis,
                })
            }),
        });
    }

    /// Whether a pattern protects the weight or the operator.
    fn keeps(&self, graph: &Graph, id: NodeId, weight: &str) -> bool {
        let kept = |name: &str| self.own.is_match(name) || self.context.keeps(name);
        let node = graph.get(id);
        let names = node.and_then(|node| node.name.as_deref()).into_iter();
        let outputs = node
            .into_iter()
            .flat_map(|node| node.outputs())
            .map(|value| &*value.name);
        names.chain(outputs).any(kept) || kept(weight)
    }
}

fn label(graph: &Graph, value: ValueId) -> String {
    match graph.value(value) {
        Some(found) if !found.name.is_empty() => found.name.to_string(),
        _ => graph.label(value.node),
    }
}

fn roles(graph: &Graph, id: NodeId, operator: &Operator) -> Vec<Role> {
    let rank = |slot: usize| graph.input(id, slot).and_then(|value| graph.ty(value).rank());
    let groups = operator.int("group").unwrap_or(1).max(1) as usize;
    let one = |slot, output_axis, sum_axis, other| Role {
        slot,
        output_axis,
        sum_axis,
        groups: 1,
        other,
    };
    match &*operator.op_type {
        "Conv" => vec![Role {
            groups,
            ..one(1, 0, 1, Some((Operand::Input(0), 1)))
        }],
        "ConvTranspose" => vec![one(1, 1, 0, Some((Operand::Input(0), 1)))],
        "Gemm" => {
            let transposed = |name: &str| operator.int(name).unwrap_or(0) != 0;
            let (a, b) = (transposed("transA"), transposed("transB"));
            vec![
                one(
                    1,
                    usize::from(!b),
                    usize::from(b),
                    Some((Operand::Input(0), i64::from(!a))),
                ),
                one(
                    0,
                    usize::from(a),
                    usize::from(!a),
                    Some((Operand::Input(1), i64::from(b))),
                ),
            ]
        }
        "MatMul" => {
            let mut roles = Vec::new();
            if let Some(rank) = rank(1).filter(|rank| *rank >= 2) {
                roles.push(one(1, rank - 1, rank - 2, Some((Operand::Input(0), -1))));
            }
            if let Some(own) = rank(0).filter(|rank| *rank >= 2) {
                let axis = if rank(1) == Some(1) { -1 } else { -2 };
                roles.push(one(0, own - 2, own - 1, Some((Operand::Input(1), axis))));
            }
            roles
        }
        // [directions, gates * hidden, inputs or hidden]
        _ => vec![
            one(1, 1, 2, Some((Operand::Input(0), -1))),
            one(2, 1, 2, Some((Operand::FirstOutput, -1))),
        ],
    }
}
