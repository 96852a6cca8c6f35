//! Casts to int64, which tract takes for dimensions, and cuts to 32 bits on the way.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_hir::internal::*;

pub(super) fn build(
    context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    if node.get_attr_opt::<DatumType>("to")? == Some(i64::datum_type()) {
        return Ok((expand(ToDimension), vec![]));
    }
    let known = super::plain()
        .op_register
        .0
        .get("Cast")
        .context("tract has no Cast")?;
    known(context, node)
}

#[derive(Clone, Debug)]
struct ToDimension;

impl Expansion for ToDimension {
    fn name(&self) -> StaticName {
        "EngineToDimension".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].datum_type, TDim::datum_type())?;
        solver.equals(&outputs[0].shape, &inputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let input = *inputs.first().context("an input is missing")?;
        let dtype = model.outlet_fact(input)?.datum_type;
        // Dimensions are dimensions already, and strings are parsed.
        if dtype == TDim::datum_type() || dtype == String::datum_type() || dtype == bool::datum_type() {
            return model.wire_node(prefix, cast(TDim::datum_type()), inputs);
        }
        model.wire_node(prefix, ElementWiseOp(Box::new(Wide), None), inputs)
    }
}

/// A number as a dimension of 64 bits, towards zero.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wide;

impl ElementWiseMiniOp for Wide {
    fn name(&self) -> String {
        "EngineToDimension".to_owned()
    }

    fn output_type(&self, _input: DatumType) -> Option<DatumType> {
        Some(TDim::datum_type())
    }

    fn eval_out_of_place(&self, tensor: &Tensor, _type: Option<DatumType>) -> TractResult<Tensor> {
        if tensor.datum_type() == TDim::datum_type() {
            return Ok(tensor.clone());
        }
        let whole = tensor.cast_to::<i64>()?;
        let plain = whole.try_as_plain_ram()?;
        let dims: Vec<TDim> = plain.as_slice::<i64>()?.iter().map(|v| TDim::Val(*v)).collect();
        tensor1(&dims).into_shape(tensor.shape())
    }
}
