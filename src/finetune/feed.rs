//! Samples as the gradient model takes them.

use super::error::FinetuneError;
use super::teacher::Teaching;
use crate::data::{Dataset, targets};
use crate::engine::stream::in_order;
use crate::engine::{FloatOutputs, HeldSession, RunValue, Session, hold};
use crate::ir::{DType, Shape, Tensor};

/// The runs that a step consists of.
pub(super) fn parts(rows: &[u64], fixed: Option<u64>, halves: bool) -> Vec<&[u64]> {
    match fixed {
        Some(size) => rows.chunks_exact(size as usize).collect(),
        None if halves && rows.len() >= 2 => rows.chunks(rows.len().div_ceil(2)).collect(),
        None => vec![rows],
    }
}

/// Samples as the gradient model takes them.
pub(super) struct Feed<'a> {
    pub(super) data: &'a Dataset,
    /// The input of the targets, with its type and shape.
    pub(super) target: &'static str,
    pub(super) dtype: DType,
    pub(super) shape: Option<Shape>,
    pub(super) teaching: Option<Teaching>,
    pub(super) jobs: usize,
}

impl Feed<'_> {
    /// Runs a model on some samples at a time, varied as they are in `epoch`, or as they are.
    pub(super) fn run(
        &self,
        session: &dyn HeldSession,
        parts: &[&[u64]],
        epoch: Option<usize>,
    ) -> Result<Vec<Box<dyn FloatOutputs>>, FinetuneError> {
        let one = |rows: &[u64]| -> Result<Box<dyn FloatOutputs>, FinetuneError> {
            let batch = match epoch {
                Some(epoch) => self.data.select_varied(rows, epoch as u64)?,
                None => self.data.select(rows)?,
            };
            let labels = match &self.teaching {
                Some(teaching) => teaching.targets(&batch.inputs)?,
                None => targets(self.data, &batch, self.dtype, self.shape.as_ref())?,
            };
            let mut inputs = batch.inputs;
            inputs.insert(self.target.to_owned(), RunValue::Tensor(labels));
            Ok(session.run(&inputs)?)
        };
        let mut results = Vec::with_capacity(parts.len());
        let jobs = self.jobs.min(parts.len());
        in_order(parts.iter().copied(), jobs, one, |outputs| {
            results.push(outputs);
            Ok(())
        })?;
        Ok(results)
    }

    /// The mean loss over samples with these parameters.
    pub(super) fn loss(
        &self,
        session: &dyn Session,
        parameters: &[(String, Tensor)],
        rows: &[u64],
        batch: u64,
    ) -> Result<f64, FinetuneError> {
        let session = hold(session, parameters)?;
        let size = self.data.largest_selection().unwrap_or(batch).max(1) as usize;
        let runs: Vec<&[u64]> = match self.data.largest_selection() {
            Some(_) => rows.chunks_exact(size).collect(),
            None => rows.chunks(size).collect(),
        };
        let (mut sum, mut count) = (0.0, 0usize);
        for group in runs.chunks(16) {
            for (part, result) in group.iter().zip(self.run(&*session, group, None)?) {
                let loss = result.get("loss")?.first().copied().unwrap_or(f32::NAN);
                sum += f64::from(loss) * part.len() as f64;
                count += part.len();
            }
        }
        Ok(sum / count.max(1) as f64)
    }
}
