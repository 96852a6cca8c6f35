//! What comparisons of samples add up to: figures by output, what was left out, and whether what is left is evidence.

use std::collections::BTreeMap;

use super::kind::SampleKind;
use crate::engine::compare::{Comparison, OutputFigures, Verdict};
use crate::engine::stream::Batch;
use crate::engine::{RunValue, RunValues};
use crate::ir::Tensor;

/// Samples that are kept to find out later what rounding explains.
const KEPT: usize = 32;

/// Samples of one magnitude. Elements of one pool share their scale: beside large numbers, errors in small ones do not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pool {
    /// As inputs usually are, and given data.
    Usual,
    /// With large numbers.
    Wide,
}

/// A sample to run both models on.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub(super) inputs: RunValues,
    pub(super) pool: Pool,
    /// The batch that the inputs are of, where data are given.
    pub(super) batch: Option<Batch>,
    /// What a synthetic sample is like.
    kind: Option<SampleKind>,
}

impl Trial {
    pub(super) fn given(batch: Batch) -> Self {
        Self {
            inputs: batch.inputs.clone(),
            batch: Some(batch),
            pool: Pool::Usual,
            kind: None,
        }
    }

    pub(super) fn of(kind: SampleKind, inputs: RunValues) -> Self {
        Self {
            inputs,
            pool: if kind.is_wide() { Pool::Wide } else { Pool::Usual },
            batch: None,
            kind: Some(kind),
        }
    }

    /// Whether there are large numbers among its own.
    pub(super) fn is_wide(&self) -> bool {
        self.pool == Pool::Wide
    }

    /// Its inputs with zeros where they are not finite: what is not finite behind those comes from the way. `None` where all are.
    pub(super) fn made_finite(&self) -> Option<RunValues> {
        let made = |value: &RunValue| {
            let RunValue::Tensor(tensor) = value else {
                return None;
            };
            let mut numbers = tensor.to_f64().ok().filter(|_| tensor.dtype().is_float())?;
            numbers.iter().any(|v| !v.is_finite()).then_some(())?;
            let infinite = numbers.iter_mut().filter(|v| !v.is_finite());
            infinite.for_each(|v| *v = 0.0);
            let made = Tensor::from_f64(tensor.dtype(), tensor.dims(), &numbers).ok()?;
            Some(RunValue::Tensor(made))
        };
        let changed: Vec<(String, RunValue)> = self
            .inputs
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), made(value)?)))
            .collect();
        (!changed.is_empty()).then(|| {
            let mut inputs = self.inputs.clone();
            inputs.extend(changed);
            inputs
        })
    }

    /// What reports call its numbers.
    pub(super) fn kind_name(&self) -> &'static str {
        self.kind.map_or("given data", SampleKind::name)
    }

    /// Whether all floats are zero, so that much that is wrong does not show.
    fn is_blank(&self) -> bool {
        self.kind == Some(SampleKind::Zeros)
    }
}

/// One output over all samples.
#[derive(Default)]
struct Output {
    pools: BTreeMap<Pool, Comparison>,
    compared: u64,
    /// Samples among them that say something.
    telling: u64,
    left_out: u64,
    /// Samples of each kind that were compared, and that were left out.
    kinds: BTreeMap<&'static str, (u64, u64)>,
}

/// A sample on which an output may be off by the scale of one of its slices.
struct Kept {
    trial: Trial,
    strain: f64,
}

/// The sum over samples.
#[derive(Default)]
pub(super) struct Tally {
    outputs: BTreeMap<String, Output>,
    kept: Vec<Kept>,
    pub(super) samples: u64,
    pub(super) sensitive: u64,
    worst: Option<(f64, RunValues)>,
}

impl Tally {
    /// Adds the comparisons of one sample; `left_out` are outputs on which it says nothing.
    pub(super) fn add(&mut self, trial: &Trial, compared: Vec<(String, Comparison)>, left_out: Vec<String>) {
        self.samples += u64::from(!compared.is_empty());
        self.sensitive += left_out.len() as u64;
        let kind = trial.kind_name();
        for name in left_out {
            let output = self.outputs.entry(name).or_default();
            output.left_out += 1;
            output.kinds.entry(kind).or_default().1 += 1;
        }
        let mut strain = 0.0f64;
        for (name, comparison) in compared {
            if comparison.whole() == Verdict::Different {
                let error = if comparison.reason().is_some() {
                    f64::INFINITY
                } else {
                    comparison.max_abs()
                };
                if self.worst.as_ref().is_none_or(|(worst, _)| error > *worst) {
                    self.worst = Some((error, trial.inputs.clone()));
                }
            } else {
                strain = strain.max(comparison.strain());
            }
            let output = self.outputs.entry(name).or_default();
            output.compared += 1;
            output.kinds.entry(kind).or_default().0 += 1;
            output.telling += u64::from(!trial.is_blank());
            output.pools.entry(trial.pool).or_default().add(&comparison);
        }
        if strain > 1.0 {
            self.keep(trial, strain);
        }
    }

    fn keep(&mut self, trial: &Trial, strain: f64) {
        self.kept.push(Kept {
            trial: trial.clone(),
            strain,
        });
        if self.kept.len() > KEPT {
            let least = (0..self.kept.len()).min_by(|a, b| {
                let strain = |at: &usize| self.kept.get(*at).map_or(0.0, |kept| kept.strain);
                strain(a).total_cmp(&strain(b))
            });
            least.map(|at| self.kept.swap_remove(at));
        }
    }

    /// Outputs that are different by the scale of single slices alone.
    pub(super) fn in_question(&self) -> Vec<(String, Pool)> {
        let open = |comparison: &Comparison| {
            comparison.whole() != Verdict::Different && comparison.verdict() == Verdict::Different
        };
        let named = self.outputs.iter().flat_map(|(name, output)| {
            let pools = output.pools.iter();
            pools
                .filter(|(_, comparison)| open(comparison))
                .map(|(pool, _)| (name.clone(), *pool))
        });
        named.collect()
    }

    /// The kept samples, those with the largest errors first.
    pub(super) fn kept(&self) -> Vec<Trial> {
        let mut kept: Vec<&Kept> = self.kept.iter().collect();
        kept.sort_by(|a, b| b.strain.total_cmp(&a.strain));
        kept.into_iter().map(|kept| kept.trial.clone()).collect()
    }

    /// The comparison of an output over one pool.
    pub(super) fn comparison_mut(&mut self, name: &str, pool: Pool) -> Option<&mut Comparison> {
        self.outputs.get_mut(name)?.pools.get_mut(&pool)
    }

    /// The inputs of the sample that differs most.
    pub(super) fn worst(&mut self) -> Option<RunValues> {
        if self.worst.is_none()
            && let Some((_, pool)) = self.in_question().first()
        {
            let kept = self.kept.iter().filter(|kept| kept.trial.pool == *pool);
            let most = kept.max_by(|a, b| a.strain.total_cmp(&b.strain));
            self.worst = most.map(|kept| (kept.strain, kept.trial.inputs.clone()));
        }
        self.worst.take().map(|(_, sample)| sample)
    }

    /// Takes this sample for the worst.
    pub(super) fn set_worst(&mut self, sample: RunValues) {
        self.worst = Some((f64::INFINITY, sample));
    }

    /// The figures of an output; `None` where it was not compared.
    pub(super) fn figures(&self, name: &str) -> Option<OutputFigures> {
        let pools = &self.outputs.get(name)?.pools;
        let mut sum = Comparison::default();
        pools.values().for_each(|comparison| sum.add(comparison));
        let mut figures = (!pools.is_empty()).then(|| sum.figures(name))?;
        // Pools have scales of their own.
        // Of equal verdicts the first pool's: usual numbers show a part best.
        let worst = pools
            .values()
            .rev()
            .max_by_key(|comparison| comparison.verdict())?;
        figures.verdict = worst.verdict();
        figures.parts = worst.figures(name).parts;
        Some(figures)
    }

    /// Why what was compared of an output is no evidence, if it is none.
    pub(super) fn doubt(&self, name: &str) -> Option<String> {
        let output = self.outputs.get(name)?;
        if output.left_out == 0 {
            return None;
        }
        let all = output.left_out + output.compared;
        if output.telling == 0 || output.left_out > output.telling {
            return Some(format!(
                "rounding alone moves it by more than the tolerance, or the reference overflows, in {} of {all} samples{}",
                output.left_out,
                if output.telling == 0 && output.compared > 0 {
                    ", and the others are zeros"
                } else {
                    ""
                }
            ));
        }
        let unseen = |(kind, (compared, _)): (&&'static str, &(u64, u64))| (*compared == 0).then_some(*kind);
        let kinds: Vec<&str> = output.kinds.iter().filter_map(unseen).collect();
        (!kinds.is_empty()).then(|| {
            format!(
                "it differs on samples of {} where rounding alone moves it by more than the tolerance, or the reference overflows: \
                 there it is not compared",
                kinds.join(" and ")
            )
        })
    }
}
