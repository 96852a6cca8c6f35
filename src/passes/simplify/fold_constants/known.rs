//! Which values of a graph are the same in every run.

use smallvec::SmallVec;

use super::FoldConstants;
use crate::analysis::linear;
use crate::fold::decided;
use crate::ir::{DType, Dim, Graph, Model, Name, NodeId, Operator, Tensor, ValueId, ValueType};
use crate::ops::Traits;
use crate::passes::scope::{Scope, node_bound};
use crate::rewrite::{EvaluateError, Safety};

/// Operators whose output holds at most the elements of their inputs, so that they may be evaluated before their output's
/// shape is known.
const NEVER_LARGER: &[&str] = &[
    "ArgMax",
    "ArgMin",
    "Compress",
    "Concat",
    "Flatten",
    "NonZero",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Reshape",
    "Shape",
    "Size",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];
/// Bytes of floats that a byte of codes stands for at most, in codes of two bits.
const MOST_DECODED: u64 = 16;
/// Operators that only change the shape of their first input.
const VIEWS: &[&str] = &["Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"];
/// Bytes an element takes at most when its type is not known.
const WIDEST_ELEMENT: u64 = 16;

/// What is known of the nodes of a graph.
#[derive(Debug)]
pub(super) struct Known {
    /// By node index: the outputs of an operator that was evaluated, one tensor an output slot.
    evaluated: Vec<Option<SmallVec<[Tensor; 1]>>>,
    /// Every evaluated operator, in topological order.
    pub(super) order: Vec<NodeId>,
}

impl Known {
    /// The tensor of a value: of a constant in the graph, or of an evaluated operator.
    pub(super) fn tensor<'a>(&'a self, graph: &'a Graph, value: ValueId) -> Option<&'a Tensor> {
        graph
            .constant(value)
            .or_else(|| self.outputs(value.node)?.get(value.output as usize))
    }

    /// The outputs of an evaluated operator.
    pub(super) fn outputs(&self, id: NodeId) -> Option<&[Tensor]> {
        self.evaluated.get(id.index())?.as_deref()
    }
}

/// Evaluates what can be evaluated; `refuse` is told the node and the reason where a bound or the evaluator says no.
pub(super) fn find(
    graph: &Graph,
    scope: &Scope<'_>,
    options: &FoldConstants,
    refuse: &mut dyn FnMut(String, String),
) -> Known {
    let mut known = Known {
        evaluated: vec![None; node_bound(graph)],
        order: Vec::new(),
    };
    for id in graph.topological_order() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        // The weight that a codebook stands for would take as much as before it was shared.
        if scope.protected(graph, id) || !options.decode && linear::reads_codes(graph, id) {
            continue;
        }
        let outputs = match from_facts(graph, scope, id, operator) {
            Some(tensor) => SmallVec::from_iter([tensor]),
            None => match evaluate(graph, scope, options, &known, id, operator) {
                Ok(Some(outputs)) => outputs,
                Ok(None) => continue,
                Err(refusal) => {
                    refuse(graph.label(id), refusal.to_string());
                    continue;
                }
            },
        };
        if let Some(slot) = known.evaluated.get_mut(id.index()) {
            *slot = Some(outputs);
            known.order.push(id);
        }
    }
    known
}

/// Whether the operator makes floats of codes. Such a weight would take as much as before it was quantized.
fn is_decoding(operator: &Operator) -> bool {
    operator.is("DequantizeLinear")
}

/// Bytes of the floats that all codes of the model stand for.
pub(super) fn decoded_bytes(model: &Model) -> u64 {
    let paths = model.graph_paths();
    let graphs = paths.iter().filter_map(|path| model.graph_at(path));
    let of_graph = |graph: &Graph| -> u64 {
        let ids = graph.node_ids().filter(|id| {
            let dequantizes = graph.operator(*id).is_some_and(is_decoding);
            let stored = graph
                .input(*id, 0)
                .is_some_and(|value| graph.constant(value).is_some());
            dequantizes && stored || linear::codebook(graph, *id).is_some()
        });
        ids.filter_map(|id| expected_bytes(graph.ty(ValueId::new(id, 0))))
            .sum()
    };
    graphs.map(of_graph).sum()
}

/// What analysis says about the one output of an operator: fixed elements, or the shape it asks for.
fn from_facts(graph: &Graph, scope: &Scope<'_>, id: NodeId, operator: &Operator) -> Option<Tensor> {
    let value = ValueId::new(id, 0);
    if graph.get(id)?.outputs().len() != 1 || !scope.deterministic(graph, id, operator) {
        return None;
    }
    if graph.value(value)?.content.is_some() {
        return graph.value(value)?.content_tensor();
    }
    let shape = || graph.ty(graph.input(id, 0)?).fixed_shape();
    if operator.is("Size") {
        let elements = shape()?
            .iter()
            .try_fold(1i64, |product, dim| product.checked_mul(*dim))?;
        return Some(Tensor::scalar(elements));
    }
    if operator.is("Shape") {
        let dims = graph.ty(graph.input(id, 0)?).shape()?;
        let rank = dims.len() as i64;
        let bound = |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize;
        let (start, end) = (
            bound(operator.int("start").unwrap_or(0)),
            bound(operator.int("end").unwrap_or(rank)),
        );
        let taken = dims.get(start..end.max(start))?;
        return Some(Tensor::vector_i64(
            &taken.iter().map(Dim::fixed).collect::<Option<Vec<_>>>()?,
        ));
    }
    None
}

/// Why an operator all of whose inputs are known is not evaluated.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("engines round {0} in their own ways, and only exact changes are asked for")]
    Rounding(Name),
    #[error("its output would take more than {0} bytes, the larger of its inputs and the limit")]
    TooLarge(u64),
    #[error("the size of the output of {0} is not known")]
    UnknownSize(Name),
    #[error("{operator} cannot be evaluated here: {reason}")]
    Unsupported { operator: String, reason: String },
    #[error("{operator} fails: {reason}")]
    Failed { operator: String, reason: String },
    #[error("{operator} gave {found} outputs")]
    Outputs { operator: Name, found: usize },
    #[error("{operator} gives {found} where the model says {declared}")]
    Type {
        operator: Name,
        found: Box<ValueType>,
        declared: Box<ValueType>,
    },
    #[error("its output takes more than {0} bytes, the larger of its inputs and the limit")]
    LargerThanSaid(u64),
}

impl From<EvaluateError> for Refusal {
    fn from(error: EvaluateError) -> Self {
        match error {
            EvaluateError::Unsupported { operator, reason } => Self::Unsupported { operator, reason },
            EvaluateError::Failed { operator, reason } => Self::Failed { operator, reason },
        }
    }
}

/// The outputs of an operator all of whose inputs are known; `None` if it is not for folding.
fn evaluate(
    graph: &Graph,
    scope: &Scope<'_>,
    options: &FoldConstants,
    known: &Known,
    id: NodeId,
    operator: &Operator,
) -> Result<Option<SmallVec<[Tensor; 1]>>, Refusal> {
    let input_values = graph.inputs_of(id);
    if input_values.iter().all(Option::is_none) {
        return Ok(None);
    }
    let mut inputs: SmallVec<[Option<Tensor>; 4]> = SmallVec::with_capacity(input_values.len());
    for value in &input_values {
        match value {
            None => inputs.push(None),
            Some(value) => match known.tensor(graph, *value) {
                Some(tensor) => inputs.push(Some(tensor.clone())),
                None => return Ok(None),
            },
        }
    }
    let foldable = !operator.has_bodies()
        && !operator.has_references()
        && operator.capture_count() == 0
        && (options.decode || !is_decoding(operator))
        && scope.deterministic(graph, id, operator);
    if !foldable {
        return Ok(None);
    }
    if options.safety == Safety::Exact && !decided(operator, &inputs) {
        return Err(Refusal::Rounding(operator.op_type.clone()));
    }
    let Some(version) = scope.version(operator.domain()) else {
        return Ok(None);
    };
    let input_bytes: u64 = inputs.iter().flatten().map(Tensor::byte_len).sum();
    let decoded = match is_decoding(operator) || linear::reads_codes(graph, id) {
        true => input_bytes.saturating_mul(MOST_DECODED),
        false => input_bytes,
    };
    let limit = decoded.max(scope.context.limits.fold_bytes);
    let Some(node) = graph.get(id) else {
        return Ok(None);
    };
    let expected: Option<u64> = (0..node.outputs().len())
        .map(|output| expected_bytes(graph.ty(ValueId::new(id, output))))
        .try_fold(0u64, |sum, bytes| sum.checked_add(bytes?));
    match expected.or_else(|| upper_bound(operator, &inputs)) {
        Some(bytes) if bytes > limit => {
            return Err(Refusal::TooLarge(limit));
        }
        Some(_) => {}
        None => {
            return Err(Refusal::UnknownSize(operator.op_type.clone()));
        }
    }
    if let Some(view) = view(graph, id, operator, &inputs) {
        return Ok(Some(SmallVec::from_iter([view])));
    }
    let evaluator = scope.context.evaluator;
    let outputs = evaluator.evaluate(operator, version, &inputs, node.outputs().len())?;
    if outputs.len() != node.outputs().len() {
        return Err(Refusal::Outputs {
            operator: operator.op_type.clone(),
            found: outputs.len(),
        });
    }
    for (index, tensor) in outputs.iter().enumerate() {
        let found = crate::ir::tensor_type(tensor);
        let declared = graph.ty(ValueId::new(id, index));
        if declared.contradicts(&found) {
            return Err(Refusal::Type {
                operator: operator.op_type.clone(),
                found: Box::new(found),
                declared: Box::new(declared.clone()),
            });
        }
    }
    if outputs.iter().map(Tensor::byte_len).sum::<u64>() > limit {
        return Err(Refusal::LargerThanSaid(limit));
    }
    Ok(Some(outputs.into_iter().collect()))
}

/// The output of an operator that only changes the shape of its first input: the same data, once its shape is known.
fn view(graph: &Graph, id: NodeId, operator: &Operator, inputs: &[Option<Tensor>]) -> Option<Tensor> {
    let source = inputs.first()?.as_ref()?;
    if !VIEWS.iter().any(|name| operator.is(name)) || graph.get(id)?.outputs().len() != 1 {
        return None;
    }
    if operator.is("Identity") {
        return Some(source.clone());
    }
    let ty = graph.ty(ValueId::new(id, 0));
    if ty.dtype() != Some(source.dtype()) {
        return None;
    }
    let dims: Vec<u64> = ty
        .fixed_shape()?
        .into_iter()
        .map(|dim| u64::try_from(dim).ok())
        .collect::<Option<_>>()?;
    let elements = dims
        .iter()
        .try_fold(1u64, |product, dim| product.checked_mul(*dim))?;
    if elements != source.elements() {
        None
    } else {
        source.reshaped(&dims).ok()
    }
}

/// Bytes of a value of this type, when they are known; strings count as the widest element.
fn expected_bytes(ty: &ValueType) -> Option<u64> {
    let elements = ty
        .fixed_shape()?
        .into_iter()
        .try_fold(1u64, |product, dim| product.checked_mul(u64::try_from(dim).ok()?))?;
    match ty.dtype() {
        Some(dtype) if dtype != DType::String => dtype.byte_len(elements),
        _ => elements.checked_mul(WIDEST_ELEMENT),
    }
}

/// What the output takes at most, for operators of which that can be told from the inputs alone.
fn upper_bound(operator: &Operator, inputs: &[Option<Tensor>]) -> Option<u64> {
    let traits = Traits::of(operator.domain(), &operator.op_type);
    let tensors = || inputs.iter().flatten();
    if NEVER_LARGER.iter().any(|name| operator.is(name)) {
        let elements = tensors().try_fold(0u64, |sum, tensor| sum.checked_add(tensor.elements()))?;
        let rank = tensors().map(Tensor::rank).max()? as u64;
        // NonZero answers one index per element and axis.
        let factor = if operator.is("NonZero") { rank.max(1) } else { 1 };
        return elements
            .checked_mul(WIDEST_ELEMENT)?
            .checked_mul(factor)?
            .checked_add(rank * 8);
    }
    if traits.elementwise_unary || traits.elementwise_broadcast {
        let rank = tensors().map(Tensor::rank).max()?;
        let elements = (0..rank).try_fold(1u64, |product, axis| {
            let dim = tensors()
                .filter_map(|t| t.dims().iter().rev().nth(axis))
                .copied()
                .fold(1u64, |a, b| if a == 1 { b } else { a });
            product.checked_mul(dim)
        })?;
        return elements.checked_mul(WIDEST_ELEMENT);
    }
    None
}
