//! Elements coded one after the other with probabilities that adapt to their neighbours.
//!
//! An element is split into whether it is zero, its class (the place of its highest bit, or how far its exponent is below the largest one),
//! its sign, and the bits below. Zero and class are mixed from contexts of neighbours, the sign and three bits below have probabilities of
//! their own, and the rest is stored as it is. As in DeepCABAC (Wiedemann et al. 2020) no table is sent; unlike there, predictions are mixed.

use super::Damaged;
use super::binary::{Coder, Decoder, Encoder};
use super::bits::{BitReader, BitWriter};
use super::bytes::{Reader, put_varint};
use super::contexts::{CONTEXTS, Neighbours};
use super::elements::{ElementType, Shape};
use super::probability::{Curves, Mixer, Slot};
use super::split::{MODELLED, Parts, Split};

/// Decisions that a slot of a context counts to, and one of a sign or a bit below.
const LIMIT: u32 = 400;
/// Bits of a class that the tree has no room for.
const ESCAPED: u32 = 11;

/// What has been learned.
#[derive(Debug)]
pub(super) struct Model {
    /// For each context sixteen slots: whether the element is zero, and the tree of classes.
    slots: Vec<[[Slot; 16]; 1024]>,
    mixer: Mixer<{ CONTEXTS + 1 }>,
    pub(super) signs: [Slot; 27],
    pub(super) below: [[Slot; 1 << MODELLED]; 16],
    escaped: Vec<Slot>,
    /// Bits of the tree.
    pub(super) depth: u32,
    curves: Curves,
}

impl Model {
    pub(super) fn new(depth: u32) -> Self {
        Self {
            slots: vec![[[Slot::default(); 16]; 1024]; CONTEXTS],
            mixer: Mixer::new(64, 24_000, 6),
            signs: [Slot::default(); 27],
            below: [[Slot::default(); 1 << MODELLED]; 16],
            escaped: vec![Slot::default(); 1 << ESCAPED],
            depth,
            curves: Curves::get(),
        }
    }

    /// What is known of a decision on size: its set of the mixer, the logits that are mixed, and the probability of a 1.
    #[inline]
    pub(super) fn odds(
        &self,
        node: usize,
        contexts: &[usize; CONTEXTS],
        density: usize,
    ) -> (usize, [i32; CONTEXTS + 1], u32) {
        let curves = self.curves;
        let mut logits = [0; CONTEXTS + 1];
        for ((logit, slots), context) in logits.iter_mut().zip(&self.slots).zip(contexts) {
            *logit = curves.stretch(slots[*context][node]);
        }
        logits[CONTEXTS] = 256;
        let set = node * 4 + density;
        (set, logits, self.mixer.mix(set, &logits, curves))
    }

    #[inline]
    pub(super) fn mixed(
        &mut self,
        coder: &mut impl Coder,
        bit: bool,
        node: usize,
        contexts: &[usize; CONTEXTS],
        density: usize,
    ) -> bool {
        let (set, logits, probability) = self.odds(node, contexts, density);
        let curves = self.curves;
        let bit = coder.code(bit, probability);
        self.mixer.update(set, &logits, bit, probability);
        for (slots, context) in self.slots.iter_mut().zip(contexts) {
            slots[*context][node].update(bit, LIMIT, curves);
        }
        bit
    }

    /// The class: its tree, and beyond that a number.
    #[inline]
    pub(super) fn class(
        &mut self,
        coder: &mut impl Coder,
        class: u32,
        contexts: &[usize; CONTEXTS],
        density: usize,
    ) -> u32 {
        let escape = (1 << self.depth) - 1;
        let symbol = class.min(escape);
        let mut node = 1usize;
        for at in (0..self.depth).rev() {
            let bit = self.mixed(coder, symbol >> at & 1 == 1, node, contexts, density);
            node = node << 1 | usize::from(bit);
        }
        let symbol = node as u32 ^ (1 << self.depth);
        if symbol < escape {
            return symbol;
        }
        let beyond = class.wrapping_sub(escape);
        let mut node = 1usize;
        for at in (0..ESCAPED).rev() {
            let slot = &mut self.escaped[node];
            let bit = coder.code(beyond >> at & 1 == 1, slot.direct());
            slot.update(bit, 255, self.curves);
            node = node << 1 | usize::from(bit);
        }
        escape + (node as u32 ^ (1 << ESCAPED))
    }

    #[inline]
    pub(super) fn sign(&mut self, coder: &mut impl Coder, negative: bool, context: usize) -> bool {
        let slot = &mut self.signs[context];
        let bit = coder.code(negative, slot.direct());
        slot.update(bit, 255, self.curves);
        bit
    }

    /// The `bits` highest bits below a class.
    #[inline]
    pub(super) fn below(&mut self, coder: &mut impl Coder, value: u64, bits: u32, level: u8) -> u64 {
        let mut node = 1usize;
        for at in (0..bits).rev() {
            let slot = &mut self.below[usize::from(level)][node];
            let bit = coder.code(value >> at & 1 == 1, slot.direct());
            slot.update(bit, 1023, self.curves);
            node = node << 1 | usize::from(bit);
        }
        node as u64 ^ (1 << bits)
    }
}

impl Model {
    /// Codes an element that is known, and takes it in. Answers what is stored as it is, with its bits.
    #[inline]
    pub(super) fn element(
        &mut self,
        coder: &mut impl Coder,
        split: Split,
        parts: Option<Parts>,
        has_zeros: bool,
        neighbours: &mut Neighbours,
    ) -> Option<(u64, u32)> {
        let contexts = neighbours.contexts();
        let density = neighbours.density();
        if has_zeros {
            self.mixed(coder, parts.is_none(), 0, &contexts, density);
        }
        let Some(parts) = parts else {
            neighbours.push(0, 0);
            return None;
        };
        self.class(coder, parts.class, &contexts, density);
        self.sign(coder, parts.negative, neighbours.signs());
        let level = split.level(parts.class);
        let bits = split.below(parts.class).unwrap_or(0);
        let rest = bits.saturating_sub(MODELLED);
        self.below(coder, parts.below >> rest, bits - rest, level);
        neighbours.push(level, 1 + u8::from(parts.negative));
        Some((parts.below & ((1 << rest) - 1), rest))
    }
}

/// The elements from `first` on of a tensor of this shape.
pub(crate) fn encode(kind: ElementType, elements: &[u64], shape: Shape, first: u64) -> Vec<u8> {
    let split = Split::choose(kind, elements);
    let classes = elements.iter().filter_map(|element| split.parts(*element));
    let largest = classes.map(|parts| parts.class).max().unwrap_or(0);
    let depth = (1..4).find(|depth| largest < (1 << depth) - 1).unwrap_or(4);
    let has_zeros = elements.iter().any(|element| split.parts(*element).is_none());
    let mut model = Model::new(depth);
    let mut neighbours = Neighbours::new(shape, first);
    let mut coder = Encoder::new();
    let mut raw = BitWriter::default();
    for element in elements {
        let rest = model.element(
            &mut coder,
            split,
            split.parts(*element),
            has_zeros,
            &mut neighbours,
        );
        if let Some((value, bits)) = rest {
            raw.put(value, bits);
        }
    }
    let coded = coder.finish();
    let mut out = Vec::with_capacity(coded.len() + 16);
    split.put(&mut out);
    out.push(depth as u8 | u8::from(has_zeros) << 4);
    put_varint(&mut out, coded.len() as u64);
    out.extend(coded);
    out.extend(raw.finish());
    out
}

/// `count` elements from what [`encode`] gave, all of the bytes.
pub(crate) fn decode(
    reader: &mut Reader<'_>,
    kind: ElementType,
    count: usize,
    shape: Shape,
    first: u64,
) -> Result<Vec<u64>, Damaged> {
    let split = Split::take(reader, kind)?;
    let flags = reader.byte()?;
    let (depth, has_zeros) = (u32::from(flags & 15), flags >> 4 == 1);
    if !(1..=4).contains(&depth) || flags >> 5 != 0 {
        return Err(Damaged("a tree of classes has a wrong depth"));
    }
    let length = reader.size()?;
    let mut coder = Decoder::new(reader.take(length)?);
    let mut raw = BitReader::new(std::mem::take(&mut reader.0));
    let mut model = Model::new(depth);
    let mut neighbours = Neighbours::new(shape, first);
    let mut elements = Vec::with_capacity(count);
    for _ in 0..count {
        let contexts = neighbours.contexts();
        let density = neighbours.density();
        if has_zeros && model.mixed(&mut coder, false, 0, &contexts, density) {
            elements.push(split.element(None)?);
            neighbours.push(0, 0);
            continue;
        }
        let class = model.class(&mut coder, 0, &contexts, density);
        let negative = model.sign(&mut coder, false, neighbours.signs());
        let level = split.level(class);
        let bits = split.below(class)?;
        let rest = bits.saturating_sub(MODELLED);
        let high = model.below(&mut coder, 0, bits - rest, level);
        let below = high << rest | raw.take(rest)?;
        elements.push(split.element(Some(Parts {
            class,
            negative,
            below,
        }))?);
        neighbours.push(level, 1 + u8::from(negative));
    }
    if !coder.is_done() || !raw.is_done() {
        return Err(Damaged("bytes are left over"));
    }
    Ok(elements)
}
