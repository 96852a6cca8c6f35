//! What operators cost, in units that order rewrites: work first, then operands read.

use crate::ir::{Dim, Graph, NodeId, Operator, Shape, ValueId};
use crate::ops::is_view;

/// Cost of some operators: work units, then values read that are not constant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost {
    pub(crate) work: u32,
    pub(crate) reads: u32,
}

impl Cost {
    pub(crate) fn add(&mut self, op_type: &str, reads: usize) {
        self.work += work(op_type);
        self.reads += reads as u32;
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} units of work and {} reads", self.work, self.reads)
    }
}

/// Work units of an operator. Operators that move no data cost least, those that multiply matrices most; an operator that is not
/// listed costs 2.
pub(crate) fn work(op_type: &str) -> u32 {
    match op_type {
        "Shape" | "Size" => 1,
        view if is_view(view) => 1,
        "Pow" | "Softmax" | "BatchNormalization" | "Erf" => 3,
        "Conv" | "ConvTranspose" | "MatMul" | "Gemm" | "FusedConv" | "FusedGemm" | "FusedMatMul" => 4,
        "Einsum" | "Attention" => 5,
        _ => 2,
    }
}

/// Multiply-accumulates of an operator, as an expression of symbols: 0 for one that multiplies no matrices, unknown where a shape
/// is.
pub(crate) fn macs(operator: &Operator, inputs: &[Option<Shape>], output: Option<&Shape>) -> Dim {
    let product = |dims: &[Dim]| dims.iter().fold(Dim::Fixed(1), |product, dim| product.mul(dim));
    let input = |index: usize| inputs.get(index).and_then(Option::as_ref);
    if !operator.domain().is_empty() {
        return Dim::Fixed(0);
    }
    let found = match &*operator.op_type {
        // Every output element costs one weight slice [C/group, kernel...].
        "Conv" => output
            .zip(input(1))
            .and_then(|(y, w)| Some(product(y).mul(&product(w.get(1..)?)))),
        // Every input element meets one slice [M/group, kernel...].
        "ConvTranspose" => input(0)
            .zip(input(1))
            .and_then(|(x, w)| Some(product(x).mul(&product(w.get(1..)?)))),
        "MatMul" => output
            .zip(input(0))
            .and_then(|(y, a)| Some(product(y).mul(a.last()?))),
        "Gemm" => {
            let inner = if operator.int("transA") == Some(1) { 0 } else { 1 };
            output
                .zip(input(0))
                .and_then(|(y, a)| Some(product(y).mul(a.get(inner)?)))
        }
        "Einsum" | "Attention" => None,
        _ => Some(Dim::Fixed(0)),
    };
    found.unwrap_or(Dim::Unknown)
}

/// Multiply-accumulates of a node of a graph.
pub(crate) fn node_macs(graph: &Graph, node: NodeId) -> Dim {
    let Some(operator) = graph.operator(node) else {
        return Dim::Fixed(0);
    };
    let inputs: Vec<Option<Shape>> = graph
        .inputs_of(node)
        .iter()
        .map(|value| value.and_then(|id| shape_of(graph, id)))
        .collect();
    let output = shape_of(graph, ValueId::new(node, 0));
    macs(operator, &inputs, output.as_ref())
}

/// The shape of a value, of a constant in any case.
pub(crate) fn shape_of(graph: &Graph, value: ValueId) -> Option<Shape> {
    match graph.constant(value) {
        Some(tensor) => crate::ir::tensor_type(tensor).shape().cloned(),
        None => graph.ty(value).shape().cloned(),
    }
}
