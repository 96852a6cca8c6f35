//! Operators that pick elements by indices or conditions, or put them into places: by bytes, for every type of whole bytes.

use super::moves::{MAX_ELEMENTS, pick, plain, product, size, strides};
use super::{Answer, axis_of, broadcast, invalid, operand, single};
use crate::ir::{DType, Operator, Tensor};

pub(super) fn evaluate(operator: &Operator, inputs: &[Option<Tensor>]) -> Answer {
    let data = operand(inputs, 0)?;
    match &*operator.op_type {
        "OneHot" => return one_hot(operator, inputs),
        "EyeLike" => return eye_like(operator, data),
        _ if !plain(data) => return None,
        _ => {}
    }
    match &*operator.op_type {
        "GatherElements" => gather_elements(operator, data, operand(inputs, 1)?),
        "GatherND" => gather_nd(operator, data, operand(inputs, 1)?),
        "Scatter" | "ScatterElements" => {
            scatter_elements(operator, data, operand(inputs, 1)?, operand(inputs, 2)?)
        }
        "ScatterND" => scatter_nd(operator, data, operand(inputs, 1)?, operand(inputs, 2)?),
        "Compress" => compress(operator, data, operand(inputs, 1)?),
        "NonZero" => non_zero(operator, data),
        "ReverseSequence" => reverse_sequence(operator, data, operand(inputs, 1)?),
        "Trilu" => trilu(operator, data, inputs),
        _ => None,
    }
}

/// An index counted from the front, if it is one of `length`.
fn place(index: i64, length: u64) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 {
        index.checked_add(length)?
    } else {
        index
    };
    (0..length).contains(&index).then_some(index as usize)
}

fn out_of_range(operator: &Operator) -> Answer {
    Some(Err(invalid(operator, "an index is not in its axis")))
}

/// For each place of a box of shape `dims`, the offset in `data` with the coordinate on `axis` taken from `indices`.
fn along(data: &Tensor, dims: &[u64], axis: usize, indices: &[i64]) -> Option<Vec<usize>> {
    let steps = strides(data.dims());
    let others: Vec<usize> = (0..dims.len())
        .map(|at| if at == axis { 0 } else { steps[at] })
        .collect();
    broadcast::walk(dims, &others, 0)
        .into_iter()
        .zip(indices)
        .map(|(base, index)| Some(base + place(*index, data.dims()[axis])? * steps[axis]))
        .collect()
}

/// Whether a box of shape `dims` lies in the data but for one axis.
fn inside(data: &Tensor, dims: &[u64], axis: usize) -> bool {
    dims.len() == data.rank()
        && dims
            .iter()
            .zip(data.dims())
            .enumerate()
            .all(|(at, (part, whole))| at == axis || part <= whole)
}

fn gather_elements(operator: &Operator, data: &Tensor, indices: &Tensor) -> Answer {
    let axis = axis_of(operator.int("axis").unwrap_or(0), data.rank())?;
    if !inside(data, indices.dims(), axis) {
        return Some(Err(invalid(operator, "indices of another shape than the data")));
    }
    match along(data, indices.dims(), axis, &indices.to_i64().ok()?) {
        Some(offsets) => single(operator, pick(data, indices.dims(), &offsets)),
        None => out_of_range(operator),
    }
}

/// The start of each slice of `data` that rows of `indices` name behind `batch` common axes, and the elements of such a slice.
fn slices(data: &Tensor, indices: &Tensor, batch: usize) -> Option<(Vec<usize>, usize)> {
    let (last, rows) = indices.dims().split_last()?;
    let depth = usize::try_from(*last).ok()?;
    if batch + depth > data.rank() || batch > rows.len() || data.dims()[..batch] != rows[..batch] {
        return None;
    }
    let steps = strides(data.dims());
    let run = product(&data.dims()[batch + depth..]);
    let per_batch = product(&rows[batch..]);
    let whole = product(&data.dims()[batch..]);
    let numbers = indices.to_i64().ok()?;
    let mut starts = Vec::with_capacity(product(rows));
    for row in 0..product(rows) {
        let mut start = row.checked_div(per_batch).unwrap_or(0) * whole;
        for at in 0..depth {
            let index = *numbers.get(row * depth + at)?;
            start += place(index, data.dims()[batch + at])? * steps[batch + at];
        }
        starts.push(start);
    }
    Some((starts, run))
}

fn gather_nd(operator: &Operator, data: &Tensor, indices: &Tensor) -> Answer {
    let batch = usize::try_from(operator.int("batch_dims").unwrap_or(0)).ok()?;
    let (last, rows) = indices.dims().split_last()?;
    let Some((starts, run)) = slices(data, indices, batch) else {
        return out_of_range(operator);
    };
    let mut dims = rows.to_vec();
    dims.extend_from_slice(data.dims().get(batch + *last as usize..)?);
    let raw = data.raw().ok()?;
    let bytes = run * size(data);
    let mut out = Vec::with_capacity(starts.len() * bytes);
    for start in starts {
        let from = start * size(data);
        out.extend_from_slice(raw.get(from..from + bytes)?);
    }
    single(operator, Tensor::from_raw(data.dtype(), dims, out))
}

/// The reductions of updates are left to nobody: only what replaces elements is a move.
fn replaces(operator: &Operator) -> bool {
    operator
        .string("reduction")
        .is_none_or(|reduction| reduction == "none")
}

fn scatter_elements(operator: &Operator, data: &Tensor, indices: &Tensor, updates: &Tensor) -> Answer {
    let axis = axis_of(operator.int("axis").unwrap_or(0), data.rank())?;
    if !replaces(operator) || updates.dtype() != data.dtype() {
        return None;
    }
    if updates.dims() != indices.dims() || !inside(data, indices.dims(), axis) {
        return Some(Err(invalid(
            operator,
            "indices of another shape than the updates",
        )));
    }
    let Some(offsets) = along(data, indices.dims(), axis, &indices.to_i64().ok()?) else {
        return out_of_range(operator);
    };
    put(operator, data, updates, &offsets, 1)
}

fn scatter_nd(operator: &Operator, data: &Tensor, indices: &Tensor, updates: &Tensor) -> Answer {
    if !replaces(operator) || updates.dtype() != data.dtype() {
        return None;
    }
    let Some((starts, run)) = slices(data, indices, 0) else {
        return out_of_range(operator);
    };
    if updates.elements() as usize != starts.len() * run {
        return Some(Err(invalid(
            operator,
            "updates of another shape than the indices",
        )));
    }
    put(operator, data, updates, &starts, run)
}

/// Runs of updates at these offsets of the data. Where two meet, ONNX does not say which stays.
fn put(operator: &Operator, data: &Tensor, updates: &Tensor, starts: &[usize], run: usize) -> Answer {
    let mut sorted = starts.to_vec();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair.first() == pair.last()) {
        return Some(Err(super::EvaluateError::Unsupported {
            operator: operator.op_type.to_string(),
            reason: "two updates meet in one element".to_owned(),
        }));
    }
    let bytes = run * size(data);
    let mut out = data.raw().ok()?.into_owned();
    let from = updates.raw().ok()?;
    for (row, start) in starts.iter().enumerate() {
        let at = start * size(data);
        out.get_mut(at..at + bytes)?
            .copy_from_slice(from.get(row * bytes..(row + 1) * bytes)?);
    }
    single(
        operator,
        Tensor::from_raw(data.dtype(), data.dims().iter().copied(), out),
    )
}

fn compress(operator: &Operator, data: &Tensor, condition: &Tensor) -> Answer {
    let flat;
    let (data, axis) = match operator.int("axis") {
        Some(axis) => (data, axis_of(axis, data.rank())?),
        None => {
            flat = data.reshaped(&[data.elements()]).ok()?;
            (&flat, 0)
        }
    };
    let length = usize::try_from(data.dims()[axis]).ok()?;
    let flags = condition.to_i64().ok()?;
    let kept: Vec<usize> = (0..length.min(flags.len()))
        .filter(|at| flags[*at] != 0)
        .collect();
    let mut dims = data.dims().to_vec();
    dims[axis] = kept.len() as u64;
    let run = product(&data.dims()[axis + 1..]) * size(data);
    let raw = data.raw().ok()?;
    let mut out = Vec::with_capacity(product(&dims) * size(data));
    for row in 0..product(&data.dims()[..axis]) {
        for at in &kept {
            let from = (row * length + at) * run;
            out.extend_from_slice(raw.get(from..from + run)?);
        }
    }
    single(operator, Tensor::from_raw(data.dtype(), dims, out))
}

/// The coordinates of the elements that are not zero, one column an element. NaN is not zero.
fn non_zero(operator: &Operator, data: &Tensor) -> Answer {
    let found: Vec<usize> = if data.dtype().is_float() {
        let values = data.to_f64().ok()?;
        (0..values.len()).filter(|at| values[*at] != 0.0).collect()
    } else {
        let values = data.to_i64().ok()?;
        (0..values.len()).filter(|at| values[*at] != 0).collect()
    };
    let steps = strides(data.dims());
    let mut out: Vec<i64> = Vec::with_capacity(found.len() * data.rank());
    for (dim, step) in data.dims().iter().zip(&steps) {
        out.extend(found.iter().map(|at| (at / step % *dim as usize) as i64));
    }
    single(
        operator,
        Tensor::from_slice(&[data.rank() as u64, found.len() as u64], &out),
    )
}

fn reverse_sequence(operator: &Operator, data: &Tensor, lengths: &Tensor) -> Answer {
    let axis = |name: &str, default: i64| usize::try_from(operator.int(name).unwrap_or(default)).ok();
    let (time, batch) = (axis("time_axis", 0)?, axis("batch_axis", 1)?);
    if data.rank() < 2 || time + batch != 1 {
        return None;
    }
    let lengths = lengths.to_i64().ok()?;
    let steps = strides(data.dims());
    let limit = i64::try_from(data.dims()[time]).ok()?;
    if lengths.len() as u64 != data.dims()[batch] || lengths.iter().any(|n| !(0..=limit).contains(n)) {
        return Some(Err(invalid(operator, "lengths that do not fit the data")));
    }
    let offsets: Vec<usize> = (0..data.elements() as usize)
        .map(|at| {
            let coordinate = |axis: usize| at / steps[axis] % data.dims()[axis] as usize;
            let (now, length) = (coordinate(time), lengths[coordinate(batch)] as usize);
            if now < length {
                at + (length - 1 - now) * steps[time] - now * steps[time]
            } else {
                at
            }
        })
        .collect();
    single(operator, pick(data, data.dims(), &offsets))
}

fn trilu(operator: &Operator, data: &Tensor, inputs: &[Option<Tensor>]) -> Answer {
    let shift = match operand(inputs, 1) {
        Some(k) => k.single_i64()?,
        None => 0,
    };
    let upper = operator.int("upper").unwrap_or(1) != 0;
    let [.., rows, columns] = data.dims() else {
        return Some(Err(invalid(operator, "fewer than two axes")));
    };
    let (rows, columns) = (*rows as usize, *columns as usize);
    let mut out = data.raw().ok()?.into_owned();
    for (at, element) in out.chunks_exact_mut(size(data)).enumerate() {
        let (row, column) = (
            (at / columns.max(1) % rows.max(1)) as i64,
            (at % columns.max(1)) as i64,
        );
        let above = i128::from(column) - i128::from(row) - i128::from(shift);
        if if upper { above < 0 } else { above > 0 } {
            element.fill(0);
        }
    }
    single(
        operator,
        Tensor::from_raw(data.dtype(), data.dims().iter().copied(), out),
    )
}

/// A tensor of `depth` along a new axis: the second of two values where an index says so, the first elsewhere.
fn one_hot(operator: &Operator, inputs: &[Option<Tensor>]) -> Answer {
    let (indices, depth, values) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?);
    if !plain(values)
        || values.elements() != 2
        || !indices.dtype().is_integer()
        || !depth.dtype().is_integer()
    {
        return None;
    }
    let depth = u64::try_from(depth.single_i64()?)
        .ok()
        .filter(|depth| *depth > 0)?;
    let axis = axis_of(operator.int("axis").unwrap_or(-1), indices.rank() + 1)?;
    let mut dims = indices.dims().to_vec();
    dims.insert(axis, depth);
    dims.iter()
        .try_fold(1u64, |product, dim| product.checked_mul(*dim))
        .filter(|count| *count <= MAX_ELEMENTS)?;
    let numbers = indices.to_i64().ok()?;
    let inner = product(&indices.dims()[axis..]);
    let offsets: Vec<usize> = (0..product(&dims))
        .map(|at| {
            let (column, class) = (at % inner, at / inner % depth as usize);
            let index = numbers[at / inner / depth as usize * inner + column];
            usize::from(place(index, depth) == Some(class))
        })
        .collect();
    single(operator, pick(values, &dims, &offsets))
}

/// Ones on a diagonal.
fn eye_like(operator: &Operator, data: &Tensor) -> Answer {
    let [rows, columns] = data.dims() else {
        return None;
    };
    let dtype = match operator.int("dtype") {
        Some(number) => DType::from_onnx(i32::try_from(number).ok()?)?,
        None => data.dtype(),
    };
    let shift = i128::from(operator.int("k").unwrap_or(0));
    let on = |at: usize| {
        let (row, column) = (at / *columns as usize, at % *columns as usize);
        column as i128 - row as i128 == shift
    };
    let flags: Vec<bool> = (0..product(&[*rows, *columns])).map(on).collect();
    let flags = Tensor::from_bools(data.dims(), &flags).ok()?;
    let cast = Operator::new("Cast").with("to", i64::from(dtype.onnx()));
    super::cast::evaluate(&cast, &[Some(flags)])
}
