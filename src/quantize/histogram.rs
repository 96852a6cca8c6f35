//! A histogram of streamed values whose range grows by doubling, so that neither the order of the values nor how they are split
//! over shards changes a single count.

use serde::{Deserialize, Serialize};

/// Bins, half of them for negative values.
pub(super) const BINS: usize = 8192;
const HALF: usize = BINS / 2;
/// Exponents of the smallest and the largest range that bins are laid over.
const EXPONENTS: std::ops::RangeInclusive<i32> = -60..=127;

/// Counts of values in `BINS` equal bins over `(-2^exponent, 2^exponent)`, with exact extremes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    exponent: i32,
    counts: Vec<u64>,
    low: f32,
    high: f32,
    count: u64,
    not_finite: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            exponent: *EXPONENTS.start(),
            counts: vec![0; BINS],
            low: f32::INFINITY,
            high: f32::NEG_INFINITY,
            count: 0,
            not_finite: 0,
        }
    }
}

impl Histogram {
    /// Counts values; NaN and infinite ones are only numbered.
    pub fn add(&mut self, values: &[f32]) {
        let mut largest = 0f32;
        for value in values {
            if value.is_finite() {
                largest = largest.max(value.abs());
                self.low = self.low.min(*value);
                self.high = self.high.max(*value);
            }
        }
        self.grow_to(exponent_of(largest));
        // A power of two: the product is exact unless it leaves the normal numbers, and then only its sign counts.
        let scale = HALF as f32 * 2f32.powi(-self.exponent);
        for value in values {
            if !value.is_finite() {
                self.not_finite += 1;
                continue;
            }
            let place = value * scale;
            let vanished = place == 0.0 && *value < 0.0;
            // Adding the half after the floor keeps zero at the first non-negative bin.
            let bin = (place.floor() as i32 + HALF as i32 - i32::from(vanished)).clamp(0, BINS as i32 - 1);
            if let Some(slot) = self.counts.get_mut(bin as usize) {
                *slot += 1;
            }
            self.count += 1;
        }
    }

    /// Notes extremes and number only: the bins stay empty, and with them everything but the range from lowest to highest.
    pub fn add_extremes(&mut self, values: &[f32]) {
        for value in values {
            if value.is_finite() {
                self.low = self.low.min(*value);
                self.high = self.high.max(*value);
                self.count += 1;
            } else {
                self.not_finite += 1;
            }
        }
    }

    /// Adds another histogram's counts.
    pub fn merge(&mut self, other: &Histogram) {
        let mut other = other.clone();
        let exponent = self.exponent.max(other.exponent);
        self.grow_to(exponent);
        other.grow_to(exponent);
        self.counts
            .iter_mut()
            .zip(&other.counts)
            .for_each(|(a, b)| *a += b);
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.count += other.count;
        self.not_finite += other.not_finite;
    }

    /// Doubles the range until it reaches `exponent`: pairs of neighbouring bins become one.
    fn grow_to(&mut self, exponent: i32) {
        while self.exponent < exponent {
            let mut wider = vec![0u64; BINS];
            for (at, count) in self.counts.iter().enumerate() {
                // Distance from the middle halves, rounding toward minus infinity on both sides.
                let from_middle = at as i64 - HALF as i64;
                if let Some(slot) = wider.get_mut((from_middle.div_euclid(2) + HALF as i64) as usize) {
                    *slot += count;
                }
            }
            self.counts = wider;
            self.exponent += 1;
        }
    }

    /// Finite values counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Values that were NaN or infinite.
    pub fn not_finite(&self) -> u64 {
        self.not_finite
    }

    /// Lowest and highest value, exactly; `None` before the first.
    pub fn extremes(&self) -> Option<(f32, f32)> {
        (self.count > 0).then_some((self.low, self.high))
    }

    /// Width of a bin.
    pub fn bin_width(&self) -> f64 {
        2f64.powi(self.exponent) / HALF as f64
    }

    /// Each bin that is not empty: lower edge and count, ascending.
    pub fn bins(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let width = self.bin_width();
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(move |(at, count)| ((at as f64 - HALF as f64) * width, *count))
    }

    /// A histogram from what [`Histogram::parts`] and the other getters answered; `None` if it cannot be one.
    pub fn from_parts(
        exponent: i32,
        counts: Vec<u64>,
        (low, high): (f32, f32),
        count: u64,
        not_finite: u64,
    ) -> Option<Self> {
        let counted = counts.iter().try_fold(0u64, |sum, bin| sum.checked_add(*bin))?;
        let ordered = if count == 0 {
            counted == 0
        } else {
            low <= high && (counted == count || counted == 0)
        };
        (counts.len() == BINS && EXPONENTS.contains(&exponent) && ordered).then_some(Self {
            exponent,
            counts,
            low,
            high,
            count,
            not_finite,
        })
    }

    /// All counts and the exponent of the range, for statistics files.
    pub fn parts(&self) -> (i32, &[u64]) {
        (self.exponent, &self.counts)
    }
}

/// The smallest exponent whose range holds values of this size.
fn exponent_of(size: f32) -> i32 {
    if size <= 0.0 {
        return *EXPONENTS.start();
    }
    let size = f64::from(size);
    let mut exponent = (size.log2().ceil() as i32).clamp(*EXPONENTS.start(), *EXPONENTS.end());
    // The logarithm may be off by rounding; a value equal to the bound belongs to the next range.
    while 2f64.powi(exponent) <= size && exponent < *EXPONENTS.end() {
        exponent += 1;
    }
    while exponent > *EXPONENTS.start() && 2f64.powi(exponent - 1) > size {
        exponent -= 1;
    }
    exponent
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u32) -> Vec<f32> {
        (0..500u32)
            .map(|i| {
                (i.wrapping_mul(2654435761).wrapping_add(seed) as f32 / 4e9 - 0.5) * (1 << (i % 12)) as f32
            })
            .collect()
    }

    #[test]
    fn tiny_negative_values_stay_below_zero() {
        let mut together = Histogram::default();
        together.add(&[-1e-44, 1e30]);
        let mut apart = Histogram::default();
        apart.add(&[-1e-44]);
        apart.add(&[1e30]);
        assert_eq!(together, apart);
        assert!(
            together
                .bins()
                .next()
                .is_some_and(|(edge, count)| edge < 0.0 && count == 1)
        );
    }

    #[test]
    fn order_and_splitting_change_nothing() {
        let all: Vec<f32> = values(1).into_iter().chain(values(7)).collect();
        let mut whole = Histogram::default();
        whole.add(&all);
        let mut backwards = Histogram::default();
        all.iter().rev().for_each(|v| backwards.add(&[*v]));
        assert_eq!(whole, backwards);
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.add(&all[..300]);
        b.add(&all[300..]);
        b.merge(&a);
        assert_eq!(whole, b);
        assert_eq!(whole.bins().map(|(_, n)| n).sum::<u64>(), 1000);
    }

    #[test]
    fn bins_hold_their_values() {
        let mut histogram = Histogram::default();
        histogram.add(&[1.0, -1.0, 0.0, 0.25, f32::NAN]);
        assert_eq!(
            (histogram.extremes(), histogram.not_finite()),
            (Some((-1.0, 1.0)), 1)
        );
        let width = histogram.bin_width();
        for value in [1.0, -1.0, 0.0, 0.25] {
            assert!(
                histogram
                    .bins()
                    .any(|(edge, _)| edge <= value && value < edge + width),
                "{value}"
            );
        }
    }
}
