//! Operators that work on elements one by one, and those that need a whole axis and leave the others alone.

use super::super::elements::Axis;
use super::super::rule::Rule;

/// The result has the axes of the first input; further inputs are scalars or of no consequence for its shape.
pub(super) fn unary(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    rule.set(0, axes);
    Some(())
}

/// Dropout: the mask has the axes of the data.
pub(super) fn dropout(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    rule.set(0, axes.clone());
    rule.set(1, axes);
    Some(())
}

/// Any number of operands, broadcast.
pub(super) fn broadcast(rule: &mut Rule<'_>) -> Option<()> {
    let slots: Vec<usize> = (0..rule.inputs.len()).filter(|slot| rule.has(*slot)).collect();
    if rule.version < 7 && rule.operator.attribute("broadcast").is_some() {
        return None;
    }
    let axes = rule.broadcast(&slots, 0)?;
    rule.set(0, axes);
    Some(())
}

/// LRN sums over neighbouring channels.
pub(super) fn local_response(rule: &mut Rule<'_>) -> Option<()> {
    rule.pin(0, 1, "neighbouring channels are summed");
    unary(rule)
}

/// Softmax and its kin along an axis; before opset 13 along this and all later axes.
pub(super) fn softmax(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    let coerced = rule.version < 13;
    let axis = rule.at(rule.int("axis", if coerced { 1 } else { -1 }), axes.len())?;
    let last = if coerced { axes.len() } else { axis + 1 };
    for at in axis..last {
        rule.pin(0, at, "it normalises over the whole axis");
    }
    rule.set(0, axes);
    Some(())
}

/// CumSum along a constant axis.
pub(super) fn cumulative(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    let axis = rule.at(*rule.numbers(1)?.first()?, axes.len())?;
    rule.pin(0, axis, "it sums along the axis");
    rule.set(0, axes);
    Some(())
}

/// Operators that look at the position in the last two axes.
pub(super) fn last_two_fixed(rule: &mut Rule<'_>) -> Option<()> {
    let mut axes = rule.axes(0)?;
    for at in axes.len().saturating_sub(2)..axes.len() {
        rule.pin(0, at, "it depends on the position in the axis");
        if let Some(axis) = axes.get_mut(at) {
            *axis = Axis::Fixed;
        }
    }
    rule.set(0, axes);
    Some(())
}
