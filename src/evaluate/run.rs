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
use crate::engine::stream::{Places, Stream, in_order};
use crate::ir::{Model, Tensor};

/// How to run.
pub(super) struct Options<'a> {
    /// Threads.
    pub(super) jobs: usize,
    /// Called with the state after some batches, to be written to a file; not more often than every two seconds.
    pub(super) checkpoint: Option<Checkpoint<'a>>,
    /// Called with the samples done.
    pub(super) progress: &'a dyn Fn(u64),
}

const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);

/// Refuses data without labels where there is nothing else to count.
pub(super) fn check_labels(data: &Dataset, needed: bool) -> Result<(), EvaluateError> {
    if !needed || data.has_labels() {
        return Ok(());
    }
    let reason =
        "no labels; name them with labels: (an array, a file) or give a folder of class folders".to_owned();
    Err(DataError::Labels {
        file: data.origin().to_owned(),
        reason,
    }
    .into())
}

/// The batches of the data set's shard that `state` does not cover.
pub(super) fn uncovered(data: &Dataset, state: &State) -> Vec<u64> {
    data.batches()
        .filter(|index| !state.covers(index * data.batch_size()))
        .collect()
}

/// Runs the batches of `todo`, in order, and adds them to `state`. The counts do not depend on the number of threads.
pub(super) fn evaluate(
    counter: &Counter<'_>,
    model: &Stream<'_>,
    reference: Option<&Stream<'_>>,
    (data, todo): (&Dataset, Vec<u64>),
    state: &mut State,
    mut options: Options<'_>,
) -> Result<(), EvaluateError> {
    let mut last = Instant::now();
    let work = |index: u64| -> Result<Ran, EvaluateError> {
        let batch = data.batch(index)?;
        let model = model.run(&batch)?;
        let reference = reference.map(|reference| reference.run(&batch)).transpose()?;
        Ok(Ran {
            batch,
            model,
            reference,
        })
    };
    in_order(todo.into_iter(), options.jobs, work, |ran| {
        counter.count(&ran.batch, &ran.model, ran.reference.as_ref(), state)?;
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

/// Counts what a model, and a reference beside it, answer for batches.
pub struct Counter<'m> {
    model: Places<'m>,
    reference: Option<Places<'m>>,
    /// Output that predictions are read from; the first by default.
    output: Option<String>,
    /// A single score above this is class 1.
    threshold: f64,
}

impl<'m> Counter<'m> {
    /// Counts the answers of `model` and `reference`.
    pub fn new(
        model: &'m Model,
        reference: Option<&'m Model>,
        output: Option<String>,
        threshold: f64,
    ) -> Self {
        Self {
            model: Places::of(model),
            reference: reference.map(Places::of),
            output,
            threshold,
        }
    }

    /// What predictions are read from, with the samples that count as the first axis.
    fn output<'v>(
        &self,
        places: &Places<'_>,
        values: &'v RunValues,
        batch: &Batch,
    ) -> Result<(&'v str, Cow<'v, Tensor>), EvaluateError> {
        let (name, output) = outputs::output(values, &places.outputs(), self.output.as_deref())?;
        let rows = places.samples_first(name, output, batch);
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

    /// Adds what both answered for a batch to `state`, which must not cover it yet.
    ///
    /// # Errors
    /// When an answer does not fit the labels.
    pub fn count(
        &self,
        batch: &Batch,
        answers: &RunValues,
        reference: Option<&RunValues>,
        state: &mut State,
    ) -> Result<(), EvaluateError> {
        let (name, output) = self.output(&self.model, answers, batch)?;
        match batch.labels.as_ref().filter(|labels| labels.dtype().is_float()) {
            Some(targets) => count_values(name, &output, targets, state)?,
            None => self.count_classes((name, &output), batch, reference, state)?,
        }
        state.add_range(batch.first, batch.first + batch.count as u64)
    }

    fn count_classes(
        &self,
        (name, output): (&str, &Tensor),
        batch: &Batch,
        reference: Option<&RunValues>,
        state: &mut State,
    ) -> Result<(), EvaluateError> {
        let shape: Vec<u64> = match &batch.labels {
            Some(labels) => labels.dims().to_vec(),
            None => vec![batch.count as u64],
        };
        let truths = batch
            .labels
            .as_ref()
            .map(Tensor::to_i64)
            .transpose()
            .map_err(|e| EvaluateError::Output {
                output: "labels".to_owned(),
                problem: e.to_string(),
            })?;
        let predictions = outputs::classes(name, output, &shape, self.threshold)?;
        check_classes(&predictions, truths.as_deref())?;
        let others = match (&self.reference, reference) {
            (Some(places), Some(values)) => {
                let (name, output) = self.output(places, values, batch)?;
                Some(outputs::classes(name, &output, &shape, self.threshold)?)
            }
            _ => None,
        };
        let predicted = tallied(&mut state.classification, truths.as_deref(), &predictions);
        let Some(others) = others else { return Ok(()) };
        let other = tallied(&mut state.reference, truths.as_deref(), &others);
        let paired = state.paired.get_or_insert_with(Paired::default);
        for (at, (model, reference)) in predicted.iter().zip(&other).enumerate() {
            let truth = truths.as_ref().and_then(|truths| truths.get(at).copied());
            paired.count(truth, *model, *reference);
        }
        Ok(())
    }
}

/// The classes that are predicted, added to the table where the true ones are known.
fn tallied(
    table: &mut Option<Classification>,
    truths: Option<&[i64]>,
    predictions: &Predictions,
) -> Vec<i64> {
    match truths {
        Some(truths) => {
            let table = table.get_or_insert_with(|| Classification::new(class_count(predictions)));
            tally(table, truths, predictions)
        }
        None => best(predictions),
    }
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
