//! Who reads a constant, and as what: directly, behind Identity, Cast and Transpose, and in bodies that capture it.

use super::operand::{Operand, operand};
use crate::ir::{BodyIndex, DType, Graph, NodeId, Operator, Slot, Use, ValueId};

/// An operator that reads a constant as its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The way's first step: where the graph of the constant reads it.
    pub first: Use,
    /// The bodies that the way enters, outermost first.
    pub bodies: Vec<(NodeId, BodyIndex)>,
    /// The operator, in the innermost of these bodies.
    pub node: NodeId,
    /// What the constant is to it. Axes are those of the constant as it is stored.
    pub operand: Operand,
    /// The type that the operator reads it in.
    pub dtype: Option<DType>,
    /// A Transpose lies on the way.
    pub transposed: bool,
    /// A Cast lies on the way.
    pub cast: bool,
}

impl Reading {
    /// The graph of the operator, where `graph` is that of the constant.
    pub fn graph<'a>(&self, graph: &'a Graph) -> Option<&'a Graph> {
        self.bodies
            .iter()
            .try_fold(graph, |graph, (node, body)| graph.body(*node, *body))
    }

    /// Whether another value may take the constant's place right at the operator: it reads it in the constant's own graph, with its
    /// axes as they are stored.
    pub fn is_straight(&self) -> bool {
        self.bodies.is_empty() && !self.transposed
    }
}

/// A reader of a constant to which it is no weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherReader {
    /// What messages call the reader.
    pub label: String,
    /// The operator; `None` for an output of a graph.
    pub operator: Option<String>,
}

/// All readers of a constant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// Those to which it is a weight.
    pub weights: Vec<Reading>,
    /// The others.
    pub others: Vec<OtherReader>,
}

/// The way to one value.
#[derive(Clone)]
struct Way {
    first: Option<Use>,
    bodies: Vec<(NodeId, BodyIndex)>,
    /// The stored axis that each axis of the value is.
    axes: Vec<usize>,
    dtype: Option<DType>,
    transposed: bool,
    cast: bool,
}

/// Bodies nested deeper than any reader accepts.
const DEEPEST: usize = 128;

/// Every reader of the constant `value` of `graph`, in the order of nodes.
pub fn readings(graph: &Graph, value: ValueId) -> Readings {
    let mut found = Readings::default();
    if let Some(tensor) = graph.constant(value) {
        let way = Way {
            first: None,
            bodies: Vec::new(),
            axes: (0..tensor.rank()).collect(),
            dtype: Some(tensor.dtype()),
            transposed: false,
            cast: false,
        };
        walk(graph, value, &way, &mut found);
    }
    found
}

fn walk(graph: &Graph, value: ValueId, way: &Way, found: &mut Readings) {
    for at in graph.uses(value) {
        let way = Way {
            first: way.first.or(Some(at)),
            ..way.clone()
        };
        match (graph.operator(at.node), at.slot) {
            (Some(operator), Slot::Capture(slot)) => captured(graph, at.node, operator, slot, &way, found),
            (Some(operator), Slot::Input(slot)) => read(graph, at.node, operator, slot as usize, way, found),
            (None, _) => found.others.push(OtherReader {
                label: "an output of the graph".to_owned(),
                operator: None,
            }),
        }
    }
}

fn captured(graph: &Graph, owner: NodeId, operator: &Operator, slot: u32, way: &Way, found: &mut Readings) {
    if way.bodies.len() >= DEEPEST {
        return;
    }
    for (body, inner) in operator.bodies() {
        for value in inner.captured(slot) {
            let mut way = way.clone();
            way.bodies.push((owner, body));
            walk(inner, value, &way, found);
        }
    }
    debug_assert!(graph.is_live(owner));
}

fn read(graph: &Graph, node: NodeId, operator: &Operator, slot: usize, way: Way, found: &mut Readings) {
    let output = ValueId::new(node, 0);
    if operator.is("Identity") {
        return walk(graph, output, &way, found);
    }
    if let Some(dtype) = float_cast(operator) {
        let way = Way {
            dtype: Some(dtype),
            cast: true,
            ..way
        };
        return walk(graph, output, &way, found);
    }
    let order = permutation(operator.ints("perm"), way.axes.len());
    if let Some(order) = order.filter(|_| operator.is("Transpose")) {
        let axes = order
            .iter()
            .filter_map(|axis| way.axes.get(*axis).copied())
            .collect();
        let way = Way {
            axes,
            transposed: true,
            ..way
        };
        return walk(graph, output, &way, found);
    }
    let stored = |axis: Option<usize>| axis.and_then(|axis| way.axes.get(axis).copied());
    match (operand(operator, slot, way.axes.len()), way.first) {
        (Some(one), Some(first)) => found.weights.push(Reading {
            first,
            node,
            operand: Operand {
                output_axis: stored(one.output_axis),
                sum_axis: stored(one.sum_axis),
                ..one
            },
            bodies: way.bodies,
            dtype: way.dtype,
            transposed: way.transposed,
            cast: way.cast,
        }),
        _ => found.others.push(OtherReader {
            label: graph.label(node),
            operator: Some(operator.op_type.to_string()),
        }),
    }
}

/// The type that a Cast to a float type gives.
pub(super) fn float_cast(operator: &Operator) -> Option<DType> {
    let to = operator.int("to").filter(|_| operator.is("Cast"))?;
    [DType::F32, DType::F16, DType::BF16]
        .into_iter()
        .find(|dtype| i64::from(dtype.onnx()) == to)
}

/// The order of axes that a Transpose with this `perm` gives a tensor of this rank.
pub(super) fn permutation(perm: Option<&[i64]>, rank: usize) -> Option<Vec<usize>> {
    let Some(perm) = perm else {
        return Some((0..rank).rev().collect());
    };
    let order: Vec<usize> = perm
        .iter()
        .map(|axis| usize::try_from(*axis).ok().filter(|axis| *axis < rank))
        .collect::<Option<_>>()?;
    (order.len() == rank).then_some(order)
}
