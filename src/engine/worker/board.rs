//! Memory that the program and its worker share: a file without a name and without a disk.

use std::fs::File;
use std::io;
use std::sync::LazyLock;

use bytes::Bytes;
use memmap2::MmapMut;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{Resource, getrlimit};

use crate::format::{shared_bytes, shared_bytes_mut};

/// What a board has from the start; it grows by itself.
const LEAST: u64 = 1 << 20;

/// One direction of a lane: one side writes, the other reads, never both at a time.
#[derive(Debug)]
pub(super) struct Board {
    file: File,
    /// What is read of it.
    map: Bytes,
    /// Where it is written.
    written: Option<MmapMut>,
}

impl Board {
    /// An empty board. It never shrinks, so that what is mapped stays there.
    pub(super) fn new() -> io::Result<Self> {
        let file = memory()?;
        if !limited() {
            file.set_len(LEAST)?;
        }
        fcntl_add_seals(&file, SealFlags::SHRINK)?;
        Ok(Self::of(file))
    }

    /// The other side of a board.
    pub(super) fn of(file: File) -> Self {
        Self {
            file,
            map: Bytes::new(),
            written: None,
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: u64) -> io::Result<()> {
        let short = || io::Error::from(io::ErrorKind::StorageFull);
        let end = at.checked_add(bytes.len() as u64).ok_or_else(short)?;
        let known = self.written.as_ref().map_or(0, |map| map.len() as u64);
        if known < end {
            if limited() {
                return Err(short());
            }
            if self.file.metadata()?.len() < end {
                self.file.set_len(end.next_multiple_of(LEAST).max(known * 2))?;
            }
            self.written = Some(shared_bytes_mut(&self.file)?);
        }
        let map = self.written.as_mut().ok_or_else(short)?;
        map.get_mut(at as usize..end as usize)
            .ok_or_else(short)?
            .copy_from_slice(bytes);
        Ok(())
    }

    /// The board's content as it is at any time, at least so many bytes of it.
    pub(super) fn read(&mut self, bytes: u64) -> io::Result<Bytes> {
        if bytes > self.map.len() as u64 {
            self.map = shared_bytes(&self.file)?;
        }
        Ok(self.map.clone())
    }
}

/// Whether files of this process may not grow as they like, these among them: then everything goes through the sockets.
fn limited() -> bool {
    static LIMITED: LazyLock<bool> = LazyLock::new(|| getrlimit(Resource::Fsize).current.is_some());
    *LIMITED
}

/// A file that lives in memory as long as somebody has it open.
pub(super) fn memory() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(File::from(memfd_create("secateur", flags)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_a_gibibyte_and_beyond_32_bits_cross() {
        if limited() {
            return;
        }
        let mut written = Board::new().unwrap();
        let mut read = Board::of(written.file().try_clone().unwrap());
        // Pages that nobody writes take no memory.
        for at in [0, (1u64 << 30) + 5, (5u64 << 30) - 3] {
            let bytes = at.to_le_bytes();
            written.write(&bytes, at).unwrap();
            let found = read.read(at + 8).unwrap();
            assert_eq!(found.get(at as usize..at as usize + 8), Some(&bytes[..]));
        }
    }
}
