//! What codes will take before they are coded: for choosing them by what they cost.

use std::sync::LazyLock;

use super::adaptive::Model;
use super::binary::Coder;
use super::block::BLOCK_ELEMENTS;
use super::contexts::{CONTEXTS, Neighbours};
use super::elements::{ElementType, Shape};
use super::probability::Slot;
use super::split::{MODELLED, Parts, Split};

/// Parts of a bit that prices are counted in.
pub(crate) const BIT: u32 = 4096;

/// The price of an event of a probability in 4096ths; the first entry is that of half of one.
static PRICES: LazyLock<[u32; 4097]> = LazyLock::new(|| {
    std::array::from_fn(|probability| {
        let share = (probability as f64).max(0.5) / 4096.0;
        (-share.log2() * f64::from(BIT)).round() as u32
    })
});

/// Follows the adaptive coder of 8-bit codes through a tensor, element by element in the tensor's order: what each code would take
/// here, and what all that were taken have taken.
#[derive(Debug)]
pub(crate) struct Meter {
    model: Model,
    neighbours: Neighbours,
    split: Split,
    shape: Shape,
    depth: u32,
    prices: &'static [u32; 4097],
    /// Elements so far.
    seen: u64,
    /// What they took.
    spent: u64,
}

/// What is known of the next element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here {
    contexts: [usize; CONTEXTS],
    density: usize,
    sign: Slot,
    /// Prices of being zero and of not being zero.
    zero: [u32; 2],
}

/// A coder that adds up what its decisions take.
struct Spending<'a> {
    prices: &'a [u32; 4097],
    spent: u64,
}

impl Coder for Spending<'_> {
    #[inline]
    fn code(&mut self, bit: bool, probability: u32) -> bool {
        self.spent += u64::from(price(self.prices, bit, probability));
        bit
    }
}

#[inline]
fn price(prices: &[u32; 4097], bit: bool, probability: u32) -> u32 {
    let probability = if bit { probability } else { 65_536 - probability };
    prices[(probability >> 4) as usize & 4095]
}

impl Meter {
    /// Before the first element of a tensor of these dimensions, whose codes are at most `largest` from zero.
    pub(crate) fn new(dims: &[u64], largest: u32) -> Self {
        let class = largest.max(1).ilog2();
        let depth = (1..4).find(|depth| class < (1 << depth) - 1).unwrap_or(4);
        let shape = Shape::of(dims);
        Self {
            model: Model::new(depth),
            neighbours: Neighbours::new(shape, 0),
            split: Split::Integer {
                kind: ElementType::Integer { bits: 8 },
                centre: 0,
            },
            shape,
            depth,
            prices: &PRICES,
            seen: 0,
            spent: 0,
        }
    }

    /// What is known of the next element.
    #[inline]
    pub(crate) fn here(&self) -> Here {
        let contexts = self.neighbours.contexts();
        let density = self.neighbours.density();
        let (_, _, zero) = self.model.odds(0, &contexts, density);
        Here {
            contexts,
            density,
            sign: self.model.signs[self.neighbours.signs()],
            zero: [price(self.prices, true, zero), price(self.prices, false, zero)],
        }
    }

    /// What `code` would take as the next element.
    #[inline]
    pub(crate) fn price(&self, here: &Here, code: i32) -> u32 {
        let Some(Parts {
            class,
            negative,
            below,
        }) = self.split.parts(code as u64)
        else {
            return here.zero[0];
        };
        let mut sum = here.zero[1];
        let symbol = class.min((1 << self.depth) - 1);
        let mut node = 1usize;
        for at in (0..self.model.depth).rev() {
            let bit = symbol >> at & 1 == 1;
            let (_, _, probability) = self.model.odds(node, &here.contexts, here.density);
            sum += price(self.prices, bit, probability);
            node = node << 1 | usize::from(bit);
        }
        sum += price(self.prices, negative, here.sign.direct());
        let bits = class;
        let rest = bits.saturating_sub(MODELLED);
        let slots = &self.model.below[usize::from(self.split.level(class))];
        let mut node = 1usize;
        for at in (rest..bits).rev() {
            let bit = below >> at & 1 == 1;
            sum += price(self.prices, bit, slots[node].direct());
            node = node << 1 | usize::from(bit);
        }
        sum + rest * BIT
    }

    /// Takes the next element in.
    pub(crate) fn take(&mut self, code: i32) {
        let parts = self.split.parts(code as u64);
        let mut coder = Spending {
            prices: self.prices,
            spent: self.spent,
        };
        let rest = self
            .model
            .element(&mut coder, self.split, parts, true, &mut self.neighbours);
        self.spent = coder.spent + u64::from(rest.map_or(0, |(_, bits)| bits) * BIT);
        self.seen += 1;
        if self.seen.is_multiple_of(BLOCK_ELEMENTS as u64) {
            self.model = Model::new(self.depth);
            self.neighbours = Neighbours::new(self.shape, self.seen);
        }
    }

    /// Bits that all elements so far took.
    pub(crate) fn bits(&self) -> f64 {
        self.spent as f64 / f64::from(BIT)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Effort, Place, encode};
    use super::*;

    /// Codes around zero whose spread changes from row to row.
    fn codes(rows: usize, columns: usize) -> Vec<i32> {
        let mut state = 7u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / 16_777_216.0 - 0.5
        };
        (0..rows * columns)
            .map(|at| ((next() + next() + next()) * (1 + at / columns % 9) as f64 * 2.0).round() as i32)
            .collect()
    }

    #[test]
    fn the_meter_says_what_the_coder_takes() {
        let codes = codes(64, 300);
        let mut meter = Meter::new(&[64, 300], 40);
        let mut sum = 0u64;
        for code in &codes {
            let here = meter.here();
            sum += u64::from(meter.price(&here, *code));
            meter.take(*code);
        }
        assert_eq!(sum, meter.spent, "what a code would take is what it takes");
        let bytes: Vec<u8> = codes.iter().map(|code| *code as u8).collect();
        let place = Place {
            kind: Some(ElementType::Integer { bits: 8 }),
            shape: Shape::of(&[64, 300]),
            first: 0,
            base: None,
        };
        let coded = encode(place, &bytes, Effort::Small).len() as f64;
        let told = meter.bits() / 8.0;
        assert!((coded - told).abs() < 0.01 * coded + 16.0, "{coded} {told}");
    }

    #[test]
    fn a_tensor_of_several_blocks_starts_anew_in_each() {
        let many: Vec<i32> = codes(1, BLOCK_ELEMENTS + 5);
        let mut meter = Meter::new(&[many.len() as u64], 40);
        for code in &many {
            meter.take(*code);
        }
        let mut first = Meter::new(&[BLOCK_ELEMENTS as u64], 40);
        let mut second = Meter::new(&[5], 40);
        let (a, b) = many.split_at(BLOCK_ELEMENTS);
        a.iter().for_each(|code| first.take(*code));
        b.iter().for_each(|code| second.take(*code));
        assert_eq!(meter.spent, first.spent + second.spent);
    }
}
