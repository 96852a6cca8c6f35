//! The pipeline that makes a searched result again without a search.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::super::definition::{Pipeline, Step, StepError};
use super::super::files::FILE_KEY;
use super::super::resources::{Described, describe_data};
use super::{NamedStep, UNTIL, file_option};
use crate::passes::{ReportFile, registry};

/// The pipeline with the steps that searches found in place of those that searched, and with paths that hold in any folder. `found` are
/// steps by index; `keep` are patterns beside the pipeline's own.
///
/// # Errors
/// A step that cannot be made.
pub(in crate::pipeline) fn replayed(
    pipeline: &Pipeline,
    found: &[(usize, NamedStep)],
    keep: &[String],
) -> Result<Pipeline, StepError> {
    let mut replay = pipeline.again()?;
    replay.keep.extend(keep.iter().cloned());
    for (index, step) in replay.steps.iter_mut().enumerate() {
        let known = found.iter().find(|(at, _)| *at == index).map(|(_, step)| step);
        let (name, options) = match known {
            Some((name, options)) => (name.clone(), options.clone()),
            None => (step.name.clone(), step.options.clone()),
        };
        let own = file_option(&name);
        let options = rooted(&name, options, &pipeline.base)
            .into_iter()
            .filter(|(option, _)| option != UNTIL && Some(option.as_str()) != own);
        *step = Step::new(&name, options.collect())?;
    }
    // Arrays of a program cannot be written down.
    replay
        .data
        .retain(|_, described| !matches!(described, Described::Given(_)));
    for described in replay.data.values_mut() {
        *described = match &*described {
            Described::Written(Value::String(path)) => Described::Written(Value::String(
                absolute(&pipeline.base.join(path)).display().to_string(),
            )),
            other => match describe_data(other, &pipeline.base) {
                Ok((spec, base)) => Described::of(spec.rooted(&absolute(&base))),
                Err(_) => other.clone(),
            },
        };
    }
    replay.base = PathBuf::new();
    replay.gate_places.clear();
    Ok(replay)
}

/// The file that a step wants the replaying pipeline in. Without a search `search-precision` writes what it found itself.
fn wanted(step: &Step) -> Option<&str> {
    let option = file_option(&step.name).filter(|option| *option != "pipeline" || !step.until.is_empty())?;
    step.options.get(option)?.as_str()
}

/// Whether a step wants the replaying pipeline in a file.
pub(in crate::pipeline) fn is_wanted(pipeline: &Pipeline) -> bool {
    pipeline.steps.iter().any(|step| wanted(step).is_some())
}

/// The files that steps of `pipeline` want `replay` in.
pub(in crate::pipeline) fn written(pipeline: &Pipeline, replay: &Pipeline) -> Vec<ReportFile> {
    let files = pipeline.steps.iter().filter_map(wanted).map(|path| ReportFile {
        path: pipeline.base.join(path),
        content: replay.to_yaml().into(),
    });
    files.collect()
}

/// The options with the paths of files from the root on.
fn rooted(pass: &str, mut options: Map<String, Value>, base: &Path) -> Map<String, Value> {
    let entries = registry::entries();
    let schema = entries
        .iter()
        .find(|entry| entry.name == pass)
        .map(|entry| entry.schema.as_value());
    for (option, value) in &mut options {
        let is_file = schema
            .and_then(|schema| schema.get("properties")?.get(option)?.get(FILE_KEY))
            .is_some();
        if !is_file {
            continue;
        }
        match value {
            Value::String(path) => *path = absolute(&base.join(&*path)).display().to_string(),
            Value::Array(paths) => {
                for path in paths {
                    if let Value::String(path) = path {
                        *path = absolute(&base.join(&*path)).display().to_string();
                    }
                }
            }
            _ => {}
        }
    }
    options
}

/// The path from the root on; as it is where the working directory is not known.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
