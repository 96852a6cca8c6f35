//! What a model costs: nodes, parameters, bytes and multiply-accumulates.

use std::collections::{HashMap, HashSet};

use super::call::{Call, product};
use super::functions::{Called, Functions};
use super::shapes::matmul;
use crate::ir::{
    AttributeValue, DType, Dim, Graph, GraphPath, Imports, Model, NodeId, NodeKind, Shape, Tensor,
    TensorData, ValueId, opset_version,
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
    /// Multiply-accumulates of one run; `None` where some operator's shapes are not known, or how it counts.
    pub macs: Option<u64>,
    /// Every operator that multiplies and accumulates, in graph order; calls of functions that do, in the place of what is in them.
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
    let mut counter = Counter::new(model, size);
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
                    // What functions do counts where they are called.
                    if path.function.is_some() {
                        continue;
                    }
                    let Some(macs) = counter.node(graph, id, model.opsets(&path), 0) else {
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

/// Multiply-accumulates of one run from a call and the shape of its result; `None` if they are not known.
type Count = fn(&Call<'_>, Option<&Shape>) -> Option<Dim>;

/// Operators that multiply and accumulate: domain, type and how much.
const COUNTS: &[(&str, &str, Count)] = &[
    ("", "Conv", |call, result| {
        per_output(result, kernel(call.shape(1)))
    }),
    ("", "ConvInteger", |call, result| {
        per_output(result, kernel(call.shape(1)))
    }),
    ("com.microsoft", "FusedConv", |call, result| {
        per_output(result, kernel(call.shape(1)))
    }),
    ("", "QLinearConv", |call, result| {
        per_output(result, kernel(call.shape(3)))
    }),
    ("", "ConvTranspose", |call, _| {
        per_output(call.shape(0), kernel(call.shape(1)))
    }),
    ("", "MatMul", matrix),
    ("", "MatMulInteger", matrix),
    ("", "QLinearMatMul", matrix),
    ("com.microsoft", "FusedMatMul", matrix),
    ("", "Gemm", gemm),
    ("com.microsoft", "FusedGemm", gemm),
    ("", "Einsum", einsum),
    ("", "LSTM", recurrent),
    ("", "GRU", recurrent),
    ("", "RNN", recurrent),
    ("", "Attention", attention),
    ("", "CausalConvWithState", |call, result| {
        per_output(result, kernel(call.shape(1)))
    }),
    ("", "DeformConv", |call, result| {
        per_output(result, kernel(call.shape(1)))
    }),
    ("com.microsoft", "DynamicQuantizeMatMul", matrix),
    ("com.microsoft", "MatMulInteger16", matrix),
    ("com.microsoft", "MatMulIntegerToFloat", matrix),
    ("com.microsoft", "MatMulNBits", matrix),
    ("com.microsoft", "MultiHeadAttention", |call, result| {
        // Packed operands and a past are not told apart here.
        let keys = call.shape(1).filter(|keys| keys.len() == 3 && !call.has(6))?;
        let width = product(call.shape(0)?).add(&product(result?));
        Some(width.mul(keys.get(1)?))
    }),
    ("com.microsoft", "QGemm", gemm),
];

/// Operators that multiply and accumulate, nobody says here how much: the number of a model with one is not known.
const UNCOUNTED: &[(&str, &str)] = &[("", "LinearAttention"), ("ai.onnx.preview", "FlexAttention")];

/// Whether multiply-accumulates of the operator are not known although it has some.
pub fn is_uncounted(domain: &str, op_type: &str) -> bool {
    UNCOUNTED.contains(&(domain, op_type))
}

/// Domain and type of every operator whose multiply-accumulates are counted.
pub fn counted_operators() -> Vec<(&'static str, &'static str)> {
    COUNTS.iter().map(|(domain, name, _)| (*domain, *name)).collect()
}

/// Multiply-accumulates: `None` for what has none, `Some(None)` if they are not known.
type Macs = Option<Option<u64>>;

fn sum(a: Macs, b: Macs) -> Macs {
    match (a, b) {
        (None, one) | (one, None) => one,
        (Some(a), Some(b)) => Some(a.zip(b).and_then(|(a, b)| a.checked_add(b))),
    }
}

/// Calls within calls.
const MAX_DEPTH: usize = 32;

/// Counts the operators of a model.
struct Counter<'m> {
    functions: Functions<'m>,
    size: &'m dyn Fn(&str) -> Option<i64>,
    /// What calls have come to.
    known: HashMap<String, Macs>,
}

impl<'m> Counter<'m> {
    fn new(model: &'m Model, size: &'m dyn Fn(&str) -> Option<i64>) -> Self {
        Self {
            functions: Functions::new(&model.functions),
            size,
            known: HashMap::new(),
        }
    }

    /// One operator without its bodies, or one call with all that is in the function.
    fn node(&mut self, graph: &Graph, id: NodeId, imports: &Imports, depth: usize) -> Macs {
        let operator = graph.operator(id)?;
        let version = opset_version(imports, operator.domain()).unwrap_or(0);
        let Some(index) = self.functions.find(graph, id) else {
            return macs(graph, id, version, self.size);
        };
        let call = Call::of(graph, id, version)?;
        let key = self.functions.key(index, &call);
        if let Some(known) = key.as_ref().and_then(|key| self.known.get(key)) {
            return *known;
        }
        let called = match depth < MAX_DEPTH {
            true => self.functions.called(index, &call),
            false => None,
        };
        let Some(Called { graph, imports }) = called else {
            return Some(None);
        };
        let found = self.graph(&graph, imports, depth + 1);
        self.known.extend(key.map(|key| (key, found)));
        found
    }

    /// A function's graph, or a body in it, which counts as run once.
    fn graph(&mut self, graph: &Graph, imports: &Imports, depth: usize) -> Macs {
        let mut total = None;
        for id in graph.topological_order() {
            let Some(operator) = graph.operator(id) else {
                continue;
            };
            total = sum(total, self.node(graph, id, imports, depth));
            for (_, body) in operator.bodies() {
                total = sum(total, self.graph(body, imports, depth));
            }
        }
        total
    }
}

/// Multiply-accumulates of one operator.
fn macs(graph: &Graph, id: NodeId, version: i64, size: &dyn Fn(&str) -> Option<i64>) -> Macs {
    let call = Call::of(graph, id, version)?;
    if is_uncounted(call.operator.domain(), &call.operator.op_type) {
        return Some(None);
    }
    let (_, _, count) = COUNTS
        .iter()
        .find(|(domain, name, _)| *domain == call.operator.domain() && call.operator.op_type == **name)?;
    let count = count(&call, graph.ty(ValueId::new(id, 0)).shape());
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

/// A left operand `[..., K]`.
fn matrix(call: &Call<'_>, result: Option<&Shape>) -> Option<Dim> {
    per_output(result, call.shape(0)?.last().cloned())
}

/// Every query with every key, then every weight with every value: queries and results `[N, heads, L, size]` or `[N, L, heads * size]`,
/// keys `[..., L, size]`, keys of the past `[N, heads, L, size]`.
fn attention(call: &Call<'_>, result: Option<&Shape>) -> Option<Dim> {
    let keys = call.shape(1)?;
    let own = keys.get(keys.len().checked_sub(2)?)?.clone();
    let past = if call.has(4) {
        call.dim(4, 2)
    } else {
        Dim::Fixed(0)
    };
    let width = product(call.shape(0)?).add(&product(result?));
    Some(width.mul(&past.add(&own)))
}

fn gemm(call: &Call<'_>, result: Option<&Shape>) -> Option<Dim> {
    let sum_axis = if call.int_or("transA", 0) != 0 { 0 } else { 1 };
    per_output(result, call.shape(0)?.get(sum_axis).cloned())
}

/// Every letter once; an equation of one operand multiplies nothing.
fn einsum(call: &Call<'_>, _: Option<&Shape>) -> Option<Dim> {
    let equation = matmul::equation(call)?;
    Some(if call.inputs.len() < 2 {
        Dim::Fixed(0)
    } else {
        product(equation.sizes.values()).mul(&product(&equation.ellipsis))
    })
}

/// Sequence `[T, N, I]` or `[N, T, I]` with weights `[directions, gates * H, I]` and `[directions, gates * H, H]`.
fn recurrent(call: &Call<'_>, _: Option<&Shape>) -> Option<Dim> {
    let steps = call.dim(0, 0).mul(&call.dim(0, 1));
    Some(steps.mul(&product(call.shape(1)?).add(&product(call.shape(2)?))))
}
