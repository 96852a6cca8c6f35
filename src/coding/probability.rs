//! Probabilities that are learned from the decisions before, and how several of them are mixed into one.
//!
//! All numbers are integers: 22 bits of probability in a [`Slot`], logits in 256ths from -2047 to 2047, weights in 65536ths.

use std::sync::LazyLock;

/// The logistic function at -8, -7.5, ... 8 in 65536ths.
const LOGISTIC: [i32; 33] = [
    22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11_955, 17_625, 24_743, 32_768, 40_793,
    47_911, 53_581, 57_724, 60_565, 62_428, 63_615, 64_357, 64_816, 65_097, 65_269, 65_374, 65_438, 65_476,
    65_500, 65_514,
];

/// The largest logit.
const LARGEST: i32 = 2047;
/// Decisions that are counted in a slot at most, whatever its limit.
const COUNTS: usize = 1024;

/// The probability in 65536ths that belongs to a logit: straight lines between the points of [`LOGISTIC`].
fn squashed(logit: i32) -> i32 {
    let logit = logit.clamp(-LARGEST, LARGEST) + 2048;
    let (at, part) = ((logit >> 7) as usize, logit & 127);
    (LOGISTIC[at] * (128 - part) + LOGISTIC[at + 1] * part + 64) >> 7
}

#[derive(Debug)]
struct Tables {
    squash: [u16; 4096],
    stretch: [i16; 4096],
    /// `65536 / (n + 1.5)`, rounded down.
    rates: [i32; COUNTS],
}

static TABLES: LazyLock<Box<Tables>> = LazyLock::new(|| {
    let mut tables = Box::new(Tables {
        squash: [0; 4096],
        stretch: [LARGEST as i16; 4096],
        rates: [0; COUNTS],
    });
    for (at, entry) in tables.squash.iter_mut().enumerate() {
        *entry = squashed(at as i32 - 2048) as u16;
    }
    // The smallest logit whose probability is at least that of the entry.
    let mut next = 0;
    for logit in -LARGEST..=LARGEST {
        let upto = (squashed(logit) >> 4) as usize;
        while next <= upto {
            tables.stretch[next] = logit as i16;
            next += 1;
        }
    }
    for (count, rate) in tables.rates.iter_mut().enumerate() {
        *rate = (131_072 / (2 * count + 3)) as i32;
    }
    tables
});

/// The tables, looked up once by what codes many decisions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Curves(&'static Tables);

impl Curves {
    /// The tables.
    pub(crate) fn get() -> Self {
        Self(&TABLES)
    }

    /// A logit as a probability in 65536ths, between 22 and 65514.
    #[inline]
    pub(crate) fn squash(self, logit: i32) -> u32 {
        u32::from(self.0.squash[(logit.clamp(-LARGEST, LARGEST) + 2048) as usize])
    }

    /// The logit of a slot's probability.
    #[inline]
    pub(crate) fn stretch(self, slot: Slot) -> i32 {
        i32::from(self.0.stretch[(slot.probability() >> 10) as usize & 4095])
    }
}

/// What is known of a decision: 22 bits of the probability of a 1, and in the lowest 10 bits how often it was made. A slot of zeros has seen
/// nothing and holds a half: the top bit of the probability is stored inverted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slot(u32);

impl Slot {
    const HALF: u32 = 1 << 31;

    /// The probability of a 1 in 2^22ths.
    #[inline]
    pub(crate) fn probability(self) -> u32 {
        (self.0 ^ Self::HALF) >> 10
    }

    /// The probability in 65536ths, as a coder takes it.
    #[inline]
    pub(crate) fn direct(self) -> u32 {
        (self.probability() >> 6).clamp(32, 65_504)
    }

    /// Moves the probability towards the bit by `1 / (n + 1.5)` of the way, where `n` counts up to `limit`.
    #[inline]
    pub(crate) fn update(&mut self, bit: bool, limit: u32, curves: Curves) {
        let count = self.0 & 1023;
        let probability = i64::from(self.probability());
        let target = if bit { (1 << 22) - 1 } else { 0 };
        let rate = i64::from(curves.0.rates[count as usize & 1023]);
        let moved = probability + (((target - probability) * rate) >> 16);
        self.0 = ((moved as u32) << 10 ^ Self::HALF) | (count + u32::from(count < limit));
    }
}

/// Weighs logits: one set of weights for each of several situations, learned online.
#[derive(Debug)]
pub(crate) struct Mixer<const N: usize> {
    weights: Vec<[i32; N]>,
    rate: i32,
}

/// The largest weight: 16.
const HEAVIEST: i32 = 1 << 20;

impl<const N: usize> Mixer<N> {
    /// Mixers for `sets` situations, each weight `first / 65536` at the beginning.
    pub(crate) fn new(sets: usize, first: i32, rate: i32) -> Self {
        Self {
            weights: vec![[first; N]; sets],
            rate,
        }
    }

    /// The probability in 65536ths that the weighted logits give.
    #[inline]
    pub(crate) fn mix(&self, set: usize, logits: &[i32; N], curves: Curves) -> u32 {
        let pairs = self.weights[set].iter().zip(logits);
        let sum: i64 = pairs
            .map(|(weight, logit)| i64::from(*weight) * i64::from(*logit))
            .sum();
        curves.squash((sum >> 16) as i32)
    }

    /// Learns from the bit: each weight moves by the error times its logit.
    #[inline]
    pub(crate) fn update(&mut self, set: usize, logits: &[i32; N], bit: bool, probability: u32) {
        let target = if bit { 65_536 } else { 0 };
        let error = ((target - probability as i32) * self.rate) >> 4;
        for (weight, logit) in self.weights[set].iter_mut().zip(logits) {
            *weight = (*weight + ((logit * error + 0x8000) >> 16)).clamp(-HEAVIEST, HEAVIEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_monotone_and_inverse_to_each_other() {
        let curves = Curves::get();
        let squash: Vec<u32> = (-2047..=2047).map(|logit| curves.squash(logit)).collect();
        assert!(squash.is_sorted());
        assert_eq!((squash[0], squash[2047], squash[4094]), (22, 32_768, 65_514));
        assert!(TABLES.stretch.is_sorted());
        for probability in [100u32, 1000, 2048, 3000, 4000] {
            let logit = i32::from(TABLES.stretch[probability as usize]);
            let back = curves.squash(logit) >> 4;
            assert!(back.abs_diff(probability) <= 4, "{probability} {back}");
        }
    }

    #[test]
    fn a_slot_learns_what_it_sees() {
        let curves = Curves::get();
        let mut slot = Slot::default();
        assert_eq!(slot.direct(), 32_768);
        for at in 0..1000 {
            slot.update(at % 4 == 0, 255, curves);
        }
        assert!(slot.direct().abs_diff(16_384) < 1500, "{}", slot.direct());
        for _ in 0..100_000 {
            slot.update(true, 1023, curves);
        }
        assert_eq!(slot.direct(), 65_504);
    }
}
