//! Arrays of `.npz` archives and `.npy` files, read by sample range. A stored array is read in place; a compressed one is
//! unpacked once into an unnamed temporary file, so memory does not grow with the data.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;
use npyz::{Endianness, NpyFile, Order, TypeChar};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::array::Array;
use super::error::DataError;
use super::foreign;
use crate::files::Draft;
use crate::ir::{DType, Tensor};

/// One array, open for reading ranges of its first axis. What is in memory has no file: its path is what messages call it.
#[derive(Debug)]
pub(super) struct ArrayFile {
    pub(super) path: PathBuf,
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) dims: Vec<u64>,
    content: Content,
}

/// Where the elements are.
#[derive(Debug)]
enum Content {
    /// In a file, from this byte on.
    File(Mutex<File>, u64),
    /// In memory.
    Memory(Bytes),
}

/// The names of the arrays in a file; a `.npy` file has one, named by its stem.
pub(super) fn array_names(path: &Path) -> Result<Vec<String>, DataError> {
    if is_npy(path) {
        return Ok(vec![
            path.file_stem()
                .and_then(|s| s.to_str())
                .unwrap_or("array")
                .to_owned(),
        ]);
    }
    let archive = open_archive(path)?;
    let mut names: Vec<String> = archive
        .file_names()
        .filter_map(|entry| Some(entry.ok()?.strip_suffix(ENTRY_SUFFIX)?.to_owned()))
        .collect();
    names.sort();
    if names.is_empty() {
        return Err(DataError::Empty {
            file: path.to_owned(),
            detail: format!("; {}", foreign::described(path, "the archive has no arrays")),
        });
    }
    Ok(names)
}

/// What the names of an archive's arrays end with inside it.
const ENTRY_SUFFIX: &str = ".npy";

fn open_archive(path: &Path) -> Result<ZipArchive<io::BufReader<File>>, DataError> {
    let file = File::open(path).map_err(|e| read_error(path, e))?;
    ZipArchive::new(io::BufReader::new(file)).map_err(|e| read_error(path, e.into()))
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"))
}

fn read_error(path: &Path, error: io::Error) -> DataError {
    DataError::Read {
        file: path.to_owned(),
        reason: foreign::described(path, &error.to_string()),
    }
}

impl ArrayFile {
    /// Opens one array.
    pub(super) fn open(path: &Path, name: &str) -> Result<Self, DataError> {
        let wrong = |reason: String| DataError::Read {
            file: path.to_owned(),
            reason: format!("array {name:?}: {reason}"),
        };
        if is_npy(path) {
            let npy = NpyFile::new(File::open(path).map_err(|e| read_error(path, e))?)
                .map_err(|e| read_error(path, e))?;
            let (dtype, dims) = describe(&npy).map_err(|error| wrong(error.to_string()))?;
            let mut file = npy.into_inner();
            let start = file.stream_position().map_err(|e| read_error(path, e))?;
            return Self::checked(path, name, dtype, dims, file, start);
        }
        let mut archive = open_archive(path)?;
        let entry = match archive.by_name(&format!("{name}{ENTRY_SUFFIX}")) {
            Ok(entry) => entry,
            Err(ZipError::FileNotFound) => {
                let available = array_names(path)?;
                return Err(DataError::NoArray {
                    file: path.to_owned(),
                    array: name.to_owned(),
                    available,
                });
            }
            Err(other) => return Err(read_error(path, other.into())),
        };
        let npy = NpyFile::new(entry).map_err(|e| read_error(path, e))?;
        let (dtype, dims) = describe(&npy).map_err(|error| wrong(error.to_string()))?;
        let mut entry = npy.into_inner();
        let mut spool = tempfile::tempfile().map_err(|e| read_error(path, e))?;
        io::copy(&mut entry, &mut spool).map_err(|e| wrong(e.to_string()))?;
        spool.flush().map_err(|e| read_error(path, e))?;
        Self::checked(path, name, dtype, dims, spool, 0)
    }

    /// An array whose elements begin at `start` of a file that holds all of them.
    pub(super) fn checked(
        path: &Path,
        name: &str,
        dtype: DType,
        dims: Vec<u64>,
        file: File,
        start: u64,
    ) -> Result<Self, DataError> {
        let wrong = |reason: String| DataError::Read {
            file: path.to_owned(),
            reason: format!("array {name:?}: {reason}"),
        };
        let elements = dims.iter().try_fold(1u64, |p, d| p.checked_mul(*d));
        let needed = elements
            .and_then(|n| dtype.byte_len(n))
            .ok_or_else(|| wrong("its size overflows".to_owned()))?;
        let length = file.metadata().map_err(|e| read_error(path, e))?.len();
        if length.saturating_sub(start) < needed {
            return Err(wrong(format!(
                "it declares {needed} bytes and holds {}",
                length.saturating_sub(start)
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            name: name.to_owned(),
            dtype,
            dims,
            content: Content::File(Mutex::new(file), start),
        })
    }

    /// An array of these elements, as many as `dims` says.
    pub(super) fn in_memory(
        origin: &Path,
        name: &str,
        dtype: DType,
        dims: Vec<u64>,
        elements: Bytes,
    ) -> Self {
        Self {
            path: origin.to_owned(),
            name: name.to_owned(),
            dtype,
            dims,
            content: Content::Memory(elements),
        }
    }

    /// Entries `from .. from + count` of the first axis.
    pub(super) fn read(&self, from: u64, count: u64) -> Result<Array, DataError> {
        let inner: u64 = self.dims.iter().skip(1).product();
        let entry = self.dtype.byte_len(inner).unwrap_or(0);
        let bytes = match &self.content {
            Content::File(file, start) => {
                let mut bytes = vec![0u8; (entry * count) as usize];
                let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                file.seek(SeekFrom::Start(start + from * entry))
                    .map_err(|e| read_error(&self.path, e))?;
                file.read_exact(&mut bytes)
                    .map_err(|e| read_error(&self.path, e))?;
                bytes
            }
            Content::Memory(elements) => {
                let range = (from * entry) as usize..((from + count) * entry) as usize;
                let part = elements.get(range).ok_or_else(|| DataError::Read {
                    file: self.path.clone(),
                    reason: format!("array {:?} has no entries {from} to {}", self.name, from + count),
                })?;
                part.to_vec()
            }
        };
        let mut dims = self.dims.clone();
        if let Some(first) = dims.first_mut() {
            *first = count;
        }
        Ok(Array {
            dtype: self.dtype,
            dims,
            bytes,
        })
    }
}

/// An array that is not read.
#[derive(Debug, thiserror::Error)]
enum FormatError {
    #[error("it is in Fortran order; save it in C order (numpy.ascontiguousarray)")]
    Fortran,
    #[error("structured arrays are not supported")]
    Structured,
    #[error("it is big-endian")]
    BigEndian,
    #[error("it holds pickled Python objects, not numbers; save an array of one number type")]
    Objects,
    #[error("element type {0}{1} is not supported")]
    ElementType(&'static str, u64),
}

fn describe<R: Read>(npy: &NpyFile<R>) -> Result<(DType, Vec<u64>), FormatError> {
    if npy.order() != Order::C {
        return Err(FormatError::Fortran);
    }
    let npyz::DType::Plain(ty) = npy.dtype() else {
        return Err(FormatError::Structured);
    };
    if ty.endianness() == Endianness::Big && ty.size_field() > 1 {
        return Err(FormatError::BigEndian);
    }
    let dtype = match (ty.type_char(), ty.size_field()) {
        (TypeChar::Bool, _) => DType::Bool,
        (TypeChar::Int, 1) => DType::I8,
        (TypeChar::Int, 2) => DType::I16,
        (TypeChar::Int, 4) => DType::I32,
        (TypeChar::Int, 8) => DType::I64,
        (TypeChar::Uint, 1) => DType::U8,
        (TypeChar::Uint, 2) => DType::U16,
        (TypeChar::Uint, 4) => DType::U32,
        (TypeChar::Uint, 8) => DType::U64,
        (TypeChar::Float, 2) => DType::F16,
        (TypeChar::Float, 4) => DType::F32,
        (TypeChar::Float, 8) => DType::F64,
        (other, _) if other.to_str() == "O" => return Err(FormatError::Objects),
        (other, size) => return Err(FormatError::ElementType(other.to_str(), size)),
    };
    Ok((dtype, npy.shape().to_vec()))
}

/// An `.npz` file that is written array by array and piece by piece; it appears under its name when it is complete.
pub struct NpzStream(Npz<Draft>);

impl NpzStream {
    /// A file that has no array yet, in the folder of `path`.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Npz::new(Draft::create(path)?)))
    }

    /// Begins the next array; its elements follow with [`NpzStream::write`]. Types that numpy has no name for (bfloat16, packed and
    /// 8-bit floats, strings) are an error.
    pub fn start(&mut self, name: &str, dtype: DType, dims: &[u64]) -> io::Result<()> {
        self.0.start(name, dtype, dims)
    }

    /// The next elements of the array, little-endian and in row-major order.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write(bytes)
    }

    /// Completes the file and gives it its name, in the place of what has it.
    pub fn finish(self) -> io::Result<()> {
        self.0.finish()?.publish(true)
    }
}

/// The arrays of an `.npz`, on their way to anything that can be written.
struct Npz<W: Write + Seek>(ZipWriter<io::BufWriter<W>>);

/// From this many bytes on an entry's sizes take 64 bits. Below the 4 GiB of the format, as the header counts too.
const LARGE_ENTRY: u64 = 0xf000_0000;

impl<W: Write + Seek> Npz<W> {
    fn new(target: W) -> Self {
        Self(ZipWriter::new(io::BufWriter::new(target)))
    }

    fn start(&mut self, name: &str, dtype: DType, dims: &[u64]) -> io::Result<()> {
        let wrong = |reason: String| io::Error::other(format!("{name}: {reason}"));
        let code = numpy_code(dtype).ok_or_else(|| wrong(format!("numpy has no {dtype}")))?;
        let shape = dims.iter().map(|d| format!("{d},")).collect::<String>();
        let mut header = format!("{{'descr': '{code}', 'fortran_order': False, 'shape': ({shape}), }}");
        while (10 + header.len() + 1) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let length = u16::try_from(header.len()).map_err(|_| wrong("too many dimensions".to_owned()))?;
        let elements = dims.iter().try_fold(1u64, |p, d| p.checked_mul(*d));
        let bytes = elements
            .and_then(|n| dtype.byte_len(n))
            .ok_or_else(|| wrong("its size overflows".to_owned()))?;
        let writer = &mut self.0;
        // The time of writing stays out: the same arrays give the same bytes.
        let options = SimpleFileOptions::default()
            .last_modified_time(zip::DateTime::default())
            .large_file(bytes >= LARGE_ENTRY);
        writer
            .start_file(format!("{name}{ENTRY_SUFFIX}"), options)
            .map_err(|e| wrong(e.to_string()))?;
        writer.write_all(b"\x93NUMPY\x01\x00")?;
        writer.write_all(&length.to_le_bytes())?;
        writer.write_all(header.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn tensor(&mut self, name: &str, tensor: &Tensor) -> io::Result<()> {
        self.start(name, tensor.dtype(), tensor.dims())?;
        let raw = tensor
            .raw()
            .map_err(|e| io::Error::other(format!("{name}: {e}")))?;
        self.write(&raw)
    }

    fn finish(self) -> io::Result<W> {
        let buffered = self.0.finish().map_err(io::Error::other)?;
        buffered.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// Writes tensors into an `.npz` in the given order, one at a time.
pub fn write_npz<'a>(
    path: &Path,
    arrays: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<(), DataError> {
    let wrong = |e: io::Error| DataError::Read {
        file: path.to_owned(),
        reason: e.to_string(),
    };
    let mut stream = NpzStream::create(path).map_err(|e| read_error(path, e))?;
    for (name, tensor) in arrays {
        stream.0.tensor(name, tensor).map_err(wrong)?;
    }
    stream.finish().map_err(|e| read_error(path, e))
}

/// The content of an `.npz` with these tensors, in a file without a name where it is large.
///
/// # Errors
/// When numpy has no name for a type, or there is no room.
pub fn npz_bytes<'a>(arrays: impl IntoIterator<Item = (&'a str, &'a Tensor)>) -> io::Result<Bytes> {
    let mut npz = Npz::new(tempfile::tempfile()?);
    for (name, tensor) in arrays {
        npz.tensor(name, tensor)?;
    }
    let mut file = npz.finish()?;
    file.rewind()?;
    let size = file.metadata()?.len();
    crate::format::file_bytes(file, size)
}

fn numpy_code(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::Bool => "|b1",
        DType::I8 => "|i1",
        DType::U8 => "|u1",
        DType::I16 => "<i2",
        DType::U16 => "<u2",
        DType::I32 => "<i4",
        DType::U32 => "<u4",
        DType::I64 => "<i8",
        DType::U64 => "<u8",
        DType::F16 => "<f2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::Complex64 => "<c8",
        DType::Complex128 => "<c16",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_writing_does_not_change_the_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let x = Tensor::from_slice::<f32>(&[2], &[1., 2.]).unwrap();
        let written = || {
            let path = folder.path().join("a.npz");
            write_npz(&path, [("x", &x)]).unwrap();
            std::fs::read(path).unwrap()
        };
        let first = written();
        // Bytes 10 to 13 of the first header are the time and the day, in the format of DOS: 1980-01-01, midnight.
        assert_eq!(first[10..14], [0, 0, 0x21, 0]);
        assert_eq!(first, written());
    }

    #[test]
    fn what_is_written_is_read_back_by_range() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let x = Tensor::from_slice::<f32>(&[3, 2], &[0., 1., 2., 3., 4., 5.]).unwrap();
        let y = Tensor::from_slice::<i64>(&[3], &[7, 8, 9]).unwrap();
        write_npz(&path, [("x", &x), ("y", &y)]).unwrap();
        assert_eq!(array_names(&path).unwrap(), ["x", "y"]);
        let array = ArrayFile::open(&path, "x").unwrap();
        assert_eq!((array.dtype, array.dims.clone()), (DType::F32, vec![3, 2]));
        let part = array.read(1, 2).unwrap().tensor().unwrap();
        assert_eq!(part.view::<f32>().unwrap().as_ref(), [2., 3., 4., 5.]);
        assert_eq!(ArrayFile::open(&path, "z").unwrap_err().code(), "data-no-array");
    }
}
