//! Both models of a comparison, ready to run, and who else looks at what they answer.

use rayon::prelude::*;

use super::tally::Trial;
use crate::engine::stream::Batch;
use crate::engine::{EngineError, RunValues, Session};

/// Gets each batch of given data with what the reference and the model answered to it, in the order in which they ran.
pub type Watch<'w> = dyn FnMut(&Batch, &RunValues, &RunValues) + 'w;

/// Both models, compiled for one set of shapes.
pub(super) struct Sessions {
    pub(super) reference: Box<dyn Session>,
    /// Why there is none is worth saying only where the reference runs.
    pub(super) model: Result<Box<dyn Session>, EngineError>,
}

impl Sessions {
    /// Runs both models for a watch alone.
    pub(super) fn show(&self, samples: &[Trial], watch: &mut Watch<'_>) {
        let Ok(model) = &self.model else { return };
        let run = |trial: &Trial| {
            let expected = self.reference.run(&trial.inputs).ok()?;
            Some((expected, model.run(&trial.inputs).ok()?))
        };
        let answers: Vec<Option<(RunValues, RunValues)>> = samples.par_iter().map(run).collect();
        for (trial, answers) in samples.iter().zip(&answers) {
            if let (Some(batch), Some((expected, found))) = (&trial.batch, answers) {
                watch(batch, expected, found);
            }
        }
    }
}
