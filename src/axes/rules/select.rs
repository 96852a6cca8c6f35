//! Operators that join, cut and pick along an axis, and Shape.

use super::super::elements::Axis;
use super::super::rule::Rule;
use super::super::sizes;
use crate::ir::ValueId;

pub(super) fn concat(rule: &mut Rule<'_>) -> Option<()> {
    let first = rule.axes(0)?;
    let axis = rule.at(rule.int("axis", 1), first.len())?;
    let mut result = first.clone();
    let count = rule.inputs.len();
    for slot in 1..count {
        let axes = rule.axes(slot)?;
        if axes.len() != first.len() {
            return None;
        }
        for at in (0..first.len()).filter(|at| *at != axis) {
            rule.same(axes[at], result[at], slot, at);
            if !axes[at].is_free() {
                result[at] = Axis::Fixed;
            }
        }
    }
    let sizes: Option<Vec<usize>> = (0..count).map(|slot| rule.size(slot, axis)).collect();
    let any_free = (0..count).any(|slot| rule.axis(slot, axis).is_some_and(Axis::is_free));
    result[axis] = match sizes {
        _ if !any_free => Axis::Fixed,
        Some(sizes) => {
            let whole = rule.fresh(sizes.iter().fold(0, |sum, size| sum.saturating_add(*size)));
            let mut offset = 0;
            for (slot, size) in sizes.iter().enumerate() {
                let part = whole.part(offset, *size);
                offset += size;
                // A part of one element has none of its own in the input.
                let own = rule.axis(slot, axis)?;
                rule.same(own, part, slot, axis);
            }
            whole
        }
        None => {
            for slot in 0..count {
                rule.pin(slot, axis, "it is joined with an axis of unknown size");
            }
            Axis::Fixed
        }
    };
    rule.set(0, result);
    Some(())
}

pub(super) fn split(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    let axis = rule.at(rule.int("axis", 0), axes.len())?;
    let mut offset = 0;
    for output in 0..rule.outputs.len() {
        let mut result = axes.clone();
        if axes[axis].is_free() {
            // An output that is left out still takes its share.
            let size = usize::try_from(rule.output_shape(output)?.get(axis)?.fixed()?).ok()?;
            if size == 0 {
                return None;
            }
            result[axis] = axes[axis].part(offset, size);
            offset += size;
        }
        rule.set(output, result);
    }
    if axes[axis].count().is_some_and(|len| len != offset) {
        None
    } else {
        Some(())
    }
}

/// Contiguous slices by known bounds; an axis cut with another step is pinned.
pub(super) fn slice(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    let output = rule.output_shape(0)?.clone();
    let list = match rule.list("axes", 3)? {
        Some(list) => list,
        None => {
            let count = match rule.operator.ints("starts") {
                Some(starts) => starts.len(),
                None => {
                    usize::try_from(rule.graph.ty(rule.value(1)?).fixed_shape()?.first().copied()?).ok()?
                }
            };
            (0..count as i64).collect()
        }
    };
    let starts = rule.list("starts", 1).flatten();
    let steps = if rule.has(4) {
        rule.numbers(4)
    } else {
        Some(vec![1; list.len()])
    };
    let mut result = axes.clone();
    for (index, at) in list.iter().enumerate() {
        let at = rule.at(*at, axes.len())?;
        if !axes[at].is_free() {
            continue;
        }
        let start = starts.as_ref().and_then(|starts| starts.get(index)).copied();
        let step = steps.as_ref().and_then(|steps| steps.get(index)).copied();
        let kept = output
            .get(at)
            .and_then(|dim| dim.fixed())
            .and_then(|size| usize::try_from(size).ok());
        result[at] = match (start, step, kept, axes[at].count()) {
            (Some(start), Some(1), Some(kept), Some(len)) if kept > 0 => {
                let start =
                    (if start < 0 { start + len as i64 } else { start }).clamp(0, len as i64) as usize;
                if start + kept > len {
                    return None;
                }
                axes[at].part(start, kept)
            }
            (_, Some(1), _, _) => {
                rule.pin(0, at, "its bounds are computed at run time");
                Axis::Fixed
            }
            _ => {
                rule.pin(0, at, "it is sliced with a step");
                Axis::Fixed
            }
        };
    }
    rule.set(0, result);
    Some(())
}

/// Constant indices of rank 1 renumber; a scalar pins the element that it picks; other indices pin the axis.
pub(super) fn gather(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    let axis = rule.at(rule.int("axis", 0), axes.len())?;
    let indices = rule.axes(1)?;
    let known = rule
        .tensor(1)
        .filter(|tensor| tensor.rank() <= 1)
        .and_then(|tensor| tensor.to_i64().ok());
    let mut picked = indices.clone();
    match (known, axes[axis].count()) {
        (_, None) => {}
        (Some(list), Some(len)) => {
            let list: Vec<usize> = list.iter().map(|at| rule.at(*at, len)).collect::<Option<_>>()?;
            match (indices.len(), list.as_slice()) {
                (0, [at]) => rule.pin_axis(
                    axes[axis].part(*at, 1),
                    0,
                    axis,
                    "the element is picked by its index",
                ),
                _ => {
                    let fresh = rule.fresh(list.len());
                    for (to, from) in list.iter().enumerate() {
                        let one = axes[axis].part(*from, 1);
                        if fresh.is_free() {
                            rule.same(one, fresh.part(to, 1), 0, axis);
                        } else {
                            rule.pin_axis(one, 0, axis, "the element is picked by its index");
                        }
                    }
                    picked[0] = fresh;
                }
            }
        }
        (None, Some(_)) => rule.pin(0, axis, "it is indexed at run time"),
    }
    let result = axes[..axis]
        .iter()
        .chain(&picked)
        .chain(&axes[axis + 1..])
        .copied()
        .collect::<Vec<_>>();
    rule.set(0, result);
    Some(())
}

/// Sizes that are read may change where every reader follows.
pub(super) fn shape(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    let rank = axes.len() as i64;
    let bound = |at: i64| (if at < 0 { at + rank } else { at }).clamp(0, rank) as usize;
    let (start, end) = (bound(rule.int("start", 0)), bound(rule.int("end", rank)));
    for at in start..end.max(start) {
        if axes[at].is_free() && !sizes::readers_follow(rule.graph, ValueId::new(rule.id, 0), &[at - start]) {
            rule.pin(0, at, "the model computes with its size");
        }
    }
    rule.set(0, [Axis::Fixed]);
    Some(())
}
