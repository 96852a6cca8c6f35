//! Running a model over a data set and counting.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::EvaluateError;
use super::classification::{Classification, argmax};
use super::outputs::{self, Predictions};
use super::regression::Regression;
use super::state::{Checkpoint, State};
use super::statistics::Paired;
use super::tasks::{Answer, Found, Output, Reader, Sample, TaskState, read_boxes};
use crate::data::{
    Batch, BoxesSpec, DataError, Dataset, Frame, Mask, Reading, SegmentationOptions, TaskSetting, Truth,
};
use crate::engine::stream::{Places, Stream, in_order};
use crate::engine::{RunValue, RunValues};
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
    let from_reference = data.task().is_some_and(|task| task.from_reference);
    if !needed || data.has_labels() && !from_reference {
        return Ok(());
    }
    if from_reference {
        return Err(EvaluateError::Task {
            problem: "`labels: reference` takes what another model answers as true: name it with --against"
                .to_owned(),
        });
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
    data: &'m Dataset,
    /// How the answers of the model and of the reference are read, found out at the first ones.
    readers: [OnceLock<Reader>; 2],
}

impl<'m> Counter<'m> {
    /// Counts the answers of `model` and `reference` to samples of `data`.
    pub fn new(
        model: &'m Model,
        reference: Option<&'m Model>,
        data: &'m Dataset,
        output: Option<String>,
        threshold: f64,
    ) -> Self {
        Self {
            data,
            readers: [OnceLock::new(), OnceLock::new()],
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
        if let Some(setting) = self.data.task() {
            self.count_task(setting, batch, answers, reference, state)?;
            return state.add_range(batch.first, batch.first + batch.count as u64);
        }
        let (name, output) = self.output(&self.model, answers, batch)?;
        match batch.labels.as_ref().filter(|labels| labels.dtype().is_float()) {
            Some(targets) => count_values(name, &output, targets, state)?,
            None => self.count_classes((name, &output), batch, reference, state)?,
        }
        state.add_range(batch.first, batch.first + batch.count as u64)
    }

    /// What was found out about how answers are read.
    pub fn notes(&self) -> Vec<String> {
        let said = self.readers.iter().filter_map(|reader| reader.get()?.said());
        let mut notes: Vec<String> = said.collect();
        notes.dedup();
        notes
    }

    fn count_task(
        &self,
        setting: &TaskSetting,
        batch: &Batch,
        answers: &RunValues,
        reference: Option<&RunValues>,
        state: &mut State,
    ) -> Result<(), EvaluateError> {
        let model = by_sample(&self.model, answers, batch)?;
        let others = match (&self.reference, reference) {
            (Some(places), Some(values)) => Some(by_sample(places, values, batch)?),
            _ => None,
        };
        let from_reference = setting.from_reference || !self.data.has_labels();
        let labels = batch.labels.as_ref().map(rows_of_labels).transpose()?;
        let targets = batch.labels.as_ref().map(rows_of_targets).transpose()?.flatten();
        for (at, answer) in model.iter().enumerate() {
            let index = batch.first + at as u64;
            let known = if from_reference {
                None
            } else {
                self.data.truth(index)?
            };
            let labels = labels.as_ref().and_then(|rows| rows.as_ref()?.get(at).cloned());
            let mask = match &setting.reading {
                Reading::Masks(options) => labels.as_ref().and_then(|labels| mask(labels, options)),
                _ => None,
            };
            let sample = Sample {
                index,
                truth: known.as_deref().or(mask.as_ref()),
                frame: self.data.frame(index),
                labels,
                targets: targets.as_ref().and_then(|rows| rows.get(at).cloned()),
            };
            let own = reader(&self.readers[0], setting, answer, &sample)?;
            let other = match others.as_ref().and_then(|others| others.get(at)) {
                Some(answer) => Some((reader(&self.readers[1], setting, answer, &sample)?, answer)),
                None => None,
            };
            let counted = match &mut state.task {
                Some(counted) => counted,
                empty @ None => empty.insert(TaskState::new(setting, own, from_reference)?),
            };
            counted.count(setting, &sample, (own, answer), other, self.output.as_deref())?;
        }
        Ok(())
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

/// How a model's answers are read, found out at the first one.
fn reader<'r>(
    known: &'r OnceLock<Reader>,
    setting: &TaskSetting,
    answer: &Answer,
    sample: &Sample<'_>,
) -> Result<&'r Reader, EvaluateError> {
    if let Some(reader) = known.get() {
        return Ok(reader);
    }
    let found = Reader::of(setting, answer, sample)?;
    Ok(known.get_or_init(|| found))
}

/// All outputs, sample by sample.
fn by_sample(places: &Places<'_>, values: &RunValues, batch: &Batch) -> Result<Vec<Answer>, EvaluateError> {
    let mut answers: Vec<Answer> = (0..batch.count).map(|_| Answer { outputs: Vec::new() }).collect();
    for name in places.outputs() {
        let Some(RunValue::Tensor(tensor)) = values.get(&name) else {
            continue;
        };
        let wrong = |problem: String| EvaluateError::Output {
            output: name.clone(),
            problem,
        };
        let rows = places.samples_first(&name, tensor, batch);
        if rows.is_none() && batch.ran > 1 {
            return Err(wrong(format!(
                "has shape {:?} for {} samples: none of its axes is known to be the batch; run one sample at a time (batch: 1)",
                tensor.dims(),
                batch.ran
            )));
        }
        let skipped = usize::from(rows.is_some());
        let tensor = rows.unwrap_or(Cow::Borrowed(tensor));
        let dims: Vec<usize> = tensor
            .dims()
            .iter()
            .skip(skipped)
            .map(|size| *size as usize)
            .collect();
        let all = tensor.to_f64().map_err(|e| wrong(e.to_string()))?;
        let size: usize = dims.iter().product();
        for (at, answer) in answers.iter_mut().enumerate() {
            let values = all.get(at * size..(at + 1) * size).unwrap_or_default().to_vec();
            answer.outputs.push(Output {
                name: name.clone(),
                dims: dims.clone(),
                values,
                integer: !tensor.dtype().is_float(),
            });
        }
    }
    Ok(answers)
}

/// The boxes that a model found on the one image of a batch, as `spec` reads them, the best first.
///
/// # Errors
/// When the answers do not fit the layout.
pub fn boxes(
    spec: &BoxesSpec,
    model: &Model,
    frame: &Frame,
    batch: &Batch,
    answers: &RunValues,
) -> Result<Vec<Found>, EvaluateError> {
    let answers = by_sample(&Places::of(model), answers, batch)?;
    let first = answers.first().ok_or_else(|| EvaluateError::Task {
        problem: "the batch has no image".to_owned(),
    })?;
    read_boxes(spec, first, frame)
}

/// Float labels of each sample.
fn rows_of_targets(labels: &Tensor) -> Result<Option<Vec<Vec<f64>>>, EvaluateError> {
    if !labels.dtype().is_float() {
        return Ok(None);
    }
    let all = labels.to_f64().map_err(|e| EvaluateError::Output {
        output: "labels".to_owned(),
        problem: e.to_string(),
    })?;
    let size = labels.dims().iter().skip(1).product::<u64>().max(1) as usize;
    Ok(Some(all.chunks(size).map(<[f64]>::to_vec).collect()))
}

/// A mask from an array of class numbers; negative ones and the value to ignore do not count.
fn mask((dims, classes): &(Vec<usize>, Vec<i64>), options: &SegmentationOptions) -> Option<Truth> {
    let [.., height, width] = dims.as_slice() else {
        return None;
    };
    let class = |class: &i64| match u16::try_from(*class) {
        Ok(class) if class != options.ignore => class,
        _ => Mask::IGNORED,
    };
    Some(Truth::Mask(Mask {
        width: u32::try_from(*width).ok()?,
        height: u32::try_from(*height).ok()?,
        classes: classes.iter().map(class).collect(),
    }))
}

/// Integer labels of each sample, with their dimensions.
type Labelled = Option<Vec<(Vec<usize>, Vec<i64>)>>;

fn rows_of_labels(labels: &Tensor) -> Result<Labelled, EvaluateError> {
    if labels.dtype().is_float() {
        return Ok(None);
    }
    let dims: Vec<usize> = labels.dims().iter().skip(1).map(|size| *size as usize).collect();
    let all = labels.to_i64().map_err(|e| EvaluateError::Output {
        output: "labels".to_owned(),
        problem: e.to_string(),
    })?;
    let size = dims.iter().product::<usize>().max(1);
    Ok(Some(
        all.chunks(size).map(|row| (dims.clone(), row.to_vec())).collect(),
    ))
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
