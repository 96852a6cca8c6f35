//! Parts that several machines counted, as one.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::files::Files;
use crate::evaluate::State;

/// Refuses parts that are written, and a whole that is read.
pub(crate) fn check_parts(
    mut files: Files,
    parts: &[PathBuf],
    whole: Option<(&str, &Path)>,
) -> Result<(), Error> {
    parts.iter().for_each(|part| files.reads("a part", part));
    if let Some((name, whole)) = whole {
        files.writes(name, whole);
    }
    files.check()
}

/// Reads the parts and adds each to the first; the file at fault is that of the part that does not fit.
pub(super) fn join<T>(
    parts: &[impl AsRef<Path>],
    read: impl Fn(&Path) -> Result<T, Error>,
    merge: impl Fn(&mut T, &T) -> Result<(), Error>,
) -> Result<T, Error> {
    let mut whole: Option<T> = None;
    for path in parts.iter().map(AsRef::as_ref) {
        let part = read(path)?;
        match &mut whole {
            Some(whole) => merge(whole, &part).map_err(|error| error.in_file(path))?,
            None => whole = Some(part),
        }
    }
    whole.ok_or_else(|| Error::usage("there is nothing to merge"))
}

/// The counts of evaluations of the same model on other samples, together.
pub(crate) fn merged_states(parts: &[PathBuf]) -> Result<State, Error> {
    join(
        parts,
        |path| Ok(State::read(path)?),
        |whole, part| Ok(whole.merge(part)?),
    )
}
