//! Files as shared bytes.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use memmap2::Mmap;

/// Files below this size are read instead of mapped: a page table entry costs more than the copy, and a copy is safe
/// from whoever truncates the file.
const MAPPED_FROM: u64 = 64 * 1024;

/// The whole of a regular file: mapped, or read when it is small.
pub(crate) fn file_bytes(mut file: File, size: u64) -> io::Result<Bytes> {
    if size < MAPPED_FROM {
        let mut buffer = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.by_ref().take(MAPPED_FROM).read_to_end(&mut buffer)?;
        return Ok(Bytes::from(buffer));
    }
    // SAFETY: the mapping is private and read-only, and `Bytes` keeps it alive. Its content is only as stable as the file:
    // secateur itself never writes to an existing file (it renames a new one into place, and the mapping keeps the old
    // inode), but another process that truncates the file makes an access fault (SIGBUS) and one that writes it changes
    // the bytes under us. Every reader here treats the bytes as untrusted and keeps no reference derived from their
    // earlier content, so a change yields wrong numbers or an error and no memory error.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(Mapping::new(map)))
}

/// A mapped file, known to [`release`] while it lives.
struct Mapping(Arc<Mmap>);

/// Mapped files by their first address.
static MAPPED: Mutex<BTreeMap<usize, Weak<Mmap>>> = Mutex::new(BTreeMap::new());

impl Mapping {
    fn new(map: Mmap) -> Self {
        let map = Arc::new(map);
        let mut mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.insert(map.as_ptr().addr(), Arc::downgrade(&map));
        Self(map)
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let mut mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
        mapped.remove(&self.0.as_ptr().addr());
    }
}

/// Lets go of the memory behind bytes of a mapped file; they are read from the file again when they are next looked at. Other
/// bytes stay.
pub(crate) fn release(bytes: &[u8]) {
    let start = bytes.as_ptr().addr();
    let mapped = MAPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((first, map)) = mapped.range(..=start).next_back() else {
        return;
    };
    let Some(map) = map.upgrade() else { return };
    let offset = start - first;
    if offset + bytes.len() > map.len() {
        return;
    }
    #[cfg(unix)]
    // SAFETY: the range lies in a read-only mapping of a file that nothing has written through, so whoever reads it afterwards
    // gets the bytes of the file, as before.
    let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, bytes.len()) };
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
