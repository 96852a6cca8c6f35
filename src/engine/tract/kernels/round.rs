//! `EngineRound`: a number made one of a type that tract lacks, in the type that carries it.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::super::tensor::datum_type;
use super::native::{Kernel, Native, OutputType};
use crate::engine::carrier;
use crate::ir::{DType, to_odd};

/// What the result is a number of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Round {
    to: DType,
    saturate: bool,
}

pub(super) fn build(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let to = narrow_type(node)?.context("EngineRound needs a type")?;
    let saturate = node.get_attr_opt::<i64>("saturate")?.unwrap_or(1) != 0;
    Ok((Box::new(Native(Round { to, saturate })), vec![]))
}

/// The type that the attribute `to` names.
pub(super) fn narrow_type(node: &NodeProto) -> TractResult<Option<DType>> {
    let Some(number) = node.get_attr_opt::<i64>("to")? else {
        return Ok(None);
    };
    let dtype = i32::try_from(number).ok().and_then(DType::from_onnx);
    Ok(Some(dtype.with_context(|| {
        format!("no element type has the number {number}")
    })?))
}

/// A `Cast` from float16 to float of a constant.
pub(super) fn widened(node: &NodeProto, inputs: &[TValue]) -> Option<TractResult<Tensor>> {
    let input = inputs.first()?;
    if input.datum_type() != DatumType::F16 || !matches!(narrow_type(node), Ok(Some(DType::F32))) {
        return None;
    }
    Some(input.cast_to::<f32>().map(|wide| wide.into_owned()))
}

/// tract's type for the elements of a type or of what carries it.
pub(super) fn held_as(dtype: DType) -> TractResult<DatumType> {
    datum_type(carrier::carrier(dtype).unwrap_or(dtype)).with_context(|| format!("nothing holds {dtype}"))
}

impl Kernel for Round {
    fn name(&self) -> &'static str {
        "EngineRound"
    }

    fn arity(&self) -> (usize, usize) {
        (1, 1)
    }

    fn output_type(&self) -> OutputType {
        // `build` made sure that there is one.
        OutputType::Is(held_as(self.to).unwrap_or(DatumType::F32))
    }

    fn compute(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let input = inputs.first().context("an input is missing")?;
        let target = held_as(self.to)?;
        if let Some((low, high)) = self.to.integer_range() {
            // Towards zero, then the lowest bits: what a cast between integers does.
            let wide = input.cast_to::<f64>()?;
            let modulus = high - low + 1;
            let wrap = |value: &f64| (value.trunc() as i128 - low).rem_euclid(modulus) + low;
            let values: Vec<i64> = wide
                .to_plain_array_view::<f64>()?
                .iter()
                .map(|v| wrap(v) as i64)
                .collect();
            return Ok(Tensor::from_shape(input.shape(), &values)?
                .cast_to_dt(target)?
                .into_owned());
        }
        let wide = match input.datum_type() {
            // Rounded to odd, so that it is rounded once.
            DatumType::F64 => {
                let plain = input.try_as_plain_ram()?;
                let odd: Vec<f32> = plain.as_slice::<f64>()?.iter().map(|v| to_odd(*v)).collect();
                Cow::Owned(Tensor::from_shape(input.shape(), &odd)?)
            }
            _ => input.cast_to::<f32>()?,
        };
        let one = |value: &f32| {
            carrier::round(self.to, *value, self.saturate)
                .with_context(|| format!("no rounding to {}", self.to))
        };
        let values = wide
            .to_plain_array_view::<f32>()?
            .iter()
            .map(one)
            .collect::<TractResult<Vec<f32>>>()?;
        Tensor::from_shape(input.shape(), &values)
    }
}
