//! The mean of squares of doubles: tract's patterns make one operator of it, which computes in float.

use tract_onnx::tract_core::ops::Op;
use tract_onnx::tract_core::ops::nn::Reducer;
use tract_onnx::tract_hir::internal::*;

/// Over these axes, which stay with size 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MeanOfSquares(pub(super) TVec<usize>);

impl Op for MeanOfSquares {
    fn name(&self) -> StaticName {
        "EngineMeanOfSquares".into()
    }

    op_as_typed_op!();
}

impl EvalOp for MeanOfSquares {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut squares = args_1!(inputs).into_tensor();
        let count: usize = self.0.iter().map(|axis| squares.shape()[*axis]).product();
        let mut plain = squares.try_as_plain_ram_mut()?;
        plain.as_slice_mut::<f64>()?.iter_mut().for_each(|x| *x *= *x);
        let mut means = Reducer::Sum.reduce(&self.0, &squares)?;
        let mut plain = means.try_as_plain_ram_mut()?;
        plain
            .as_slice_mut::<f64>()?
            .iter_mut()
            .for_each(|sum| *sum /= count as f64);
        Ok(tvec!(means.into_tvalue()))
    }
}

impl TypedOp for MeanOfSquares {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let input = inputs.first().context("an input is missing")?;
        let mut shape = input.shape.to_tvec();
        for axis in &self.0 {
            *shape.get_mut(*axis).context("no such axis")? = 1.to_dim();
        }
        Ok(tvec!(input.datum_type.fact(shape)))
    }

    as_op!();
}
