//! The tensors of a model as parts of its files.

use std::collections::HashMap;

use bytes::Bytes;

use crate::format::decode::Origin;
use crate::format::wire;

/// Bytes from which a tensor is stored by itself; what is smaller stays between the others.
const SMALLEST: usize = 256;
/// Bytes from which something between tensors is stored by itself.
const LARGEST_GAP: u64 = 1 << 20;
/// Dimensions that are kept of a tensor.
pub(super) const MOST_DIMS: usize = 16;

/// A file of a model.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Where the model says it lies; empty for the model itself.
    pub(super) location: String,
    pub(super) bytes: Bytes,
}

/// A part of a file that is stored by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// The file's number.
    pub(super) file: usize,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// ONNX's number of the element type; 0 for what is no tensor.
    pub(super) data_type: i32,
    pub(super) dims: Vec<u64>,
    pub(super) name: String,
}

impl Segment {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// Its bytes in the file.
    pub(super) fn slice(&self, files: &[Part]) -> Option<Bytes> {
        let bytes = &files.get(self.file)?.bytes;
        let (start, end) = (
            usize::try_from(self.offset).ok()?,
            usize::try_from(self.end()).ok()?,
        );
        (start <= end && end <= bytes.len()).then(|| bytes.slice(start..end))
    }
}

/// A model cut into tensors and what lies between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut {
    pub(super) files: Vec<Part>,
    /// In the order of their files and offsets, without overlaps.
    pub(super) segments: Vec<Segment>,
    /// Other names of segments: which one, and the name.
    pub(super) aliases: Vec<(usize, String)>,
}

impl Cut {
    /// The tensors of a model that was read.
    pub(super) fn of(origin: &Origin) -> Self {
        let mut files = vec![Part {
            location: String::new(),
            bytes: origin.bytes.clone(),
        }];
        let mut numbers = HashMap::new();
        for (location, file) in origin.external.iter() {
            numbers.insert(location.to_owned(), files.len());
            files.push(Part {
                location: location.to_owned(),
                bytes: file.bytes.clone(),
            });
        }
        let mut found = Vec::new();
        wire::visit_messages(&origin.bytes, "TensorProto", &mut |message| {
            found.extend(tensor(&origin.bytes, message, &numbers));
        });
        Self::without_overlaps(files, found)
    }

    fn without_overlaps(files: Vec<Part>, mut found: Vec<Segment>) -> Self {
        found.retain(|segment| segment.length >= SMALLEST as u64 && segment.slice(&files).is_some());
        // The sort is stable: of tensors at one place the first in the model gives its name.
        found.sort_by_key(|segment| (segment.file, segment.offset, std::cmp::Reverse(segment.length)));
        let mut cut = Self {
            files,
            ..Self::default()
        };
        let mut tensors: Vec<Segment> = Vec::new();
        let mut aliases = Vec::new();
        for segment in found {
            match tensors.last() {
                Some(last) if last.file == segment.file && segment.offset < last.end() => {
                    if (last.offset, last.length, last.data_type)
                        == (segment.offset, segment.length, segment.data_type)
                        && last.name != segment.name
                    {
                        aliases.push((segment.file, segment.offset, segment.name));
                    }
                }
                _ => tensors.push(segment),
            }
        }
        cut.segments = fill_gaps(&cut.files, tensors);
        for (file, offset, name) in aliases {
            let at = cut
                .segments
                .iter()
                .position(|known| known.file == file && known.offset == offset);
            cut.aliases.extend(at.map(|at| (at, name)));
        }
        cut
    }

    /// What lies between the segments, in order.
    pub(super) fn between(&self) -> impl Iterator<Item = Bytes> {
        self.files.iter().enumerate().flat_map(|(number, file)| {
            let here = self.segments.iter().filter(move |segment| segment.file == number);
            let starts = std::iter::once(0).chain(here.clone().map(|segment| segment.end() as usize));
            let ends = here
                .map(|segment| segment.offset as usize)
                .chain([file.bytes.len()]);
            starts.zip(ends).map(|(start, end)| file.bytes.slice(start..end))
        })
    }
}

/// The segments, and one more for each large part between them.
fn fill_gaps(files: &[Part], tensors: Vec<Segment>) -> Vec<Segment> {
    let mut filled = Vec::new();
    let mut tensors = tensors.into_iter().peekable();
    for (number, file) in files.iter().enumerate() {
        let mut at = 0;
        loop {
            let next = tensors.next_if(|tensor| tensor.file == number);
            let end = next
                .as_ref()
                .map_or(file.bytes.len() as u64, |tensor| tensor.offset);
            if end - at >= LARGEST_GAP {
                filled.push(Segment {
                    file: number,
                    offset: at,
                    length: end - at,
                    data_type: 0,
                    dims: Vec::new(),
                    name: String::new(),
                });
            }
            let Some(tensor) = next else { break };
            at = tensor.end();
            filled.push(tensor);
        }
    }
    filled
}

/// The bytes that a `TensorProto` holds or names.
fn tensor(model: &[u8], message: &[u8], numbers: &HashMap<String, usize>) -> Vec<Segment> {
    let mut dims = Vec::new();
    let mut data_type = 0;
    let mut name = String::new();
    let mut inside = Vec::new();
    let mut entries = HashMap::new();
    let mut external = false;
    for found in wire::fields(message) {
        match found.number {
            1 if found.content.is_empty() => dims.push(found.varint),
            1 => dims.extend(packed(found.content)),
            2 => data_type = found.varint as i32,
            8 => name = String::from_utf8_lossy(found.content).into_owned(),
            // float_data, raw_data, double_data: where one is not packed, each element is a field of its own and too small.
            4 | 9 | 10 => inside.push((found.number, found.content)),
            13 => {
                let mut entry = wire::fields(found.content);
                let mut text = |number| {
                    entry
                        .find(|field| field.number == number)
                        .map(|field| String::from_utf8_lossy(field.content).into_owned())
                };
                if let (Some(key), Some(value)) = (text(1), text(2)) {
                    entries.entry(key).or_insert(value);
                }
            }
            14 => external = found.varint == 1,
            _ => {}
        }
    }
    let known = dims.len() <= MOST_DIMS && dims.iter().all(|dim| i64::try_from(*dim).is_ok());
    let segment = |file, offset, length, data_type| Segment {
        file,
        offset,
        length,
        data_type,
        dims: if known { dims.clone() } else { Vec::new() },
        name: name.clone(),
    };
    if external {
        let number = |key: &str| entries.get(key).and_then(|text| text.parse::<u64>().ok());
        let file = entries.get("location").and_then(|location| numbers.get(location));
        let length = number("length").or_else(|| size_of(data_type, &dims));
        return match (file, length) {
            (Some(file), Some(length)) => {
                vec![segment(*file, number("offset").unwrap_or(0), length, data_type)]
            }
            _ => Vec::new(),
        };
    }
    inside
        .into_iter()
        .map(|(number, content)| {
            let offset = (content.as_ptr() as usize).wrapping_sub(model.as_ptr() as usize) as u64;
            let own = match number {
                4 => 1,
                10 => 11,
                _ => data_type,
            };
            segment(0, offset, content.len() as u64, own)
        })
        .collect()
}

fn packed(mut content: &[u8]) -> Vec<u64> {
    let mut values = Vec::new();
    while let Some(length) = content.iter().position(|byte| byte & 0x80 == 0) {
        let (number, rest) = content.split_at(length + 1);
        let value = number
            .iter()
            .zip((0..64).step_by(7))
            .fold(0, |value, (byte, shift)| value | u64::from(byte & 0x7f) << shift);
        values.push(value);
        content = rest;
    }
    values
}

fn size_of(data_type: i32, dims: &[u64]) -> Option<u64> {
    let elements = dims
        .iter()
        .try_fold(1u64, |product, dim| product.checked_mul(*dim))?;
    crate::ir::DType::from_onnx(data_type)?.byte_len(elements)
}
