//! Operators that move elements: their axes, sizes and indices.

use super::super::call::{Call, axis};
use super::{Family, apart, bad_axis, fixed, product, shown};
use crate::ir::{Dim, Shape};

pub(super) const CHECKS: Family = &[
    ("Concat", concat),
    ("DepthToSpace", |call| blocks(call, true)),
    ("Gather", gather),
    ("GatherElements", same_rank),
    ("Pad", pad),
    ("ReduceL1", reduce),
    ("ReduceL2", reduce),
    ("ReduceLogSum", reduce),
    ("ReduceLogSumExp", reduce),
    ("ReduceMax", reduce),
    ("ReduceMean", reduce),
    ("ReduceMin", reduce),
    ("ReduceProd", reduce),
    ("ReduceSum", reduce),
    ("ReduceSumSquare", reduce),
    ("Reshape", reshape),
    ("ScatterElements", same_rank),
    ("SpaceToDepth", |call| blocks(call, false)),
    ("Split", split),
    ("Squeeze", squeeze),
    ("Tile", tile),
    ("Transpose", transpose),
    ("Unsqueeze", unsqueeze),
];

fn reduce(call: &Call<'_>) -> Option<String> {
    let rank = call.rank(0)?;
    let axes = call.axes("axes", 1)??;
    axes.into_iter().find_map(|at| bad_axis(at, rank, 0))
}

fn concat(call: &Call<'_>) -> Option<String> {
    let shapes: Vec<&Shape> = (0..call.inputs.len())
        .filter_map(|input| call.shape(input))
        .collect();
    let first = shapes.first()?;
    let given = call.int_or("axis", 1);
    if let Some(reason) = bad_axis(given, first.len(), 0) {
        return Some(reason);
    }
    let at = axis(given, first.len())?;
    let odd = |shape: &&&Shape| {
        let others = shape.iter().zip(first.iter()).enumerate();
        shape.len() != first.len() && ![shape, &first].into_iter().any(|shape| may_be_nothing(shape))
            || others
                .filter(|(index, _)| *index != at)
                .any(|(_, (a, b))| apart(a, b))
    };
    let other = shapes.iter().find(odd)?;
    if [*first, *other]
        .iter()
        .any(|shape| shape.contains(&Dim::Fixed(0)))
    {
        return None;
    }
    Some(format!(
        "{} and {} do not join along axis {given}",
        shown(first),
        shown(other)
    ))
}

/// An empty tensor of rank 1 joins anything in some frameworks' exports.
fn may_be_nothing(shape: &Shape) -> bool {
    matches!(shape.as_slice(), [only] if fixed(only).is_none())
}

fn gather(call: &Call<'_>) -> Option<String> {
    let data = call.shape(0)?;
    let given = call.int_or("axis", 0);
    if let Some(reason) = bad_axis(given, data.len(), 0) {
        return Some(reason);
    }
    let size = fixed(data.get(axis(given, data.len())?)?)?;
    let indices = call.tensor(1)?.to_i64().ok()?;
    let outside = indices.iter().find(|index| !(-size..size).contains(*index))?;
    Some(format!(
        "index {outside} is out of range along axis {given} of {}",
        shown(data)
    ))
}

fn same_rank(call: &Call<'_>) -> Option<String> {
    let (data, indices) = (call.shape(0)?, call.shape(1)?);
    (data.len() != indices.len()).then(|| {
        format!(
            "{} and its indices {} have other ranks",
            shown(data),
            shown(indices)
        )
    })
}

fn reshape(call: &Call<'_>) -> Option<String> {
    let input = call.shape(0)?;
    let wanted: Vec<Dim> = match call.ints("shape") {
        Some(shape) => shape.iter().copied().map(Dim::Fixed).collect(),
        None => call.sizes(1)?.into_owned().elements,
    };
    let keep_zero = call.int_or("allowzero", 0) != 0;
    let fails = |why: String| {
        Some(format!(
            "{} does not reshape to {}: {why}",
            shown(input),
            shown(&wanted)
        ))
    };
    let holes = wanted.iter().filter(|dim| **dim == Dim::Fixed(-1)).count();
    if holes > 1 {
        return fails("-1 stands there more than once".to_owned());
    }
    if wanted.iter().any(|dim| dim.fixed().is_some_and(|size| size < -1)) {
        return fails("a size is negative".to_owned());
    }
    let copied = |index: usize| !keep_zero && wanted.get(index) == Some(&Dim::Fixed(0));
    if (input.len()..wanted.len()).any(copied) {
        return fails("0 copies an axis that is not there".to_owned());
    }
    // A copied 0 leaves no elements on either side.
    if (input.iter().enumerate()).any(|(index, dim)| copied(index) && *dim == Dim::Fixed(0)) {
        return None;
    }
    let rest = |dims: &[Dim]| -> Vec<Dim> {
        dims.iter()
            .enumerate()
            .filter(|(index, dim)| !copied(*index) && **dim != Dim::Fixed(-1))
            .map(|(_, dim)| dim.clone())
            .collect()
    };
    let (have, want) = (product(&rest(input))?, product(&rest(&wanted))?);
    let fits = if holes == 1 {
        have % want == 0
    } else {
        have == want
    };
    if fits {
        return None;
    }
    fails(format!("{have} elements do not fill {want}"))
}

fn split(call: &Call<'_>) -> Option<String> {
    let data = call.shape(0)?;
    let given = call.int_or("axis", 0);
    if let Some(reason) = bad_axis(given, data.len(), 0) {
        return Some(reason);
    }
    let size = fixed(data.get(axis(given, data.len())?)?)?;
    let parts = match call.ints("split") {
        Some(parts) => parts.to_vec(),
        None => call.numbers(1)?,
    };
    let sum = parts.iter().try_fold(0i64, |sum, part| sum.checked_add(*part))?;
    (sum != size).then(|| format!("parts of {sum} in all along axis {given} of {}", shown(data)))
}

fn squeeze(call: &Call<'_>) -> Option<String> {
    let shape = call.shape(0)?;
    let axes = call.axes("axes", 1)??;
    axes.into_iter().find_map(|at| {
        bad_axis(at, shape.len(), 0).or_else(|| {
            let dim = shape.get(axis(at, shape.len())?)?;
            fixed(dim)
                .filter(|size| *size > 1)
                .map(|size| format!("axis {at} of {} has size {size}, not 1", shown(shape)))
        })
    })
}

fn unsqueeze(call: &Call<'_>) -> Option<String> {
    let rank = call.rank(0)?;
    let axes = call.axes("axes", 1)??;
    let rank_after = rank + axes.len();
    let outside = axes.iter().find(|at| axis(**at, rank_after).is_none())?;
    Some(format!(
        "axis {outside} is out of range for a result of rank {rank_after}"
    ))
}

fn transpose(call: &Call<'_>) -> Option<String> {
    let (shape, perm) = (call.shape(0)?, call.ints("perm")?);
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    let right = sorted.iter().enumerate().all(|(at, axis)| *axis == at as i64);
    (perm.len() != shape.len() || !right)
        .then(|| format!("{perm:?} is no permutation of the axes of {}", shown(shape)))
}

fn tile(call: &Call<'_>) -> Option<String> {
    if call.schema?.since < 6 {
        return None;
    }
    let (shape, repeats) = (call.shape(0)?, call.sizes(1)?);
    let count = repeats.elements.len();
    (count != shape.len()).then(|| format!("{count} repeats for {}", shown(shape)))
}

fn pad(call: &Call<'_>) -> Option<String> {
    let shape = call.shape(0)?;
    if call.has(3) {
        return None;
    }
    let count = match call.ints("pads") {
        Some(pads) => pads.len(),
        None => call.sizes(1)?.elements.len(),
    };
    (count != 2 * shape.len()).then(|| format!("{count} pads for {}", shown(shape)))
}

fn blocks(call: &Call<'_>, depth: bool) -> Option<String> {
    let block = call.int("blocksize").filter(|block| *block > 0)?;
    let shape = call.shape(0)?;
    let [_, channels, height, width] = shape.as_slice() else {
        return Some(format!("{} is no batch of images", shown(shape)));
    };
    let divides = |dim: &Dim, by: i64| fixed(dim).is_none_or(|size| size % by == 0);
    let fits = if depth {
        divides(channels, block.checked_mul(block)?)
    } else {
        divides(height, block) && divides(width, block)
    };
    (!fits).then(|| format!("{} does not divide into blocks of {block}", shown(shape)))
}
