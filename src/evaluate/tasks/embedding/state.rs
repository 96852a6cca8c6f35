//! The vectors of each sample, as they are kept, merged and compared.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::super::super::EvaluateError;
use super::super::{Answer, Measured, Named, Output, Sample, TaskFigures, compared, of_all};
use super::agreement::{Agreement, NEAREST};
use super::similarity::unit;
use super::verification::Verification;
use crate::data::{DataError, EmbeddingOptions, Pair, Pool, TaskKind};

/// The vectors of both models by sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// Shares of different pairs that may be taken for the same.
    far: Vec<f64>,
    /// The pairs of the whole data set; those count whose samples are both there.
    pairs: Vec<Pair>,
    samples: BTreeMap<u64, Vectors>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    model: Vec<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<Vec<f64>>,
}

impl Embedding {
    /// No samples yet; `pairs` are those of the whole data set.
    pub fn new(pairs: Vec<Pair>, options: &EmbeddingOptions) -> Self {
        Self {
            far: options.far.clone(),
            pairs,
            samples: BTreeMap::new(),
        }
    }

    /// Keeps the vectors of one sample.
    pub(in crate::evaluate) fn count(
        &mut self,
        sample: &Sample<'_>,
        model: &Answer,
        reference: Option<&Answer>,
        options: &EmbeddingOptions,
    ) -> Result<(), EvaluateError> {
        if reference.is_none() && self.pairs.iter().all(|pair| pair.same.is_none()) {
            return Err(EvaluateError::Data(DataError::Labels {
                file: PathBuf::from(format!("sample {}", sample.index)),
                reason: "vectors are judged by pairs with a label or against a reference; name a file with `pairs`, or give \
                         a reference"
                    .to_owned(),
            }));
        }
        let wanted = options.output.as_deref();
        let output = model.output(wanted)?;
        let vectors = Vectors {
            model: vector(output, options.pool, sample.index)?,
            reference: reference
                .map(|answer| vector(answer.output(wanted)?, options.pool, sample.index))
                .transpose()?,
        };
        let length = vectors.model.len();
        let others = [
            ("the reference", vectors.reference.as_ref()),
            (
                "another sample",
                self.samples.first_key_value().map(|(_, first)| &first.model),
            ),
        ];
        for (whose, other) in others {
            if let Some(other) = other.filter(|other| other.len() != length) {
                return Err(EvaluateError::Output {
                    output: output.name.clone(),
                    problem: format!(
                        "is a vector of {length} for sample {}, that of {whose} is one of {}; `pool` makes one of several",
                        sample.index,
                        other.len()
                    ),
                });
            }
        }
        self.samples.insert(sample.index, vectors);
        Ok(())
    }

    /// Adds another part's samples.
    pub fn merge(&mut self, other: &Self) {
        if self.pairs.is_empty() {
            self.pairs.clone_from(&other.pairs);
        }
        if self.far.is_empty() {
            self.far.clone_from(&other.far);
        }
        self.samples.extend(
            other
                .samples
                .iter()
                .map(|(index, vectors)| (*index, vectors.clone())),
        );
    }

    /// The figures of both models with intervals at `confidence`.
    pub(in crate::evaluate) fn figures(&self, from_reference: bool, confidence: f64) -> TaskFigures {
        let units: Vec<Vec<f64>> = self
            .samples
            .values()
            .map(|vectors| unit(&vectors.model))
            .collect();
        let others = of_all(
            self.samples
                .values()
                .map(|vectors| vectors.reference.as_deref().map(unit)),
        );
        let pairs = self.places();
        let agreement = others
            .as_ref()
            .map(|others| Agreement::of(&units, others, &pairs));
        let model = Side {
            agreement: agreement.as_ref(),
            verification: Verification::of(&units, &pairs),
            far: &self.far,
        };
        let itself = agreement.as_ref().map(Agreement::itself);
        let reference = others.as_ref().map(|others| Side {
            agreement: itself.as_ref(),
            verification: Verification::of(others, &pairs),
            far: &self.far,
        });
        let mut figures = compared(
            TaskKind::Embedding,
            &model,
            reference.as_ref(),
            self.samples.len(),
            from_reference,
            confidence,
        );
        figures.words = agreement.map(|found| self.words(&found)).unwrap_or_default();
        figures
    }

    /// The pairs whose samples are both there, as places among the samples.
    fn places(&self) -> Vec<(usize, usize, Option<bool>)> {
        let indices: Vec<u64> = self.samples.keys().copied().collect();
        let place = |index: u64| indices.binary_search(&index).ok();
        self.pairs
            .iter()
            .filter_map(|pair| Some((place(pair.a)?, place(pair.b)?, pair.same)))
            .collect()
    }

    fn words(&self, agreement: &Agreement) -> Vec<String> {
        let mut lines = Vec::new();
        let lowest = self
            .samples
            .keys()
            .zip(&agreement.cosines)
            .min_by(|(_, a), (_, b)| a.total_cmp(b));
        if let Some((index, cosine)) = lowest {
            lines.push(format!(
                "sample {index} is the farthest from the reference, at cosine {cosine:.4}"
            ));
        }
        if let Some((moved, all)) = agreement.moved.filter(|(moved, _)| *moved > 0) {
            lines.push(format!(
                "{moved} of {all} samples have another nearest neighbour than with the reference"
            ));
        }
        lines
    }
}

/// The vector of an output.
fn vector(output: &Output, pool: Option<Pool>, sample: u64) -> Result<Vec<f64>, EvaluateError> {
    let wrong = |problem: String| EvaluateError::Output {
        output: output.name.clone(),
        problem,
    };
    if output.values.is_empty() {
        return Err(wrong(format!("is empty for sample {sample}")));
    }
    if output.values.iter().any(|value| !value.is_finite()) {
        return Err(wrong(format!("holds NaN or infinity for sample {sample}")));
    }
    let Some(pool) = pool else {
        return Ok(output.values.clone());
    };
    let leading = output.dims.len().saturating_sub(2);
    let (ones, last) = output.dims.split_at(leading);
    let [count, length] = last else {
        return Err(wrong(format!(
            "has shape {:?} a sample; `pool` is for vectors [T, D]",
            output.dims
        )));
    };
    if ones.iter().any(|size| *size != 1) || count.checked_mul(*length) != Some(output.values.len()) {
        return Err(wrong(format!(
            "has shape {:?} a sample; `pool` is for vectors [T, D]",
            output.dims
        )));
    }
    let mut rows = output.values.chunks(*length);
    let mut sum = rows.next().unwrap_or(&[]).to_vec();
    if pool == Pool::Mean {
        for row in rows {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        sum.iter_mut().for_each(|sum| *sum /= *count as f64);
    }
    Ok(sum)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// One model's figures.
struct Side<'a> {
    agreement: Option<&'a Agreement>,
    verification: Option<Verification>,
    far: &'a [f64],
}

impl Measured for Side<'_> {
    fn figures(&self) -> Named {
        let mut figures = IndexMap::new();
        if let Some(agreement) = &self.agreement {
            figures.insert("cosine".to_owned(), mean(&agreement.cosines));
            let lowest = agreement.cosines.iter().copied().min_by(f64::total_cmp);
            figures.insert("cosine-min".to_owned(), lowest);
            figures.insert("spearman".to_owned(), agreement.spearman);
            for (k, recall) in NEAREST.iter().zip(agreement.recalls) {
                figures.insert(format!("recall@{k}"), recall);
            }
        }
        if let Some(verification) = &self.verification {
            let curve = verification.curve(|_| 1);
            for (at, far) in self.far.iter().enumerate() {
                let name = if at == 0 {
                    "tar".to_owned()
                } else {
                    format!("tar@{far}")
                };
                figures.insert(name, curve.true_acceptance(*far));
            }
            figures.insert("auc".to_owned(), curve.area());
        }
        figures
    }

    fn resampled_names(&self) -> &'static [&'static str] {
        match (self.agreement.is_some(), self.verification.is_some()) {
            (true, true) => &["cosine", "tar", "auc"],
            (true, false) => &["cosine"],
            (false, true) => &["tar", "auc"],
            (false, false) => &[],
        }
    }

    fn resampled(&self, weights: &[u32]) -> Vec<Option<f64>> {
        let weight = |at: usize| u64::from(weights.get(at).copied().unwrap_or(0));
        let mut values = Vec::new();
        if let Some(agreement) = &self.agreement {
            let (sum, count) = agreement
                .cosines
                .iter()
                .enumerate()
                .fold((0.0, 0), |(sum, count), (at, cosine)| {
                    (sum + weight(at) as f64 * cosine, count + weight(at))
                });
            values.push((count > 0).then(|| sum / count as f64));
        }
        if let Some(verification) = &self.verification {
            let curve = verification.curve(weight);
            values.push(self.far.first().and_then(|far| curve.true_acceptance(*far)));
            values.push(curve.area());
        }
        values
    }

    fn less_is_better(&self, _name: &str) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::trial::{self, parts_merge};
    use super::*;

    fn answer(values: &[f64]) -> Answer {
        trial::answer(&[values.len()], values, false)
    }

    fn sample(index: u64) -> Sample<'static> {
        trial::sample(index)
    }

    const MODEL: [[f64; 2]; 5] = [[1.0, 0.0], [1.0, 0.5], [0.0, 2.0], [-1.0, 1.0], [1.0, 0.5]];
    const REFERENCE: [[f64; 2]; 5] = [[1.0, 0.1], [1.0, 1.0], [0.5, 2.0], [-1.0, 0.5], [2.0, 1.0]];

    fn state(pairs: &[(u64, u64, u8)], indices: std::ops::Range<usize>, with_reference: bool) -> Embedding {
        let options = EmbeddingOptions {
            far: vec![0.5, 0.0],
            ..EmbeddingOptions::default()
        };
        let pairs = pairs
            .iter()
            .map(|(a, b, same)| Pair {
                a: *a,
                b: *b,
                same: Some(*same == 1),
            })
            .collect();
        let mut state = Embedding::new(pairs, &options);
        for index in indices {
            let reference = with_reference.then(|| answer(&REFERENCE[index % 5]));
            state
                .count(
                    &sample(index as u64),
                    &answer(&MODEL[index % 5]),
                    reference.as_ref(),
                    &options,
                )
                .unwrap();
        }
        state
    }

    fn near(figures: &Named, name: &str, expected: f64) {
        let found = figures[name].unwrap();
        assert!((found - expected).abs() < 1e-12, "{name}: {found}");
    }

    #[test]
    fn agreement_equals_scipy() {
        let figures = state(&[], 0..5, true).figures(true, 0.95);
        near(&figures.figures, "cosine", COSINE);
        near(&figures.figures, "cosine-min", COSINE_MIN);
        near(&figures.figures, "spearman", SPEARMAN);
        near(&figures.figures, "recall@1", 0.6);
        assert_eq!(figures.figures["recall@5"], None);
        assert_eq!(figures.reference.unwrap()["spearman"], Some(1.0));
        assert!(figures.drop_intervals.contains_key("cosine"));
        assert_eq!(
            figures.words[1],
            "2 of 5 samples have another nearest neighbour than with the reference"
        );
    }

    const COSINE: f64 = 0.9725092572912697;
    const COSINE_MIN: f64 = 0.9486832980505137;
    const SPEARMAN: f64 = 0.8807710121010884;

    #[test]
    fn verification_equals_scikit_learn() {
        let pairs = [
            (0, 1, 1),
            (0, 4, 0),
            (1, 2, 1),
            (2, 3, 1),
            (0, 3, 0),
            (1, 4, 1),
            (1, 3, 0),
        ];
        let figures = state(&pairs, 0..5, false).figures(false, 0.95);
        assert_eq!(
            figures.figures.keys().collect::<Vec<_>>(),
            ["tar", "tar@0", "auc"]
        );
        near(&figures.figures, "tar", 1.0);
        near(&figures.figures, "tar@0", 0.25);
        near(&figures.figures, "auc", AUC);
        assert!(figures.intervals.contains_key("tar"));
        // Without pairs of both kinds there is no threshold.
        let figures = state(&pairs[..1], 0..5, false).figures(false, 0.95);
        assert_eq!(figures.figures["tar"], None);
    }

    const AUC: f64 = 0.7916666666666667;

    #[test]
    fn several_vectors_become_one() {
        let output = Output {
            name: "v".to_owned(),
            dims: vec![1, 2, 2],
            values: vec![1.0, 2.0, 3.0, 5.0],
            integer: false,
        };
        assert_eq!(vector(&output, Some(Pool::Mean), 0).unwrap(), [2.0, 3.5]);
        assert_eq!(vector(&output, Some(Pool::First), 0).unwrap(), [1.0, 2.0]);
        assert_eq!(vector(&output, None, 0).unwrap().len(), 4);
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        let options = EmbeddingOptions::default();
        let mut state = Embedding::new(Vec::new(), &options);
        let (two, three) = (answer(&[1.0, 2.0]), answer(&[1.0, 2.0, 3.0]));
        assert!(state.count(&sample(0), &two, None, &options).is_err());
        assert!(state.count(&sample(0), &two, Some(&three), &options).is_err());
        state.count(&sample(0), &two, Some(&two), &options).unwrap();
        assert!(state.count(&sample(1), &three, Some(&three), &options).is_err());
        let broken = answer(&[f64::NAN, 1.0]);
        assert!(state.count(&sample(1), &broken, Some(&two), &options).is_err());
    }

    #[test]
    fn parts_merge_to_the_byte() {
        let pairs = [(0, 7, 1), (3, 4, 0), (1, 11, 0), (2, 12, 1)];
        let part =
            |indices: std::ops::Range<u64>| state(&pairs, indices.start as usize..indices.end as usize, true);
        parts_merge(part, Embedding::merge, |state| state.figures(false, 0.95));
    }
}
