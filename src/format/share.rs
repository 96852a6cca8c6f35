//! Several models on one data file: what equal tensors hold is stored once, and either all files appear or none.

use std::fs::Permissions;
use std::path::{Path, PathBuf};

use super::error::FormatError;
use super::external;
use super::relocate::{self, Relocation, Repeated, length_of};
use super::retire::{self, Replaced};
use super::save::{WriteOptions, check_output, holds};
use super::transaction::Transaction;
use crate::files::{Fs, OsFs, Temporaries, directory_of, temporaries};

/// A model and the file that it is written to.
#[derive(Clone, Debug)]
pub struct Sharer<'a> {
    /// Where its data are to lie.
    pub relocation: Relocation<'a>,
    /// The file, in the folder of the data file.
    pub output: PathBuf,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// For each model the bytes of its file, and how many bytes of the data file its tensors are.
    pub models: Vec<(u64, u64)>,
    /// Bytes of the data file; `None` where no tensor is large enough, and none was written.
    pub data: Option<u64>,
    /// What is stored once and stands for several tensors.
    pub repeated: Repeated,
    /// Data files of replaced models that were removed.
    pub removed: Vec<PathBuf>,
    /// Data files of replaced models that nothing there is known to need, and that are left as in [`super::Saved`].
    pub left: Vec<PathBuf>,
}

/// Writes models whose tensors lie in the data file `data` beside all of them, as [`Relocation::outside`] has it. Contents stand in the order of
/// the models and of their tensors.
///
/// # Errors
/// What exists is replaced with `force` alone, a data file only where no other model in its folder reads it
/// ([`FormatError::DataInUse`]). Nothing is there then that was not before.
pub fn share(models: Vec<Sharer<'_>>, data: &Path, options: &WriteOptions) -> Result<Shared, FormatError> {
    share_on(&OsFs, temporaries(), models, data, options)
}

/// [`share`] on any file system.
pub fn share_on(
    fs: &dyn Fs,
    temporaries: &Temporaries,
    models: Vec<Sharer<'_>>,
    data: &Path,
    options: &WriteOptions,
) -> Result<Shared, FormatError> {
    let (mut relocations, outputs): (Vec<Relocation<'_>>, Vec<PathBuf>) = models
        .into_iter()
        .map(|model| (model.relocation, model.output))
        .unzip();
    for path in outputs.iter().map(PathBuf::as_path).chain([data]) {
        for relocation in &relocations {
            let options = WriteOptions {
                in_place: false,
                ..options.clone()
            };
            check_output(path, Some(relocation.origin()), &options)?;
        }
    }
    let (content, repeated) = relocate::place(&mut relocations);
    let directory = directory_of(data);
    let name = data
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut save = Transaction::begin(fs, temporaries, data, options.cancelled.as_deref());
    save.collect();
    let mut shared = Shared {
        repeated,
        ..Shared::default()
    };
    let content = content.filled();
    let mut temporary = None;
    if let Some(content) = &content {
        temporary = Some(save.write(&directory, &content.pieces, permissions_of(data))?);
        shared.data = Some(content.bytes());
    }
    let mut files = Vec::with_capacity(outputs.len() + 1);
    for (relocation, output) in relocations.iter().zip(&outputs) {
        let pieces = relocation.message(&name);
        shared.models.push((length_of(&pieces), relocation.read_bytes()));
        let temporary = save.write(&directory, &pieces, permissions_of(output))?;
        files.push((temporary, output.clone()));
    }
    save.begin_publishing();
    if let (Some(temporary), Some(content)) = (temporary, &content) {
        if holds(data, &content.pieces)? {
            save.discard(&temporary)?;
        } else if data.symlink_metadata().is_err() {
            save.publish_data(&temporary, data)?;
            save.sync_directory(&directory)?;
        } else {
            let known: Vec<&Path> = outputs.iter().map(PathBuf::as_path).collect();
            if let Some(model) = retire::other_reader(&directory, &name, &known) {
                let path = data.to_owned();
                return Err(FormatError::DataInUse { path, model });
            }
            files.insert(0, (temporary, data.to_owned()));
        }
    }
    let replaced: Vec<Replaced> = outputs.iter().map(|output| Replaced::of(output)).collect();
    save.publish_set(&files, options.force)?;
    save.sync_directory(&directory)?;
    let is_read = |path: &Path| {
        let mut origins = relocations.iter().map(Relocation::origin);
        origins.any(|origin| external::reads(&origin.external, path))
    };
    for (replaced, output) in replaced.into_iter().zip(&outputs) {
        let (removed, left) = replaced.retire(fs, output, std::slice::from_ref(&name), &is_read);
        shared.removed.extend(removed);
        shared.left.extend(left);
    }
    Ok(shared)
}

/// The permissions of the file at a path, which the one that replaces it gets.
fn permissions_of(path: &Path) -> Option<Permissions> {
    let found = path.symlink_metadata().ok();
    found
        .filter(|found| found.is_file())
        .map(|found| found.permissions())
}
