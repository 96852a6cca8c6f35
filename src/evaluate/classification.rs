//! Classification figures from a confusion table, as scikit-learn defines them (`zero_division=0`).

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How often each class was predicted for each true class, and how often the true class was among the best `k`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    /// Classes that the model's output has; 0 when it answers class numbers.
    pub classes: u64,
    /// `(true class, predicted class)`: count.
    #[serde(with = "pairs")]
    pub confusion: BTreeMap<(i64, i64), u64>,
    /// Samples whose true class is among the five highest outputs; `None` when the model answers class numbers.
    pub top5: Option<u64>,
    /// Samples with an output that is NaN or infinite.
    pub not_finite: u64,
}

/// A map with pairs as keys, as a list of triples: JSON has no such keys.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<(i64, i64), u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter()
            .map(|((a, b), n)| (*a, *b, *n))
            .collect::<Vec<_>>()
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<(i64, i64), u64>, D::Error> {
        Ok(Vec::<(i64, i64, u64)>::deserialize(deserializer)?
            .into_iter()
            .map(|(a, b, n)| ((a, b), n))
            .collect())
    }
}

/// Precision, recall and F1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Scores {
    /// Share of the predictions that are right.
    pub precision: f64,
    /// Share of the true samples that are found.
    pub recall: f64,
    /// Harmonic mean of both, per class; averaged like them.
    pub f1: f64,
}

/// Scores of one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ClassScores {
    /// The class.
    pub class: i64,
    /// Samples of it.
    pub support: u64,
    /// Its scores.
    #[serde(flatten)]
    pub scores: Scores,
}

impl Classification {
    /// An empty table for a model with `classes` outputs, or for one that answers class numbers.
    pub fn new(classes: Option<u64>) -> Self {
        Self {
            classes: classes.unwrap_or(0),
            top5: classes.map(|_| 0),
            ..Self::default()
        }
    }

    /// Counts one sample by its outputs, one a class. Ties go to the lower class; NaN counts as the highest value, as in numpy.
    /// Answers the predicted class.
    pub fn count_scores(&mut self, truth: i64, scores: &[f64]) -> i64 {
        let predicted = argmax(scores);
        if scores.iter().any(|score| !score.is_finite()) {
            self.not_finite += 1;
        }
        if let (Some(hits), Some(own)) = (
            &mut self.top5,
            usize::try_from(truth).ok().and_then(|at| scores.get(at)),
        ) {
            let better = scores
                .iter()
                .enumerate()
                .filter(|(at, score)| **score > *own || (**score == *own && (*at as i64) < truth))
                .count();
            *hits += u64::from(better < 5 && !own.is_nan());
        }
        self.count(truth, predicted);
        predicted
    }

    /// Counts one sample by its predicted class.
    pub fn count(&mut self, truth: i64, predicted: i64) {
        *self.confusion.entry((truth, predicted)).or_default() += 1;
    }

    /// Adds another table's counts.
    pub fn merge(&mut self, other: &Classification) {
        self.classes = self.classes.max(other.classes);
        for (pair, count) in &other.confusion {
            *self.confusion.entry(*pair).or_default() += count;
        }
        self.top5 = self.top5.zip(other.top5).map(|(a, b)| a + b);
        self.not_finite += other.not_finite;
    }

    /// Samples counted.
    pub fn samples(&self) -> u64 {
        self.confusion.values().sum()
    }

    /// Samples whose prediction is right.
    pub fn correct(&self) -> u64 {
        self.confusion
            .iter()
            .filter(|((truth, predicted), _)| truth == predicted)
            .map(|(_, count)| count)
            .sum()
    }

    /// Share of right predictions.
    pub fn accuracy(&self) -> f64 {
        ratio(self.correct(), self.samples())
    }

    /// Share of samples whose class is among the five best.
    pub fn top5_accuracy(&self) -> Option<f64> {
        self.top5.map(|hits| ratio(hits, self.samples()))
    }

    /// Classes that occur among the true or the predicted ones, ascending: those that averages run over.
    pub fn labels(&self) -> Vec<i64> {
        let labels: BTreeSet<i64> = self
            .confusion
            .keys()
            .flat_map(|(truth, predicted)| [*truth, *predicted])
            .collect();
        labels.into_iter().collect()
    }

    /// Scores of every class of [`Classification::labels`].
    pub fn per_class(&self) -> Vec<ClassScores> {
        let mut right: BTreeMap<i64, u64> = BTreeMap::new();
        let mut truths: BTreeMap<i64, u64> = BTreeMap::new();
        let mut predictions: BTreeMap<i64, u64> = BTreeMap::new();
        for ((truth, predicted), count) in &self.confusion {
            *truths.entry(*truth).or_default() += count;
            *predictions.entry(*predicted).or_default() += count;
            if truth == predicted {
                *right.entry(*truth).or_default() += count;
            }
        }
        let of = |map: &BTreeMap<i64, u64>, class: i64| map.get(&class).copied().unwrap_or(0);
        self.labels()
            .into_iter()
            .map(|class| {
                let (right, support, predicted) =
                    (of(&right, class), of(&truths, class), of(&predictions, class));
                let scores = Scores {
                    precision: ratio(right, predicted),
                    recall: ratio(right, support),
                    f1: ratio(2 * right, support + predicted),
                };
                ClassScores {
                    class,
                    support,
                    scores,
                }
            })
            .collect()
    }

    /// Unweighted mean over the classes.
    pub fn macro_average(&self) -> Scores {
        average(&self.per_class(), |_| 1.0)
    }

    /// Mean over the classes, weighted by their samples.
    pub fn weighted_average(&self) -> Scores {
        average(&self.per_class(), |class| class.support as f64)
    }

    /// Over all samples together: all three equal the accuracy.
    pub fn micro_average(&self) -> Scores {
        let accuracy = self.accuracy();
        Scores {
            precision: accuracy,
            recall: accuracy,
            f1: accuracy,
        }
    }

    /// The whole table, a row a true class, over the classes `0 .. n`; `None` above `limit` classes or with a negative class.
    pub fn matrix(&self, limit: usize) -> Option<Vec<Vec<u64>>> {
        let labels = self.labels();
        let highest = labels.last().map_or(0, |last| last + 1).max(self.classes as i64);
        if labels.first().is_some_and(|first| *first < 0) || highest as usize > limit {
            return None;
        }
        let mut rows = vec![vec![0; highest as usize]; highest as usize];
        for ((truth, predicted), count) in &self.confusion {
            if let Some(cell) = rows
                .get_mut(*truth as usize)
                .and_then(|row| row.get_mut(*predicted as usize))
            {
                *cell = *count;
            }
        }
        Some(rows)
    }
}

/// Index of the highest score: the first of equal ones, and the first NaN if there is one.
pub fn argmax(scores: &[f64]) -> i64 {
    let mut best = 0;
    for (at, score) in scores.iter().enumerate().skip(1) {
        let Some(highest) = scores.get(best) else { break };
        if !highest.is_nan() && (score.is_nan() || score > highest) {
            best = at;
        }
    }
    best as i64
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

fn average(classes: &[ClassScores], weight: impl Fn(&ClassScores) -> f64) -> Scores {
    let total: f64 = classes.iter().map(&weight).sum();
    let mean = |score: fn(&Scores) -> f64| {
        if total == 0.0 {
            0.0
        } else {
            classes.iter().map(|c| weight(c) * score(&c.scores)).sum::<f64>() / total
        }
    };
    Scores {
        precision: mean(|s| s.precision),
        recall: mean(|s| s.recall),
        f1: mean(|s| s.f1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(pairs: &[(i64, i64)]) -> Classification {
        let mut table = Classification::new(None);
        pairs
            .iter()
            .for_each(|(truth, predicted)| table.count(*truth, *predicted));
        table
    }

    #[test]
    fn averages_run_over_classes_that_occur() {
        // Truth 0 0 1 2, predictions 0 1 1 3: class 2 is never predicted, class 3 never true.
        let scores = table(&[(0, 0), (0, 1), (1, 1), (2, 3)]).macro_average();
        assert_eq!(scores.precision, (1.0 + 0.5 + 0.0 + 0.0) / 4.0);
        assert_eq!(scores.recall, (0.5 + 1.0 + 0.0 + 0.0) / 4.0);
        assert!((scores.f1 - (2.0 / 3.0 + 2.0 / 3.0) / 4.0).abs() < 1e-15);
        assert_eq!(
            table(&[(0, 0), (0, 1), (1, 1), (2, 3)]).weighted_average().recall,
            0.5
        );
    }

    #[test]
    fn ties_go_to_the_lower_class_and_nan_wins() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(argmax(&[1.0, f64::NAN, 3.0]), 1);
        let mut table = Classification::new(Some(7));
        table.count_scores(6, &[0.0; 7]);
        table.count_scores(4, &[0.0; 7]);
        assert_eq!((table.top5, table.correct()), (Some(1), 0));
    }

    #[test]
    fn merged_parts_equal_the_whole() {
        let (mut a, b) = (table(&[(0, 0), (1, 0)]), table(&[(0, 0), (2, 2)]));
        a.merge(&b);
        assert_eq!(a, table(&[(0, 0), (1, 0), (0, 0), (2, 2)]));
        assert_eq!(a.matrix(10).unwrap(), [[2, 0, 0], [1, 0, 0], [0, 0, 1]]);
        assert_eq!(a.matrix(2), None);
    }
}
