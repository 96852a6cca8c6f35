//! Reading a container: what it says is checked before anything is done with it.

use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use rayon::prelude::*;

use super::base::{Base, BaseName};
use super::error::{ContainerError, ContainerProblem};
use super::index::{Entry, Index, block_bytes, kind};
use super::write::{most_contents, short_digest, window};
use super::{MAGIC, VERSION};
use crate::coding::{BLOCK_ELEMENTS, Damaged, Decoder, Place, Reader, Text, decode, fewest};
use crate::format::FormatError;
use crate::format::decode::Origin;
use crate::format::external::{ExternalFile, ExternalFiles};
use crate::format::map::file_bytes;

/// Bytes of the end: five sizes, a digest of the index and one of everything.
const FOOTER: usize = 5 * 8 + 8 + 32;

/// A tensor in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedTensor {
    /// Its name.
    pub name: String,
    /// ONNX's number of its element type.
    pub data_type: i32,
    /// Its shape; empty, too, for tensors of more than 16 dimensions.
    pub dims: Vec<u64>,
    /// Its bytes.
    pub bytes: u64,
    /// Its bytes in the container.
    pub coded: u64,
}

/// A container whose index has been read; its tensors have not.
#[derive(Clone, Debug)]
pub struct Container {
    bytes: Bytes,
    base: Option<BaseName>,
    pub(super) index: Index,
    /// Where the blocks of each tensor begin.
    starts: Vec<u64>,
    /// Index and graph, coded, and how long each is.
    structure: Bytes,
    lengths: (usize, usize),
}

/// The model in a container's bytes, as if it had been read from its file.
pub(crate) fn restore(bytes: Bytes, path: Option<&Path>, base: Option<&Path>) -> Result<Origin, FormatError> {
    let at = |error: ContainerError| FormatError::from(error.in_source(path));
    Container::parse(bytes)
        .and_then(|container| container.restore(base, path))
        .map_err(|error| match error {
            FormatError::Container(error) => at(error),
            other => other,
        })
}

impl Container {
    /// Reads the index of a container.
    pub fn parse(bytes: Bytes) -> Result<Self, FormatError> {
        Ok(Self::parsed(bytes).map_err(ContainerProblem::whole)?)
    }

    fn parsed(bytes: Bytes) -> Result<Self, ContainerProblem> {
        let mut reader = Reader(&bytes);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(ContainerProblem::NoContainer);
        }
        let version = reader.byte()?;
        if version != VERSION {
            return Err(ContainerProblem::Version(version));
        }
        let base = match reader.byte()? {
            0 => None,
            1 => Some(BaseName::take(&mut reader)?),
            _ => return Err(ContainerProblem::Damaged("a flag is not known")),
        };
        let payload = bytes.len() - reader.0.len();
        let Some(end) = reader.0.len().checked_sub(FOOTER) else {
            return Err(ContainerProblem::Truncated("it has no end"));
        };
        let end = payload + end;
        let mut footer = Reader(&bytes[end..]);
        let mut sizes = [0u64; 5];
        for size in &mut sizes {
            *size = u64::from_le_bytes(footer.take(8)?.try_into().unwrap_or_default());
        }
        let [start, coded, said, between, digests] = sizes;
        let fits = start.checked_add(coded).and_then(|sum| sum.checked_add(digests));
        if fits != Some(end as u64) || start < payload as u64 {
            return Err(ContainerProblem::Truncated("its end does not fit to its length"));
        }
        let text = said.checked_add(between).filter(|text| fewest(*text) <= coded);
        let (Some(_), Ok(said), Ok(between)) = (text, usize::try_from(said), usize::try_from(between)) else {
            return Err(ContainerProblem::Size(
                "the graph is longer than its bytes can say",
            ));
        };
        let (start, coded) = (start as usize, coded as usize);
        let structure = bytes.slice(start..start + coded);
        let mut text = Text::new((said + between) as u64);
        let mut coder = Decoder::new(&structure);
        (0..said).for_each(|_| {
            text.code(&mut coder, 0);
        });
        let said_text = text.history();
        let digests = &bytes[start + coded..end];
        if footer.take(8)? != short_digest(&[&said_text, digests]) {
            return Err(ContainerProblem::Damaged(
                "its index is not the one that was written",
            ));
        }
        let index = Index::from_bytes(&said_text, digests)?;
        if index.between() != Some(between as u64) {
            return Err(ContainerProblem::Size(
                "the graph does not fit between the tensors",
            ));
        }
        let contents = index.contents().unwrap_or(u64::MAX);
        if contents > most_contents(bytes.len() as u64) {
            return Err(ContainerProblem::TooLarge {
                container: bytes.len() as u64,
                contents,
            });
        }
        let mut next = payload as u64;
        let mut starts = Vec::with_capacity(index.entries.len());
        for entry in &index.entries {
            starts.push(next);
            for block in &entry.blocks {
                next = next.saturating_add(*block);
            }
        }
        if next > start as u64 {
            return Err(ContainerProblem::Truncated(
                "its tensors need more bytes than it has",
            ));
        }
        Ok(Self {
            base,
            index,
            starts,
            structure,
            lengths: (said, between),
            bytes,
        })
    }

    /// What it says of its base, where it needs one.
    pub fn base(&self) -> Option<&BaseName> {
        self.base.as_ref()
    }

    /// The tensors that are stored by themselves, in order; those of less than 256 bytes are stored with the graph.
    pub fn tensors(&self) -> Vec<PackedTensor> {
        let named = |entry: &Entry, name: &str| PackedTensor {
            name: name.to_owned(),
            data_type: entry.segment.data_type,
            dims: entry.segment.dims.clone(),
            bytes: entry.segment.length,
            coded: entry.blocks.iter().sum(),
        };
        let own = self
            .index
            .entries
            .iter()
            .filter(|entry| entry.segment.data_type != 0);
        let own = own.map(|entry| named(entry, &entry.segment.name));
        let others = self.index.aliases.iter();
        let others = others.map(|(at, name)| named(&self.index.entries[*at], name));
        own.chain(others).collect()
    }

    /// The content of one tensor; no other one is decoded. `base` and `path` are as for [`Self::restore`].
    pub fn tensor(
        &self,
        name: &str,
        base: Option<&Path>,
        path: Option<&Path>,
    ) -> Result<Vec<u8>, FormatError> {
        let own = |entry: &Entry| entry.segment.data_type != 0 && entry.segment.name == name;
        let at = self.index.entries.iter().position(own).or_else(|| {
            let alias = self.index.aliases.iter().find(|(_, other)| other == name);
            alias.map(|(at, _)| *at)
        });
        let Some(at) = at else {
            return Err(ContainerProblem::NoTensor.of(name).in_source(path).into());
        };
        let base = self.find_base(base, path)?;
        let entry = &self.index.entries[at];
        let blocks: Vec<Block> = self.blocks().filter(|block| block.entry == at).collect();
        let parts: Result<Vec<Vec<u8>>, ContainerError> = blocks
            .par_iter()
            .map(|block| self.block(block, base.as_ref()))
            .collect();
        let content = parts.map_err(|error| error.in_source(path))?.concat();
        let digest = short_digest(&[&content]);
        check_digest(entry, digest).map_err(|error| error.in_source(path))?;
        Ok(content)
    }

    fn find_base(&self, given: Option<&Path>, path: Option<&Path>) -> Result<Option<Base>, FormatError> {
        match (&self.base, given) {
            (Some(record), given) => Base::find(record, given, path).map(Some),
            (None, Some(given)) => {
                let problem = ContainerProblem::BaseUnused(given.to_owned());
                Err(problem.whole().in_source(path).into())
            }
            (None, None) => Ok(None),
        }
    }

    /// The model that was packed: its files as they were, its external data under the locations that it names. A base is the file
    /// `base`, or one beside the container at `path`. Large files get pages of unnamed files instead of memory.
    pub fn restore(&self, base: Option<&Path>, path: Option<&Path>) -> Result<Origin, FormatError> {
        let base = self.find_base(base, path)?;
        let failed = |error: ContainerError| FormatError::from(error.in_source(path));
        let graph = self.graph(base.as_ref()).map_err(failed)?;
        let mut sinks = Sinks::new(&self.index, &graph);
        let all: Vec<Block> = self.blocks().collect();
        let mut rest = all.as_slice();
        let mut hasher = blake3::Hasher::new();
        let cannot = |source| FormatError::Write {
            path: std::env::temp_dir(),
            source,
        };
        while !rest.is_empty() {
            let elements = |block: &Block| {
                BLOCK_ELEMENTS as u64 * block.length as u64
                    / block_bytes(self.index.entries[block.entry].segment.data_type)
            };
            let (now, later) = rest.split_at(window(rest.iter().map(elements)));
            rest = later;
            let parts: Result<Vec<Vec<u8>>, ContainerError> = now
                .par_iter()
                .map(|block| self.block(block, base.as_ref()))
                .collect();
            for (block, part) in now.iter().zip(parts.map_err(failed)?) {
                let entry = &self.index.entries[block.entry];
                if block.first == 0 {
                    hasher.reset();
                    sinks.before(&entry.segment).map_err(cannot)?;
                }
                hasher.update(&part);
                sinks.put(&part).map_err(cannot)?;
                if block.is_last {
                    let mut digest = [0; 8];
                    digest.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
                    check_digest(entry, digest).map_err(failed)?;
                }
            }
        }
        let files = sinks.finish().map_err(cannot)?;
        self.check_whole(&files)
            .map_err(|problem| failed(problem.whole()))?;
        let mut files = files.into_iter();
        let bytes = files.next().map(|(bytes, _)| bytes).unwrap_or_default();
        let named = self.index.files.iter().skip(1).zip(files);
        let external = named.map(|(entry, (bytes, _))| {
            let file = ExternalFile {
                path: path.unwrap_or(Path::new("")).to_owned(),
                bytes,
            };
            (entry.location.clone(), file)
        });
        Ok(Origin {
            path: path.map(Path::to_owned),
            bytes,
            external: ExternalFiles::unpacked(external),
        })
    }

    /// Checks what no tensor's digest covers: the graph, and every byte that says how to read the others.
    fn check_whole(&self, files: &[(Bytes, [u8; 32])]) -> Result<(), ContainerProblem> {
        for ((_, digest), entry) in files.iter().zip(&self.index.files) {
            if *digest != entry.digest {
                return Err(ContainerProblem::Damaged(
                    "its graph, or what lies between the tensors, is not what was written",
                ));
            }
        }
        let (before, digest) = self.bytes.split_at(self.bytes.len() - 32);
        if blake3::hash(before).as_bytes() != digest {
            return Err(ContainerProblem::Damaged("it has another digest than it says"));
        }
        Ok(())
    }

    /// What lies between the tensors.
    pub(super) fn graph(&self, base: Option<&Base>) -> Result<Vec<u8>, ContainerError> {
        let (said, between) = self.lengths;
        let mut text = Text::new((said + between) as u64);
        let mut coder = Decoder::new(&self.structure);
        (0..said).for_each(|_| {
            text.code(&mut coder, 0);
        });
        let mut learned = 0;
        if let (Some(base), Some(record)) = (base, &self.base) {
            let graph = base.graph(record).map_err(ContainerProblem::whole)?;
            text.learn(&graph);
            learned = graph.len();
        }
        (0..between).for_each(|_| {
            text.code(&mut coder, 0);
        });
        let mut all = text.history();
        Ok(all.split_off(said + learned))
    }

    /// Every block, in order.
    fn blocks(&self) -> impl Iterator<Item = Block> {
        self.index
            .entries
            .iter()
            .zip(&self.starts)
            .enumerate()
            .flat_map(|(number, (entry, start))| {
                let mut next = *start;
                let step = block_bytes(entry.segment.data_type);
                let count = entry.blocks.len() as u64;
                entry.blocks.iter().zip(0u64..).map(move |(coded, at)| {
                    next += coded;
                    Block {
                        entry: number,
                        start: (next - coded) as usize,
                        coded: *coded as usize,
                        first: at * step,
                        length: step.min(entry.segment.length - at * step) as usize,
                        is_last: at + 1 == count,
                    }
                })
            })
    }

    fn block(&self, block: &Block, base: Option<&Base>) -> Result<Vec<u8>, ContainerError> {
        let entry = &self.index.entries[block.entry];
        let damaged = |problem: ContainerProblem| match entry.segment.name.as_str() {
            "" => problem.whole(),
            name => problem.of(name),
        };
        let base = match (base, entry.base) {
            (Some(base), Some((file, offset))) => {
                let at = offset.checked_add(block.first);
                let found = at.and_then(|at| base.slice(file, at, block.length as u64));
                let missing = || damaged(ContainerProblem::Damaged("the base has no such tensor"));
                Some(found.ok_or_else(missing)?)
            }
            _ => None,
        };
        let kind = kind(entry.segment.data_type);
        let place = Place {
            kind,
            shape: entry.shape(),
            first: block.first / block_bytes(entry.segment.data_type) * BLOCK_ELEMENTS as u64,
            base: base.as_deref(),
        };
        let coded = &self.bytes[block.start..block.start + block.coded];
        decode(place, coded, block.length)
            .map_err(|Damaged(reason)| damaged(ContainerProblem::Damaged(reason)))
    }
}

fn check_digest(entry: &Entry, digest: [u8; 8]) -> Result<(), ContainerError> {
    if digest == entry.digest {
        return Ok(());
    }
    let problem = ContainerProblem::Damaged("its content is not what was written");
    Err(match entry.segment.name.as_str() {
        "" => problem.whole(),
        name => problem.of(name),
    })
}

/// A block of a tensor: where it is stored, and which bytes of the tensor it is.
struct Block {
    entry: usize,
    start: usize,
    coded: usize,
    first: u64,
    length: usize,
    is_last: bool,
}

/// The files of a model while they are put together.
struct Sinks<'a> {
    index: &'a Index,
    /// What is left of what lies between the tensors.
    between: &'a [u8],
    done: Vec<(Bytes, [u8; 32])>,
    file: Spool,
}

impl<'a> Sinks<'a> {
    fn new(index: &'a Index, between: &'a [u8]) -> Self {
        Self {
            index,
            between,
            done: Vec::new(),
            file: Spool::default(),
        }
    }

    /// Everything that stands before a tensor.
    fn before(&mut self, segment: &super::segments::Segment) -> std::io::Result<()> {
        while self.done.len() < segment.file {
            self.end_file()?;
        }
        self.fill(segment.offset)
    }

    /// What lies between the tensors, up to an offset.
    fn fill(&mut self, offset: u64) -> std::io::Result<()> {
        let length = offset.saturating_sub(self.file.length) as usize;
        let (now, later) = self
            .between
            .split_at_checked(length)
            .unwrap_or((self.between, &[]));
        self.between = later;
        self.file.put(now)
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.put(bytes)
    }

    fn end_file(&mut self) -> std::io::Result<()> {
        if let Some(entry) = self.index.files.get(self.done.len()) {
            self.fill(entry.length)?;
        }
        let file = std::mem::take(&mut self.file).finish()?;
        self.done.push(file);
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<Vec<(Bytes, [u8; 32])>> {
        while self.done.len() < self.index.files.len() {
            self.end_file()?;
        }
        Ok(self.done)
    }
}

/// Bytes that go to an unnamed file once they are many.
#[derive(Default)]
struct Spool {
    memory: Vec<u8>,
    file: Option<std::fs::File>,
    hasher: blake3::Hasher,
    length: u64,
}

/// Bytes that stay in memory.
const IN_MEMORY: usize = 1 << 20;

impl Spool {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.memory.extend_from_slice(bytes);
        if self.memory.len() >= IN_MEMORY {
            let file = match &mut self.file {
                Some(file) => file,
                none => none.insert(tempfile::tempfile()?),
            };
            file.write_all(&self.memory)?;
            self.memory.clear();
        }
        Ok(())
    }

    fn finish(self) -> std::io::Result<(Bytes, [u8; 32])> {
        let digest = *self.hasher.finalize().as_bytes();
        let bytes = match self.file {
            None => Bytes::from(self.memory),
            Some(mut file) => {
                file.write_all(&self.memory)?;
                file_bytes(file, self.length)?
            }
        };
        Ok((bytes, digest))
    }
}
