//! Operators whose result has as many elements as the data say: TopK, Compress, NonZero, Unique, NonMaxSuppression.

use super::super::call::{Call, Facts, Rule, axis};
use crate::ir::Dim;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Compress", compress),
    ("NonMaxSuppression", |_, facts| {
        facts.shape(0, [Dim::Unknown, Dim::Fixed(3)]);
        Some(())
    }),
    ("NonZero", non_zero),
    ("TopK", top_k),
    ("Unique", unique),
];

pub(super) fn compress(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let taken = call
        .numbers(1)
        .map(|flags| flags.iter().filter(|flag| **flag != 0).count() as i64);
    let Some(at) = call.int("axis") else {
        facts.shape(0, [taken.map_or(Dim::Unknown, Dim::Fixed)]);
        return Some(());
    };
    let mut shape = call.shape(0)?.clone();
    let at = axis(at, shape.len())?;
    *shape.get_mut(at)? = taken.map_or(Dim::Unknown, Dim::Fixed);
    facts.shape(0, shape);
    Some(())
}

/// `[rank, number of elements that are not zero]`; a scalar counts as a vector of one.
pub(super) fn non_zero(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let rank = call
        .rank(0)
        .map_or(Dim::Unknown, |rank| Dim::Fixed(rank.max(1) as i64));
    facts.shape(0, [rank, Dim::Unknown]);
    Some(())
}

pub(super) fn top_k(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let mut shape = call.shape(0)?.clone();
    let at = axis(call.int_or("axis", -1), shape.len())?;
    *shape.get_mut(at)? = match call.int("k") {
        Some(k) => Dim::Fixed(k),
        None => call.single(1).unwrap_or(Dim::Unknown),
    };
    facts.shape(0, shape.clone());
    facts.shape(1, shape);
    Some(())
}

pub(super) fn unique(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    for output in 1..call.outputs {
        facts.shape(output, [Dim::Unknown]);
    }
    let Some(at) = call.int("axis") else {
        facts.shape(0, [Dim::Unknown]);
        return Some(());
    };
    let mut shape = call.shape(0)?.clone();
    let at = axis(at, shape.len())?;
    // The inverse has one entry an input slice.
    facts.shape(2, [shape.get(at)?.clone()]);
    *shape.get_mut(at)? = Dim::Unknown;
    facts.shape(0, shape);
    Some(())
}
