//! External data: tensors whose bytes lie in files beside the model.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use indexmap::IndexMap;

use super::error::FormatError;
use super::limits::{Warning, WarningKind};
use super::location::{Home, check_location};
use super::map::file_bytes;
use super::problem::ExternalProblem;
use super::sha1;
use super::tensors::{self, Place};
use crate::files::has_other_names;
use crate::ir::DType;
use crate::proto;
use crate::proto::tensor_proto::DataLocation;

/// The external data files of one model, each mapped once. Cloning shares the mappings.
#[derive(Clone, Debug, Default)]
pub struct ExternalFiles {
    files: IndexMap<String, ExternalFile>,
}

/// One external data file.
#[derive(Clone, Debug)]
pub struct ExternalFile {
    /// The file after resolving links.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Bytes,
}

/// Which bytes of which file a tensor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorRange<'a> {
    /// The location as recorded.
    pub location: &'a str,
    /// First byte.
    pub offset: u64,
    /// Number of bytes: recorded, or derived from shape and type.
    pub length: u64,
}

/// Whether a tensor says that its data is external.
pub(super) fn is_external(tensor: &proto::TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32)
}

fn entry<'a>(tensor: &'a proto::TensorProto, key: &str) -> Option<&'a str> {
    tensor
        .external_data
        .iter()
        .find(|entry| entry.key.as_deref() == Some(key))
        .map(|entry| entry.value.as_deref().unwrap_or(""))
}

/// Bytes that shape and element type need.
fn needed_bytes(tensor: &proto::TensorProto) -> Option<u64> {
    let elements = tensor.dims.iter().try_fold(1u64, |product, dim| {
        product.checked_mul(u64::try_from(*dim).ok()?)
    })?;
    DType::from_onnx(tensor.data_type?)?.byte_len(elements)
}

fn range(tensor: &proto::TensorProto) -> Result<TensorRange<'_>, ExternalProblem> {
    let location = entry(tensor, "location")
        .filter(|text| !text.is_empty())
        .ok_or(ExternalProblem::NoLocation)?;
    let number = |key: &'static str| match entry(tensor, key) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| ExternalProblem::Number {
                key,
                value: text.to_owned(),
            }),
    };
    let offset = number("offset")?.unwrap_or(0);
    let needed = needed_bytes(tensor).ok_or(ExternalProblem::Shape)?;
    match number("length")? {
        Some(recorded) if recorded != needed => Err(ExternalProblem::Length { recorded, needed }),
        _ => Ok(TensorRange {
            location,
            offset,
            length: needed,
        }),
    }
}

impl ExternalFiles {
    /// Files that were unpacked with their model, by the location that it records.
    pub(super) fn unpacked(files: impl Iterator<Item = (String, ExternalFile)>) -> Self {
        Self {
            files: files.collect(),
        }
    }

    /// The files by the location that the model records, in the order of first use.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ExternalFile)> {
        self.files
            .iter()
            .map(|(location, file)| (location.as_str(), file))
    }

    /// Whether the model has no external data.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Total size of the files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes.len() as u64).sum()
    }

    /// `length` bytes from `offset` of the file at `location`, shared with its mapping.
    pub fn slice(&self, range: &TensorRange<'_>) -> Result<Bytes, ExternalProblem> {
        let file = self.files.get(range.location).ok_or(ExternalProblem::NotFound)?;
        let size = file.bytes.len() as u64;
        let beyond = ExternalProblem::OutOfBounds {
            offset: range.offset,
            length: range.length,
            size,
        };
        match range.offset.checked_add(range.length) {
            Some(end) if end <= size => {
                let (Ok(start), Ok(end)) = (usize::try_from(range.offset), usize::try_from(end)) else {
                    return Err(beyond);
                };
                Ok(file.bytes.slice(start..end))
            }
            _ => Err(beyond),
        }
    }

    /// The bytes of a tensor whose data is external; `None` for one that carries its data itself.
    pub fn tensor(&self, tensor: &proto::TensorProto) -> Result<Option<Bytes>, ExternalProblem> {
        if !is_external(tensor) {
            return Ok(None);
        }
        self.slice(&range(tensor)?).map(Some)
    }

    /// Whether `bytes` are the very range of the mapping that these `external_data` entries name, so that the entries may
    /// still stand for them.
    pub fn holds(&self, entries: &[proto::StringStringEntryProto], bytes: &Bytes) -> bool {
        let value = |key: &str| {
            entries
                .iter()
                .find(|entry| entry.key.as_deref() == Some(key))
                .and_then(|entry| entry.value.as_deref())
        };
        let Some(file) = value("location").and_then(|location| self.files.get(location)) else {
            return false;
        };
        let Some(offset) = value("offset").map_or(Some(0), |text| text.parse::<usize>().ok()) else {
            return false;
        };
        let Some(end) = offset.checked_add(bytes.len()) else {
            return false;
        };
        file.bytes
            .get(offset..end)
            .is_some_and(|slice| bytes.is_empty() || slice.as_ptr() == bytes.as_ptr())
    }
}

/// Maps every external data file of a model that is not in `files` yet, and checks every range in them.
pub(super) fn resolve(
    model: &proto::ModelProto,
    home: Option<&Home>,
    files: ExternalFiles,
    warnings: &mut Vec<Warning>,
) -> Result<ExternalFiles, FormatError> {
    let mut resolver = Resolver {
        home,
        warnings,
        files,
        digests: IndexMap::new(),
    };
    tensors::visit(model, &mut |tensor, _, place| {
        if !is_external(tensor) {
            return Ok(());
        }
        resolver
            .tensor(tensor)
            .map_err(|problem| failure(tensor, place, problem))
    })?;
    Ok(resolver.files)
}

struct Resolver<'a> {
    home: Option<&'a Home>,
    warnings: &'a mut Vec<Warning>,
    files: ExternalFiles,
    /// SHA-1 of the files for which a checksum is recorded.
    digests: IndexMap<String, String>,
}

impl Resolver<'_> {
    fn tensor(&mut self, tensor: &proto::TensorProto) -> Result<(), ExternalProblem> {
        let range = range(tensor)?;
        if !self.files.files.contains_key(range.location) {
            let file = self.open(range.location)?;
            self.files.files.insert(range.location.to_owned(), file);
        }
        self.files.slice(&range)?;
        match entry(tensor, "checksum") {
            Some(recorded) => self.verify(range.location, recorded),
            None => Ok(()),
        }
    }

    fn open(&mut self, location: &str) -> Result<ExternalFile, ExternalProblem> {
        check_location(location)?;
        let (path, file, metadata) = self.home.ok_or(ExternalProblem::NoDirectory)?.open(location)?;
        // Two locations may lead to one file; it is mapped once.
        if let Some(known) = self.files.files.values().find(|known| known.path == path) {
            return Ok(known.clone());
        }
        if has_other_names(&metadata) {
            self.warnings.push(Warning {
                kind: WarningKind::HardLink,
                at: location.to_owned(),
            });
        }
        let bytes = file_bytes(file, metadata.len()).map_err(ExternalProblem::Io)?;
        Ok(ExternalFile { path, bytes })
    }

    fn verify(&mut self, location: &str, recorded: &str) -> Result<(), ExternalProblem> {
        if recorded.len() != 40 || !recorded.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let warning = Warning {
                kind: WarningKind::UnreadableChecksum,
                at: location.to_owned(),
            };
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
            return Ok(());
        }
        let Some(file) = self.files.files.get(location) else {
            return Ok(());
        };
        let found = self
            .digests
            .entry(location.to_owned())
            .or_insert_with(|| sha1::hex_digest(&file.bytes));
        if found.eq_ignore_ascii_case(recorded) {
            return Ok(());
        }
        Err(ExternalProblem::Checksum {
            recorded: recorded.to_owned(),
            found: found.clone(),
        })
    }
}

/// The error for a tensor, named by its name or by its place.
pub(super) fn failure(
    tensor: &proto::TensorProto,
    place: &Place<'_>,
    problem: ExternalProblem,
) -> FormatError {
    FormatError::External {
        tensor: tensor
            .name
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| place.to_string()),
        location: entry(tensor, "location").unwrap_or("").to_owned(),
        problem,
    }
}

/// The locations that the model in `bytes` records; `None` if the bytes are no model.
pub(super) fn recorded_locations(bytes: Bytes) -> Option<Vec<String>> {
    use prost::Message as _;
    super::wire::check_model(&bytes, &super::Limits::default()).ok()?;
    let model = proto::ModelProto::decode(bytes).ok()?;
    let mut locations = Vec::new();
    let visited: Result<(), ()> = tensors::visit(&model, &mut |tensor, _, _| {
        if is_external(tensor)
            && let Some(location) = entry(tensor, "location")
        {
            locations.push(location.to_owned());
        }
        Ok(())
    });
    visited.ok().map(|()| locations)
}

/// Whether any tensor of the model says that its data is external.
pub(super) fn has_external(model: &proto::ModelProto) -> bool {
    tensors::visit(model, &mut |tensor, _, _| {
        if is_external(tensor) { Err(()) } else { Ok(()) }
    })
    .is_err()
}

/// Whether one of the files is `path`.
pub(super) fn reads(files: &ExternalFiles, path: &Path) -> bool {
    files
        .files
        .values()
        .any(|file| crate::files::same_file(&file.path, path))
}
