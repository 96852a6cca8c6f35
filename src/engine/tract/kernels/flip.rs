//! `EngineFlip`: one axis from its end. `EngineReverseSequence`: the first elements of an axis in the opposite order, as many as a
//! length for each sample says.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

use super::native::{Kernel, Native, OutputType};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Flip {
    axis: usize,
}

pub(super) fn build(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let axis = node.get_attr_opt::<i64>("axis")?.unwrap_or(0);
    Ok((Box::new(Native(Flip { axis: axis as usize })), vec![]))
}

impl Kernel for Flip {
    fn name(&self) -> &'static str {
        "EngineFlip"
    }

    fn arity(&self) -> (usize, usize) {
        (1, 1)
    }

    fn output_type(&self) -> OutputType {
        OutputType::Like(0)
    }

    fn compute(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let input = inputs.first().context("an input is missing")?;
        let length = *input.shape().get(self.axis).context("no such axis")?;
        let parts: Vec<Tensor> = (0..length)
            .rev()
            .map(|at| input.slice(self.axis, at, at + 1))
            .collect::<TractResult<_>>()?;
        if parts.is_empty() {
            return Ok(input.clone().into_tensor());
        }
        Tensor::stack_tensors(self.axis, &parts)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ReverseSequence {
    batch: usize,
    time: usize,
}

pub(super) fn build_sequences(
    _context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let axis = |name: &str, default: i64| -> TractResult<usize> {
        let axis = node.get_attr_opt::<i64>(name)?.unwrap_or(default);
        usize::try_from(axis)
            .ok()
            .filter(|axis| *axis < 2)
            .context("an axis is neither 0 nor 1")
    };
    let (batch, time) = (axis("batch_axis", 1)?, axis("time_axis", 0)?);
    ensure!(batch != time, "one axis is both batch and time");
    Ok((Box::new(Native(ReverseSequence { batch, time })), vec![]))
}

impl Kernel for ReverseSequence {
    fn name(&self) -> &'static str {
        "EngineReverseSequence"
    }

    fn arity(&self) -> (usize, usize) {
        (2, 2)
    }

    fn output_type(&self) -> OutputType {
        OutputType::Like(0)
    }

    fn compute(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let input = inputs.first().context("an input is missing")?;
        let lengths = inputs.get(1).context("an input is missing")?.cast_to::<i64>()?;
        let lengths = lengths.try_as_plain_ram()?;
        let lengths = lengths.as_slice::<i64>()?;
        let (samples, steps) = match input.shape().get(..2) {
            Some(shape) => (shape[self.batch], shape[self.time]),
            None => bail!("fewer than two axes"),
        };
        ensure!(
            lengths.len() == samples,
            "{} lengths of {samples} samples",
            lengths.len()
        );
        let mut parts = Vec::with_capacity(samples);
        for (sample, length) in lengths.iter().enumerate() {
            let one = input.slice(self.batch, sample, sample + 1)?;
            let length = usize::try_from(*length).ok().filter(|length| *length <= steps);
            let length = length.context("a length beyond the axis")?;
            let turned = (0..length).rev().chain(length..steps);
            let rows: Vec<Tensor> = turned
                .map(|at| one.slice(self.time, at, at + 1))
                .collect::<TractResult<_>>()?;
            parts.push(if rows.is_empty() {
                one
            } else {
                Tensor::stack_tensors(self.time, &rows)?
            });
        }
        if parts.is_empty() {
            return Ok(input.clone().into_tensor());
        }
        Tensor::stack_tensors(self.batch, &parts)
    }
}
