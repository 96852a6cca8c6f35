//! What tract computes wrongly, or takes for something else: refused by name, never run.
//!
//! tract keys operators by type alone, so an operator of another domain would run as ONNX's of the same name; it ignores
//! some attributes; and it is measured to be wrong on some forms. [`crate::lower`] rewrites most of them before a
//! model comes here.

use super::{ENGINE, kernels};
use crate::engine::{EngineError, carrier};
use crate::ir::{DType, FunctionIndex, Graph, GraphPath, Model, NodeId, Operator, Tensor, opset_version};
use crate::ops::picks_elements;

/// What is known of an operand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Operand<'a> {
    pub(super) dtype: Option<DType>,
    pub(super) constant: Option<&'a Tensor>,
}

/// Operators outside ONNX's own domain that tract implements as specified there.
const OTHER_DOMAINS: &[(&str, &str)] = &[
    ("com.microsoft", "MatMulNBits"),
    ("com.microsoft", "GatherBlockQuantized"),
    ("ai.onnx.ml", "ArrayFeatureExtractor"),
    ("ai.onnx.ml", "LinearRegressor"),
    ("ai.onnx.ml", "Normalizer"),
];

/// The first part of a model that tract must not run, as an [`EngineError::Unsupported`].
pub(super) fn refusal(model: &Model) -> Option<EngineError> {
    walk(model).next()
}

/// Every operator of a lowered model that tract must not run, as [`EngineError::Unsupported`], in the order of graphs.
pub fn refusals(model: &Model) -> Vec<EngineError> {
    walk(model).collect()
}

fn walk(model: &Model) -> impl Iterator<Item = EngineError> + '_ {
    let functions = model.function_index();
    model.graph_paths().into_iter().flat_map(move |path| {
        let graph = model.graph_at(&path);
        let found: Vec<EngineError> = graph
            .into_iter()
            .flat_map(|graph| graph.node_ids().map(move |id| (graph, id)))
            .filter_map(|(graph, id)| node(model, &functions, &path, graph, id))
            .collect();
        found
    })
}

fn node(
    model: &Model,
    functions: &FunctionIndex<'_>,
    path: &GraphPath,
    graph: &Graph,
    id: NodeId,
) -> Option<EngineError> {
    let op = graph.operator(id)?;
    if functions.called_by(graph, id).is_some() {
        return None;
    }
    let version = opset_version(model.opsets(path), op.domain()).unwrap_or(0);
    let inputs = graph.inputs_of(id);
    let operand = |index: usize| match inputs.get(index).copied().flatten() {
        Some(value) => Operand {
            dtype: graph.ty(value).dtype(),
            constant: graph.constant(value),
        },
        None => Operand::default(),
    };
    let outputs = graph.get(id)?.outputs();
    let mut refusal = operator(op, version, &operand);
    if refusal.is_none()
        && op.domain().is_empty()
        && !picks_elements(&op.op_type)
        && !matches!(&*op.op_type, "Constant" | "If")
        && outputs.iter().any(|value| {
            value
                .ty
                .dtype()
                .is_some_and(|dtype| carrier::carrier(dtype).is_some())
        })
    {
        refusal = Some(refuse(op, "its results are of a type that tract lacks"));
    }
    refusal.map(|mut error| {
        if let EngineError::Unsupported { node, .. } = &mut error {
            *node = Some(graph.label(id));
        }
        error
    })
}

fn refuse(op: &Operator, reason: &str) -> EngineError {
    let domain = op.imported_domain();
    let operator = if domain.is_empty() {
        op.op_type.to_string()
    } else {
        format!("{domain}.{}", op.op_type)
    };
    EngineError::Unsupported {
        engine: ENGINE,
        operator,
        node: None,
        reason: reason.to_owned(),
    }
}

/// Why tract must not run this operator, if it must not.
pub(super) fn operator<'a>(
    op: &Operator,
    version: i64,
    operand: &dyn Fn(usize) -> Operand<'a>,
) -> Option<EngineError> {
    let no = |reason: &str| Some(refuse(op, reason));
    if op.is_opaque() {
        return no("the imported opset has no such operator, so what it means is not known");
    }
    let known = OTHER_DOMAINS
        .iter()
        .any(|(domain, name)| *domain == op.domain() && op.op_type == **name);
    if !known && !op.domain().is_empty() && op.domain() != kernels::DOMAIN {
        return no("tract has no operator of this domain");
    }
    if !kernels::framework().op_register.0.contains_key(&*op.op_type) {
        return no("tract has no such operator");
    }
    if version < 7
        && (op.int("broadcast").is_some_and(|flag| flag != 0) || op.int("consumed_inputs").is_some())
    {
        return no("tract ignores the broadcasting attributes of opsets before 7");
    }
    if op.domain() == kernels::DOMAIN {
        return None;
    }
    let dtype = operand(0).dtype;
    match &*op.op_type {
        "LSTM" | "GRU" | "RNN" if op.string("direction").is_some_and(|way| way != "forward") => {
            no("tract runs reverse recurrent layers forwards")
        }
        "LSTM" | "GRU" | "RNN" if op.float("clip").is_some() || op.int("input_forget").unwrap_or(0) != 0 => {
            no("tract ignores clip and input_forget")
        }
        "SpaceToDepth" if op.string("mode").is_some_and(|mode| mode != "DCR") => no("tract ignores the mode"),
        "Swish" if op.float("alpha").is_some_and(|alpha| alpha != 1.0) => no("tract ignores alpha"),
        "BitShift" => {
            let width = dtype.map_or(8, |dtype| dtype.bits() as i64);
            let safe = |shift: &Tensor| {
                shift
                    .to_i64()
                    .is_ok_and(|all| all.iter().all(|s| (0..width).contains(s)))
            };
            match operand(1).constant {
                Some(shift) if safe(shift) => None,
                _ => no("tract is undefined for shifts by the width or more"),
            }
        }
        "Slice" if far_slice(operand) => no("tract cuts bounds to 32 bits"),
        "QuantizeLinear" => no("tract multiplies by the reciprocal of the scale"),
        "ReduceMax" | "ReduceMin" if dtype.is_none_or(|dtype| dtype.is_float()) => {
            no("tract starts from the largest finite number")
        }
        "Cast" if op.int("to").and_then(narrow_number).is_some() => no("tract has no such type"),
        "Attention" => no("tract is wrong with a past, a window or fully masked rows"),
        "BatchNormalization" if op.int("spatial") == Some(0) || op.int("training_mode").unwrap_or(0) != 0 => {
            no("tract knows the per-channel inference form only")
        }
        "Dropout" if op.int("is_test") == Some(0) => no("training form"),
        "GlobalLpPool" => no("tract divides by the number of elements"),
        "MatMulNBits" => few_bits(op, operand).and_then(no),
        "Mod" if op.int("fmod").unwrap_or(0) != 0 => no("tract ignores the sign of fmod when it broadcasts"),
        "Resize" if version == 10 => no("tract rounds positions as later opsets do"),
        _ => None,
    }
}

/// Whether tract runs the operator as it stands: the form without attributes that opset `version` of its domain has, on inputs of which
/// nothing is known.
pub fn runs(domain: &str, op_type: &str, version: i64) -> bool {
    let form = Operator::new(op_type).in_domain(domain);
    operator(&form, version, &|_| Operand::default()).is_none()
}

/// What tract does not know of a product with a weight in blocks of a few bits.
fn few_bits<'a>(op: &Operator, operand: &dyn Fn(usize) -> Operand<'a>) -> Option<&'static str> {
    if !matches!(op.int("bits").unwrap_or(4), 2 | 4) {
        return Some("tract knows such weights of 2 and 4 bits only");
    }
    if operand(4).dtype.is_some() {
        return Some("tract knows no order of groups");
    }
    let zero = operand(3).dtype;
    zero.is_some_and(|dtype| dtype != DType::U8)
        .then_some("tract knows zero points of type uint8 only")
}

/// Whether a bound that means a place or a step of a slice needs more than 32 bits. As ends, the largest numbers mean the end.
fn far_slice<'a>(operand: &dyn Fn(usize) -> Operand<'a>) -> bool {
    let far = |slot: usize, ends: &[i64]| {
        let list = operand(slot).constant.and_then(|tensor| tensor.to_i64().ok());
        let wide = |bound: &i64| i32::try_from(*bound).is_err() && !ends.contains(bound);
        list.is_some_and(|list| list.iter().any(wide))
    };
    far(1, &[]) || far(2, &[i64::MAX, i64::MIN, i64::MIN + 1]) || far(4, &[])
}

/// The narrow type with this number.
fn narrow_number(number: i64) -> Option<DType> {
    i32::try_from(number)
        .ok()
        .and_then(DType::from_onnx)
        .filter(|dtype| carrier::carrier(*dtype).is_some())
}
