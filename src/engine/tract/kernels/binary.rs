//! Operators of two operands that tract computes wrongly: extremes of NaN, remainders with a sign, quotients.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::binary::Nary;
use tract_onnx::tract_hir::ops::logic::wire_with_rank_broadcast;

use super::pointwise::{Function, Pointwise};

type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

pub(super) use made::{Larger, Modulo, Quotient, Remainder, Smaller, larger, smaller};

mod made {
    #![allow(
        dead_code,
        unreachable_pub,
        missing_docs,
        clippy::useless_conversion,
        reason = "tract's macro writes a constructor for each"
    )]

    use tract_onnx::tract_hir::internal::*;

    // NaN is larger than every number, and smaller.
    bin_to_super_type!(larger, Larger,
        [f16, f32, f64] => |c, a, b| *c = if a.is_nan() || *a > *b { *a } else { *b },
        [TDim] => |c, a, b| *c = a.clone().maxi(b.clone()),
        [i8, i16, i32, i64, u8, u16, u32, u64] => |c, a, b| *c = *a.max(b));

    bin_to_super_type!(smaller, Smaller,
        [f16, f32, f64] => |c, a, b| *c = if a.is_nan() || *a < *b { *a } else { *b },
        [TDim] => |c, a, b| *c = a.clone().mini(b.clone()),
        [i8, i16, i32, i64, u8, u16, u32, u64] => |c, a, b| *c = *a.min(b));

    // With the sign of the dividend; nothing has no remainder.
    bin_to_super_type!(remainder, Remainder,
        is_commutative: false,
        [f16, f32, f64] => |c, a, b| *c = *a % *b,
        [i8, i16, i32, i64, u8, u16, u32, u64] => |c, a, b| *c = if *b == 0 { 0 } else { a.wrapping_rem(*b) });

    // With the sign of the divisor. Dimensions are numbers: plans are made for fixed shapes.
    bin_to_super_type!(modulo, Modulo,
        is_commutative: false,
        [TDim] => |c, a, b| *c = match (a.to_i64(), b.to_i64()) {
            (Ok(a), Ok(b)) => TDim::Val(floored(a, b)),
            _ => a.clone(),
        },
        [i8, i16, i32, i64] => |c, a, b| *c = floored(i64::from(*a), i64::from(*b)) as _,
        [u8, u16, u32, u64] => |c, a, b| *c = if *b == 0 { 0 } else { *a % *b });

    fn floored(a: i64, b: i64) -> i64 {
        if b == 0 {
            return 0;
        }
        let rest = a.wrapping_rem(b);
        if rest != 0 && (rest < 0) != (b < 0) {
            rest + b
        } else {
            rest
        }
    }

    // Not the product with a reciprocal, which is off by a rounding.
    bin_to_super_type!(quotient, Quotient,
        is_commutative: false,
        [f16, f32, f64] => |c, a, b| *c = *a / *b);
}

pub(super) fn build_max(_context: &ParsingContext, _node: &NodeProto) -> Built {
    Ok((Box::new(Nary(Box::new(Larger), false)), vec![]))
}

pub(super) fn build_min(_context: &ParsingContext, _node: &NodeProto) -> Built {
    Ok((Box::new(Nary(Box::new(Smaller), false)), vec![]))
}

pub(super) fn build_remainder(_context: &ParsingContext, _node: &NodeProto) -> Built {
    Ok((Remainder.into_hir(), vec![]))
}

pub(super) fn build_modulo(_context: &ParsingContext, _node: &NodeProto) -> Built {
    Ok((Modulo.into_hir(), vec![]))
}

/// Relu and Clip: bounds from attributes or from inputs.
#[derive(Clone, Debug)]
enum Bounds {
    Fixed {
        low: f64,
        high: f64,
    },
    /// Input slots.
    Given {
        low: Option<usize>,
        high: Option<usize>,
    },
}

pub(super) fn build_relu(_context: &ParsingContext, _node: &NodeProto) -> Built {
    let bounds = Bounds::Fixed {
        low: 0.0,
        high: f64::INFINITY,
    };
    Ok((expand(bounds), vec![]))
}

pub(super) fn build_clip(context: &ParsingContext, node: &NodeProto) -> Built {
    if context.onnx_operator_set_version < 6 {
        bail!("Clip before opset 6");
    }
    if context.onnx_operator_set_version < 11 {
        let bound = |name: &str, open: f64| -> TractResult<f64> {
            Ok(node.get_attr_opt::<f32>(name)?.map_or(open, f64::from))
        };
        let bounds = Bounds::Fixed {
            low: bound("min", f64::NEG_INFINITY)?,
            high: bound("max", f64::INFINITY)?,
        };
        return Ok((expand(bounds), vec![]));
    }
    let given = |at: usize| node.input.get(at).is_some_and(|name| !name.is_empty());
    let low = given(1).then_some(1);
    let high = given(2).then_some(1 + usize::from(given(1)));
    Ok((expand(Bounds::Given { low, high }), vec![]))
}

impl Expansion for Bounds {
    fn name(&self) -> StaticName {
        "EngineBounds".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let given = match self {
            Self::Fixed { .. } => 0,
            Self::Given { low, high } => low.iter().count() + high.iter().count(),
        };
        check_input_arity(inputs, 1 + given)?;
        check_output_arity(outputs, 1)?;
        // A bound may have another integer type than a dimension.
        solver.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        solver.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let first = *inputs.first().context("an input is missing")?;
        let dtype = model.outlet_fact(first)?.datum_type;
        let (mut wire, low, high) = match *self {
            Self::Fixed { low, high } if dtype.is_float() => {
                let op = Pointwise::operator(Function::Clamp { low, high }, false);
                return model.wire_node(prefix, op, &[first]);
            }
            Self::Fixed { low, high } => {
                let mut constant = |name: &str, bound: f64| -> TractResult<Option<OutletId>> {
                    if bound.is_infinite() {
                        return Ok(None);
                    }
                    let tensor = tensor0(bound as f32).cast_to_dt(dtype)?.into_owned();
                    model.add_const(format!("{prefix}.{name}"), tensor).map(Some)
                };
                (first, constant("low", low)?, constant("high", high)?)
            }
            Self::Given { low, high } => {
                let slot = |at: Option<usize>| at.and_then(|at| inputs.get(at)).copied();
                (first, slot(low), slot(high))
            }
        };
        for (name, bound, op) in [("low", low, larger()), ("high", high, smaller())] {
            let Some(mut bound) = bound else { continue };
            if model.outlet_fact(bound)?.datum_type != dtype {
                let cast = tract_onnx::tract_core::ops::cast::cast(dtype);
                bound = wired(model.wire_node(format!("{prefix}.{name}.cast"), cast, &[bound])?)?;
            }
            wire = wired(wire_with_rank_broadcast(
                format!("{prefix}.at-{name}"),
                model,
                op,
                &[wire, bound],
            )?)?;
        }
        Ok(tvec!(wire))
    }
}

fn wired(outlets: TVec<OutletId>) -> TractResult<OutletId> {
    outlets.first().copied().context("no output")
}

/// Whether an operator is one of tract's or our own extremes of floats: `true` for the larger.
pub(super) fn extreme(op: &TypedBinOp) -> Option<bool> {
    use tract_onnx::tract_core::ops::math::{Max, Min};
    if op.0.is::<Max>() || op.0.is::<Larger>() {
        Some(true)
    } else if op.0.is::<Min>() || op.0.is::<Smaller>() {
        Some(false)
    } else {
        None
    }
}
