//! Codes for the weight and the bias of a convolution or matrix product.

use std::collections::BTreeMap;

use super::apply::{ApplyError, Saturation, WeightScheme, label, suffixed, zero_point};
use crate::ir::{DType, Dim, Editor, NodeId, Operator, Shape, Tensor, Value, ValueId, ValueType};
use crate::quantize::{
    Granularity, Parameters, QuantizeError, Scheme, bias_codes, fit_pairs, pack, parameters, quantize_tensor,
    weight_scale_for_bias, worst_pair,
};

/// A product whose weights have pairs that may saturate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Saturated {
    /// The product.
    pub(super) node: NodeId,
    /// Output channels with such a pair, and all.
    pub(super) channels: usize,
    pub(super) of: usize,
}

/// The axis of a product's weight that its output channels lie on.
pub(super) fn weight_axis(operator: &Operator, rank: usize) -> usize {
    match &*operator.op_type {
        "Conv" => 0,
        // Without groups: input channels come first.
        "ConvTranspose" => 1,
        "Gemm" if operator.int("transB").unwrap_or(0) != 0 => 0,
        _ => rank.saturating_sub(1),
    }
}

/// The weights of one product, channel by channel.
struct Weights<'a> {
    values: &'a [f32],
    dims: &'a [u64],
    axis: usize,
    channels: usize,
    /// Elements between two neighbours along the channel axis.
    inner: usize,
}

impl Weights<'_> {
    /// Flat indices of a channel's elements in the order in which kernels multiply them: input channels are innermost.
    fn kernel_order(&self, channel: usize) -> Vec<usize> {
        if self.axis != 0 {
            let step = self.inner * self.channels;
            let outer = self.values.len() / step.max(1);
            return (0..outer)
                .flat_map(|row| (0..self.inner).map(move |at| (row, at)))
                .map(|(row, at)| row * step + channel * self.inner + at)
                .collect();
        }
        let inputs = self.dims.get(1).copied().unwrap_or(1).max(1) as usize;
        let places = self.inner / inputs;
        (0..places)
            .flat_map(|place| (0..inputs).map(move |input| (place, input)))
            .map(|(place, input)| channel * self.inner + input * places + place)
            .collect()
    }

    /// Values of some channels, each in the order of the kernel, and the length of a channel.
    fn gathered(&self, channels: std::ops::Range<usize>) -> (Vec<usize>, Vec<f32>, usize) {
        let order: Vec<usize> = channels.flat_map(|channel| self.kernel_order(channel)).collect();
        let values = order
            .iter()
            .map(|at| self.values.get(*at).copied().unwrap_or(0.0))
            .collect();
        let row = self.values.len() / self.channels.max(1);
        (order, values, row)
    }
}

impl Weights<'_> {
    /// Takes the mean error of each output channel off its bias: the error of each weight times the mean of its input channel.
    fn correct_bias(&self, bias: &mut [f32], codes: &[i64], scales: &[f32], means: &[f64], group: usize) {
        // Input channels of one group, for weights with output channels first; the row of a `[K, N]` weight is its input.
        let inputs = self.dims.get(1).copied().unwrap_or(1).max(1) as usize;
        let fits = if self.axis == 0 {
            inputs * group
        } else {
            self.dims.first().copied().unwrap_or(0) as usize
        };
        if means.len() != fits {
            return;
        }
        let mut errors = vec![0f64; self.channels];
        for (flat, (value, code)) in self.values.iter().zip(codes).enumerate() {
            let (channel, input) = if self.axis == 0 {
                let channel = flat / self.inner;
                let places = (self.inner / inputs).max(1);
                let first = channel / (self.channels / group.max(1)).max(1) * inputs;
                (channel, first + flat % self.inner / places)
            } else {
                (flat % self.channels, flat / self.channels)
            };
            let scale = scales.get(channel).or(scales.first()).copied().unwrap_or(1.0);
            let error = *code as f64 * f64::from(scale) - f64::from(*value);
            if let (Some(sum), Some(mean)) = (errors.get_mut(channel), means.get(input)) {
                *sum += error * mean;
            }
        }
        bias.iter_mut()
            .zip(errors)
            .for_each(|(bias, error)| *bias = (f64::from(*bias) - error) as f32);
    }
}

/// Whether kernels multiply pairs of this product's weights: depthwise convolutions work element by element.
fn multiplies_pairs(operator: &Operator, dims: &[u64]) -> bool {
    !(operator.is("Conv")
        && dims.get(1) == Some(&1)
        && operator.int("group").unwrap_or(1) > 1
        && dims.first().copied() == operator.int("group").and_then(|group| u64::try_from(group).ok()))
}

/// Weight and bias of a product as codes.
pub(super) fn product_codes(
    editor: &mut Editor<'_>,
    node: NodeId,
    activations: &BTreeMap<ValueId, Parameters>,
    means: &BTreeMap<ValueId, &[f64]>,
    scheme: WeightScheme,
) -> Result<Option<Saturated>, ApplyError> {
    let graph = editor.graph();
    let (Some(operator), Some(weight)) = (graph.operator(node).cloned(), graph.input(node, 1)) else {
        return Ok(None);
    };
    let scheme = WeightScheme {
        per_channel: scheme.per_channel && scheme.per_channel_operators.iter().any(|name| operator.is(name)),
        ..scheme
    };
    let Some(tensor) = graph.constant(weight).cloned() else {
        return Ok(None);
    };
    let input = graph
        .input(node, 0)
        .and_then(|value| activations.get(&value).copied());
    let bias = graph
        .input(node, 2)
        .filter(|_| operator.is("Conv") || operator.is("ConvTranspose") || operator.is("Gemm"));
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
    let weights = Weights {
        values: &values,
        dims: tensor.dims(),
        axis,
        channels,
        inner,
    };
    let mut found = weight_parameters(&weights, scheme).map_err(codes_error)?;
    let groups = found.len();
    let beta = if operator.is("Gemm") {
        operator.float("beta").unwrap_or(1.0)
    } else {
        1.0
    };
    let corrects = (operator.is("Conv") || operator.is("Gemm"))
        && graph
            .input(node, 0)
            .is_some_and(|value| means.contains_key(&value));
    let mut bias_values = match &bias_tensor {
        Some(bias) if bias.rank() == 1 && bias.elements() as usize == channels => Some(
            bias.to_f32()
                .map_err(tensor_error)?
                .iter()
                .map(|b| b * beta)
                .collect::<Vec<f32>>(),
        ),
        // A correction needs a bias to go to.
        None if corrects && bias.is_none() => Some(vec![0.0; channels]),
        _ => None,
    };
    if let (Some(bias), Some(input), true) = (&bias_values, input, scheme.integer_bias) {
        widen_for_bias(&mut found, bias, input);
    }
    let granularity = if scheme.per_channel {
        Granularity::PerChannel(axis)
    } else {
        Granularity::PerTensor
    };
    let mut saturated = 0;
    let mut trimmed: Vec<(usize, i32)> = Vec::new();
    if scheme.saturation != Saturation::Ignore && multiplies_pairs(&operator, tensor.dims()) {
        for (group, parameters) in found.iter_mut().enumerate() {
            let range = if scheme.per_channel {
                group..group + 1
            } else {
                0..channels
            };
            let (order, gathered, row) = weights.gathered(range);
            if worst_pair(&gathered, row, parameters.scale) <= 1.0 {
                continue;
            }
            saturated += if scheme.per_channel { 1 } else { channels };
            if scheme.saturation == Saturation::Avoid
                && let Some(fitted) = fit_pairs(&gathered, row, parameters.scale)
            {
                parameters.scale = fitted.scale;
                trimmed.extend(order.into_iter().zip(fitted.codes));
            }
        }
    }
    let mut codes = quantize_tensor(&tensor, &found, granularity, scheme.kind).map_err(codes_error)?;
    if !trimmed.is_empty() {
        let mut whole: Vec<i32> = codes
            .to_i64()
            .map_err(tensor_error)?
            .into_iter()
            .map(|c| c as i32)
            .collect();
        for (at, code) in trimmed {
            if let Some(slot) = whole.get_mut(at) {
                *slot = code;
            }
        }
        codes = pack(tensor.dims(), &whole, scheme.kind).map_err(codes_error)?;
    }
    let scales: Vec<f32> = found.iter().map(|p| p.scale).collect();
    if let (Some(bias), Some(means)) = (
        &mut bias_values,
        graph.input(node, 0).and_then(|value| means.get(&value)),
    ) {
        let codes = codes.to_i64().map_err(tensor_error)?;
        let group = operator.int("group").unwrap_or(1);
        weights.correct_bias(bias, &codes, &scales, means, usize::try_from(group).unwrap_or(1));
    }
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
    if let (Some(values), true, false) = (&bias_values, corrects, scheme.integer_bias) {
        let tensor = Tensor::from_slice(&[values.len() as u64], values).map_err(tensor_error)?;
        let corrected = editor.add_constant(suffixed(&name, "bias"), tensor);
        editor.set_input(node, 2, Some(corrected))?;
        if let Some(bias) = bias {
            editor.remove_unused(bias.node);
        }
        if operator.is("Gemm") && beta != 1.0 {
            editor.set_attribute(node, "beta", 1.0f32)?;
        }
    }
    if let (Some(values), Some(input), true) = (bias_values, input, scheme.integer_bias) {
        let bias_scales: Vec<f32> = scales.iter().map(|scale| input.scale * scale).collect();
        let place = BiasPlace {
            node,
            bias,
            weight: &name,
        };
        bias_input(editor, place, &values, &bias_scales, scheme.per_channel)?;
        if operator.is("Gemm") && beta != 1.0 {
            editor.set_attribute(node, "beta", 1.0f32)?;
        }
    }
    Ok((saturated > 0).then_some(Saturated {
        node,
        channels: saturated,
        of: channels,
    }))
}

/// Scales from the extremes of the weights: one a channel, or one.
fn weight_parameters(weights: &Weights<'_>, scheme: WeightScheme) -> Result<Vec<Parameters>, QuantizeError> {
    let scheme_of = Scheme {
        kind: scheme.kind,
        symmetric: true,
        reduced: scheme.reduced,
        bits: None,
        minimum_range: None,
    };
    let groups = if scheme.per_channel { weights.channels } else { 1 };
    let mut extremes = vec![(0f32, 0f32); groups];
    for (flat, value) in weights.values.iter().enumerate() {
        let group = if scheme.per_channel {
            flat / weights.inner % weights.channels.max(1)
        } else {
            0
        };
        if let Some(range) = extremes.get_mut(group) {
            *range = (range.0.min(*value), range.1.max(*value));
        }
    }
    extremes
        .iter()
        .map(|(low, high)| parameters(*low, *high, &scheme_of))
        .collect()
}

/// Codes of a bias have the scale of input times weight; a weight scale too small for it grows.
fn widen_for_bias(found: &mut [Parameters], bias: &[f32], input: Parameters) {
    if let [only] = found {
        let largest = bias.iter().fold(0f32, |a, b| a.max(b.abs()));
        if let Some(scale) = weight_scale_for_bias(largest, input.scale, only.scale) {
            only.scale = scale;
        }
        return;
    }
    for (value, parameters) in bias.iter().zip(found) {
        if let Some(scale) = weight_scale_for_bias(*value, input.scale, parameters.scale) {
            parameters.scale = scale;
        }
    }
}

/// Where the codes of a bias go.
struct BiasPlace<'a> {
    node: NodeId,
    /// The float bias, if the product has one.
    bias: Option<ValueId>,
    /// Name of the weight, to name a new bias after.
    weight: &'a str,
}

/// 32-bit codes of a bias and their DequantizeLinear.
fn bias_input(
    editor: &mut Editor<'_>,
    place: BiasPlace<'_>,
    values: &[f32],
    scales: &[f32],
    per_channel: bool,
) -> Result<(), ApplyError> {
    let name = match place.bias {
        Some(bias) => label(editor.graph(), bias),
        None => format!("{}_bias", place.weight),
    };
    let tensor_error = |source| ApplyError::Tensor {
        value: name.clone(),
        source,
    };
    let shape: Shape = [Dim::Fixed(values.len() as i64)].into_iter().collect();
    let ty = ValueType::tensor(DType::F32, shape);
    let codes = bias_codes(values, scales);
    let dims: &[u64] = if per_channel { &[scales.len() as u64] } else { &[] };
    let inputs = [
        editor.add_constant(
            suffixed(&name, "quantized"),
            Tensor::from_slice(&[codes.len() as u64], &codes).map_err(tensor_error)?,
        ),
        editor.add_constant(
            suffixed(&name, "scale"),
            Tensor::from_slice(dims, scales).map_err(tensor_error)?,
        ),
        editor.add_constant(
            suffixed(&name, "zero_point"),
            Tensor::from_slice(dims, &vec![0i32; scales.len()]).map_err(tensor_error)?,
        ),
    ];
    let mut dequantize = Operator::new("DequantizeLinear");
    if per_channel {
        dequantize = dequantize.with("axis", 0);
    }
    let dq = editor.add_operator(
        place.node,
        dequantize,
        &inputs.map(Some),
        vec![Value::typed(suffixed(&name, "dequantized"), ty)],
    )?;
    editor.set_input(place.node, 2, Some(ValueId::new(dq, 0)))?;
    if let Some(bias) = place.bias {
        editor.remove_unused(bias.node);
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
        assert_eq!(weight_axis(&Operator::new("ConvTranspose"), 4), 1);
        assert_eq!(weight_axis(&Operator::new("MatMul"), 2), 1);
    }

    #[test]
    fn kernels_multiply_input_channels_one_after_the_other() {
        let values: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let weights = |dims, axis, channels, inner| Weights {
            values: &values,
            dims,
            axis,
            channels,
            inner,
        };
        assert_eq!(weights(&[2, 3, 2], 0, 2, 6).kernel_order(1), [6, 8, 10, 7, 9, 11]);
        assert_eq!(weights(&[4, 3], 1, 3, 1).kernel_order(1), [1, 4, 7, 10]);
        assert_eq!(weights(&[3, 4], 0, 3, 4).kernel_order(2), [8, 9, 10, 11]);
    }

    #[test]
    fn depthwise_convolutions_multiply_no_pairs() {
        assert!(!multiplies_pairs(
            &Operator::new("Conv").with("group", 8),
            &[8, 1, 3, 3]
        ));
        assert!(multiplies_pairs(&Operator::new("Conv"), &[8, 1, 3, 3]));
        assert!(multiplies_pairs(&Operator::new("Gemm"), &[8, 1]));
    }
}
