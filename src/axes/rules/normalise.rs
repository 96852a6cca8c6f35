//! Normalisations.

use super::super::elements::Axis;
use super::super::rule::{Rule, SumKind};

/// Batch and instance normalisation: every parameter has one value a channel.
pub(super) fn per_channel(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    let channels = *axes.get(1)?;
    if rule.int("training_mode", 0) != 0 || rule.outputs.len() > 1 || rule.operator.int("spatial") == Some(0)
    {
        return None;
    }
    for slot in 1..rule.inputs.len() {
        if rule.axes(slot)?.len() != 1 {
            return None;
        }
        rule.tie(channels, slot, 0);
    }
    if rule.operator.is("InstanceNormalization") {
        for at in 2..axes.len() {
            rule.pin(0, at, "the statistics are taken over the axis");
        }
    }
    rule.set(0, axes);
    Some(())
}

/// Statistics are taken within a group, so whole groups go. Scale and bias have one value a group before opset 21 and one a
/// channel from then on.
pub(super) fn group(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    let groups = usize::try_from(rule.operator.int("num_groups")?)
        .ok()
        .filter(|groups| *groups > 0)?;
    let channels = rule.size(0, 1)?;
    for at in 2..axes.len() {
        rule.pin(0, at, "the statistics are taken over the axis");
    }
    let group = rule.fresh(groups);
    let per_group = rule.size(1, 0)? == groups;
    rule.product(
        *axes.get(1)?,
        &[(groups, group), (channels / groups, Axis::Fixed)],
        0,
        1,
    );
    for slot in [1, 2] {
        rule.tie(if per_group { group } else { axes[1] }, slot, 0);
    }
    rule.set(0, axes);
    Some(())
}

pub(super) fn layer(rule: &mut Rule<'_>) -> Option<()> {
    over_last_axes(rule, SumKind::LayerNorm)
}

pub(super) fn root_mean_square(rule: &mut Rule<'_>) -> Option<()> {
    over_last_axes(rule, SumKind::RmsNorm)
}

/// Statistics over `axis` and all later ones; scale and bias broadcast to the data.
fn over_last_axes(rule: &mut Rule<'_>, kind: SumKind) -> Option<()> {
    let axes = rule.axes(0)?;
    let first = rule.at(rule.int("axis", -1), axes.len())?;
    for slot in [1, 2] {
        if rule.has(slot) && rule.axes(slot)?.len() > axes.len() - first {
            return None;
        }
    }
    let slots: Vec<usize> = (0..3).filter(|slot| rule.has(*slot)).collect();
    let result = rule.broadcast(&slots, 0)?;
    for at in first..axes.len() {
        rule.sum(0, at, kind);
    }
    for output in 1..rule.outputs.len() {
        let statistics = axes
            .iter()
            .enumerate()
            .map(|(at, axis)| if at < first { *axis } else { Axis::Fixed });
        rule.set(output, statistics.collect::<Vec<_>>());
    }
    rule.set(0, result);
    Some(())
}
