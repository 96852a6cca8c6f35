//! What decides about the result of a pipeline on a model, as a digest that is the same wherever the files lie.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::Value;

use super::error::Error;
use super::options::Options;
use super::pipeline::Pipeline;
use crate::pipeline::{Described, Usage, describe_data};
use crate::sweep::FORMAT;

/// Digests of data and files, each made once.
#[derive(Default)]
pub(crate) struct Digests {
    data: BTreeMap<String, String>,
    files: BTreeMap<PathBuf, blake3::Hash>,
}

impl Digests {
    /// The key of a pipeline on a model, and the digests of the data that it reads.
    pub(crate) fn key(
        &mut self,
        pipeline: &Pipeline,
        model: &str,
        options: &Options,
    ) -> Result<(blake3::Hash, IndexMap<String, String>), Error> {
        let inner = &pipeline.inner;
        let mut roles: Vec<String> = inner.steps.iter().flat_map(|step| step.read_roles()).collect();
        roles.push("evaluation".to_owned());
        roles.sort();
        roles.dedup();
        let mut data = IndexMap::new();
        for role in roles {
            if let Some(described) = inner.data.get(&role) {
                let digest = self.of_data(described, &inner.base)?;
                data.insert(role, digest);
            }
        }
        let mut without_data = inner.again()?;
        without_data.data.clear();
        let mut hasher = blake3::Hasher::new();
        let how = format!(
            "{} {} {:?} {:?} {} {} {} {:?} {} {:?}",
            options.seed,
            options.engine.name(),
            options.keep,
            options.fuel,
            options.max_growth,
            options.compare,
            options.provenance,
            options.evaluation.output,
            options.evaluation.threshold,
            options.comparison.sizes,
        );
        let version = format!("secateur {} point {FORMAT}", env!("CARGO_PKG_VERSION"));
        let pipeline = without_data.to_yaml();
        let words = [version.as_str(), model, &pipeline, &how].into_iter();
        let of_data = data.iter().flat_map(|(role, digest)| [role.as_str(), digest]);
        for word in words.chain(of_data) {
            // With their lengths, no two lists of words are the same bytes.
            hasher.update(&(word.len() as u64).to_le_bytes());
            hasher.update(word.as_bytes());
        }
        for file in without_data.files() {
            let Usage::Read(endings) = file.usage else {
                continue;
            };
            if file.path.is_dir() {
                self.add_folder(&mut hasher, &file.path, endings)?;
            } else if file.path.exists() {
                hasher.update(self.of_file(&file.path)?.as_bytes());
            }
        }
        Ok((hasher.finalize(), data))
    }

    /// A digest of samples, their choice and their preprocessing, wherever they lie.
    fn of_data(&mut self, described: &Described, base: &Path) -> Result<String, Error> {
        let key = format!(
            "{} {}",
            base.display(),
            serde_json::to_string(described).unwrap_or_default()
        );
        if let Some(known) = self.data.get(&key) {
            return Ok(known.clone());
        }
        let (spec, base) = describe_data(described, base)?;
        let mut hasher = blake3::Hasher::new();
        let mut words = serde_json::to_value(&spec).unwrap_or_default();
        drop_folders(&mut words);
        hasher.update(words.to_string().as_bytes());
        for file in spec.files(&base) {
            if file.path.is_dir() {
                self.add_folder(&mut hasher, &file.path, file.endings)?;
            } else if file.path.exists() {
                hasher.update(self.of_file(&file.path)?.as_bytes());
            }
        }
        let digest = hasher.finalize().to_hex().to_string();
        self.data.insert(key, digest.clone());
        Ok(digest)
    }

    /// The files of a folder by name and size, those with words by their content.
    fn add_folder(
        &mut self,
        hasher: &mut blake3::Hasher,
        folder: &Path,
        endings: &[&str],
    ) -> Result<(), Error> {
        let mut entries: Vec<fs::DirEntry> = fs::read_dir(folder)
            .map_err(|error| unread(folder, &error))?
            .flatten()
            .collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            hasher.update(entry.file_name().as_encoded_bytes());
            let ending = path
                .extension()
                .and_then(|ending| ending.to_str())
                .unwrap_or_default();
            if path.is_dir() {
                self.add_folder(hasher, &path, endings)?;
            } else if ["tsv", "csv", "txt", "json", "xml", "yaml", "pb", "onnx"].contains(&ending) {
                hasher.update(self.of_file(&path)?.as_bytes());
            } else if endings.contains(&ending) {
                let size = entry.metadata().map_err(|error| unread(&path, &error))?.len();
                hasher.update(&size.to_le_bytes());
            }
        }
        Ok(())
    }

    fn of_file(&mut self, path: &Path) -> Result<blake3::Hash, Error> {
        if let Some(known) = self.files.get(path) {
            return Ok(*known);
        }
        let mut hasher = blake3::Hasher::new();
        let file = fs::File::open(path).map_err(|error| unread(path, &error))?;
        hasher.update_reader(file).map_err(|error| unread(path, &error))?;
        let hash = hasher.finalize();
        self.files.insert(path.to_owned(), hash);
        Ok(hash)
    }
}

fn unread(path: &Path, error: &io::Error) -> Error {
    Error::new("read-failed", format!("cannot read {}: {error}", path.display())).in_file(path)
}

/// Takes folders from the paths in a description, so that the same data are the same elsewhere.
fn drop_folders(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('/') => {
            let name = Path::new(text.as_str()).file_name().unwrap_or_default();
            *text = name.to_string_lossy().into_owned();
        }
        Value::Array(items) => items.iter_mut().for_each(drop_folders),
        Value::Object(entries) => entries.values_mut().for_each(drop_folders),
        _ => {}
    }
}
