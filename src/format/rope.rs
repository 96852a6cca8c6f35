//! A buffer of shared pieces: encoding a model into it copies headers and no large tensor.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, Write};

use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Pieces from this size on are kept by reference.
const SHARED_FROM: usize = 4096;
/// Room that the tail grows by.
const TAIL: usize = 16 * 1024;
/// Pieces handed to the operating system at once.
const VECTORED: usize = 64;

/// Bytes in pieces, in order. Large [`Bytes`] that are put into it are shared, everything else is collected in a tail.
#[derive(Debug, Default)]
pub struct Rope {
    pieces: Vec<Bytes>,
    sealed: u64,
    tail: BytesMut,
}

impl Rope {
    /// An empty rope.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.sealed + self.tail.len() as u64
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends shared bytes without copying them.
    pub fn push(&mut self, bytes: Bytes) {
        self.seal();
        if !bytes.is_empty() {
            self.sealed += bytes.len() as u64;
            self.pieces.push(bytes);
        }
    }

    /// The pieces, in order.
    pub fn into_pieces(mut self) -> Vec<Bytes> {
        self.seal();
        self.pieces
    }

    /// Writes everything, several pieces a call.
    pub fn write_to(self, output: &mut dyn Write) -> io::Result<()> {
        write_pieces(&self.into_pieces(), output)
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.sealed += self.tail.len() as u64;
            self.pieces.push(self.tail.split().freeze());
        }
    }
}

/// Writes all pieces, retrying short and interrupted writes.
pub(super) fn write_pieces(pieces: &[Bytes], output: &mut dyn Write) -> io::Result<()> {
    for group in pieces.chunks(VECTORED) {
        let mut slices: Vec<IoSlice<'_>> = group.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match output.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

// SAFETY: `chunk_mut` returns the spare capacity of the tail, and `advance_mut` passes the caller's promise (that so many
// bytes of that chunk are initialised) on to the tail, which is the buffer the chunk came from: between the two calls
// nothing else can take or move the tail, because both take `&mut self`. Bytes that are put by reference are initialised
// by being `Bytes`.
unsafe impl BufMut for Rope {
    fn remaining_mut(&self) -> usize {
        usize::MAX - self.tail.len()
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        // SAFETY: the caller's promise is about the chunk that `chunk_mut` gave out, which is the tail's.
        unsafe { self.tail.advance_mut(count) }
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        if self.tail.len() == self.tail.capacity() {
            self.tail.reserve(TAIL);
        }
        self.tail.chunk_mut()
    }

    fn put<T: Buf>(&mut self, mut source: T)
    where
        Self: Sized,
    {
        while source.has_remaining() {
            let length = source.chunk().len();
            if length >= SHARED_FROM {
                // For `Bytes` this is a reference count, not a copy.
                self.push(source.copy_to_bytes(length));
            } else {
                self.put_slice(source.chunk());
                source.advance(length);
            }
        }
    }

    fn put_slice(&mut self, source: &[u8]) {
        if self.tail.capacity() - self.tail.len() < source.len() {
            self.tail.reserve(source.len().max(TAIL));
        }
        self.tail.extend_from_slice(source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bytes_are_shared_and_the_order_is_kept() {
        let large = Bytes::from(vec![7u8; SHARED_FROM]);
        let mut rope = Rope::new();
        rope.put_u8(1);
        rope.put(large.clone());
        rope.put_slice(&[2, 3]);
        rope.put(Bytes::from_static(&[4]));
        assert_eq!(rope.len(), SHARED_FROM as u64 + 4);
        let pieces = rope.into_pieces();
        assert!(pieces.iter().any(|piece| piece.as_ptr() == large.as_ptr()));
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        assert_eq!(all, [vec![1], vec![7; SHARED_FROM], vec![2, 3, 4]].concat());
    }

    #[test]
    fn many_small_puts_make_few_pieces() {
        let mut rope = Rope::new();
        let mut expected = Vec::new();
        for index in 0..100_000u32 {
            rope.put_u32_le(index);
            expected.extend_from_slice(&index.to_le_bytes());
        }
        assert_eq!(rope.len(), expected.len() as u64);
        let mut written = Vec::new();
        let pieces = rope.into_pieces();
        assert!(pieces.len() < 10);
        write_pieces(&pieces, &mut written).unwrap();
        assert_eq!(written, expected);
    }

    struct Trickle(Vec<u8>, usize);
    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            if self.1.is_multiple_of(3) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = bytes.len().min(5);
            self.0.extend_from_slice(&bytes[..length]);
            Ok(length)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn short_and_interrupted_writes_are_retried() {
        let pieces: Vec<Bytes> = (0..200u8)
            .map(|byte| Bytes::from(vec![byte; 1 + byte as usize % 13]))
            .collect();
        let mut output = Trickle(Vec::new(), 0);
        write_pieces(&pieces, &mut output).unwrap();
        assert_eq!(output.0, pieces.concat());
    }
}
