//! Reductions over axes.

use super::super::elements::Axis;
use super::super::rule::{Rule, SumKind};

/// A removed element counts as zero.
pub(super) fn sum(rule: &mut Rule<'_>) -> Option<()> {
    reduce(rule, Some(SumKind::Sum))
}

/// The mean over the kept elements.
pub(super) fn mean(rule: &mut Rule<'_>) -> Option<()> {
    reduce(rule, Some(SumKind::Mean))
}

/// Reductions for which a removed element is not the same as a zero.
pub(super) fn pinning(rule: &mut Rule<'_>) -> Option<()> {
    reduce(rule, None)
}

fn reduce(rule: &mut Rule<'_>, kind: Option<SumKind>) -> Option<()> {
    let axes = rule.axes(0)?;
    let over = match rule.list("axes", 1)? {
        Some(list) if !list.is_empty() => list
            .iter()
            .map(|axis| rule.at(*axis, axes.len()))
            .collect::<Option<Vec<usize>>>()?,
        _ if rule.int("noop_with_empty_axes", 0) != 0 => return super::elementwise::unary(rule),
        _ => (0..axes.len()).collect(),
    };
    over_axes(rule, &over, kind)
}

fn over_axes(rule: &mut Rule<'_>, over: &[usize], kind: Option<SumKind>) -> Option<()> {
    let axes = rule.axes(0)?;
    for at in over {
        match kind {
            Some(kind) => rule.sum(0, *at, kind),
            None => rule.pin(0, *at, "every element of the axis counts for the result"),
        }
    }
    let keep = rule.int("keepdims", 1) != 0;
    let result = axes
        .iter()
        .enumerate()
        .filter_map(|(at, axis)| match (over.contains(&at), keep) {
            (false, _) => Some(*axis),
            (true, true) => Some(Axis::Fixed),
            (true, false) => None,
        });
    rule.set(0, result.collect::<Vec<_>>());
    Some(())
}

/// The index of the greatest or least element along an axis.
pub(super) fn arg(rule: &mut Rule<'_>) -> Option<()> {
    let rank = rule.axes(0)?.len();
    let axis = rule.at(rule.int("axis", 0), rank)?;
    over_axes(rule, &[axis], None)
}

pub(super) fn top_k(rule: &mut Rule<'_>) -> Option<()> {
    let mut axes = rule.axes(0)?;
    let axis = rule.at(rule.int("axis", -1), axes.len())?;
    rule.pin(0, axis, "elements of the axis are ranked");
    axes[axis] = Axis::Fixed;
    rule.set(0, axes.clone());
    rule.set(1, axes);
    Some(())
}
