//! The weights of a model that can be pruned, with the axes of their outputs and of the sum.

use std::collections::HashSet;

use regex::RegexSet;

use super::options::PruneWeights;
use crate::ir::{Graph, GraphPath, Model, NodeId, NodeKind, Operator, ValueId};
use crate::passes::Context;
use crate::statistics::Along;

/// A constant that some operator multiplies with.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// The graph.
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

/// Every prunable weight in graph order. Reasons for leaving weights alone go to `notes`.
pub(super) fn layers(
    model: &Model,
    options: &PruneWeights,
    own: &RegexSet,
    context: &Context<'_>,
    notes: &mut Vec<String>,
) -> Vec<Layer> {
    let mut found: Vec<Layer> = Vec::new();
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at(&path) else {
            continue;
        };
        let mut seen: HashSet<ValueId> = HashSet::new();
        for id in graph.topological_order() {
            let Some(operator) = graph.operator(id) else {
                continue;
            };
            if !operator.domain().is_empty() || !options.operators.iter().any(|name| operator.is(name)) {
                continue;
            }
            for role in roles(graph, id, operator) {
                let Some((value, axes)) = graph
                    .input(id, role.slot)
                    .and_then(|value| constant(graph, value))
                else {
                    continue;
                };
                let name = label(graph, value);
                let reader = format!("{} {}", operator.op_type, graph.label(id));
                let kept = |name: &str| own.is_match(name) || context.keeps(name);
                let node = graph.get(id);
                let names = node.and_then(|node| node.name.as_deref()).into_iter();
                let outputs = node
                    .into_iter()
                    .flat_map(|node| node.outputs())
                    .map(|value| &*value.name);
                if names.chain(outputs).any(kept) || kept(&name) {
                    notes.push(format!("{name} ({reader}) stays: keep"));
                    seen.insert(value);
                    found.retain(|layer| layer.path != path || layer.value != value);
                    continue;
                }
                if !seen.insert(value) {
                    continue;
                }
                let Some(tensor) = graph.constant(value) else {
                    continue;
                };
                if !tensor.dtype().is_float() || tensor.dtype().bits() < 16 {
                    notes.push(format!("{name} ({reader}) stays: it holds {}", tensor.dtype()));
                    continue;
                }
                let axis = |axis: usize| axes.get(axis).copied();
                let (Some(output_axis), Some(sum_axis)) = (axis(role.output_axis), axis(role.sum_axis))
                else {
                    notes.push(format!(
                        "{name} ({reader}) stays: a weight of shape {:?}",
                        tensor.dims()
                    ));
                    continue;
                };
                found.push(Layer {
                    path: path.clone(),
                    value,
                    name,
                    reader,
                    dims: tensor.dims().iter().map(|dim| *dim as usize).collect(),
                    output_axis,
                    sum_axis,
                    groups: role.groups,
                    input: role.other.and_then(|(operand, axis)| {
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
        }
    }
    found
}

fn label(graph: &Graph, value: ValueId) -> String {
    match graph.value(value) {
        Some(found) if !found.name.is_empty() => found.name.to_string(),
        _ => graph.label(value.node),
    }
}

/// The constant behind a value, through Identity and Transpose, and for each axis of the value the constant's axis.
fn constant(graph: &Graph, mut value: ValueId) -> Option<(ValueId, Vec<usize>)> {
    let mut axes: Vec<usize> = (0..graph.ty(value).rank()?).collect();
    loop {
        match &graph.get(value.node)?.kind {
            NodeKind::Constant(_) => return graph.constant(value).map(|_| (value, axes)),
            NodeKind::Operator(operator) if operator.is("Identity") => value = graph.input(value.node, 0)?,
            NodeKind::Operator(operator) if operator.is("Transpose") => {
                let rank = axes.len();
                let source = |axis: usize| match operator.ints("perm") {
                    Some(perm) => perm.get(axis).and_then(|source| usize::try_from(*source).ok()),
                    None => rank.checked_sub(1 + axis),
                };
                axes = axes.iter().map(|axis| source(*axis)).collect::<Option<_>>()?;
                value = graph.input(value.node, 0)?;
            }
            _ => return None,
        }
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
