//! Removing the data files that only a replaced model used.

use std::fs::Permissions;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;

use super::container::Base;
use super::external;
use super::map::file_bytes;
use crate::files::{Fs, directory_of, has_other_names};

/// The data files that a model names which is about to be replaced.
pub(super) struct Replaced {
    locations: Vec<String>,
}

impl Replaced {
    /// What the model at `path` names; nothing where there is none, or what is there is no model.
    pub(super) fn of(path: &Path) -> Self {
        let mut locations = content(path)
            .and_then(external::recorded_locations)
            .unwrap_or_default();
        locations.sort();
        locations.dedup();
        Self { locations }
    }

    /// Whether it names any.
    pub(super) fn has_data(&self) -> bool {
        !self.locations.is_empty()
    }

    /// The permissions of the data files.
    pub(super) fn data_permissions(&self, directory: &Path) -> Option<Permissions> {
        self.locations
            .iter()
            .filter(|location| super::location::check_location(location).is_ok())
            .filter_map(|location| directory.join(location).symlink_metadata().ok())
            .find(|found| found.is_file())
            .map(|found| found.permissions())
    }

    /// Removes the data files that secateur wrote for a model which never got its name: the model is gone, `temporary` is what it was
    /// called.
    pub(super) fn retire_unpublished(self, fs: &dyn Fs, temporary: &Path) {
        let directory = directory_of(temporary);
        for location in self.locations {
            let path = directory.join(&location);
            let Some((stem, _)) = location
                .strip_suffix(".data")
                .and_then(|rest| rest.rsplit_once('.'))
            else {
                continue;
            };
            let ours = Path::new(&location).components().count() == 1
                && path
                    .symlink_metadata()
                    .is_ok_and(|found| found.is_file() && !has_other_names(&found))
                && readers(&directory, temporary, &location) == Readers::None
                && content(&path).is_some_and(|bytes| wrote(stem, &location, &bytes));
            if ours {
                // A failure leaves a file that nobody needs, which is no failure of the save.
                let _ = fs.remove_file(&path);
            }
        }
    }

    /// Removes the data files that secateur wrote for the replaced model and that nothing needs any more: named
    /// `<stem>.<16 digits of the content's BLAKE3>.data`, in the model's own directory, not named by the new model (`kept`),
    /// not refused by `spare`, without a second name, and not recorded by any other model there, all of which can be
    /// read. Answers what is gone, and what is left although nothing there is known to need it.
    pub(super) fn retire(
        self,
        fs: &dyn Fs,
        model: &Path,
        kept: &[String],
        spare: &dyn Fn(&Path) -> bool,
    ) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let directory = directory_of(model);
        let stem = model
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let (mut removed, mut left) = (Vec::new(), Vec::new());
        for location in self.locations {
            let is_kept = kept.iter().any(|name| steps(name).eq(steps(&location)));
            let path = directory.join(&location);
            if is_kept || super::location::check_location(&location).is_err() || spare(&path) {
                continue;
            }
            let Ok(found) = path.symlink_metadata() else {
                continue;
            };
            let readers = readers(&directory, model, &location);
            if readers == Readers::Some {
                continue;
            }
            let ours = readers == Readers::None
                && found.is_file()
                && !has_other_names(&found)
                && content(&path).is_some_and(|bytes| wrote(&stem, &location, &bytes));
            // A failure leaves a file that nobody needs, which is no failure of the save.
            if ours && fs.remove_file(&path).is_ok() {
                removed.push(path);
            } else {
                left.push(path);
            }
        }
        (removed, left)
    }
}

/// The data files that the model at `path` records, where they are beside it, and the base of a container; nothing where there is no model.
pub fn recorded_data(path: &Path) -> Vec<PathBuf> {
    if let Some(base) = Base::beside(path) {
        return vec![base];
    }
    let directory = directory_of(path);
    // Where a model is a link, its data may be beside what the link leads to.
    let real = path.canonicalize().map(|path| directory_of(&path)).ok();
    let folders: Vec<&PathBuf> = std::iter::once(&directory).chain(&real).collect();
    let locations = Replaced::of(path).locations;
    let here = |location: &String| super::location::check_location(location).is_ok();
    let at = |location: &String| {
        folders
            .iter()
            .map(|folder| folder.join(location))
            .collect::<Vec<_>>()
    };
    locations
        .iter()
        .filter(|location| here(location))
        .flat_map(at)
        .collect()
}

fn content(path: &Path) -> Option<Bytes> {
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    let file = std::fs::File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    file_bytes(file, size).ok()
}

/// Whether the name is what this library gives to this content for a model with this stem.
fn wrote(stem: &str, location: &str, content: &[u8]) -> bool {
    let digits = location
        .strip_prefix(stem)
        .and_then(|rest| rest.strip_prefix('.'))
        .and_then(|rest| rest.strip_suffix(".data"));
    digits.is_some_and(|digits| digits.len() == 16 && blake3::hash(content).to_hex().starts_with(digits))
}

/// Whether other models in a directory record a location.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Readers {
    None,
    Some,
    /// The directory, or a file in it that is called a model, cannot be read.
    Unknown,
}

fn readers(directory: &Path, model: &Path, location: &str) -> Readers {
    let Ok(entries) = directory.read_dir() else {
        return Readers::Unknown;
    };
    let mut found = Readers::None;
    for entry in entries {
        let Ok(entry) = entry else {
            found = Readers::Unknown;
            continue;
        };
        let path = entry.path();
        // The name of a data file begins with that of its model, whatever the model's name ends in.
        let may_read = is_called_model(&path)
            || path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .is_some_and(|stem| {
                    location
                        .strip_prefix(stem)
                        .is_some_and(|rest| rest.starts_with('.') && rest.len() == 22)
                });
        if !may_read || crate::files::same_file(&path, model) {
            continue;
        }
        match content(&path).and_then(external::recorded_locations) {
            Some(locations) if locations.iter().any(|other| steps(other).eq(steps(location))) => {
                return Readers::Some;
            }
            Some(_) => {}
            None => found = Readers::Unknown,
        }
    }
    found
}

/// The first model in a directory, by name, that records a location and is none of `models`.
pub(super) fn other_reader(directory: &Path, location: &str, models: &[&Path]) -> Option<PathBuf> {
    let entries = directory.read_dir().ok()?.flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().find(|path| {
        let other = || !models.iter().any(|model| crate::files::same_file(path, model));
        let records = |locations: Vec<String>| {
            let found = |other: &String| steps(other).eq(steps(location));
            locations.iter().any(found)
        };
        is_called_model(path)
            && other()
            && content(path)
                .and_then(external::recorded_locations)
                .is_some_and(records)
    })
}

fn is_called_model(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"))
}

/// The steps of a relative path, without those that stay in place.
fn steps(location: &str) -> impl Iterator<Item = Component<'_>> {
    Path::new(location)
        .components()
        .filter(|step| *step != Component::CurDir)
}
