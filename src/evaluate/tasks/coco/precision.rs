//! Precision and recall of everything that one model found.

use rayon::prelude::*;

use super::super::{ClassFigures, Measured, Named};
use super::curve::Curve;
use super::figures::{ALL, BEST, Figure, HALF, OF_BOXES, OF_KEYPOINTS, Of, SIZES_AT, precision};
use super::matching::{Group, Judged, SIZES, THRESHOLDS, best_first, judge};
use super::{Image, Similarity};
use crate::data::Categories;

/// Precision and recall of one model over images.
pub(in crate::evaluate::tasks) struct Precision {
    figures: Named,
    resampled_names: &'static [&'static str],
    classes: Vec<Class>,
}

/// One category, matched.
struct Class {
    category: i64,
    /// True objects that are to be found, of all sizes.
    support: u64,
    /// For each of [`SIZES`]; `None` where there is nothing to be found.
    summaries: [Option<Summary>; SIZES.len()],
    /// What was found, judged for all sizes; empty where there is nothing to be found.
    curve: Curve,
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
    pub(in crate::evaluate::tasks) fn new(
        images: &[Image<'_>],
        categories: &[i64],
        similarity: &Similarity,
    ) -> Self {
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
    pub(in crate::evaluate::tasks) fn by_class(&self, names: &Categories) -> Vec<ClassFigures> {
        let figures = [("ap", None), ("ap50", Some(HALF))];
        self.classes
            .iter()
            .map(|class| ClassFigures {
                class: class.category,
                name: names.get(&class.category).cloned(),
                support: class.support,
                figures: figures
                    .iter()
                    .map(|(name, threshold)| {
                        ((*name).to_owned(), class.value(&precision(name, *threshold, ALL)))
                    })
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
        let averages: Vec<_> = self
            .classes
            .iter()
            .filter_map(|class| class.resampled(weights))
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
        let curves = SIZES_AT.map(|size| curve(&judged, size));
        let mut summaries = SIZES_AT.map(|_| None);
        for (size, (summary, curve)) in summaries.iter_mut().zip(&curves).enumerate() {
            let total = totals.get(size).copied().unwrap_or(0);
            *summary = Summary::new(&judged, size, curve, total, once);
        }
        let [all, ..] = curves;
        Self {
            category,
            support: totals[ALL],
            summaries,
            curve: if positives.is_empty() {
                Curve::default()
            } else {
                all
            },
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
    fn resampled(&self, weights: &[u32]) -> Option<[f64; THRESHOLDS.len()]> {
        let positives = self
            .positives
            .iter()
            .filter_map(|(image, count)| Some(u64::from(*weights.get(*image as usize)?) * u64::from(*count)))
            .sum();
        self.curve.average(weights, positives)
    }
}

impl Summary {
    /// Of objects that are sorted, the best first, where there are `positives` of `size` to be found.
    fn new(judged: &[Judged], size: usize, curve: &Curve, positives: u64, once: &[u32]) -> Option<Self> {
        let precision = curve.average(once, positives)?;
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
        let Some(groups) = groups.get_mut(place) else {
            return;
        };
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

/// The curve of objects that are sorted, the best first, judged for one of [`SIZES`].
fn curve(judged: &[Judged], size: usize) -> Curve {
    Curve::new(
        judged
            .iter()
            .filter_map(|judged| Some((judged.image, *judged.verdicts.get(size)?))),
    )
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
