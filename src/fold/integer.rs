//! Arithmetic and comparison of integers: the operators of shape computations. Results that do not fit the type are refused,
//! because the specification does not say what they are.

use super::{Answer, broadcast, invalid, operand, single};
use crate::ir::{DType, Operator, Tensor};

pub(super) fn evaluate(operator: &Operator, version: i64, inputs: &[Option<Tensor>]) -> Answer {
    // Before opset 7 the operands were aligned by an attribute.
    if version < 7 {
        return None;
    }
    let first = operand(inputs, 0)?;
    let dtype = first.dtype();
    if !dtype.is_integer() || dtype.is_packed() || dtype == DType::U64 {
        return None;
    }
    match &*operator.op_type {
        "Add" => binary(operator, inputs, i64::checked_add),
        "Sub" => binary(operator, inputs, i64::checked_sub),
        "Mul" => binary(operator, inputs, i64::checked_mul),
        "Div" => binary(operator, inputs, i64::checked_div),
        "Max" if inputs.len() == 2 => binary(operator, inputs, |a, b| Some(a.max(b))),
        "Min" if inputs.len() == 2 => binary(operator, inputs, |a, b| Some(a.min(b))),
        "Mod" if operator.int("fmod").unwrap_or(0) == 0 => binary(operator, inputs, |a, b| {
            // The result has the sign of the divisor.
            let rest = a.checked_rem(b)?;
            Some(if rest != 0 && (rest < 0) != (b < 0) {
                rest + b
            } else {
                rest
            })
        }),
        "Equal" => compare(operator, inputs, |a, b| a == b),
        "Less" => compare(operator, inputs, |a, b| a < b),
        "LessOrEqual" => compare(operator, inputs, |a, b| a <= b),
        "Greater" => compare(operator, inputs, |a, b| a > b),
        "GreaterOrEqual" => compare(operator, inputs, |a, b| a >= b),
        "Neg" => unary(operator, first, i64::checked_neg),
        "Abs" => unary(operator, first, i64::checked_abs),
        "Range" => range(operator, inputs),
        _ => None,
    }
}

/// Elements of an integer type, refused where one does not fit.
pub(super) fn from_i64(dtype: DType, dims: &[u64], values: &[i64]) -> Option<Tensor> {
    fn narrow<T: crate::ir::Element + TryFrom<i64>>(dims: &[u64], values: &[i64]) -> Option<Tensor> {
        let values = values
            .iter()
            .map(|value| T::try_from(*value).ok())
            .collect::<Option<Vec<T>>>()?;
        Tensor::from_slice(dims, &values).ok()
    }
    match dtype {
        DType::I64 => Tensor::from_slice(dims, values).ok(),
        DType::I32 => narrow::<i32>(dims, values),
        DType::I16 => narrow::<i16>(dims, values),
        DType::I8 => narrow::<i8>(dims, values),
        DType::U32 => narrow::<u32>(dims, values),
        DType::U16 => narrow::<u16>(dims, values),
        DType::U8 => narrow::<u8>(dims, values),
        DType::U64 => narrow::<u64>(dims, values),
        _ => None,
    }
}

fn refused(operator: &Operator) -> Answer {
    Some(Err(super::EvaluateError::Unsupported {
        operator: operator.op_type.to_string(),
        reason: "a result does not fit its type".to_owned(),
    }))
}

fn finish(operator: &Operator, dtype: DType, dims: &[u64], values: Option<Vec<i64>>) -> Answer {
    match values.and_then(|values| from_i64(dtype, dims, &values)) {
        Some(tensor) => Some(Ok(vec![tensor])),
        None => refused(operator),
    }
}

/// A shape and, for each of its places, the elements of both operands.
type Pairs = (Vec<u64>, Vec<(i64, i64)>);

/// Both operands, broadcast.
fn pairs(operator: &Operator, inputs: &[Option<Tensor>]) -> Option<Result<Pairs, super::EvaluateError>> {
    let (a, b) = (operand(inputs, 0)?, operand(inputs, 1)?);
    if a.dtype() != b.dtype() || inputs.len() != 2 {
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
    let (x, y) = (a.to_i64().ok()?, b.to_i64().ok()?);
    let at = |values: &[i64], index: usize| values.get(index).copied().unwrap_or(0);
    let pairs = if a.dims() == b.dims() {
        x.into_iter().zip(y).collect()
    } else {
        let (i, j) = (
            broadcast::indices(a.dims(), &dims),
            broadcast::indices(b.dims(), &dims),
        );
        i.into_iter()
            .zip(j)
            .map(|(i, j)| (at(&x, i), at(&y, j)))
            .collect()
    };
    Some(Ok((dims, pairs)))
}

fn binary(operator: &Operator, inputs: &[Option<Tensor>], f: impl Fn(i64, i64) -> Option<i64>) -> Answer {
    let dtype = operand(inputs, 0)?.dtype();
    match pairs(operator, inputs)? {
        Ok((dims, pairs)) => {
            let values = pairs.into_iter().map(|(a, b)| f(a, b)).collect();
            finish(operator, dtype, &dims, values)
        }
        Err(error) => Some(Err(error)),
    }
}

fn compare(operator: &Operator, inputs: &[Option<Tensor>], f: impl Fn(i64, i64) -> bool) -> Answer {
    match pairs(operator, inputs)? {
        Ok((dims, pairs)) => {
            let values: Vec<bool> = pairs.into_iter().map(|(a, b)| f(a, b)).collect();
            single(operator, Tensor::from_bools(&dims, &values))
        }
        Err(error) => Some(Err(error)),
    }
}

fn unary(operator: &Operator, data: &Tensor, f: impl Fn(i64) -> Option<i64>) -> Answer {
    let values = data.to_i64().ok()?.into_iter().map(f).collect();
    finish(operator, data.dtype(), data.dims(), values)
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
    let values: Option<Vec<i64>> = (0..count)
        .map(|index| i64::try_from(i128::from(start) + step * index as i128).ok())
        .collect();
    finish(operator, dtype, &[count as u64], values)
}
