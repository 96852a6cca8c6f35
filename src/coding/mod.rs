//! Entropy coding: numbers and texts as few bits, and back, the same on every machine.
//!
//! [`binary`] turns decisions with probabilities into bytes, [`probability`] learns them, [`text`] predicts bytes of a graph from those
//! before, [`adaptive`] the elements of a tensor from their neighbours, [`rans`] codes bytes with fixed frequencies, and [`block`] chooses
//! what is smallest for a part of a tensor; [`meter`] says beforehand what codes will take. `docs/container.md` specifies all of it to the bit, so nothing here may depend on floating point.
//!
//! Depends on nothing of the crate. What is decoded is untrusted: every function here ends, allocates what its caller allowed, and answers
//! [`Damaged`] instead of a guess.

mod adaptive;
mod binary;
mod bits;
mod block;
mod bytes;
mod contexts;
mod difference;
mod elements;
mod meter;
mod planes;
mod probability;
mod rans;
mod split;
mod text;

pub(crate) use binary::{Decoder, Encoder};
pub(crate) use block::{BLOCK_ELEMENTS, Effort, Place, decode, encode};
pub(crate) use bytes::{Reader, put_varint};
pub(crate) use elements::{ElementType, Shape};
pub(crate) use meter::{BIT, Meter};
pub(crate) use text::{Text, fewest};

/// Coded bytes that nothing here wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damaged(pub(crate) &'static str);
