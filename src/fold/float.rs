//! Elementwise operators on floats: computed in double precision, rounded once to the element type.

use std::borrow::Cow;
use std::ops::{Add, Div, Mul, Sub};

use rayon::prelude::*;

use super::broadcast::{self, Odometer, Runs};
use super::{Answer, EvaluateError, elementary, operand, single};
use crate::ir::{DType, Element, Operator, Tensor, TensorError};

/// A function of two numbers. `None` where ONNX does not say what the result is.
type Pair = fn(f64, f64) -> Option<f64>;

/// Whether every correct implementation gives the same bits on these operands: see [`elementary::decided`].
pub(super) fn decided(operator: &Operator, operands: usize) -> bool {
    elementary::decided(&operator.op_type)
        || match &*operator.op_type {
            "Add" | "Sub" | "Mul" | "Div" | "PRelu" | "Clip" => true,
            "Sum" => operands <= 2,
            name => comparison(name).is_some() || matches!(name, "Max" | "Min"),
        }
}

pub(super) fn evaluate(operator: &Operator, version: i64, inputs: &[Option<Tensor>]) -> Answer {
    let first = operand(inputs, 0)?;
    if !matches!(first.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
        return None;
    }
    match &*operator.op_type {
        "IsNaN" => return truths(operator, first, f64::is_nan),
        "IsInf" => {
            let (up, down) = (
                operator.int("detect_positive").unwrap_or(1) != 0,
                operator.int("detect_negative").unwrap_or(1) != 0,
            );
            return truths(operator, first, move |x| {
                x.is_infinite() && if x > 0.0 { up } else { down }
            });
        }
        "Sign" => return sign(operator, first),
        "Range" => return super::reduce::float_range(operator, inputs),
        "Clip" => return clip(operator, version, inputs),
        _ => {}
    }
    if inputs.len() == 1
        && let Some(function) = elementary::function(operator)
    {
        return single(operator, mapped(first, &*function));
    }
    // Before opset 7 the operands were aligned by an attribute.
    if version < 7 {
        return None;
    }
    if let Some(test) = comparison(&operator.op_type) {
        return compared(operator, inputs, test);
    }
    let pair: Pair = match &*operator.op_type {
        "Add" | "Sum" | "Mean" => |a, b| Some(a + b),
        "Sub" => |a, b| Some(a - b),
        "Mul" => |a, b| Some(a * b),
        "Div" => |a, b| Some(a / b),
        "PRelu" => |a, b| Some(if a < 0.0 { a * b } else { a }),
        "Pow" => |a, b| Some(a.powf(b)),
        "Mod" if operator.int("fmod").unwrap_or(0) != 0 => |a, b| Some(a % b),
        "Max" => |a, b| extreme(a, b, a > b),
        "Min" => |a, b| extreme(a, b, a < b),
        _ => return None,
    };
    let variadic = matches!(&*operator.op_type, "Sum" | "Mean" | "Max" | "Min");
    if variadic && inputs.len() != 2 {
        return many(operator, inputs, pair);
    }
    let second = operand(inputs, 1)?;
    if inputs.len() != 2 || second.dtype() != first.dtype() && !operator.is("Pow") {
        return None;
    }
    // A mean rounds once more, after the division.
    if operator.is("Mean") {
        return many(operator, inputs, pair);
    }
    if operator.is("PRelu")
        && broadcast::shape(&[first.dims(), second.dims()]).as_deref() != Some(first.dims())
    {
        return None;
    }
    if let Some(found) = arithmetic(operator, first, second) {
        return finish(operator, found);
    }
    finish(operator, paired(first, second, pair))
}

/// The four operations on operands that are both `float` or both `double`. One operation in double precision that is then rounded to `float`
/// gives the bits of the operation in `float`, as a double has more than twice as many bits: so nothing has to be widened.
fn arithmetic(operator: &Operator, a: &Tensor, b: &Tensor) -> Option<Result<Tensor, Trouble>> {
    fn of<T: Element + Add<Output = T> + Sub<Output = T> + Mul<Output = T> + Div<Output = T>>(
        name: &str,
        a: &Tensor,
        b: &Tensor,
    ) -> Option<Result<Tensor, Trouble>> {
        Some(match name {
            "Add" | "Sum" => in_runs(a, b, |x: T, y: T| x + y),
            "Sub" => in_runs(a, b, |x: T, y: T| x - y),
            "Mul" => in_runs(a, b, |x: T, y: T| x * y),
            "Div" => in_runs(a, b, |x: T, y: T| x / y),
            _ => return None,
        })
    }
    match (a.dtype(), b.dtype()) {
        (DType::F32, DType::F32) => of::<f32>(&operator.op_type, a, b),
        (DType::F64, DType::F64) => of::<f64>(&operator.op_type, a, b),
        _ => None,
    }
}

/// `pair` at each place of the result, run by run.
fn in_runs<T: Element>(a: &Tensor, b: &Tensor, pair: impl Fn(T, T) -> T + Sync) -> Result<Tensor, Trouble> {
    /// Elements that are worth a thread.
    const SHARE: usize = 1 << 16;
    let dims = broadcast::shape(&[a.dims(), b.dims()]).ok_or(Trouble::Shapes)?;
    let (left, right) = (a.view::<T>()?, b.view::<T>()?);
    let runs = Runs::new(&dims, [a.dims(), b.dims()]);
    let mut found = vec![T::zeroed(); runs.length * runs.starts.len()];
    let fill = |(run, [i, j]): (&mut [T], &[usize; 2])| {
        let (x, y) = (&left[*i..], &right[*j..]);
        match runs.moves {
            [true, true] => (run.iter_mut().zip(x.iter().zip(y))).for_each(|(to, (x, y))| *to = pair(*x, *y)),
            [true, false] => (run.iter_mut().zip(x)).for_each(|(to, x)| *to = pair(*x, y[0])),
            [false, true] => (run.iter_mut().zip(y)).for_each(|(to, y)| *to = pair(x[0], *y)),
            [false, false] => run.fill(pair(x[0], y[0])),
        }
    };
    if found.len() < 2 * SHARE {
        found
            .chunks_mut(runs.length.max(1))
            .zip(&runs.starts)
            .for_each(fill);
    } else {
        found
            .par_chunks_mut(runs.length)
            .zip(&runs.starts)
            .with_min_len(SHARE / runs.length + 1)
            .for_each(fill);
    }
    Ok(Tensor::from_vec(&dims, found)?)
}

/// The larger or smaller of two numbers; NaN wins. Which zero wins is not said.
fn extreme(a: f64, b: f64, first: bool) -> Option<f64> {
    if a.is_nan() || b.is_nan() {
        return Some(f64::NAN);
    }
    if a == b && a.is_sign_negative() != b.is_sign_negative() {
        return None;
    }
    Some(if first { a } else { b })
}

fn comparison(name: &str) -> Option<fn(f64, f64) -> bool> {
    Some(match name {
        "Equal" => |a, b| a == b,
        "Less" => |a, b| a < b,
        "LessOrEqual" => |a, b| a <= b,
        "Greater" => |a, b| a > b,
        "GreaterOrEqual" => |a, b| a >= b,
        _ => return None,
    })
}

/// Elements of the types this module knows.
enum Numbers<'a> {
    Single(Cow<'a, [f32]>),
    Double(Cow<'a, [f64]>),
}

impl Numbers<'_> {
    /// `float` is not widened as a whole: weights can be large.
    fn of(tensor: &Tensor) -> Result<Numbers<'_>, TensorError> {
        Ok(match tensor.dtype() {
            DType::F32 => Numbers::Single(tensor.view::<f32>()?),
            DType::F64 => Numbers::Double(tensor.view::<f64>()?),
            _ => Numbers::Double(Cow::Owned(tensor.to_f64()?)),
        })
    }

    fn at(&self, index: usize) -> f64 {
        match self {
            Numbers::Single(values) => values.get(index).copied().map_or(f64::NAN, f64::from),
            Numbers::Double(values) => values.get(index).copied().unwrap_or(f64::NAN),
        }
    }
}

/// A tensor of these numbers, each rounded once.
fn rounded(dtype: DType, dims: &[u64], values: impl Iterator<Item = f64>) -> Result<Tensor, TensorError> {
    match dtype {
        DType::F32 => Tensor::from_vec(dims, values.map(|v| v as f32).collect::<Vec<f32>>()),
        _ => Tensor::from_f64(dtype, dims, &values.collect::<Vec<f64>>()),
    }
}

fn mapped(data: &Tensor, function: &dyn Fn(f64) -> f64) -> Result<Tensor, TensorError> {
    let numbers = Numbers::of(data)?;
    let count = data.elements() as usize;
    rounded(
        data.dtype(),
        data.dims(),
        (0..count).map(|index| function(numbers.at(index))),
    )
}

fn truths(operator: &Operator, data: &Tensor, test: impl Fn(f64) -> bool) -> Answer {
    let values: Vec<bool> = data.to_f64().ok()?.into_iter().map(test).collect();
    single(operator, Tensor::from_bools(data.dims(), &values))
}

/// NaN has no sign that engines agree on.
fn sign(operator: &Operator, data: &Tensor) -> Answer {
    if data.to_f64().ok()?.iter().any(|x| x.is_nan()) {
        return undecided(operator);
    }
    single(
        operator,
        mapped(data, &|x| {
            if x == 0.0 { 0.0 } else { 1f64.copysign(x) }
        }),
    )
}

/// Why a paired computation has no result.
enum Trouble {
    /// ONNX does not say what an element is.
    Open,
    /// The operands do not fit.
    Tensor(TensorError),
    /// The shapes do not broadcast.
    Shapes,
}

impl From<TensorError> for Trouble {
    fn from(error: TensorError) -> Self {
        Self::Tensor(error)
    }
}

fn paired(a: &Tensor, b: &Tensor, pair: Pair) -> Result<Tensor, Trouble> {
    let dims = broadcast::shape(&[a.dims(), b.dims()]).ok_or(Trouble::Shapes)?;
    let left = Numbers::of(a)?;
    let right = match b.dtype().is_float() {
        true => Numbers::of(b)?,
        // The exponent of Pow may be an integer.
        false => Numbers::Double(Cow::Owned(b.to_f64()?)),
    };
    let mut open = false;
    let places = Odometer::new(&dims, [a.dims(), b.dims()]);
    let values = places.map(|[i, j]| {
        pair(left.at(i), right.at(j)).unwrap_or_else(|| {
            open = true;
            f64::NAN
        })
    });
    let found = rounded(a.dtype(), &dims, values)?;
    if open { Err(Trouble::Open) } else { Ok(found) }
}

fn finish(operator: &Operator, result: Result<Tensor, Trouble>) -> Answer {
    match result {
        Ok(tensor) => Some(Ok(vec![tensor])),
        Err(Trouble::Open) => undecided(operator),
        Err(Trouble::Tensor(error)) => Some(Err(super::invalid(operator, error.to_string()))),
        Err(Trouble::Shapes) => Some(Err(super::invalid(operator, "shapes that do not broadcast"))),
    }
}

fn undecided(operator: &Operator) -> Answer {
    Some(Err(EvaluateError::Unsupported {
        operator: operator.op_type.to_string(),
        reason: "ONNX leaves open what an element of the result is".to_owned(),
    }))
}

/// Operators of any number of operands, from the left; each step in double precision.
fn many(operator: &Operator, inputs: &[Option<Tensor>], pair: Pair) -> Answer {
    let operands: Vec<&Tensor> = inputs.iter().map(Option::as_ref).collect::<Option<_>>()?;
    let first = *operands.first()?;
    if operands.iter().any(|tensor| tensor.dtype() != first.dtype()) {
        return None;
    }
    let wide = |tensor: &Tensor| Tensor::from_f64(DType::F64, tensor.dims(), &tensor.to_f64()?);
    let fold = || -> Result<Tensor, Trouble> {
        let mut total = wide(first)?;
        for other in operands.iter().skip(1) {
            total = paired(&total, &wide(other)?, pair)?;
        }
        let share = if operator.is("Mean") {
            operands.len() as f64
        } else {
            1.0
        };
        let values: Vec<f64> = total.to_f64()?.into_iter().map(|v| v / share).collect();
        Ok(Tensor::from_f64(first.dtype(), total.dims(), &values)?)
    };
    finish(operator, fold())
}

fn compared(operator: &Operator, inputs: &[Option<Tensor>], test: fn(f64, f64) -> bool) -> Answer {
    let (a, b) = (operand(inputs, 0)?, operand(inputs, 1)?);
    if inputs.len() != 2 || a.dtype() != b.dtype() {
        return None;
    }
    let Some(dims) = broadcast::shape(&[a.dims(), b.dims()]) else {
        return finish(operator, Err(Trouble::Shapes));
    };
    let (left, right) = (Numbers::of(a).ok()?, Numbers::of(b).ok()?);
    let values: Vec<bool> = Odometer::new(&dims, [a.dims(), b.dims()])
        .map(|[i, j]| test(left.at(i), right.at(j)))
        .collect();
    single(operator, Tensor::from_bools(&dims, &values))
}

/// NaN stays NaN. Bounds in the wrong order, NaN as a bound, and which zero comes out where both stand are left open.
fn clip(operator: &Operator, version: i64, inputs: &[Option<Tensor>]) -> Answer {
    let data = operand(inputs, 0)?;
    let bound = |slot: usize, name: &str| -> Option<Option<f64>> {
        if version < 11 {
            return Some(operator.float(name).map(f64::from));
        }
        match operand(inputs, slot) {
            None => Some(None),
            Some(tensor) => tensor.single_f64().map(Some),
        }
    };
    let (low, high) = (bound(1, "min")?, bound(2, "max")?);
    let zeros = |bound: Option<f64>| bound == Some(0.0);
    let open = low.zip(high).is_some_and(|(low, high)| low > high)
        || [low, high].into_iter().flatten().any(f64::is_nan)
        || (zeros(low) || zeros(high))
            && data.to_f64().ok()?.contains(&0.0)
            && mixed_zeros(data, [low, high])?;
    if open {
        return undecided(operator);
    }
    single(
        operator,
        mapped(data, &move |x| {
            let x = low.filter(|low| x < *low).unwrap_or(x);
            high.filter(|high| x > *high).unwrap_or(x)
        }),
    )
}

/// Whether zeros of both signs stand among the elements and the bounds.
fn mixed_zeros(data: &Tensor, bounds: [Option<f64>; 2]) -> Option<bool> {
    let elements = data.to_f64().ok()?;
    let mut zeros = elements
        .into_iter()
        .chain(bounds.into_iter().flatten())
        .filter(|x| *x == 0.0)
        .map(f64::is_sign_negative);
    let first = zeros.next()?;
    Some(zeros.any(|sign| sign != first))
}
