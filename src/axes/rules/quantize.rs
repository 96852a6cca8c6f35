//! Quantization of tensors: scales and zero points per tensor or per element of one axis.

use super::super::rule::Rule;

pub(super) fn quantize(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    if rule.int("block_size", 0) != 0 {
        return None;
    }
    let axis = rule.at(rule.int("axis", 1), axes.len());
    for slot in [1, 2] {
        if !rule.has(slot) {
            continue;
        }
        let parameters = rule.axes(slot)?;
        match (parameters.len(), rule.dim(slot, 0).and_then(|dim| dim.fixed())) {
            (0, _) | (1, Some(1)) => {}
            (1, _) => rule.tie(*axes.get(axis?)?, slot, 0),
            _ => return None,
        }
    }
    rule.set(0, axes);
    Some(())
}

/// The range is taken over the whole tensor.
pub(super) fn dynamic(rule: &mut Rule<'_>) -> Option<()> {
    let axes = rule.axes(0)?;
    rule.set(0, axes);
    Some(())
}
