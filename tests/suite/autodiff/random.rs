//! A small seeded generator of random numbers, shapes and choices.

use std::cell::Cell;

/// SplitMix64.
pub(super) struct Random(Cell<u64>);

impl Random {
    pub(super) fn new(name: &str, case: u64) -> Self {
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(Cell::new(seed ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut z = self.0.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..=high`.
    pub(super) fn int(&self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    pub(super) fn bool(&self) -> bool {
        self.next() & 1 == 1
    }

    pub(super) fn pick<T: Clone>(&self, items: &[T]) -> T {
        items[self.int(0, items.len() as i64 - 1) as usize].clone()
    }

    /// A number in `low..high`.
    pub(super) fn uniform(&self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Numbers in `low..high`, all different and apart: a shuffled, jittered grid. Maxima are clear, and a small step crosses
    /// no kink between two of them.
    pub(super) fn spread(&self, count: usize, low: f64, high: f64) -> Vec<f64> {
        let cell = (high - low) / count.max(1) as f64;
        let mut values: Vec<f64> = (0..count)
            .map(|i| low + cell * (i as f64 + 0.5 + 0.3 * self.uniform(-1.0, 1.0)))
            .collect();
        for at in (1..count).rev() {
            values.swap(at, self.int(0, at as i64) as usize);
        }
        values
    }

    /// Dimensions of the given rank, each in `low..=high`.
    pub(super) fn dims(&self, rank: usize, low: i64, high: i64) -> Vec<i64> {
        (0..rank).map(|_| self.int(low, high)).collect()
    }

    /// The same dimensions with some set to 1, leading ones sometimes left out.
    pub(super) fn narrower(&self, dims: &[i64]) -> Vec<i64> {
        let skip = if self.bool() {
            self.int(0, dims.len() as i64) as usize
        } else {
            0
        };
        dims[skip..]
            .iter()
            .map(|dim| if self.int(0, 2) == 0 { 1 } else { *dim })
            .collect()
    }

    /// A permutation.
    pub(super) fn order(&self, count: usize) -> Vec<i64> {
        let mut order: Vec<i64> = (0..count as i64).collect();
        for at in (1..count).rev() {
            order.swap(at, self.int(0, at as i64) as usize);
        }
        order
    }
}
