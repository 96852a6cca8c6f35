//! How much of what the model is for a candidate loses, measured on few samples: the order in which layers are put back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::gates::Gate;
use super::figures::Samples;
use crate::engine::RunValue;
use crate::engine::stream::Sampled;
use crate::evaluate::{State, StateSubject};
use crate::ir::Model;
use crate::parts::Work;
use crate::passes::ResourceError;

/// What a candidate loses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Loss {
    /// Power of the error of the outputs over the power of what varies in them, summed over the outputs.
    pub(super) noise: f64,
    /// What the figure loses where the answers of the reference are the truth.
    pub(super) figure: Option<f64>,
}

/// Weight of the noise beside a figure: it orders what the figure does not tell apart.
const NOISE: f64 = 1e-3;

impl Loss {
    /// One number to rank by.
    pub(super) fn total(&self) -> f64 {
        match self.figure {
            Some(figure) => figure.max(0.0) + NOISE * self.noise.min(1.0),
            None => self.noise,
        }
    }
}

/// Samples that layers are ranked on.
pub(super) struct Ranking<'m> {
    samples: Samples<'m>,
    batches: u64,
    /// The figure of the task that counts.
    figure: Option<&'static str>,
}

impl<'m> Ranking<'m> {
    /// Ranks on so many of the samples, by the first of the gates that is on a figure of the samples' task.
    pub(super) fn new(samples: Samples<'m>, most: u64, gates: &[Gate]) -> Self {
        let has_task = samples.data.task().is_some();
        let figure = gates
            .iter()
            .find(|gate| has_task && gate.needs_evaluation() && !gate.needs_labels() && !gate.is_budget());
        Self {
            batches: most.div_ceil(samples.data.batch_size()).max(1),
            samples,
            figure: figure.map(Gate::name),
        }
    }

    /// Samples that are run for each layer.
    pub(super) fn count(&self) -> u64 {
        (self.batches * self.samples.data.batch_size()).min(self.samples.count())
    }

    /// Work with what ranking depends on.
    pub(super) fn described(&self, mut work: Work) -> Work {
        work.depends("batches", self.batches.to_string());
        work.depends("figure", self.figure.unwrap_or_default().to_owned());
        self.samples.data.described(work)
    }

    /// What ranking goes by, in words.
    pub(super) fn words(&self) -> String {
        match self.figure {
            Some(figure) => format!("the loss of {figure} with the answers of the input as truth"),
            None => "the error of the outputs".to_owned(),
        }
    }

    /// Runs a candidate on the samples.
    pub(super) fn loss(&self, model: &Model) -> Result<Loss, ResourceError> {
        let stream = self.samples.compile(model)?;
        let counter = self.samples.counter(model);
        let mut state = State::new(StateSubject::default());
        let mut powers: BTreeMap<String, Powers> = BTreeMap::new();
        self.samples.run(&stream, self.batches, |ran| {
            if self.figure.is_some() {
                counter.count(&ran.batch, &ran.found, Some(&ran.expected), &mut state)?;
            }
            let placements = stream.places().of_batch(&ran.batch);
            for (name, expected) in ran.expected.iter() {
                let (RunValue::Tensor(expected), Some(RunValue::Tensor(found))) =
                    (expected, ran.found.get(name))
                else {
                    continue;
                };
                if !expected.dtype().is_float() || expected.dims() != found.dims() {
                    continue;
                }
                let (Ok(a), Ok(b)) = (expected.to_f64(), found.to_f64()) else {
                    continue;
                };
                let placement = placements.get(name.as_str()).copied();
                let own = powers.entry(name.clone()).or_default();
                let (a, b) = (
                    Sampled::new(&a, expected.dims(), &ran.batch, placement),
                    Sampled::new(&b, found.dims(), &ran.batch, placement),
                );
                for ((_, a), (_, b)) in a.stretches().zip(b.stretches()) {
                    own.add(a, b);
                }
            }
            Ok(())
        })?;
        let figure = self.figure.and_then(|name| {
            let figures = state.task.as_ref()?.figures(0.0);
            figures.drops.get(name).copied().flatten()
        });
        Ok(Loss {
            noise: powers.values().map(Powers::noise).sum(),
            figure,
        })
    }
}

/// Sums over the elements of one output.
#[derive(Clone, Copy, Debug, Default)]
struct Powers {
    count: f64,
    sum: f64,
    squares: f64,
    errors: f64,
}

impl Powers {
    fn add(&mut self, expected: &[f64], found: &[f64]) {
        for (a, b) in expected.iter().zip(found) {
            self.count += 1.0;
            self.sum += a;
            self.squares += a * a;
            // What is no number is as wrong as an answer of zero.
            self.errors += if b.is_finite() { (a - b) * (a - b) } else { a * a };
        }
    }

    fn noise(&self) -> f64 {
        let varying = self.squares - self.sum * self.sum / self.count.max(1.0);
        let signal = if varying > 1e-12 * self.squares {
            varying
        } else {
            self.squares
        };
        self.errors / signal.max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_a_share_of_what_varies() {
        let mut powers = Powers::default();
        powers.add(&[100.0, 102.0], &[100.1, 101.9]);
        assert!((powers.noise() - 0.01).abs() < 1e-9, "{}", powers.noise());
        let mut constant = Powers::default();
        constant.add(&[2.0, 2.0], &[2.0, f64::NAN]);
        assert!((constant.noise() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn noise_orders_what_a_figure_does_not_tell_apart() {
        let loss = |figure, noise| {
            Loss {
                noise,
                figure: Some(figure),
            }
            .total()
        };
        assert!(loss(0.1, 0.0) > loss(0.01, 0.9));
        assert!(loss(0.0, 0.2) > loss(0.0, 0.1));
    }
}
