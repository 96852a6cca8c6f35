//! Messages between the program and its worker: numbers, names and tensors as bytes.
//!
//! Small parts stand in the message. Large ones lie in memory that both sides share ([`super::board`]), or in a file that both have
//! mapped, and the message says where.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;

use super::board::Board;
use crate::engine::{EngineError, RunValue, RunValues};
use crate::format::mapped_from;
use crate::ir::{DType, Imports, OpsetImport, Tensor};

/// Parts of fewer bytes stand in the message.
const INLINE: usize = 2048;
/// Where a part begins in shared memory is a multiple of this, so that its elements can be read in place.
const ALIGNED: u64 = 64;
/// Files that one message can refer to; one more carries its own large parts.
pub(super) const FILES: usize = 127;
/// Values within values: as deep as a message goes.
const DEPTH: usize = 64;

/// A message that does not hold what its reader looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Torn;

type Read<T> = Result<T, Torn>;

/// A message in the making.
pub(in crate::engine) struct Writer<'b> {
    pub(super) head: Vec<u8>,
    pub(super) files: Vec<Arc<File>>,
    board: &'b mut Board,
    at: u64,
    mapped: bool,
}

impl<'b> Writer<'b> {
    /// A message whose large parts go to `board`.
    pub(super) fn new(board: &'b mut Board) -> Self {
        Self {
            head: Vec::new(),
            files: Vec::new(),
            board,
            at: 0,
            mapped: false,
        }
    }

    /// A message that goes on; its large parts go to `board` from `at` on.
    pub(super) fn resume(board: &'b mut Board, head: Vec<u8>, at: u64) -> Self {
        Self {
            head,
            at,
            ..Self::new(board)
        }
    }

    /// The same; what is mapped from a file stays there.
    pub(super) fn with_files(board: &'b mut Board) -> Self {
        Self {
            mapped: true,
            ..Self::new(board)
        }
    }

    /// Bytes of shared memory that the message takes.
    pub(super) fn shared(&self) -> u64 {
        self.at
    }

    pub(in crate::engine) fn number(&mut self, value: u64) {
        self.head.extend_from_slice(&value.to_le_bytes());
    }

    pub(in crate::engine) fn signed(&mut self, value: i64) {
        self.number(value as u64);
    }

    pub(in crate::engine) fn float(&mut self, value: f64) {
        self.number(value.to_bits());
    }

    pub(in crate::engine) fn flag(&mut self, value: bool) {
        self.head.push(u8::from(value));
    }

    pub(in crate::engine) fn text(&mut self, value: &str) {
        self.number(value.len() as u64);
        self.head.extend_from_slice(value.as_bytes());
    }

    pub(in crate::engine) fn texts(&mut self, values: &[String]) {
        self.number(values.len() as u64);
        values.iter().for_each(|value| self.text(value));
    }

    pub(in crate::engine) fn optional(&mut self, value: Option<&str>) {
        self.flag(value.is_some());
        if let Some(value) = value {
            self.text(value);
        }
    }

    pub(in crate::engine) fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() >= INLINE {
            if self.mapped
                && let Some((file, offset)) = mapped_from(bytes)
                && let Some(index) = self.file(&file)
            {
                self.head.push(2);
                self.number(index as u64);
                self.number(offset);
                self.number(bytes.len() as u64);
                return;
            }
            let at = self.at.next_multiple_of(ALIGNED);
            if self.board.write(bytes, at).is_ok() {
                self.at = at + bytes.len() as u64;
                self.head.push(1);
                self.number(at);
                self.number(bytes.len() as u64);
                return;
            }
        }
        self.head.push(0);
        self.number(bytes.len() as u64);
        self.head.extend_from_slice(bytes);
    }

    /// The place of a file among those of the message; `None` where there are too many.
    fn file(&mut self, file: &Arc<File>) -> Option<usize> {
        let known = self.files.iter().position(|known| Arc::ptr_eq(known, file));
        known.or_else(|| {
            (self.files.len() < FILES).then(|| {
                self.files.push(Arc::clone(file));
                self.files.len() - 1
            })
        })
    }

    pub(in crate::engine) fn dims(&mut self, dims: &[u64]) {
        self.number(dims.len() as u64);
        dims.iter().for_each(|dim| self.number(*dim));
    }

    pub(in crate::engine) fn tensor(&mut self, tensor: &Tensor) {
        self.signed(i64::from(tensor.dtype().onnx()));
        self.dims(tensor.dims());
        match tensor.raw() {
            Ok(raw) => {
                self.flag(true);
                self.bytes(&raw);
            }
            Err(_) => {
                self.flag(false);
                let strings = tensor.strings().unwrap_or(&[]);
                self.number(strings.len() as u64);
                strings.iter().for_each(|string| self.bytes(string));
            }
        }
    }

    pub(in crate::engine) fn tensors(&mut self, tensors: &[(String, Tensor)]) {
        self.number(tensors.len() as u64);
        for (name, tensor) in tensors {
            self.text(name);
            self.tensor(tensor);
        }
    }

    fn value(&mut self, value: &RunValue) {
        match value {
            RunValue::Tensor(tensor) => {
                self.head.push(0);
                self.tensor(tensor);
            }
            RunValue::Sequence(values) => {
                self.head.push(1);
                self.number(values.len() as u64);
                values.iter().for_each(|value| self.value(value));
            }
            RunValue::Optional(value) => {
                self.head.push(2);
                self.flag(value.is_some());
                if let Some(value) = value {
                    self.value(value);
                }
            }
            RunValue::Map(keys, value) => {
                self.head.push(3);
                self.tensor(keys);
                self.value(value);
            }
        }
    }

    pub(in crate::engine) fn values(&mut self, values: &RunValues) {
        self.number(values.len() as u64);
        for (name, value) in values {
            self.text(name);
            self.value(value);
        }
    }

    pub(in crate::engine) fn imports(&mut self, imports: &Imports) {
        self.number(imports.len() as u64);
        for import in imports {
            self.optional(import.domain.as_ref().map(|domain| domain.as_str()));
            self.flag(import.version.is_some());
            self.signed(import.version.unwrap_or(0));
        }
    }

    /// An error that an engine gives; those of the worker itself are made on the other side.
    pub(super) fn error(&mut self, error: &EngineError) {
        match error {
            EngineError::Unsupported {
                operator,
                node,
                reason,
                ..
            } => {
                self.head.push(0);
                self.text(operator);
                self.optional(node.as_deref());
                self.text(reason);
            }
            EngineError::Input { name, reason } => {
                self.head.push(1);
                self.text(name);
                self.text(reason);
            }
            EngineError::Shapes {
                node,
                operator,
                reason,
            } => {
                self.head.push(2);
                self.text(node);
                self.text(operator);
                self.text(reason);
            }
            EngineError::Unavailable { reason, .. } => {
                self.head.push(3);
                self.text(reason);
            }
            EngineError::Failed { reason, .. } => {
                self.head.push(4);
                self.text(reason);
            }
            other => {
                self.head.push(4);
                self.text(&other.to_string());
            }
        }
    }
}

/// A message that is read.
pub(in crate::engine) struct Reader<'m> {
    head: &'m [u8],
    shared: Bytes,
    files: &'m [Bytes],
}

impl<'m> Reader<'m> {
    pub(super) fn new(head: &'m [u8], shared: Bytes, files: &'m [Bytes]) -> Self {
        Self { head, shared, files }
    }

    fn take(&mut self, count: usize) -> Read<&'m [u8]> {
        let (taken, rest) = self.head.split_at_checked(count).ok_or(Torn)?;
        self.head = rest;
        Ok(taken)
    }

    /// Whether nothing is left of the message.
    pub(super) fn is_at_end(&self) -> bool {
        self.head.is_empty()
    }

    pub(super) fn tag(&mut self) -> Read<u8> {
        self.take(1)?.first().copied().ok_or(Torn)
    }

    pub(in crate::engine) fn number(&mut self) -> Read<u64> {
        let bytes = self.take(8)?.try_into().map_err(|_| Torn)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A number of things that follow, each of at least one byte.
    pub(in crate::engine) fn count(&mut self) -> Read<usize> {
        let count = usize::try_from(self.number()?).map_err(|_| Torn)?;
        if count > self.head.len() {
            return Err(Torn);
        }
        Ok(count)
    }

    pub(in crate::engine) fn signed(&mut self) -> Read<i64> {
        Ok(self.number()? as i64)
    }

    pub(in crate::engine) fn float(&mut self) -> Read<f64> {
        Ok(f64::from_bits(self.number()?))
    }

    pub(in crate::engine) fn flag(&mut self) -> Read<bool> {
        Ok(self.tag()? != 0)
    }

    pub(in crate::engine) fn text(&mut self) -> Read<String> {
        let length = self.count()?;
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| Torn)
    }

    pub(in crate::engine) fn texts(&mut self) -> Read<Vec<String>> {
        (0..self.count()?).map(|_| self.text()).collect()
    }

    pub(in crate::engine) fn optional(&mut self) -> Read<Option<String>> {
        self.flag()?.then(|| self.text()).transpose()
    }

    /// Bytes in the place where they are: what lies in shared memory is the writer's again with the next message.
    pub(in crate::engine) fn bytes(&mut self) -> Read<Bytes> {
        let range = |start: u64, length: u64, all: &Bytes| {
            let start = usize::try_from(start).map_err(|_| Torn)?;
            let end = start
                .checked_add(usize::try_from(length).map_err(|_| Torn)?)
                .filter(|end| *end <= all.len())
                .ok_or(Torn)?;
            Ok(all.slice(start..end))
        };
        match self.tag()? {
            0 => {
                let length = self.count()?;
                Ok(Bytes::copy_from_slice(self.take(length)?))
            }
            1 => {
                let (start, length) = (self.number()?, self.number()?);
                range(start, length, &self.shared)
            }
            2 => {
                let index = usize::try_from(self.number()?).map_err(|_| Torn)?;
                let (start, length) = (self.number()?, self.number()?);
                range(start, length, self.files.get(index).ok_or(Torn)?)
            }
            _ => Err(Torn),
        }
    }

    pub(in crate::engine) fn dims(&mut self) -> Read<Vec<u64>> {
        (0..self.count()?).map(|_| self.number()).collect()
    }

    /// A tensor over the bytes where they are, or over a copy of them.
    fn tensor_as(&mut self, copied: bool) -> Read<Tensor> {
        let dtype = i32::try_from(self.signed()?)
            .ok()
            .and_then(DType::from_onnx)
            .ok_or(Torn)?;
        let dims = self.dims()?;
        if self.flag()? {
            let bytes = self.bytes()?;
            let bytes = if copied {
                Bytes::copy_from_slice(&bytes)
            } else {
                bytes
            };
            return Tensor::from_raw(dtype, dims, bytes).map_err(|_| Torn);
        }
        let strings: Vec<Bytes> = (0..self.count()?)
            .map(|_| self.bytes().map(|bytes| Bytes::copy_from_slice(&bytes)))
            .collect::<Read<_>>()?;
        Tensor::from_strings(&dims, strings).map_err(|_| Torn)
    }

    /// Named tensors that stay where they are.
    pub(in crate::engine) fn tensors(&mut self) -> Read<Vec<(String, Tensor)>> {
        (0..self.count()?)
            .map(|_| Ok((self.text()?, self.tensor_as(false)?)))
            .collect()
    }

    /// A tensor that stays where it is.
    pub(in crate::engine) fn tensor(&mut self) -> Read<Tensor> {
        self.tensor_as(false)
    }

    /// A tensor of its own.
    pub(super) fn copied(&mut self) -> Read<Tensor> {
        self.tensor_as(true)
    }

    fn value(&mut self, depth: usize) -> Read<RunValue> {
        let depth = depth.checked_sub(1).ok_or(Torn)?;
        Ok(match self.tag()? {
            0 => RunValue::Tensor(self.tensor_as(true)?),
            1 => RunValue::Sequence(
                (0..self.count()?)
                    .map(|_| self.value(depth))
                    .collect::<Read<_>>()?,
            ),
            2 => RunValue::Optional(
                self.flag()?
                    .then(|| self.value(depth).map(Box::new))
                    .transpose()?,
            ),
            3 => RunValue::Map(self.tensor_as(true)?, Box::new(self.value(depth)?)),
            _ => return Err(Torn),
        })
    }

    /// Values of their own, copied out of shared memory.
    pub(in crate::engine) fn values(&mut self) -> Read<RunValues> {
        (0..self.count()?)
            .map(|_| Ok((self.text()?, self.value(DEPTH)?)))
            .collect()
    }

    pub(in crate::engine) fn imports(&mut self) -> Read<Imports> {
        let one = |reader: &mut Self| {
            let domain = reader.optional()?.map(|domain| domain.as_str().into());
            let known = reader.flag()?;
            let version = reader.signed()?;
            Ok(OpsetImport {
                domain,
                version: known.then_some(version),
            })
        };
        (0..self.count()?).map(|_| one(self)).collect()
    }

    pub(super) fn error(&mut self, engine: &'static str) -> Read<EngineError> {
        Ok(match self.tag()? {
            0 => EngineError::Unsupported {
                engine,
                operator: self.text()?,
                node: self.optional()?,
                reason: self.text()?,
            },
            1 => EngineError::Input {
                name: self.text()?,
                reason: self.text()?,
            },
            2 => EngineError::Shapes {
                node: self.text()?,
                operator: self.text()?,
                reason: self.text()?,
            },
            3 => EngineError::Unavailable {
                engine,
                reason: self.text()?,
            },
            4 => EngineError::Failed {
                engine,
                reason: self.text()?,
            },
            _ => return Err(Torn),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let large: Vec<f32> = (0..5000).map(|value| value as f32).collect();
        let values = RunValues::from([
            (
                "large".to_owned(),
                RunValue::Tensor(Tensor::from_slice(&[50, 100], &large).unwrap()),
            ),
            (
                "list".to_owned(),
                RunValue::Sequence(vec![
                    RunValue::Optional(None),
                    RunValue::Tensor(Tensor::from_strings(&[1], [Bytes::from_static(b"a")]).unwrap()),
                ]),
            ),
            (
                "map".to_owned(),
                RunValue::Map(
                    Tensor::vector_i64(&[1, 2]),
                    Box::new(RunValue::Tensor(Tensor::scalar(1.5f32))),
                ),
            ),
        ]);
        let mut board = Board::new().unwrap();
        let mut writer = Writer::new(&mut board);
        writer.values(&values);
        writer.text("end");
        assert!(writer.head.len() < 1000 && writer.shared() >= 20_000);
        let (head, shared) = (std::mem::take(&mut writer.head), writer.shared());
        let mut reader = Reader::new(&head, board.read(shared).unwrap(), &[]);
        let back = reader.values().unwrap();
        assert_eq!(format!("{back:?}"), format!("{values:?}"));
        assert_eq!(reader.text().unwrap(), "end");
        assert_eq!(reader.flag(), Err(Torn));
    }

    #[test]
    fn every_cut_message_is_refused() {
        let mut board = Board::new().unwrap();
        let mut writer = Writer::new(&mut board);
        let tensor = Tensor::from_slice(&[1000], &[1.0f32; 1000]).unwrap();
        writer.tensors(&[("a".to_owned(), tensor), ("b".to_owned(), Tensor::scalar(1i64))]);
        let head = std::mem::take(&mut writer.head);
        let shared = board.read(4000).unwrap();
        for cut in 0..head.len() {
            assert!(
                Reader::new(&head[..cut], shared.clone(), &[]).tensors().is_err(),
                "{cut}"
            );
        }
        assert!(Reader::new(&head, Bytes::new(), &[]).tensors().is_err());
        assert!(Reader::new(&head, shared, &[]).tensors().is_ok());
    }

    #[test]
    fn weights_of_a_mapped_file_are_not_copied() {
        let bytes = crate::format::spill(&[7; 100_000]).unwrap();
        let tensor = Tensor::from_raw(DType::U8, [50_000], bytes.slice(10_000..60_000)).unwrap();
        let mut board = Board::new().unwrap();
        let mut writer = Writer::with_files(&mut board);
        writer.tensors(&[("w".to_owned(), tensor.clone())]);
        assert_eq!((writer.shared(), writer.files.len()), (0, 1));
        let head = std::mem::take(&mut writer.head);
        let back = Reader::new(&head, Bytes::new(), &[bytes]).tensors().unwrap();
        assert!(back[0].1.same_as(&tensor) && back[0].1.shares_data_with(&tensor));
    }
}
