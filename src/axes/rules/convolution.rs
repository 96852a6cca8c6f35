//! Convolution and pooling: data `[N, C, spatial...]`, weights `[M, C / group, kernel...]`.

use super::super::elements::Axis;
use super::super::rule::{Axes, Rule};

const SPATIAL: &str = "the axis is spatial";

/// Which input slots hold what.
struct Slots {
    data: usize,
    weights: usize,
    bias: usize,
    /// One value an output channel, besides the bias.
    per_output: &'static [usize],
}

pub(super) fn conv(rule: &mut Rule<'_>) -> Option<()> {
    convolve(
        rule,
        &Slots {
            data: 0,
            weights: 1,
            bias: 2,
            per_output: &[],
        },
    )
}

pub(super) fn conv_integer(rule: &mut Rule<'_>) -> Option<()> {
    convolve(
        rule,
        &Slots {
            data: 0,
            weights: 1,
            bias: usize::MAX,
            per_output: &[3],
        },
    )
}

pub(super) fn qlinear_conv(rule: &mut Rule<'_>) -> Option<()> {
    convolve(
        rule,
        &Slots {
            data: 0,
            weights: 3,
            bias: 8,
            per_output: &[4, 5],
        },
    )
}

fn convolve(rule: &mut Rule<'_>, slots: &Slots) -> Option<()> {
    let (x, w) = (rule.axes(slots.data)?, rule.axes(slots.weights)?);
    if x.len() < 3 || w.len() != x.len() {
        return None;
    }
    for at in 2..x.len() {
        rule.pin(slots.data, at, SPATIAL);
        rule.pin(slots.weights, at, "the axis belongs to the kernel");
    }
    let (channels, inputs) = (*x.get(1)?, *w.get(1)?);
    let outputs = *w.first()?;
    let groups = usize::try_from(rule.int("group", 1))
        .ok()
        .filter(|groups| *groups > 0)?;
    if groups == 1 {
        rule.same(channels, inputs, slots.data, 1);
    } else {
        let (m, i) = (rule.size(slots.weights, 0)?, rule.size(slots.weights, 1)?);
        let group = rule.fresh(groups);
        let within = rule.fresh(m / groups);
        rule.product(channels, &[(groups, group), (i, inputs)], slots.data, 1);
        rule.product(
            outputs,
            &[(groups, group), (m / groups, within)],
            slots.weights,
            0,
        );
    }
    let bias = rule.has(slots.bias).then_some(slots.bias);
    for slot in bias.into_iter().chain(slots.per_output.iter().copied()) {
        if rule
            .dim(slot, 0)
            .and_then(|dim| dim.fixed())
            .is_some_and(|size| size != 1)
        {
            rule.tie(outputs, slot, 0);
        }
    }
    let mut result = Axes::from_elem(Axis::Fixed, x.len());
    result[0] = x[0];
    result[1] = outputs;
    rule.set(0, result);
    Some(())
}

/// Data `[N, C, spatial...]`, weights `[C, M / group, kernel...]`.
pub(super) fn conv_transpose(rule: &mut Rule<'_>) -> Option<()> {
    let (x, w) = (rule.axes(0)?, rule.axes(1)?);
    if x.len() < 3 || w.len() != x.len() {
        return None;
    }
    for at in 2..x.len() {
        rule.pin(0, at, SPATIAL);
        rule.pin(1, at, "the axis belongs to the kernel");
    }
    let (channels, rows, columns) = (*x.get(1)?, *w.first()?, *w.get(1)?);
    let groups = usize::try_from(rule.int("group", 1))
        .ok()
        .filter(|groups| *groups > 0)?;
    rule.same(channels, rows, 0, 1);
    let outputs = if groups == 1 {
        columns
    } else {
        let (c, m) = (rule.size(1, 0)?, rule.size(1, 1)?);
        let (group, within) = (rule.fresh(groups), rule.fresh(c / groups));
        let outputs = rule.fresh(groups.checked_mul(m)?);
        rule.product(rows, &[(groups, group), (c / groups, within)], 1, 0);
        rule.product(outputs, &[(groups, group), (m, columns)], 1, 1);
        outputs
    };
    if rule.has(2) {
        rule.tie(outputs, 2, 0);
    }
    let mut result = Axes::from_elem(Axis::Fixed, x.len());
    result[0] = x[0];
    result[1] = outputs;
    rule.set(0, result);
    Some(())
}

/// Pooling keeps batch and channels.
pub(super) fn pool(rule: &mut Rule<'_>) -> Option<()> {
    let mut x = rule.axes(0)?;
    for at in 2..x.len() {
        rule.pin(0, at, SPATIAL);
        x[at] = Axis::Fixed;
    }
    // The indices of MaxPool count through the whole tensor.
    if rule.outputs.len() > 1 && !rule.graph.uses(crate::ir::ValueId::new(rule.id, 1)).is_empty() {
        rule.pin_all(0, "its indices count through all channels");
    }
    rule.set(0, x);
    Some(())
}
