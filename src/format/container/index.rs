//! What a container says of itself: its files, its tensors, and where each of their blocks is.

use super::error::ContainerProblem;
use super::segments::{MOST_DIMS, Segment};
use crate::coding::{BLOCK_ELEMENTS, Damaged, ElementType, Reader, Shape, put_varint};

pub(super) type Version = u8;

/// Bytes of a tensor's digest.
pub(super) const SHORT: usize = 8;

impl From<Damaged> for ContainerProblem {
    fn from(Damaged(reason): Damaged) -> Self {
        Self::Damaged(reason)
    }
}

/// A file as the index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileEntry {
    pub(super) location: String,
    pub(super) length: u64,
    /// BLAKE3 of its content.
    pub(super) digest: [u8; 32],
}

/// A tensor as the index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) segment: Segment,
    /// The file of the base and the offset in it where as many bytes stand that it was coded by.
    pub(super) base: Option<(usize, u64)>,
    /// The first bytes of BLAKE3 of its content.
    pub(super) digest: [u8; SHORT],
    /// Coded bytes of each block.
    pub(super) blocks: Vec<u64>,
}

/// The index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) files: Vec<FileEntry>,
    pub(super) entries: Vec<Entry>,
    pub(super) aliases: Vec<(usize, String)>,
}

/// Bytes of a whole block.
pub(super) fn block_bytes(data_type: i32) -> u64 {
    BLOCK_ELEMENTS as u64 * u64::from(kind(data_type).map_or(8, ElementType::bits)) / 8
}

/// What the elements are; `None` for bytes of no tensor.
pub(super) fn kind(data_type: i32) -> Option<ElementType> {
    (data_type != 0).then(|| ElementType::from_onnx(data_type))
}

impl Entry {
    /// How its elements lie.
    pub(super) fn shape(&self) -> Shape {
        Shape::of(&self.segment.dims)
    }
}

impl Index {
    /// The index without digests, and the digests.
    pub(super) fn to_bytes(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut out, mut digests) = (Vec::new(), Vec::new());
        put_varint(&mut out, self.files.len() as u64);
        for file in &self.files {
            put_text(&mut out, &file.location);
            put_varint(&mut out, file.length);
            digests.extend(file.digest);
        }
        put_varint(&mut out, self.entries.len() as u64);
        let mut end = (0, 0);
        for entry in &self.entries {
            let segment = &entry.segment;
            put_text(&mut out, &segment.name);
            put_varint(&mut out, segment.file as u64);
            if segment.file != end.0 {
                end = (segment.file, 0);
            }
            put_varint(&mut out, segment.offset - end.1);
            end.1 = segment.end();
            put_varint(&mut out, segment.length);
            put_varint(&mut out, segment.data_type as u64);
            put_varint(&mut out, segment.dims.len() as u64);
            segment.dims.iter().for_each(|dim| put_varint(&mut out, *dim));
            match entry.base {
                None => put_varint(&mut out, 0),
                Some((file, offset)) => {
                    put_varint(&mut out, file as u64 + 1);
                    put_varint(&mut out, offset);
                }
            }
            entry.blocks.iter().for_each(|block| put_varint(&mut out, *block));
            digests.extend(entry.digest);
        }
        put_varint(&mut out, self.aliases.len() as u64);
        for (at, name) in &self.aliases {
            put_varint(&mut out, *at as u64);
            put_text(&mut out, name);
        }
        (out, digests)
    }

    /// The index in these bytes, where every number in it fits to the others.
    pub(super) fn from_bytes(bytes: &[u8], digests: &[u8]) -> Result<Self, ContainerProblem> {
        let mut reader = Reader(bytes);
        let mut digests = Reader(digests);
        let mut index = Self::default();
        for _ in 0..reader.varint()? {
            index.files.push(FileEntry {
                location: text(&mut reader)?,
                length: reader.varint()?,
                digest: digests.take(32)?.try_into().unwrap_or_default(),
            });
        }
        if index.files.first().is_none_or(|file| !file.location.is_empty()) {
            return Err(ContainerProblem::Damaged("its first file is not the model"));
        }
        let mut end = (0, 0);
        for _ in 0..reader.varint()? {
            let entry = index.entry(&mut reader, &mut digests, end)?;
            end = (entry.segment.file, entry.segment.end());
            index.entries.push(entry);
        }
        for _ in 0..reader.varint()? {
            let at = reader.size()?;
            if at >= index.entries.len() {
                return Err(ContainerProblem::Damaged("a name has no tensor"));
            }
            index.aliases.push((at, text(&mut reader)?));
        }
        reader.end()?;
        digests.end()?;
        Ok(index)
    }

    fn entry(
        &self,
        reader: &mut Reader<'_>,
        digests: &mut Reader<'_>,
        end: (usize, u64),
    ) -> Result<Entry, ContainerProblem> {
        let beyond = ContainerProblem::Size("a tensor does not lie in its file");
        let name = text(reader)?;
        let file = reader.size()?;
        let from = if file == end.0 { end.1 } else { 0 };
        let length_of_file = self
            .files
            .get(file)
            .filter(|_| file >= end.0)
            .map(|file| file.length);
        let length_of_file = length_of_file.ok_or(beyond.clone())?;
        let offset = from.checked_add(reader.varint()?).ok_or(beyond.clone())?;
        let length = reader.varint()?;
        if length == 0 || offset.checked_add(length).is_none_or(|end| end > length_of_file) {
            return Err(beyond);
        }
        let data_type = i32::try_from(reader.varint()?).map_err(|_| beyond.clone())?;
        let count = reader.size()?;
        if count > MOST_DIMS {
            return Err(ContainerProblem::Size("a tensor has more than 16 dimensions"));
        }
        let mut dims = Vec::with_capacity(count);
        for _ in 0..count {
            dims.push(reader.varint()?);
        }
        let base = match reader.size()? {
            0 => None,
            file => Some((file - 1, reader.varint()?)),
        };
        let count = length.div_ceil(block_bytes(data_type));
        if count > reader.0.len() as u64 {
            return Err(ContainerProblem::Size("a tensor has more blocks than the index"));
        }
        let mut blocks = Vec::new();
        for _ in 0..count {
            blocks.push(reader.varint()?);
        }
        Ok(Entry {
            segment: Segment {
                file,
                offset,
                length,
                data_type,
                dims,
                name,
            },
            base,
            digest: digests.take(SHORT)?.try_into().unwrap_or_default(),
            blocks,
        })
    }

    /// Bytes of all files.
    pub(super) fn contents(&self) -> Option<u64> {
        self.files
            .iter()
            .try_fold(0u64, |sum, file| sum.checked_add(file.length))
    }

    /// Bytes of the files that no tensor has.
    pub(super) fn between(&self) -> Option<u64> {
        let tensors = self.entries.iter().map(|entry| entry.segment.length);
        self.contents()?.checked_sub(tensors.sum())
    }
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend(text.as_bytes());
}

pub(super) fn text(reader: &mut Reader<'_>) -> Result<String, Damaged> {
    let length = reader.size()?;
    let bytes = reader.take(length)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| Damaged("a name is not UTF-8"))
}
