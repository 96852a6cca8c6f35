//! Indices from the end of an axis, which tract does not count in the operators on several axes at once; one-hot rows of indices that
//! are none.

use super::Rule;
use super::site::{ENGINE_DOMAIN, Site};
use crate::ir::{DType, EditError, Operator, Tensor, ValueId};

pub(super) const RULES: &[Rule] = &[
    ("", "GatherND", from_front),
    ("", "OneHot", one_hot),
    ("", "ScatterND", from_front),
];

/// The second value where an index says so, the first elsewhere: each index against every place.
fn one_hot(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(indices), Some(depth), Some(values)) = (site.input(0), site.input(1), site.input(2)) else {
        return Ok(false);
    };
    let depth = site
        .constant(depth)
        .and_then(|depth| depth.to_f64().ok()?.first().copied());
    let (Some(depth), Some(rank), Some(DType::I64)) = (depth, site.rank(indices), site.dtype(indices)) else {
        return Ok(false);
    };
    let axis = site.int("axis", -1);
    let axis = if axis < 0 { axis + rank as i64 + 1 } else { axis };
    let Some(behind) = usize::try_from(axis).ok().and_then(|axis| rank.checked_sub(axis)) else {
        return Ok(false);
    };
    let places: Vec<i64> = (0..depth as i64).collect();
    let mut dims = vec![places.len() as u64];
    dims.resize(behind + 1, 1);
    let Ok(places) = Tensor::from_slice(&dims, &places) else {
        return Ok(false);
    };
    let (zero, size) = (site.number(DType::I64, 0.0)?, site.number(DType::I64, depth)?);
    let negative = site.op("Less", &[indices, zero])?;
    let shifted = site.op("Add", &[indices, size])?;
    let counted = site.op("Where", &[negative, shifted, indices])?;
    let column = site.fold_axes("Unsqueeze", counted, &[axis])?;
    let places = site.tensor(places);
    let here = site.op("Equal", &[column, places])?;
    let (first, second) = (
        site.tensor(Tensor::scalar(0i64)),
        site.tensor(Tensor::scalar(1i64)),
    );
    let off = site.node(Operator::new("Gather").with("axis", 0), &[values, first])?;
    let on = site.node(Operator::new("Gather").with("axis", 0), &[values, second])?;
    let y = site.op("Where", &[here, on, off])?;
    site.replace(0, y)?;
    Ok(true)
}

fn from_front(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(data), Some(indices), Some(DType::I64)) = (site.input(0), site.input(1), site.input_dtype(1))
    else {
        return Ok(false);
    };
    let known = site.constant(indices).and_then(|tensor| tensor.to_i64().ok());
    if known.is_some_and(|all| all.iter().all(|index| *index >= 0)) {
        return Ok(false);
    }
    let depth = site.shape(indices).and_then(|shape| shape.last()?.fixed());
    let Some(depth) = depth.filter(|depth| *depth > 0) else {
        return Ok(false);
    };
    let first = site.int("batch_dims", 0);
    let sizes = sizes(site, data, first, depth)?;
    let zero = site.number(DType::I64, 0.0)?;
    let negative = site.op("Less", &[indices, zero])?;
    let shifted = site.op("Add", &[indices, sizes])?;
    let counted = site.op("Where", &[negative, shifted, indices])?;
    let operator = site.with_attributes(
        Operator::new(site.operator.op_type.clone()).in_domain(ENGINE_DOMAIN),
        &[],
    );
    let mut inputs = site.inputs().to_vec();
    if let Some(slot) = inputs.get_mut(1) {
        *slot = Some(counted);
    }
    let made = site.nodes(operator, &inputs, 1)?;
    let Some(y) = made.first() else { return Ok(false) };
    site.replace(0, *y)?;
    Ok(true)
}

/// The sizes of `depth` axes from `first` on.
fn sizes(site: &mut Site<'_>, data: ValueId, first: i64, depth: i64) -> Result<ValueId, EditError> {
    let fixed = site.shape(data).and_then(|shape| {
        let sizes = shape
            .iter()
            .skip(usize::try_from(first).ok()?)
            .take(usize::try_from(depth).ok()?);
        sizes.map(|dim| dim.fixed()).collect::<Option<Vec<i64>>>()
    });
    if let Some(fixed) = fixed {
        return Ok(site.ints(&fixed));
    }
    let shape = site.op("Shape", &[data])?;
    site.slice(shape, &[first], &[first + depth], &[0], &[1])
}
