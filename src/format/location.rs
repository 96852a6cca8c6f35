//! Where external data may be: inside the model's own directory and nowhere else.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::problem::ExternalProblem;
use crate::files::{directory_of, identity};

/// The directories that a model may read external data from.
#[derive(Clone, Debug)]
pub(super) struct Home {
    /// The directory of the path that the caller gave: locations are relative to it.
    logical: PathBuf,
    /// The same directory after resolving links.
    logical_resolved: PathBuf,
    /// The directory of the file that the path leads to, resolved: another one when the model itself is a link, as in
    /// caches that keep content in one place and names in another.
    real: PathBuf,
}

impl Home {
    /// The home of the model at `path`.
    pub(super) fn of_model(path: &Path) -> io::Result<Self> {
        let logical = directory_of(path);
        let resolved = path.canonicalize()?;
        Ok(Self {
            logical_resolved: logical.canonicalize()?,
            logical,
            real: directory_of(&resolved),
        })
    }

    /// A directory that the caller names.
    pub(super) fn directory(path: &Path) -> io::Result<Self> {
        let resolved = path.canonicalize()?;
        Ok(Self {
            logical: path.to_owned(),
            logical_resolved: resolved.clone(),
            real: resolved,
        })
    }

    /// Opens the file at `location` if it is a regular file within this home. Returns its resolved path, the open file
    /// and its metadata.
    pub(super) fn open(&self, location: &str) -> Result<(PathBuf, File, Metadata), ExternalProblem> {
        check_location(location)?;
        let resolved = [&self.logical, &self.real]
            .into_iter()
            .find_map(|directory| match directory.join(location).canonicalize() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                other => Some(other),
            })
            .ok_or(ExternalProblem::NotFound)?
            .map_err(ExternalProblem::Io)?;
        if !resolved.starts_with(&self.logical_resolved) && !resolved.starts_with(&self.real) {
            return Err(ExternalProblem::Outside(resolved));
        }
        // Asked before opening, because opening a pipe blocks and opening a device may act.
        let before = resolved.symlink_metadata().map_err(ExternalProblem::Io)?;
        if !before.is_file() {
            return Err(ExternalProblem::NotAFile);
        }
        let file = File::open(&resolved).map_err(ExternalProblem::Io)?;
        let opened = file.metadata().map_err(ExternalProblem::Io)?;
        if !opened.is_file() || identity(&before) != identity(&opened) {
            return Err(ExternalProblem::NotAFile);
        }
        Ok((resolved, file, opened))
    }
}

/// Refuses a location that could leave the directory. Both separators count on every system: a model is moved between
/// systems, and what is a file name here is a path there.
pub(super) fn check_location(location: &str) -> Result<(), ExternalProblem> {
    if location.is_empty() {
        return Err(ExternalProblem::NoLocation);
    }
    if location.contains('\0') {
        return Err(ExternalProblem::InvalidLocation);
    }
    let bytes = location.as_bytes();
    let has_drive = bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.get(1) == Some(&b':');
    if location.starts_with(['/', '\\']) || has_drive || Path::new(location).is_absolute() {
        return Err(ExternalProblem::Absolute);
    }
    if location.split(['/', '\\']).any(|step| step == "..") {
        return Err(ExternalProblem::Parent);
    }
    Ok(())
}

/// Whether a text is the name of a file and no path, on any system.
pub(crate) fn is_file_name(text: &str) -> bool {
    check_location(text).is_ok() && !text.contains(['/', '\\']) && text != "."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_file_is_no_path() {
        for good in ["w.data", "w", "a b", ".hidden", "..."] {
            assert!(is_file_name(good), "{good}");
        }
        for wrong in ["", ".", "..", "sub/w", "./w", "w/", "a\\b", "c:w", "/w", "a\0b"] {
            assert!(!is_file_name(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn locations_that_could_leave_the_directory_are_refused() {
        let code = |location: &str| check_location(location).err().map(|problem| problem.to_string());
        for good in ["w.data", "sub/w.data", "./w.data", "w..data", "...", "a b", "ä"] {
            assert_eq!(code(good), None, "{good}");
        }
        for absolute in ["/etc/passwd", "\\\\host\\share", "C:\\w", "c:w", "\\w"] {
            assert_eq!(
                code(absolute),
                Some(ExternalProblem::Absolute.to_string()),
                "{absolute}"
            );
        }
        for parent in ["..", "../w", "sub/../../w", "a\\..\\b", "sub/.."] {
            assert_eq!(
                code(parent),
                Some(ExternalProblem::Parent.to_string()),
                "{parent}"
            );
        }
        assert_eq!(code("a\0b"), Some(ExternalProblem::InvalidLocation.to_string()));
        assert_eq!(code(""), Some(ExternalProblem::NoLocation.to_string()));
    }
}
