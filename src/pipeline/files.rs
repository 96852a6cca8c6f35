//! The files that a pipeline reads and writes beside the model: what its steps' options name, and its data.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::definition::{Pipeline, Step};
use super::resources::{Described, describe_data};
use crate::passes::registry;

/// A file that a pipeline names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// What names it, as messages say it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What becomes of it.
    pub usage: Usage,
}

/// What becomes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Usage {
    /// It is read; of a folder, the files with these endings are.
    Read(&'static [&'static str]),
    /// It is written, when the result is accepted.
    Written,
    /// It is written on the way, and gone on with where it is there.
    Continued,
}

/// The key in the schema of an option that says that its value is a file, and what becomes of it: `read`, `write`, `state` for one
/// that is gone on with, or `rules` for a folder of rules.
pub const FILE_KEY: &str = "x-file";

impl Pipeline {
    /// The files that the steps and the data name.
    pub fn files(&self) -> Vec<NamedFile> {
        let entries = registry::entries();
        let mut files = Vec::new();
        for step in &self.steps {
            if let Some(entry) = entries.iter().find(|entry| entry.name == step.name) {
                of_step(step, entry.schema.as_value(), &self.base, &mut files);
            }
        }
        files.extend(self.included.iter().map(|path| NamedFile {
            name: "a file that the pipeline includes".to_owned(),
            path: path.clone(),
            usage: Usage::Read(&[]),
        }));
        for (role, described) in &self.data {
            let name = format!("the {role} data");
            let read = |path: PathBuf, endings| NamedFile {
                name: name.clone(),
                path,
                usage: Usage::Read(endings),
            };
            if let Described::Written(Value::String(path)) = described {
                files.push(read(self.base.join(path), &[]));
            }
            // What is no description is refused where the data are opened, with its place.
            if let Ok((spec, base)) = describe_data(described, &self.base) {
                files.extend(
                    spec.files(&base)
                        .into_iter()
                        .map(|file| read(file.path, file.endings)),
                );
            }
        }
        files
    }
}

fn of_step(step: &Step, schema: &Value, base: &Path, files: &mut Vec<NamedFile>) {
    for (option, value) in &step.options {
        let kind = schema
            .pointer("/properties")
            .and_then(|properties| properties.get(option)?.get(FILE_KEY)?.as_str());
        let usage = match kind {
            Some("write") => Usage::Written,
            Some("state") => Usage::Continued,
            Some("rules") => Usage::Read(&["yaml", "yml"]),
            Some(_) => Usage::Read(&[]),
            None => continue,
        };
        let texts = match value {
            Value::Array(items) => items.iter().collect(),
            one => vec![one],
        };
        for text in texts.into_iter().filter_map(Value::as_str) {
            files.push(NamedFile {
                name: format!("`{option}` of {}", step.name),
                path: base.join(text),
                usage: usage.clone(),
            });
        }
    }
    // PEFT keeps what belongs to an adapter beside it.
    if let Some(adapter) = step.options.get("adapter").and_then(Value::as_str) {
        files.push(NamedFile {
            name: "the adapter's configuration".to_owned(),
            path: base.join(adapter).with_file_name("adapter_config.json"),
            usage: Usage::Read(&[]),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every option of a pass that is a path says what becomes of the file: the sources name the options, the schemas mark them.
    #[test]
    fn every_path_among_the_options_is_marked() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/passes");
        let mut marked = 0;
        for entry in registry::entries() {
            let schema = entry.schema.as_value().clone();
            let properties = schema["properties"].as_object().cloned().unwrap_or_default();
            marked += properties
                .values()
                .filter(|option| option.get(FILE_KEY).is_some())
                .count();
        }
        let mut fields = 0;
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("passes/pass.rs") {
                    let text = std::fs::read_to_string(path).unwrap();
                    let is_path = |line: &&str| line.starts_with("    pub ") && line.contains("PathBuf");
                    fields += text.lines().filter(is_path).count();
                }
            }
        }
        assert_eq!(marked, fields);
        assert!(marked > 15);
    }
}
