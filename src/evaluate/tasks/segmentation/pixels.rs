//! Pixels by true and predicted class, and the figures that follow from them.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::super::{ClassFigures, Measured, Named};
use crate::data::Categories;

/// True class, predicted class, pixels; ascending, without zeros.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Confusion(pub(super) Vec<(i64, i64, u64)>);

/// One model's pixels, prepared for counting samples any number of times.
pub(super) struct Side {
    /// The classes that occur, ascending.
    pub(super) classes: Vec<i64>,
    /// Pairs that occur, as places among the classes.
    pub(super) pairs: Vec<(usize, usize)>,
    /// Place of the pair and pixels, by sample.
    samples: Vec<Vec<(usize, u64)>>,
}

/// Pixels by class.
#[derive(Clone, Copy, Default)]
struct ClassPixels {
    truth: u64,
    predicted: u64,
    hits: u64,
}

impl ClassPixels {
    fn iou(&self) -> Option<f64> {
        ratio(self.hits, self.truth + self.predicted - self.hits)
    }

    fn dice(&self) -> Option<f64> {
        ratio(2 * self.hits, self.truth + self.predicted)
    }

    fn accuracy(&self) -> Option<f64> {
        ratio(self.hits, self.truth)
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

impl Side {
    pub(super) fn new<'a>(samples: impl Iterator<Item = &'a Confusion> + Clone) -> Self {
        let entries = || samples.clone().flat_map(|confusion| &confusion.0);
        let classes: BTreeSet<i64> = entries()
            .flat_map(|(truth, predicted, _)| [*truth, *predicted])
            .collect();
        let classes: Vec<i64> = classes.into_iter().collect();
        let place = |class: i64| classes.binary_search(&class).unwrap_or_else(|at| at);
        let pairs: BTreeSet<(usize, usize)> = entries()
            .map(|(truth, predicted, _)| (place(*truth), place(*predicted)))
            .collect();
        let pairs: Vec<(usize, usize)> = pairs.into_iter().collect();
        let samples = samples
            .map(|confusion| {
                confusion
                    .0
                    .iter()
                    .map(|(truth, predicted, count)| {
                        let pair = (place(*truth), place(*predicted));
                        (pairs.binary_search(&pair).unwrap_or_else(|at| at), *count)
                    })
                    .collect()
            })
            .collect();
        Self {
            classes,
            pairs,
            samples,
        }
    }

    /// Pixels by pair, each sample once or `weights` times.
    pub(super) fn totals(&self, weights: Option<&[u32]>) -> Vec<u64> {
        let mut totals = vec![0u64; self.pairs.len()];
        for (at, sample) in self.samples.iter().enumerate() {
            let weight = match weights {
                Some(weights) => u64::from(weights.get(at).copied().unwrap_or(0)),
                None => 1,
            };
            for (pair, count) in sample.iter().filter(|_| weight > 0) {
                if let Some(total) = totals.get_mut(*pair) {
                    *total += weight * count;
                }
            }
        }
        totals
    }

    fn by_pixels(&self, weights: Option<&[u32]>) -> Vec<ClassPixels> {
        let mut classes = vec![ClassPixels::default(); self.classes.len()];
        for ((truth, predicted), count) in self.pairs.iter().zip(self.totals(weights)) {
            if let Some(class) = classes.get_mut(*truth) {
                class.truth += count;
                class.hits += if truth == predicted { count } else { 0 };
            }
            if let Some(class) = classes.get_mut(*predicted) {
                class.predicted += count;
            }
        }
        classes
    }

    pub(super) fn by_class(&self, names: &Categories) -> Vec<ClassFigures> {
        self.classes
            .iter()
            .zip(self.by_pixels(None))
            .map(|(class, pixels)| ClassFigures {
                class: *class,
                name: names.get(class).cloned(),
                support: pixels.truth,
                figures: IndexMap::from([
                    ("iou".to_owned(), pixels.iou()),
                    ("dice".to_owned(), pixels.dice()),
                ]),
            })
            .collect()
    }
}

/// Mean intersection over union over the classes that occur, and the share of pixels that are right.
fn summary(classes: &[ClassPixels]) -> [Option<f64>; 2] {
    let hits = classes.iter().map(|class| class.hits).sum();
    let all = classes.iter().map(|class| class.truth).sum();
    [
        mean(classes.iter().filter_map(ClassPixels::iou)),
        ratio(hits, all),
    ]
}

impl Measured for Side {
    fn figures(&self) -> Named {
        let classes = self.by_pixels(None);
        let [miou, pixels] = summary(&classes);
        IndexMap::from([
            ("miou".to_owned(), miou),
            ("pixel-accuracy".to_owned(), pixels),
            (
                "mean-accuracy".to_owned(),
                mean(classes.iter().filter_map(ClassPixels::accuracy)),
            ),
            (
                "dice".to_owned(),
                mean(classes.iter().filter_map(ClassPixels::dice)),
            ),
        ])
    }

    fn resampled_names(&self) -> &'static [&'static str] {
        &["miou", "pixel-accuracy"]
    }

    fn resampled(&self, weights: &[u32]) -> Vec<Option<f64>> {
        summary(&self.by_pixels(Some(weights))).to_vec()
    }

    fn less_is_better(&self, _name: &str) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_that_counts_twice_is_two_samples() {
        let [a, b, c] = [
            Confusion(vec![(0, 0, 3), (0, 2, 1)]),
            Confusion(vec![(1, 0, 9)]),
            Confusion(vec![(2, 2, 5), (0, 1, 2)]),
        ];
        let side = Side::new([&a, &b, &c].into_iter());
        let twice = Side::new([&a, &a, &c].into_iter()).figures();
        assert_eq!(
            side.resampled(&[2, 0, 1]),
            [twice["miou"], twice["pixel-accuracy"]]
        );
        assert_eq!(side.resampled(&[0, 0, 0]), [None, None]);
    }
}
