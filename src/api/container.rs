//! Containers: packing models, unpacking them, and one tensor of many.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::array::Array;
use super::error::Error;
use super::files::MODEL;
use super::options::Options;
use super::save::{Destination, Saved, write_bytes_of, write_file};
use crate::format::container::{self, Base};
use crate::format::{Decoded, FormatError, ReadOptions, Source, read_proto};
use crate::ir::DType;

/// How to pack a model.
///
/// # Examples
///
/// ```
/// let packing = secateur::Packing::new().fast().base("fixtures/digits_cnn.onnx");
/// # let _ = packing;
/// ```
#[derive(Clone, Debug, Default)]
pub struct Packing {
    fast: bool,
    base: Option<PathBuf>,
}

impl Packing {
    /// As small as possible, and by no other model.
    pub fn new() -> Self {
        Self::default()
    }

    /// Codes with fixed frequencies alone: a little larger, and unpacked about ten times as fast.
    pub fn fast(mut self) -> Self {
        self.fast = true;
        self
    }

    /// Stores what differs from a model that whoever unpacks has, too: an earlier state, the model before pruning or with another head.
    pub fn base(mut self, path: impl AsRef<Path>) -> Self {
        self.base = Some(path.as_ref().to_owned());
        self
    }
}

/// What packing a model gave.
#[derive(Clone, Debug, Serialize)]
pub struct Packed {
    /// The container.
    pub output: String,
    /// Bytes of the model with its external data.
    pub model_bytes: u64,
    /// Bytes of the container.
    pub bytes: u64,
    /// The graph, and tensors of less than 256 bytes.
    pub graph: PackedPart,
    /// The other tensors, in the order of the file; parts of files that no tensor has have no name.
    pub tensors: Vec<PackedPart>,
}

/// A part of a container.
#[derive(Clone, Debug, Serialize)]
pub struct PackedPart {
    /// The tensor.
    pub name: String,
    /// Its bytes in the model.
    pub bytes: u64,
    /// Its bytes in the container.
    pub packed: u64,
}

/// A container, of which the index has been read.
///
/// # Examples
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("digits.sct");
/// let options = secateur::Options::new();
/// secateur::pack("fixtures/digits_cnn.onnx", &path, &secateur::Packing::new(), &options)?;
/// let container = secateur::Container::open(&path)?;
/// let weight = container.tensors().into_iter().max_by_key(|tensor| tensor.bytes).unwrap();
/// assert_eq!(container.tensor(&weight.name)?.to_bytes()?.len() as u64, weight.bytes);
/// # Ok::<(), secateur::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Container {
    container: container::Container,
    path: PathBuf,
    base: Option<PathBuf>,
}

/// Packs the model file `input` and its external data into the container `output`, which [`crate::Model::open`] reads as any model and [`unpack`]
/// turns into the same files again. A file that is no protobuf message of a model is refused.
///
/// # Errors
///
/// What reading a model may say; `output-exists`, `output-is-input`, `write-failed`. Then nothing is written.
///
/// # Examples
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// let (packed, again) = (folder.path().join("m.sct"), folder.path().join("m.onnx"));
/// let options = secateur::Options::new();
/// let done = secateur::pack("fixtures/digits_cnn.onnx", &packed, &secateur::Packing::new(), &options)?;
/// assert!(done.bytes < done.model_bytes);
/// secateur::unpack(&packed, &again, None, &options)?;
/// assert_eq!(std::fs::read(&again).unwrap(), std::fs::read("fixtures/digits_cnn.onnx").unwrap());
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn pack(
    input: impl AsRef<Path>,
    output: impl AsRef<Path>,
    packing: &Packing,
    options: &Options,
) -> Result<Packed, Error> {
    let (input, output) = (input.as_ref(), output.as_ref());
    let mut files = options.files();
    files.reads(MODEL, input);
    if let Some(base) = &packing.base {
        files.reads("--base", base);
    }
    files.writes("-o", output);
    files.check()?;
    let decoded = read_message(input, &ReadOptions::default())?;
    let base = packing.base.as_deref().map(|path| {
        let opened = Base::open(path);
        opened.map_err(|error| Error::from(error).in_file(path))
    });
    let how = container::PackOptions {
        fast: packing.fast,
        base: base.transpose()?,
        force: options.force,
    };
    let packed = options.on_threads(|| container::pack(&decoded.origin, output, &how))??;
    let part = |(name, bytes, packed)| PackedPart { name, bytes, packed };
    Ok(Packed {
        output: output.display().to_string(),
        model_bytes: packed.contents,
        bytes: packed.bytes,
        graph: part(("graph".to_owned(), packed.graph.0, packed.graph.1)),
        tensors: packed.tensors.into_iter().map(part).collect(),
    })
}

/// Writes the files that a container was made of: the model as `output`, and its external data beside it under the names that the model
/// records. A container that was packed with a base needs it: `base`, or a file of its name beside the container.
///
/// # Errors
///
/// `container-*` for what is no container or is damaged, with the tensor in [`Error::value`]; `output-exists` and the like. Then nothing
/// is written.
pub fn unpack(
    container: impl AsRef<Path>,
    output: impl AsRef<Path>,
    base: Option<&Path>,
    options: &Options,
) -> Result<Saved, Error> {
    let (input, output) = (container.as_ref(), output.as_ref());
    let mut files = options.files();
    files.reads(MODEL, input);
    if let Some(base) = base {
        files.reads("--base", base);
    }
    files.writes("-o", output);
    files.check()?;
    let opened = Container::open_with(input, base)?;
    let restored = options.on_threads(|| opened.container.restore(base, Some(input)))?;
    let origin = restored.map_err(|error| Error::from(error).in_file(input))?;
    write_bytes_of(&origin, &Destination::File(output.to_owned()), options)
}

/// Reads the message of a model as the file has it; `-` is standard input. What is in it is not checked.
pub(super) fn read_message(path: &Path, how: &ReadOptions) -> Result<Decoded, Error> {
    let decoded = read_proto(Source::from_argument(path), how);
    let decoded = decoded.map_err(|error| Error::from(error).in_file(path))?;
    if decoded.model.graph.is_none() {
        let error = Error::new(
            "missing-graph",
            "not a valid ONNX model: the message has no graph",
        );
        return Err(error.in_file(path));
    }
    Ok(decoded)
}

impl Container {
    /// Reads the index of a container.
    ///
    /// # Errors
    ///
    /// `container-magic` for what is none, `container-*` for one that is damaged, `read-failed`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path.as_ref(), None)
    }

    /// The same for one that was packed with a base, and the file of that base.
    ///
    /// # Errors
    ///
    /// As [`Container::open`].
    pub fn open_with(path: &Path, base: Option<&Path>) -> Result<Self, Error> {
        let at = |error: FormatError| Error::from(error).in_file(path);
        let bytes = container::read_file(path).map_err(at)?;
        Ok(Self {
            container: container::Container::parse(bytes).map_err(at)?,
            path: path.to_owned(),
            base: base.map(Path::to_owned),
        })
    }

    /// The name that the base's file had, where it was packed with one.
    pub fn base(&self) -> Option<&str> {
        self.container.base().map(|base| base.name.as_str())
    }

    /// The tensors that can be had by themselves: those of at least 256 bytes.
    pub fn tensors(&self) -> Vec<PackedPart> {
        let tensors = self.container.tensors().into_iter();
        tensors
            .map(|tensor| PackedPart {
                name: tensor.name,
                bytes: tensor.bytes,
                packed: tensor.coded,
            })
            .collect()
    }

    /// One tensor; no other is decoded.
    ///
    /// # Errors
    ///
    /// `container-no-tensor`, `container-damaged`.
    pub fn tensor(&self, name: &str) -> Result<Array, Error> {
        let at = |error: FormatError| Error::from(error).in_file(&self.path);
        let content = self
            .container
            .tensor(name, self.base.as_deref(), Some(&self.path));
        let content = content.map_err(at)?;
        let known = self
            .container
            .tensors()
            .into_iter()
            .find(|tensor| tensor.name == name);
        let element = known
            .as_ref()
            .and_then(|tensor| DType::from_onnx(tensor.data_type));
        let dims: Vec<usize> = known.map_or_else(Vec::new, |tensor| {
            tensor
                .dims
                .iter()
                .map(|dim| usize::try_from(*dim).unwrap_or(usize::MAX))
                .collect()
        });
        Array::from_bytes(element.map_or("undefined", DType::name), dims, content)
            .map_err(|error| error.in_file(&self.path).at_value(Some(name)))
    }

    /// Writes one tensor as a `.npy` file. Elements that NumPy has no type for are written as unsigned integers of the same bits, two of
    /// four bits in a byte.
    ///
    /// # Errors
    ///
    /// As [`Container::tensor`]; `output-exists`, `write-failed`.
    pub fn extract(&self, name: &str, output: &Path, options: &Options) -> Result<(), Error> {
        let mut files = options.files();
        files.reads(MODEL, &self.path);
        files.writes("-o", output);
        files.check()?;
        let array = self.tensor(name)?;
        let content = array.to_bytes()?;
        let (letters, packed) = npy_type(array.element());
        let dims = match packed {
            true => vec![content.len() as u64],
            false => array.shape().to_vec(),
        };
        let tuple: String = dims.iter().map(|dim| format!("{dim}, ")).collect();
        let header = format!("{{'descr': '{letters}', 'fortran_order': False, 'shape': ({tuple}), }}");
        // Magic, version and length are ten bytes; all of it is a multiple of 64 and ends with a new line.
        let length = (header.len() + 11).next_multiple_of(64) - 10;
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
        file.extend(format!("{header:<width$}\n", width = length - 1).into_bytes());
        file.extend(content);
        write_file(output, &file, options.force)
    }
}

/// NumPy's type of elements, and whether several of them share a byte.
fn npy_type(element: &str) -> (&'static str, bool) {
    match element {
        "float" => ("<f4", false),
        "double" => ("<f8", false),
        "float16" => ("<f2", false),
        "int8" => ("|i1", false),
        "int16" => ("<i2", false),
        "int32" => ("<i4", false),
        "int64" => ("<i8", false),
        "uint16" | "bfloat16" => ("<u2", false),
        "uint32" => ("<u4", false),
        "uint64" => ("<u8", false),
        "complex64" => ("<c8", false),
        "complex128" => ("<c16", false),
        "bool" => ("|b1", false),
        "uint4" | "int4" | "float4e2m1" | "uint2" | "int2" | "float6e2m3" | "float6e3m2" => ("|u1", true),
        _ => ("|u1", false),
    }
}
