//! Writing a model and what belongs to it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::model::Model;
use super::options::Options;
use crate::engine::CancelToken;
use crate::files::Draft;
use crate::format::save::{WriteOptions, WriteTarget};
use crate::format::{self, FormatError, Origin};

/// Where a result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A file.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

impl Destination {
    /// How reports call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdout => "-".to_owned(),
        }
    }
}

/// What a save left on the disk.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Every file that belongs to the result: the model, then its external data.
    pub files: Vec<String>,
    /// What became of the data files of a model that was replaced.
    pub notes: Vec<String>,
}

impl Saved {
    pub(super) fn of(output: &Destination, saved: &format::Saved) -> Self {
        Self {
            files: std::iter::once(output.name())
                .chain(saved.data.iter().map(|(path, _)| named(path)))
                .collect(),
            notes: notes_of(&saved.removed, &saved.left),
        }
    }
}

/// A file as answers name it.
fn named(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

/// What became of data files of models that were replaced.
pub(super) fn notes_of(removed: &[PathBuf], left: &[PathBuf]) -> Vec<String> {
    let removed = removed
        .iter()
        .map(|path| format!("{}: removed, as only the replaced model used it", named(path)));
    let left = left.iter().map(|path| {
        format!(
            "{}: the replaced model used it, and no model there is known to use it now; it is left, as secateur did not write it or cannot read every model there",
            named(path)
        )
    });
    removed.chain(left).collect()
}

/// Hands `save` where a result goes.
pub(super) fn deliver(
    output: &Destination,
    save: impl FnOnce(WriteTarget<'_>) -> Result<format::Saved, Error>,
) -> Result<Saved, Error> {
    let saved = match output {
        Destination::File(path) => save(WriteTarget::File(path))?,
        Destination::Stdout => {
            let mut stdout = io::stdout().lock();
            let saved = save(WriteTarget::Stream(&mut stdout))?;
            stdout.flush().map_err(|source| FormatError::Write {
                path: "-".into(),
                source,
            })?;
            saved
        }
    };
    Ok(Saved::of(output, &saved))
}

/// Writes the files of a model as they were read.
pub(super) fn write_bytes_of(origin: &Origin, output: &Destination, how: &Options) -> Result<Saved, Error> {
    let Destination::File(path) = output else {
        return Err(Error::usage("a container is unpacked to a file"));
    };
    let options = WriteOptions {
        force: how.force,
        cancelled: how.cancel.as_ref().map(CancelToken::flag),
        ..WriteOptions::default()
    };
    let saved = format::write_unchanged(origin, WriteTarget::File(path), &options)?;
    Ok(Saved::of(output, &saved))
}

/// Writes a model: the bytes that it was read from where nothing changed it.
pub(crate) fn write(model: &Model, output: &Destination, how: &Options) -> Result<Saved, Error> {
    let origin = &model.origin;
    let options = WriteOptions {
        force: how.force,
        in_place: how.in_place,
        cancelled: how.cancel.as_ref().map(CancelToken::flag),
        ..WriteOptions::default()
    };
    deliver(output, |target| {
        if model.differs() {
            let message = format::model_to_proto(&model.model, &origin.external)?;
            Ok(format::write_proto(message, Some(origin), target, &options)?)
        } else {
            Ok(format::write_unchanged(origin, target, &options)?)
        }
    })
}

/// Writes a file that appears under its name when it is complete.
pub(crate) fn write_file(path: &Path, content: &[u8], force: bool) -> Result<(), Error> {
    let failed = |source| FormatError::Write {
        path: path.to_owned(),
        source,
    };
    Ok(Draft::write_file(path, content, force).map_err(failed)?)
}
