//! Operators that repeat, pad and rearrange blocks of elements.

use super::moves::{MAX_ELEMENTS, pick, plain, size, strides};
use super::{Answer, axis_of, broadcast, invalid, operand, single};
use crate::ir::{Operator, Tensor};

pub(super) fn evaluate(operator: &Operator, version: i64, inputs: &[Option<Tensor>]) -> Answer {
    let data = operand(inputs, 0)?;
    if !plain(data) {
        return None;
    }
    match &*operator.op_type {
        "Tile" if version >= 6 => tile(operator, data, operand(inputs, 1)?),
        "Pad" => pad(operator, version, data, inputs),
        "DepthToSpace" => depth_to_space(operator, data),
        "SpaceToDepth" => space_to_depth(operator, data),
        _ => None,
    }
}

fn small(dims: &[u64]) -> Option<()> {
    dims.iter()
        .try_fold(1u64, |product, dim| product.checked_mul(*dim))
        .filter(|count| *count <= MAX_ELEMENTS)
        .map(|_| ())
}

/// The offset in the data for each place of the result, from a source coordinate on each axis.
fn by_axes(data: &Tensor, axes: &[Vec<usize>]) -> Vec<usize> {
    let mut offsets = vec![0usize];
    for (places, step) in axes.iter().zip(strides(data.dims())) {
        offsets = offsets
            .iter()
            .flat_map(|base| places.iter().map(move |place| base + place * step))
            .collect();
    }
    offsets
}

fn tile(operator: &Operator, data: &Tensor, repeats: &Tensor) -> Answer {
    let repeats: Vec<u64> = repeats
        .to_i64()
        .ok()?
        .into_iter()
        .map(|n| u64::try_from(n).ok())
        .collect::<Option<_>>()?;
    if repeats.len() != data.rank() {
        return Some(Err(invalid(operator, "one repeat an axis is needed")));
    }
    let dims: Vec<u64> = data
        .dims()
        .iter()
        .zip(&repeats)
        .map(|(dim, n)| dim.checked_mul(*n))
        .collect::<Option<_>>()?;
    small(&dims)?;
    let axes: Vec<Vec<usize>> = dims
        .iter()
        .zip(data.dims())
        .map(|(long, dim)| (0..*long as usize).map(|at| at % *dim as usize).collect())
        .collect();
    single(operator, pick(data, &dims, &by_axes(data, &axes)))
}

/// Where each place of a padded axis comes from; `None` is the pad itself.
fn padded(mode: &str, length: i64, before: i64, after: i64) -> Option<Vec<Option<usize>>> {
    let from = |at: i64| -> Option<Option<usize>> {
        let inside = (0..length).contains(&at);
        Some(match mode {
            _ if inside => Some(at as usize),
            "constant" => None,
            _ if length == 0 => return None,
            "edge" => Some(at.clamp(0, length - 1) as usize),
            "wrap" => Some(at.rem_euclid(length) as usize),
            "reflect" => {
                let period = 2 * (length - 1);
                // Beyond one reflection implementations differ.
                if at <= -length || at > period || period == 0 {
                    return None;
                }
                Some(if at < 0 { -at } else { period - at } as usize)
            }
            _ => return None,
        })
    };
    (-before..length.checked_add(after)?).map(from).collect()
}

fn pad(operator: &Operator, version: i64, data: &Tensor, inputs: &[Option<Tensor>]) -> Answer {
    if version < 2 {
        return None;
    }
    let rank = data.rank();
    let by_input = version >= 11;
    let pads = match by_input {
        true => operand(inputs, 1)?.to_i64().ok()?,
        false => operator.ints("pads")?.to_vec(),
    };
    let axes: Vec<usize> = match operand(inputs, 3).filter(|_| by_input) {
        Some(axes) => axes
            .to_i64()
            .ok()?
            .into_iter()
            .map(|axis| axis_of(axis, rank))
            .collect::<Option<_>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Some(Err(invalid(operator, "two pads an axis are needed")));
    }
    // What negative pads take away meets what the modes repeat in ways that implementations differ in.
    let mode = operator.string("mode").unwrap_or("constant");
    if mode != "constant" && pads.iter().any(|pad| *pad < 0) {
        return None;
    }
    let mut dims = data.dims().to_vec();
    let mut sources: Vec<Vec<Option<usize>>> = Vec::with_capacity(rank);
    for (axis, dim) in data.dims().iter().enumerate() {
        let (mut before, mut after) = (0i64, 0i64);
        for (at, _) in axes.iter().enumerate().filter(|(_, padded)| **padded == axis) {
            before = before.checked_add(*pads.get(at)?)?;
            after = after.checked_add(*pads.get(axes.len() + at)?)?;
        }
        let length = i64::try_from(*dim).ok()?;
        let size = length.checked_add(before)?.checked_add(after)?;
        dims[axis] = u64::try_from(size).ok()?;
        small(&dims[..=axis])?;
        sources.push(padded(mode, length, before, after)?);
    }
    small(&dims)?;
    let value = pad_value(operator, data, inputs, by_input)?;
    let steps = strides(data.dims());
    let mut offsets: Vec<Option<usize>> = vec![Some(0)];
    for (places, step) in sources.iter().zip(&steps) {
        offsets = offsets
            .iter()
            .flat_map(|base| {
                places
                    .iter()
                    .map(move |place| base.zip(*place).map(|(base, place)| base + place * step))
            })
            .collect();
    }
    let raw = data.raw().ok()?;
    let element = size(data);
    let mut out = Vec::with_capacity(offsets.len() * element);
    for offset in offsets {
        match offset {
            Some(at) => out.extend_from_slice(raw.get(at * element..(at + 1) * element)?),
            None => out.extend_from_slice(&value),
        }
    }
    single(operator, Tensor::from_raw(data.dtype(), dims, out))
}

/// The bytes of the element that pads consist of.
fn pad_value(
    operator: &Operator,
    data: &Tensor,
    inputs: &[Option<Tensor>],
    by_input: bool,
) -> Option<Vec<u8>> {
    if by_input {
        return match operand(inputs, 2) {
            Some(value) if value.dtype() == data.dtype() && value.elements() == 1 => {
                Some(value.raw().ok()?.into_owned())
            }
            Some(_) => None,
            None => Some(vec![0; size(data)]),
        };
    }
    match operator.float("value").unwrap_or(0.0) {
        0.0 => Some(vec![0; size(data)]),
        value => {
            let value = Tensor::from_f64(data.dtype(), &[], &[f64::from(value)]).ok()?;
            Some(value.raw().ok()?.into_owned())
        }
    }
}

/// The four axes of the data and the block size.
fn blocks(operator: &Operator, data: &Tensor) -> Option<([usize; 4], usize)> {
    let block = usize::try_from(operator.int("blocksize")?)
        .ok()
        .filter(|b| *b > 0)?;
    let [n, c, h, w] = data.dims() else { return None };
    Some(([*n as usize, *c as usize, *h as usize, *w as usize], block))
}

/// Elements in the order of a permutation of the axes of a finer shape, then in the shape of the result.
fn permuted(operator: &Operator, data: &Tensor, fine: &[usize], perm: &[usize], dims: [usize; 4]) -> Answer {
    let fine: Vec<u64> = fine.iter().map(|dim| *dim as u64).collect();
    let old = strides(&fine);
    let order: Vec<u64> = perm.iter().filter_map(|axis| fine.get(*axis).copied()).collect();
    let steps: Vec<usize> = perm.iter().filter_map(|axis| old.get(*axis).copied()).collect();
    let dims = dims.map(|dim| dim as u64);
    single(operator, pick(data, &dims, &broadcast::walk(&order, &steps, 0)))
}

fn depth_to_space(operator: &Operator, data: &Tensor) -> Answer {
    let ([n, c, h, w], b) = blocks(operator, data)?;
    if c % (b * b) != 0 {
        return Some(Err(invalid(operator, "channels that do not divide into blocks")));
    }
    let rest = c / (b * b);
    let dims = [n, rest, h * b, w * b];
    match operator.string("mode").unwrap_or("DCR") {
        "DCR" => permuted(operator, data, &[n, b, b, rest, h, w], &[0, 3, 4, 1, 5, 2], dims),
        "CRD" => permuted(operator, data, &[n, rest, b, b, h, w], &[0, 1, 4, 2, 5, 3], dims),
        _ => None,
    }
}

fn space_to_depth(operator: &Operator, data: &Tensor) -> Answer {
    let ([n, c, h, w], b) = blocks(operator, data)?;
    if operator.string("mode").is_some_and(|mode| mode != "DCR") {
        return None;
    }
    if h % b != 0 || w % b != 0 {
        return Some(Err(invalid(operator, "sizes that do not divide into blocks")));
    }
    let fine = [n, c, h / b, b, w / b, b];
    permuted(
        operator,
        data,
        &fine,
        &[0, 3, 5, 1, 2, 4],
        [n, c * b * b, h / b, w / b],
    )
}
