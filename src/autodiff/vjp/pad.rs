//! Pad.

use super::super::emit::Var;
use super::super::layout::axis_of;
use super::{Call, Grads, Rule, only};

pub(super) const RULES: &[Rule] = &[only("Pad", &[0, 2], pad)];

fn pad<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, g) = (c.x(), c.g());
    let rank = x.rank();
    let Some(pads) = c.list("pads", 1) else {
        return c.refuse("its pads are computed at run time");
    };
    let axes: Vec<i64> = c.list("axes", 3).unwrap_or_else(|| (0..rank as i64).collect());
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (at, axis) in axes.iter().enumerate() {
        let place = axis_of(*axis, rank).and_then(|axis| Some((before.get_mut(axis)?, after.get_mut(axis)?)));
        let (Some(place), Some(start), Some(end)) = (place, pads.get(at), pads.get(at + axes.len())) else {
            return c.refuse("its pads do not fit its axes");
        };
        (*place.0, *place.1) = (*start, *end);
    }
    let mode = c.operator.string("mode").unwrap_or("constant").to_owned();
    if mode != "constant" {
        return c.answer(mirrored(c, &x, &g, &before, &after, &mode));
    }
    let inner = inner(&x, &g, &before, &after);
    // What is not inside holds the fill value.
    let fill = c.optional(2).filter(|_| c.needs(2)).map(|value| {
        let total = |var: &Var<'e>| var.total_dropped(&(0..rank).collect::<Vec<_>>());
        let kept = inner.clone();
        (total(&g) - total(&kept)).reshape_like(value)
    });
    vec![Some(inner), None, fill]
}

/// The part of g that belongs to x; elements that a negative pad cut off get 0.
fn inner<'e>(x: &Var<'e>, g: &Var<'e>, before: &[i64], after: &[i64]) -> Var<'e> {
    let mut inner = g.clone();
    let (mut front, mut back) = (vec![0; x.rank()], vec![0; x.rank()]);
    for (axis, (start, end)) in before.iter().zip(after).enumerate() {
        if *start > 0 || *end > 0 {
            let size = inner.fixed(axis);
            inner = inner.slice(axis, (*start).max(0), size - (*end).max(0), 1);
        }
        if let (Some(front), Some(back)) = (front.get_mut(axis), back.get_mut(axis)) {
            (*front, *back) = ((-start).max(0), (-end).max(0));
        }
    }
    inner.pad(&front, &back, 0.0)
}

/// In the other modes each output element copies one input element: the transposed copy is a matrix an axis.
fn mirrored<'e>(
    c: &Call<'e>,
    x: &Var<'e>,
    g: &Var<'e>,
    before: &[i64],
    after: &[i64],
    mode: &str,
) -> Var<'e> {
    let mut result = g.clone();
    for (axis, (start, end)) in before.iter().zip(after).enumerate() {
        if *start == 0 && *end == 0 {
            continue;
        }
        let size = x.fixed(axis);
        let count = size + start + end;
        let mut matrix = vec![0.0; (count * size).max(0) as usize];
        for row in 0..count {
            let at = row - start;
            let source = match mode {
                "edge" => at.clamp(0, size - 1),
                "wrap" => at.rem_euclid(size.max(1)),
                "reflect" => {
                    let period = (2 * (size - 1)).max(1);
                    let folded = at.rem_euclid(period);
                    if size == 1 { 0 } else { folded.min(period - folded) }
                }
                _ => {
                    c.refuse("its mode is not known");
                    0
                }
            };
            if let Some(one) = matrix.get_mut((row * size + source).max(0) as usize) {
                *one = 1.0;
            }
        }
        result = result.contract(axis, count, size, &matrix);
    }
    result
}
