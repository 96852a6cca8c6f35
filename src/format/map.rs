//! Files as shared bytes.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::Mmap;

/// Files below this size are read instead of mapped: a page table entry costs more than the copy, and a copy is safe
/// from whoever truncates the file.
const MAPPED_FROM: u64 = 64 * 1024;

/// Mapped files that stay open, so that another process can map them too; the rest is copied for it.
const OPEN: usize = 256;

/// Open files by the address at which they are mapped, with the length of the mapping.
static MAPPED: Mutex<BTreeMap<usize, (usize, Arc<File>)>> = Mutex::new(BTreeMap::new());

/// A mapping that is known by its address as long as it lives.
struct Mapped(Mmap);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let mut mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.remove(&self.0.as_ptr().addr());
    }
}

/// The file that these bytes are mapped from, and where in it they are; `None` for bytes in memory.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) fn mapped_from(bytes: &[u8]) -> Option<(Arc<File>, u64)> {
    let mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let address = bytes.as_ptr().addr();
    let (start, (length, file)) = mapped.range(..=address).next_back()?;
    let offset = address - start;
    (offset.checked_add(bytes.len())? <= *length).then(|| (Arc::clone(file), offset as u64))
}

/// The whole of a regular file: mapped, or read when it is small.
pub(crate) fn file_bytes(mut file: File, size: u64) -> io::Result<Bytes> {
    if size < MAPPED_FROM {
        let mut buffer = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.by_ref().take(MAPPED_FROM).read_to_end(&mut buffer)?;
        return Ok(Bytes::from(buffer));
    }
    let map = map(&file)?;
    let mut mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    if mapped.len() < OPEN {
        mapped.insert(map.as_ptr().addr(), (map.len(), Arc::new(file)));
    }
    drop(mapped);
    Ok(Bytes::from_owner(Mapped(map)))
}

/// The whole of a file that another process may write, as it is at any time.
#[cfg(target_os = "linux")]
pub(crate) fn shared_bytes(file: &File) -> io::Result<Bytes> {
    Ok(Bytes::from_owner(map(file)?))
}

/// The whole of a file that this process writes and another one reads.
#[cfg(target_os = "linux")]
pub(crate) fn shared_bytes_mut(file: &File) -> io::Result<memmap2::MmapMut> {
    // SAFETY: the mapping is of a file without a name that cannot shrink, so every access stays inside of it. This process alone
    // writes it, through this mapping; the other one takes what it reads for untrusted bytes.
    unsafe { memmap2::MmapMut::map_mut(file) }
}

fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is private and read-only, and `Bytes` keeps it alive. Its content is only as stable as the file:
    // secateur itself never writes to an existing file (it renames a new one into place, and the mapping keeps the old
    // inode), but another process that truncates the file makes an access fault (SIGBUS) and one that writes it changes
    // the bytes under us. Every reader here treats the bytes as untrusted and keeps no reference derived from their
    // earlier content, so a change yields wrong numbers or an error and no memory error.
    unsafe { Mmap::map(file) }
}

/// Bytes that a file without a name holds from now on, so that they take no anonymous memory.
pub(crate) fn spill(bytes: &[u8]) -> io::Result<Bytes> {
    let size = bytes.len() as u64;
    if size < MAPPED_FROM {
        return Ok(Bytes::copy_from_slice(bytes));
    }
    let mut file = tempfile::tempfile()?;
    io::Write::write_all(&mut file, bytes)?;
    file_bytes(file, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_mapped_file_know_their_place_until_they_are_gone() {
        let bytes = spill(&vec![7; 100_000]).unwrap();
        let part = bytes.slice(70_000..80_000);
        let (file, offset) = mapped_from(&part).unwrap();
        assert_eq!((file.metadata().unwrap().len(), offset), (100_000, 70_000));
        assert!(mapped_from(&[1, 2, 3]).is_none());
        let address = bytes.as_ptr().addr();
        drop((bytes, part));
        assert!(
            !MAPPED
                .lock()
                .unwrap()
                .get(&address)
                .is_some_and(|(_, known)| Arc::ptr_eq(known, &file))
        );
    }
}
