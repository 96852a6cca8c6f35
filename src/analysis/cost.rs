//! What a model costs: nodes, parameters, bytes and multiply-accumulates.

use std::collections::HashSet;

use super::call::{Call, product};
use super::shapes::matmul;
use crate::ir::{
    AttributeValue, DType, Dim, Graph, GraphPath, Model, NodeId, NodeKind, Shape, Tensor, TensorData,
    ValueId, opset_version,
};

/// What a model costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Operators in every graph, bodies and functions included, without Constant nodes.
    pub nodes: u64,
    /// Elements of float and quantized (8 bits and less) constants; a tensor that several constants share counts once.
    pub parameters: u64,
    /// Bytes of all constants, external data included; shared ones once.
    pub constant_bytes: u64,
    /// Multiply-accumulates of one run; `None` where some operator's shapes are not known.
    pub macs: Option<u64>,
    /// Every operator that multiplies and accumulates, in graph order.
    pub by_node: Vec<NodeCost>,
}

/// What one operator costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCost {
    /// The graph of the node.
    pub path: GraphPath,
    /// The node.
    pub node: NodeId,
    /// How messages call it.
    pub label: String,
    /// Operator type.
    pub op_type: String,
    /// Multiply-accumulates; `None` if they are not known.
    pub macs: Option<u64>,
}

/// The cost of a model whose types have been inferred. `size` gives symbols their sizes; those it answers `None` for count as 1.
/// Bodies count as run once, functions where they are called.
pub fn cost(model: &Model, size: &dyn Fn(&str) -> Option<i64>) -> Cost {
    let mut cost = Cost {
        macs: Some(0),
        ..Cost::default()
    };
    let mut seen = HashSet::new();
    for path in model.graph_paths() {
        let Some(graph) = model.graph_at(&path) else {
            continue;
        };
        for id in graph.topological_order() {
            let Some(node) = graph.get(id) else { continue };
            match &node.kind {
                NodeKind::Input(input) => {
                    if let Some((tensor, _)) = &input.default {
                        count_tensor(tensor, true, &mut cost, &mut seen);
                    }
                }
                NodeKind::Constant(constant) => {
                    if let Some(tensor) = &constant.tensor {
                        count_tensor(tensor, true, &mut cost, &mut seen);
                    }
                }
                NodeKind::Operator(operator) => {
                    cost.nodes += u64::from(!operator.is("Constant"));
                    for attribute in operator.attributes() {
                        match &attribute.value {
                            AttributeValue::Tensor(tensor) => {
                                count_tensor(tensor, false, &mut cost, &mut seen)
                            }
                            AttributeValue::Tensors(tensors) => {
                                tensors
                                    .iter()
                                    .for_each(|tensor| count_tensor(tensor, false, &mut cost, &mut seen));
                            }
                            _ => {}
                        }
                    }
                    let version = opset_version(model.opsets(&path), operator.domain()).unwrap_or(0);
                    let Some(macs) = macs(graph, id, version, size) else {
                        continue;
                    };
                    cost.macs = cost.macs.zip(macs).and_then(|(sum, macs)| sum.checked_add(macs));
                    let (label, op_type) = (graph.label(id), operator.op_type.to_string());
                    cost.by_node.push(NodeCost {
                        path: path.clone(),
                        node: id,
                        label,
                        op_type,
                        macs,
                    });
                }
                _ => {}
            }
        }
    }
    cost
}

/// Counts a tensor's bytes once. A tensor in an attribute, such as what ConstantOfShape fills with, is no parameter.
fn count_tensor(tensor: &Tensor, is_constant: bool, cost: &mut Cost, seen: &mut HashSet<(usize, usize)>) {
    let at = match tensor.data() {
        TensorData::Raw(bytes) => (bytes.as_ptr() as usize, bytes.len()),
        TensorData::Float(values) => (values.as_ptr() as usize, values.len() * 4),
        TensorData::Int32(values) => (values.as_ptr() as usize, values.len() * 4),
        TensorData::Int64(values) => (values.as_ptr() as usize, values.len() * 8),
        TensorData::Double(values) => (values.as_ptr() as usize, values.len() * 8),
        TensorData::Uint64(values) => (values.as_ptr() as usize, values.len() * 8),
        TensorData::Strings(values) => (values.as_ptr() as usize, values.len()),
        TensorData::Absent => return,
    };
    if at.1 == 0 || !seen.insert(at) {
        return;
    }
    cost.constant_bytes = cost.constant_bytes.saturating_add(tensor.byte_len());
    let dtype = tensor.dtype();
    let quantized = dtype.is_integer() && dtype.bits() <= 8;
    if is_constant && (dtype.is_float() || quantized || matches!(dtype, DType::Complex64 | DType::Complex128))
    {
        cost.parameters = cost.parameters.saturating_add(tensor.elements());
    }
}

/// Multiply-accumulates of one operator: `None` for operators that have none, `Some(None)` if they are not known.
fn macs(graph: &Graph, id: NodeId, version: i64, size: &dyn Fn(&str) -> Option<i64>) -> Option<Option<u64>> {
    let call = Call::of(graph, id, version)?;
    let result = graph.ty(ValueId::new(id, 0)).shape();
    let count = match (call.operator.domain(), call.operator.op_type.as_str()) {
        ("", "Conv" | "ConvInteger") | ("com.microsoft", "FusedConv") => {
            per_output(result, kernel(call.shape(1)))
        }
        ("", "QLinearConv") => per_output(result, kernel(call.shape(3))),
        ("", "ConvTranspose") => per_output(call.shape(0), kernel(call.shape(1))),
        ("", "MatMul" | "MatMulInteger") | ("com.microsoft", "FusedMatMul") => {
            per_output(result, inner(call.shape(0)))
        }
        ("", "QLinearMatMul") => per_output(result, inner(call.shape(0))),
        ("", "Gemm") | ("com.microsoft", "FusedGemm") => per_output(
            result,
            call.shape(0)?
                .get(if call.int_or("transA", 0) != 0 { 0 } else { 1 })
                .cloned(),
        ),
        ("", "Einsum") => matmul::equation(&call).map(|equation| {
            // Every letter once; an equation of one operand multiplies nothing.
            if call.inputs.len() < 2 {
                Dim::Fixed(0)
            } else {
                product(equation.sizes.values()).mul(&product(&equation.ellipsis))
            }
        }),
        ("", "LSTM") => recurrent(&call),
        ("", "GRU") => recurrent(&call),
        ("", "RNN") => recurrent(&call),
        _ => return None,
    };
    let symbol = |name: &str| Some(size(name).unwrap_or(1));
    Some(count.and_then(|count| u64::try_from(count.evaluate(&symbol)?).ok()))
}

/// Elements of a shape times what each of them costs.
fn per_output(result: Option<&Shape>, each: Option<Dim>) -> Option<Dim> {
    Some(product(result?).mul(&each?))
}

/// Products that one output element sums up: weights `[M, C / group, kernel...]` without M.
fn kernel(weights: Option<&Shape>) -> Option<Dim> {
    Some(product(weights?.get(1..)?))
}

fn inner(left: Option<&Shape>) -> Option<Dim> {
    left?.last().cloned()
}

/// Sequence `[T, N, I]` or `[N, T, I]` with weights `[directions, gates * H, I]` and `[directions, gates * H, H]`.
fn recurrent(call: &Call<'_>) -> Option<Dim> {
    let steps = call.dim(0, 0).mul(&call.dim(0, 1));
    Some(steps.mul(&product(call.shape(1)?).add(&product(call.shape(2)?))))
}
