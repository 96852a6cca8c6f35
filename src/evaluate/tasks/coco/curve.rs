//! Precision over recall, of images that count any number of times.

use super::matching::{THRESHOLDS, Verdict};

/// Recalls at which precision is read: 0, 0.01, ..., 1.
const RECALLS: usize = 101;

/// One found object that is right or left out.
struct Event {
    /// Place of its image.
    image: u32,
    /// Place among all that is found, best first.
    place: u32,
    right: bool,
}

/// What was found, best first.
#[derive(Default)]
pub(super) struct Curve {
    /// Place of the image of each found object.
    images: Vec<u32>,
    /// For each threshold; everything else is wrong.
    events: [Vec<Event>; THRESHOLDS.len()],
}

impl Curve {
    /// Of found objects with the places of their images, best first.
    pub(super) fn new(found: impl Iterator<Item = (u32, Verdict)>) -> Self {
        let mut curve = Self::default();
        for (place, (image, verdict)) in (0..).zip(found) {
            curve.images.push(image);
            for (threshold, events) in curve.events.iter_mut().enumerate() {
                let right = verdict.right >> threshold & 1 == 1;
                if right || verdict.left_out >> threshold & 1 == 1 {
                    events.push(Event { image, place, right });
                }
            }
        }
        curve
    }

    /// The average precision of each threshold, where the image at place `i` counts `weights[i]` times and there are `positives`
    /// true objects to be found with that; `None` where there are none.
    ///
    /// As of images that are there so many times, but that equal scores of one image stay apart: all copies of the first come before
    /// those of the second.
    pub(super) fn average(&self, weights: &[u32], positives: u64) -> Option<[f64; THRESHOLDS.len()]> {
        if positives == 0 {
            return None;
        }
        let mut total = 0;
        let seen: Vec<u64> = self
            .images
            .iter()
            .map(|image| {
                total += weight(weights, *image);
                total
            })
            .collect();
        let needed = needed(positives);
        let mut averages = [0.0; THRESHOLDS.len()];
        for (average, events) in averages.iter_mut().zip(&self.events) {
            *average = average_precision(events, &seen, weights, &needed);
        }
        Some(averages)
    }
}

fn weight(weights: &[u32], image: u32) -> u64 {
    weights.get(image as usize).map_or(0, |weight| u64::from(*weight))
}

/// The least numbers of right objects that make up each of [`RECALLS`], as rounded quotients have it.
fn needed(positives: u64) -> [u64; RECALLS] {
    let mut recalls = [0; RECALLS];
    for (place, needed) in recalls.iter_mut().enumerate() {
        let recall = place as f64 * 0.01;
        let reaches = |right: u64| right as f64 / positives as f64 >= recall;
        let mut least = (recall * positives as f64).floor() as u64;
        while least > 0 && reaches(least - 1) {
            least -= 1;
        }
        while !reaches(least) {
            least += 1;
        }
        *needed = least;
    }
    recalls
}

/// Mean over [`RECALLS`] of the best precision at that recall or a higher one.
///
/// From the last object to the first. Only a right one raises recall, and precision is highest where the copies of a right one
/// end, hence copies need not be looked at one by one. One that counts zero times repeats a point that is there anyway.
fn average_precision(events: &[Event], seen: &[u64], weights: &[u32], needed: &[u64]) -> f64 {
    let (mut right, mut left_out) = (0, 0);
    for event in events {
        let weight = weight(weights, event.image);
        if event.right {
            right += weight;
        } else {
            left_out += weight;
        }
    }
    // Recalls that are never reached have no precision.
    let reached = needed.partition_point(|needed| *needed <= right);
    let mut recalls = needed.iter().take(reached).rev().peekable();
    let (mut sum, mut best) = (0.0, 0.0f64);
    for event in events.iter().rev() {
        let weight = weight(weights, event.image);
        if !event.right {
            left_out -= weight;
            continue;
        }
        let seen = seen.get(event.place as usize).copied().unwrap_or(0);
        // The addend is `COCOeval`'s: nothing divided by nothing is 0.
        best = best.max(right as f64 / ((seen - left_out) as f64 + f64::EPSILON));
        right -= weight;
        while recalls.next_if(|needed| **needed > right).is_some() {
            sum += best;
        }
    }
    // Recall 0 is reached before anything is found.
    (sum + best * recalls.count() as f64) / needed.len() as f64
}
