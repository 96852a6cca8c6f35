//! Sizes beyond the two at which every sample is compared: larger ones, and those at which models break.

use super::judge::{Attempt, Pair};
use super::kind::SampleKind;
use super::session;
use super::sizes::{self, FreeDim, Sizes};
use super::synthesize::Synthesizer;
use super::tally::Trial;
use crate::analysis::cost;
use crate::ir::Model;

/// Multiply-accumulates of a run at which a larger set of sizes is tried: about a tenth of a second.
pub(super) const AFFORDABLE: u64 = 200_000_000;

/// Nodes above which compiling a model for one more set of sizes is much work.
const LARGE: usize = 500;

/// Whether compiling the model takes long.
pub(super) fn is_large(model: &Model) -> bool {
    model.graph.operator_count() > LARGE
}

fn product(shape: &[i64]) -> u64 {
    shape.iter().fold(1, |product: u64, size| {
        product.saturating_mul(size.unsigned_abs())
    })
}

impl Pair<'_> {
    /// Tries one larger set of sizes, unless that is much work.
    pub(super) fn at_larger(
        &mut self,
        synthesizer: &Synthesizer,
        inferred: &Model,
        free: &[FreeDim],
        worked: &Sizes,
        length: Option<i64>,
    ) {
        const KINDS: [SampleKind; 4] = [
            SampleKind::Normal,
            SampleKind::Uniform,
            SampleKind::Negative,
            SampleKind::Ties,
        ];
        let sizes = [
            sizes::larger(free, worked, length),
            sizes::larger_batch(free, worked),
        ];
        for sizes in sizes.into_iter().flatten() {
            if self.work(inferred, &sizes) <= AFFORDABLE && self.at_edge(synthesizer, &KINDS, sizes) {
                return;
            }
        }
    }

    /// The multiply-accumulates of a run of the reference at these sizes.
    pub(super) fn work(&self, inferred: &Model, sizes: &Sizes) -> u64 {
        let size = |symbol: &str| sizes.get(symbol.trim_start_matches('?')).copied();
        let cost = cost(inferred, &size);
        // Each weight meets each element of an input about once.
        cost.macs.unwrap_or_else(|| {
            let shapes = session::shapes_under(self.reference, sizes);
            let elements = shapes.values().map(|shape| product(shape)).sum::<u64>();
            cost.parameters.saturating_mul(elements)
        })
    }

    /// Tries samples at sizes that a model often does not have: a reference that does not run there says nothing. Answers whether
    /// it does.
    pub(super) fn at_edge(&mut self, synthesizer: &Synthesizer, kinds: &[SampleKind], sizes: Sizes) -> bool {
        if self.broken.is_some() {
            return false;
        }
        if self.clock.over() {
            self.cut_short = true;
            return false;
        }
        let sample = |(at, kind): (usize, &SampleKind)| {
            let index = (2 << 32) + at as u64;
            let inputs = synthesizer.sample(&sizes, *kind, self.options.seed, index).ok()?;
            Some(Trial::of(*kind, inputs))
        };
        let Some(samples) = kinds
            .iter()
            .enumerate()
            .map(sample)
            .collect::<Option<Vec<Trial>>>()
        else {
            return false;
        };
        let shapes = session::shapes_under(self.reference, &sizes);
        let done = matches!(self.attempt(&shapes, &samples), Attempt::Done);
        if done {
            self.planned += samples.len() as u64;
            self.further.push(sizes);
        }
        done
    }
}
