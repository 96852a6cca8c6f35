//! Cutting tensors apart and putting them together: Slice, Split, Concat, Pad and what else moves whole ranges.

use super::super::call::{Call, Facts, Rule, axis};
use super::super::content;
use super::elementwise::same_shape;
use super::reshape::select;
use crate::ir::Dim;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("CenterCropPad", center_crop_pad),
    ("Concat", concat),
    ("Pad", pad),
    ("ReverseSequence", same_shape),
    ("Slice", slice),
    ("Split", split),
    ("TensorScatter", same_shape),
    ("Trilu", same_shape),
];

/// One axis of a Slice.
struct Range {
    axis: usize,
    start: Dim,
    end: Dim,
    step: i64,
}

/// A bound that may count from the end, as a position in `0..=size`; going backwards a start lies in `0..size` and an end in
/// `-1..size`. `None` if neither numbers nor signs are known well enough.
fn position(bound: &Dim, size: &Dim, backwards: bool, start: bool) -> Option<Dim> {
    let from_front = match bound {
        Dim::Fixed(value) if *value < 0 => size.add(bound),
        _ if bound.at_least(0) => bound.clone(),
        _ => return None,
    };
    let (low, high) = if backwards {
        (if start { 0 } else { -1 }, size.sub(&Dim::Fixed(1)))
    } else {
        (0, size.clone())
    };
    // A bound beyond any size means the end.
    if bound.at_least(i64::from(i32::MAX)) {
        return Some(high);
    }
    let clamped = from_front.max(&Dim::Fixed(low)).min(&high);
    clamped.is_known().then_some(clamped)
}

fn sliced(range: &Range, size: &Dim) -> Dim {
    let backwards = range.step < 0;
    let zero = Dim::Fixed(0);
    if range.step == 1 {
        // The usual cases in the form that reads best: x[s:], x[-k:], x[:e], x[:-k].
        let negative = |bound: &Dim| matches!(bound, Dim::Fixed(value) if *value < 0);
        let count = |bound: &Dim| bound.mul(&Dim::Fixed(-1));
        if range.end.at_least(i64::from(i32::MAX)) {
            return match &range.start {
                start if negative(start) => size.min(&count(start)),
                start if start.at_least(0) => size.sub(start).max(&zero),
                _ => Dim::Unknown,
            };
        }
        if range.start == zero {
            return match &range.end {
                end if negative(end) => size.add(end).max(&zero),
                end if end.at_least(0) => size.min(end),
                _ => Dim::Unknown,
            };
        }
    }
    let far_before = matches!(range.end, Dim::Fixed(end) if end <= -i64::from(i32::MAX));
    let start = position(&range.start, size, backwards, true);
    let end = if backwards && far_before {
        Some(Dim::Fixed(-1))
    } else {
        position(&range.end, size, backwards, false)
    };
    let (Some(start), Some(end)) = (start, end) else {
        return Dim::Unknown;
    };
    let span = if backwards {
        start.sub(&end)
    } else {
        end.sub(&start)
    };
    match range.step.checked_abs() {
        Some(step) if step > 0 => span.ceil_div(&Dim::Fixed(step)).max(&zero),
        _ => Dim::Unknown,
    }
}

fn slice(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = call.shape(0)?;
    let list = |name: &str, input: usize| -> Option<Vec<Dim>> {
        match call.ints(name) {
            Some(values) => Some(values.iter().copied().map(Dim::Fixed).collect()),
            None => Some(call.sizes(input)?.into_owned().elements),
        }
    };
    let (starts, ends) = (list("starts", 1), list("ends", 2));
    let count = starts.as_ref().or(ends.as_ref()).map(Vec::len);
    let axes = match call.axes("axes", 3) {
        Some(Some(axes)) => Some(axes),
        Some(None) => count.map(|count| (0..count as i64).collect()),
        None => None,
    };
    let Some(axes) = axes else {
        facts.shape(0, vec![Dim::Unknown; shape.len()]);
        return None;
    };
    let steps = if call.has(4) {
        call.numbers(4)
    } else {
        Some(vec![1; axes.len()])
    };
    let mut result = shape.clone();
    let mut ranges = Vec::with_capacity(axes.len());
    for (index, at) in axes.iter().enumerate() {
        let at = axis(*at, shape.len())?;
        let slot = result.get_mut(at)?;
        let bound = |list: &Option<Vec<Dim>>| {
            list.as_ref()
                .and_then(|list| list.get(index))
                .cloned()
                .unwrap_or(Dim::Unknown)
        };
        let range = Range {
            axis: at,
            start: bound(&starts),
            end: bound(&ends),
            step: steps
                .as_ref()
                .and_then(|steps| steps.get(index))
                .copied()
                .unwrap_or(0),
        };
        *slot = sliced(&range, shape.get(at)?);
        ranges.push(range);
    }
    facts.shape(0, result);
    elements(call, facts, &ranges)
}

/// The elements that a slice of a listed tensor takes.
fn elements(call: &Call<'_>, facts: &mut Facts, ranges: &[Range]) -> Option<()> {
    let (dims, elements) = call.listed(0)?;
    let mut selections: Vec<Vec<usize>> = dims.iter().map(|dim| (0..*dim).collect()).collect();
    for range in ranges {
        let size = Dim::Fixed(*dims.get(range.axis)? as i64);
        let backwards = range.step < 0;
        let start = position(&range.start, &size, backwards, true)?.fixed()?;
        let end = match range.end {
            Dim::Fixed(end) if backwards && end <= -i64::from(i32::MAX) => -1,
            _ => position(&range.end, &size, backwards, false)?.fixed()?,
        };
        if range.step == 0 {
            return None;
        }
        let mut taken = Vec::new();
        let mut at = start;
        while if backwards { at > end } else { at < end } {
            taken.push(usize::try_from(at).ok()?);
            at = at.checked_add(range.step)?;
        }
        *selections.get_mut(range.axis)? = taken;
    }
    let order: Vec<usize> = (0..dims.len()).collect();
    let taken = select(&dims, &elements, &selections, &order)?;
    facts.content(0, content::of_shape(facts.0.first()?.shape.as_ref()?, taken)?);
    Some(())
}

fn split(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = call.shape(0)?;
    let at = axis(call.int_or("axis", 0), shape.len())?;
    let total = shape.get(at)?;
    let count = call.outputs;
    let explicit: Option<Vec<Dim>> = match call.ints("split") {
        Some(split) => Some(split.iter().copied().map(Dim::Fixed).collect()),
        None if call.has(1) => Some(
            call.sizes(1)
                .map_or_else(Vec::new, |sizes| sizes.into_owned().elements),
        ),
        None => None,
    };
    let parts: Vec<Dim> = match explicit {
        Some(parts) => (0..count)
            .map(|index| parts.get(index).cloned().unwrap_or(Dim::Unknown))
            .collect(),
        // Equal parts, the last one smaller if need be (opset 18).
        None => {
            let parts = Dim::Fixed(call.int("num_outputs").unwrap_or(count as i64));
            let part = total.ceil_div(&parts);
            let last = total.sub(&part.mul(&Dim::Fixed(count as i64 - 1)));
            (0..count)
                .map(|index| {
                    if index + 1 == count {
                        last.clone()
                    } else {
                        part.clone()
                    }
                })
                .collect()
        }
    };
    for (output, part) in parts.iter().enumerate() {
        facts.shape(
            output,
            shape
                .iter()
                .enumerate()
                .map(|(index, dim)| if index == at { part.clone() } else { dim.clone() }),
        );
    }
    let sizes = call.sizes(0).filter(|sizes| !sizes.scalar)?;
    let mut rest = sizes.elements.as_slice();
    for (output, part) in parts.iter().enumerate() {
        let length = usize::try_from(part.fixed()?).ok()?;
        let (taken, left) = rest.split_at_checked(length)?;
        facts.content(output, content::vector(taken.to_vec()));
        rest = left;
    }
    Some(())
}

pub(super) fn concat(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let rank = (0..call.inputs.len()).find_map(|input| call.rank(input))?;
    let default = if call.schema.is_some_and(|schema| schema.since < 4) {
        1
    } else {
        0
    };
    let at = axis(call.int_or("axis", default), rank)?;
    let mut shape = vec![Dim::Unknown; rank];
    for (index, slot) in shape.iter_mut().enumerate() {
        let dims = (0..call.inputs.len()).map(|input| call.dim(input, index));
        *slot = if index == at {
            dims.fold(Dim::Fixed(0), |sum, dim| sum.add(&dim))
        } else {
            dims.reduce(|a, b| {
                if a.fixed().is_some() || !b.is_known() {
                    a
                } else {
                    b
                }
            })
            .unwrap_or(Dim::Unknown)
        };
    }
    facts.shape(0, shape);
    if rank != 1 {
        return None;
    }
    let mut elements = Vec::new();
    for input in 0..call.inputs.len() {
        elements.extend(call.sizes(input)?.elements.iter().cloned());
    }
    facts.content(0, content::vector(elements));
    Some(())
}

fn pad(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = call.shape(0)?;
    let attribute = call.ints("pads").or_else(|| call.ints("paddings"));
    let pads: Option<Vec<Dim>> = match attribute {
        Some(pads) => Some(pads.iter().copied().map(Dim::Fixed).collect()),
        None => call.sizes(1).map(|sizes| sizes.into_owned().elements),
    };
    let axes = if call.has(3) {
        call.numbers(3)
    } else {
        Some((0..shape.len() as i64).collect())
    };
    let (Some(pads), Some(axes)) = (pads, axes) else {
        facts.shape(0, vec![Dim::Unknown; shape.len()]);
        return None;
    };
    let mut result = shape.clone();
    for (index, at) in axes.iter().enumerate() {
        let slot = result.get_mut(axis(*at, shape.len())?)?;
        *slot = slot.add(pads.get(index)?).add(pads.get(index + axes.len())?);
    }
    facts.shape(0, result);
    Some(())
}

fn center_crop_pad(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = call.shape(0)?;
    let axes: Vec<i64> = call
        .ints("axes")
        .map_or_else(|| (0..shape.len() as i64).collect(), <[i64]>::to_vec);
    let mut result = shape.clone();
    let wanted = call.sizes(1);
    for (index, at) in axes.iter().enumerate() {
        let slot = result.get_mut(axis(*at, shape.len())?)?;
        *slot = wanted
            .as_ref()
            .and_then(|wanted| wanted.elements.get(index))
            .cloned()
            .unwrap_or(Dim::Unknown);
    }
    facts.shape(0, result);
    Some(())
}
