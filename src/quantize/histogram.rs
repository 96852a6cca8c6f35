//! A histogram of streamed values whose range grows by doubling, so that neither the order of the values nor how they are split
//! over shards changes a single count.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::extremes::extremes;

/// Bins, half of them for negative values.
pub(super) const BINS: usize = 8192;
const HALF: usize = BINS / 2;
/// Exponents of the smallest and the largest range that bins are laid over.
const EXPONENTS: std::ops::RangeInclusive<i32> = -60..=127;

/// 1.5 * 2^23: adding it to a float of less than 2^22 leaves no place for a fraction, so that the sum is rounded half to even,
/// and its lowest bits are the rounded number.
const ROUNDING: f32 = 12_582_912.0;
/// Values whose bins are found before any is counted: finding them in a loop of its own uses vector instructions.
const BLOCK: usize = 256;
/// From this many values on, counting in several tables pays: equal values in a row do not wait for each other's count.
const MANY: usize = 1 << 16;
/// Tables that long runs of values are counted in.
const TABLES: usize = 4;

/// Counts of values in `BINS` equal bins over `(-2^exponent, 2^exponent)`, with exact extremes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    exponent: i32,
    /// Empty until a value is counted.
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
            counts: Vec::new(),
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
        let (low, high, not_finite) = extremes(values);
        if not_finite > 0 {
            self.not_finite += not_finite;
            let finite: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
            return self.add(&finite);
        }
        if values.is_empty() {
            return;
        }
        self.note(low, high, values.len() as u64);
        self.grow_to(exponent_of(low.abs().max(high.abs())));
        self.counts.resize(BINS, 0);
        // A power of two: the product is exact unless it leaves the normal numbers, and then only its sign counts.
        let scale = HALF as f32 * 2f32.powi(-self.exponent);
        let mut bins = [0u16; BLOCK];
        if values.len() < MANY {
            for block in values.chunks(BLOCK) {
                find_bins(block, scale, &mut bins);
                for bin in bins.iter().take(block.len()) {
                    self.counts[usize::from(*bin)] += 1;
                }
            }
            return;
        }
        let mut tables = vec![[0u32; TABLES]; BINS];
        // 32-bit counts hold what one part adds.
        for part in values.chunks(1 << 30) {
            for block in part.chunks(BLOCK) {
                find_bins(block, scale, &mut bins);
                for (at, bin) in bins.iter().take(block.len()).enumerate() {
                    tables[usize::from(*bin)][at % TABLES] += 1;
                }
            }
            for (slot, row) in self.counts.iter_mut().zip(&mut tables) {
                *slot += row.iter().map(|count| u64::from(*count)).sum::<u64>();
                *row = [0; TABLES];
            }
        }
    }

    /// Notes extremes and number only: the bins stay empty, and with them everything but the range from lowest to highest.
    pub fn add_extremes(&mut self, values: &[f32]) {
        let (low, high, not_finite) = extremes(values);
        self.note(low, high, values.len() as u64 - not_finite);
        self.not_finite += not_finite;
    }

    fn note(&mut self, low: f32, high: f32, count: u64) {
        self.low = self.low.min(low);
        self.high = self.high.max(high);
        self.count += count;
    }

    /// Adds another histogram's counts.
    pub fn merge(&mut self, other: &Histogram) {
        self.grow_to(other.exponent);
        if !other.counts.is_empty() {
            self.counts.resize(BINS, 0);
            add_doubled(&mut self.counts, &other.counts, self.exponent - other.exponent);
        }
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.count += other.count;
        self.not_finite += other.not_finite;
    }

    /// Doubles the range until it reaches `exponent`: pairs of neighbouring bins become one.
    fn grow_to(&mut self, exponent: i32) {
        let doublings = exponent - self.exponent;
        if doublings <= 0 {
            return;
        }
        if !self.counts.is_empty() {
            let mut wider = vec![0u64; BINS];
            add_doubled(&mut wider, &self.counts, doublings);
            self.counts = wider;
        }
        self.exponent = exponent;
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
            counts: if counted > 0 { counts } else { Vec::new() },
            low,
            high,
            count,
            not_finite,
        })
    }

    /// The exponent of the range and all counts, for statistics files.
    pub fn parts(&self) -> (i32, Cow<'_, [u64]>) {
        let counts = match self.counts.is_empty() {
            true => Cow::Owned(vec![0; BINS]),
            false => Cow::Borrowed(self.counts.as_slice()),
        };
        (self.exponent, counts)
    }
}

/// The bin of each of up to [`BLOCK`] finite values.
fn find_bins(values: &[f32], scale: f32, bins: &mut [u16; BLOCK]) {
    for (value, bin) in values.iter().zip(bins) {
        let place = *value * scale;
        let rounded = (place + ROUNDING) - ROUNDING;
        let above = if rounded > place { 1.0 } else { 0.0 };
        // What vanished in the product is still below zero; after the floor, zero is in the first bin that is not negative.
        let vanished = if (place == 0.0) & (*value < 0.0) { 1.0 } else { 0.0 };
        let floor = rounded - above - vanished;
        let floor = if floor < -(HALF as f32) {
            -(HALF as f32)
        } else {
            floor
        };
        let floor = if floor > (HALF - 1) as f32 {
            (HALF - 1) as f32
        } else {
            floor
        };
        *bin = (floor + (ROUNDING + HALF as f32)).to_bits() as u16;
    }
}

/// Adds counts of bins half as wide for each of the doublings: a bin's distance from the middle halves, rounding toward minus
/// infinity on both sides.
fn add_doubled(wide: &mut [u64], counts: &[u64], doublings: i32) {
    let shift = doublings.clamp(0, 31);
    for (at, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let from_middle = at as i32 - HALF as i32;
        wide[((from_middle >> shift) + HALF as i32) as usize] += count;
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
    fn many_values_are_counted_like_few() {
        let all: Vec<f32> = values(3)
            .into_iter()
            .cycle()
            .take(MANY + 77)
            .map(|value| if value < 0.0 { 0.0 } else { value })
            .collect();
        let (mut whole, mut parts) = (Histogram::default(), Histogram::default());
        whole.add(&all);
        all.chunks(999).for_each(|part| parts.add(part));
        assert_eq!(whole, parts);
    }

    #[test]
    fn bins_are_floors_to_the_last_bit() {
        let steps = [
            -8192f32, -4096.0, -4095.5, -17.25, -1.0, -0.5, -1e-30, -0.0, 0.0, 1e-30, 0.5, 0.75, 1.0, 2.5,
            4095.0, 4095.99, 8000.0,
        ];
        let edges = (-4096..4096).flat_map(|at| {
            let edge = at as f32;
            [edge, edge.next_up(), edge.next_down()]
        });
        for value in steps.into_iter().chain(edges) {
            for scale in [1.0f32, 2f32.powi(-120)] {
                let place = value * scale;
                let vanished = i32::from(place == 0.0 && value < 0.0);
                let expected = (place.floor() as i32 + HALF as i32 - vanished).clamp(0, BINS as i32 - 1);
                let mut bins = [0u16; BLOCK];
                find_bins(&[value], scale, &mut bins);
                assert_eq!(i32::from(bins[0]), expected, "{value} times {scale}");
            }
        }
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
