//! A file that appears under its name when it is complete.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::fs::{Fs as _, OsFs};
use super::identity::directory_of;
use super::lock::{abandoned, hold};
use super::temporaries::{fresh_name, temporaries};

/// How the names of drafts end.
const ENDING: &str = ".part";

/// A file being written, beside the place that it will have. Dropped before [`Draft::publish`], it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    target: PathBuf,
    temporary: PathBuf,
    file: File,
    began: u64,
    published: bool,
}

impl Draft {
    /// An empty draft of the file `target`, with the permissions of the file that stands there. Drafts of processes that are gone
    /// are removed from the folder.
    ///
    /// # Errors
    /// When there can be no such file.
    pub fn create(target: &Path) -> io::Result<Self> {
        let old = target.metadata().ok();
        if old.as_ref().is_some_and(|old| !old.is_file()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }
        let folder = directory_of(target);
        for left in abandoned(&folder, ENDING) {
            // What cannot be removed is no failure of this file.
            let _ = OsFs.remove_file(&left.path);
        }
        loop {
            let temporary = fresh_name(&folder, ENDING);
            let mut state = temporaries().lock();
            let created = OpenOptions::new().write(true).create_new(true).open(&temporary);
            match created.and_then(|file| hold(&temporary, &file).map(|()| file)) {
                Ok(file) => {
                    state.files.insert(temporary.clone());
                    let draft = Self {
                        target: target.to_owned(),
                        temporary,
                        file,
                        began: state.cleared,
                        published: false,
                    };
                    drop(state);
                    if let Some(old) = old {
                        draft.file.set_permissions(old.permissions())?;
                    }
                    return Ok(draft);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the content durable and gives the file its name.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when something has the name and is not to be replaced, else what the system says.
    pub fn publish(mut self, replace: bool) -> io::Result<()> {
        self.file.sync_all()?;
        let mut state = temporaries().lock();
        if state.cleared != self.began {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if replace {
            OsFs.replace(&self.temporary, &self.target)?;
        } else {
            OsFs.rename_new(&self.temporary, &self.target)?;
        }
        state.files.remove(&self.temporary);
        self.published = true;
        drop(state);
        OsFs.sync_directory(&directory_of(&self.target))
    }

    /// A whole file at once.
    ///
    /// # Errors
    /// As [`Self::create`] and [`Self::publish`].
    pub fn write_file(target: &Path, content: &[u8], replace: bool) -> io::Result<()> {
        let mut draft = Self::create(target)?;
        draft.write_all(content)?;
        draft.publish(replace)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Draft {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let mut state = temporaries().lock();
        if !self.published && state.files.remove(&self.temporary) {
            // The write has failed already, with an error that says more than this one would.
            let _ = OsFs.remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = folder.read_dir().unwrap().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_complete_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("report.json");
        let mut draft = Draft::create(&target).unwrap();
        draft.write_all(b"half").unwrap();
        assert!(!target.exists());
        drop(draft);
        assert!(names(folder.path()).is_empty());
        Draft::write_file(&target, b"whole", false).unwrap();
        let refused = Draft::write_file(&target, b"other", false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&target).unwrap(), b"whole");
        // A leftover of a process that is gone.
        std::fs::write(folder.path().join(".secateur-1-7.part"), "left").unwrap();
        Draft::write_file(&target, b"other", true).unwrap();
        assert_eq!(names(folder.path()), ["report.json"]);
        assert_eq!(std::fs::read(&target).unwrap(), b"other");
        assert!(Draft::create(folder.path()).is_err());
    }
}
