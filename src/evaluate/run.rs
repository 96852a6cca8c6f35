//! Running a model over a data set and counting.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use super::EvaluateError;
use super::classification::{Classification, argmax};
use super::outputs::{self, Predictions};
use super::regression::Regression;
use super::state::State;
use super::statistics::Paired;
use super::task::Checkpoint;
use crate::data::{Batch, DataError, Dataset};
use crate::engine::RunValues;
use crate::engine::stream::{Stream, in_order};
use crate::ir::Tensor;

/// A compiled model and the names of its outputs, in order.
pub struct Subject<'a> {
    /// The compiled model.
    pub stream: &'a Stream<'a>,
    /// Graph outputs in order.
    pub outputs: Vec<String>,
}

impl Subject<'_> {
    /// What predictions are read from, with the samples that count as the first axis.
    fn output<'v>(
        &self,
        values: &'v RunValues,
        wanted: Option<&str>,
        batch: &Batch,
    ) -> Result<(&'v str, Cow<'v, Tensor>), EvaluateError> {
        let (name, output) = outputs::output(values, &self.outputs, wanted)?;
        let rows = self.stream.samples_first(name, output, batch);
        let rows = rows.ok_or_else(|| EvaluateError::Output {
            output: name.to_owned(),
            problem: format!(
                "has shape {:?} for {} samples: none of its axes is known to be the batch; run one sample at a time (batch: 1)",
                output.dims(),
                batch.ran
            ),
        })?;
        Ok((name, rows))
    }
}

/// How to evaluate.
pub struct Options<'a> {
    /// Output that predictions are read from; the first by default.
    pub output: Option<String>,
    /// A single score above this is class 1.
    pub threshold: f64,
    /// Threads.
    pub jobs: usize,
    /// Called with the state after some batches, to be written to a file; not more often than every two seconds.
    pub checkpoint: Option<Checkpoint<'a>>,
    /// Called with the samples done.
    pub progress: &'a dyn Fn(u64),
    /// Whether labels are needed; without them only agreement with a reference is counted.
    pub needs_labels: bool,
}

const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

/// Runs every batch of the data set's shard that `state` does not cover yet, in order, and adds it to `state`.
/// The counts do not depend on the number of threads.
pub fn evaluate(
    model: &Subject<'_>,
    reference: Option<&Subject<'_>>,
    data: &Dataset,
    state: &mut State,
    mut options: Options<'_>,
) -> Result<(), EvaluateError> {
    if options.needs_labels && !data.has_labels() {
        let reason = "no labels; name them with labels: (an array, a file) or give a folder of class folders"
            .to_owned();
        return Err(DataError::Labels {
            file: data.origin().to_owned(),
            reason,
        }
        .into());
    }
    let todo: Vec<u64> = data
        .batches()
        .filter(|index| !state.covers(index * data.batch_size()))
        .collect();
    let mut last = Instant::now();
    let work = |index: u64| -> Result<Ran, EvaluateError> {
        let batch = data.batch(index)?;
        let model = model.stream.run(&batch)?;
        let reference = reference
            .map(|reference| reference.stream.run(&batch))
            .transpose()?;
        Ok(Ran {
            batch,
            model,
            reference,
        })
    };
    in_order(todo.into_iter(), options.jobs, work, |ran| {
        count(&ran, model, reference, state, &options)?;
        let end = ran.batch.first + ran.batch.count as u64;
        state.add_range(ran.batch.first, end)?;
        (options.progress)(state.samples());
        if last.elapsed() >= CHECKPOINT_EVERY
            && let Some(checkpoint) = options.checkpoint.as_mut()
        {
            checkpoint(state)?;
            last = Instant::now();
        }
        Ok(())
    })?;
    if let Some(checkpoint) = options.checkpoint.as_mut() {
        checkpoint(state)?;
    }
    Ok(())
}

struct Ran {
    batch: Batch,
    model: RunValues,
    reference: Option<RunValues>,
}

fn count(
    ran: &Ran,
    model: &Subject<'_>,
    reference: Option<&Subject<'_>>,
    state: &mut State,
    options: &Options<'_>,
) -> Result<(), EvaluateError> {
    let wanted = options.output.as_deref();
    let (name, output) = model.output(&ran.model, wanted, &ran.batch)?;
    if let Some(targets) = ran
        .batch
        .labels
        .as_ref()
        .filter(|labels| labels.dtype().is_float())
    {
        return count_values(name, &output, targets, state);
    }
    let shape: Vec<u64> = match &ran.batch.labels {
        Some(labels) => labels.dims().to_vec(),
        None => vec![ran.batch.count as u64],
    };
    let truths = ran
        .batch
        .labels
        .as_ref()
        .map(Tensor::to_i64)
        .transpose()
        .map_err(|e| EvaluateError::Output {
            output: "labels".to_owned(),
            problem: e.to_string(),
        })?;
    let predictions = outputs::classes(name, &output, &shape, options.threshold)?;
    check_classes(&predictions, truths.as_deref())?;
    let predicted = match &truths {
        Some(truths) => {
            let table = state
                .classification
                .get_or_insert_with(|| Classification::new(class_count(&predictions)));
            tally(table, truths, &predictions)
        }
        None => best(&predictions),
    };
    if let (Some(reference), Some(values)) = (reference, &ran.reference) {
        let (name, output) = reference.output(values, wanted, &ran.batch)?;
        let others = outputs::classes(name, &output, &shape, options.threshold)?;
        let other = match &truths {
            Some(truths) => {
                let table = state
                    .reference
                    .get_or_insert_with(|| Classification::new(class_count(&others)));
                tally(table, truths, &others)
            }
            None => best(&others),
        };
        let paired = state.paired.get_or_insert_with(Paired::default);
        for (at, (model, reference)) in predicted.iter().zip(&other).enumerate() {
            paired.count(
                truths.as_ref().and_then(|truths| truths.get(at).copied()),
                *model,
                *reference,
            );
        }
    }
    Ok(())
}

fn count_values(
    name: &str,
    output: &Tensor,
    targets: &Tensor,
    state: &mut State,
) -> Result<(), EvaluateError> {
    let rows = targets.dims().first().copied().unwrap_or(1);
    let columns: u64 = targets.dims().iter().skip(1).product();
    let wrong = |e: crate::ir::TensorError| EvaluateError::Output {
        output: name.to_owned(),
        problem: e.to_string(),
    };
    let all = targets.to_f64().map_err(wrong)?;
    if let Predictions::Values(values) = outputs::values(name, output, rows, columns)? {
        let sums = state.regression.get_or_insert_with(Regression::default);
        for (targets, outputs) in all.chunks(columns.max(1) as usize).zip(&values) {
            sums.count(targets, outputs);
        }
    }
    Ok(())
}

fn class_count(predictions: &Predictions) -> Option<u64> {
    match predictions {
        Predictions::Scores(rows) => rows.first().map(|row| row.len() as u64),
        _ => None,
    }
}

fn check_classes(predictions: &Predictions, truths: Option<&[i64]>) -> Result<(), EvaluateError> {
    let (Some(classes), Some(truths)) = (class_count(predictions), truths) else {
        return Ok(());
    };
    match truths
        .iter()
        .find(|truth| **truth < 0 || **truth as u64 >= classes)
    {
        Some(label) => Err(EvaluateError::Label {
            label: *label,
            classes,
        }),
        None => Ok(()),
    }
}

fn tally(table: &mut Classification, truths: &[i64], predictions: &Predictions) -> Vec<i64> {
    match predictions {
        Predictions::Scores(rows) => truths
            .iter()
            .zip(rows)
            .map(|(truth, scores)| table.count_scores(*truth, scores))
            .collect(),
        Predictions::Classes(classes) => {
            truths
                .iter()
                .zip(classes)
                .for_each(|(truth, class)| table.count(*truth, *class));
            classes.clone()
        }
        Predictions::Values(_) => Vec::new(),
    }
}

fn best(predictions: &Predictions) -> Vec<i64> {
    match predictions {
        Predictions::Scores(rows) => rows.iter().map(|scores| argmax(scores)).collect(),
        Predictions::Classes(classes) => classes.clone(),
        Predictions::Values(_) => Vec::new(),
    }
}
