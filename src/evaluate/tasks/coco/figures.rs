//! The figures that the challenge names.

use super::matching::SIZES;

/// Places in [`SIZES`].
pub(super) const ALL: usize = 0;
const SMALL: usize = 1;
const MEDIUM: usize = 2;
const LARGE: usize = 3;
pub(super) const SIZES_AT: [usize; SIZES.len()] = [ALL, SMALL, MEDIUM, LARGE];

/// How many of the best found objects of one category in one image recall is of; keypoints have no more than 20 judged.
pub(super) const BEST: [u32; 3] = [1, 10, 100];

/// Places in [`THRESHOLDS`](super::matching::THRESHOLDS) of 0.5 and 0.75.
pub(super) const HALF: usize = 0;
const THREE_QUARTERS: usize = 5;

/// What a figure is the mean of, over classes.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) of: Of,
    /// Place in [`THRESHOLDS`](super::matching::THRESHOLDS); the mean over all of them where there is none.
    pub(super) threshold: Option<usize>,
    /// Place in [`SIZES`].
    pub(super) size: usize,
}

#[derive(Clone, Copy)]
pub(super) enum Of {
    Precision,
    /// Recall of the best so many, as a place in [`BEST`].
    Recall(usize),
}

pub(super) const fn precision(name: &'static str, threshold: Option<usize>, size: usize) -> Figure {
    Figure {
        name,
        of: Of::Precision,
        threshold,
        size,
    }
}

const fn recall(name: &'static str, best: usize, threshold: Option<usize>, size: usize) -> Figure {
    Figure {
        name,
        of: Of::Recall(best),
        threshold,
        size,
    }
}

pub(super) const OF_BOXES: [Figure; 12] = [
    precision("map", None, ALL),
    precision("map50", Some(HALF), ALL),
    precision("map75", Some(THREE_QUARTERS), ALL),
    precision("map-small", None, SMALL),
    precision("map-medium", None, MEDIUM),
    precision("map-large", None, LARGE),
    recall("ar1", 0, None, ALL),
    recall("ar10", 1, None, ALL),
    recall("ar100", 2, None, ALL),
    recall("ar-small", 2, None, SMALL),
    recall("ar-medium", 2, None, MEDIUM),
    recall("ar-large", 2, None, LARGE),
];

pub(super) const OF_KEYPOINTS: [Figure; 10] = [
    precision("oks-map", None, ALL),
    precision("oks-map50", Some(HALF), ALL),
    precision("oks-map75", Some(THREE_QUARTERS), ALL),
    precision("oks-map-medium", None, MEDIUM),
    precision("oks-map-large", None, LARGE),
    recall("oks-ar", 2, None, ALL),
    recall("oks-ar50", 2, Some(HALF), ALL),
    recall("oks-ar75", 2, Some(THREE_QUARTERS), ALL),
    recall("oks-ar-medium", 2, None, MEDIUM),
    recall("oks-ar-large", 2, None, LARGE),
];
