//! Files as shared bytes.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};

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
    Ok(Bytes::from_owner(map))
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
