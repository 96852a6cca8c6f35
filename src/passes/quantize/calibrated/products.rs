//! Codes for the weight and the bias of a convolution or matrix product.

use rayon::prelude::*;

use super::apply::{Applied, ApplyError, Found, ProductScheme, Saturation, label, suffixed};
use crate::ir::{
    DType, Dim, Editor, Graph, NodeId, Operator, Shape, Tensor, TensorError, Value, ValueId, ValueType,
};
use crate::passes::quantize::Rounding;
use crate::passes::quantize::weights::{Coded, Moments, WeightTarget, reconstruct};
use crate::quantize::{
    Granularity, Kind, Parameters, QuantizeError, Scheme, bias_codes, dequantize_tensor, fit_pairs, pack,
    quantize, quantize_tensor, scale_dims, tensor_parameters, weight_scale_for_bias, worst_coded_pair,
};

/// A product whose weights have pairs that may saturate.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Saturated {
    /// The product.
    pub(super) node: NodeId,
    /// Codes without such a pair were found.
    pub(super) avoided: bool,
    /// Output channels with such a pair, and all.
    pub(super) channels: usize,
    pub(super) of: usize,
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
        let values = order.iter().map(|at| self.values[*at]).collect();
        let row = self.values.len() / self.channels.max(1);
        (order, values, row)
    }
}

impl Weights<'_> {
    /// Takes the mean error of each output channel off its bias: the error of each weight, whose code means `restored`, times the
    /// mean of its input channel.
    fn correct_bias(&self, bias: &mut [f32], restored: &[f32], means: &[f64], group: usize) {
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
        for (flat, (value, restored)) in self.values.iter().zip(restored).enumerate() {
            let (channel, input) = if self.axis == 0 {
                let channel = flat / self.inner;
                let places = (self.inner / inputs).max(1);
                let first = channel / (self.channels / group.max(1)).max(1) * inputs;
                (channel, first + flat % self.inner / places)
            } else {
                (flat % self.channels, flat / self.channels)
            };
            let error = f64::from(*restored) - f64::from(*value);
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

/// Weight and bias of a product, which reads codes of type `kind`, as codes.
pub(super) fn product_codes(
    editor: &mut Editor<'_>,
    node: NodeId,
    kind: Option<Kind>,
    found: &Found<'_>,
    applied: &mut Applied,
) -> Result<(), ApplyError> {
    let Some(product) = Product::find(editor.graph(), node, kind, found)? else {
        return Ok(());
    };
    let mut bias = product.bias_values()?;
    let coded = product.codes(bias.as_deref(), found.rounding, applied)?;
    if let (Some(bias), Some(means)) = (&mut bias, product.corrected_by()) {
        product.correct_bias(bias, &coded, means)?;
    }
    // The scale of the bias follows from that of the weight.
    let scales: Vec<f32> = coded.parameters.iter().map(|p| p.scale).collect();
    product.write_weight(editor, coded)?;
    match bias {
        Some(values) => product.write_bias(editor, &values, &scales),
        None => Ok(()),
    }
}

/// A product whose weight becomes codes.
struct Product<'a> {
    node: NodeId,
    operator: Operator,
    scheme: ProductScheme,
    weight: ValueId,
    /// The weight's name.
    name: String,
    tensor: Tensor,
    /// The numbers of `tensor`.
    values: Vec<f32>,
    target: WeightTarget,
    /// What the codes that it reads mean, where it reads codes.
    input: Option<Parameters>,
    /// Means of the channels that it reads.
    means: Option<&'a [f64]>,
    bias: Option<ValueId>,
    bias_tensor: Option<Tensor>,
}

impl<'a> Product<'a> {
    /// `None` where the weight is not to become codes.
    fn find(
        graph: &Graph,
        node: NodeId,
        kind: Option<Kind>,
        found: &'a Found<'_>,
    ) -> Result<Option<Self>, ApplyError> {
        let (Some(operator), Some(weight)) = (graph.operator(node).cloned(), graph.input(node, 1)) else {
            return Ok(None);
        };
        let (Some(scheme), Some(tensor)) =
            (found.schemes.get(&node).copied(), graph.constant(weight).cloned())
        else {
            return Ok(None);
        };
        let Some(target) = WeightTarget::of_node(graph, node, scheme.weight) else {
            return Ok(None);
        };
        let source = graph.input(node, 0);
        let bias = graph
            .input(node, 2)
            .filter(|_| operator.is("Conv") || operator.is("ConvTranspose") || operator.is("Gemm"));
        let name = label(graph, weight);
        let values = tensor.to_f32().map_err(of_tensor(&name))?.into_owned();
        Ok(Some(Self {
            node,
            operator,
            scheme,
            weight,
            name,
            values,
            tensor,
            target,
            input: source
                .zip(kind)
                .and_then(|key| found.activations.get(&key).copied()),
            means: source
                .and_then(|value| found.means.get(&value))
                .map(Vec::as_slice),
            bias,
            bias_tensor: bias.and_then(|value| graph.constant(value).cloned()),
        }))
    }

    fn weights(&self) -> Weights<'_> {
        let (dims, axis) = (self.tensor.dims(), self.target.channel_axis);
        Weights {
            values: &self.values,
            dims,
            axis,
            channels: dims.get(axis).copied().unwrap_or(1) as usize,
            inner: dims.iter().skip(axis + 1).product::<u64>().max(1) as usize,
        }
    }

    /// The factor of the bias.
    fn beta(&self) -> f32 {
        let beta = self.operator.float("beta").filter(|_| self.operator.is("Gemm"));
        beta.unwrap_or(1.0)
    }

    /// A block of weights has its own scale: no scale fits the sum.
    fn is_blocked(&self) -> bool {
        matches!(self.target.granularity(), Granularity::Blocked { .. })
    }

    fn has_integer_bias(&self) -> bool {
        self.scheme.integer_bias && !self.is_blocked()
    }

    /// Means of what is read, where the bias makes up for the mean error of the codes.
    fn corrected_by(&self) -> Option<&'a [f64]> {
        let corrects = self.scheme.correct_bias && (self.operator.is("Conv") || self.operator.is("Gemm"));
        self.means.filter(|_| corrects)
    }

    /// The bias with its factor, one number for each channel; zeros where a correction needs a bias to go to.
    fn bias_values(&self) -> Result<Option<Vec<f32>>, ApplyError> {
        let channels = self.weights().channels;
        let beta = self.beta();
        Ok(match &self.bias_tensor {
            Some(bias) if bias.rank() == 1 && bias.elements() as usize == channels => {
                let values = bias.to_f32().map_err(of_tensor(&self.name))?;
                Some(values.iter().map(|b| b * beta).collect())
            }
            None if self.bias.is_none() && self.corrected_by().is_some() => Some(vec![0.0; channels]),
            _ => None,
        })
    }

    /// Codes of the weight, with scales that are wide enough for the codes of `bias`.
    fn codes(
        &self,
        bias: Option<&[f32]>,
        rounding: Option<(Rounding, &Moments)>,
        applied: &mut Applied,
    ) -> Result<Coded, ApplyError> {
        let widened = bias.zip(self.input).filter(|_| self.has_integer_bias());
        let rounded = match rounding {
            Some(_) if self.scheme.weight.kind.is_float() => Some(Err("its codes are floats")),
            Some((rounding, moments)) => {
                let rounding = (rounding, moments, bias.is_some() && self.corrected_by().is_some());
                Some(rounded(
                    &self.tensor,
                    &self.target,
                    rounding,
                    widened,
                    &self.name,
                )?)
            }
            None => None,
        };
        if let Some(Err(why)) = &rounded {
            let note = format!("{} stays: rounded to nearest: {why}", self.name);
            applied.notes.push(note);
        }
        let coded = match rounded {
            Some(Ok(coded)) => coded,
            _ => nearest(&self.tensor, &self.target, self.scheme, widened).map_err(of_codes(&self.name))?,
        };
        if self.is_blocked() || !multiplies_pairs(&self.operator, self.tensor.dims()) {
            return Ok(coded);
        }
        let weights = self.weights();
        let granularity = self.target.granularity();
        let (coded, saturated) = without_saturation(&weights, coded, self.scheme, granularity, &self.name)?;
        applied.saturated.extend((saturated > 0).then_some(Saturated {
            node: self.node,
            avoided: self.scheme.saturation == Saturation::Avoid,
            channels: saturated,
            of: weights.channels,
        }));
        Ok(coded)
    }

    fn correct_bias(&self, bias: &mut [f32], coded: &Coded, means: &[f64]) -> Result<(), ApplyError> {
        let restored = dequantize_tensor(&coded.codes, &coded.parameters, self.target.granularity())
            .map_err(of_codes(&self.name))?;
        let restored = restored.to_f32().map_err(of_tensor(&self.name))?;
        let group = usize::try_from(self.operator.int("group").unwrap_or(1)).unwrap_or(1);
        self.weights().correct_bias(bias, &restored, means, group);
        Ok(())
    }

    /// Puts the codes of the weight and their DequantizeLinear in its place.
    fn write_weight(&self, editor: &mut Editor<'_>, coded: Coded) -> Result<(), ApplyError> {
        let Coded { parameters, codes } = coded;
        let granularity = self.target.granularity().stored(self.tensor.dims());
        let scales: Vec<f32> = parameters.iter().map(|p| p.scale).collect();
        let zeros: Vec<i32> = parameters.iter().map(|p| p.zero_point).collect();
        let dims = scale_dims(self.tensor.dims(), granularity);
        let scales = Tensor::from_slice(&dims, &scales).map_err(of_tensor(&self.name))?;
        let zeros = pack(&dims, &zeros, self.scheme.weight.kind).map_err(of_codes(&self.name))?;
        let ty = editor.graph().ty(self.weight).clone();
        let inputs = [
            editor.add_constant(suffixed(&self.name, "quantized"), codes),
            editor.add_constant(suffixed(&self.name, "scale"), scales),
            editor.add_constant(suffixed(&self.name, "zero_point"), zeros),
        ];
        let dq = editor.add_operator(
            self.node,
            granularity.dequantize_linear(),
            &inputs.map(Some),
            vec![Value::typed(suffixed(&self.name, "dequantized"), ty)],
        )?;
        editor.set_input(self.node, 1, Some(ValueId::new(dq, 0)))?;
        editor.remove_unused(self.weight.node);
        Ok(())
    }

    /// Puts the bias in as codes on the scales of input times weight, or, where it was corrected and stays float, as numbers.
    fn write_bias(
        &self,
        editor: &mut Editor<'_>,
        values: &[f32],
        weight_scales: &[f32],
    ) -> Result<(), ApplyError> {
        if self.has_integer_bias() {
            let Some(input) = self.input else { return Ok(()) };
            let scales: Vec<f32> = weight_scales.iter().map(|scale| input.scale * scale).collect();
            let place = BiasPlace {
                node: self.node,
                bias: self.bias,
                weight: &self.name,
            };
            let per_channel = matches!(self.target.granularity(), Granularity::PerChannel(_));
            bias_input(editor, place, values, &scales, per_channel)?;
        } else if self.corrected_by().is_some() {
            let tensor = Tensor::from_slice(&[values.len() as u64], values).map_err(of_tensor(&self.name))?;
            let corrected = editor.add_constant(suffixed(&self.name, "bias"), tensor);
            editor.set_input(self.node, 2, Some(corrected))?;
            if let Some(bias) = self.bias {
                editor.remove_unused(bias.node);
            }
        } else {
            return Ok(());
        }
        if self.beta() != 1.0 {
            editor.set_attribute(self.node, "beta", 1.0f32)?;
        }
        Ok(())
    }
}

/// What is wrong with the codes of this value.
fn of_codes(value: &str) -> impl Fn(QuantizeError) -> ApplyError + '_ {
    |source| ApplyError::Codes {
        value: value.to_owned(),
        source,
    }
}

/// What is wrong with the tensor of this value.
fn of_tensor(value: &str) -> impl Fn(TensorError) -> ApplyError + '_ {
    |source| ApplyError::Tensor {
        value: value.to_owned(),
        source,
    }
}

/// The nearest codes, with scales from the extremes that are wide enough for the codes of a bias.
fn nearest(
    tensor: &Tensor,
    target: &WeightTarget,
    scheme: ProductScheme,
    bias: Option<(&[f32], Parameters)>,
) -> Result<Coded, QuantizeError> {
    let granularity = target.granularity();
    let range = Scheme {
        reduced: scheme.reduced,
        ..Scheme::new(scheme.weight.kind, scheme.weight.symmetric)
    };
    let mut parameters = tensor_parameters(tensor, granularity, &range)?;
    if let Some((bias, input)) = bias {
        widen_for_bias(&mut parameters, bias, input);
    }
    let codes = quantize_tensor(tensor, &parameters, granularity, scheme.weight.kind)?;
    Ok(Coded { parameters, codes })
}

/// Codes that keep what the product puts out, or why there are none: its rows are not known, or a scale is too small for the bias.
fn rounded(
    tensor: &Tensor,
    target: &WeightTarget,
    (rounding, moments, centred): (Rounding, &Moments, bool),
    bias: Option<(&[f32], Parameters)>,
    name: &str,
) -> Result<Result<Coded, &'static str>, ApplyError> {
    let Some(rows) = moments.of(target, centred) else {
        return Ok(Err(Moments::missing(Some(moments), target)));
    };
    let (coded, _) = reconstruct(tensor, target, &rows, rounding).map_err(|source| ApplyError::Rounding {
        value: name.to_owned(),
        source,
    })?;
    if let Some((bias, input)) = bias {
        let mut wide = coded.parameters.clone();
        widen_for_bias(&mut wide, bias, input);
        if wide != coded.parameters {
            return Ok(Err("its scales have to be wider for the codes of its bias"));
        }
    }
    Ok(Ok(coded))
}

/// Finds channels with pairs that saturate, and gives them scales or codes without such pairs if that is asked for. Answers how many
/// channels there are.
fn without_saturation(
    weights: &Weights<'_>,
    coded: Coded,
    scheme: ProductScheme,
    granularity: Granularity,
    name: &str,
) -> Result<(Coded, usize), ApplyError> {
    if scheme.saturation == Saturation::Ignore {
        return Ok((coded, 0));
    }
    let Coded {
        mut parameters,
        codes,
    } = coded;
    let per_channel = matches!(granularity, Granularity::PerChannel(_));
    let mut whole: Vec<i32> = codes
        .to_i64()
        .map_err(of_tensor(name))?
        .into_iter()
        .map(|code| code as i32)
        .collect();
    let (mut saturated, mut changed) = (0, Vec::new());
    let fit = |(group, own): (usize, &Parameters)| {
        let range = if per_channel {
            group..group + 1
        } else {
            0..weights.channels
        };
        let (order, gathered, row) = weights.gathered(range);
        let coded: Vec<i32> = order
            .iter()
            .map(|at| whole.get(*at).copied().unwrap_or(0))
            .collect();
        if worst_coded_pair(&coded, row) <= 1.0 {
            return None;
        }
        let avoid = scheme.saturation == Saturation::Avoid;
        let fitted = avoid.then(|| match fit_pairs(&gathered, row, own.scale) {
            Some(fitted) => (fitted.scale, fitted.codes),
            // Only codes that make up for each other have such a pair: the nearest ones have none.
            None => {
                let nearest = gathered.iter();
                (
                    own.scale,
                    nearest
                        .map(|value| quantize(*value, *own, scheme.weight.kind))
                        .collect(),
                )
            }
        });
        Some((order, fitted))
    };
    let fits: Vec<_> = parameters.par_iter().enumerate().map(fit).collect();
    for (own, fit) in parameters.iter_mut().zip(fits) {
        let Some((order, fitted)) = fit else { continue };
        saturated += if per_channel { 1 } else { weights.channels };
        if let Some((scale, codes)) = fitted {
            own.scale = scale;
            changed.extend(order.into_iter().zip(codes));
        }
    }
    if changed.is_empty() {
        return Ok((Coded { parameters, codes }, saturated));
    }
    for (at, code) in changed {
        whole[at] = code;
    }
    let codes = pack(weights.dims, &whole, scheme.weight.kind).map_err(of_codes(name))?;
    Ok((Coded { parameters, codes }, saturated))
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
    let shape: Shape = [Dim::Fixed(values.len() as i64)].into_iter().collect();
    let ty = ValueType::tensor(DType::F32, shape);
    let codes = bias_codes(values, scales);
    let dims: &[u64] = if per_channel { &[scales.len() as u64] } else { &[] };
    let inputs = [
        editor.add_constant(
            suffixed(&name, "quantized"),
            Tensor::from_slice(&[codes.len() as u64], &codes).map_err(of_tensor(&name))?,
        ),
        editor.add_constant(
            suffixed(&name, "scale"),
            Tensor::from_slice(dims, scales).map_err(of_tensor(&name))?,
        ),
        editor.add_constant(
            suffixed(&name, "zero_point"),
            Tensor::from_slice(dims, &vec![0i32; scales.len()]).map_err(of_tensor(&name))?,
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
