//! Multidirectional broadcasting of shapes.

use super::super::call::Call;
use crate::ir::{Dim, Shape};

/// The dimension that two dimensions broadcast to.
pub(super) fn dims(a: &Dim, b: &Dim) -> Dim {
    match (a, b) {
        (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => other.clone(),
        _ if a.same(b) => a.clone(),
        // In a valid model the other one is 1 or equal.
        (Dim::Fixed(0), _) | (_, Dim::Fixed(0)) => Dim::Fixed(0),
        (Dim::Fixed(_), _) => a.clone(),
        (_, Dim::Fixed(_)) => b.clone(),
        _ if is_cut(b, a) => a.clone(),
        _ if is_cut(a, b) => b.clone(),
        _ if a.at_least(2) => a.clone(),
        _ if b.at_least(2) => b.clone(),
        _ => Dim::Unknown,
    }
}

/// Whether the first is the second, cut off at 1 or more (the positions that a slice takes of a table, beside the tokens). In a valid model it is
/// then equal to the second, or 1, so that both broadcast to the second.
fn is_cut(part: &Dim, whole: &Dim) -> bool {
    part.cut_of(whole).is_some_and(|bound| bound.at_least(1))
}

/// The shape that two shapes broadcast to.
pub(super) fn shapes(a: &[Dim], b: &[Dim]) -> Shape {
    let rank = a.len().max(b.len());
    let at = |shape: &[Dim], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(index) => shape.get(index).cloned().unwrap_or(Dim::Fixed(1)),
        None => Dim::Fixed(1),
    };
    (0..rank).map(|axis| dims(&at(a, axis), &at(b, axis))).collect()
}

/// The shape that the inputs from `first` on broadcast to.
pub(super) fn inputs(call: &Call<'_>, first: usize, count: usize) -> Option<Shape> {
    let mut result: Option<Shape> = None;
    for input in first..first + count {
        let shape = call.shape(input)?;
        result = Some(match result {
            None => shape.clone(),
            Some(known) => shapes(&known, shape),
        });
    }
    result
}
