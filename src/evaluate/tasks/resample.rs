//! Intervals by resampling: how much a figure, and the difference of two models' figures, depends on which samples were drawn.
//!
//! The bootstrap (Efron 1979): samples are drawn with replacement, as many as there are, and the figure is computed again; the
//! interval is between the percentiles of the replicates. Both models are measured on the same draws, so that a difference is paired.

use indexmap::IndexMap;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use super::super::statistics::Interval;
use super::{Named, TaskFigures};
use crate::data::TaskKind;

/// Draws an interval comes from.
const REPLICATES: u64 = 1_000;

/// Seed of the draws.
const SEED: u64 = 0x5eca_7e0a;

/// The figures of one model over samples that are kept one by one.
pub(in crate::evaluate) trait Measured: Sync {
    /// All figures, each sample counted once.
    fn figures(&self) -> Named;

    /// Names of the figures that have an interval.
    fn resampled_names(&self) -> &'static [&'static str];

    /// Those figures where the sample at place `i` counts `weights[i]` times.
    fn resampled(&self, weights: &[u32]) -> Vec<Option<f64>>;

    /// Whether less of a figure is better.
    fn less_is_better(&self, name: &str) -> bool;
}

/// The replicates of the figures that have an interval, and of the losses against the reference.
pub(in crate::evaluate) struct Replicates {
    names: &'static [&'static str],
    /// `[figure][replicate]`, ascending; replicates without a value are left out.
    figures: Vec<Vec<f64>>,
    drops: Vec<Vec<f64>>,
}

/// The figures of one draw.
type Drawn = Vec<Option<f64>>;

impl Replicates {
    fn draw<M: Measured>(model: &M, reference: Option<&M>, samples: usize) -> Self {
        let names = model.resampled_names();
        let rows: Vec<(Drawn, Drawn)> = (0..REPLICATES)
            .into_par_iter()
            .map(|replicate| {
                let weights = draw(SEED ^ replicate, samples);
                let own = model.resampled(&weights);
                let other = reference
                    .map(|other| other.resampled(&weights))
                    .unwrap_or_default();
                (own, other)
            })
            .collect();
        let sorted = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values
        };
        let figures = (0..names.len())
            .map(|at| {
                sorted(
                    rows.iter()
                        .filter_map(|(own, _)| own.get(at).copied().flatten())
                        .collect(),
                )
            })
            .collect();
        let drops = names
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let loss = |(own, other): &(Drawn, Drawn)| {
                    let own = own.get(at).copied().flatten()?;
                    let other = other.get(at).copied().flatten()?;
                    Some(lost(model.less_is_better(name), own, other))
                };
                sorted(rows.iter().filter_map(loss).collect())
            })
            .collect();
        Self {
            names,
            figures,
            drops,
        }
    }

    fn intervals(&self, of: &[Vec<f64>], confidence: f64) -> IndexMap<String, Interval> {
        self.names
            .iter()
            .zip(of)
            .filter_map(|(name, values)| Some(((*name).to_owned(), percentiles(values, confidence)?)))
            .collect()
    }
}

/// What a figure lost: positive is worse.
fn lost(less_is_better: bool, model: f64, reference: f64) -> f64 {
    if less_is_better {
        model - reference
    } else {
        reference - model
    }
}

/// How often each of `samples` was drawn.
fn draw(seed: u64, samples: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = vec![0u32; samples];
    for _ in 0..samples {
        // The high half of a product is even to within 2^-64 times the number of samples.
        let at = ((u128::from(rng.next_u64()) * samples as u128) >> 64) as usize;
        if let Some(weight) = weights.get_mut(at) {
            *weight += 1;
        }
    }
    weights
}

/// The values between which the middle `confidence` of ascending values lies, interpolated as numpy does.
fn percentiles(ascending: &[f64], confidence: f64) -> Option<Interval> {
    let at = |share: f64| {
        let place = share * (ascending.len() - 1) as f64;
        let low = place.floor() as usize;
        let (a, b) = (
            ascending.get(low)?,
            ascending.get(low + 1).or(ascending.get(low))?,
        );
        Some(a + (b - a) * (place - low as f64))
    };
    if ascending.is_empty() {
        return None;
    }
    Some(Interval {
        low: at(0.5 - confidence / 2.0)?,
        high: at(0.5 + confidence / 2.0)?,
    })
}

/// What every entry has, where every one of at least one has it.
pub(in crate::evaluate) fn of_all<T>(entries: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let all: Option<Vec<T>> = entries.collect();
    all.filter(|all| !all.is_empty())
}

/// Figures under their names.
pub(in crate::evaluate) fn named<const N: usize>(names: &[&str; N], values: [Option<f64>; N]) -> Named {
    names.iter().map(|name| (*name).to_owned()).zip(values).collect()
}

/// Both models' figures with their intervals at `confidence`, or without any at 0; `by_class` and `words` are the task's to fill in. `from_reference`: what the
/// reference answers is true.
pub(in crate::evaluate) fn compared<M: Measured>(
    task: TaskKind,
    model: &M,
    reference: Option<&M>,
    samples: usize,
    from_reference: bool,
    confidence: f64,
) -> TaskFigures {
    let figures = model.figures();
    let other = reference.map(Measured::figures);
    let drops = match &other {
        Some(other) => figures
            .iter()
            .filter_map(|(name, own)| {
                let reference = other.get(name)?;
                let loss = own
                    .zip(*reference)
                    .map(|(own, reference)| lost(model.less_is_better(name), own, reference));
                Some((name.clone(), loss))
            })
            .collect(),
        None => Named::new(),
    };
    // One sample says nothing of how others would do, and where no confidence is asked for nothing is drawn.
    let replicates = (samples > 1 && confidence > 0.0).then(|| Replicates::draw(model, reference, samples));
    let of = |of: fn(&Replicates) -> &Vec<Vec<f64>>| {
        replicates
            .as_ref()
            .map(|found| found.intervals(of(found), confidence))
            .unwrap_or_default()
    };
    TaskFigures {
        task,
        labels_from_reference: from_reference,
        figures,
        intervals: of(|found| &found.figures),
        reference: other,
        drops,
        drop_intervals: of(|found| &found.drops),
        by_class: Vec::new(),
        words: Vec::new(),
    }
}
