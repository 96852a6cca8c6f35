//! `EngineQuantizeLinear` and `EngineDequantizeLinear`: ONNX's operators to the bit, in every form: per tensor, per axis,
//! blocked, with scales that are no constants, and for every quantized type, narrow ones in the type that carries them. Quotients are
//! those of `float` for scales of type `float16`, too, as in ONNX Runtime.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::native::{Kernel, Native, OutputType};
use super::round::{held_as, narrow_type};
use crate::engine::carrier;
use crate::ir::DType;

/// Where the parameters of an element stand.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    axis: i64,
    block: i64,
}

impl Layout {
    fn of(node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            axis: node.get_attr_opt::<i64>("axis")?.unwrap_or(1),
            block: node.get_attr_opt::<i64>("block_size")?.unwrap_or(0),
        })
    }

    /// For an element at (outer, index, inner) of the data, the place of its parameters; elements come in row-major order.
    fn places(&self, data: &[usize], parameters: &[usize]) -> TractResult<Places> {
        let rank = data.len();
        let count: usize = parameters.iter().product();
        if count == 1 && self.block == 0 {
            return Ok(Places {
                inner: 1,
                length: 1,
                block: 1,
                blocks: 0,
                wide: false,
            });
        }
        let axis = if self.axis < 0 {
            self.axis + rank as i64
        } else {
            self.axis
        };
        let axis = usize::try_from(axis)
            .ok()
            .filter(|axis| *axis < rank)
            .context("the axis is out of range")?;
        let (length, inner) = (data[axis], data[axis + 1..].iter().product());
        if self.block == 0 {
            ensure!(count == length, "{count} scales for an axis of {length}");
            return Ok(Places {
                inner,
                length,
                block: 1,
                blocks: length,
                wide: false,
            });
        }
        let block = usize::try_from(self.block).context("a negative block size")?;
        let blocks = length.div_ceil(block);
        let mut expected = data.to_vec();
        expected[axis] = blocks;
        ensure!(
            parameters == &expected[..],
            "scales of shape {parameters:?} instead of {expected:?}"
        );
        Ok(Places {
            inner,
            length,
            block,
            blocks,
            wide: true,
        })
    }
}

/// See [`Layout::places`].
struct Places {
    inner: usize,
    length: usize,
    block: usize,
    /// 0 when there is one parameter for all.
    blocks: usize,
    /// Whether parameters repeat along outer and inner axes.
    wide: bool,
}

impl Places {
    fn of(&self, element: usize) -> usize {
        if self.blocks == 0 {
            return 0;
        }
        let (row, inner) = (element / self.inner, element % self.inner);
        let block = row % self.length / self.block;
        if self.wide {
            (row / self.length * self.blocks + block) * self.inner + inner
        } else {
            block
        }
    }
}

fn floats(tensor: &Tensor) -> TractResult<Vec<f32>> {
    Ok(tensor
        .cast_to::<f32>()?
        .to_plain_array_view::<f32>()?
        .iter()
        .copied()
        .collect())
}

fn zero_points(inputs: &[TValue]) -> TractResult<Vec<f32>> {
    inputs.get(2).map_or(Ok(Vec::new()), |tensor| floats(tensor))
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Quantize {
    layout: Layout,
    to: DType,
    saturate: bool,
}

pub(super) fn build_quantize(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let to = narrow_type(node)?.unwrap_or(DType::U8);
    held_as(to)?;
    let saturate = node.get_attr_opt::<i64>("saturate")?.unwrap_or(1) != 0;
    Ok((
        Box::new(Native(Quantize {
            layout: Layout::of(node)?,
            to,
            saturate,
        })),
        vec![],
    ))
}

impl Kernel for Quantize {
    fn name(&self) -> &'static str {
        "EngineQuantizeLinear"
    }

    fn arity(&self) -> (usize, usize) {
        (2, 3)
    }

    fn output_type(&self) -> OutputType {
        OutputType::Is(held_as(self.to).unwrap_or(DatumType::U8))
    }

    fn compute(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let (data, scale) = (
            inputs.first().context("no data")?,
            inputs.get(1).context("no scale")?,
        );
        let places = self.layout.places(data.shape(), scale.shape())?;
        let (scales, zeros) = (floats(scale)?, zero_points(inputs)?);
        ensure!(
            zeros.is_empty() || zeros.len() == scales.len(),
            "scales and zero points differ in number"
        );
        let values = floats(data)?;
        let parameters = |element: usize| {
            let place = places.of(element);
            (
                scales.get(place).copied().unwrap_or(f32::NAN),
                zeros.get(place).copied().unwrap_or(0.0),
            )
        };
        if let Some((low, high)) = self.to.integer_range() {
            let (low, high) = (low as f32, high as f32);
            let one = |(element, x): (usize, &f32)| {
                let (s, zero) = parameters(element);
                // Exact: a rounded quotient beyond 2^24 is out of the range of every type here, with or without zero point.
                ((x / s).round_ties_even() + zero).clamp(low, high) as i64
            };
            let codes: Vec<i64> = values.iter().enumerate().map(one).collect();
            let codes = Tensor::from_shape(data.shape(), &codes)?;
            return Ok(codes.cast_to_dt(held_as(self.to)?)?.into_owned());
        }
        let one = |(element, x): (usize, &f32)| {
            let (s, zero) = parameters(element);
            // Adding a zero would take the sign off a negative one.
            let ratio = if zero == 0.0 { x / s } else { x / s + zero };
            carrier::round(self.to, ratio, self.saturate)
                .with_context(|| format!("no quantization to {}", self.to))
        };
        let codes = values
            .iter()
            .enumerate()
            .map(one)
            .collect::<TractResult<Vec<f32>>>()?;
        Tensor::from_shape(data.shape(), &codes)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Dequantize {
    layout: Layout,
    /// The type of the result, if it is not that of the scale.
    to: Option<DatumType>,
}

pub(super) fn build_dequantize(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let to = narrow_type(node)?.map(held_as).transpose()?;
    Ok((
        Box::new(Native(Dequantize {
            layout: Layout::of(node)?,
            to,
        })),
        vec![],
    ))
}

impl Kernel for Dequantize {
    fn name(&self) -> &'static str {
        "EngineDequantizeLinear"
    }

    fn arity(&self) -> (usize, usize) {
        (2, 3)
    }

    fn output_type(&self) -> OutputType {
        self.to.map_or(OutputType::Like(1), OutputType::Is)
    }

    fn compute(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let (data, scale) = (
            inputs.first().context("no data")?,
            inputs.get(1).context("no scale")?,
        );
        let places = self.layout.places(data.shape(), scale.shape())?;
        let (scales, zeros) = (floats(scale)?, zero_points(inputs)?);
        ensure!(
            zeros.is_empty() || zeros.len() == scales.len(),
            "scales and zero points differ in number"
        );
        let one = |(element, x): (usize, &f32)| {
            let place = places.of(element);
            let zero = zeros.get(place).copied().unwrap_or(0.0);
            (x - zero) * scales.get(place).copied().unwrap_or(f32::NAN)
        };
        let values: Vec<f32> = floats(data)?.iter().enumerate().map(one).collect();
        let target = self.to.unwrap_or(scale.datum_type());
        Ok(Tensor::from_shape(data.shape(), &values)?
            .cast_to_dt(target)?
            .into_owned())
    }
}
