//! One save: its temporary files, their renames, and how all of it is undone.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::error::FormatError;
use super::fs::{Fs, FsFile};
use super::location::identity;
use super::rope::write_pieces;

/// The temporaries of this process.
pub(super) static TEMPORARIES: Temporaries = Temporaries::new();

/// The files that exist only because a save is under way, so that a signal handler can remove them.
#[derive(Debug, Default)]
pub struct Temporaries {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the calls of [`Temporaries::clear`]: a save that began before the last one must not go on.
    cleared: u64,
    files: BTreeSet<PathBuf>,
}

impl Temporaries {
    /// An empty set.
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                cleared: 0,
                files: BTreeSet::new(),
            }),
        }
    }

    /// Removes the files of all saves under way and stops those saves.
    pub fn clear(&self, fs: &dyn Fs) {
        // The lock is held until the files are gone, and a save renames under the same lock: no model is renamed into
        // place after its data has been removed.
        let mut state = self.lock();
        state.cleared += 1;
        for path in std::mem::take(&mut state.files) {
            // There is nobody to tell, and the next file must go all the same.
            let _ = fs.remove_file(&path);
        }
    }

    /// The files at this moment.
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock().files.iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A save under way. Dropped before its last rename, it removes what it made.
pub(super) struct Transaction<'a> {
    fs: &'a dyn Fs,
    temporaries: &'a Temporaries,
    began: u64,
    output: &'a Path,
    made: Vec<PathBuf>,
}

impl<'a> Transaction<'a> {
    pub(super) fn begin(fs: &'a dyn Fs, temporaries: &'a Temporaries, output: &'a Path) -> Self {
        let began = temporaries.lock().cleared;
        Self {
            fs,
            temporaries,
            began,
            output,
            made: Vec::new(),
        }
    }

    /// Writes a durable temporary file in `directory`.
    pub(super) fn write(
        &mut self,
        directory: &Path,
        pieces: &[Bytes],
        permissions: Option<Permissions>,
    ) -> Result<PathBuf, FormatError> {
        let (path, mut file) = self.create(directory)?;
        let write = || {
            write_pieces(pieces, &mut *file)?;
            if let Some(permissions) = permissions {
                file.set_permissions(permissions)?;
            }
            file.sync()
        };
        write().map_err(|source| self.failed(source))?;
        Ok(path)
    }

    /// [`Self::write`], with the digest of the content.
    pub(super) fn write_hashed(
        &mut self,
        directory: &Path,
        pieces: &[Bytes],
    ) -> Result<(PathBuf, blake3::Hash), FormatError> {
        let (path, mut file) = self.create(directory)?;
        let mut hasher = blake3::Hasher::new();
        for piece in pieces {
            // Chunks, so that the hash reads what the write has just brought into memory.
            for chunk in piece.chunks(1 << 20) {
                hasher.update(chunk);
                file.write_all(chunk).map_err(|source| self.failed(source))?;
            }
        }
        file.sync().map_err(|source| self.failed(source))?;
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

    pub(super) fn create_directory(&mut self, path: &Path) -> Result<(), FormatError> {
        self.fs
            .create_directory(path)
            .map_err(|source| self.failed(source))
    }

    pub(super) fn sync_directory(&mut self, path: &Path) -> Result<(), FormatError> {
        self.fs.sync_directory(path).map_err(|source| self.failed(source))
    }

    fn create(&mut self, directory: &Path) -> Result<(PathBuf, Box<dyn FsFile>), FormatError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = directory.join(format!(".secateur-{}-{number}.tmp", std::process::id()));
            let mut state = self.enter()?;
            match self.fs.create_new(&path) {
                Ok(file) => {
                    state.files.insert(path.clone());
                    self.made.push(path.clone());
                    return Ok((path, file));
                }
                // Left by a killed process of the same number.
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
        if state.cleared == self.began {
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
    }
}
