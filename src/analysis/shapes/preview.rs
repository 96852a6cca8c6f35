//! Optimisers of the domain `ai.onnx.preview.training` and FlexAttention of `ai.onnx.preview`. They have no schema here, so each
//! rule passes whole types on.

use super::super::call::{Call, Facts, Rule};
use crate::ir::ValueType;

/// Operators of `ai.onnx.preview.training`.
pub(super) const TRAINING: &[(&str, Rule)] = &[
    ("Adagrad", |call, facts| optimiser(call, facts, 1)),
    ("Adam", |call, facts| optimiser(call, facts, 2)),
    ("Momentum", |call, facts| optimiser(call, facts, 1)),
];

/// Operators of `ai.onnx.preview`.
pub(super) const RULES: &[(&str, Rule)] = &[("FlexAttention", flex_attention)];

/// Inputs are rate and step, then tensors, gradients and `states` states of each; outputs are the new tensors and states.
fn optimiser(call: &Call<'_>, facts: &mut Facts, states: usize) -> Option<()> {
    let tensors = call.inputs.len().checked_sub(2)? / (2 + states);
    for output in 0..call.outputs {
        let (group, index) = (output.checked_div(tensors)?, output % tensors);
        // The gradients, group 1 of the inputs, have no output.
        let group = if group == 0 { 0 } else { group + 1 };
        facts.whole(output, call.ty(2 + group * tensors + index)?.clone());
    }
    Some(())
}

/// Q `[N, heads, L, d]`, V `[N, heads, S, d_v]` to `[N, heads, L, d_v]`.
fn flex_attention(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = [call.dim(0, 0), call.dim(0, 1), call.dim(0, 2), call.dim(2, 3)];
    facts.whole(
        0,
        ValueType::tensor(call.dtype(0), Some(shape.into_iter().collect())),
    );
    Some(())
}
