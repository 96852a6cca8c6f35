//! One axis of the result: which place of the resized image each of its entries shows.

use super::range;
use crate::ir::{DType, ValueId};
use crate::passes::form::bake::ops::Ops;

/// Pixels along an axis of the image and of the resized image, each a scalar `int64`.
#[derive(Clone, Copy)]
pub(super) struct Lengths {
    pub(super) old: ValueId,
    pub(super) new: ValueId,
}

/// An axis.
pub(super) struct Axis {
    pub(super) lengths: Lengths,
    /// Places in the resized image, `int64 [length]`, none outside of it.
    pub(super) at: ValueId,
    /// Which entries show the image and not the canvas, `bool [length]`, where there is a canvas.
    pub(super) inside: Option<ValueId>,
    /// Entries, a scalar `int64`.
    pub(super) length: ValueId,
    /// The same as a number, where it is one.
    pub(super) count: Option<u32>,
    /// Place of the resized image's first pixel, a scalar `int64`: negative where it is cut off.
    pub(super) offset: ValueId,
}

impl Axis {
    /// All of the resized image, which has `count` places if that is known.
    pub(super) fn whole(ops: &mut Ops, lengths: Lengths, count: Option<u32>) -> Self {
        let at = match count {
            Some(count) => numbers(ops, count),
            None => range(ops, lengths.new),
        };
        Self {
            lengths,
            at,
            inside: None,
            length: lengths.new,
            count,
            offset: ops.int(0),
        }
    }

    /// The `size` places in the middle of the resized image; all where it has no more. `inside`: it always has as many.
    pub(super) fn cut(ops: &mut Ops, lengths: Lengths, size: u32, inside: bool) -> Self {
        let wanted = ops.int(i64::from(size));
        let (zero, two) = (ops.int(0), ops.int(2));
        let rest = ops.op("Sub", &[lengths.new, wanted]);
        let rest = ops.op("Max", &[rest, zero]);
        let first = ops.op("Div", &[rest, two]);
        let (length, places) = match inside {
            true => (wanted, numbers(ops, size)),
            false => {
                let length = ops.op("Min", &[wanted, lengths.new]);
                (length, range(ops, length))
            }
        };
        Self {
            lengths,
            at: ops.op("Add", &[places, first]),
            inside: None,
            length,
            count: inside.then_some(size),
            offset: ops.op("Neg", &[first]),
        }
    }

    /// A canvas of `size` places with the resized image from `place` on.
    pub(super) fn boxed(ops: &mut Ops, lengths: Lengths, size: u32, place: Option<ValueId>) -> Self {
        let places = numbers(ops, size);
        let zero = ops.int(0);
        let at = match place {
            Some(place) => ops.op("Sub", &[places, place]),
            None => places,
        };
        let before = ops.op("Less", &[at, zero]);
        let not_before = ops.op("Not", &[before]);
        let not_behind = ops.op("Less", &[at, lengths.new]);
        let inside = ops.op("And", &[not_before, not_behind]);
        let one = ops.int(1);
        let last = ops.op("Sub", &[lengths.new, one]);
        let at = ops.op("Max", &[at, zero]);
        Self {
            lengths,
            at: ops.op("Min", &[at, last]),
            inside: Some(inside),
            length: ops.int(i64::from(size)),
            count: Some(size),
            offset: place.unwrap_or(zero),
        }
    }

    /// The places as floats.
    pub(super) fn floats(&self, ops: &mut Ops, dtype: DType) -> ValueId {
        ops.cast(self.at, dtype)
    }

    /// Length of the image and of the resized image as floats.
    pub(super) fn float_lengths(&self, ops: &mut Ops, dtype: DType) -> [ValueId; 2] {
        [self.lengths.old, self.lengths.new].map(|length| ops.cast(length, dtype))
    }
}

fn numbers(ops: &mut Ops, count: u32) -> ValueId {
    ops.ints(&(0..i64::from(count)).collect::<Vec<_>>())
}
