//! Which found object is which true one, in one image and category.

use std::cmp::Ordering;

use super::{Found, Similarity};
use crate::data::TrueBox;

/// How similar a found object must be to count as a true one, as `numpy.linspace(0.5, 0.95, 10)` has it.
///
/// Places in this table are the bits of a [`Verdict`].
pub(super) const THRESHOLDS: [f64; 10] = [
    0.5,
    0.55,
    0.6,
    0.65,
    0.7,
    0.75,
    0.8,
    0.85,
    0.899_999_999_999_999_9,
    0.95,
];

/// Sizes of objects that are judged apart, in square pixels, both bounds included.
pub(super) struct Sizes {
    low: f64,
    high: f64,
}

impl Sizes {
    /// An area that is not a number is of every size.
    fn excludes(&self, area: f64) -> bool {
        area < self.low || area > self.high
    }
}

/// All, small, medium, large.
pub(super) const SIZES: [Sizes; 4] = [
    Sizes { low: 0.0, high: 1e10 },
    Sizes {
        low: 0.0,
        high: 1024.0,
    },
    Sizes {
        low: 1024.0,
        high: 9216.0,
    },
    Sizes {
        low: 9216.0,
        high: 1e10,
    },
];

/// What a found object is at each threshold: right, to be left out, or, with neither bit, wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) right: u16,
    pub(super) left_out: u16,
}

/// One found object after matching.
pub(super) struct Judged {
    pub(super) score: f64,
    /// Place of its image.
    pub(super) image: u32,
    /// Place among those of its image and category, best first.
    pub(super) rank: u32,
    /// For each of [`SIZES`].
    pub(super) verdicts: [Verdict; SIZES.len()],
}

/// The objects of one category in one image.
#[derive(Default)]
pub(super) struct Group<'a> {
    pub(super) image: u32,
    pub(super) truth: Vec<&'a TrueBox>,
    pub(super) found: Vec<&'a Found>,
}

/// A true object that is similar enough to a found one at some threshold.
struct Candidate {
    truth: usize,
    similarity: f64,
}

/// A true object while found ones are matched to it.
struct Open {
    /// Whether finding it is right; otherwise what is found at it is left out.
    counted: bool,
    crowd: bool,
    /// Thresholds at which it is taken.
    taken: u16,
}

/// Best score first, scores that are not numbers last.
pub(super) fn best_first(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// Matches the best found objects, and says how many true ones of each size there are to be found.
pub(super) fn judge(group: &Group<'_>, similarity: &Similarity) -> (Vec<Judged>, [u32; SIZES.len()]) {
    let mut found = group.found.clone();
    found.sort_by(|a, b| best_first(a.score, b.score));
    found.truncate(similarity.limit());
    let near: Vec<Vec<Candidate>> = found
        .iter()
        .map(|found| candidates(found, &group.truth, similarity))
        .collect();
    let mut judged: Vec<Judged> = (0..)
        .zip(&found)
        .map(|(rank, found)| Judged {
            score: found.score,
            image: group.image,
            rank,
            verdicts: Default::default(),
        })
        .collect();
    let mut positives = [0; SIZES.len()];
    for (place, (sizes, positives)) in SIZES.iter().zip(&mut positives).enumerate() {
        let mut open: Vec<Open> = group
            .truth
            .iter()
            .map(|truth| Open {
                counted: !similarity.ignores(truth) && !sizes.excludes(truth.area),
                crowd: truth.crowd,
                taken: 0,
            })
            .collect();
        *positives = open.iter().map(|truth| u32::from(truth.counted)).sum();
        for ((judged, found), near) in judged.iter_mut().zip(&found).zip(&near) {
            let excluded = sizes.excludes(similarity.area(found));
            if let Some(verdict) = judged.verdicts.get_mut(place) {
                *verdict = matched(near, &mut open, excluded);
            }
        }
    }
    (judged, positives)
}

/// The true objects that a found one could be, in their order.
fn candidates(found: &Found, truth: &[&TrueBox], similarity: &Similarity) -> Vec<Candidate> {
    let [least, ..] = THRESHOLDS;
    truth
        .iter()
        .enumerate()
        .map(|(place, truth)| Candidate {
            truth: place,
            similarity: similarity.between(found, truth),
        })
        .filter(|candidate| candidate.similarity >= least)
        .collect()
}

/// Takes the most similar true object that is still open at each threshold: one that counts if there is any, then one that does
/// not. Of equally similar ones it is the last.
fn matched(near: &[Candidate], open: &mut [Open], excluded: bool) -> Verdict {
    let mut verdict = Verdict::default();
    for (place, threshold) in THRESHOLDS.iter().enumerate() {
        let bit = 1 << place;
        let best = [true, false].into_iter().find_map(|counted| {
            let is_open = |candidate: &&Candidate| {
                candidate.similarity >= *threshold
                    && open.get(candidate.truth).is_some_and(|truth| {
                        truth.counted == counted && (truth.crowd || truth.taken & bit == 0)
                    })
            };
            near.iter()
                .filter(is_open)
                .max_by(|a, b| a.similarity.total_cmp(&b.similarity))
        });
        match best.and_then(|best| open.get_mut(best.truth)) {
            Some(truth) => {
                truth.taken |= bit;
                if truth.counted {
                    verdict.right |= bit;
                } else {
                    verdict.left_out |= bit;
                }
            }
            None if excluded => verdict.left_out |= bit,
            None => {}
        }
    }
    verdict
}
