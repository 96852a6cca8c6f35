//! How much of a true object is in a found one: the overlap of boxes, or the similarity of keypoints.

use super::Found;
use crate::data::TrueBox;

/// What makes a found object the same as a true one, and with it the terms of the judgement.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::evaluate::tasks) enum Similarity {
    /// Intersection over union of boxes.
    Boxes,
    /// Object keypoint similarity.
    Keypoints {
        /// How far annotators disagree on each keypoint, as a share of the square root of the object's area.
        sigmas: Vec<f64>,
    },
}

impl Similarity {
    /// The sigmas that COCO has for the 17 keypoints of a person, nose to ankles.
    pub(in crate::evaluate::tasks) const PERSON: [f64; 17] = [
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087,
        0.087, 0.089, 0.089,
    ];

    /// How many of the best found objects of one category in one image are judged.
    pub(super) fn limit(&self) -> usize {
        match self {
            Self::Boxes => 100,
            Self::Keypoints { .. } => 20,
        }
    }

    /// Whether what is found at a true object is neither right nor wrong, whatever its size.
    pub(super) fn ignores(&self, truth: &TrueBox) -> bool {
        truth.crowd || truth.ignore || (matches!(self, Self::Keypoints { .. }) && labelled(truth) == 0)
    }

    /// The area that the size of a found object is judged by: of its box, or of the box around its keypoints.
    pub(super) fn area(&self, found: &Found) -> f64 {
        match self {
            Self::Boxes => found.rect[2] * found.rect[3],
            Self::Keypoints { .. } => extent(&found.keypoints, 0) * extent(&found.keypoints, 1),
        }
    }

    /// From 0, nothing in common, to 1, the same.
    pub(super) fn between(&self, found: &Found, truth: &TrueBox) -> f64 {
        match self {
            Self::Boxes => overlap(found.rect, truth.rect, truth.crowd),
            Self::Keypoints { sigmas } => likeness(found, truth, sigmas),
        }
    }
}

/// Keypoints of a true object that are labelled, hidden or not.
fn labelled(truth: &TrueBox) -> usize {
    truth.keypoints.iter().filter(|point| point[2] > 0.0).count()
}

/// Largest minus smallest coordinate along x (0) or y (1); no points extend over nothing.
fn extent(points: &[[f64; 3]], axis: usize) -> f64 {
    let along = || points.iter().filter_map(|point| point.get(axis).copied());
    match (along().reduce(f64::min), along().reduce(f64::max)) {
        (Some(low), Some(high)) => high - low,
        _ => 0.0,
    }
}

/// Intersection over union; over the found box alone where the true one is a crowd, which is as large as it happens to be.
fn overlap(found: [f64; 4], truth: [f64; 4], crowd: bool) -> f64 {
    let shared = |axis: usize| -> Option<f64> {
        let (a, b) = (found.get(axis)?, truth.get(axis)?);
        let (a_end, b_end) = (found.get(axis + 2)? + a, truth.get(axis + 2)? + b);
        let length = a_end.min(b_end) - a.max(*b);
        (length > 0.0).then_some(length)
    };
    let (Some(width), Some(height)) = (shared(0), shared(1)) else {
        return 0.0;
    };
    let intersection = width * height;
    let own = found[2] * found[3];
    if crowd {
        intersection / own
    } else {
        intersection / (own + truth[2] * truth[3] - intersection)
    }
}

/// Mean of `exp(-d² / (2 area (2 sigma)²))` over the labelled keypoints.
///
/// Where none is labelled, `d` is how far a keypoint lies outside the true box grown by its own size on each side. A labelled
/// keypoint that was not found, or that has no sigma, is infinitely far off.
fn likeness(found: &Found, truth: &TrueBox, sigmas: &[f64]) -> f64 {
    let term = |dx: f64, dy: f64, sigma: f64| {
        let double = sigma * 2.0;
        let variance = double * double;
        let distance = (dx * dx + dy * dy) / variance / (truth.area + f64::EPSILON) / 2.0;
        (-distance).exp()
    };
    let count = labelled(truth);
    if count > 0 {
        let points = found.keypoints.iter().zip(&truth.keypoints).zip(sigmas);
        let sum: f64 = points
            .filter(|((_, truth), _)| truth[2] > 0.0)
            .map(|((found, truth), sigma)| term(found[0] - truth[0], found[1] - truth[1], *sigma))
            .sum();
        return sum / count as f64;
    }
    let [left, top, width, height] = truth.rect;
    let outside = |at: f64, low: f64, size: f64| {
        let below = (low - size - at).max(0.0);
        let above = (at - (low + size * 2.0)).max(0.0);
        below + above
    };
    let sum: f64 = found
        .keypoints
        .iter()
        .zip(sigmas)
        .map(|(point, sigma)| {
            term(
                outside(point[0], left, width),
                outside(point[1], top, height),
                *sigma,
            )
        })
        .sum();
    sum / sigmas.len() as f64
}
