//! LSTM, GRU and RNN: sequence `[T, N, I]`, weights `[D, gates * H, I]` and `[D, gates * H, H]`, result `[T, D, N, H]`.

use super::super::elements::Axis;
use super::super::rule::Rule;

pub(super) fn lstm(rule: &mut Rule<'_>) -> Option<()> {
    recurrent(rule, 4)
}

pub(super) fn gru(rule: &mut Rule<'_>) -> Option<()> {
    recurrent(rule, 3)
}

pub(super) fn rnn(rule: &mut Rule<'_>) -> Option<()> {
    recurrent(rule, 1)
}

fn recurrent(rule: &mut Rule<'_>, gates: usize) -> Option<()> {
    let (x, w, r) = (rule.axes(0)?, rule.axes(1)?, rule.axes(2)?);
    if x.len() != 3 || w.len() != 3 || r.len() != 3 || rule.int("layout", 0) != 0 {
        return None;
    }
    let hidden_size = rule.size(2, 2)?;
    if rule
        .operator
        .int("hidden_size")
        .is_some_and(|declared| declared != hidden_size as i64)
    {
        return None;
    }
    rule.pin(0, 0, "the axis is time");
    rule.pin(0, 1, "the axis is the batch");
    rule.pin(1, 0, "the axis counts directions");
    rule.pin(2, 0, "the axis counts directions");
    rule.same(x[2], w[2], 0, 2);
    let hidden = r[2];
    for slot in [1, 2] {
        let rows = rule.axis(slot, 1)?;
        rule.product(rows, &[(gates, Axis::Fixed), (hidden_size, hidden)], slot, 1);
    }
    if rule.has(3) {
        rule.pin(3, 0, "the axis counts directions");
        let bias = rule.axis(3, 1)?;
        rule.product(bias, &[(2 * gates, Axis::Fixed), (hidden_size, hidden)], 3, 1);
    }
    for slot in [5, 6] {
        if rule.has(slot) {
            rule.pin(slot, 0, "the axis counts directions");
            rule.pin(slot, 1, "the axis is the batch");
            if rule.axes(slot)?.len() != 3 {
                return None;
            }
            rule.tie(hidden, slot, 2);
        }
    }
    if rule.has(7) {
        rule.pin(7, 0, "the axis counts directions");
        let peepholes = rule.axis(7, 1)?;
        rule.product(peepholes, &[(3, Axis::Fixed), (hidden_size, hidden)], 7, 1);
    }
    rule.set(0, [Axis::Fixed, Axis::Fixed, Axis::Fixed, hidden]);
    for output in 1..rule.outputs.len() {
        rule.set(output, [Axis::Fixed, Axis::Fixed, hidden]);
    }
    Some(())
}
