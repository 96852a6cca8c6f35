//! Sorted values with their weights summed up, so that the error of an interval of them is four subtractions.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Values up to this number are points of their own; more become points of narrow intervals, to bound memory.
const MOST_SORTED: usize = 1 << 23;

/// Such intervals.
const INTERVALS: usize = 1 << 20;

/// Different values, ascending, with sums of weights. Values are counted from their mean in the sums, which keeps differences exact.
#[derive(Clone, Debug)]
pub(super) struct Points {
    values: Vec<f64>,
    /// One more than values: sums of `w`, `w x` and `w x²` of all before.
    weight: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    centre: f64,
}

impl Points {
    /// The points of `values`, which are finite, with a weight each; without zeros if `without_zeros`.
    pub(super) fn of(values: &[f32], weights: Option<&[f64]>, without_zeros: bool) -> Self {
        let wanted = |value: f32| !(without_zeros && value == 0.0);
        let weight = |at: usize| {
            weights
                .and_then(|weights| weights.get(at))
                .copied()
                .unwrap_or(1.0)
        };
        let centre = {
            let (mut sum, mut total) = (0.0, 0.0);
            for (at, value) in values.iter().enumerate() {
                sum += weight(at) * f64::from(*value);
                total += weight(at);
            }
            if total > 0.0 { sum / total } else { 0.0 }
        };
        let mut points = Self::empty(centre);
        if values.len() > MOST_SORTED {
            points.add_intervals(values, &weight, &wanted);
            return points;
        }
        let mut sorted: Vec<(f32, f64)> = values
            .iter()
            .enumerate()
            .filter(|(_, value)| wanted(**value))
            // There is one zero.
            .map(|(at, value)| (*value + 0.0, weight(at)))
            .collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
            let Some((value, _)) = equal.first() else {
                continue;
            };
            let weight: f64 = equal.iter().map(|one| one.1).sum();
            let from = f64::from(*value) - centre;
            points.push(f64::from(*value), weight, weight * from, weight * from * from);
        }
        points
    }

    fn empty(centre: f64) -> Self {
        Self {
            values: Vec::new(),
            weight: vec![0.0],
            first: vec![0.0],
            second: vec![0.0],
            centre,
        }
    }

    fn push(&mut self, value: f64, weight: f64, first: f64, second: f64) {
        let last = |sums: &[f64]| sums.last().copied().unwrap_or(0.0);
        self.values.push(value);
        self.weight.push(last(&self.weight) + weight);
        self.first.push(last(&self.first) + first);
        self.second.push(last(&self.second) + second);
    }

    /// A point for each of many equal intervals from the lowest to the highest value, at the mean of its values.
    fn add_intervals(&mut self, values: &[f32], weight: &dyn Fn(usize) -> f64, wanted: &dyn Fn(f32) -> bool) {
        let (low, high) = values
            .iter()
            .filter(|value| wanted(**value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(f64::from(*value)), high.max(f64::from(*value)))
            });
        let scale = if high > low {
            (INTERVALS - 1) as f64 / (high - low)
        } else {
            0.0
        };
        let mut sums = vec![[0.0f64; 3]; INTERVALS];
        for (at, value) in values.iter().enumerate().filter(|(_, value)| wanted(**value)) {
            let place = ((f64::from(*value) - low) * scale) as usize;
            let (weight, from) = (weight(at), f64::from(*value) - self.centre);
            if let Some([own, first, second]) = sums.get_mut(place) {
                *own += weight;
                *first += weight * from;
                *second += weight * from * from;
            }
        }
        for [weight, first, second] in sums.into_iter().filter(|[weight, ..]| *weight > 0.0) {
            self.push(self.centre + first / weight, weight, first, second);
        }
    }

    /// How many points there are.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The values, ascending.
    pub(super) fn values(&self) -> &[f64] {
        &self.values
    }

    fn sum(sums: &[f64], range: &Range<usize>) -> f64 {
        let at = |index: usize| sums.get(index).copied().unwrap_or(0.0);
        at(range.end) - at(range.start)
    }

    /// The weighted mean of a range of points; `None` of an empty one.
    pub(super) fn mean(&self, range: Range<usize>) -> Option<f64> {
        match range.len() {
            0 => None,
            // Exactly the value.
            1 => self.values.get(range.start).copied(),
            _ => Some(self.centre + Self::sum(&self.first, &range) / Self::sum(&self.weight, &range)),
        }
    }

    /// What a range of points loses at its mean: `Σ w x² - (Σ w x)² / Σ w`.
    pub(super) fn cost(&self, range: Range<usize>) -> f64 {
        if range.len() < 2 {
            return 0.0;
        }
        let first = Self::sum(&self.first, &range);
        (Self::sum(&self.second, &range) - first * first / Self::sum(&self.weight, &range)).max(0.0)
    }

    /// What a range of points loses at `centroid`.
    #[cfg(test)]
    pub(super) fn cost_at(&self, range: Range<usize>, centroid: f64) -> f64 {
        let from = centroid - self.centre;
        let (weight, first) = (Self::sum(&self.weight, &range), Self::sum(&self.first, &range));
        (Self::sum(&self.second, &range) - 2.0 * from * first + from * from * weight).max(0.0)
    }

    /// The means of the ranges between bounds, without empty ones.
    pub(super) fn means(&self, bounds: &[usize]) -> Vec<f64> {
        let range = |pair: &[usize]| Some(*pair.first()?..*pair.get(1)?);
        bounds
            .windows(2)
            .filter_map(|pair| self.mean(range(pair)?))
            .collect()
    }

    /// Places between points, the first and the last among them: all, or about `most`, half of them where values are apart and half of
    /// them where weights are.
    pub(super) fn cuts(&self, most: usize) -> Vec<usize> {
        let count = self.len();
        if count <= most {
            return (0..=count).collect();
        }
        let half = (most / 2).max(1) as f64;
        let (low, high) = (self.values.first(), self.values.last());
        let (low, high) = (low.copied().unwrap_or(0.0), high.copied().unwrap_or(0.0));
        let total = self.weight.last().copied().unwrap_or(0.0);
        let share = |part: f64, whole: f64| {
            if whole > 0.0 {
                (half * part / whole) as u64
            } else {
                0
            }
        };
        let place = |at: usize| {
            let value = self.values.get(at).copied().unwrap_or(high);
            let before = self.weight.get(at).copied().unwrap_or(total);
            (share(value - low, high - low), share(before, total))
        };
        let mut cuts = vec![0];
        let mut last = place(0);
        for at in 1..count {
            let here = place(at);
            if here != last {
                cuts.push(at);
                last = here;
            }
        }
        cuts.push(count);
        cuts
    }

    /// Evenly spaced values from the lowest to the highest.
    pub(super) fn linear(&self, count: usize) -> Vec<f64> {
        let (low, high) = (self.values.first(), self.values.last());
        let (low, high) = (low.copied().unwrap_or(0.0), high.copied().unwrap_or(0.0));
        match count {
            1 => vec![(low + high) / 2.0],
            _ => (0..count)
                .map(|at| low + (high - low) * at as f64 / (count - 1) as f64)
                .collect(),
        }
    }

    /// Values at evenly spaced shares of the weight.
    pub(super) fn density(&self, count: usize) -> Vec<f64> {
        let total = self.weight.last().copied().unwrap_or(0.0);
        let at_share = |at: usize| {
            let share = total * (at as f64 + 0.5) / count as f64;
            let point = self.weight.partition_point(|sum| *sum <= share).saturating_sub(1);
            self.values.get(point.min(self.len().saturating_sub(1))).copied()
        };
        (0..count).filter_map(at_share).collect()
    }

    /// Values drawn one after the other, each with a probability that grows with its weight and the square of its distance to the nearest
    /// one drawn before.
    pub(super) fn drawn(&self, count: usize, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut chance: Vec<f64> = (0..self.len())
            .map(|at| Self::sum(&self.weight, &(at..at + 1)))
            .collect();
        let weights = chance.clone();
        let mut nearest = vec![f64::INFINITY; self.len()];
        let mut found = Vec::with_capacity(count);
        for _ in 0..count {
            let total: f64 = chance.iter().sum();
            if !(total > 0.0 && total.is_finite()) {
                break;
            }
            let mut left = total * ((rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64);
            let at = chance.iter().position(|own| {
                left -= own;
                left < 0.0
            });
            let at = at
                .or_else(|| chance.iter().rposition(|own| *own > 0.0))
                .unwrap_or(0);
            let Some(drawn) = self.values.get(at).copied() else {
                break;
            };
            found.push(drawn);
            let known = self.values.iter().zip(&weights).zip(&mut nearest);
            for (((value, weight), nearest), chance) in known.zip(&mut chance) {
                *nearest = nearest.min((value - drawn).powi(2));
                *chance = weight * *nearest;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_point_and_errors_are_those_of_the_sums() {
        let points = Points::of(
            &[3.0, 1.0, 3.0, -0.0, 0.0],
            Some(&[1.0, 2.0, 3.0, 4.0, 5.0]),
            false,
        );
        assert_eq!(points.values(), [0.0, 1.0, 3.0]);
        let mean: f64 = 14.0 / 6.0;
        assert!((points.mean(1..3).unwrap() - mean).abs() < 1e-12);
        let cost = 2.0 * (1.0 - mean).powi(2) + 4.0 * (3.0 - mean).powi(2);
        assert!((points.cost(1..3) - cost).abs() < 1e-12);
        assert!((points.cost_at(1..3, 2.0) - 6.0).abs() < 1e-12);
        assert_eq!(Points::of(&[0.0, 2.0], None, true).values(), [2.0]);
        assert_eq!(points.mean(2..2), None);
    }

    #[test]
    fn many_values_become_intervals_with_the_same_sums() {
        let values: Vec<f32> = (0..10_000).map(|at| (at as f32 * 0.37).sin()).collect();
        let whole = Points::of(&values, None, false);
        let mut made = Points::empty(whole.centre);
        made.add_intervals(&values, &|_| 1.0, &|_| true);
        assert!(made.values().windows(2).all(|pair| pair[0] < pair[1]));
        assert!((made.cost(0..made.len()) - whole.cost(0..whole.len())).abs() < 1e-6);
        let few = [1.5f32, -2.0, 1.5, 0.1];
        let mut made = Points::empty(0.3);
        made.add_intervals(&few, &|_| 1.0, &|_| true);
        let found: Vec<f32> = made.values().iter().map(|value| *value as f32).collect();
        assert_eq!(found, [-2.0, 0.1, 1.5]);
    }

    #[test]
    fn cuts_begin_and_end_with_the_points_and_are_not_too_many() {
        let values: Vec<f32> = (0..5000)
            .map(|at| if at == 0 { 1e6 } else { (at as f32).sqrt() })
            .collect();
        let points = Points::of(&values, None, false);
        let cuts = points.cuts(100);
        assert_eq!((cuts.first(), cuts.last()), (Some(&0), Some(&points.len())));
        assert!(
            cuts.len() > 45 && cuts.len() <= 102 && cuts.is_sorted(),
            "{}",
            cuts.len()
        );
    }
}
