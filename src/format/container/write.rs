//! Writing a container: blocks in parallel, in order, in bounded memory.

use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use rayon::prelude::*;

use super::base::Base;
use super::index::{Entry, FileEntry, Index, SHORT, block_bytes, kind};
use super::segments::{Cut, Segment};
use super::{MAGIC, VERSION};
use crate::coding::{BLOCK_ELEMENTS, Effort, Encoder, Place, Shape, Text, encode, fewest};
use crate::files::Draft;
use crate::format::decode::Origin;
use crate::format::map::release;
use crate::format::{ExternalFiles, FormatError};

/// Elements that are coded at a time.
const WINDOW: u64 = 8 * BLOCK_ELEMENTS as u64;

/// How to pack.
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// Whether fixed frequencies are enough: larger, and read as fast as memory.
    pub fast: bool,
    /// A model that the reader has.
    pub base: Option<Base>,
    /// Whether an existing file may be replaced.
    pub force: bool,
}

/// What a pack wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Bytes of the model with its external data.
    pub contents: u64,
    /// Bytes of the container.
    pub bytes: u64,
    /// Bytes of the graph and all that is stored with it, before and after.
    pub graph: (u64, u64),
    /// Each tensor by name: its bytes before and after.
    pub tensors: Vec<(String, u64, u64)>,
}

/// The most that the contents of a container may take.
pub(super) fn most_contents(container: u64) -> u64 {
    container.saturating_mul(2048).saturating_add(64 << 20)
}

/// Where a container goes, with the digest of what is there.
struct Hashed<W> {
    to: W,
    hasher: blake3::Hasher,
    length: u64,
}

impl<W: std::io::Write> Hashed<W> {
    fn new(to: W) -> Self {
        Self {
            to,
            hasher: blake3::Hasher::new(),
            length: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.to.write_all(bytes)
    }
}

/// What packing this model would give, without writing it.
pub(crate) fn packed(bytes: Bytes) -> std::io::Result<Packed> {
    let origin = Origin {
        path: None,
        bytes,
        external: ExternalFiles::default(),
    };
    write(
        &Cut::of(&origin),
        &mut Hashed::new(std::io::sink()),
        &PackOptions::default(),
    )
}

/// Packs a model that was read. The bytes depend on the model and the options alone.
pub fn pack(origin: &Origin, output: &Path, options: &PackOptions) -> Result<Packed, FormatError> {
    let failed = |source| FormatError::Write {
        path: output.to_owned(),
        source,
    };
    let cut = Cut::of(origin);
    let mut out = Hashed::new(Draft::create(output).map_err(failed)?);
    let packed = write(&cut, &mut out, options).map_err(failed)?;
    out.to
        .publish(options.force)
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => FormatError::OutputExists {
                path: output.to_owned(),
            },
            std::io::ErrorKind::Interrupted => FormatError::Interrupted {
                path: output.to_owned(),
            },
            _ => failed(source),
        })?;
    Ok(packed)
}

fn write<W: std::io::Write>(
    cut: &Cut,
    out: &mut Hashed<W>,
    options: &PackOptions,
) -> std::io::Result<Packed> {
    let record = options.base.as_ref().map(Base::record);
    let mut header = MAGIC.to_vec();
    header.extend([VERSION, u8::from(record.is_some())]);
    if let Some(record) = &record {
        record.put(&mut header);
    }
    out.put(&header)?;
    let mut index = Index {
        aliases: cut.aliases.clone(),
        ..Index::default()
    };
    put_blocks(cut, out, options, &mut index)?;
    for file in &cut.files {
        index.files.push(FileEntry {
            location: file.location.clone(),
            length: file.bytes.len() as u64,
            digest: digest_of(&file.bytes),
        });
    }
    let mut packed = Packed {
        contents: index.contents().unwrap_or(u64::MAX),
        ..Packed::default()
    };
    // What is less than the contents need: see `most_contents`.
    let least = packed.contents.saturating_sub(64 << 20).div_ceil(2048);
    while out.length < least {
        let room = (least - out.length).min(1 << 16) as usize;
        out.put(&vec![0; room])?;
    }
    let start = out.length;
    let (said, digests) = index.to_bytes();
    let between: Vec<u8> = cut.between().flatten().collect();
    let learned = match (&options.base, &record) {
        (Some(base), Some(record)) => base.graph(record).unwrap_or_default(),
        _ => Vec::new(),
    };
    let structure = structure_of(&learned, &said, &between);
    out.put(&structure)?;
    out.put(&digests)?;
    out.put(&footer(
        start,
        structure.len(),
        said.len(),
        between.len(),
        &[&said, &digests],
    ))?;
    let whole = out.hasher.finalize();
    out.put(whole.as_bytes())?;
    packed.bytes = out.length;
    packed.graph = (between.len() as u64, structure.len() as u64);
    packed.tensors = index
        .entries
        .iter()
        .map(|entry| {
            (
                entry.segment.name.clone(),
                entry.segment.length,
                entry.blocks.iter().sum(),
            )
        })
        .collect();
    Ok(packed)
}

/// The end, but for the digest of everything before it.
pub(super) fn footer(
    start: u64,
    structure: usize,
    said: usize,
    between: usize,
    index: &[&[u8]; 2],
) -> Vec<u8> {
    let digests = index[1].len();
    let sizes = [
        start,
        structure as u64,
        said as u64,
        between as u64,
        digests as u64,
    ];
    let mut footer: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
    footer.extend(short_digest(index));
    footer
}

/// Index and graph as one text: the graph after the index, which has its names already, and after what is learned from the base.
pub(super) fn structure_of(learned: &[u8], index: &[u8], between: &[u8]) -> Vec<u8> {
    let mut text = Text::new((index.len() + between.len()) as u64);
    let mut coder = Encoder::new();
    for byte in index {
        text.code(&mut coder, *byte);
    }
    text.learn(learned);
    for byte in between {
        text.code(&mut coder, *byte);
    }
    let mut coded = coder.finish();
    let fewest = fewest((index.len() + between.len()) as u64) as usize;
    coded.resize(coded.len().max(fewest), 0);
    coded
}

/// The first bytes of the digest of what these are together.
pub(super) fn short_digest(parts: &[&[u8]]) -> [u8; SHORT] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut short = [0; SHORT];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..SHORT]);
    short
}

/// The digest of a file, whose pages do not stay.
fn digest_of(bytes: &Bytes) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for chunk in bytes.chunks(1 << 24) {
        hasher.update(chunk);
        release(chunk);
    }
    *hasher.finalize().as_bytes()
}

/// A block to be coded.
struct Job {
    entry: usize,
    bytes: Range<usize>,
}

fn jobs(segments: &[Segment]) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (entry, segment) in segments.iter().enumerate() {
        let (length, step) = (segment.length as usize, block_bytes(segment.data_type) as usize);
        jobs.extend((0..length).step_by(step).map(|start| Job {
            entry,
            bytes: start..(start + step).min(length),
        }));
    }
    jobs
}

/// How many of the jobs are done at a time.
pub(super) fn window(sizes: impl Iterator<Item = u64>) -> usize {
    let mut sum = 0;
    sizes
        .take_while(|size| {
            sum += size;
            sum <= WINDOW
        })
        .count()
        .max(1)
}

fn put_blocks(
    cut: &Cut,
    out: &mut Hashed<impl std::io::Write>,
    options: &PackOptions,
    index: &mut Index,
) -> std::io::Result<()> {
    let effort = if options.fast { Effort::Fast } else { Effort::Small };
    let partners = match &options.base {
        Some(base) => base.partners(&cut.segments),
        None => vec![None; cut.segments.len()],
    };
    let contents: Vec<Bytes> = cut
        .segments
        .iter()
        .map(|segment| segment.slice(&cut.files).unwrap_or_default())
        .collect();
    for (segment, base) in cut.segments.iter().zip(&partners) {
        index.entries.push(Entry {
            segment: segment.clone(),
            base: *base,
            digest: [0; SHORT],
            blocks: Vec::new(),
        });
    }
    let all = jobs(&cut.segments);
    let mut rest = all.as_slice();
    let mut hasher = blake3::Hasher::new();
    while !rest.is_empty() {
        let elements = |job: &Job| {
            BLOCK_ELEMENTS as u64 * job.bytes.len() as u64 / block_bytes(cut.segments[job.entry].data_type)
        };
        let (now, later) = rest.split_at(window(rest.iter().map(elements)));
        rest = later;
        let coded: Vec<Vec<u8>> = now
            .par_iter()
            .map(|job| {
                let segment = &cut.segments[job.entry];
                let base = partners[job.entry].and_then(|(file, offset)| {
                    let base = options.base.as_ref()?;
                    base.slice(file, offset + job.bytes.start as u64, job.bytes.len() as u64)
                });
                let place = Place {
                    kind: kind(segment.data_type),
                    shape: Shape::of(&segment.dims),
                    first: job.bytes.start as u64 / block_bytes(segment.data_type) * BLOCK_ELEMENTS as u64,
                    base: base.as_deref(),
                };
                encode(place, &contents[job.entry][job.bytes.clone()], effort)
            })
            .collect();
        for (job, coded) in now.iter().zip(coded) {
            let block = &contents[job.entry][job.bytes.clone()];
            hasher.update(block);
            release(block);
            let entry = &mut index.entries[job.entry];
            entry.blocks.push(coded.len() as u64);
            out.put(&coded)?;
            if job.bytes.end == contents[job.entry].len() {
                entry
                    .digest
                    .copy_from_slice(&hasher.finalize().as_bytes()[..SHORT]);
                hasher.reset();
            }
        }
    }
    Ok(())
}
