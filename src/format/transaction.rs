//! One save: its temporary files, their renames, and how all of it is undone.

use std::fs::{File, Permissions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::error::FormatError;
use super::retire::Replaced;
use super::rope::write_pieces;
use crate::files::{
    FolderLock, Fs, FsFile, State, Temporaries, abandoned, directory_of, fresh_name, identity,
};

/// How the names of temporary files end.
const ENDING: &str = ".tmp";

/// A save under way. Dropped before its last rename, it removes what it made.
pub(super) struct Transaction<'a> {
    fs: &'a dyn Fs,
    temporaries: &'a Temporaries,
    began: u64,
    cancelled: Option<&'a AtomicBool>,
    output: &'a Path,
    made: Vec<PathBuf>,
    /// Files that are open until the save is over: as long as they are, nobody takes them for leftovers.
    open: Vec<Box<dyn FsFile>>,
    /// A second name of the model that is replaced, until its data are gone: should this process end before, the next save finds
    /// by it what nobody needs any more.
    replaced: Option<(PathBuf, File)>,
    /// Held from the first name that is given to the last.
    publishing: Option<FolderLock>,
}

impl<'a> Transaction<'a> {
    pub(super) fn begin(
        fs: &'a dyn Fs,
        temporaries: &'a Temporaries,
        output: &'a Path,
        cancelled: Option<&'a AtomicBool>,
    ) -> Self {
        let began = temporaries.lock().cleared;
        Self {
            fs,
            temporaries,
            began,
            cancelled,
            output,
            made: Vec::new(),
            open: Vec::new(),
            replaced: None,
            publishing: None,
        }
    }

    /// Removes what saves of processes that are gone have left in the output's folder: temporary files and, where such a save had
    /// given its data file a name, that data file, unless a model needs it.
    pub(super) fn collect(&self) {
        let directory = directory_of(self.output);
        let _publishing = FolderLock::take(&directory);
        let left = abandoned(&directory, ENDING);
        let models: Vec<Replaced> = left.iter().map(|left| Replaced::of(&left.path)).collect();
        for left in &left {
            // What cannot be removed is no failure of this save.
            let _ = self.fs.remove_file(&left.path);
        }
        for (left, model) in left.iter().zip(models) {
            model.retire_unpublished(self.fs, &left.path);
        }
    }

    /// Waits until no other save in the output's folder gives names to files. What is looked up there from now on stays true until
    /// the save is over.
    pub(super) fn begin_publishing(&mut self) {
        self.publishing = Some(FolderLock::take(&directory_of(self.output)));
    }

    /// Gives the model at `path`, which is about to be replaced, a second name until the save is over.
    pub(super) fn remember(&mut self, path: &Path) -> Result<(), FormatError> {
        let mut state = self.enter()?;
        let name = fresh_name(&directory_of(path), ENDING);
        // Without the lock it would be taken for a leftover while it is none; without the name, or on a system that has no second
        // names, only a process that ends in this moment leaves a file.
        if let Ok(file) = File::open(path)
            && file.try_lock().is_ok()
            && std::fs::hard_link(path, &name).is_ok()
        {
            state.files.insert(name.clone());
            self.replaced = Some((name, file));
        }
        Ok(())
    }

    /// Writes a durable temporary file in `directory`.
    pub(super) fn write(
        &mut self,
        directory: &Path,
        pieces: &[Bytes],
        permissions: Option<Permissions>,
    ) -> Result<PathBuf, FormatError> {
        let (path, mut file) = self.create(directory, permissions)?;
        write_pieces(pieces, &mut *file)
            .and_then(|()| file.sync())
            .map_err(|source| self.failed(source))?;
        self.open.push(file);
        Ok(path)
    }

    /// [`Self::write`], with the digest of the content.
    pub(super) fn write_hashed(
        &mut self,
        directory: &Path,
        pieces: &[Bytes],
        permissions: Option<Permissions>,
    ) -> Result<(PathBuf, blake3::Hash), FormatError> {
        let (path, mut file) = self.create(directory, permissions)?;
        let mut hasher = blake3::Hasher::new();
        for piece in pieces {
            // Chunks, so that the hash reads what the write has just brought into memory.
            for chunk in piece.chunks(1 << 20) {
                hasher.update(chunk);
                file.write_all(chunk).map_err(|source| self.failed(source))?;
            }
        }
        file.sync().map_err(|source| self.failed(source))?;
        self.open.push(file);
        Ok((path, hasher.finalize()))
    }

    /// Removes a temporary file that is not needed after all.
    pub(super) fn discard(&mut self, temporary: &Path) -> Result<(), FormatError> {
        let mut state = self.enter()?;
        self.fs
            .remove_file(temporary)
            .map_err(|source| self.failed(source))?;
        state.files.remove(temporary);
        self.made.retain(|path| path != temporary);
        Ok(())
    }

    /// Renames a data file to a new name. It is removed again unless [`Self::publish_last`] succeeds.
    pub(super) fn publish_data(&mut self, temporary: &Path, target: &Path) -> Result<(), FormatError> {
        let mut state = self.enter()?;
        let before = identity_of(temporary);
        let renamed = self.fs.rename_new(temporary, target);
        // What another process put there is not ours to remove.
        if renamed.is_ok() || (is_gone(temporary) && before.is_some() && identity_of(target) == before) {
            state.files.remove(temporary);
            self.made.retain(|path| path != temporary);
            state.files.insert(target.to_owned());
            self.made.push(target.to_owned());
        }
        renamed.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => FormatError::ExternalOutputExists {
                path: target.to_owned(),
            },
            _ => self.failed(source),
        })
    }

    /// Renames the model into place: from here on the save has happened.
    pub(super) fn publish_last(
        &mut self,
        temporary: &Path,
        target: &Path,
        replace: bool,
    ) -> Result<(), FormatError> {
        let mut state = self.enter()?;
        let renamed = if replace {
            self.fs.replace(temporary, target)
        } else {
            self.fs.rename_new(temporary, target)
        };
        if renamed.is_ok() || is_gone(temporary) {
            for path in self.made.drain(..) {
                state.files.remove(&path);
            }
        }
        renamed.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => FormatError::OutputExists {
                path: target.to_owned(),
            },
            _ => self.failed(source),
        })
    }

    /// Gives several files their names, in order, the data first: all of them or none; then the save has happened. With `replace` what has
    /// these names is moved aside before, and is gone once all is done: no model stands beside data that were written with another one. A
    /// process that is killed in between leaves names without files, and none that leads to something wrong.
    pub(super) fn publish_set(
        &mut self,
        files: &[(PathBuf, PathBuf)],
        replace: bool,
    ) -> Result<(), FormatError> {
        let mut state = self.enter()?;
        let (mut aside, mut named) = (Vec::new(), Vec::new());
        let renamed = self.rename_set(files, replace, &mut aside, &mut named);
        // What fails here is less than what failed before, or leaves a file that nobody needs.
        if renamed.is_ok() {
            for path in self.made.drain(..) {
                state.files.remove(&path);
            }
            for old in &aside {
                let _ = self.fs.remove_file(&old.name);
            }
        } else {
            for target in named.iter().rev() {
                let _ = self.fs.remove_file(target);
            }
            for old in aside.iter().rev() {
                let _ = self.fs.replace(&old.name, old.target);
            }
        }
        renamed
    }

    /// The renames of [`Self::publish_set`], and which of them have happened.
    fn rename_set<'f>(
        &self,
        files: &'f [(PathBuf, PathBuf)],
        replace: bool,
        aside: &mut Vec<Aside<'f>>,
        named: &mut Vec<&'f Path>,
    ) -> Result<(), FormatError> {
        // The data last, so that they are back first.
        for (_, target) in files.iter().rev().filter(|_| replace) {
            if target.symlink_metadata().is_err() {
                continue;
            }
            let name = fresh_name(&directory_of(target), ENDING);
            let file = File::open(target).ok().filter(|file| file.try_lock().is_ok());
            let moved = self.fs.replace(target, &name);
            if moved.is_ok() || is_gone(target) {
                aside.push(Aside {
                    name,
                    target,
                    _file: file,
                });
            }
            moved.map_err(|source| self.failed(source))?;
        }
        for (temporary, target) in files {
            let renamed = self.fs.rename_new(temporary, target);
            if renamed.is_ok() || is_gone(temporary) {
                named.push(target);
            }
            renamed.map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => FormatError::OutputExists {
                    path: target.to_owned(),
                },
                _ => self.failed(source),
            })?;
        }
        Ok(())
    }

    pub(super) fn create_directory(&mut self, path: &Path) -> Result<(), FormatError> {
        self.fs
            .create_directory(path)
            .map_err(|source| self.failed(source))
    }

    pub(super) fn sync_directory(&mut self, path: &Path) -> Result<(), FormatError> {
        self.fs.sync_directory(path).map_err(|source| self.failed(source))
    }

    /// An empty temporary file. It has its permissions before its content.
    fn create(
        &mut self,
        directory: &Path,
        permissions: Option<Permissions>,
    ) -> Result<(PathBuf, Box<dyn FsFile>), FormatError> {
        loop {
            let path = fresh_name(directory, ENDING);
            let mut state = self.enter()?;
            match self.fs.create_new(&path) {
                Ok(mut file) => {
                    state.files.insert(path.clone());
                    self.made.push(path.clone());
                    drop(state);
                    if let Some(permissions) = permissions {
                        file.set_permissions(permissions)
                            .map_err(|source| self.failed(source))?;
                    }
                    return Ok((path, file));
                }
                // Left by a killed process of the same number, or taken for a leftover.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => {
                    // The error may come after the deed. The name is this process's own, and a file that stood there
                    // before would be `AlreadyExists`.
                    let _ = self.fs.remove_file(&path);
                    return Err(self.failed(source));
                }
            }
        }
    }

    /// The lock under which files appear and move; an error once the save has been stopped.
    fn enter(&self) -> Result<MutexGuard<'a, State>, FormatError> {
        let state = self.temporaries.lock();
        let cancelled = self.cancelled.is_some_and(|flag| flag.load(Ordering::Acquire));
        if state.cleared == self.began && !cancelled {
            Ok(state)
        } else {
            Err(FormatError::Interrupted {
                path: self.output.to_owned(),
            })
        }
    }

    fn failed(&self, source: io::Error) -> FormatError {
        FormatError::Write {
            path: self.output.to_owned(),
            source,
        }
    }
}

/// A file that was moved aside.
struct Aside<'f> {
    name: PathBuf,
    target: &'f Path,
    /// Locked, so that nobody takes it for a leftover.
    _file: Option<File>,
}

fn identity_of(path: &Path) -> Option<(u64, u64)> {
    path.symlink_metadata().ok().as_ref().and_then(identity)
}

/// Whether a file has been renamed although the operating system reported an error, as it happens on network file systems:
/// what belongs to a new model must then stay, and what belongs to none must go.
fn is_gone(path: &Path) -> bool {
    matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        let mut state = self.temporaries.lock();
        for path in std::mem::take(&mut self.made) {
            if state.files.remove(&path) {
                // The save has failed already, with an error that says more than this one would.
                let _ = self.fs.remove_file(&path);
            }
        }
        if let Some((name, _)) = self.replaced.take() {
            state.files.remove(&name);
            let _ = self.fs.remove_file(&name);
        }
    }
}
