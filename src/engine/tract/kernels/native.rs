//! The shell around a kernel of our own: what tract asks of an operator whose output has the shape of its first input.

use std::fmt::Debug;

use tract_onnx::tract_core::ops::Op;
use tract_onnx::tract_hir::internal::*;

/// The element type of an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OutputType {
    Is(DatumType),
    /// That of the input with this index.
    Like(usize),
}

/// A kernel whose output has the shape of its first input.
pub(super) trait Kernel: Clone + Debug + PartialEq + Eq + Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// Fewest and most inputs.
    fn arity(&self) -> (usize, usize);

    fn output_type(&self) -> OutputType;

    fn compute(&self, inputs: &[TValue]) -> TractResult<Tensor>;
}

/// A kernel as an operator of tract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Native<K>(pub(super) K);

impl<K: Kernel> Op for Native<K> {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    op_as_typed_op!();
}

impl<K: Kernel> EvalOp for Native<K> {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec!(self.0.compute(&inputs)?.into_tvalue()))
    }
}

impl<K: Kernel> InferenceRulesOp for Native<K> {
    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let (fewest, most) = self.0.arity();
        if !(fewest..=most).contains(&inputs.len()) {
            bail!(
                "{} takes {fewest} to {most} inputs, not {}",
                self.0.name(),
                inputs.len()
            );
        }
        check_output_arity(outputs, 1)?;
        solver.equals(&inputs[0].shape, &outputs[0].shape)?;
        match self.0.output_type() {
            OutputType::Is(dtype) => solver.equals(&outputs[0].datum_type, dtype),
            OutputType::Like(index) => solver.equals(&outputs[0].datum_type, &inputs[index].datum_type),
        }
    }

    as_op!();
    to_typed!();
}

impl<K: Kernel> TypedOp for Native<K> {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let dtype = match self.0.output_type() {
            OutputType::Is(dtype) => dtype,
            OutputType::Like(index) => inputs.get(index).context("an input is missing")?.datum_type,
        };
        Ok(tvec!(dtype.fact(
            inputs.first().context("an input is missing")?.shape.clone()
        )))
    }

    as_op!();
}
