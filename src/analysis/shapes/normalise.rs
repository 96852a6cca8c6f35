//! Normalisations, softmaxes and losses.

use super::super::call::{Call, Facts, Rule, axis};
use super::elementwise::same_shape;
use crate::ir::{DType, Dim};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("BatchNormalization", batch),
    ("GroupNormalization", same_shape),
    ("Hardmax", same_shape),
    ("InstanceNormalization", same_shape),
    ("LRN", same_shape),
    ("LayerNormalization", layer),
    ("LogSoftmax", same_shape),
    ("LpNormalization", same_shape),
    ("MeanVarianceNormalization", same_shape),
    ("NegativeLogLikelihoodLoss", |call, facts| {
        loss(call, facts, false)
    }),
    ("RMSNormalization", same_shape),
    ("Softmax", same_shape),
    ("SoftmaxCrossEntropyLoss", |call, facts| loss(call, facts, true)),
];

/// Further outputs are statistics, `[C]` each.
fn batch(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let channels = (1..5)
        .map(|input| call.dim(input, 0))
        .find(Dim::is_known)
        .unwrap_or_else(|| {
            if call.rank(0) == Some(1) {
                Dim::Fixed(1)
            } else {
                call.dim(0, 1)
            }
        });
    for output in 1..call.outputs {
        facts.shape(output, [channels.clone()]);
    }
    same_shape(call, facts)
}

/// Mean and inverse deviation have size 1 along the normalised axes.
pub(super) fn layer(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let shape = call.shape(0)?;
    facts.shape(0, shape.iter().cloned());
    let at = axis(call.int_or("axis", -1), shape.len())?;
    for output in 1..call.outputs {
        let kept = shape.iter().enumerate();
        facts.shape(
            output,
            kept.map(|(index, dim)| if index < at { dim.clone() } else { Dim::Fixed(1) }),
        );
        // `stash_type` 1 is float; the specification allows bfloat16, too.
        let stash = i32::try_from(call.int_or("stash_type", 1))
            .ok()
            .and_then(DType::from_onnx);
        facts.dtype(output, stash);
    }
    Some(())
}

/// `[N, C, d...]` scored against labels `[N, d...]`.
fn loss(call: &Call<'_>, facts: &mut Facts, with_probabilities: bool) -> Option<()> {
    if call.operator.string("reduction").unwrap_or("mean") == "none" {
        if let Some(labels) = call.shape(1) {
            facts.shape(0, labels.iter().cloned());
        }
    } else {
        facts.shape(0, []);
    }
    if with_probabilities {
        facts.shape(1, call.shape(0)?.iter().cloned());
    }
    Some(())
}
