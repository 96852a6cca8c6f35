//! `EngineQuantizeLinear` and `EngineDequantizeLinear`: ONNX's operators to the bit, in every form: per tensor, per axis,
//! blocked, with scales that are no constants, and for every quantized type, narrow ones in the type that carries them. Quotients are
//! those of `float` for scales of type `float16`, too, as in ONNX Runtime.

use std::ops::Range;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::native::{Kernel, Native, OutputType};
use super::places::{Layout, Parameters, Runs};
use super::round::{held_as, narrow_type};
use crate::engine::carrier;
use crate::ir::DType;

fn floats(tensor: &Tensor) -> TractResult<Vec<f32>> {
    Ok(tensor
        .cast_to::<f32>()?
        .try_as_plain_ram()?
        .as_slice::<f32>()?
        .to_vec())
}

/// One zero point a scale.
fn zeros_for(inputs: &[TValue], scale: &Tensor) -> TractResult<Vec<f32>> {
    let Some(zero) = inputs.get(2) else {
        return Ok(vec![0.0; scale.len()]);
    };
    let zeros = floats(zero)?;
    ensure!(
        zeros.len() == scale.len(),
        "scales and zero points differ in number"
    );
    Ok(zeros)
}

fn at(parameters: &[f32], place: usize) -> TractResult<f32> {
    parameters.get(place).copied().context("a parameter is missing")
}

fn slice<'a, T>(all: &'a [T], range: &Range<usize>) -> TractResult<&'a [T]> {
    all.get(range.clone()).context("elements are missing")
}

fn slice_mut<'a, T>(all: &'a mut [T], range: &Range<usize>) -> TractResult<&'a mut [T]> {
    all.get_mut(range.clone()).context("elements are missing")
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
        let runs = self.layout.runs(data.shape(), scale.shape())?;
        let (scales, zeros) = (floats(scale)?, zeros_for(inputs, scale)?);
        let values = data.cast_to::<f32>()?;
        let values = values.try_as_plain_ram()?.as_slice::<f32>()?;
        if let Some((low, high)) = self.to.integer_range() {
            let step = Step {
                values,
                scales: &scales,
                zeros: &zeros,
                low: low as f32,
                high: high as f32,
            };
            return match held_as(self.to)? {
                DatumType::U8 => step.codes(data.shape(), runs, |code| code as u8),
                DatumType::I8 => step.codes(data.shape(), runs, |code| code as i8),
                DatumType::U16 => step.codes(data.shape(), runs, |code| code as u16),
                DatumType::I16 => step.codes(data.shape(), runs, |code| code as i16),
                other => bail!("no quantization to {other:?}"),
            };
        }
        let mut codes = Vec::with_capacity(values.len());
        for run in runs {
            for (offset, x) in slice(values, &run.elements)?.iter().enumerate() {
                let place = match run.parameters {
                    Parameters::Shared(place) => place,
                    Parameters::Each(base) => base + offset,
                };
                let (s, zero) = (at(&scales, place)?, at(&zeros, place)?);
                // Adding a zero would take the sign off a negative one.
                let ratio = if zero == 0.0 { x / s } else { x / s + zero };
                codes.push(
                    carrier::round(self.to, ratio, self.saturate)
                        .with_context(|| format!("no quantization to {}", self.to))?,
                );
            }
        }
        Tensor::from_shape(data.shape(), &codes)
    }
}

/// Quotients from here on give the lowest or highest code of every type of up to 16 bits, whatever the zero point.
const BEYOND: f32 = (1 << 20) as f32;
/// Adding and taking away this number rounds a float of less than 2^22 to the nearest integer, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// Quantization to integers.
struct Step<'a> {
    values: &'a [f32],
    scales: &'a [f32],
    zeros: &'a [f32],
    low: f32,
    high: f32,
}

impl Step<'_> {
    fn codes<T: Datum + Copy>(
        &self,
        shape: &[usize],
        runs: Runs,
        narrow: impl Fn(i32) -> T,
    ) -> TractResult<Tensor> {
        let mut codes = Tensor::zero_dt(T::datum_type(), shape)?;
        let mut view = codes.try_as_plain_ram_mut()?;
        let target = view.as_slice_mut::<T>()?;
        let (low, high) = (self.low, self.high);
        // NaN gives 0, as a cast to an integer does.
        let code = |x: f32, s: f32, zero: f32| {
            let quotient = (x / s).clamp(-BEYOND, BEYOND);
            let rounded = (quotient + ROUNDER) - ROUNDER;
            narrow((rounded + zero).clamp(low, high) as i32)
        };
        for run in runs {
            let source = slice(self.values, &run.elements)?;
            let target = slice_mut(target, &run.elements)?;
            match run.parameters {
                Parameters::Shared(place) => {
                    let (s, zero) = (at(self.scales, place)?, at(self.zeros, place)?);
                    for (y, x) in target.iter_mut().zip(source) {
                        *y = code(*x, s, zero);
                    }
                }
                Parameters::Each(base) => {
                    let each = base..base + source.len();
                    let scales = slice(self.scales, &each)?;
                    let zeros = slice(self.zeros, &each)?;
                    for (((y, x), s), zero) in target.iter_mut().zip(source).zip(scales).zip(zeros) {
                        *y = code(*x, *s, *zero);
                    }
                }
            }
        }
        Ok(codes)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Dequantize {
    layout: Layout,
    /// The type of the result, if it is not that of the scale.
    to: Option<DatumType>,
}

impl Dequantize {
    fn of(node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            layout: Layout::of(node)?,
            to: narrow_type(node)?.map(held_as).transpose()?,
        })
    }
}

pub(super) fn build_dequantize(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    Ok((Box::new(Native(Dequantize::of(node)?)), vec![]))
}

/// What an `EngineDequantizeLinear` of constants gives.
pub(super) fn dequantized(node: &NodeProto, inputs: &[TValue]) -> TractResult<Tensor> {
    Dequantize::of(node)?.compute(inputs)
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
        let runs = self.layout.runs(data.shape(), scale.shape())?;
        let (scales, zeros) = (floats(scale)?, zeros_for(inputs, scale)?);
        let numbers = Numbers {
            scales: &scales,
            zeros: &zeros,
        };
        let values = match data.datum_type() {
            DatumType::U8 => numbers.of::<u8>(data, runs, f32::from),
            DatumType::I8 => numbers.of::<i8>(data, runs, f32::from),
            DatumType::U16 => numbers.of::<u16>(data, runs, f32::from),
            DatumType::I16 => numbers.of::<i16>(data, runs, f32::from),
            DatumType::I32 => numbers.of::<i32>(data, runs, |code| code as f32),
            _ => numbers.of::<f32>(data.cast_to::<f32>()?.as_ref(), runs, |code| code),
        }?;
        let target = self.to.unwrap_or(scale.datum_type());
        if target == DatumType::F32 {
            return Ok(values);
        }
        Ok(values.cast_to_dt(target)?.into_owned())
    }
}

/// What codes stand for.
struct Numbers<'a> {
    scales: &'a [f32],
    zeros: &'a [f32],
}

impl Numbers<'_> {
    fn of<T: Datum + Copy>(
        &self,
        codes: &Tensor,
        runs: Runs,
        wide: impl Fn(T) -> f32,
    ) -> TractResult<Tensor> {
        let mut numbers = Tensor::zero_dt(DatumType::F32, codes.shape())?;
        let mut view = numbers.try_as_plain_ram_mut()?;
        let target = view.as_slice_mut::<f32>()?;
        let source = codes.try_as_plain_ram()?.as_slice::<T>()?;
        for run in runs {
            let source = slice(source, &run.elements)?;
            let target = slice_mut(target, &run.elements)?;
            match run.parameters {
                Parameters::Shared(place) => {
                    let (s, zero) = (at(self.scales, place)?, at(self.zeros, place)?);
                    for (y, x) in target.iter_mut().zip(source) {
                        *y = (wide(*x) - zero) * s;
                    }
                }
                Parameters::Each(base) => {
                    let each = base..base + source.len();
                    let scales = slice(self.scales, &each)?;
                    let zeros = slice(self.zeros, &each)?;
                    for (((y, x), s), zero) in target.iter_mut().zip(source).zip(scales).zip(zeros) {
                        *y = (wide(*x) - zero) * s;
                    }
                }
            }
        }
        Ok(numbers)
    }
}
