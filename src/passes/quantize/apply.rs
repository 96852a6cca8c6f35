//! Putting a plan into a graph: weights and biases as codes, pairs around activations, clamps left out.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::{Plan, is_constant};
use super::products::{Saturated, product_codes};
use crate::ir::{
    EditError, Editor, Graph, Name, NodeId, Operator, Tensor, TensorError, Value, ValueId, ValueType,
};
use crate::quantize::{Granularity, Kind, Parameters, QuantizeError, pack, quantize_tensor};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error("{value}: {source}")]
    Codes { value: String, source: QuantizeError },
    #[error("{value}: {source}")]
    Tensor { value: String, source: TensorError },
}

/// How weights are coded.
#[derive(Clone, Copy, Debug)]
pub(super) struct WeightScheme {
    pub(super) kind: Kind,
    pub(super) per_channel: bool,
    /// Operators whose weights may have one scale a channel.
    pub(super) per_channel_operators: &'static [&'static str],
    /// Biases become codes, too.
    pub(super) integer_bias: bool,
    pub(super) reduced: bool,
    /// Whether kernels that saturate may run the product.
    pub(super) saturation: Saturation,
}

/// What is done about pairs of weights whose products leave 16 bits on x86 processors without VNNI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Saturation {
    /// Channels with such a pair are numbered in the report.
    Report,
    /// Channels with such a pair get a larger scale, or the pair smaller codes, whichever costs less.
    #[default]
    Avoid,
    /// Nothing.
    Ignore,
}

/// What was put into the graph.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) pairs: u64,
    pub(super) saturated: Vec<Saturated>,
}

/// Applies `plan` to `graph` with the parameters of each activation.
pub(super) fn apply(
    graph: &mut Graph,
    plan: &Plan,
    activations: &BTreeMap<ValueId, Parameters>,
    means: &BTreeMap<ValueId, Vec<f64>>,
    kind: Kind,
    weights: WeightScheme,
) -> Result<Applied, ApplyError> {
    let mut editor = graph.edit("quantize");
    // Clamps first: their output's range goes to the product before them.
    let mut moved: HashMap<ValueId, ValueId> = HashMap::new();
    for clamp in &plan.clamps {
        let Some(input) = editor.graph().input(*clamp, 0) else {
            continue;
        };
        let output = ValueId::new(*clamp, 0);
        editor.replace(output, input)?;
        editor.remove_unused(*clamp);
        moved.insert(output, input);
    }
    let place = |value: &ValueId| moved.get(value).copied().unwrap_or(*value);
    let activations: BTreeMap<ValueId, Parameters> =
        activations.iter().map(|(v, p)| (place(v), *p)).collect();
    let means: BTreeMap<ValueId, &[f64]> = means.iter().map(|(v, m)| (place(v), m.as_slice())).collect();
    let mut applied = Applied::default();
    for product in &plan.products {
        applied.saturated.extend(product_codes(
            &mut editor,
            *product,
            &activations,
            &means,
            weights,
        )?);
    }
    for (value, parameters) in &activations {
        if editor.graph().value(*value).is_none() {
            continue;
        }
        if is_constant(editor.graph(), *value) {
            constant_codes(&mut editor, *value, *parameters, kind)?;
        } else {
            activation_pair(&mut editor, *value, *parameters, kind)?;
        }
        applied.pairs += 1;
    }
    Ok(applied)
}

pub(super) fn label(graph: &Graph, value: ValueId) -> String {
    graph
        .value(value)
        .map(|v| v.name.to_string())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| graph.label(value.node))
}

pub(super) fn suffixed(stem: &str, suffix: &str) -> Name {
    if stem.is_empty() {
        Name::default()
    } else {
        Name::from(format!("{stem}_{suffix}"))
    }
}

pub(super) fn zero_point(kind: Kind, codes: &[i32], dims: &[u64]) -> Result<Tensor, QuantizeError> {
    pack(dims, codes, kind)
}

/// QuantizeLinear and DequantizeLinear behind `value`; every reader reads the second.
fn activation_pair(
    editor: &mut Editor<'_>,
    value: ValueId,
    parameters: Parameters,
    kind: Kind,
) -> Result<(), ApplyError> {
    let name = label(editor.graph(), value);
    let codes_error = |source| ApplyError::Codes {
        value: name.clone(),
        source,
    };
    let ty = editor.graph().ty(value).clone();
    let coded = ValueType::tensor(kind.dtype(), ty.shape().cloned());
    let scale = editor.add_constant(suffixed(&name, "scale"), Tensor::scalar(parameters.scale));
    let zero = zero_point(kind, &[parameters.zero_point], &[]).map_err(codes_error)?;
    let zero = editor.add_constant(suffixed(&name, "zero_point"), zero);
    let q = editor.add_operator(
        value.node,
        Operator::new("QuantizeLinear"),
        &[Some(value), Some(scale), Some(zero)],
        vec![Value::typed(suffixed(&name, "quantized"), coded)],
    )?;
    let dq = editor.add_operator(
        value.node,
        Operator::new("DequantizeLinear"),
        &[Some(ValueId::new(q, 0)), Some(scale), Some(zero)],
        vec![Value::typed(suffixed(&name, "dequantized"), ty)],
    )?;
    editor.replace_where(value, ValueId::new(dq, 0), |reader| reader.node != q)?;
    Ok(())
}

/// A constant operand of an elementwise operator: codes with one scale and a DequantizeLinear.
fn constant_codes(
    editor: &mut Editor<'_>,
    value: ValueId,
    parameters: Parameters,
    kind: Kind,
) -> Result<(), ApplyError> {
    let name = label(editor.graph(), value);
    let codes_error = |source| ApplyError::Codes {
        value: name.clone(),
        source,
    };
    let Some(tensor) = editor.graph().constant(value).cloned() else {
        return Ok(());
    };
    let codes = quantize_tensor(&tensor, &[parameters], Granularity::PerTensor, kind).map_err(codes_error)?;
    let zero = zero_point(kind, &[parameters.zero_point], &[]).map_err(codes_error)?;
    let ty = editor.graph().ty(value).clone();
    let inputs = [
        editor.add_constant(suffixed(&name, "quantized"), codes),
        editor.add_constant(suffixed(&name, "scale"), Tensor::scalar(parameters.scale)),
        editor.add_constant(suffixed(&name, "zero_point"), zero),
    ];
    let readers: Vec<NodeId> = editor.graph().uses(value).iter().map(|u| u.node).collect();
    let near = readers.first().copied().unwrap_or(value.node);
    let dq = editor.add_operator(
        near,
        Operator::new("DequantizeLinear"),
        &inputs.map(Some),
        vec![Value::typed(suffixed(&name, "dequantized"), ty)],
    )?;
    editor.replace(value, ValueId::new(dq, 0))?;
    editor.remove_unused(value.node);
    Ok(())
}
