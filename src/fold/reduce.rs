//! Operators along axes: reductions, running sums, places of extremes, softmax. Floats are summed in double precision and rounded
//! once; what an extreme among NaN is, and of nothing, is left open.

use super::moves::{pick, product, strides};
use super::numbers::{from_whole, is_float, whole};
use super::{Answer, EvaluateError, axis_of, broadcast, invalid, operand, single};
use crate::ir::{DType, Operator, Tensor};

pub(super) fn evaluate(
    operator: &Operator,
    version: i64,
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Answer {
    let data = operand(inputs, 0)?;
    let numbers = is_float(data.dtype()) || data.dtype().is_integer() && !data.dtype().is_packed();
    if !numbers {
        return None;
    }
    match &*operator.op_type {
        "TopK" => return top_k(operator, version, data, inputs, outputs),
        _ if outputs != 1 => return None,
        "ArgMax" | "ArgMin" => return arg(operator, data),
        "CumSum" => return running(operator, data, operand(inputs, 1)?),
        "Softmax" | "LogSoftmax" | "Hardmax" => return softmax(operator, version, data),
        _ => {}
    }
    let kind = operator.op_type.strip_prefix("Reduce")?;
    if is_float(data.dtype()) {
        let reduce = float(kind)?;
        let values = data.to_f64().ok()?;
        let (dims, rows) = rows(operator, version, data, inputs)?;
        let found: Option<Vec<f64>> = rows.iter().map(|row| reduce(&elements(&values, row))).collect();
        match found {
            Some(found) => single(operator, Tensor::from_f64(data.dtype(), &dims, &found)),
            None => open(operator),
        }
    } else {
        let reduce = integer(kind)?;
        let values = whole(data)?;
        let (dims, rows) = rows(operator, version, data, inputs)?;
        let found: Option<Vec<i128>> = rows.iter().map(|row| reduce(&elements(&values, row))).collect();
        match found.and_then(|found| from_whole(data.dtype(), &dims, &found)) {
            Some(tensor) => Some(Ok(vec![tensor])),
            None => open(operator),
        }
    }
}

fn open(operator: &Operator) -> Answer {
    Some(Err(EvaluateError::Unsupported {
        operator: operator.op_type.to_string(),
        reason: "ONNX leaves open what an element of the result is".to_owned(),
    }))
}

type Sum<T> = fn(&[T]) -> Option<T>;

fn elements<T: Copy>(values: &[T], places: &[usize]) -> Vec<T> {
    places.iter().filter_map(|at| values.get(*at).copied()).collect()
}

/// A sum that keeps what each addition loses.
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut lost) = (0.0f64, 0.0f64);
    for value in values {
        let next = sum + value;
        lost += if sum.abs() >= value.abs() {
            (sum - next) + value
        } else {
            (value - next) + sum
        };
        sum = next;
    }
    if lost.is_finite() { sum + lost } else { sum }
}

fn float(kind: &str) -> Option<Sum<f64>> {
    fn extreme(values: &[f64], wins: fn(&f64, &f64) -> bool) -> Option<f64> {
        let (first, rest) = values.split_first()?;
        let best = rest
            .iter()
            .fold(first, |best, value| if wins(value, best) { value } else { best });
        // NaN, and zeros of both signs.
        let zero = |negative| {
            values
                .iter()
                .any(|v| *v == 0.0 && v.is_sign_negative() == negative)
        };
        let open = values.iter().any(|v| v.is_nan()) || *best == 0.0 && zero(true) && zero(false);
        (!open).then_some(*best)
    }
    /// Relative to the largest element, unless that is infinite.
    fn log_sum_exp(values: &[f64]) -> Option<f64> {
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let most = if most.is_finite() { most } else { 0.0 };
        Some(sum(values.iter().map(|v| (v - most).exp())).ln() + most)
    }
    fn squares(values: &[f64]) -> f64 {
        sum(values.iter().map(|v| v * v))
    }
    Some(match kind {
        "Sum" => |values| Some(sum(values.iter().copied())),
        "Prod" => |values| Some(values.iter().product()),
        "Mean" => |values| (!values.is_empty()).then(|| sum(values.iter().copied()) / values.len() as f64),
        "SumSquare" => |values| Some(squares(values)),
        "L1" => |values| Some(sum(values.iter().map(|v| v.abs()))),
        "L2" => |values| Some(squares(values).sqrt()),
        "LogSum" => |values| Some(sum(values.iter().copied()).ln()),
        "LogSumExp" => log_sum_exp,
        "Max" => |values| extreme(values, |a, b| a > b),
        "Min" => |values| extreme(values, |a, b| a < b),
        _ => return None,
    })
}

fn integer(kind: &str) -> Option<Sum<i128>> {
    Some(match kind {
        "Sum" => |values| values.iter().try_fold(0i128, |sum, v| sum.checked_add(*v)),
        "Prod" => |values| {
            values
                .iter()
                .try_fold(1i128, |product, v| product.checked_mul(*v))
        },
        "SumSquare" => |values| {
            let add = |sum: i128, v: &i128| sum.checked_add(v.checked_mul(*v)?);
            values.iter().try_fold(0, add)
        },
        "L1" => |values| {
            values
                .iter()
                .try_fold(0i128, |sum, v| sum.checked_add(v.checked_abs()?))
        },
        "Max" => |values| values.iter().copied().max(),
        "Min" => |values| values.iter().copied().min(),
        _ => return None,
    })
}

/// A shape and, for each of its elements, the places in the data that it comes from.
type Rows = (Vec<u64>, Vec<Vec<usize>>);

/// What the elements of a reduction's result come from. `None` for a case that is not this module's.
fn rows(operator: &Operator, version: i64, data: &Tensor, inputs: &[Option<Tensor>]) -> Option<Rows> {
    let by_input = version >= if operator.is("ReduceSum") { 13 } else { 18 };
    let axes = match by_input {
        true => operand(inputs, 1).map(|axes| axes.to_i64().ok()),
        false => operator.ints("axes").map(|axes| Some(axes.to_vec())),
    };
    let axes = match axes {
        Some(axes) => axes?,
        None => Vec::new(),
    };
    let reduced: Vec<usize> = if axes.is_empty() {
        if operator.int("noop_with_empty_axes").unwrap_or(0) != 0 {
            // Whether the elements go through the rest of the reduction is not agreed on.
            return None;
        }
        (0..data.rank()).collect()
    } else {
        axes.into_iter()
            .map(|axis| axis_of(axis, data.rank()))
            .collect::<Option<_>>()?
    };
    let keep = operator.int("keepdims").unwrap_or(1) != 0;
    let steps = strides(data.dims());
    let mut dims = Vec::new();
    let (mut inner, mut inner_steps, mut outer, mut outer_steps) = (vec![], vec![], vec![], vec![]);
    for (axis, (dim, step)) in data.dims().iter().zip(&steps).enumerate() {
        if reduced.contains(&axis) {
            inner.push(*dim);
            inner_steps.push(*step);
            if keep {
                dims.push(1);
            }
        } else {
            outer.push(*dim);
            outer_steps.push(*step);
            dims.push(*dim);
        }
    }
    let within = broadcast::walk(&inner, &inner_steps, 0);
    let rows = broadcast::walk(&outer, &outer_steps, 0)
        .into_iter()
        .map(|start| within.iter().map(|at| start + at).collect())
        .collect();
    Some((dims, rows))
}

/// The runs along an axis: for each the places of its elements in the data.
fn lines(data: &Tensor, axis: usize) -> Vec<Vec<usize>> {
    let length = data.dims()[axis] as usize;
    let inner = product(&data.dims()[axis + 1..]);
    (0..product(&data.dims()[..axis]))
        .flat_map(|outer| {
            (0..inner).map(move |column| {
                (0..length)
                    .map(|at| (outer * length + at) * inner + column)
                    .collect()
            })
        })
        .collect()
}

/// How elements of the data compare; `None` where one is NaN.
fn ranked(data: &Tensor) -> Option<Vec<i128>> {
    if !is_float(data.dtype()) {
        return whole(data);
    }
    let rank = |value: f64| {
        // Both zeros are one number.
        let bits = i128::from((value + 0.0).to_bits() as i64);
        (!value.is_nan()).then_some(if bits < 0 {
            i128::from(i64::MIN) - bits
        } else {
            bits
        })
    };
    data.to_f64().ok()?.into_iter().map(rank).collect()
}

fn arg(operator: &Operator, data: &Tensor) -> Answer {
    let axis = axis_of(operator.int("axis").unwrap_or(0), data.rank())?;
    let last = operator.int("select_last_index").unwrap_or(0) != 0;
    let Some(values) = ranked(data) else {
        return open(operator);
    };
    let sign = if operator.is("ArgMax") { 1 } else { -1 };
    let found: Option<Vec<i64>> = lines(data, axis)
        .iter()
        .map(|line| {
            let mut best = (0usize, sign * values.get(*line.first()?)?);
            for (at, place) in line.iter().enumerate().skip(1) {
                let value = sign * values.get(*place)?;
                if value > best.1 || last && value == best.1 {
                    best = (at, value);
                }
            }
            Some(best.0 as i64)
        })
        .collect();
    let mut dims = data.dims().to_vec();
    if operator.int("keepdims").unwrap_or(1) != 0 {
        dims[axis] = 1;
    } else {
        dims.remove(axis);
    }
    match found {
        Some(found) => single(operator, Tensor::from_slice(&dims, &found)),
        None => open(operator),
    }
}

fn top_k(
    operator: &Operator,
    version: i64,
    data: &Tensor,
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Answer {
    let axis = axis_of(operator.int("axis").unwrap_or(-1), data.rank())?;
    let count = match version >= 10 {
        true => operand(inputs, 1)?.single_i64()?,
        false => operator.int("k")?,
    };
    let count = usize::try_from(count).ok()?;
    if count as u64 > data.dims()[axis] {
        return Some(Err(invalid(operator, format!("{count} of {:?}", data.dims()))));
    }
    // Unsorted, any order is right.
    if operator.int("sorted").unwrap_or(1) == 0 {
        return open(operator);
    }
    let Some(values) = ranked(data) else {
        return open(operator);
    };
    let sign = if operator.int("largest").unwrap_or(1) != 0 {
        -1
    } else {
        1
    };
    let mut dims = data.dims().to_vec();
    dims[axis] = count as u64;
    let inner = product(&data.dims()[axis + 1..]);
    let mut places = vec![0usize; product(&dims)];
    let mut indices = vec![0i64; product(&dims)];
    for (number, line) in lines(data, axis).into_iter().enumerate() {
        let mut order: Vec<usize> = (0..line.len()).collect();
        // Equal elements keep their order.
        order.sort_by_key(|at| sign * line.get(*at).and_then(|place| values.get(*place)).unwrap_or(&0));
        let (outer, column) = (number / inner, number % inner);
        for (at, index) in order.into_iter().take(count).enumerate() {
            let to = (outer * count + at) * inner + column;
            places[to] = line[index];
            indices[to] = index as i64;
        }
    }
    let found = pick(data, &dims, &places).and_then(|values| {
        let indices = Tensor::from_slice(&dims, &indices)?;
        Ok(vec![values, indices].into_iter().take(outputs).collect())
    });
    Some(found.map_err(|error| invalid(operator, error.to_string())))
}

fn running(operator: &Operator, data: &Tensor, axis: &Tensor) -> Answer {
    let axis = axis_of(axis.single_i64()?, data.rank())?;
    let flag = |name: &str| operator.int(name).unwrap_or(0) != 0;
    let (exclusive, reverse) = (flag("exclusive"), flag("reverse"));
    let mut lines = lines(data, axis);
    if reverse {
        lines.iter_mut().for_each(|line| line.reverse());
    }
    fn sums<T: Copy>(
        values: &[T],
        lines: &[Vec<usize>],
        exclusive: bool,
        zero: T,
        add: fn(T, T) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut out = values.to_vec();
        for line in lines {
            let mut sum = zero;
            for place in line {
                let before = sum;
                sum = add(sum, *values.get(*place)?)?;
                *out.get_mut(*place)? = if exclusive { before } else { sum };
            }
        }
        Some(out)
    }
    if is_float(data.dtype()) {
        let values = data.to_f64().ok()?;
        let found = sums(&values, &lines, exclusive, 0.0, |a, b| Some(a + b))?;
        return single(operator, Tensor::from_f64(data.dtype(), data.dims(), &found));
    }
    let found = sums(&whole(data)?, &lines, exclusive, 0, i128::checked_add);
    match found.and_then(|found| from_whole(data.dtype(), data.dims(), &found)) {
        Some(tensor) => Some(Ok(vec![tensor])),
        None => open(operator),
    }
}

/// Over one axis from opset 13 on, over all from an axis on before.
fn softmax(operator: &Operator, version: i64, data: &Tensor) -> Answer {
    if !is_float(data.dtype()) {
        return None;
    }
    let flat;
    let (view, axis) = if version >= 13 {
        (data, axis_of(operator.int("axis").unwrap_or(-1), data.rank())?)
    } else {
        let axis = axis_of(operator.int("axis").unwrap_or(1), data.rank())?;
        let (outer, inner) = data.dims().split_at(axis);
        flat = data
            .reshaped(&[outer.iter().product(), inner.iter().product()])
            .ok()?;
        (&flat, 1)
    };
    let mut values = view.to_f64().ok()?;
    let at = |values: &[f64], place: &usize| values.get(*place).copied().unwrap_or(f64::NAN);
    for line in lines(view, axis) {
        if operator.is("Hardmax") {
            if line.iter().any(|place| at(&values, place).is_nan()) {
                return open(operator);
            }
            let mut best = *line.first()?;
            for place in &line {
                if at(&values, place) > at(&values, &best) {
                    best = *place;
                }
            }
            line.iter()
                .for_each(|place| values[*place] = f64::from(u8::from(*place == best)));
            continue;
        }
        let most = line
            .iter()
            .map(|place| at(&values, place))
            .fold(f64::NEG_INFINITY, f64::max);
        let total = sum(line.iter().map(|place| (at(&values, place) - most).exp()));
        for place in &line {
            let less = at(&values, place) - most;
            values[*place] = if operator.is("Softmax") {
                less.exp() / total
            } else {
                less - total.ln()
            };
        }
    }
    single(operator, Tensor::from_f64(data.dtype(), data.dims(), &values))
}

/// Numbers from `start` in steps, as many as lie before the limit.
pub(super) fn float_range(operator: &Operator, inputs: &[Option<Tensor>]) -> Answer {
    let dtype = operand(inputs, 0)?.dtype();
    if !matches!(dtype, DType::F32 | DType::F64) || !operator.is("Range") {
        return None;
    }
    let number = |index| operand(inputs, index).and_then(Tensor::single_f64);
    let (start, limit, delta) = (number(0)?, number(1)?, number(2)?);
    let count = ((limit - start) / delta).ceil().max(0.0);
    if !count.is_finite() || count > (1u64 << 24) as f64 {
        return None;
    }
    let values: Vec<f64> = (0..count as u64).map(|at| start + at as f64 * delta).collect();
    single(operator, Tensor::from_f64(dtype, &[values.len() as u64], &values))
}
