//! `LogSoftmax`: the differences first and the logarithm of their sum after, so that nothing overflows or is lost.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::tract_linalg::routines::Func;
use tract_onnx::tract_hir::internal::*;

use super::native::{Kernel, Native, OutputType};

#[derive(Clone, Debug, PartialEq, Eq)]
struct LogSoftmax {
    axis: i64,
    /// Over all axes from this one on.
    flat: bool,
}

pub(super) fn build(
    context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let flat = context.onnx_operator_set_version < 13;
    let axis = node
        .get_attr_opt::<i64>("axis")?
        .unwrap_or(if flat { 1 } else { -1 });
    Ok((Box::new(Native(LogSoftmax { axis, flat })), vec![]))
}

impl Kernel for LogSoftmax {
    fn name(&self) -> &'static str {
        "EngineLogSoftmax"
    }

    fn arity(&self) -> (usize, usize) {
        (1, 1)
    }

    fn output_type(&self) -> OutputType {
        OutputType::Like(0)
    }

    fn compute(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let input = inputs.first().context("an input is missing")?;
        let shape = input.shape();
        let rank = shape.len() as i64;
        let axis = if self.axis < 0 {
            self.axis + rank
        } else {
            self.axis
        };
        let axis = usize::try_from(axis)
            .ok()
            .filter(|axis| *axis < shape.len().max(1));
        let axis = axis.with_context(|| format!("no axis {} of {shape:?}", self.axis))?;
        let (outer, rest) = shape.split_at(axis.min(shape.len()));
        let (length, inner) = match (self.flat, rest.split_first()) {
            (_, None) => (1, 1),
            (true, _) => (rest.iter().product(), 1),
            (false, Some((length, inner))) => (*length, inner.iter().product()),
        };
        let dtype = input.datum_type();
        if dtype == f64::datum_type() {
            let mut found = input.clone().into_tensor();
            let mut plain = found.try_as_plain_ram_mut()?;
            let mut exp = |row: &mut [f64]| -> TractResult<()> {
                row.iter_mut().for_each(|x| *x = x.exp());
                Ok(())
            };
            let values = plain.as_slice_mut::<f64>()?;
            rows(values, outer.iter().product(), length, inner, &mut exp)?;
            return Ok(found);
        }
        let mut wide = input.cast_to::<f32>()?.into_owned();
        let kernel = Func::Exp.ew_f32()?;
        let mut plain = wide.try_as_plain_ram_mut()?;
        let values = plain.as_slice_mut::<f32>()?;
        rows(values, outer.iter().product(), length, inner, &mut |row| {
            kernel.run(row)
        })?;
        Ok(wide.cast_to_dt(dtype)?.into_owned())
    }
}

/// A number of either width.
trait Number: Copy + Default + Into<f64> {
    fn of(value: f64) -> Self;
}

impl Number for f32 {
    fn of(value: f64) -> Self {
        value as Self
    }
}

impl Number for f64 {
    fn of(value: f64) -> Self {
        value
    }
}

fn rows<T: Number>(
    values: &mut [T],
    outer: usize,
    length: usize,
    inner: usize,
    exp: &mut dyn FnMut(&mut [T]) -> TractResult<()>,
) -> TractResult<()> {
    let mut row = vec![T::default(); length];
    for start in (0..outer).flat_map(|at| (0..inner).map(move |column| at * length * inner + column)) {
        let places = (0..length).map(|at| start + at * inner);
        let number = |at: usize| values.get(at).copied().unwrap_or_default().into();
        let most = places.clone().map(number).fold(f64::NEG_INFINITY, f64::max);
        row.iter_mut()
            .zip(places.clone())
            .for_each(|(slot, at)| *slot = T::of(number(at) - most));
        exp(&mut row)?;
        let sum: f64 = row.iter().map(|x| (*x).into()).sum();
        for at in places {
            if let Some(value) = values.get_mut(at) {
                *value = T::of((*value).into() - most - sum.ln());
            }
        }
    }
    Ok(())
}
