//! Data of tensors that move out of a model's message and into it, while every other byte of it stays.
//!
//! What moves is decided first, tensor by tensor in the order of the file; then the data are given their places in a data file, where
//! equal bytes have one; then the message is written again around what has moved.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

use bytes::Bytes;
use indexmap::IndexMap;
use prost::Message as _;
use rayon::prelude::*;

use super::decode::{Decoded, Origin};
use super::encode::encode_to_bytes;
use super::error::FormatError;
use super::external::{self, ExternalFiles};
use super::layout::{self, DataFile};
use super::lift::tensor_from_proto;
use super::limits::WarningKind;
use super::map::release;
use super::save::WriteOptions;
use super::tensors::Place;
use super::wire;
use crate::proto;
use crate::proto::tensor_proto::DataLocation;

/// The message that a tensor is.
const TENSOR: &str = "TensorProto";
/// The field of a graph that its initializers are.
const INITIALIZER: &str = "initializer";
/// Fields of a tensor by their numbers: `raw_data`, `external_data`, and all that say where its elements are but `string_data`.
const RAW_DATA: u32 = 9;
const EXTERNAL_DATA: u32 = 13;
const PLACES: [u32; 8] = [4, 5, 7, RAW_DATA, 10, 11, EXTERNAL_DATA, 14];
/// The offset of what has no place yet: none takes more digits.
const NOWHERE: u64 = u64::MAX;
/// The most bytes that the name of a file may have.
const LONGEST_NAME: usize = 255;

/// Which tensors lie outside of the message.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// None.
    None,
    /// Those with so many bytes at least: initializers and what lies outside already, or all.
    From { smallest: u64, all: bool },
}

/// What becomes of a tensor.
#[derive(Clone, Debug)]
enum Fate {
    /// It stays as it is.
    Stays,
    /// Its data come into the message.
    Inside(Bytes),
    /// Its data go to the data file.
    Outside { bytes: Bytes, offset: u64 },
}

/// A model that was read, and where the data of its tensors are to lie.
#[derive(Clone, Debug)]
pub struct Relocation<'a> {
    origin: &'a Origin,
    message: Bytes,
    /// One for each tensor, in the order of the file.
    fates: Vec<Fate>,
}

/// Contents of tensors that are stored once and stand for several tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeated {
    /// How many contents.
    pub contents: u64,
    /// How many tensors have one of them.
    pub tensors: u64,
    /// Bytes of the contents, each once.
    pub bytes: u64,
    /// Bytes that are not stored again.
    pub saved: u64,
    /// How many of the contents several models have.
    pub common: u64,
}

impl<'a> Relocation<'a> {
    /// All data inside the message.
    ///
    /// # Errors
    /// [`FormatError::SingleFileTooLarge`] where it would be larger than a message may be.
    pub fn inside(decoded: &'a Decoded, options: &WriteOptions) -> Result<Self, FormatError> {
        let found = Self::of(decoded, Wanted::None)?;
        let (bytes, limit) = (length_of(&found.message("")), options.largest_message);
        match bytes > limit {
            true => Err(FormatError::SingleFileTooLarge { bytes, limit }),
            false => Ok(found),
        }
    }

    /// Initializers of `smallest_external` bytes on, and what of that size lies outside already, in a data file; all other data inside.
    /// Data in attributes follow only where the message would be too large.
    ///
    /// # Errors
    /// [`FormatError::ModelTooLarge`] where that is not enough.
    pub fn outside(decoded: &'a Decoded, options: &WriteOptions) -> Result<Self, FormatError> {
        let (smallest, limit) = (options.smallest_external, options.largest_message);
        let longest = "0".repeat(LONGEST_NAME);
        let mut bytes = 0;
        for all in [false, true] {
            let found = Self::of(decoded, Wanted::From { smallest, all })?;
            bytes = length_of(&found.message(&longest));
            if bytes <= limit {
                return Ok(found);
            }
        }
        Err(FormatError::ModelTooLarge { bytes, limit })
    }

    fn of(decoded: &'a Decoded, wanted: Wanted) -> Result<Self, FormatError> {
        let origin = &decoded.origin;
        let in_parts = |kind: WarningKind| matches!(kind, WarningKind::RepeatedField(_));
        // Parts of a message that stand in several places are one to every reader, and cannot be edited alone.
        let message = if decoded.warnings.iter().any(|warning| in_parts(warning.kind)) {
            encode_to_bytes(&decoded.model)
        } else {
            origin.bytes.clone()
        };
        let mut fates = Vec::new();
        wire::edit_messages(&message, TENSOR, &mut |field, tensor| {
            fates.push(fate(field, tensor, &origin.external, wanted)?);
            Ok::<_, FormatError>(None)
        })?;
        Ok(Self {
            origin,
            message,
            fates,
        })
    }

    /// Where the model came from.
    pub(super) fn origin(&self) -> &'a Origin {
        self.origin
    }

    /// Whether nothing moves.
    pub fn is_nothing(&self) -> bool {
        self.fates.iter().all(|fate| matches!(fate, Fate::Stays))
    }

    /// The data that come into the message.
    pub fn coming_in(&self) -> impl Iterator<Item = &Bytes> {
        self.fates.iter().filter_map(|fate| match fate {
            Fate::Inside(bytes) => Some(bytes),
            _ => None,
        })
    }

    /// The data that lie in the data file, one for each tensor.
    pub fn going_out(&self) -> impl Iterator<Item = &Bytes> {
        self.fates.iter().filter_map(|fate| match fate {
            Fate::Outside { bytes, .. } => Some(bytes),
            _ => None,
        })
    }

    /// How many bytes of the data file its tensors are, each place once.
    pub(super) fn read_bytes(&self) -> u64 {
        let places: BTreeMap<u64, u64> = self
            .fates
            .iter()
            .filter_map(|fate| match fate {
                Fate::Outside { bytes, offset } => Some((*offset, bytes.len() as u64)),
                _ => None,
            })
            .collect();
        places.values().sum()
    }

    /// The message in pieces, with its tensors in the data file `name`.
    pub(super) fn message(&self, name: &str) -> Vec<Bytes> {
        let mut fates = self.fates.iter();
        let Ok(edited) = wire::edit_messages(&self.message, TENSOR, &mut |_, tensor| {
            Ok::<_, Infallible>(fates.next().and_then(|fate| fate.apply(&tensor, name)))
        });
        edited.unwrap_or_else(|| vec![self.message.clone()])
    }
}

impl Fate {
    /// The message of a tensor with this fate; `None` where it stays.
    fn apply(&self, tensor: &Bytes, name: &str) -> Option<Vec<Bytes>> {
        match self {
            Self::Stays => None,
            Self::Inside(bytes) => {
                let mut head = Vec::new();
                // A field with a length.
                prost::encoding::encode_varint(u64::from(RAW_DATA << 3 | 2), &mut head);
                prost::encoding::encode_varint(bytes.len() as u64, &mut head);
                Some(placed(tensor, RAW_DATA, &[Bytes::from(head), bytes.clone()]))
            }
            Self::Outside { bytes, offset } => {
                let fields = proto::TensorProto {
                    external_data: layout::entries(name, *offset, bytes.len()),
                    data_location: Some(DataLocation::External as i32),
                    ..Default::default()
                };
                Some(placed(
                    tensor,
                    EXTERNAL_DATA,
                    &[Bytes::from(fields.encode_to_vec())],
                ))
            }
        }
    }
}

/// The message of a tensor with other fields in the place of those that say where its elements are: `fields`, the first of which has the
/// number `first`, stand before what has a higher one.
fn placed(tensor: &Bytes, first: u32, fields: &[Bytes]) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(fields.len() + 2);
    let mut fields = Some(fields);
    let mut run = 0..0;
    let kept = wire::spans(tensor).filter(|span| !PLACES.contains(&span.number));
    for span in kept {
        let here = fields.take_if(|_| span.number > first);
        if here.is_some() || run.end != span.whole.start {
            pieces.push(tensor.slice(run));
            pieces.extend_from_slice(here.unwrap_or_default());
            run = span.whole;
        } else {
            run.end = span.whole.end;
        }
    }
    pieces.push(tensor.slice(run));
    pieces.extend_from_slice(fields.unwrap_or_default());
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn fate(field: &str, tensor: Bytes, files: &ExternalFiles, wanted: Wanted) -> Result<Fate, FormatError> {
    let tensor = proto::TensorProto::decode(tensor).map_err(|source| FormatError::Decode { source })?;
    let outside = files
        .tensor(&tensor)
        .map_err(|problem| external::failure(&tensor, &Place::root("a tensor without a name"), problem))?;
    let Wanted::From { smallest, all } = wanted else {
        return Ok(outside.map_or(Fate::Stays, Fate::Inside));
    };
    let is_outside = outside.is_some();
    let bytes = match outside {
        None if all || field == INITIALIZER => elements(tensor),
        outside => outside,
    };
    Ok(match bytes {
        Some(bytes) if !bytes.is_empty() && bytes.len() as u64 >= smallest => Fate::Outside {
            bytes,
            offset: NOWHERE,
        },
        Some(bytes) if is_outside => Fate::Inside(bytes),
        _ => Fate::Stays,
    })
}

/// The elements of a tensor in its message as they stand in a file; `None` for strings and for what is no valid tensor.
fn elements(tensor: proto::TensorProto) -> Option<Bytes> {
    let tensor = tensor_from_proto(tensor, &ExternalFiles::default(), &String::new).ok()?;
    tensor.raw_bytes().ok()
}

/// Gives the data that lie outside their places in one data file: in the order of the models, and in each of them of its tensors; equal
/// contents have one place.
pub(super) fn place(models: &mut [Relocation<'_>]) -> (DataFile, Repeated) {
    let contents: Vec<(usize, Bytes)> = models
        .iter()
        .enumerate()
        .flat_map(|(model, relocation)| relocation.going_out().map(move |bytes| (model, bytes.clone())))
        .collect();
    let mut data = DataFile::default();
    let mut uses: IndexMap<usize, Uses> = IndexMap::new();
    let mut offsets = Vec::with_capacity(contents.len());
    for (first, (model, bytes)) in firsts_of_equal(&contents).into_iter().zip(&contents) {
        let known = uses.entry(first).or_insert_with(|| Uses {
            offset: data.place(bytes),
            bytes: bytes.len() as u64,
            tensors: 0,
            model: *model,
            common: false,
        });
        known.tensors += 1;
        known.common |= known.model != *model;
        offsets.push(known.offset);
    }
    let mut offsets = offsets.into_iter();
    for fate in models.iter_mut().flat_map(|relocation| &mut relocation.fates) {
        if let Fate::Outside { offset, .. } = fate {
            *offset = offsets.next().unwrap_or(NOWHERE);
        }
    }
    (data, Repeated::of(uses.values()))
}

/// Which tensors a content is of.
struct Uses {
    offset: u64,
    bytes: u64,
    tensors: u64,
    /// The first model that has it.
    model: usize,
    /// Whether another one has it, too.
    common: bool,
}

impl Repeated {
    fn of<'u>(uses: impl Iterator<Item = &'u Uses>) -> Self {
        let mut found = Self::default();
        for content in uses.filter(|content| content.tensors > 1) {
            found.contents += 1;
            found.tensors += content.tensors;
            found.bytes += content.bytes;
            found.saved += content.bytes * (content.tensors - 1);
            found.common += u64::from(content.common);
        }
        found
    }
}

/// For each content the number of the first one with the same bytes. Only contents of equal length are read.
fn firsts_of_equal(contents: &[(usize, Bytes)]) -> Vec<usize> {
    let mut places: HashMap<(usize, usize), usize> = HashMap::new();
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    let mut distinct = Vec::new();
    let mut firsts = Vec::with_capacity(contents.len());
    for (at, (_, bytes)) in contents.iter().enumerate() {
        let first = *places
            .entry((bytes.as_ptr() as usize, bytes.len()))
            .or_insert_with(|| {
                *lengths.entry(bytes.len()).or_default() += 1;
                distinct.push((at, bytes));
                at
            });
        firsts.push(first);
    }
    distinct.retain(|(_, bytes)| lengths.get(&bytes.len()).is_some_and(|count| *count > 1));
    let digests: Vec<(usize, [u8; 32])> = distinct
        .par_iter()
        .map(|(at, bytes)| (*at, digest_of(bytes)))
        .collect();
    let mut known: HashMap<[u8; 32], usize> = HashMap::new();
    let equal: HashMap<usize, usize> = digests
        .into_iter()
        .map(|(at, digest)| (at, *known.entry(digest).or_insert(at)))
        .collect();
    firsts
        .into_iter()
        .map(|first| equal.get(&first).copied().unwrap_or(first))
        .collect()
}

/// The digest of a content, whose pages do not stay.
fn digest_of(bytes: &Bytes) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for chunk in bytes.chunks(1 << 24) {
        hasher.update(chunk);
        release(chunk);
    }
    *hasher.finalize().as_bytes()
}

/// Bytes of all pieces.
pub(super) fn length_of(pieces: &[Bytes]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of a length below 128.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, content.len() as u8][..], content].concat()
    }

    #[test]
    fn what_takes_the_place_of_data_stands_before_higher_fields_and_the_rest_stays() {
        let name = field(8, b"w");
        let doc = field(12, b"doc");
        let unknown = field(15, b"?");
        let raw = field(9, b"raw");
        let here = [Bytes::from_static(b"HERE")];
        for (message, first, expected) in [
            // Dimensions, type, name, data, documentation, a field that is not known.
            (
                [&[8u8, 1, 16, 2][..], &name, &raw, &doc, &unknown].concat(),
                RAW_DATA,
                [&[8u8, 1, 16, 2][..], &name, b"HERE", &doc, &unknown].concat(),
            ),
            (
                [&[8u8, 1, 16, 2][..], &name, &raw, &doc, &unknown].concat(),
                EXTERNAL_DATA,
                [&[8u8, 1, 16, 2][..], &name, &doc, b"HERE", &unknown].concat(),
            ),
            // Another order, and places in several fields.
            (
                [
                    &raw[..],
                    &field(13, b"a"),
                    &name,
                    &field(13, b"b"),
                    &[16, 2, 112, 1],
                ]
                .concat(),
                RAW_DATA,
                [&name[..], &[16, 2], b"HERE"].concat(),
            ),
            (raw.clone(), RAW_DATA, b"HERE".to_vec()),
        ] {
            let pieces = placed(&Bytes::from(message.clone()), first, &here);
            assert_eq!(pieces.concat(), expected, "{message:?}");
        }
    }

    #[test]
    fn equal_contents_are_found_wherever_they_lie() {
        let one = Bytes::from(vec![1u8; 5000]);
        let contents: Vec<(usize, Bytes)> = [
            one.clone(),
            Bytes::from(vec![2u8; 5000]),
            one.clone(),
            Bytes::from(vec![1u8; 5000]),
            Bytes::from(vec![1u8; 4999]),
            one.slice(..4999),
        ]
        .into_iter()
        .map(|bytes| (0, bytes))
        .collect();
        assert_eq!(firsts_of_equal(&contents), [0, 1, 0, 0, 4, 4]);
    }
}
