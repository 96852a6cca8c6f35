//! The samples on which nodes are judged: the given data, or synthetic inputs as real ones are.

use std::sync::Arc;

use crate::analysis::infer;
use crate::data::{DataError, Dataset};
use crate::engine::RunValues;
use crate::ir::Model;
use crate::verify::kind::SampleKind;
use crate::verify::report::{VerifyOptions, VerifyReport};
use crate::verify::session::{self, Shapes};
use crate::verify::sizes::Sizes;
use crate::verify::synthesize::{SynthesisError, Synthesizer};

/// Kinds of synthetic samples: scales are chosen for usual inputs, so zeros and huge numbers say nothing about them.
const KINDS: [SampleKind; 2] = [SampleKind::Normal, SampleKind::Uniform];

/// Why a sample is not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SampleError {
    #[error(transparent)]
    Given(#[from] DataError),
    #[error("there is no batch {0}")]
    NoBatch(u64),
    #[error(transparent)]
    Synthetic(#[from] SynthesisError),
}

/// Where samples come from.
pub(super) enum Samples {
    /// Batches of a data set.
    Given {
        /// The set.
        data: Arc<Dataset>,
        /// Which of its batches.
        batches: Vec<u64>,
    },
    /// Made from the model.
    Synthetic {
        synthesizer: Synthesizer,
        sizes: Sizes,
        seed: u64,
        count: u64,
    },
}

impl Samples {
    pub(super) fn new(reference: &Model, whole: &VerifyReport, options: &VerifyOptions) -> Self {
        if let Some((_, data)) = &options.data {
            let batches = options.bounds.order(data.batches().collect());
            return Self::Given {
                data: data.clone(),
                batches,
            };
        }
        let count = options.rounds.max(1) * KINDS.len() as u64;
        let mut inferred = reference.clone();
        infer(&mut inferred);
        Self::Synthetic {
            synthesizer: Synthesizer::new(&inferred),
            sizes: whole
                .sizes
                .first()
                .cloned()
                .unwrap_or_else(|| options.sizes.clone()),
            seed: options.seed,
            count: options
                .bounds
                .batches
                .map_or(count, |most| count.min(most.max(1))),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Given { batches, .. } => batches.len() as u64,
            Self::Synthetic { count, .. } => *count,
        }
    }

    /// As many samples from `first` on as there are threads, with the shapes that a session is compiled for; empty behind the last.
    pub(super) fn next(&self, first: u64) -> Result<Vec<(Shapes, RunValues)>, SampleError> {
        let step = rayon::current_num_threads().max(1) as u64;
        (first..(first + step).min(self.count()))
            .map(|index| {
                let sample = self.get(index)?;
                Ok((session::shapes_of(&sample), sample))
            })
            .collect()
    }

    /// Sample number `index`, made anew at each call: none stays in memory.
    fn get(&self, index: u64) -> Result<RunValues, SampleError> {
        match self {
            Self::Given { data, batches } => {
                let batch = batches.get(index as usize).ok_or(SampleError::NoBatch(index))?;
                Ok(data.batch(*batch)?.inputs)
            }
            Self::Synthetic {
                synthesizer,
                sizes,
                seed,
                ..
            } => {
                let kind = KINDS
                    .get((index % KINDS.len() as u64) as usize)
                    .copied()
                    .unwrap_or(SampleKind::Normal);
                Ok(synthesizer.sample(sizes, kind, *seed, index)?)
            }
        }
    }
}
