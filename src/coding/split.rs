//! Elements split into a class, a sign and the bits below.

use super::Damaged;
use super::bytes::{Reader, put_varint};
use super::elements::ElementType;

/// Bits below the class that have probabilities.
pub(super) const MODELLED: u32 = 3;

/// How elements are split.
#[derive(Clone, Copy, Debug)]
pub(super) enum Split {
    Integer {
        kind: ElementType,
        /// What counts as zero.
        centre: u64,
    },
    Float {
        exponent: u32,
        fraction: u32,
        /// The largest exponent.
        largest: u32,
        /// Bits at the end of the fraction that are zero in all elements.
        dropped: u32,
    },
}

/// The parts of an element that is not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) class: u32,
    pub(super) negative: bool,
    pub(super) below: u64,
}

impl Split {
    pub(super) fn choose(kind: ElementType, elements: &[u64]) -> Self {
        match kind {
            ElementType::Integer { .. } => Self::Integer {
                kind,
                centre: centre(elements),
            },
            ElementType::Float { exponent, fraction } => {
                let all = elements.iter().fold(0, |all, element| all | element);
                let exponents = elements.iter().filter(|element| **element != 0);
                let largest = exponents
                    .map(|element| exponent_of(*element, exponent, fraction))
                    .max();
                Self::Float {
                    exponent,
                    fraction,
                    largest: largest.unwrap_or(0),
                    dropped: all.trailing_zeros().min(fraction),
                }
            }
        }
    }

    pub(super) fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Integer { centre, .. } => put_varint(out, centre),
            Self::Float { largest, dropped, .. } => {
                put_varint(out, u64::from(largest));
                put_varint(out, u64::from(dropped));
            }
        }
    }

    pub(super) fn take(reader: &mut Reader<'_>, kind: ElementType) -> Result<Self, Damaged> {
        Ok(match kind {
            ElementType::Integer { .. } => Self::Integer {
                kind,
                centre: kind.check(reader.varint()?)?,
            },
            ElementType::Float { exponent, fraction } => {
                let (largest, dropped) = (reader.varint()?, reader.varint()?);
                if largest >> exponent != 0 || dropped > u64::from(fraction) {
                    return Err(Damaged("an exponent is larger than its type allows"));
                }
                Self::Float {
                    exponent,
                    fraction,
                    largest: largest as u32,
                    dropped: dropped as u32,
                }
            }
        })
    }

    /// The parts of an element; `None` for zero.
    #[inline]
    pub(super) fn parts(self, element: u64) -> Option<Parts> {
        match self {
            Self::Integer { kind, centre } => {
                let value = sign_extended(element.wrapping_sub(centre), kind.bits());
                let magnitude = value.unsigned_abs();
                let class = u64::BITS.checked_sub(magnitude.leading_zeros() + 1)?;
                Some(Parts {
                    class,
                    negative: value < 0,
                    below: magnitude ^ (1 << class),
                })
            }
            Self::Float {
                exponent,
                fraction,
                largest,
                dropped,
            } => (element != 0).then(|| Parts {
                class: largest - exponent_of(element, exponent, fraction),
                negative: element >> (exponent + fraction) & 1 == 1,
                below: (element & ((1 << fraction) - 1)) >> dropped,
            }),
        }
    }

    /// The element of these parts.
    #[inline]
    pub(super) fn element(self, parts: Option<Parts>) -> Result<u64, Damaged> {
        Ok(match (self, parts) {
            (Self::Integer { centre, .. }, None) => centre,
            (Self::Float { .. }, None) => 0,
            (Self::Integer { kind, centre }, Some(parts)) => {
                let magnitude = 1 << parts.class | parts.below;
                let value = if parts.negative {
                    0u64.wrapping_sub(magnitude)
                } else {
                    magnitude
                };
                centre.wrapping_add(value) & kind.mask()
            }
            (
                Self::Float {
                    exponent,
                    fraction,
                    largest,
                    dropped,
                },
                Some(parts),
            ) => {
                let raised = largest
                    .checked_sub(parts.class)
                    .ok_or(Damaged("an exponent is below zero"))?;
                u64::from(parts.negative) << (exponent + fraction)
                    | u64::from(raised) << fraction
                    | parts.below << dropped
            }
        })
    }

    /// How many bits stand below a class.
    #[inline]
    pub(super) fn below(self, class: u32) -> Result<u32, Damaged> {
        match self {
            Self::Integer { kind, .. } if class < kind.bits() => Ok(class),
            Self::Integer { .. } => Err(Damaged("a class is larger than its type allows")),
            Self::Float {
                fraction, dropped, ..
            } => Ok(fraction - dropped),
        }
    }

    /// What neighbours see of a class: 1 for small to 15 for large.
    #[inline]
    pub(super) fn level(self, class: u32) -> u8 {
        match self {
            Self::Integer { .. } => (class + 1).min(15) as u8,
            Self::Float { .. } => 15 - class.min(14) as u8,
        }
    }
}

#[inline]
fn exponent_of(element: u64, exponent: u32, fraction: u32) -> u32 {
    (element >> fraction) as u32 & ((1 << exponent) - 1)
}

#[inline]
fn sign_extended(value: u64, bits: u32) -> i64 {
    ((value << (64 - bits)) as i64) >> (64 - bits)
}

/// The most frequent of the first elements, the smallest of equals: what counts as zero.
fn centre(elements: &[u64]) -> u64 {
    let mut sorted: Vec<u64> = elements.iter().take(1 << 16).copied().collect();
    sorted.sort_unstable();
    let runs = sorted.chunk_by(|a, b| a == b);
    let longest = runs.rev().max_by_key(|run| run.len());
    longest.and_then(|run| run.first()).copied().unwrap_or(0)
}
