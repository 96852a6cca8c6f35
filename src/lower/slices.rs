//! Slices of which tract does not clamp the bounds, or that run backwards: written with bounds inside the axis, forwards, then turned.

use super::Rule;
use super::site::{ENGINE_DOMAIN, Site};
use crate::ir::{EditError, Operator, ValueId};

pub(super) const RULES: &[Rule] = &[("", "Slice", slice)];

/// What a slice takes of one axis, in the order of the axis: from `start` on in steps, as many as before `end`.
#[derive(Debug, PartialEq)]
struct Taken {
    start: i64,
    end: i64,
    step: i64,
    backwards: bool,
}

/// Bounds as the specification clamps them. `None` for a step of 0.
fn taken(start: i64, end: i64, step: i64, size: i64) -> Option<Taken> {
    let from_front = |bound: i64| {
        if bound < 0 {
            bound.saturating_add(size)
        } else {
            bound
        }
    };
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let start = from_front(start).clamp(low.max(0), high.max(0));
    let end = from_front(end).clamp(low, high);
    let distance = if step > 0 { end - start } else { start - end };
    let nothing = Taken {
        start: 0,
        end: 0,
        step: 1,
        backwards: false,
    };
    if step == 0 {
        return None;
    }
    if size == 0 || distance <= 0 {
        return Some(nothing);
    }
    let count = 1 + (distance - 1) / step.saturating_abs();
    let stride = if count == 1 { 1 } else { step.saturating_abs() };
    let first = if step > 0 {
        start
    } else {
        start - (count - 1) * stride
    };
    Some(Taken {
        start: first,
        end: first + (count - 1) * stride + 1,
        step: stride,
        backwards: step < 0 && count > 1,
    })
}

/// Whether tract reads these bounds as the specification does: inside the axis or, for the end, the largest numbers.
fn plain(start: i64, end: i64, step: i64, size: i64) -> bool {
    let inside = |bound: i64| (-size..=size).contains(&bound);
    (1..=size.max(1)).contains(&step)
        && inside(start)
        && (inside(end) || end == i64::MAX || end == i64::from(i32::MAX))
}

/// Known bounds, where the sizes of the axes are known too.
fn slice(site: &mut Site<'_>) -> Result<bool, EditError> {
    let by_input = site.version() >= 10;
    let numbers = |site: &Site<'_>, index: usize, name: &str| -> Option<Vec<i64>> {
        if by_input {
            return site.constant(site.input(index)?)?.to_i64().ok();
        }
        site.operator.ints(name).map(<[i64]>::to_vec)
    };
    let Some(x) = site.input(0) else { return Ok(false) };
    let (Some(starts), Some(ends), Some(shape)) = (
        numbers(site, 1, "starts"),
        numbers(site, 2, "ends"),
        site.shape(x),
    ) else {
        return Ok(false);
    };
    let count = starts.len();
    let given = |index: usize, name: &str| {
        if by_input {
            site.input(index).is_some()
        } else {
            site.operator.ints(name).is_some()
        }
    };
    let axes = match given(3, "axes") {
        true => numbers(site, 3, "axes"),
        false => Some((0..count as i64).collect()),
    };
    let steps = match by_input && given(4, "") {
        true => numbers(site, 4, ""),
        false => Some(vec![1; count]),
    };
    let (Some(axes), Some(steps)) = (axes, steps) else {
        return Ok(false);
    };
    if ends.len() != count || axes.len() != count || steps.len() != count {
        return Ok(false);
    }
    let rank = shape.len() as i64;
    let (mut parts, mut right) = (Vec::with_capacity(count), true);
    for (((start, end), axis), step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let at = if *axis < 0 {
            axis.saturating_add(rank)
        } else {
            *axis
        };
        let size = usize::try_from(at).ok().and_then(|at| shape.get(at)?.fixed());
        let Some(part) = size.and_then(|size| taken(*start, *end, *step, size)) else {
            return Ok(false);
        };
        right &= plain(*start, *end, *step, size.unwrap_or(0));
        parts.push((at, part));
    }
    if right {
        return Ok(false);
    }
    let list = |of: &dyn Fn(&(i64, Taken)) -> i64| parts.iter().map(of).collect::<Vec<i64>>();
    let mut y = site.slice(
        x,
        &list(&|(_, part)| part.start),
        &list(&|(_, part)| part.end),
        &list(&|(axis, _)| *axis),
        &list(&|(_, part)| part.step),
    )?;
    for (axis, _) in parts.iter().filter(|(_, part)| part.backwards) {
        y = turned(site, y, *axis)?;
    }
    site.replace(0, y)?;
    Ok(true)
}

/// A value with the elements of one axis in the opposite order.
pub(super) fn turned(site: &mut Site<'_>, value: ValueId, axis: i64) -> Result<ValueId, EditError> {
    let flip = Operator::new("EngineFlip")
        .in_domain(ENGINE_DOMAIN)
        .with("axis", axis);
    site.like(flip, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slice_takes_what_the_specification_says() {
        let bounds = [
            i64::MIN,
            -1 << 40,
            -7,
            -6,
            -5,
            -2,
            -1,
            0,
            1,
            3,
            4,
            5,
            6,
            1 << 40,
            i64::MAX,
        ];
        let steps = [i64::MIN, -1 << 40, -7, -3, -2, -1, 1, 2, 3, 7, 1 << 40, i64::MAX];
        let mut looked_at = 0;
        for (start, end, step) in bounds
            .iter()
            .flat_map(|s| bounds.iter().map(move |e| (*s, *e)))
            .flat_map(|(s, e)| steps.iter().map(move |t| (s, e, *t)))
        {
            for size in [0i64, 1, 5] {
                // Element by element, in numbers that do not overflow.
                let wide = i128::from(size);
                let front = |bound: i64| i128::from(bound) + if bound < 0 { wide } else { 0 };
                let (low, high) = if step > 0 { (0, wide) } else { (-1, wide - 1) };
                let mut at = front(start).clamp(low.max(0), high.max(0));
                let stop = front(end).clamp(low, high);
                let mut wanted = Vec::new();
                while size > 0 && if step > 0 { at < stop } else { at > stop } {
                    wanted.push(at);
                    at += i128::from(step);
                }
                let part = taken(start, end, step, size).unwrap();
                let mut found: Vec<i128> = (part.start..part.end)
                    .step_by(part.step as usize)
                    .map(i128::from)
                    .collect();
                if part.backwards {
                    found.reverse();
                }
                assert_eq!(found, wanted, "{start}:{end}:{step} of {size}");
                assert!(part.step == 1 || part.step < size);
                looked_at += 1;
            }
        }
        assert_eq!(looked_at, 15 * 15 * 12 * 3);
    }
}
