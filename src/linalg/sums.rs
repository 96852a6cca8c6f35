//! Sums that depend neither on the order of their addends nor on how these were grouped, so that parts of a data set that were summed
//! apart give the bits of one run.
//!
//! Each sum is a window of `K` bins at fixed exponents, 40 bits apart, as whole numbers (Demmel and Nguyen 2013, "Fast reproducible
//! floating-point summation"). An addend is cut into digits by the place of its bits alone; the window lies where the largest addend
//! needs it, and what falls below it is dropped digit by digit. A digit has at most 39 bits and a sign, so 2^24 addends fit; each has to
//! be smaller than 2^1000. What is kept of an addend reaches at least `40 (K - 1)` bits below the largest one.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bits between bins.
const WIDTH: i32 = 40;
/// The place of a window nothing was added to.
const EMPTY: i16 = i16::MIN;
/// The place of a window to which NaN or infinity was added.
const NOT_FINITE: i16 = i16::MAX;

/// Sums, element by element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums<const K: usize> {
    /// Which bin is the first of each window.
    top: Vec<i16>,
    /// The bins, the highest first.
    bins: Vec<[i64; K]>,
}

impl<const K: usize> Default for Sums<K> {
    fn default() -> Self {
        Self::new(0)
    }
}

/// The first bin that `value` has a digit in, and its mantissa with the exponent of its last bit; `None` for zero.
fn taken_apart(value: f64) -> Option<(i16, i64, i32)> {
    let bits = value.to_bits();
    let field = (bits >> 52 & 0x7ff) as i32;
    let fraction = (bits & ((1 << 52) - 1)) as i64;
    let (mantissa, exponent) = match field {
        0 => (fraction, -1074),
        _ => (fraction | 1 << 52, field - 1075),
    };
    if mantissa == 0 {
        return None;
    }
    let length = 64 - mantissa.leading_zeros() as i32;
    let top = (exponent + length).div_euclid(WIDTH) as i16;
    let signed = if value < 0.0 { -mantissa } else { mantissa };
    Some((top, signed, exponent))
}

impl<const K: usize> Sums<K> {
    /// `count` sums of nothing.
    pub fn new(count: usize) -> Self {
        Self {
            top: vec![EMPTY; count],
            bins: vec![[0; K]; count],
        }
    }

    /// Sums of these values alone.
    pub fn of(values: &[f64]) -> Self {
        let mut sums = Self::new(values.len());
        sums.add_all(values);
        sums
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.top.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.top.is_empty()
    }

    /// Adds to one of them.
    ///
    /// # Panics
    /// Where there is no sum at this place.
    #[inline]
    pub fn add(&mut self, at: usize, value: f64) {
        if !value.is_finite() {
            self.top[at] = NOT_FINITE;
            return;
        }
        let Some((first, mut rest, exponent)) = taken_apart(value) else {
            return;
        };
        raise(&mut self.top[at], &mut self.bins[at], first);
        let top = self.top[at];
        if top == NOT_FINITE {
            return;
        }
        let ahead = i32::from(top) - i32::from(first);
        for place in usize::try_from(ahead).unwrap_or(0)..K {
            let shift = (i32::from(top) - place as i32) * WIDTH - exponent;
            if shift <= 0 {
                self.bins[at][place] += rest << -shift;
                return;
            }
            let digit = (rest + (1 << (shift - 1))) >> shift;
            self.bins[at][place] += digit;
            rest -= digit << shift;
        }
    }

    /// Adds a value to each of them.
    pub fn add_all(&mut self, values: &[f64]) {
        for (at, value) in values.iter().enumerate().take(self.len()) {
            self.add(at, *value);
        }
    }

    /// Adds what other sums of no more elements hold.
    pub fn merge(&mut self, other: &Self) {
        let mine = self.top.iter_mut().zip(&mut self.bins);
        for ((top, bins), (other, more)) in mine.zip(other.top.iter().zip(&other.bins)) {
            raise(top, bins, *other);
            if matches!(*top, EMPTY | NOT_FINITE) || *other == EMPTY {
                continue;
            }
            let below = usize::try_from(i32::from(*top) - i32::from(*other)).unwrap_or(0);
            bins.iter_mut().skip(below).zip(more).for_each(|(a, b)| *a += b);
        }
    }

    /// One of them, rounded; NaN where an addend was not finite.
    pub fn value(&self, at: usize) -> f64 {
        let (high, low) = self.parts(at);
        high + low
    }

    /// One of them as a sum of two numbers, the second one small.
    pub fn parts(&self, at: usize) -> (f64, f64) {
        match (self.top.get(at), self.bins.get(at)) {
            (Some(&EMPTY) | None, _) | (_, None) => (0.0, 0.0),
            (Some(&NOT_FINITE), _) => (f64::NAN, 0.0),
            (Some(top), Some(bins)) => rounded(*top, *bins),
        }
    }

    /// All of them, rounded.
    pub fn values(&self) -> Vec<f64> {
        (0..self.len()).map(|at| self.value(at)).collect()
    }

    /// Whether every addend was finite.
    pub fn is_finite(&self) -> bool {
        self.top.iter().all(|top| *top != NOT_FINITE)
    }

    /// Places and bins as words: `[K + 1]` for each sum.
    pub fn words(&self) -> Vec<i64> {
        let each = self.top.iter().zip(&self.bins);
        each.flat_map(|(top, bins)| std::iter::once(i64::from(*top)).chain(*bins))
            .collect()
    }

    /// What [`Sums::words`] answered; `None` for other words.
    pub fn from_words(words: &[i64]) -> Option<Self> {
        let mut sums = Self::default();
        if !words.len().is_multiple_of(K + 1) {
            return None;
        }
        for entry in words.chunks_exact(K + 1) {
            let (top, bins) = entry.split_first()?;
            sums.top.push(i16::try_from(*top).ok()?);
            sums.bins.push(bins.try_into().ok()?);
        }
        Some(sums)
    }
}

/// Moves a window up, so that it begins at `first` or above; digits below it are dropped.
#[inline]
fn raise<const K: usize>(top: &mut i16, bins: &mut [i64; K], first: i16) {
    if first <= *top {
        return;
    }
    let up = i32::from(first) - i32::from(*top);
    *top = first;
    let up = usize::try_from(up).unwrap_or(K).min(K);
    bins.rotate_right(up);
    bins.iter_mut().take(up).for_each(|bin| *bin = 0);
}

/// The number that a window holds: carries go up first, so that each digit but the first is short and the sum of them loses nothing
/// that two numbers can hold.
fn rounded<const K: usize>(top: i16, mut bins: [i64; K]) -> (f64, f64) {
    for place in (1..K).rev() {
        let carry = (bins[place] + (1 << (WIDTH - 1))) >> WIDTH;
        bins[place] -= carry << WIDTH;
        bins[place - 1] += carry;
    }
    let (mut high, mut low) = (0.0, 0.0);
    for (place, bin) in bins.iter().enumerate() {
        let exponent = (i32::from(top) - place as i32) * WIDTH;
        // 64 bits are two numbers.
        let upper = bin >> 32;
        let lower = bin - (upper << 32);
        for (digit, exponent) in [(upper, exponent + 32), (lower, exponent)] {
            let (sum, error) = two_sum(high, scaled(digit as f64, exponent));
            (high, low) = (sum, low + error);
        }
    }
    two_sum(high, low)
}

/// `value` times two to the `exponent`, rounded once at most.
fn scaled(value: f64, exponent: i32) -> f64 {
    let half = exponent / 2;
    value * 2f64.powi(half) * 2f64.powi(exponent - half)
}

/// The rounded sum, and what rounding lost.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let own = sum - a;
    (sum, (a - (sum - own)) + (b - own))
}

impl<const K: usize> Serialize for Sums<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.words().serialize(serializer)
    }
}

impl<'de, const K: usize> Deserialize<'de> for Sums<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<i64>::deserialize(deserializer)?;
        Self::from_words(&words).ok_or_else(|| D::Error::custom("these are no sums"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of very different sizes and both signs, with zeros.
    fn numbers(count: u64, spread: i32) -> Vec<f64> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        (0..count)
            .map(|_| {
                let unit = (next() >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
                let exponent = (next() % (2 * spread as u64 + 1)) as i32 - spread;
                if next() % 17 == 0 {
                    0.0
                } else {
                    unit * 2f64.powi(exponent)
                }
            })
            .collect()
    }

    fn sum<const K: usize>(values: &[f64]) -> Sums<K> {
        let mut sums = Sums::new(1);
        values.iter().for_each(|value| sums.add(0, *value));
        sums
    }

    #[test]
    fn any_order_and_any_grouping_give_the_same_bits() {
        for spread in [0, 3, 30, 200, 900] {
            let values = numbers(1000, spread);
            let whole = sum::<2>(&values);
            let mut turned = values.clone();
            turned.reverse();
            assert_eq!(sum::<2>(&turned), whole);
            for parts in [2, 3, 7, 64] {
                let mut merged = Sums::<2>::new(1);
                let chunks: Vec<&[f64]> = values.chunks(values.len().div_ceil(parts)).collect();
                chunks.iter().rev().for_each(|chunk| merged.merge(&sum(chunk)));
                assert_eq!(merged, whole, "{spread} {parts}");
            }
        }
    }

    #[test]
    fn sums_are_as_good_as_their_window() {
        for spread in [0, 20] {
            let values = numbers(4000, spread);
            // Exact: every number is a multiple of 2^-(53 + spread + 1), and i128 holds the sum.
            let unit = 2f64.powi(-(54 + spread));
            let exact: i128 = values.iter().map(|value| (value / unit) as i128).sum();
            let exact = exact as f64 * unit;
            let largest = values.iter().fold(0.0f64, |most, value| most.max(value.abs()));
            let bound = |bits: i32| 4000.0 * largest * 2f64.powi(-bits);
            assert!((sum::<2>(&values).value(0) - exact).abs() <= bound(40));
            assert_eq!(sum::<3>(&values).value(0), exact);
        }
    }

    #[test]
    fn single_numbers_come_back_from_three_bins() {
        let mut values = numbers(2000, 1000);
        values.extend([1e300, -1e300, f64::MIN_POSITIVE, 5e-324, -5e-324, 1.0, -1.0, 0.5]);
        for value in values {
            assert_eq!(sum::<3>(&[value]).value(0), value);
            assert_eq!(sum::<3>(&[value, -value]).value(0), 0.0);
        }
    }

    #[test]
    fn what_is_not_finite_stays() {
        let mut sums = sum::<2>(&[1.0, f64::INFINITY, 2.0]);
        assert!(!sums.is_finite() && sums.value(0).is_nan());
        let mut other = sum::<2>(&[3.0]);
        other.merge(&sums);
        sums.merge(&sum(&[3.0]));
        assert!(other.value(0).is_nan() && sums.value(0).is_nan());
        assert!(Sums::<2>::new(3).is_finite());
    }

    #[test]
    fn words_are_read_back_and_others_refused() {
        let sums = Sums::<2>::of(&numbers(50, 100));
        assert_eq!(Sums::from_words(&sums.words()), Some(sums.clone()));
        assert_eq!(Sums::<2>::from_words(&[1, 2]), None);
        assert_eq!(Sums::<2>::from_words(&[1 << 40, 0, 0]), None);
        let text = serde_json::to_string(&sums).unwrap();
        assert_eq!(serde_json::from_str::<Sums<2>>(&text).unwrap(), sums);
    }
}
