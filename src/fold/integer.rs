//! Arithmetic, comparison and bits of integers, and truth values. Results that do not fit the type are refused, because the
//! specification does not say what they are.

use super::numbers::{self, from_whole};
use super::{Answer, broadcast, invalid, operand, single};
use crate::ir::{DType, Operator, Tensor};

pub(super) fn evaluate(operator: &Operator, version: i64, inputs: &[Option<Tensor>]) -> Answer {
    // Before opset 7 the operands were aligned by an attribute.
    if version < 7 {
        return None;
    }
    let first = operand(inputs, 0)?;
    let dtype = first.dtype();
    if dtype == DType::Bool {
        return truths(operator, inputs);
    }
    if !dtype.is_integer() || dtype.is_packed() {
        return None;
    }
    let bits = dtype.bits() as i128;
    match &*operator.op_type {
        "Add" => binary(operator, inputs, i128::checked_add),
        "Sub" => binary(operator, inputs, i128::checked_sub),
        "Mul" => binary(operator, inputs, i128::checked_mul),
        // Towards zero.
        "Div" => binary(operator, inputs, i128::checked_div),
        "Pow" if operand(inputs, 1)?.dtype() != dtype => refused(operator),
        "Pow" => binary(operator, inputs, |a, b| a.checked_pow(u32::try_from(b).ok()?)),
        "Sum" => many(operator, inputs, i128::checked_add),
        "Max" => many(operator, inputs, |a, b| Some(a.max(b))),
        "Min" => many(operator, inputs, |a, b| Some(a.min(b))),
        "Mod" if operator.int("fmod").unwrap_or(0) != 0 => binary(operator, inputs, i128::checked_rem),
        "Mod" => binary(operator, inputs, |a, b| {
            // The result has the sign of the divisor.
            let rest = a.checked_rem(b)?;
            Some(if rest != 0 && (rest < 0) != (b < 0) {
                rest + b
            } else {
                rest
            })
        }),
        "BitShift" => {
            // A shift by the width or more is left open by the specification.
            let shift = |b: i128| u32::try_from(b).ok().filter(|_| b < bits);
            match operator.string("direction")? {
                "RIGHT" => binary(operator, inputs, move |a, b| Some(a >> shift(b)?)),
                "LEFT" => binary(operator, inputs, move |a, b| {
                    Some((a << shift(b)?) & ((1i128 << bits) - 1))
                }),
                _ => None,
            }
        }
        "BitwiseAnd" => binary(operator, inputs, |a, b| Some(a & b)),
        "BitwiseOr" => binary(operator, inputs, |a, b| Some(a | b)),
        "BitwiseXor" => binary(operator, inputs, |a, b| Some(a ^ b)),
        "BitwiseNot" if dtype.is_signed_integer() => unary(operator, first, |a| Some(!a)),
        "BitwiseNot" => unary(operator, first, move |a| Some(!a & ((1i128 << bits) - 1))),
        "Equal" => compare(operator, inputs, |a, b| a == b),
        "Less" => compare(operator, inputs, |a, b| a < b),
        "LessOrEqual" => compare(operator, inputs, |a, b| a <= b),
        "Greater" => compare(operator, inputs, |a, b| a > b),
        "GreaterOrEqual" => compare(operator, inputs, |a, b| a >= b),
        "Neg" => unary(operator, first, i128::checked_neg),
        "Abs" => unary(operator, first, i128::checked_abs),
        "Sign" => unary(operator, first, |a| Some(a.signum())),
        "Relu" => unary(operator, first, |a| Some(a.max(0))),
        "Clip" => clip(operator, version, inputs),
        "Range" => range(operator, inputs),
        _ => None,
    }
}

/// Truth values in, truth values out.
fn truths(operator: &Operator, inputs: &[Option<Tensor>]) -> Answer {
    match &*operator.op_type {
        "And" => compare(operator, inputs, |a, b| a != 0 && b != 0),
        "Or" => compare(operator, inputs, |a, b| a != 0 || b != 0),
        "Xor" => compare(operator, inputs, |a, b| (a != 0) != (b != 0)),
        "Equal" => compare(operator, inputs, |a, b| (a != 0) == (b != 0)),
        "Not" => {
            let data = operand(inputs, 0)?;
            let values: Vec<bool> = data.to_i64().ok()?.into_iter().map(|v| v == 0).collect();
            single(operator, Tensor::from_bools(data.dims(), &values))
        }
        _ => None,
    }
}

fn refused(operator: &Operator) -> Answer {
    Some(Err(super::EvaluateError::Unsupported {
        operator: operator.op_type.to_string(),
        reason: "a result does not fit its type".to_owned(),
    }))
}

fn finish(operator: &Operator, dtype: DType, dims: &[u64], values: Option<Vec<i128>>) -> Answer {
    match values.and_then(|values| from_whole(dtype, dims, &values)) {
        Some(tensor) => Some(Ok(vec![tensor])),
        None => refused(operator),
    }
}

/// A shape and, for each of its places, the elements of both operands.
type Pairs = (Vec<u64>, Vec<(i128, i128)>);

/// Both operands, broadcast.
fn pairs(operator: &Operator, a: &Tensor, b: &Tensor) -> Option<Result<Pairs, super::EvaluateError>> {
    if a.dtype() != b.dtype() {
        return Some(Err(invalid(
            operator,
            format!("operands of type {} and {}", a.dtype(), b.dtype()),
        )));
    }
    let Some(dims) = broadcast::shape(&[a.dims(), b.dims()]) else {
        return Some(Err(invalid(
            operator,
            format!("shapes {:?} and {:?}", a.dims(), b.dims()),
        )));
    };
    let (x, y) = (numbers::whole(a)?, numbers::whole(b)?);
    let at = |values: &[i128], index: usize| values.get(index).copied().unwrap_or(0);
    let pairs = if a.dims() == b.dims() {
        x.into_iter().zip(y).collect()
    } else {
        broadcast::Odometer::new(&dims, [a.dims(), b.dims()])
            .map(|[i, j]| (at(&x, i), at(&y, j)))
            .collect()
    };
    Some(Ok((dims, pairs)))
}

fn two(inputs: &[Option<Tensor>]) -> Option<(&Tensor, &Tensor)> {
    (inputs.len() == 2).then_some(())?;
    operand(inputs, 0).zip(operand(inputs, 1))
}

fn binary(operator: &Operator, inputs: &[Option<Tensor>], f: impl Fn(i128, i128) -> Option<i128>) -> Answer {
    let (a, b) = two(inputs)?;
    match pairs(operator, a, b)? {
        Ok((dims, pairs)) => {
            let values = pairs.into_iter().map(|(a, b)| f(a, b)).collect();
            finish(operator, a.dtype(), &dims, values)
        }
        Err(error) => Some(Err(error)),
    }
}

/// Operators of any number of operands, from the left.
fn many(operator: &Operator, inputs: &[Option<Tensor>], f: impl Fn(i128, i128) -> Option<i128>) -> Answer {
    let operands: Vec<&Tensor> = inputs.iter().map(Option::as_ref).collect::<Option<_>>()?;
    let (first, rest) = operands.split_first()?;
    let mut total = (*first).clone();
    for other in rest {
        let pair = [Some(total), Some((*other).clone())];
        total = match binary(operator, &pair, &f)? {
            Ok(mut found) => found.pop()?,
            Err(error) => return Some(Err(error)),
        };
    }
    Some(Ok(vec![total]))
}

fn compare(operator: &Operator, inputs: &[Option<Tensor>], f: impl Fn(i128, i128) -> bool) -> Answer {
    let (a, b) = two(inputs)?;
    match pairs(operator, a, b)? {
        Ok((dims, pairs)) => {
            let values: Vec<bool> = pairs.into_iter().map(|(a, b)| f(a, b)).collect();
            single(operator, Tensor::from_bools(&dims, &values))
        }
        Err(error) => Some(Err(error)),
    }
}

fn unary(operator: &Operator, data: &Tensor, f: impl Fn(i128) -> Option<i128>) -> Answer {
    let values = numbers::whole(data)?.into_iter().map(f).collect();
    finish(operator, data.dtype(), data.dims(), values)
}

/// Bounds in the wrong order are left open.
fn clip(operator: &Operator, version: i64, inputs: &[Option<Tensor>]) -> Answer {
    if version < 12 {
        return None;
    }
    let data = operand(inputs, 0)?;
    let bound = |slot: usize, open: i128| match operand(inputs, slot) {
        Some(tensor) if tensor.elements() == 1 => numbers::whole(tensor)?.first().copied(),
        Some(_) => None,
        None => Some(open),
    };
    let (low, high) = (bound(1, i128::MIN)?, bound(2, i128::MAX)?);
    if low > high {
        return refused(operator);
    }
    unary(operator, data, move |a| Some(a.clamp(low, high)))
}

fn range(operator: &Operator, inputs: &[Option<Tensor>]) -> Answer {
    let number = |index| operand(inputs, index).and_then(Tensor::single_i64);
    let (start, limit, delta) = (number(0)?, number(1)?, number(2)?);
    let dtype = operand(inputs, 0)?.dtype();
    if delta == 0 {
        return Some(Err(invalid(operator, "a step of 0")));
    }
    let distance = i128::from(limit) - i128::from(start);
    let step = i128::from(delta);
    // The number of steps is the distance over the step, rounded up, and at least 0.
    let count = (distance / step + i128::from(distance % step != 0 && (distance < 0) == (step < 0))).max(0);
    let count = usize::try_from(count).ok().filter(|count| *count <= 1 << 24)?;
    let values = (0..count)
        .map(|index| Some(i128::from(start) + step * index as i128))
        .collect();
    finish(operator, dtype, &[count as u64], values)
}
