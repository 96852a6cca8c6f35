//! Training as it stands after an epoch, in a file that a run which was ended goes on from: safetensors with `now`, `first`, `second`,
//! `average` and `best` of each parameter, and the course of the epochs as JSON in its metadata.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::course::{Course, Slices};
use super::error::FinetuneError;
use super::training::{Epoch, Outcome};
use crate::files::{Draft, read_bytes};

/// The version of the form.
const FORMAT: u32 = 1;

/// The entry of the metadata.
const ENTRY: &str = "secateur";

/// The parameters with the lowest loss on the samples held out.
pub(super) type Best = (f64, Vec<Vec<f32>>);

/// A file that training goes on from.
pub(super) struct Checkpoint {
    path: PathBuf,
    /// Of all that decides about the course.
    key: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    key: String,
    done: u64,
    before: Option<f64>,
    epochs: Vec<Epoch>,
    best: usize,
    lowest: Option<f64>,
}

impl Checkpoint {
    /// The file at `path` for the training with this key.
    pub(super) fn new(path: &Path, key: String) -> Self {
        Self {
            path: path.to_owned(),
            key,
        }
    }

    fn wrong(&self, reason: impl ToString) -> FinetuneError {
        FinetuneError::Checkpoint {
            file: self.path.clone(),
            reason: reason.to_string(),
        }
    }

    /// Writes what there is after an epoch.
    pub(super) fn save(
        &self,
        course: &Course<'_, '_>,
        outcome: &Outcome,
        best: Option<&Best>,
    ) -> Result<(), FinetuneError> {
        let header = Header {
            format: FORMAT,
            key: self.key.clone(),
            done: course.done(),
            before: outcome.before,
            epochs: outcome.epochs.clone(),
            best: outcome.best,
            lowest: best.map(|(loss, _)| *loss),
        };
        let of_best = best.map(|(_, values)| ("best", values.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        let parts: Slices<'_> = course.parts()?.into_iter().chain(of_best).collect();
        let mut named = Vec::new();
        for (part, values) in &parts {
            for ((name, _), values) in course.held.iter().zip(values) {
                named.push((format!("{part}/{name}"), *values));
            }
        }
        let views: Vec<(&str, TensorView<'_>)> = named
            .iter()
            .map(|(name, values)| {
                let bytes = bytemuck::cast_slice(values);
                TensorView::new(Dtype::F32, vec![values.len()], bytes).map(|view| (name.as_str(), view))
            })
            .collect::<Result<_, _>>()
            .map_err(|error| self.wrong(error))?;
        let text = serde_json::to_string(&header).map_err(|error| self.wrong(error))?;
        let metadata = HashMap::from([(ENTRY.to_owned(), text)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| self.wrong(error))?;
        Draft::write_file(&self.path, &bytes, true).map_err(|error| self.wrong(error))
    }

    /// Takes up what the file holds, if there is one.
    pub(super) fn load(
        &self,
        course: &mut Course<'_, '_>,
        outcome: &mut Outcome,
    ) -> Result<Option<Best>, FinetuneError> {
        if !self.path.exists() {
            return Ok(None);
        }
        let bytes = read_bytes(&self.path).map_err(|error| self.wrong(error))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| self.wrong(error))?;
        let text = metadata
            .metadata()
            .as_ref()
            .and_then(|entries| entries.get(ENTRY));
        let text = text.ok_or_else(|| self.wrong("it is no checkpoint of secateur"))?;
        let header: Header = serde_json::from_str(text).map_err(|error| self.wrong(error))?;
        if header.format != FORMAT || header.key != self.key {
            return Err(self.wrong(
                "it is of another training: of another model, other data, other options or another release",
            ));
        }
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| self.wrong(error))?;
        let names: Vec<(String, usize)> = course
            .held
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.elements() as usize))
            .collect();
        let part = |part: &str| -> Result<Vec<Vec<f32>>, FinetuneError> {
            let one = |(name, count): &(String, usize)| {
                let key = format!("{part}/{name}");
                let view = tensors.tensor(&key).map_err(|error| self.wrong(error))?;
                let values: Vec<f32> = view
                    .data()
                    .chunks_exact(4)
                    .filter_map(|bytes| Some(f32::from_le_bytes(bytes.try_into().ok()?)))
                    .collect();
                match values.len() == *count {
                    true => Ok(values),
                    false => Err(self.wrong(format!("{key} has {} elements, not {count}", values.len()))),
                }
            };
            names.iter().map(one).collect()
        };
        course.resume(header.done, &part)?;
        outcome.before = header.before;
        outcome.epochs = header.epochs;
        outcome.best = header.best;
        match header.lowest {
            Some(lowest) => Ok(Some((lowest, part("best")?))),
            None => Ok(None),
        }
    }
}
