//! Slice.

use super::super::layout::axis_of;
use super::{Call, Grads, Rule, first};
use crate::ir::Dim;

pub(super) const RULES: &[Rule] = &[first("Slice", slice)];

/// g goes back to the places it was taken from, with zeros between and around.
fn slice<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, y) = (c.x(), c.y());
    let (Some(starts), Some(ends)) = (c.list("starts", 1), c.list("ends", 2)) else {
        return c.refuse("its starts or ends are computed at run time");
    };
    let axes = c
        .list("axes", 3)
        .unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = c.list("steps", 4).unwrap_or_else(|| vec![1; starts.len()]);
    let mut g = c.g();
    let (mut before, mut after) = (vec![0; x.rank()], vec![0; x.rank()]);
    for (at, axis) in axes.iter().enumerate() {
        let Some(axis) = axis_of(*axis, x.rank()) else {
            return c.refuse("an axis is out of range");
        };
        let value = |list: &[i64], default: i64| list.get(at).copied().unwrap_or(default);
        let (start, end, step) = (value(&starts, 0), value(&ends, 0), value(&steps, 1));
        if start == 0 && step == 1 && (end >= i64::from(i32::MAX) || y.dim(axis).same(&x.dim(axis))) {
            continue;
        }
        let (size, count) = (x.fixed(axis), y.fixed(axis));
        if step == 0 {
            return c.refuse("a step is 0");
        }
        let from_end = if start < 0 {
            start.saturating_add(size)
        } else {
            start
        };
        let mut first = from_end.clamp(0, if step > 0 { size } else { size - 1 });
        if step < 0 {
            let backwards: Vec<i64> = (0..count).rev().collect();
            g = g.take(axis, &backwards);
            first += (count - 1) * step;
        }
        let step = step.abs();
        let mut length = count;
        if step > 1 && count > 0 {
            // Zeros after each element, as a trailing axis that is merged.
            length = (count - 1) * step + 1;
            let spaced = g.unsqueeze(&[axis + 1]).pad_axis(axis + 1, 0, step - 1);
            let mut merged = g.shape.clone();
            if let Some(dim) = merged.get_mut(axis) {
                *dim = Dim::Fixed(count * step);
            }
            g = spaced.reshape(&merged).slice(axis, 0, length, 1);
        }
        if let (Some(before), Some(after)) = (before.get_mut(axis), after.get_mut(axis)) {
            *before = first;
            *after = size - first - length;
        }
    }
    c.answer(g.pad(&before, &after, 0.0))
}
