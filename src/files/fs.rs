//! The writing half of a file system, behind a trait so that tests can make any operation fail.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::path::Path;

/// What a save asks of a file system.
pub trait Fs: Send + Sync {
    /// Creates a file that must not exist; as long as it is open, no other process takes it for a leftover.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>>;
    /// Moves `from` to `to` in one step, replacing what is there.
    fn replace(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Moves `from` to `to` in one step; [`io::ErrorKind::AlreadyExists`] if something is there.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory and its parents.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes renames in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// A file being written.
pub trait FsFile: Write {
    /// Makes the content durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Gives the file these permissions.
    fn set_permissions(&mut self, permissions: Permissions) -> io::Result<()>;
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFs;

impl FsFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn set_permissions(&mut self, permissions: Permissions) -> io::Result<()> {
        File::set_permissions(self, permissions)
    }
}

impl Fs for OsFs {
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn FsFile>> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        super::lock::hold(path, &file)?;
        Ok(Box::new(file))
    }

    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut source = tempfile::TempPath::try_from_path(from)?;
        // The save decides what is removed, not this handle.
        source.disable_cleanup(true);
        source.persist_noclobber(to).map_err(|failed| failed.error)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    #[cfg(unix)]
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    #[cfg(not(unix))]
    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        // Directories cannot be opened for this here; the rename itself is journaled.
        Ok(())
    }
}
