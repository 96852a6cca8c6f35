//! The next token at each position: perplexity, and how far the model's distribution is from the reference's.
//!
//! Log-softmax is taken in `f64` with the highest score subtracted. A score of minus infinity is a token that cannot come; other
//! scores that are not finite are an error, as is a true token that cannot come: both have no figure that could be averaged.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::super::EvaluateError;
use super::super::classification::argmax;
use super::{Answer, Measured, Named, Output, Sample, TaskFigures, compared, of_all};
use crate::data::{DataError, TaskKind, TokensOptions};

/// Sums over the positions of each sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    samples: BTreeMap<u64, Counts>,
}

/// Sums of one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    /// Positions that count.
    positions: u64,
    /// Against the true tokens, where there are labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<Sums>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<Sums>,
    /// Of the model against the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    against: Option<Against>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sums {
    /// Negative log-likelihood of the true tokens, natural logarithm.
    nll: f64,
    /// Positions whose most likely token is the true one.
    hits: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Against {
    /// Kullback-Leibler divergence of the model from the reference, natural logarithm.
    divergence: f64,
    /// Positions at which both have the same most likely token.
    agreeing: u64,
}

impl Tokens {
    /// Counts one sample. Without labels every position counts, against the reference only.
    pub(super) fn count(
        &mut self,
        sample: &Sample<'_>,
        model: &Answer,
        reference: Option<&Answer>,
        options: &TokensOptions,
    ) -> Result<(), EvaluateError> {
        let unfit = |reason: String| {
            EvaluateError::Data(DataError::Labels {
                file: PathBuf::from(format!("sample {}", sample.index)),
                reason,
            })
        };
        let wanted = options.output.as_deref();
        let own = Scores::read(model.output(wanted)?)?;
        let other = reference
            .map(|answer| Scores::read(answer.output(wanted)?))
            .transpose()?;
        if let Some(other) = &other
            && (other.steps, other.tokens) != (own.steps, own.tokens)
        {
            return Err(own.wrong(format!(
                "scores {} tokens at {} positions, the reference's {} at {}",
                own.tokens, own.steps, other.tokens, other.steps
            )));
        }
        let labels = match &sample.labels {
            Some((dims, labels)) => {
                if labels.len() != own.steps {
                    return Err(unfit(format!(
                        "labels of shape {dims:?} do not fit {} positions; there is one label a position, negative where none counts",
                        own.steps
                    )));
                }
                Some(true_tokens(labels, options.shift, own.tokens)?)
            }
            None if other.is_none() => {
                return Err(unfit(
                    "there are no labels and no reference; name the array of next tokens with `labels`, or give a reference"
                        .to_owned(),
                ));
            }
            None => None,
        };
        let positions: Vec<(usize, Option<usize>)> = match &labels {
            Some(labels) => labels
                .iter()
                .map(|(position, label)| (*position, Some(*label)))
                .collect(),
            None => (0..own.steps).map(|position| (position, None)).collect(),
        };
        let mut counts = Counts {
            positions: positions.len() as u64,
            model: labels.is_some().then(Sums::default),
            reference: (labels.is_some() && other.is_some()).then(Sums::default),
            against: other.is_some().then(Against::default),
        };
        for (position, label) in positions {
            let row = own.row(position, sample.index)?;
            if let (Some(label), Some(sums)) = (label, &mut counts.model) {
                own.add(sums, &row, label, sample.index, position)?;
            }
            let Some(other) = &other else { continue };
            let second = other.row(position, sample.index)?;
            if let (Some(label), Some(sums)) = (label, &mut counts.reference) {
                other.add(sums, &second, label, sample.index, position)?;
            }
            if let Some(against) = &mut counts.against {
                against.agreeing += u64::from(row.best == second.best);
                let divergence = divergence(&second.logarithms, &row.logarithms);
                if !divergence.is_finite() {
                    return Err(own.wrong(format!(
                        "rules out a token that the reference does not, at position {position} of sample {}",
                        sample.index
                    )));
                }
                against.divergence += divergence;
            }
        }
        self.samples.insert(sample.index, counts);
        Ok(())
    }

    /// Adds another part's samples.
    pub fn merge(&mut self, other: &Self) {
        self.samples.extend(&other.samples);
    }

    /// The figures of both models with intervals at `confidence`.
    pub(super) fn figures(&self, from_reference: bool, confidence: f64) -> TaskFigures {
        let model = Side {
            samples: self
                .samples
                .values()
                .map(|counts| (counts.positions, counts.model, counts.against))
                .collect(),
        };
        let itself = |counts: &Counts| {
            counts.against?;
            let same = Against {
                divergence: 0.0,
                agreeing: counts.positions,
            };
            Some((counts.positions, counts.reference, Some(same)))
        };
        let reference = of_all(self.samples.values().map(itself)).map(|samples| Side { samples });
        let mut figures = compared(
            TaskKind::Tokens,
            &model,
            reference.as_ref(),
            self.samples.len(),
            from_reference,
            confidence,
        );
        figures.words = self.words();
        figures
    }

    fn words(&self) -> Vec<String> {
        let against = |counts: &Counts| Some((counts.positions, counts.against?.agreeing));
        let (positions, agreeing) = self
            .samples
            .values()
            .filter_map(against)
            .fold((0, 0), |sums, one| (sums.0 + one.0, sums.1 + one.1));
        if positions == agreeing {
            return Vec::new();
        }
        vec![format!(
            "at {} of {positions} positions the most likely token is another than the reference's",
            positions - agreeing
        )]
    }
}

/// Positions that count with their true tokens.
fn true_tokens(labels: &[i64], shift: bool, tokens: usize) -> Result<Vec<(usize, usize)>, EvaluateError> {
    let shown = if shift {
        labels.get(1..).unwrap_or(&[])
    } else {
        labels
    };
    shown
        .iter()
        .enumerate()
        .filter(|(_, label)| **label >= 0)
        .map(|(position, label)| match usize::try_from(*label) {
            Ok(token) if token < tokens => Ok((position, token)),
            _ => Err(EvaluateError::Label {
                label: *label,
                classes: tokens as u64,
            }),
        })
        .collect()
}

/// An output as scores of tokens by position.
struct Scores<'a> {
    output: &'a Output,
    steps: usize,
    tokens: usize,
}

/// The scores of one position.
struct Row {
    /// Logarithms of the probabilities.
    logarithms: Vec<f64>,
    best: i64,
}

impl<'a> Scores<'a> {
    fn read(output: &'a Output) -> Result<Self, EvaluateError> {
        let leading = output.dims.len().saturating_sub(2);
        let (ones, last) = output.dims.split_at(leading);
        match last {
            [steps, tokens]
                if ones.iter().all(|size| *size == 1)
                    && !output.integer
                    && *tokens > 0
                    && steps.checked_mul(*tokens) == Some(output.values.len()) =>
            {
                Ok(Self {
                    output,
                    steps: *steps,
                    tokens: *tokens,
                })
            }
            _ => Err(EvaluateError::Output {
                output: output.name.clone(),
                problem: format!(
                    "has shape {:?} a sample{}; next tokens are read from float scores [T, V]",
                    output.dims,
                    if output.integer { " and holds integers" } else { "" }
                ),
            }),
        }
    }

    fn wrong(&self, problem: String) -> EvaluateError {
        EvaluateError::Output {
            output: self.output.name.clone(),
            problem,
        }
    }

    fn row(&self, position: usize, sample: u64) -> Result<Row, EvaluateError> {
        let start = position * self.tokens;
        let scores = self.output.values.get(start..start + self.tokens).unwrap_or(&[]);
        let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !highest.is_finite() || scores.iter().any(|score| score.is_nan()) {
            return Err(self.wrong(format!(
                "holds scores that are not finite, at position {position} of sample {sample}"
            )));
        }
        let sum: f64 = scores.iter().map(|score| (score - highest).exp()).sum();
        let log = sum.ln();
        Ok(Row {
            logarithms: scores.iter().map(|score| score - highest - log).collect(),
            best: argmax(scores),
        })
    }

    fn add(
        &self,
        sums: &mut Sums,
        row: &Row,
        label: usize,
        sample: u64,
        position: usize,
    ) -> Result<(), EvaluateError> {
        let likelihood = row.logarithms.get(label).copied().unwrap_or(f64::NEG_INFINITY);
        if !likelihood.is_finite() {
            return Err(self.wrong(format!(
                "rules out the true token {label}, at position {position} of sample {sample}"
            )));
        }
        sums.nll -= likelihood;
        sums.hits += u64::from(row.best == label as i64);
        Ok(())
    }
}

/// Kullback-Leibler divergence of `model` from `reference`, both logarithms of probabilities.
fn divergence(reference: &[f64], model: &[f64]) -> f64 {
    reference
        .iter()
        .zip(model)
        .filter(|(reference, _)| **reference > f64::NEG_INFINITY)
        .map(|(reference, model)| reference.exp() * (reference - model))
        .sum()
}

/// One model's sums by sample.
struct Side {
    samples: Vec<(u64, Option<Sums>, Option<Against>)>,
}

/// Sums over samples.
#[derive(Default)]
struct Totals {
    /// Positions with a label, their negative log-likelihood and hits.
    labelled: u64,
    nll: f64,
    hits: u64,
    /// Positions with a reference.
    compared: u64,
    divergence: f64,
    agreeing: u64,
}

impl Side {
    fn totals(&self, weight: impl Fn(usize) -> u64) -> Totals {
        let mut totals = Totals::default();
        for (at, (positions, sums, against)) in self.samples.iter().enumerate() {
            let weight = weight(at);
            if let Some(sums) = sums {
                totals.labelled += weight * positions;
                totals.nll += weight as f64 * sums.nll;
                totals.hits += weight * sums.hits;
            }
            if let Some(against) = against {
                totals.compared += weight * positions;
                totals.divergence += weight as f64 * against.divergence;
                totals.agreeing += weight * against.agreeing;
            }
        }
        totals
    }

    fn has_labels(&self) -> bool {
        self.samples.iter().any(|(_, sums, _)| sums.is_some())
    }

    fn has_reference(&self) -> bool {
        self.samples.iter().any(|(_, _, against)| against.is_some())
    }
}

fn ratio(part: f64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part / whole as f64)
}

impl Measured for Side {
    fn figures(&self) -> Named {
        let totals = self.totals(|_| 1);
        let mut figures = IndexMap::new();
        if self.has_labels() {
            let nll = ratio(totals.nll, totals.labelled);
            figures.insert("perplexity".to_owned(), nll.map(f64::exp));
            figures.insert("nll".to_owned(), nll);
            figures.insert("top1".to_owned(), ratio(totals.hits as f64, totals.labelled));
        }
        if self.has_reference() {
            figures.insert("kl".to_owned(), ratio(totals.divergence, totals.compared));
            let agreement = ratio(totals.agreeing as f64, totals.compared);
            figures.insert("top1-agreement".to_owned(), agreement);
        }
        figures
    }

    fn resampled_names(&self) -> &'static [&'static str] {
        match (self.has_labels(), self.has_reference()) {
            (true, true) => &["perplexity", "kl"],
            (true, false) => &["perplexity"],
            (false, true) => &["kl"],
            (false, false) => &[],
        }
    }

    fn resampled(&self, weights: &[u32]) -> Vec<Option<f64>> {
        let totals = self.totals(|at| u64::from(weights.get(at).copied().unwrap_or(0)));
        let perplexity = ratio(totals.nll, totals.labelled).map(f64::exp);
        let kl = ratio(totals.divergence, totals.compared);
        self.resampled_names()
            .iter()
            .map(|name| if *name == "kl" { kl } else { perplexity })
            .collect()
    }

    fn less_is_better(&self, name: &str) -> bool {
        matches!(name, "perplexity" | "nll" | "kl")
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::{self, parts_merge};
    use super::*;

    fn answer(dims: &[usize], values: &[f64]) -> Answer {
        trial::answer(dims, values, false)
    }

    fn sample(index: u64, labels: Option<&[i64]>) -> Sample<'static> {
        Sample {
            labels: labels.map(|labels| (vec![labels.len()], labels.to_vec())),
            ..trial::sample(index)
        }
    }

    const MODEL: [f64; 9] = [1.0, 2.0, 0.5, 0.0, 0.0, 0.0, 1000.0, 999.0, -1000.0];
    const REFERENCE: [f64; 9] = [1.5, 1.0, 0.5, 1.0, 0.0, 0.0, 1000.0, 998.0, f64::NEG_INFINITY];

    #[test]
    fn figures_equal_numpy() {
        let mut state = Tokens::default();
        let (model, reference) = (answer(&[3, 3], &MODEL), answer(&[1, 3, 3], &REFERENCE));
        let options = TokensOptions::default();
        state
            .count(
                &sample(0, Some(&[1, -100, 0])),
                &model,
                Some(&reference),
                &options,
            )
            .unwrap();
        let figures = state.figures(false, 0.95);
        let near = |figures: &Named, name: &str, expected: f64| {
            let found = figures[name].unwrap();
            assert!((found - expected).abs() < 1e-12, "{name}: {found}");
        };
        // scipy.special.log_softmax, scipy.stats.entropy.
        near(&figures.figures, "nll", NLL);
        near(&figures.figures, "perplexity", PERPLEXITY);
        near(&figures.figures, "kl", KL);
        near(&figures.figures, "top1", 1.0);
        near(&figures.figures, "top1-agreement", 0.5);
        let reference = figures.reference.unwrap();
        near(&reference, "nll", REFERENCE_NLL);
        near(&reference, "kl", 0.0);
        assert_eq!(
            figures.words,
            ["at 1 of 2 positions the most likely token is another than the reference's"]
        );
    }

    const NLL: f64 = 0.38881523581308386;
    const PERPLEXITY: f64 = 1.475231956118029;
    const KL: f64 = 0.1486370888643359;
    const REFERENCE_NLL: f64 = 0.6535988408423536;

    #[test]
    fn labels_may_be_the_input_or_be_missing() {
        let (model, options) = (answer(&[3, 3], &MODEL), TokensOptions::default());
        let shift = TokensOptions {
            shift: true,
            ..TokensOptions::default()
        };
        let (mut next, mut input) = (Tokens::default(), Tokens::default());
        next.count(&sample(0, Some(&[1, 2, -1])), &model, None, &options)
            .unwrap();
        input
            .count(&sample(0, Some(&[0, 1, 2])), &model, None, &shift)
            .unwrap();
        assert_eq!(next, input);
        assert!(next.count(&sample(1, None), &model, None, &options).is_err());
        let mut state = Tokens::default();
        state
            .count(
                &sample(0, None),
                &model,
                Some(&answer(&[3, 3], &REFERENCE)),
                &options,
            )
            .unwrap();
        let figures = state.figures(true, 0.95);
        assert_eq!(
            figures.figures.keys().collect::<Vec<_>>(),
            ["kl", "top1-agreement"]
        );
        assert_eq!(figures.figures["top1-agreement"], Some(2.0 / 3.0));
        assert_eq!(state.samples[&0].positions, 3);
    }

    #[test]
    fn a_sample_that_counts_twice_is_two_samples() {
        let entry = |positions, nll, divergence| {
            let sums = Sums { nll, hits: 1 };
            let against = Against {
                divergence,
                agreeing: 1,
            };
            (positions, Some(sums), Some(against))
        };
        let (a, b) = (entry(2, 1.5, 0.25), entry(3, 4.0, 0.5));
        let side = Side { samples: vec![a, b] };
        let twice = Side { samples: vec![a, a] }.figures();
        assert_eq!(side.resampled(&[2, 0]), [twice["perplexity"], twice["kl"]]);
        assert_eq!(side.resampled(&[0, 0]), [None, None]);
    }

    #[test]
    fn what_has_no_figure_is_an_error() {
        let options = TokensOptions::default();
        let count = |scores: &[f64], labels: &[i64]| {
            Tokens::default().count(&sample(4, Some(labels)), &answer(&[1, 2], scores), None, &options)
        };
        assert!(matches!(
            count(&[0.0, 1.0], &[2]),
            Err(EvaluateError::Label { label: 2, classes: 2 })
        ));
        assert!(matches!(
            count(&[0.0, f64::NAN], &[0]),
            Err(EvaluateError::Output { .. })
        ));
        assert!(matches!(
            count(&[0.0, f64::NEG_INFINITY], &[1]),
            Err(EvaluateError::Output { .. })
        ));
        assert!(matches!(count(&[0.0, 1.0], &[1, 1]), Err(EvaluateError::Data(_))));
        assert!(count(&[0.0, f64::NEG_INFINITY], &[0]).is_ok());
    }

    #[test]
    fn parts_merge_to_the_byte() {
        let part = |indices: std::ops::Range<u64>| {
            let mut state = Tokens::default();
            for index in indices {
                let scores: Vec<f64> = MODEL.iter().map(|score| (score + index as f64).sin()).collect();
                let labels = [(index % 3) as i64, -1, 2];
                state
                    .count(
                        &sample(index, Some(&labels)),
                        &answer(&[3, 3], &scores),
                        Some(&answer(
                            &[3, 3],
                            &REFERENCE[..].iter().map(|s| s.max(0.1)).collect::<Vec<_>>(),
                        )),
                        &TokensOptions::default(),
                    )
                    .unwrap();
            }
            state
        };
        parts_merge(part, Tokens::merge, |state| state.figures(false, 0.95));
    }
}
