//! Signals against what they should be: ratios of energies in decibels, the mean over the samples.
//!
//! `snr` is the energy of the target over that of the error, `si-sdr` the same after the target is scaled to the answer (Le Roux et
//! al. 2019). As in torchmetrics, the machine epsilon is added to each energy, so that silence and exact answers have a figure,
//! and means are not removed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::EvaluateError;
use super::{Answer, Measured, Named, Output, Sample, TaskFigures, compared, named, of_all};
use crate::data::{DataError, TaskKind};

/// Ratios of each sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signals {
    samples: BTreeMap<u64, Counts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    model: Ratios,
    /// Of the reference against the target; `None` where the reference is the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reference: Option<Ratios>,
}

/// In decibels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ratios {
    snr: f64,
    si_sdr: f64,
}

impl Signals {
    /// Counts one sample. Without a target the reference's answer is the target.
    pub(super) fn count(
        &mut self,
        sample: &Sample<'_>,
        target: Option<&[f64]>,
        model: &Answer,
        reference: Option<&Answer>,
        output: Option<&str>,
    ) -> Result<(), EvaluateError> {
        let own = model.output(output)?;
        let other = reference.map(|answer| answer.output(output)).transpose()?;
        let counts = match (target, other) {
            (Some(target), other) => Counts {
                model: Ratios::of(target, own, sample.index)?,
                reference: other
                    .map(|other| Ratios::of(target, other, sample.index))
                    .transpose()?,
            },
            (None, Some(other)) => Counts {
                model: Ratios::of(&other.values, own, sample.index)?,
                reference: None,
            },
            (None, None) => {
                return Err(EvaluateError::Data(DataError::Labels {
                    file: PathBuf::from(format!("sample {}", sample.index)),
                    reason: "there is no target and no reference; name the array of targets with `labels`, or give a \
                             reference"
                        .to_owned(),
                }));
            }
        };
        self.samples.insert(sample.index, counts);
        Ok(())
    }

    /// Adds another part's samples.
    pub fn merge(&mut self, other: &Self) {
        self.samples.extend(&other.samples);
    }

    /// The figures of both models with intervals at `confidence`.
    pub(super) fn figures(&self, from_reference: bool, confidence: f64) -> TaskFigures {
        let model = Side(self.samples.values().map(|counts| counts.model).collect());
        let reference = of_all(self.samples.values().map(|counts| counts.reference)).map(Side);
        let mut figures = compared(
            TaskKind::Signals,
            &model,
            reference.as_ref(),
            self.samples.len(),
            from_reference,
            confidence,
        );
        let worst = self
            .samples
            .iter()
            .min_by(|(_, a), (_, b)| a.model.snr.total_cmp(&b.model.snr));
        if let Some((index, counts)) = worst {
            figures.words = vec![format!(
                "sample {index} is the worst, at a signal to noise ratio of {:.1} dB",
                counts.model.snr
            )];
        }
        figures
    }
}

impl Ratios {
    fn of(target: &[f64], output: &Output, sample: u64) -> Result<Self, EvaluateError> {
        let wrong = |problem: String| EvaluateError::Output {
            output: output.name.clone(),
            problem,
        };
        let answer = &output.values;
        if answer.len() != target.len() {
            return Err(wrong(format!(
                "has shape {:?} for sample {sample}, its target {} values",
                output.dims,
                target.len()
            )));
        }
        let pairs = || target.iter().zip(answer);
        let energy: f64 = target.iter().map(|value| value * value).sum();
        let error: f64 = pairs().map(|(target, answer)| (target - answer).powi(2)).sum();
        let common: f64 = pairs().map(|(target, answer)| target * answer).sum();
        let scale = (common + f64::EPSILON) / (energy + f64::EPSILON);
        let rest: f64 = pairs()
            .map(|(target, answer)| (scale * target - answer).powi(2))
            .sum();
        let decibels =
            |signal: f64, noise: f64| 10.0 * ((signal + f64::EPSILON) / (noise + f64::EPSILON)).log10();
        let found = Self {
            snr: decibels(energy, error),
            si_sdr: decibels(scale * scale * energy, rest),
        };
        if found.snr.is_finite() && found.si_sdr.is_finite() {
            Ok(found)
        } else {
            Err(wrong(format!(
                "holds NaN or infinity for sample {sample}, or its target does"
            )))
        }
    }
}

/// One model's ratios by sample.
struct Side(Vec<Ratios>);

const NAMES: [&str; 2] = ["snr", "si-sdr"];

impl Side {
    fn means(&self, weight: impl Fn(usize) -> u32) -> [Option<f64>; 2] {
        let count: u64 = (0..self.0.len()).map(|at| u64::from(weight(at))).sum();
        [|one: &Ratios| one.snr, |one: &Ratios| one.si_sdr].map(|of| {
            let sum: f64 = self
                .0
                .iter()
                .enumerate()
                .map(|(at, ratios)| f64::from(weight(at)) * of(ratios))
                .sum();
            (count > 0).then(|| sum / count as f64)
        })
    }
}

impl Measured for Side {
    fn figures(&self) -> Named {
        named(&NAMES, self.means(|_| 1))
    }

    fn resampled_names(&self) -> &'static [&'static str] {
        &NAMES
    }

    fn resampled(&self, weights: &[u32]) -> Vec<Option<f64>> {
        self.means(|at| weights.get(at).copied().unwrap_or(0)).to_vec()
    }

    fn less_is_better(&self, _name: &str) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::{self, parts_merge};
    use super::*;

    fn answer(values: &[f64]) -> Answer {
        trial::answer(&[values.len()], values, false)
    }

    fn sample(index: u64) -> Sample<'static> {
        trial::sample(index)
    }

    #[test]
    fn ratios_equal_the_published_example() {
        // torchmetrics documents 16.1805 dB and 18.4030 dB for this signal.
        let mut state = Signals::default();
        let (target, model) = ([3.0, -0.5, 2.0, 7.0], answer(&[2.5, 0.0, 2.0, 8.0]));
        state
            .count(&sample(0), Some(&target), &model, None, None)
            .unwrap();
        let figures = state.figures(false, 0.95);
        assert!((figures.figures["snr"].unwrap() - 16.18048096712093).abs() < 1e-12);
        assert!((figures.figures["si-sdr"].unwrap() - 18.40299157132488).abs() < 1e-12);
    }

    #[test]
    fn exact_and_silent_signals_have_a_figure() {
        let mut state = Signals::default();
        let silence = answer(&[0.0, 0.0]);
        state
            .count(&sample(0), None, &silence, Some(&silence), None)
            .unwrap();
        state
            .count(
                &sample(1),
                None,
                &answer(&[1.0, 2.0]),
                Some(&answer(&[1.0, 2.0])),
                None,
            )
            .unwrap();
        assert_eq!(state.samples[&0].model.snr, 0.0);
        assert!(state.samples[&1].model.snr > 150.0);
        assert_eq!(state.figures(true, 0.95).reference, None);
    }

    #[test]
    fn what_has_no_figure_is_an_error() {
        let mut state = Signals::default();
        let model = answer(&[1.0, f64::NAN]);
        assert!(
            state
                .count(&sample(0), Some(&[1.0, 1.0]), &model, None, None)
                .is_err()
        );
        assert!(state.count(&sample(0), Some(&[1.0]), &model, None, None).is_err());
        assert!(state.count(&sample(0), None, &model, None, None).is_err());
    }

    #[test]
    fn parts_merge_to_the_byte() {
        let part = |indices: std::ops::Range<u64>| {
            let mut state = Signals::default();
            for index in indices {
                let target = [1.0, index as f64 / 3.0];
                let model = answer(&[0.9, index as f64 / 3.1]);
                state
                    .count(
                        &sample(index),
                        Some(&target),
                        &model,
                        Some(&answer(&[1.1, 0.2])),
                        None,
                    )
                    .unwrap();
            }
            state
        };
        parts_merge(part, Signals::merge, |state| state.figures(false, 0.95));
    }
}
