//! Precision over recall, of samples that count any number of times.

use super::matching::{THRESHOLDS, Verdict};

/// Recalls at which precision is read: 0, 0.01, ..., 1.
const RECALLS: u32 = 101;

/// One found object in the order of scores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranked {
    /// Place of its image.
    pub(super) image: u32,
    pub(super) verdict: Verdict,
}

/// Where a curve rises: found objects that are right up to here, and their share of all that count.
#[derive(Clone, Copy)]
struct Rise {
    right: u64,
    precision: f64,
}

/// The rises of the curves of each threshold; kept from one category to the next.
#[derive(Default)]
pub(super) struct Curves {
    rises: [Vec<Rise>; THRESHOLDS.len()],
    left_out: [u64; THRESHOLDS.len()],
}

impl Curves {
    /// The average precision of each threshold, where the image at place `i` counts `weights[i]` times and has `positives` true
    /// objects with it; `None` where there are none.
    ///
    /// Only objects that are right raise recall, and copies of one rise together, hence a copy need not be looked at by itself.
    pub(super) fn average(
        &mut self,
        ranked: impl Iterator<Item = Ranked>,
        weights: &[u32],
        positives: u64,
    ) -> Option<[f64; THRESHOLDS.len()]> {
        if positives == 0 {
            return None;
        }
        self.rises.iter_mut().for_each(Vec::clear);
        self.left_out = Default::default();
        let mut seen = 0u64;
        for Ranked { image, verdict } in ranked {
            let weight = u64::from(weights.get(image as usize).copied().unwrap_or(0));
            seen += weight;
            if verdict == Verdict::default() || weight == 0 {
                continue;
            }
            self.count(verdict, weight, seen);
        }
        let mut averages = [0.0; THRESHOLDS.len()];
        for (average, rises) in averages.iter_mut().zip(&self.rises) {
            *average = average_precision(rises, positives);
        }
        Some(averages)
    }

    /// Counts an object that is right or left out somewhere, after `seen` including itself.
    fn count(&mut self, verdict: Verdict, weight: u64, seen: u64) {
        let places = self.rises.iter_mut().zip(&mut self.left_out);
        for (place, (rises, left_out)) in places.enumerate() {
            let bit = 1 << place;
            if verdict.left_out & bit != 0 {
                *left_out += weight;
            }
            if verdict.right & bit != 0 {
                let right = rises.last().map_or(0, |rise| rise.right) + weight;
                let counted = (seen - *left_out) as f64;
                rises.push(Rise {
                    right,
                    precision: right as f64 / (counted + f64::EPSILON),
                });
            }
        }
    }
}

/// Mean over [`RECALLS`] of the best precision at that recall or a higher one.
fn average_precision(rises: &[Rise], positives: u64) -> f64 {
    let positives = positives as f64;
    let recall = |place: u32| f64::from(place) * 0.01;
    let mut places = RECALLS;
    let (mut sum, mut best) = (0.0, 0.0f64);
    let mut rises = rises.iter().rev().peekable();
    // Recalls that are never reached have no precision.
    if let Some(last) = rises.peek() {
        let reached = last.right as f64 / positives;
        while places > 0 && recall(places - 1) > reached {
            places -= 1;
        }
    }
    while let Some(rise) = rises.next() {
        best = best.max(rise.precision);
        let before = rises.peek().map(|rise| rise.right as f64 / positives);
        while places > 0 && before.is_none_or(|before| recall(places - 1) > before) {
            sum += best;
            places -= 1;
        }
    }
    sum / f64::from(RECALLS)
}
