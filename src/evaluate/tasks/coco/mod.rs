//! Average precision and recall of found objects as the COCO challenge defines them (Lin et al. 2014, "Microsoft COCO"), in the
//! terms of its reference evaluation, pycocotools' `COCOeval`.
//!
//! - [`similarity`]: how much of a true object is in a found one;
//! - [`matching`]: which found object is which true one, in one image and category;
//! - [`curve`]: precision over recall, of images that count any number of times;
//! - [`figures`]: which numbers of these the challenge names;
//! - [`precision`]: all of it together, for one model.
//!
//! One term is wider than the reference's: it reads `ignore` of a true object and then overwrites it by `iscrowd`; here
//! [`TrueBox::ignore`] is heeded.

mod curve;
mod figures;
mod matching;
mod precision;
mod similarity;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(super) use precision::Precision;
pub(super) use similarity::Similarity;

use crate::data::TrueBox;

/// One object that a model found, in pixels of the image file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Its category, of the same numbers as [`TrueBox::category`].
    pub category: i64,
    /// How sure the model is; only the order matters. What is not a number comes last.
    pub score: f64,
    /// Left, top, width, height.
    pub rect: [f64; 4],
    /// `x, y, score` for each keypoint; the score is not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keypoints: Vec<[f64; 3]>,
}

/// What is true of one image, and what a model found in it.
pub(super) struct Image<'a> {
    pub(super) truth: &'a [TrueBox],
    pub(super) found: &'a [Found],
}
