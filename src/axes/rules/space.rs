//! Operators that move elements between channels and space, pad and resample.

use super::super::elements::Axis;
use super::super::rule::{Axes, Rule};
use super::super::sizes;
use crate::ir::Dim;

/// Channels `(b, b, C)` in DCR mode, `(C, b, b)` in CRD mode: the `b * b` elements of a result channel go together.
pub(super) fn depth_to_space(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    let block = usize::try_from(rule.operator.int("blocksize")?)
        .ok()
        .filter(|block| *block > 0)?;
    let blocks = block.checked_mul(block)?;
    let channels = rule.size(0, 1)? / blocks;
    let result = rule.fresh(channels);
    let blocks = (blocks, Axis::Fixed);
    let factors = match rule.operator.string("mode").unwrap_or("DCR") {
        "DCR" => [blocks, (channels, result)],
        _ => [(channels, result), blocks],
    };
    rule.product(*axes.get(1)?, &factors, 0, 1);
    spatial(rule, &axes);
    rule.set(0, [axes[0], result, Axis::Fixed, Axis::Fixed]);
    Some(())
}

pub(super) fn space_to_depth(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    let block = usize::try_from(rule.operator.int("blocksize")?)
        .ok()
        .filter(|block| *block > 0)?;
    let channels = rule.size(0, 1)?;
    if rule.operator.attribute("mode").is_some() {
        return None;
    }
    let blocks = block.checked_mul(block)?;
    let result = rule.fresh(channels.checked_mul(blocks)?);
    rule.product(result, &[(blocks, Axis::Fixed), (channels, *axes.get(1)?)], 0, 1);
    spatial(rule, &axes);
    rule.set(0, [axes[0], result, Axis::Fixed, Axis::Fixed]);
    Some(())
}

fn spatial(rule: &mut Rule<'_>, axes: &Axes) {
    for at in 2..axes.len() {
        rule.pin(0, at, "the axis is spatial");
    }
}

/// An axis that is padded keeps its size.
pub(super) fn pad(rule: &mut Rule<'_>) -> Option<()> {
    let mut axes = rule.axes(0)?;
    let pads = match rule.operator.ints("pads") {
        Some(pads) => pads.iter().copied().map(Dim::Fixed).collect(),
        None => rule.contents(1)?,
    };
    let padded: Vec<usize> = if rule.has(3) {
        rule.numbers(3)?
            .iter()
            .map(|axis| rule.at(*axis, axes.len()))
            .collect::<Option<_>>()?
    } else {
        (0..axes.len()).collect()
    };
    if pads.len() != 2 * padded.len() {
        return None;
    }
    for (index, at) in padded.iter().enumerate() {
        if pads.get(index) != Some(&Dim::Fixed(0)) || pads.get(index + padded.len()) != Some(&Dim::Fixed(0)) {
            rule.pin(0, *at, "the axis is padded");
            axes[*at] = Axis::Fixed;
        }
    }
    rule.set(0, axes);
    Some(())
}

/// Batch and channels keep their size; what is resampled is pinned.
pub(super) fn resize(rule: &mut Rule<'_>) -> Option<()> {
    let mut axes = rule.axes(0)?;
    let output = rule.output_shape(0)?.clone();
    for at in 0..axes.len() {
        let same = match (
            rule.dim(0, at).and_then(|dim| dim.fixed()),
            output.get(at).and_then(|dim| dim.fixed()),
        ) {
            (Some(before), Some(after)) => before == after,
            _ => false,
        };
        let settable = !rule.has(3) || rule.operator.ints("axes").is_some() || sizes::settable(rule, 3, at);
        if at >= 2 || !same || !settable {
            rule.pin(
                0,
                at,
                if at >= 2 {
                    "the axis is spatial"
                } else {
                    "its size is computed at run time"
                },
            );
            axes[at] = Axis::Fixed;
        }
    }
    if rule.has(3)
        && rule
            .operator
            .ints("axes")
            .is_some_and(|axes| axes.iter().any(|axis| (0..2).contains(axis)))
    {
        rule.pin_all(0, "the operator sizes channels");
        return None;
    }
    if rule.has(3) && rule.operator.ints("axes").is_none() {
        sizes::tie_entries(rule, 3, &axes, 0);
    }
    rule.set(0, axes);
    Some(())
}

/// `[N, C, H, W]` sampled at `[N, H', W', 2]`.
pub(super) fn grid_sample(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    spatial(rule, &axes);
    rule.pin_all(1, "the axis holds coordinates");
    let mut result = Axes::from_elem(Axis::Fixed, axes.len());
    rule.pin(0, 0, "the axis is the batch");
    result[1] = *axes.get(1)?;
    rule.set(0, result);
    Some(())
}

/// Regions of `[N, C, H, W]`.
pub(super) fn regions(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    spatial(rule, &axes);
    for slot in 1..rule.inputs.len() {
        rule.pin_all(slot, "the axis holds coordinates");
    }
    rule.pin(0, 0, "the axis is the batch");
    rule.set(0, [Axis::Fixed, *axes.get(1)?, Axis::Fixed, Axis::Fixed]);
    Some(())
}
