//! A data set fitted to a model's inputs: batches by index, from any thread.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::annotations::ImageFile;
use super::augment::Augment;
use super::error::DataError;
use super::opening::{Opening, Source};
use super::signature::Signature;
use super::spec::{SourceSpec, Spec};
use super::task::{Known, Labels, Reading, TaskSetting};
use super::truth::{Frame, Truth};
use super::{synthetic, test_sets};
use crate::engine::stream::Batch;
use crate::ir::Graph;
use crate::parts::{Ledger, Work};

/// Samples for one model.
#[derive(Debug)]
pub struct Dataset {
    source: Source,
    signature: Signature,
    /// Whether the description says how pixels become values, and the model does it itself.
    is_left_out: bool,
    origin: PathBuf,
    /// The chosen samples of the source, when they are not simply the first ones.
    chosen: Option<Vec<u64>>,
    samples: u64,
    batch: u64,
    /// Whether a short last batch is filled up, because the model fixes the batch size.
    fill: bool,
    batches: Range<u64>,
    seed: u64,
    digest: String,
    task: Option<TaskSetting>,
    known: Known,
    ledger: Option<Arc<Ledger>>,
    augment: Option<Augment>,
}

impl Dataset {
    /// Opens the data that `spec` describes, relative to `base`, for the model with the main graph `graph`.
    pub fn open(spec: &Spec, base: &Path, graph: &Graph) -> Result<Self, DataError> {
        let (signature, other) = Signature::of(graph);
        let (mut task, labels) = TaskSetting::of(spec, base)?;
        let takes_images = matches!(signature.inputs.as_slice(), [input] if input.takes_images());
        if let (true, Some(task)) = (takes_images, &mut task) {
            task.read_baked(graph)?;
        }
        let mut known = Known::default();
        let source = spec.source()?;
        spec.augment.as_ref().map(Augment::check).transpose()?;
        if let (false, Some(input)) = (matches!(source, SourceSpec::Onnx(_)), other.first()) {
            let message =
                format!("the model's input {input} is not a tensor; only ONNX test sets can fill it");
            return Err(DataError::Spec { file: None, message });
        }
        let opening = Opening {
            spec,
            base,
            graph,
            signature: &signature,
            task: task.as_ref(),
            labels: labels.as_ref(),
        };
        let (source, available, origin) = opening.open(source, &mut known)?;
        if let Some(task) = &mut task {
            if let Some(labels) = labels.as_ref().filter(|_| !known.has_truths()) {
                known = labels.of_rows(task, available)?;
            }
            if let Some(annotations) = &known.annotations {
                task.categories.clone_from(&annotations.categories);
            }
            task.read_pairs(spec, base, &known.files, available)?;
        }
        let samples = spec.samples.map_or(available, |wanted| wanted.min(available));
        if samples == 0 {
            return Err(DataError::Empty {
                file: origin,
                detail: String::new(),
            });
        }
        let synthetic = matches!(source, Source::Synthetic { .. });
        let chosen = spec
            .seed
            .filter(|_| samples < available && !synthetic)
            .map(|seed| choose(seed, available, samples));
        if let (Some(task), Some(chosen)) = (&mut task, &chosen) {
            task.choose_pairs(chosen);
        }
        let whole = match &source {
            Source::TestSets { .. } => true,
            Source::Arrays(columns) => columns.whole(),
            _ => false,
        };
        let fixed = signature.fixed_batch().filter(|size| *size > 0);
        let batch = if whole {
            1
        } else {
            fixed.or(spec.batch).unwrap_or(1).max(1)
        };
        let count = samples.div_ceil(batch);
        let batches = match spec.shard {
            Some(shard) => {
                let cut = |part: u64| (u128::from(count) * u128::from(part) / u128::from(shard.count)) as u64;
                cut(shard.index)..cut(shard.index + 1)
            }
            None => 0..count,
        };
        let fill = fixed.is_some() && !whole;
        let seed = spec.seed.unwrap_or(0);
        let is_left_out = takes_images && spec.preprocessing().is_some();
        let mut dataset = Self {
            source,
            signature,
            is_left_out,
            origin,
            chosen,
            samples,
            batch,
            fill,
            batches,
            seed,
            digest: String::new(),
            task,
            known,
            ledger: None,
            augment: None,
        };
        dataset.augment = spec.augment.as_ref().map(|augment| dataset.placed(augment));
        dataset.digest = dataset.compute_digest(spec, labels.as_ref())?;
        Ok(dataset)
    }

    /// Of the samples of this shard every `of`-th, from the one at `part` on: parts with the same `of` are apart, and together they are
    /// all samples. A data set of its own, with indices of its own.
    #[must_use]
    pub fn part(mut self, part: u64, of: u64) -> Self {
        let step = usize::try_from(of.max(1)).unwrap_or(usize::MAX);
        let chosen: Vec<u64> = self.sample_range().skip(part as usize).step_by(step).collect();
        if let Some(task) = &mut self.task {
            task.choose_pairs(&chosen);
        }
        self.samples = chosen.len() as u64;
        self.batches = 0..self.samples.div_ceil(self.batch);
        self.chosen = Some(chosen.into_iter().map(|sample| self.row(sample)).collect());
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.digest.as_bytes());
        hasher.update(&part.to_le_bytes());
        hasher.update(&of.to_le_bytes());
        self.digest = hasher.finalize().to_hex().to_string();
        self
    }

    /// The first samples of the shard, no more than `count`. A data set of its own, with indices of its own.
    #[must_use]
    pub fn first(self, count: u64) -> Self {
        let range = self.sample_range();
        let all = range.end - range.start;
        if count >= all {
            return self;
        }
        let mut first = self.part(0, 1);
        first.samples = count;
        first.batches = 0..count.div_ceil(first.batch);
        if let Some(chosen) = &mut first.chosen {
            chosen.truncate(count as usize);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(first.digest.as_bytes());
        hasher.update(&count.to_le_bytes());
        first.digest = hasher.finalize().to_hex().to_string();
        first
    }

    /// The same samples, of which what a reference model answers is true, whatever their labels say. Classes and values keep their labels.
    #[must_use]
    pub fn judged_by_reference(mut self) -> Self {
        if let Some(task) = &mut self.task {
            task.from_reference = true;
        }
        self
    }

    /// The same samples, varied in training as `augment` says where the description does not say how.
    ///
    /// # Errors
    /// When a number of it is out of range.
    pub fn augmented(mut self, augment: &Augment) -> Result<Self, DataError> {
        augment.check()?;
        if self.augment.is_none() {
            self.augment = Some(self.placed(augment));
            let mut hasher = blake3::Hasher::new();
            hasher.update(self.digest.as_bytes());
            hasher.update(serde_json::to_string(augment).unwrap_or_default().as_bytes());
            self.digest = hasher.finalize().to_hex().to_string();
        }
        Ok(self)
    }

    /// The same samples, whose work is shared with other processes.
    #[must_use]
    pub fn shared(mut self, ledger: Option<Arc<Ledger>>) -> Self {
        self.ledger = ledger;
        self
    }

    /// Where work on the samples is shared, if it is.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_deref()
    }

    /// The batches of this shard in that many runs of neighbours, or as many as there are batches.
    pub fn cuts(&self, count: usize) -> Vec<Range<u64>> {
        let all = self.batches.end - self.batches.start;
        let count = (count as u64).clamp(1, all.max(1));
        let cut =
            |part: u64| self.batches.start + (u128::from(all) * u128::from(part) / u128::from(count)) as u64;
        (0..count).map(|part| cut(part)..cut(part + 1)).collect()
    }

    /// The samples of these batches, in words.
    pub fn words(&self, batches: &Range<u64>) -> String {
        let samples = self.samples_of(batches);
        format!("samples {} to {}", samples.start, samples.end.saturating_sub(1))
    }

    /// The same work with what it depends on of the data.
    pub fn described(&self, mut work: Work) -> Work {
        work.depends("data", self.digest.clone());
        work.depends("batch", self.batch.to_string());
        work
    }

    /// Samples of the whole data set, of every shard.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Samples a batch.
    pub fn batch_size(&self) -> u64 {
        self.batch
    }

    /// The batches of this shard.
    pub fn batches(&self) -> Range<u64> {
        self.batches.clone()
    }

    /// The samples of this shard, as global indices.
    pub fn sample_range(&self) -> Range<u64> {
        self.samples_of(&self.batches)
    }

    /// The samples of some batches, as global indices.
    pub fn samples_of(&self, batches: &Range<u64>) -> Range<u64> {
        let sample = |batch: u64| (batch * self.batch).min(self.samples);
        sample(batches.start)..sample(batches.end)
    }

    /// Where the samples come from, for messages.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// What of the description was left out, as the model does it itself.
    pub fn left_out(&self) -> Option<&'static str> {
        self.is_left_out.then_some(
            "the model takes images as they are decoded and preprocesses them itself: the preprocessing of the description is left out",
        )
    }

    /// The task, where it is more than classes or values.
    pub fn task(&self) -> Option<&TaskSetting> {
        self.task.as_ref()
    }

    /// What is true of a sample, by global index, where annotations say it.
    ///
    /// # Errors
    /// When its file cannot be read or does not fit the image.
    pub fn truth(&self, sample: u64) -> Result<Option<Cow<'_, Truth>>, DataError> {
        match usize::try_from(self.row(sample)) {
            Ok(row) => self.known.truth(row),
            Err(_) => Ok(None),
        }
    }

    /// How the image of a sample became the input.
    pub fn frame(&self, sample: u64) -> Option<Frame> {
        let file = self.image(sample)?;
        Some(match &self.source {
            Source::Images(folder) => folder.preprocess.frame(file.width, file.height),
            _ => Frame::identity(file.width, file.height),
        })
    }

    /// The file of a sample's image.
    pub fn image_path(&self, sample: u64) -> Option<&Path> {
        Some(&self.image(sample)?.path)
    }

    fn image(&self, sample: u64) -> Option<&ImageFile> {
        self.known.files.get(usize::try_from(self.row(sample)).ok()?)
    }

    /// Whether samples have labels.
    pub fn has_labels(&self) -> bool {
        if self.known.has_truths() {
            return true;
        }
        if let Some(Reading::Vectors(_, pairs)) = self.task.as_ref().map(|task| &task.reading) {
            return !pairs.is_empty();
        }
        match &self.source {
            Source::Arrays(columns) => columns.has_labels(),
            Source::Images(folder) => folder.labels.is_some(),
            Source::Synthetic { .. } | Source::TestSets { .. } => false,
        }
    }

    /// What the classes 0, 1, ... are called, where folders of images are the classes.
    pub fn class_names(&self) -> Option<&[String]> {
        match &self.source {
            Source::Images(folder) => folder.classes.as_deref(),
            _ => None,
        }
    }

    /// A BLAKE3 digest of the samples, their choice and their preprocessing, not of the shard.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Reads one batch. Batches of other shards may be read as well.
    pub fn batch(&self, index: u64) -> Result<Batch, DataError> {
        let first = index * self.batch;
        let count = self.samples.saturating_sub(first).min(self.batch);
        if count == 0 {
            return Err(DataError::Read {
                file: self.origin.clone(),
                reason: format!("no batch {index}"),
            });
        }
        let samples: Vec<u64> = (first..first + count).collect();
        let mut batch = self.select(&samples)?;
        batch.index = index;
        Ok(batch)
    }

    /// Reads any samples, by global index and in any order, as one batch, of other shards as well. Where the model fixes its
    /// batch size there may be no more than that many, and fewer are filled up with the last one. Its `index` is 0.
    pub fn select(&self, samples: &[u64]) -> Result<Batch, DataError> {
        let wrong = |reason: String| self.unreadable(reason);
        let Some(first) = samples.first().copied() else {
            return Err(wrong("no samples are selected".to_owned()));
        };
        if let Some(sample) = samples.iter().find(|sample| **sample >= self.samples) {
            return Err(wrong(format!("no sample {sample}")));
        }
        if self
            .largest_selection()
            .is_some_and(|largest| samples.len() as u64 > largest)
        {
            return Err(wrong(format!(
                "the model does not take {} samples at once",
                samples.len()
            )));
        }
        let mut rows: Vec<u64> = samples.iter().map(|sample| self.row(*sample)).collect();
        let real = rows.len();
        if self.fill
            && let Some(last) = rows.last().copied()
        {
            rows.resize(self.batch as usize, last);
        }
        let (inputs, labels) = match &self.source {
            Source::Arrays(columns) => columns.read(&self.signature, &rows, real, first)?,
            Source::Images(folder) => folder.batch(self.signature.inputs.first(), &rows, real)?,
            Source::Synthetic { spec, dims } => {
                // A batch that is filled up goes on with samples that nothing else has.
                let own = rows.get(..real).unwrap_or_default();
                let last = own.last().copied().unwrap_or(first);
                let more = (1..=(rows.len() - real) as u64).map(|step| last + step);
                let all: Vec<u64> = own.iter().copied().chain(more).collect();
                (
                    synthetic::batch(&self.signature, spec, dims, self.seed, &all)?,
                    None,
                )
            }
            Source::TestSets { folders, graph } => {
                let folder = rows
                    .first()
                    .and_then(|row| folders.get(*row as usize))
                    .unwrap_or(&self.origin);
                (test_sets::read(folder, graph)?.inputs, None)
            }
        };
        Ok(Batch {
            index: 0,
            first,
            count: real,
            ran: rows.len(),
            origin: self.origin.clone(),
            stacked: !self.whole(),
            inputs,
            labels,
        })
    }

    /// The same, varied as the description says for training: in each epoch in another way.
    pub fn select_varied(&self, samples: &[u64], epoch: u64) -> Result<Batch, DataError> {
        let mut batch = self.select(samples)?;
        if let Some(augment) = &self.augment {
            let rows: Vec<u64> = samples.iter().map(|sample| self.row(*sample)).collect();
            let found = augment.apply(&mut batch.inputs, &rows, (self.seed, epoch));
            if !found.map_err(|error| self.unreadable(error.to_string()))? {
                let message =
                    "`augment`: no input holds images as float32, [N, C, H, W] or [N, H, W, C]".to_owned();
                return Err(DataError::Spec { file: None, message });
            }
        }
        Ok(batch)
    }

    /// The most samples that one run of the model takes: its fixed batch size, 1 where each entry of the data is a whole input;
    /// `None` if the model leaves it open.
    pub fn largest_selection(&self) -> Option<u64> {
        (self.fill || self.whole()).then_some(self.batch)
    }

    /// Whether each entry of the data is a whole input, batch axis included.
    fn whole(&self) -> bool {
        match &self.source {
            Source::TestSets { .. } => true,
            Source::Arrays(columns) => columns.whole(),
            _ => false,
        }
    }

    /// With the layout that the preprocessing of images says, where nothing else is said.
    fn placed(&self, augment: &Augment) -> Augment {
        let mut augment = augment.clone();
        if let Source::Images(folder) = &self.source {
            augment.layout.get_or_insert(folder.preprocess.layout);
        }
        augment
    }

    fn unreadable(&self, reason: String) -> DataError {
        DataError::Read {
            file: self.origin.clone(),
            reason,
        }
    }

    fn row(&self, sample: u64) -> u64 {
        self.chosen
            .as_ref()
            .and_then(|rows| rows.get(sample as usize).copied())
            .unwrap_or(sample)
    }

    fn compute_digest(&self, spec: &Spec, labels: Option<&Labels>) -> Result<String, DataError> {
        let mut hasher = blake3::Hasher::new();
        let mut described = spec.clone();
        (described.shard, described.npz, described.onnx) = (None, None, None);
        if let Some(images) = &mut described.images {
            images.folder = PathBuf::new();
        }
        hasher.update(serde_json::to_string(&described).unwrap_or_default().as_bytes());
        let read = |file: &Path, e: std::io::Error| DataError::Read {
            file: file.to_owned(),
            reason: e.to_string(),
        };
        for path in labels.map(Labels::files).transpose()?.unwrap_or_default() {
            let file = std::fs::File::open(&path).map_err(|e| read(&path, e))?;
            hasher.update_reader(file).map_err(|e| read(&path, e))?;
        }
        match &self.source {
            // What a program hands over has a digest of its own, which is part of the description.
            Source::Arrays(_) if spec.npz.is_none() || self.signature.inputs.is_empty() => {}
            Source::Arrays(_) => {
                let path = self.origin.as_path();
                let file = std::fs::File::open(path).map_err(|e| read(path, e))?;
                hasher.update_reader(file).map_err(|e| read(path, e))?;
            }
            Source::Images(folder) => {
                for (index, file) in folder.files.iter().enumerate() {
                    let size = std::fs::metadata(file).map_err(|e| read(file, e))?.len();
                    hasher.update(
                        file.file_name()
                            .map(|name| name.as_encoded_bytes())
                            .unwrap_or_default(),
                    );
                    hasher.update(&size.to_le_bytes());
                    hasher.update(
                        &folder
                            .labels
                            .as_ref()
                            .and_then(|l| l.get(index).copied())
                            .unwrap_or(-1)
                            .to_le_bytes(),
                    );
                }
            }
            Source::TestSets { folders, .. } => {
                for folder in folders {
                    hasher.update(
                        folder
                            .file_name()
                            .map(|name| name.as_encoded_bytes())
                            .unwrap_or_default(),
                    );
                }
            }
            Source::Synthetic { .. } => {}
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}

/// `count` of `available` rows, chosen at random, in ascending order (Floyd's algorithm).
fn choose(seed: u64, available: u64, count: u64) -> Vec<u64> {
    let mut rng = synthetic::chooser(seed);
    let mut chosen = std::collections::BTreeSet::new();
    for upper in available - count..available {
        let pick = synthetic::below(&mut rng, upper + 1);
        if !chosen.insert(pick) {
            chosen.insert(upper);
        }
    }
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests;
