//! Operators that move elements without looking at them: by bytes, for every type of whole bytes.

use bytes::Bytes;

use super::{Answer, axis_of, broadcast, invalid, operand, single};
use crate::ir::{DType, Operator, Tensor, TensorError};

/// Elements that a repetition may make.
pub(super) const MAX_ELEMENTS: u64 = 1 << 28;

pub(super) fn evaluate(
    operator: &Operator,
    version: i64,
    inputs: &[Option<Tensor>],
    outputs: usize,
) -> Answer {
    let first = operand(inputs, 0)?;
    match &*operator.op_type {
        "ConstantOfShape" => return constant_of_shape(operator, first),
        "Where" => {
            let value = operand(inputs, 1)?;
            return if plain(value) {
                select(operator, inputs)
            } else {
                None
            };
        }
        _ if !plain(first) => return None,
        _ => {}
    }
    match &*operator.op_type {
        "Transpose" => transpose(operator, first),
        "Concat" => concat(operator, version, inputs),
        "Slice" => slice(operator, version, inputs),
        "Gather" => gather(operator, inputs),
        "Expand" => expand(operator, first, operand(inputs, 1)?),
        "Split" => split(operator, version, inputs, outputs),
        _ => None,
    }
}

pub(super) fn plain(tensor: &Tensor) -> bool {
    tensor.dtype() != DType::String && !tensor.dtype().is_packed()
}

pub(super) fn size(tensor: &Tensor) -> usize {
    tensor.dtype().bits() / 8
}

pub(super) fn strides(dims: &[u64]) -> Vec<usize> {
    let mut strides = vec![1usize; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis] as usize;
    }
    strides
}

pub(super) fn product(dims: &[u64]) -> usize {
    dims.iter().product::<u64>() as usize
}

/// Elements at these offsets, in order.
pub(super) fn pick(data: &Tensor, dims: &[u64], offsets: &[usize]) -> Result<Tensor, TensorError> {
    fn copy<const N: usize>(raw: &[u8], offsets: &[usize]) -> Vec<u8> {
        let elements = raw.as_chunks::<N>().0;
        let mut out = Vec::with_capacity(offsets.len() * N);
        for offset in offsets {
            if let Some(element) = elements.get(*offset) {
                out.extend_from_slice(element);
            }
        }
        out
    }
    let raw = data.raw()?;
    let bytes = match size(data) {
        1 => copy::<1>(&raw, offsets),
        2 => copy::<2>(&raw, offsets),
        4 => copy::<4>(&raw, offsets),
        8 => copy::<8>(&raw, offsets),
        _ => copy::<16>(&raw, offsets),
    };
    Tensor::from_raw(data.dtype(), dims.iter().copied(), bytes)
}

fn transpose(operator: &Operator, data: &Tensor) -> Answer {
    let rank = data.rank();
    let perm: Vec<usize> = match operator.ints("perm") {
        Some(perm) => perm
            .iter()
            .map(|axis| usize::try_from(*axis).ok().filter(|axis| *axis < rank))
            .collect::<Option<_>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return Some(Err(invalid(
            operator,
            format!("{perm:?} is no permutation of {rank} axes"),
        )));
    }
    let dims: Vec<u64> = perm.iter().map(|axis| data.dims()[*axis]).collect();
    let old = strides(data.dims());
    let strides: Vec<usize> = perm.iter().map(|axis| old[*axis]).collect();
    single(operator, permute(data, &dims, &strides))
}

/// Copies a permutation of axes. Axes whose order stays are merged first; then, if the last axis of the result is not the
/// last of the data, tiles of both are copied so that neither side is read or written a cache line at a time for one element.
fn permute(data: &Tensor, dims: &[u64], strides: &[usize]) -> Result<Tensor, TensorError> {
    let element = size(data);
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (dim, stride) in dims.iter().zip(strides).filter(|(dim, _)| **dim != 1) {
        let dim = *dim as usize;
        match merged.last_mut() {
            Some((last, previous)) if *previous == stride * dim => {
                (*last, *previous) = (*last * dim, *stride)
            }
            _ => merged.push((dim, *stride)),
        }
    }
    let raw = data.raw()?;
    let (inner, inner_stride) = merged.last().copied().unwrap_or((1, 1));
    if merged.len() <= 1 && inner_stride == 1 {
        return Tensor::from_raw(data.dtype(), dims.iter().copied(), data.raw_bytes()?);
    }
    let mut out = vec![0u8; raw.len()];
    let outer = &merged[..merged.len().saturating_sub(1)];
    if inner_stride == 1 {
        let run = inner * element;
        let rows: Vec<u64> = outer.iter().map(|(dim, _)| *dim as u64).collect();
        let steps: Vec<usize> = outer.iter().map(|(_, stride)| *stride).collect();
        for (target, offset) in out
            .chunks_exact_mut(run.max(1))
            .zip(broadcast::walk(&rows, &steps, 0))
        {
            target.copy_from_slice(&raw[offset * element..offset * element + run]);
        }
        return Tensor::from_raw(data.dtype(), dims.iter().copied(), out);
    }
    // The axis of the result that runs over neighbours in the data.
    let fast = outer.iter().position(|(_, stride)| *stride == 1).unwrap_or(0);
    let targets = strides_of(&merged);
    let rest: Vec<usize> = (0..outer.len()).filter(|axis| *axis != fast).collect();
    let rest_dims: Vec<u64> = rest.iter().map(|axis| merged[*axis].0 as u64).collect();
    let sources = broadcast::walk(
        &rest_dims,
        &rest.iter().map(|axis| merged[*axis].1).collect::<Vec<_>>(),
        0,
    );
    let places = broadcast::walk(
        &rest_dims,
        &rest.iter().map(|axis| targets[*axis]).collect::<Vec<_>>(),
        0,
    );
    let (count, fast_stride, fast_target) = outer
        .get(fast)
        .map_or((1, 1, 1), |(dim, stride)| (*dim, *stride, targets[fast]));
    let tiles = Tiles {
        places: sources.into_iter().zip(places).collect(),
        rows: (count, fast_stride, fast_target),
        columns: (inner, inner_stride),
    };
    match element {
        1 => tiles.copy::<[u8; 1]>(&raw, &mut out),
        2 => tiles.copy::<[u8; 2]>(&raw, &mut out),
        4 => tiles.copy::<[u8; 4]>(&raw, &mut out),
        8 => tiles.copy::<[u8; 8]>(&raw, &mut out),
        16 => tiles.copy::<[u8; 16]>(&raw, &mut out),
        _ => {
            return Err(TensorError::Type {
                expected: "elements of whole bytes",
                found: data.dtype(),
            });
        }
    }
    Tensor::from_raw(data.dtype(), dims.iter().copied(), out)
}

/// Planes whose rows become columns.
struct Tiles {
    /// The first elements of each plane, in the data and in the result.
    places: Vec<(usize, usize)>,
    /// How many rows, and how far apart they are in the data and in the result.
    rows: (usize, usize, usize),
    /// How many columns, neighbours in the result, and how far apart they are in the data.
    columns: (usize, usize),
}

impl Tiles {
    /// Copies elements that take as much as `T`, tile by tile.
    fn copy<T: bytemuck::Pod>(&self, raw: &[u8], out: &mut [u8]) {
        const TILE: usize = 32;
        let (data, result): (&[T], &mut [T]) = (bytemuck::cast_slice(raw), bytemuck::cast_slice_mut(out));
        let ((rows, from_row, to_row), (columns, from_column)) = (self.rows, self.columns);
        for (source, place) in &self.places {
            for row in (0..rows).step_by(TILE) {
                for column in (0..columns).step_by(TILE) {
                    for i in row..(row + TILE).min(rows) {
                        let from = source + i * from_row;
                        let to = place + i * to_row;
                        for j in column..(column + TILE).min(columns) {
                            result[to + j] = data[from + j * from_column];
                        }
                    }
                }
            }
        }
    }
}

fn strides_of(merged: &[(usize, usize)]) -> Vec<usize> {
    strides(&merged.iter().map(|(dim, _)| *dim as u64).collect::<Vec<_>>())
}

fn concat(operator: &Operator, version: i64, inputs: &[Option<Tensor>]) -> Answer {
    let parts: Vec<&Tensor> = inputs.iter().map(Option::as_ref).collect::<Option<_>>()?;
    let first = *parts.first()?;
    let axis = match operator.int("axis") {
        Some(axis) => axis,
        None if version < 4 => 1,
        None => return None,
    };
    let axis = axis_of(axis, first.rank())?;
    let fits = |part: &&Tensor| {
        part.dtype() == first.dtype()
            && part.rank() == first.rank()
            && part
                .dims()
                .iter()
                .zip(first.dims())
                .enumerate()
                .all(|(at, (a, b))| at == axis || a == b)
    };
    if !parts.iter().all(fits) {
        return Some(Err(invalid(operator, "the parts differ in type or shape")));
    }
    let mut dims = first.dims().to_vec();
    dims[axis] = parts.iter().map(|part| part.dims()[axis]).sum();
    let outer = product(&dims[..axis]);
    let element = size(first);
    let mut raws = Vec::with_capacity(parts.len());
    for part in &parts {
        raws.push((part.raw().ok()?, product(&part.dims()[axis..]) * element));
    }
    let mut out = Vec::with_capacity(product(&dims) * element);
    for row in 0..outer {
        for (raw, run) in &raws {
            out.extend_from_slice(raw.get(row * run..(row + 1) * run)?);
        }
    }
    single(operator, Tensor::from_raw(first.dtype(), dims, out))
}

fn slice(operator: &Operator, version: i64, inputs: &[Option<Tensor>]) -> Answer {
    let data = operand(inputs, 0)?;
    let list = |index: usize, name: &str| match version >= 10 {
        true => operand(inputs, index).map(|tensor| tensor.to_i64().ok()),
        false => operator.ints(name).map(|values| Some(values.to_vec())),
    };
    let (starts, ends) = (list(1, "starts")??, list(2, "ends")??);
    let axes = match list(3, "axes") {
        Some(axes) => axes?,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match operand(inputs, 4).filter(|_| version >= 10) {
        Some(steps) => steps.to_i64().ok()?,
        None => vec![1; starts.len()],
    };
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Some(Err(invalid(
            operator,
            "starts, ends, axes and steps differ in length",
        )));
    }
    let mut dims = data.dims().to_vec();
    let mut strides: Vec<isize> = strides(&dims).into_iter().map(|stride| stride as isize).collect();
    let mut origin = 0isize;
    let mut seen = vec![false; dims.len()];
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let axis = axis_of(*axis, dims.len())?;
        if *step == 0 || std::mem::replace(&mut seen[axis], true) {
            return Some(Err(invalid(
                operator,
                "a step of 0 or an axis that is named twice",
            )));
        }
        let size = i64::try_from(dims[axis]).ok()?;
        let from_front = |value: i64| {
            if value < 0 {
                value.saturating_add(size)
            } else {
                value
            }
        };
        let (low, high) = if *step > 0 { (0, size) } else { (-1, size - 1) };
        let start = from_front(*start).clamp(low.max(0), high.max(0));
        let end = from_front(*end).clamp(low, high);
        let distance = i128::from(end) - i128::from(start);
        let step = i128::from(*step);
        let count = if size == 0 || (distance < 0) != (step < 0) || distance == 0 {
            0
        } else {
            (distance.abs() + step.abs() - 1) / step.abs()
        };
        dims[axis] = count as u64;
        origin += start as isize * strides[axis];
        // A step beyond the axis is only taken by a slice of at most one element.
        strides[axis] *= if count > 1 { step as isize } else { 0 };
    }
    let offsets = walk_signed(&dims, &strides, origin)?;
    single(operator, pick(data, &dims, &offsets))
}

fn walk_signed(dims: &[u64], strides: &[isize], origin: isize) -> Option<Vec<usize>> {
    if dims.contains(&0) {
        return Some(Vec::new());
    }
    let mut offsets = vec![origin];
    for (dim, stride) in dims.iter().zip(strides) {
        offsets = offsets
            .iter()
            .flat_map(|base| (0..*dim as isize).map(move |index| base + index * stride))
            .collect();
    }
    offsets
        .into_iter()
        .map(|offset| usize::try_from(offset).ok())
        .collect()
}

fn gather(operator: &Operator, inputs: &[Option<Tensor>]) -> Answer {
    let (data, indices) = (operand(inputs, 0)?, operand(inputs, 1)?);
    let axis = axis_of(operator.int("axis").unwrap_or(0), data.rank())?;
    let length = i64::try_from(data.dims()[axis]).ok()?;
    let wanted = indices.to_i64().ok()?;
    if wanted.iter().any(|index| !(-length..length).contains(index)) {
        return Some(Err(invalid(
            operator,
            format!("an index is not in an axis of {length}"),
        )));
    }
    let (outer, inner) = (product(&data.dims()[..axis]), product(&data.dims()[axis + 1..]));
    let mut dims = data.dims()[..axis].to_vec();
    dims.extend_from_slice(indices.dims());
    dims.extend_from_slice(&data.dims()[axis + 1..]);
    if dims
        .iter()
        .try_fold(1u64, |product, dim| product.checked_mul(*dim))?
        > MAX_ELEMENTS
    {
        return None;
    }
    let run = inner * size(data);
    let raw = data.raw().ok()?;
    let mut out = Vec::with_capacity(outer * wanted.len() * run);
    for row in 0..outer {
        for index in &wanted {
            let index = if *index < 0 { index + length } else { *index } as usize;
            let start = (row * length as usize + index) * run;
            out.extend_from_slice(raw.get(start..start + run)?);
        }
    }
    single(operator, Tensor::from_raw(data.dtype(), dims, out))
}

fn expand(operator: &Operator, data: &Tensor, shape: &Tensor) -> Answer {
    let target: Vec<u64> = shape
        .to_i64()
        .ok()?
        .into_iter()
        .map(|dim| u64::try_from(dim).ok())
        .collect::<Option<_>>()?;
    let Some(dims) = broadcast::shape(&[data.dims(), &target]) else {
        return Some(Err(invalid(
            operator,
            format!("{:?} does not expand to {target:?}", data.dims()),
        )));
    };
    if dims
        .iter()
        .try_fold(1u64, |product, dim| product.checked_mul(*dim))?
        > MAX_ELEMENTS
    {
        return None;
    }
    single(
        operator,
        pick(data, &dims, &broadcast::indices(data.dims(), &dims)),
    )
}

fn select(operator: &Operator, inputs: &[Option<Tensor>]) -> Answer {
    let (condition, x, y) = (operand(inputs, 0)?, operand(inputs, 1)?, operand(inputs, 2)?);
    if x.dtype() != y.dtype() || condition.dtype() != DType::Bool {
        return Some(Err(invalid(operator, "operands of other types")));
    }
    let Some(dims) = broadcast::shape(&[condition.dims(), x.dims(), y.dims()]) else {
        return Some(Err(invalid(operator, "shapes that do not broadcast")));
    };
    if dims
        .iter()
        .try_fold(1u64, |product, dim| product.checked_mul(*dim))?
        > MAX_ELEMENTS
    {
        return None;
    }
    let element = size(x);
    let (flags, a, b) = (condition.raw().ok()?, x.raw().ok()?, y.raw().ok()?);
    let places = [condition, x, y].map(|tensor| broadcast::indices(tensor.dims(), &dims));
    let mut out = Vec::with_capacity(product(&dims) * element);
    for ((flag, i), j) in places[0].iter().zip(&places[1]).zip(&places[2]) {
        let (raw, at) = if *flags.get(*flag)? != 0 {
            (&a, *i)
        } else {
            (&b, *j)
        };
        out.extend_from_slice(raw.get(at * element..(at + 1) * element)?);
    }
    single(operator, Tensor::from_raw(x.dtype(), dims, out))
}

fn constant_of_shape(operator: &Operator, shape: &Tensor) -> Answer {
    let dims: Vec<u64> = shape
        .to_i64()
        .ok()?
        .into_iter()
        .map(|dim| u64::try_from(dim).ok())
        .collect::<Option<_>>()?;
    let count = dims
        .iter()
        .try_fold(1u64, |product, dim| product.checked_mul(*dim))
        .filter(|n| *n <= MAX_ELEMENTS)?;
    let zero = Tensor::scalar(0f32);
    let value = operator.tensor("value").unwrap_or(&zero);
    if !plain(value) || value.elements() != 1 {
        return None;
    }
    let element = value.raw_bytes().ok()?;
    single(
        operator,
        Tensor::from_raw(value.dtype(), dims, Bytes::from(element.repeat(count as usize))),
    )
}

fn split(operator: &Operator, version: i64, inputs: &[Option<Tensor>], outputs: usize) -> Answer {
    let data = operand(inputs, 0)?;
    let axis = axis_of(operator.int("axis").unwrap_or(0), data.rank())?;
    let length = data.dims()[axis];
    let given = match version >= 13 {
        true => operand(inputs, 1).map(|sizes| sizes.to_i64().ok()),
        false => operator.ints("split").map(|sizes| Some(sizes.to_vec())),
    };
    let sizes: Vec<u64> = match given {
        Some(sizes) => sizes?
            .into_iter()
            .map(|size| u64::try_from(size).ok())
            .collect::<Option<_>>()?,
        None => {
            // Equal parts, the last one smaller from opset 18 on.
            let count = outputs as u64;
            let part = length.div_ceil(count.max(1));
            let sizes: Vec<u64> = (0..count)
                .map(|at| part.min(length.saturating_sub(at * part)))
                .collect();
            if version < 18 && !length.is_multiple_of(count.max(1)) {
                return Some(Err(invalid(
                    operator,
                    format!("{length} does not split into {count} equal parts"),
                )));
            }
            sizes
        }
    };
    if sizes.len() != outputs
        || sizes.iter().try_fold(0u64, |sum, size| sum.checked_add(*size)) != Some(length)
    {
        return Some(Err(invalid(
            operator,
            format!("{sizes:?} is no split of {length} into {outputs} parts"),
        )));
    }
    let (outer, inner) = (
        product(&data.dims()[..axis]),
        product(&data.dims()[axis + 1..]) * size(data),
    );
    let raw = data.raw().ok()?;
    let mut start = 0usize;
    let mut parts = Vec::with_capacity(outputs);
    for part in sizes {
        let mut dims = data.dims().to_vec();
        dims[axis] = part;
        let run = part as usize * inner;
        let mut out = Vec::with_capacity(outer * run);
        for row in 0..outer {
            let at = (row * length as usize + start) * inner;
            out.extend_from_slice(raw.get(at..at + run)?);
        }
        start += part as usize;
        match Tensor::from_raw(data.dtype(), dims, out) {
            Ok(tensor) => parts.push(tensor),
            Err(error) => return Some(Err(invalid(operator, error.to_string()))),
        }
    }
    Some(Ok(parts))
}
