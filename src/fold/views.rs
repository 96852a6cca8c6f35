//! Operators that keep the elements in their order: the result shares the data.

use super::{Answer, axis_of, invalid, operand, single};
use crate::ir::{Operator, Tensor};

pub(super) fn evaluate(operator: &Operator, version: i64, inputs: &[Option<Tensor>]) -> Answer {
    let data = operand(inputs, 0)?;
    match &*operator.op_type {
        "Identity" => Some(Ok(vec![data.clone()])),
        "Shape" => {
            let dims: Vec<i64> = data.dims().iter().map(|dim| *dim as i64).collect();
            let rank = dims.len() as i64;
            let bound = |value: i64| (if value < 0 { value + rank } else { value }).clamp(0, rank) as usize;
            let start = bound(operator.int("start").unwrap_or(0));
            let end = operator.int("end").map_or(dims.len(), bound);
            Some(Ok(vec![Tensor::vector_i64(
                dims.get(start..end.max(start)).unwrap_or(&[]),
            )]))
        }
        "Size" => Some(Ok(vec![Tensor::scalar(data.elements() as i64)])),
        "Reshape" => {
            let target = match operand(inputs, 1) {
                Some(shape) => shape.to_i64().ok()?,
                None => operator.ints("shape")?.to_vec(),
            };
            match reshape(data, &target, operator.int("allowzero").unwrap_or(0) != 0) {
                Some(dims) => single(operator, data.reshaped(&dims)),
                None => Some(Err(invalid(
                    operator,
                    format!("{:?} does not become {target:?}", data.dims()),
                ))),
            }
        }
        "Flatten" => {
            let axis = operator.int("axis").unwrap_or(1);
            let rank = data.rank() as i64;
            let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
            let (outer, inner) = data.dims().split_at_checked(axis)?;
            single(
                operator,
                data.reshaped(&[outer.iter().product(), inner.iter().product()]),
            )
        }
        "Squeeze" => {
            let axes = axes(operator, version, inputs)?;
            let dims = squeeze(data.dims(), axes.as_deref());
            match dims {
                Some(dims) => single(operator, data.reshaped(&dims)),
                None => Some(Err(invalid(operator, format!("{axes:?} of {:?}", data.dims())))),
            }
        }
        "Unsqueeze" => {
            let axes = axes(operator, version, inputs)??;
            match unsqueeze(data.dims(), &axes) {
                Some(dims) => single(operator, data.reshaped(&dims)),
                None => Some(Err(invalid(operator, format!("{axes:?} of {:?}", data.dims())))),
            }
        }
        _ => None,
    }
}

/// The axes of Squeeze and Unsqueeze: an input from opset 13 on, an attribute before. `Some(None)`: none given.
fn axes(operator: &Operator, version: i64, inputs: &[Option<Tensor>]) -> Option<Option<Vec<i64>>> {
    if version >= 13 {
        return match operand(inputs, 1) {
            Some(axes) => axes.to_i64().ok().map(Some),
            None => Some(None),
        };
    }
    Some(operator.ints("axes").map(<[i64]>::to_vec))
}

fn reshape(data: &Tensor, target: &[i64], allow_zero: bool) -> Option<Vec<u64>> {
    let mut dims = Vec::with_capacity(target.len());
    let mut free = None;
    for (index, size) in target.iter().enumerate() {
        dims.push(match size {
            0 if !allow_zero => *data.dims().get(index)?,
            -1 if free.is_none() => {
                free = Some(index);
                1
            }
            size => u64::try_from(*size).ok()?,
        });
    }
    if let Some(free) = free {
        let known = dims
            .iter()
            .try_fold(1u64, |product, dim| product.checked_mul(*dim))?;
        if known == 0 || !data.elements().is_multiple_of(known) {
            return None;
        }
        *dims.get_mut(free)? = data.elements() / known;
    }
    Some(dims)
}

fn squeeze(dims: &[u64], axes: Option<&[i64]>) -> Option<Vec<u64>> {
    let Some(axes) = axes else {
        return Some(dims.iter().copied().filter(|dim| *dim != 1).collect());
    };
    let mut dropped = vec![false; dims.len()];
    for axis in axes {
        *dropped.get_mut(axis_of(*axis, dims.len())?)? = true;
    }
    if dims
        .iter()
        .zip(&dropped)
        .any(|(dim, dropped)| *dropped && *dim != 1)
    {
        return None;
    }
    Some(
        dims.iter()
            .zip(&dropped)
            .filter(|(_, dropped)| !**dropped)
            .map(|(dim, _)| *dim)
            .collect(),
    )
}

fn unsqueeze(dims: &[u64], axes: &[i64]) -> Option<Vec<u64>> {
    let rank = dims.len() + axes.len();
    let mut added = vec![false; rank];
    for axis in axes {
        let slot = added.get_mut(axis_of(*axis, rank)?)?;
        if std::mem::replace(slot, true) {
            return None;
        }
    }
    let mut rest = dims.iter();
    added
        .iter()
        .map(|added| if *added { Some(1) } else { rest.next().copied() })
        .collect()
}
