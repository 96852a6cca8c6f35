//! Files as shared bytes.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use memmap2::Mmap;

/// Files below this size are read instead of mapped: a page table entry costs more than the copy, and a copy is safe
/// from whoever truncates the file.
const MAPPED_FROM: u64 = 64 * 1024;

/// Mapped files that stay open, so that another process can map them too; the rest is copied for it.
const OPEN: usize = 256;

/// Mapped files by the address at which they are mapped.
static MAPPED: Mutex<BTreeMap<usize, Known>> = Mutex::new(BTreeMap::new());

/// What is known of a mapping as long as it lives.
struct Known {
    map: Weak<Mmap>,
    /// The file, where it stays open.
    file: Option<Arc<File>>,
}

fn known() -> MutexGuard<'static, BTreeMap<usize, Known>> {
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mapping that is known by its address as long as it lives.
struct Mapped(Arc<Mmap>);

impl Mapped {
    fn new(map: Mmap, file: Option<File>) -> Self {
        let map = Arc::new(map);
        let mut known = known();
        let open = known.values().filter(|known| known.file.is_some()).count();
        let entry = Known {
            map: Arc::downgrade(&map),
            file: file.filter(|_| open < OPEN).map(Arc::new),
        };
        known.insert(map.as_ptr().addr(), entry);
        drop(known);
        Self(map)
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        known().remove(&self.0.as_ptr().addr());
    }
}

/// The mapping that holds these bytes, with its file where that is open, and where in it they are; `None` for bytes in memory.
fn mapping_of(bytes: &[u8]) -> Option<(Arc<Mmap>, Option<Arc<File>>, usize)> {
    let known = known();
    let address = bytes.as_ptr().addr();
    let (start, entry) = known.range(..=address).next_back()?;
    let map = entry.map.upgrade()?;
    let offset = address - start;
    let inside = offset.checked_add(bytes.len())? <= map.len();
    inside.then(|| (map, entry.file.clone(), offset))
}

/// The file that these bytes are mapped from, and where in it they are; `None` for bytes in memory.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) fn mapped_from(bytes: &[u8]) -> Option<(Arc<File>, u64)> {
    let (_, file, offset) = mapping_of(bytes)?;
    Some((file?, offset as u64))
}

/// The whole of a regular file: mapped, or read when it is small.
pub(crate) fn file_bytes(mut file: File, size: u64) -> io::Result<Bytes> {
    if size < MAPPED_FROM {
        let mut buffer = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.by_ref().take(MAPPED_FROM).read_to_end(&mut buffer)?;
        return Ok(Bytes::from(buffer));
    }
    let map = map(&file)?;
    Ok(Bytes::from_owner(Mapped::new(map, Some(file))))
}

/// The whole of a file that another process may write, as it is at any time.
#[cfg(target_os = "linux")]
pub(crate) fn shared_bytes(file: &File) -> io::Result<Bytes> {
    Ok(Bytes::from_owner(Mapped::new(map(file)?, None)))
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

/// Lets go of the memory behind bytes of a mapped file; they are read from the file again when they are next looked at. Other
/// bytes stay.
pub(crate) fn release(bytes: &[u8]) {
    let Some((map, _, offset)) = mapping_of(bytes) else {
        return;
    };
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
        let again = known().get(&address).and_then(|known| known.file.clone());
        assert!(!again.is_some_and(|known| Arc::ptr_eq(&known, &file)));
    }
}
