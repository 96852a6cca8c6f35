//! Reading and writing elements at indices.

use super::super::call::{Call, Facts, Rule, axis};
use super::elementwise::same_shape;
use crate::ir::{Dim, ShapeContent};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Gather", gather),
    ("GatherElements", |call, facts| {
        facts.shape(0, call.shape(1)?.iter().cloned());
        Some(())
    }),
    ("GatherND", gather_nd),
    ("GridSample", grid_sample),
    ("OneHot", one_hot),
    ("Scatter", same_shape),
    ("ScatterElements", same_shape),
    ("ScatterND", same_shape),
];

pub(super) fn gather(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let (data, indices) = (call.shape(0)?, call.shape(1)?);
    let at = axis(call.int_or("axis", 0), data.len())?;
    let (before, after) = (data.get(..at)?, data.get(at + 1..)?);
    facts.shape(0, before.iter().chain(indices).chain(after).cloned());
    if data.len() != 1 || indices.len() > 1 {
        return None;
    }
    let (sizes, indices) = (call.sizes(0)?, call.sizes(1)?);
    let elements = indices.elements.iter().map(|index| {
        let taken = index
            .fixed()
            .and_then(|index| sizes.elements.get(axis(index, sizes.elements.len())?));
        taken.cloned().unwrap_or(Dim::Unknown)
    });
    facts.content(
        0,
        ShapeContent {
            scalar: indices.scalar,
            elements: elements.collect(),
        },
    );
    Some(())
}

fn gather_nd(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let (data, indices) = (call.shape(0)?, call.shape(1)?);
    let batch = usize::try_from(call.int_or("batch_dims", 0)).ok()?;
    let (last, outer) = indices.split_last()?;
    let covered = usize::try_from(last.fixed()?).ok()?;
    facts.shape(0, outer.iter().chain(data.get(batch + covered..)?).cloned());
    Some(())
}

/// `[N, C, in...]` read at the points `[N, out..., 2 or 3]`.
fn grid_sample(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let grid = call.shape(1)?;
    let points = grid.get(1..grid.len().checked_sub(1)?)?;
    let batch = if call.dim(0, 0).is_known() {
        call.dim(0, 0)
    } else {
        call.dim(1, 0)
    };
    facts.shape(
        0,
        [batch, call.dim(0, 1)].into_iter().chain(points.iter().cloned()),
    );
    Some(())
}

fn one_hot(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let indices = call.shape(0)?;
    let at = axis(call.int_or("axis", -1), indices.len() + 1)?;
    let mut shape = indices.clone();
    let depth = call
        .tensor(1)
        .and_then(|depth| depth.single_f64())
        .map(|depth| Dim::Fixed(depth as i64));
    shape.insert(at, depth.or_else(|| call.single(1)).unwrap_or(Dim::Unknown));
    facts.shape(0, shape);
    Some(())
}
