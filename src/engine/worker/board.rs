//! Memory that the program and its worker share: a file without a name and without a disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use bytes::Bytes;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::format::shared_bytes;

/// What a board has from the start; it grows by itself.
const LEAST: u64 = 1 << 20;

/// One direction of a lane: one side writes, the other reads, never both at a time.
#[derive(Debug)]
pub(super) struct Board {
    file: File,
    map: Bytes,
}

impl Board {
    /// An empty board. It never shrinks, so that what is mapped stays there.
    pub(super) fn new() -> io::Result<Self> {
        let file = memory()?;
        file.set_len(LEAST)?;
        fcntl_add_seals(&file, SealFlags::SHRINK)?;
        Ok(Self::of(file))
    }

    /// The other side of a board.
    pub(super) fn of(file: File) -> Self {
        Self {
            file,
            map: Bytes::new(),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// The board's content as it is at any time, at least so many bytes of it.
    pub(super) fn read(&mut self, bytes: u64) -> io::Result<Bytes> {
        if bytes > self.map.len() as u64 {
            self.map = shared_bytes(&self.file)?;
        }
        Ok(self.map.clone())
    }
}

/// A file that lives in memory as long as somebody has it open.
pub(super) fn memory() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(File::from(memfd_create("secateur", flags)?))
}
