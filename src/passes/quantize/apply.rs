//! Putting a plan into a graph: weights and biases as codes, pairs around activations, clamps left out.

use std::collections::{BTreeMap, HashMap};

use super::plan::{Plan, is_constant};
use crate::ir::{
    EditError, Editor, Graph, Name, NodeId, Operator, Tensor, TensorError, Value, ValueId, ValueType,
};
use crate::quantize::{
    Granularity, Kind, Parameters, QuantizeError, Scheme, bias_codes, pack, parameters, quantize_tensor,
    weight_scale_for_bias,
};

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
    pub(super) reduced: bool,
}

/// Applies `plan` to `graph` with the parameters of each activation. Answers the number of pairs.
pub(super) fn apply(
    graph: &mut Graph,
    plan: &Plan,
    activations: &BTreeMap<ValueId, Parameters>,
    kind: Kind,
    weights: WeightScheme,
) -> Result<u64, ApplyError> {
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
    for product in &plan.products {
        product_codes(&mut editor, *product, activations, weights)?;
    }
    let mut pairs = 0;
    for (value, parameters) in activations {
        let value = moved.get(value).copied().unwrap_or(*value);
        if editor.graph().value(value).is_none() {
            continue;
        }
        if is_constant(editor.graph(), value) {
            constant_codes(&mut editor, value, *parameters, kind)?;
        } else {
            activation_pair(&mut editor, value, *parameters, kind)?;
        }
        pairs += 1;
    }
    Ok(pairs)
}

fn label(graph: &Graph, value: ValueId) -> String {
    graph
        .value(value)
        .map(|v| v.name.to_string())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| graph.label(value.node))
}

fn suffixed(stem: &str, suffix: &str) -> Name {
    if stem.is_empty() {
        Name::default()
    } else {
        Name::from(format!("{stem}_{suffix}"))
    }
}

fn zero_point(kind: Kind, codes: &[i32], dims: &[u64]) -> Result<Tensor, QuantizeError> {
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

/// The axis of a product's weight that its output channels lie on.
fn weight_axis(operator: &Operator, rank: usize) -> usize {
    match &*operator.op_type {
        "Conv" => 0,
        "Gemm" if operator.int("transB").unwrap_or(0) != 0 => 0,
        _ => rank.saturating_sub(1),
    }
}

/// Weight and bias of a product as codes.
fn product_codes(
    editor: &mut Editor<'_>,
    node: NodeId,
    activations: &BTreeMap<ValueId, Parameters>,
    scheme: WeightScheme,
) -> Result<(), ApplyError> {
    let graph = editor.graph();
    let (Some(operator), Some(weight)) = (graph.operator(node).cloned(), graph.input(node, 1)) else {
        return Ok(());
    };
    let Some(tensor) = graph.constant(weight).cloned() else {
        return Ok(());
    };
    let input = graph
        .input(node, 0)
        .and_then(|value| activations.get(&value).copied());
    let bias = graph
        .input(node, 2)
        .filter(|_| operator.is("Conv") || operator.is("Gemm"));
    let bias_tensor = bias.and_then(|value| graph.constant(value).cloned());
    let name = label(graph, weight);
    let codes_error = |source| ApplyError::Codes {
        value: name.clone(),
        source,
    };
    let tensor_error = |source| ApplyError::Tensor {
        value: name.clone(),
        source,
    };
    let axis = weight_axis(&operator, tensor.rank());
    let values = tensor.to_f32().map_err(tensor_error)?.into_owned();
    let channels = tensor.dims().get(axis).copied().unwrap_or(1) as usize;
    let inner = tensor.dims().iter().skip(axis + 1).product::<u64>().max(1) as usize;
    let scheme_of = Scheme {
        kind: scheme.kind,
        symmetric: true,
        reduced: scheme.reduced,
        minimum_range: None,
    };
    let groups = if scheme.per_channel { channels } else { 1 };
    let mut extremes = vec![(0f32, 0f32); groups];
    for (flat, value) in values.iter().enumerate() {
        let group = if scheme.per_channel {
            flat / inner % channels.max(1)
        } else {
            0
        };
        if let Some(range) = extremes.get_mut(group) {
            *range = (range.0.min(*value), range.1.max(*value));
        }
    }
    let mut found: Vec<Parameters> = extremes
        .iter()
        .map(|(low, high)| parameters(*low, *high, &scheme_of))
        .collect::<Result<_, _>>()
        .map_err(codes_error)?;
    let beta = if operator.is("Gemm") {
        operator.float("beta").unwrap_or(1.0)
    } else {
        1.0
    };
    let bias_values = match &bias_tensor {
        Some(bias) if bias.rank() == 1 && bias.elements() as usize == channels => Some(
            bias.to_f32()
                .map_err(tensor_error)?
                .iter()
                .map(|b| b * beta)
                .collect::<Vec<f32>>(),
        ),
        _ => None,
    };
    // Codes of a bias have the scale of input times weight; a weight scale too small for it grows.
    if let (Some(bias), Some(input)) = (&bias_values, input) {
        if scheme.per_channel {
            for (value, parameters) in bias.iter().zip(&mut found) {
                if let Some(scale) = weight_scale_for_bias(*value, input.scale, parameters.scale) {
                    parameters.scale = scale;
                }
            }
        } else if let Some(first) = found.first_mut() {
            let largest = bias.iter().fold(0f32, |a, b| a.max(b.abs()));
            if let Some(scale) = weight_scale_for_bias(largest, input.scale, first.scale) {
                first.scale = scale;
            }
        }
    }
    let granularity = if scheme.per_channel {
        Granularity::PerChannel(axis)
    } else {
        Granularity::PerTensor
    };
    let codes = quantize_tensor(&tensor, &found, granularity, scheme.kind).map_err(codes_error)?;
    let scales: Vec<f32> = found.iter().map(|p| p.scale).collect();
    let dims: &[u64] = if scheme.per_channel { &[groups as u64] } else { &[] };
    let scale_tensor = Tensor::from_slice(dims, &scales).map_err(tensor_error)?;
    let zeros = zero_point(scheme.kind, &vec![0; groups], dims).map_err(codes_error)?;
    let ty = editor.graph().ty(weight).clone();
    let inputs = [
        editor.add_constant(suffixed(&name, "quantized"), codes),
        editor.add_constant(suffixed(&name, "scale"), scale_tensor),
        editor.add_constant(suffixed(&name, "zero_point"), zeros),
    ];
    let mut dequantize = Operator::new("DequantizeLinear");
    if scheme.per_channel {
        dequantize = dequantize.with("axis", axis as i64);
    }
    let dq = editor.add_operator(
        node,
        dequantize,
        &inputs.map(Some),
        vec![Value::typed(suffixed(&name, "dequantized"), ty)],
    )?;
    editor.set_input(node, 1, Some(ValueId::new(dq, 0)))?;
    editor.remove_unused(weight.node);
    let (Some(values), Some(input), Some(bias)) = (bias_values, input, bias) else {
        return Ok(());
    };
    let name = label(editor.graph(), bias);
    let ty = editor.graph().ty(bias).clone();
    let bias_scales: Vec<f32> = scales.iter().map(|scale| input.scale * scale).collect();
    let codes = bias_codes(&values, &bias_scales);
    let bias_inputs = [
        editor.add_constant(
            suffixed(&name, "quantized"),
            Tensor::from_slice(&[codes.len() as u64], &codes).map_err(tensor_error)?,
        ),
        editor.add_constant(
            suffixed(&name, "scale"),
            Tensor::from_slice(dims, &bias_scales).map_err(tensor_error)?,
        ),
        editor.add_constant(
            suffixed(&name, "zero_point"),
            Tensor::from_slice(dims, &vec![0i32; groups]).map_err(tensor_error)?,
        ),
    ];
    let mut dequantize = Operator::new("DequantizeLinear");
    if scheme.per_channel {
        dequantize = dequantize.with("axis", 0);
    }
    let dq = editor.add_operator(
        node,
        dequantize,
        &bias_inputs.map(Some),
        vec![Value::typed(suffixed(&name, "dequantized"), ty)],
    )?;
    editor.set_input(node, 2, Some(ValueId::new(dq, 0)))?;
    editor.remove_unused(bias.node);
    if operator.is("Gemm") && beta != 1.0 {
        editor.set_attribute(node, "beta", 1.0f32)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_axis_of_each_product() {
        assert_eq!(weight_axis(&Operator::new("Conv"), 4), 0);
        assert_eq!(weight_axis(&Operator::new("Gemm").with("transB", 1), 2), 0);
        assert_eq!(weight_axis(&Operator::new("Gemm"), 2), 1);
        assert_eq!(weight_axis(&Operator::new("MatMul"), 2), 1);
    }
}
