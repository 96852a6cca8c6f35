//! Elements by what they differ in from the elements of another tensor, which the reader has: weights that were trained on, or pruned.
//!
//! What was set to zero is said first, since it depends on how small the element was; what is left is the difference of both as whole
//! numbers in the order of their values, which is small where the values are close.

use super::Damaged;
use super::adaptive::Model;
use super::binary::{Coder, Decoder, Encoder};
use super::bits::{BitReader, BitWriter};
use super::bytes::{Reader, put_varint};
use super::elements::ElementType;
use super::probability::{Curves, Slot};
use super::split::{MODELLED, Parts, Split};

/// Contexts of whether an element was set to zero: 32 sizes, four parts of each, and what became of the last one.
const SIZES: usize = 1 << 9;

/// An element as a whole number in the order of values.
fn ranked(kind: ElementType, element: u64) -> u64 {
    let sign = 1 << (kind.bits() - 1);
    match kind {
        ElementType::Float { .. } if element & sign != 0 => !element & kind.mask(),
        ElementType::Float { .. } => element | sign,
        ElementType::Integer { .. } => element,
    }
}

/// The element of a whole number.
fn unranked(kind: ElementType, rank: u64) -> u64 {
    let sign = 1 << (kind.bits() - 1);
    match kind {
        ElementType::Float { .. } if rank & sign == 0 => !rank & kind.mask(),
        ElementType::Float { .. } => rank ^ sign,
        ElementType::Integer { .. } => rank,
    }
}

/// Where an element of the base lies among all: its class and two bits below, and its level.
struct Sizes {
    split: Split,
}

impl Sizes {
    fn of(kind: ElementType, base: &[u64]) -> Self {
        Self {
            split: Split::choose(kind, base),
        }
    }

    fn size(&self, element: u64) -> (usize, u8) {
        let Some(parts) = self.split.parts(element) else {
            return (0, 0);
        };
        let bits = self.split.below(parts.class).unwrap_or(0);
        let part = if bits >= 2 { parts.below >> (bits - 2) } else { 0 } as usize & 3;
        (
            (parts.class.min(30) as usize + 1) * 4 + part,
            self.split.level(parts.class),
        )
    }
}

struct Differences {
    sizes: Sizes,
    dropped: Vec<Slot>,
    model: Model,
    split: Split,
    /// What became of the last two: 0 for nothing, 1 for set to zero, 2 for changed.
    last: usize,
    /// Average level of differences in 256ths.
    average: u32,
    level: u8,
    curves: Curves,
}

impl Differences {
    fn new(kind: ElementType, base: &[u64]) -> Self {
        let whole = ElementType::Integer { bits: kind.bits() };
        Self {
            sizes: Sizes::of(kind, base),
            dropped: vec![Slot::default(); SIZES],
            model: Model::new(4),
            split: Split::Integer {
                kind: whole,
                centre: 0,
            },
            last: 0,
            average: 0,
            level: 0,
            curves: Curves::get(),
        }
    }

    /// Whether an element was set to zero.
    fn dropped(&mut self, coder: &mut impl Coder, size: usize, dropped: bool) -> bool {
        let slot = &mut self.dropped[(size * 3 + self.last) & (SIZES - 1)];
        let bit = coder.code(dropped, slot.direct());
        slot.update(bit, 400, self.curves);
        if bit {
            self.last = 1;
        }
        bit
    }

    /// A difference, but for the bits that are stored as they are.
    fn difference(
        &mut self,
        coder: &mut impl Coder,
        level: u8,
        parts: Option<Parts>,
    ) -> Result<Option<Parts>, Damaged> {
        let contexts = [
            usize::from(level) * 16 + usize::from(self.level),
            (self.average >> 6) as usize,
            usize::from(level) * 64 + (self.average >> 8) as usize,
        ];
        let zero = self.model.mixed(coder, parts.is_none(), 0, &contexts, self.last);
        self.last = if zero { 0 } else { 2 };
        if zero {
            self.learn(0);
            return Ok(None);
        }
        let parts = parts.unwrap_or_default();
        let class = self.model.class(coder, parts.class, &contexts, 0);
        let negative = self.model.sign(coder, parts.negative, usize::from(level));
        let own = self.split.level(class);
        let bits = self.split.below(class)?;
        let rest = bits.saturating_sub(MODELLED);
        let below = self.model.below(coder, parts.below >> rest, bits - rest, own) << rest;
        self.learn((class + 1).min(63) as u8);
        Ok(Some(Parts {
            class,
            negative,
            below,
        }))
    }

    fn learn(&mut self, level: u8) {
        self.level = level.min(15);
        self.average = self.average + (u32::from(level) << 8 >> 3) - (self.average >> 3);
    }
}

/// The elements as they differ from those of the base, of which there are as many.
pub(super) fn encode(kind: ElementType, elements: &[u64], base: &[u64]) -> Vec<u8> {
    let mut state = Differences::new(kind, base);
    let mut coder = Encoder::new();
    let mut raw = BitWriter::default();
    for (element, base) in elements.iter().zip(base) {
        let (size, level) = state.sizes.size(*base);
        let dropped = *element == 0 && *base != 0;
        if *base != 0 && state.dropped(&mut coder, size, dropped) {
            continue;
        }
        let difference = ranked(kind, *element).wrapping_sub(ranked(kind, *base)) & kind.mask();
        let parts = state.split.parts(difference);
        // What is given comes back, so this fails in a decoder alone.
        if let (Ok(Some(_)), Some(parts)) = (state.difference(&mut coder, level, parts), parts) {
            let rest = parts.class.saturating_sub(MODELLED);
            raw.put(parts.below & ((1 << rest) - 1), rest);
        }
    }
    let coded = coder.finish();
    let mut out = Vec::with_capacity(coded.len() + 16);
    put_varint(&mut out, coded.len() as u64);
    out.extend(coded);
    out.extend(raw.finish());
    out
}

/// The elements from what [`encode`] gave, all of the bytes.
pub(super) fn decode(reader: &mut Reader<'_>, kind: ElementType, base: &[u64]) -> Result<Vec<u64>, Damaged> {
    let length = reader.size()?;
    let mut coder = Decoder::new(reader.take(length)?);
    let mut raw = BitReader::new(std::mem::take(&mut reader.0));
    let mut state = Differences::new(kind, base);
    let mut elements = Vec::with_capacity(base.len());
    for base in base {
        let (size, level) = state.sizes.size(*base);
        if *base != 0 && state.dropped(&mut coder, size, false) {
            elements.push(0);
            continue;
        }
        let difference = match state.difference(&mut coder, level, Some(Parts::default()))? {
            None => 0,
            Some(mut parts) => {
                parts.below |= raw.take(parts.class.saturating_sub(MODELLED))?;
                state.split.element(Some(parts))?
            }
        };
        let rank = ranked(kind, *base).wrapping_add(difference) & kind.mask();
        elements.push(unranked(kind, rank));
    }
    if !coder.is_done() || !raw.is_done() {
        return Err(Damaged("bytes are left over"));
    }
    Ok(elements)
}
