//! Average precision and recall of found objects as the COCO challenge defines them (Lin et al. 2014, "Microsoft COCO"), in the
//! terms of its reference evaluation, pycocotools' `COCOeval`.
//!
//! - [`similarity`]: how much of a true object is in a found one;
//! - [`matching`]: which found object is which true one, in one image and category;
//! - [`curve`]: precision over recall, of images that count any number of times.
//!
//! One term is wider than the reference's: it reads `ignore` of a true object and then overwrites it by `iscrowd`; here
//! [`TrueBox::ignore`] is heeded.

mod curve;
mod matching;
mod similarity;
#[cfg(test)]
mod tests;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub(super) use similarity::Similarity;

use self::curve::{Curves, Ranked};
use self::matching::{Group, Judged, SIZES, THRESHOLDS, best_first, judge};
use super::{ClassFigures, Measured, Named};
use crate::data::{Categories, TrueBox};

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

/// Precision and recall of one model over images.
pub(super) struct Precision {
    figures: Named,
    resampled_names: &'static [&'static str],
    classes: Vec<Class>,
}

/// Places in [`SIZES`].
const ALL: usize = 0;
const SMALL: usize = 1;
const MEDIUM: usize = 2;
const LARGE: usize = 3;

/// How many of the best found objects of one category in one image recall is of; keypoints have no more than 20 judged.
const BEST: [u32; 3] = [1, 10, 100];

/// Places in [`THRESHOLDS`] of 0.5 and 0.75.
const HALF: usize = 0;
const THREE_QUARTERS: usize = 5;

/// What a figure is the mean of, over classes.
struct Figure {
    name: &'static str,
    of: Of,
    /// Place in [`THRESHOLDS`]; the mean over all of them where there is none.
    threshold: Option<usize>,
    /// Place in [`SIZES`].
    size: usize,
}

#[derive(Clone, Copy)]
enum Of {
    Precision,
    /// Recall of the best so many, as a place in [`BEST`].
    Recall(usize),
}

const fn precision(name: &'static str, threshold: Option<usize>, size: usize) -> Figure {
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

const OF_BOXES: [Figure; 12] = [
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

const OF_KEYPOINTS: [Figure; 10] = [
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

/// One category, matched.
struct Class {
    category: i64,
    /// True objects that are to be found, of all sizes.
    support: u64,
    /// For each of [`SIZES`]; `None` where there is nothing to be found.
    summaries: [Option<Summary>; SIZES.len()],
    /// What was found, best first, judged for all sizes; empty where there is nothing to be found.
    ranked: Vec<Ranked>,
    /// Images with true objects that are to be found, and how many.
    positives: Vec<(u32, u32)>,
}

/// The figures of one category and size, by threshold.
struct Summary {
    precision: [f64; THRESHOLDS.len()],
    /// For each of [`BEST`].
    recalls: [[f64; THRESHOLDS.len()]; BEST.len()],
}

impl Precision {
    /// Matches what was found to what is true. Objects of other categories than `categories` do not count.
    ///
    /// Of found objects with the same score, the one that comes first in the order of `images` and within an image is the better.
    pub(super) fn new(images: &[Image<'_>], categories: &[i64], similarity: &Similarity) -> Self {
        let mut categories = categories.to_vec();
        categories.sort_unstable();
        categories.dedup();
        let once = vec![1; images.len()];
        let classes: Vec<Class> = grouped(images, &categories)
            .into_par_iter()
            .zip(categories)
            .map(|(groups, category)| Class::new(category, &groups, similarity, &once))
            .collect();
        let (table, resampled_names): (&[Figure], &'static [&'static str]) = match similarity {
            Similarity::Boxes => (&OF_BOXES, &["map", "map50"]),
            Similarity::Keypoints { .. } => (&OF_KEYPOINTS, &["oks-map", "oks-map50"]),
        };
        let figures = table
            .iter()
            .map(|figure| {
                let values = classes.iter().filter_map(|class| class.value(figure));
                (figure.name.to_owned(), mean(values))
            })
            .collect();
        Self {
            figures,
            resampled_names,
            classes,
        }
    }

    /// `ap` and `ap50` of each category, ascending by its number.
    pub(super) fn by_class(&self, names: &Categories) -> Vec<ClassFigures> {
        let figures = [("ap", None), ("ap50", Some(HALF))];
        self.classes
            .iter()
            .map(|class| ClassFigures {
                class: class.category,
                name: names.get(&class.category).cloned(),
                support: class.support,
                figures: figures
                    .iter()
                    .map(|(name, threshold)| ((*name).to_owned(), class.value(&precision(name, *threshold, ALL))))
                    .collect(),
            })
            .collect()
    }
}

impl Measured for Precision {
    fn figures(&self) -> Named {
        self.figures.clone()
    }

    fn resampled_names(&self) -> &'static [&'static str] {
        self.resampled_names
    }

    fn resampled(&self, weights: &[u32]) -> Vec<Option<f64>> {
        let mut curves = Curves::default();
        let averages: Vec<_> = self
            .classes
            .iter()
            .filter_map(|class| class.resampled(&mut curves, weights))
            .collect();
        [None, Some(HALF)]
            .iter()
            .map(|threshold| mean(averages.iter().filter_map(|values| at(values, *threshold))))
            .collect()
    }

    fn less_is_better(&self, _name: &str) -> bool {
        false
    }
}

impl Class {
    fn new(category: i64, groups: &[Group<'_>], similarity: &Similarity, once: &[u32]) -> Self {
        let judged: Vec<_> = groups.par_iter().map(|group| judge(group, similarity)).collect();
        let positives: Vec<(u32, u32)> = groups
            .iter()
            .zip(&judged)
            .map(|(group, (_, positives))| (group.image, positives[ALL]))
            .filter(|(_, count)| *count > 0)
            .collect();
        let mut totals = [0u64; SIZES.len()];
        for (_, positives) in &judged {
            for (total, count) in totals.iter_mut().zip(positives) {
                *total += u64::from(*count);
            }
        }
        let mut judged: Vec<Judged> = judged.into_iter().flat_map(|(judged, _)| judged).collect();
        judged.sort_by(|a, b| best_first(a.score, b.score));
        let mut curves = Curves::default();
        let mut place = 0;
        let summaries = totals.map(|total| {
            let summary = Summary::new(&judged, place, total, once, &mut curves);
            place += 1;
            summary
        });
        let ranked = if positives.is_empty() {
            Vec::new()
        } else {
            judged.iter().filter_map(|judged| ranked(judged, ALL)).collect()
        };
        Self {
            category,
            support: totals[ALL],
            summaries,
            ranked,
            positives,
        }
    }

    fn value(&self, figure: &Figure) -> Option<f64> {
        let summary = self.summaries.get(figure.size)?.as_ref()?;
        let values = match figure.of {
            Of::Precision => &summary.precision,
            Of::Recall(best) => summary.recalls.get(best)?,
        };
        at(values, figure.threshold)
    }

    /// Average precision by threshold where images count `weights` times.
    fn resampled(&self, curves: &mut Curves, weights: &[u32]) -> Option<[f64; THRESHOLDS.len()]> {
        let positives = self
            .positives
            .iter()
            .filter_map(|(image, count)| Some(u64::from(*weights.get(*image as usize)?) * u64::from(*count)))
            .sum();
        curves.average(self.ranked.iter().copied(), weights, positives)
    }
}

impl Summary {
    /// Of objects that are sorted, the best first, where there are `positives` of `size` to be found.
    fn new(
        judged: &[Judged],
        size: usize,
        positives: u64,
        once: &[u32],
        curves: &mut Curves,
    ) -> Option<Self> {
        let objects = judged.iter().filter_map(|judged| ranked(judged, size));
        let precision = curves.average(objects, once, positives)?;
        let recalls = BEST.map(|best| {
            let mut right = [0u64; THRESHOLDS.len()];
            for judged in judged.iter().filter(|judged| judged.rank < best) {
                let bits = judged.verdicts.get(size).map_or(0, |verdict| verdict.right);
                for (place, right) in right.iter_mut().enumerate() {
                    *right += u64::from(bits >> place & 1);
                }
            }
            right.map(|right| right as f64 / positives as f64)
        });
        Some(Self { precision, recalls })
    }
}

/// The objects of each of the ascending categories by image, in the order of the images.
fn grouped<'a>(images: &[Image<'a>], categories: &[i64]) -> Vec<Vec<Group<'a>>> {
    let mut groups: Vec<Vec<Group<'a>>> = categories.iter().map(|_| Vec::new()).collect();
    let mut put = |image: u32, category: i64, add: &dyn Fn(&mut Group<'a>)| {
        let Ok(place) = categories.binary_search(&category) else {
            return;
        };
        let Some(groups) = groups.get_mut(place) else { return };
        if groups.last().is_none_or(|group| group.image != image) {
            groups.push(Group {
                image,
                ..Group::default()
            });
        }
        groups.last_mut().into_iter().for_each(add);
    };
    for (place, image) in (0..).zip(images) {
        for truth in image.truth {
            put(place, truth.category, &|group| group.truth.push(truth));
        }
        for found in image.found {
            put(place, found.category, &|group| group.found.push(found));
        }
    }
    groups
}

fn ranked(judged: &Judged, size: usize) -> Option<Ranked> {
    let verdict = *judged.verdicts.get(size)?;
    Some(Ranked {
        image: judged.image,
        verdict,
    })
}

/// The value at a threshold, or the mean over all of them.
fn at(values: &[f64; THRESHOLDS.len()], threshold: Option<usize>) -> Option<f64> {
    match threshold {
        Some(place) => values.get(place).copied(),
        None => mean(values.iter().copied()),
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0u64, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / count as f64)
}
