//! Between tract's patterns and its code generation: operators whose kernels are wrong for some numbers give way to our own.
//!
//! tract's patterns look for its own operators, so ours stand back until the patterns are done. The extreme behind a matrix product or
//! a convolution stays tract's: fused into the product it keeps NaN, and costs nothing.

use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::cnn::Conv;
use tract_onnx::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::logic::IfThenElse;
use tract_onnx::tract_core::ops::math::{self, Ceil, Div, Floor, Mul, Recip, RoundHalfToEven};
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};
use tract_onnx::tract_core::ops::scan::Scan;
use tract_onnx::tract_core::optim::Optimizer;
use tract_onnx::tract_hir::internal::*;

use super::binary::{Quotient, extreme, larger, smaller};
use super::mean_of_squares::MeanOfSquares;
use super::pointwise::{Function, Pointwise};

/// Outputs beyond which equal readers of a value are not looked for: tract goes through all outputs for each pair of readers.
const MANY_OUTPUTS: usize = 64;

/// Compiles a model as tract would, but for the search for equal readers in one with many outputs.
pub(in super::super) fn optimised(model: InferenceModel) -> TractResult<TypedModel> {
    let mut typed = model.into_typed()?;
    quotients(&mut typed)?;
    let many = typed.outputs.len() > MANY_OUTPUTS;
    passes(Optimizer::declutter(), many).optimize(&mut typed)?;
    settle(&mut typed)?;
    typed.optimize_with_session(&mut passes(Optimizer::codegen(), many).session())?;
    Ok(typed)
}

/// The passes of an optimizer; with `many` outputs, without the one that merges equal readers.
fn passes(mut optimizer: Optimizer, many: bool) -> Optimizer {
    if many {
        optimizer
            .passes
            .retain(|pass| format!("{pass:?}") != "PushSplitDown");
    }
    optimizer
}

/// Quotients that are rounded to whole numbers or compared: there the last digit decides.
fn quotients(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes.len() {
        let node = model.node(id);
        let divides = node.op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<Div>());
        let (Some(output), true) = (node.outputs.first(), divides) else {
            continue;
        };
        let decides = |op: &dyn TypedOp| {
            op.downcast_ref::<ElementWiseOp>().is_some_and(|op| {
                op.0.is::<Floor>()
                    || op.0.is::<Ceil>()
                    || op.0.is::<RoundHalfToEven>()
                    || op.0.name().ends_with("Round")
            }) || op.downcast_ref::<Cast>().is_some_and(|cast| !cast.to.is_float())
                || op.downcast_ref::<TypedBinOp>().is_some_and(|op| {
                    op.0.result_datum_type(f32::datum_type(), f32::datum_type()).ok()
                        == Some(bool::datum_type())
                })
        };
        let read = output
            .successors
            .iter()
            .any(|next| decides(&*model.node(next.node).op));
        if read && is_float(output.fact.datum_type) {
            model.node_mut(id).op = Box::new(TypedBinOp(Box::new(Quotient), None));
        }
    }
    Ok(())
}

fn is_float(dtype: DatumType) -> bool {
    dtype == f32::datum_type() || dtype == f16::datum_type() || dtype == f64::datum_type()
}

/// Puts our own operators into a model and its bodies.
fn settle(model: &mut TypedModel) -> TractResult<()> {
    for id in model.eval_order()? {
        if let Some(operands) = divided(model, id) {
            let op = TypedBinOp(Box::new(Quotient), None);
            TypedModelPatch::replace_single_op(model, model.node(id), &operands, op)?.apply(model)?;
            continue;
        }
        let node = model.node_mut(id);
        if let Some(scan) = node.op_as_mut::<Scan>() {
            settle(&mut scan.body)?;
            continue;
        }
        if let Some(branches) = node.op_as_mut::<IfThenElse>() {
            settle(&mut branches.then_body)?;
            settle(&mut branches.else_body)?;
            continue;
        }
        let dtype = node.outputs.first().map(|output| output.fact.datum_type);
        if !dtype.is_some_and(is_float) {
            continue;
        }
        if let Some(op) = node.op_as::<ElementWiseOp>() {
            let own = op.0.downcast_ref::<Pointwise>();
            let function = match own {
                Some(own) => Some(own.function),
                None => Pointwise::instead_of(&*op.0),
            };
            let Some(function) = function else { continue };
            match function {
                Function::Clamp { low, high } if after_product(model, id, 0) => fused(model, id, low, high)?,
                _ => model.node_mut(id).op = Box::new(Pointwise::operator(function, true)),
            }
        } else if let Some(reduce) = node.op_as::<Reduce>() {
            if reduce.reducer == Reducer::MeanOfSquares && dtype == Some(f64::datum_type()) {
                node.op = Box::new(MeanOfSquares(reduce.axes.clone()));
            }
        } else if let Some(larger_one) = node.op_as::<TypedBinOp>().and_then(extreme) {
            bounded(model, id, larger_one)?;
        }
    }
    model.compact()
}

/// The operands of a division that tract made a product with a reciprocal, which is infinite for divisors below the smallest normal
/// number. The reciprocal of a constant is a constant by now, and stays.
fn divided(model: &TypedModel, id: usize) -> Option<[OutletId; 2]> {
    let node = model.node(id);
    if !node.op_as::<TypedBinOp>()?.0.is::<Mul>() {
        return None;
    }
    let [dividend, factor] = <[OutletId; 2]>::try_from(node.inputs.as_slice()).ok()?;
    let reciprocal = model.node(factor.node);
    let made_for = reciprocal.name.strip_suffix("-recip")?;
    let divisor = *reciprocal.inputs.first()?;
    let inverts = reciprocal.op_as::<ElementWiseOp>()?.0.is::<Recip>();
    (inverts && made_for == node.name).then_some([dividend, divisor])
}

/// Whether code generation fuses the operator into the matrix product or the convolution before it, with all that stands between.
fn after_product(model: &TypedModel, id: usize, slot: usize) -> bool {
    let mut place = (id, slot);
    loop {
        let Some(source) = model.node(place.0).inputs.get(place.1) else {
            return false;
        };
        let before = model.node(source.node);
        let alone = before
            .outputs
            .first()
            .is_some_and(|output| output.successors.len() == 1);
        if !alone
            || model
                .output_outlets()
                .is_ok_and(|outputs| outputs.contains(source))
        {
            return false;
        }
        if let Some(conv) = before.op_as::<Conv>() {
            // A convolution of single channels is no product.
            return conv.group == 1;
        }
        if before.op_is::<EinSum>() {
            return true;
        }
        let fuses = before
            .op_as::<TypedBinOp>()
            .is_some_and(|op| op.0.as_linalg_binop().is_some());
        let constant = |slot: usize| {
            let fact = before.inputs.get(slot).map(|input| model.outlet_fact(*input));
            matches!(fact, Some(Ok(fact)) if fact.konst.is_some())
        };
        place = match (fuses, constant(0), constant(1)) {
            (true, false, true) => (before.id, 0),
            (true, true, false) => (before.id, 1),
            _ => return false,
        };
    }
}

/// The extremes that tract fuses, in place of a clamp.
fn fused(model: &mut TypedModel, id: usize, low: f64, high: f64) -> TractResult<()> {
    let node = model.node(id);
    let (name, source) = (
        node.name.clone(),
        *node.inputs.first().context("an input is missing")?,
    );
    let fact = model.outlet_fact(source)?.clone();
    let mut patch = TypedModelPatch::new("extremes of a product");
    let mut wire = patch.tap_model(model, source)?;
    for (part, bound, op) in [("low", low, math::max()), ("high", high, math::min())] {
        if bound.is_infinite() && (bound > 0.0) == (part == "high") {
            continue;
        }
        let constant = tensor0(bound as f32)
            .cast_to_dt(fact.datum_type)?
            .into_owned()
            .broadcast_into_rank(fact.rank())?;
        let constant = patch.add_const(format!("{name}.{part}"), constant)?;
        let outlets = patch.wire_node(format!("{name}.at-{part}"), op, &[wire, constant])?;
        wire = outlets.first().copied().context("no output")?;
    }
    patch.shunt_outside(model, id.into(), wire)?;
    patch.apply(model)
}

/// An extreme with a constant number is a clamp, unless it is fused; any other becomes one that keeps NaN.
fn bounded(model: &mut TypedModel, id: usize, larger_one: bool) -> TractResult<()> {
    let node = model.node(id);
    let number = |slot: usize| -> Option<f64> {
        let konst = model.outlet_fact(*node.inputs.get(slot)?).ok()?.konst.clone()?;
        (konst.len() == 1).then(|| konst.cast_to_scalar::<f64>().ok())?
    };
    let shape =
        |slot: usize| -> Option<_> { Some(model.outlet_fact(*node.inputs.get(slot)?).ok()?.shape.clone()) };
    let result = node.outputs.first().map(|output| output.fact.shape.clone());
    // Where the other operand is a constant and this one has the shape of the result.
    let bound = [(0, 1), (1, 0)].into_iter().find_map(|(data, other)| {
        let bound = number(other).filter(|bound| !bound.is_nan())?;
        (shape(data) == result).then_some((data, bound))
    });
    let Some((data, bound)) = bound else {
        let op = if larger_one { larger() } else { smaller() };
        model.node_mut(id).op = Box::new(op);
        return Ok(());
    };
    if after_product(model, id, data) {
        model.node_mut(id).op = Box::new(if larger_one { math::max() } else { math::min() });
        return Ok(());
    }
    let (mut low, high) = if larger_one {
        (bound, f64::INFINITY)
    } else {
        (f64::NEG_INFINITY, bound)
    };
    let mut source = *node.inputs.get(data).context("an input is missing")?;
    if let Some((earlier, from)) = lower_bound(model, source).filter(|_| !larger_one) {
        (low, source) = (earlier, from);
    }
    let op = Pointwise::operator(Function::Clamp { low, high }, true);
    let patch = TypedModelPatch::replace_single_op(model, node, &[source], op)?;
    patch.apply(model)?;
    Ok(())
}

/// The bound and the operand of a clamp from below that nothing else reads.
fn lower_bound(model: &TypedModel, outlet: OutletId) -> Option<(f64, OutletId)> {
    let node = model.node(outlet.node);
    let alone =
        node.outputs.first()?.successors.len() == 1 && !model.output_outlets().ok()?.contains(&outlet);
    match node
        .op_as::<ElementWiseOp>()?
        .0
        .downcast_ref::<Pointwise>()?
        .function
    {
        Function::Clamp { low, high } if alone && high == f64::INFINITY => Some((low, *node.inputs.first()?)),
        _ => None,
    }
}
