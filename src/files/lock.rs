//! Who still needs a file: a lock lives as long as the process that holds it, however that process ends.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::identity::identity;

/// How long a save waits for another one in the same folder. A process that was stopped in the middle of one must not stop all
/// others; without the lock a save is all or nothing as well.
const PATIENCE: Duration = Duration::from_secs(30);

/// The folder in which a save gives its files their names. One process at a time holds it, where the system can lock folders.
#[derive(Debug)]
pub(crate) struct FolderLock(#[allow(dead_code)] Option<File>);

impl FolderLock {
    /// Waits for the lock.
    pub(crate) fn take(folder: &Path) -> Self {
        let Ok(file) = File::open(folder) else {
            return Self(None);
        };
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Self(Some(file)),
                Err(TryLockError::WouldBlock) if started.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(_) => return Self(None),
            }
        }
    }
}

/// Marks a temporary file as this process's own for as long as it is open.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when another process has taken it for a leftover in between: the name is not to be used.
pub(crate) fn hold(path: &Path, file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) if is_at(file, path) => Ok(()),
        Ok(()) | Err(TryLockError::WouldBlock) => Err(io::ErrorKind::AlreadyExists.into()),
        // A file system without locks; nobody can take the file for a leftover there.
        Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// A temporary file of a process that is gone.
#[derive(Debug)]
pub(crate) struct Leftover {
    pub(crate) path: PathBuf,
    /// Holds the lock, so that nobody else collects it, too.
    _file: File,
}

/// How the name of each temporary file begins.
pub(super) const PREFIX: &str = ".secateur-";

/// The temporary files with this ending in a folder whose processes are gone.
pub(crate) fn abandoned(folder: &Path, ending: &str) -> Vec<Leftover> {
    let mut found = Vec::new();
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if !name.starts_with(PREFIX) || !name.ends_with(ending) {
            continue;
        }
        let path = entry.path();
        if !path.symlink_metadata().is_ok_and(|found| found.is_file()) {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() && is_at(&file, &path) {
            found.push(Leftover { path, _file: file });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Whether the path still leads to the open file.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(open), Ok(there)) => identity(&open) == identity(&there),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_nobody_holds_are_abandoned() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            ".secateur-1-0.tmp",
            ".secateur-2-0.tmp",
            ".secateur-2-1.part",
            "other.tmp",
        ] {
            std::fs::write(at(name), "x").unwrap();
        }
        let held = File::open(at(".secateur-1-0.tmp")).unwrap();
        hold(&at(".secateur-1-0.tmp"), &held).unwrap();
        let names = |ending: &str| -> Vec<PathBuf> {
            abandoned(folder.path(), ending)
                .into_iter()
                .map(|left| left.path)
                .collect()
        };
        assert_eq!(names(".tmp"), [at(".secateur-2-0.tmp")]);
        assert_eq!(names(".part"), [at(".secateur-2-1.part")]);
        drop(held);
        assert_eq!(names(".tmp").len(), 2);
        // What somebody collects at this moment is not to be used.
        let collected = abandoned(folder.path(), ".tmp");
        let late = File::open(at(".secateur-1-0.tmp")).unwrap();
        assert_eq!(
            hold(&at(".secateur-1-0.tmp"), &late).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        drop(collected);
    }
}
