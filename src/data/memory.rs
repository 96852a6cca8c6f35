//! Arrays that a program hands over: whole ones in memory, or pieces that follow each other. They are read by sample range as those
//! of a file are, so everything that takes data takes these as well.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::error::DataError;
use super::npz::ArrayFile;
use crate::ir::{DType, Tensor, TensorError};

/// What messages call arrays that are in no file.
const MEMORY: &str = "arrays in memory";

/// What messages call arrays that came piece by piece.
pub(crate) const STREAM: &str = "arrays of an iterator";

/// Named arrays with their samples along axis 0. Clones share the arrays.
#[derive(Clone, Debug)]
pub struct Arrays(Arc<Named>);

#[derive(Debug)]
struct Named {
    origin: PathBuf,
    arrays: Vec<Arc<ArrayFile>>,
    digest: String,
}

impl Arrays {
    /// Whole arrays. Their elements are shared, not copied, where they are little-endian bytes already.
    ///
    /// # Errors
    ///
    /// A name that is there twice, an array without an axis of samples, or one whose elements are no numbers.
    pub fn whole(arrays: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self, DataError> {
        let origin = PathBuf::from(MEMORY);
        let mut found = Vec::new();
        for (name, tensor) in arrays {
            let wrong = |reason: String| self::wrong(&origin, &name, reason);
            check(&tensor).map_err(|error| wrong(error.to_string()))?;
            let bytes = tensor.raw_bytes().map_err(|error| wrong(error.to_string()))?;
            let digest = blake3::hash(&bytes);
            let dims = tensor.dims().to_vec();
            found.push((
                ArrayFile::in_memory(&origin, &name, tensor.dtype(), dims, bytes),
                digest,
            ));
        }
        Self::of(origin, found)
    }

    /// The pieces that `pieces` gives, one behind the other along axis 0. Each is kept in files without a name as it comes, so memory
    /// does not grow with the number of pieces.
    ///
    /// # Errors
    ///
    /// The first piece that has other arrays, types or shapes of a sample than the one before it; or what `pieces` answers is wrong.
    pub fn pieces<P, E>(pieces: P) -> Result<Self, E>
    where
        P: IntoIterator<Item = Result<Vec<(String, Tensor)>, E>>,
        E: From<DataError>,
    {
        let origin = PathBuf::from(STREAM);
        let mut spools: Vec<Spool> = Vec::new();
        for (count, piece) in pieces.into_iter().enumerate() {
            let failed = |reason: String| DataError::Read {
                file: origin.clone(),
                reason: format!("piece {count}: {reason}"),
            };
            let piece = piece?;
            if count == 0 {
                for (name, tensor) in &piece {
                    check(tensor).map_err(|error| failed(error.of(name).to_string()))?;
                    spools.push(Spool::begin(name, tensor).map_err(|error| failed(error.to_string()))?);
                }
            }
            append(&mut spools, &piece).map_err(|error| failed(error.to_string()))?;
        }
        let mut found = Vec::new();
        for spool in spools {
            found.push(spool.finish(&origin)?);
        }
        Ok(Self::of(origin, found)?)
    }

    fn of(origin: PathBuf, mut found: Vec<(ArrayFile, blake3::Hash)>) -> Result<Self, DataError> {
        found.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let twice = found
            .windows(2)
            .find(|pair| matches!(pair, [(a, _), (b, _)] if a.name == b.name));
        if let Some([(array, _), ..]) = twice {
            return Err(wrong(&origin, &array.name, "it is there twice".to_owned()));
        }
        if found.is_empty() {
            return Err(DataError::Empty {
                file: origin,
                detail: "; no array is there".to_owned(),
            });
        }
        let mut hasher = blake3::Hasher::new();
        for (array, digest) in &found {
            let heading = format!("{:?} {} {:?}\n", array.name, array.dtype, array.dims);
            hasher.update(heading.as_bytes());
            hasher.update(digest.as_bytes());
        }
        Ok(Self(Arc::new(Named {
            origin,
            arrays: found.into_iter().map(|(array, _)| Arc::new(array)).collect(),
            digest: hasher.finalize().to_hex().to_string(),
        })))
    }

    /// What messages call the source.
    pub(super) fn origin(&self) -> &Path {
        &self.0.origin
    }

    /// The names of the arrays, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.arrays.iter().map(|array| array.name.clone()).collect()
    }

    /// Whether there is an array of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.arrays.iter().any(|array| array.name == name)
    }

    /// One array.
    pub(super) fn array(&self, name: &str) -> Result<Arc<ArrayFile>, DataError> {
        let found = self.0.arrays.iter().find(|array| array.name == name);
        found.cloned().ok_or_else(|| DataError::NoArray {
            file: self.0.origin.clone(),
            array: name.to_owned(),
            available: self.names(),
        })
    }

    /// A BLAKE3 digest of names, types, shapes and elements: the same for whole arrays and for their pieces.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }
}

impl PartialEq for Arrays {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Serialize for Arrays {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("blake3:{}", self.0.digest))
    }
}

/// What is wrong with an array, or with a piece.
#[derive(Debug, thiserror::Error)]
enum PieceError {
    #[error("it has no axis; samples lie along axis 0")]
    NoAxis,
    #[error("samples cannot be of type {0}")]
    Type(DType),
    #[error("it has {found} arrays, the first one has {}: {}", expected.len(), expected.join(", "))]
    Arrays { found: usize, expected: Vec<String> },
    #[error("it has no array {0:?}, the first one has")]
    Missing(String),
    #[error("its arrays differ in their number of samples: {0:?}")]
    Samples(String),
    #[error("samples are {} {:?} here and {} {:?} in the first piece", found.0, found.1, expected.0, expected.1)]
    Entry {
        /// Element type and shape of a sample.
        found: (DType, Vec<u64>),
        expected: (DType, Vec<u64>),
    },
    #[error(transparent)]
    Tensor(#[from] TensorError),
    #[error(transparent)]
    Spool(#[from] std::io::Error),
    #[error("array {array:?}: {source}")]
    Of { array: String, source: Box<PieceError> },
}

impl PieceError {
    fn of(self, array: &str) -> Self {
        Self::Of {
            array: array.to_owned(),
            source: Box::new(self),
        }
    }
}

fn wrong(origin: &Path, name: &str, reason: String) -> DataError {
    DataError::Read {
        file: origin.to_owned(),
        reason: format!("array {name:?}: {reason}"),
    }
}

/// What is wrong with an array as samples.
fn check(tensor: &Tensor) -> Result<(), PieceError> {
    if tensor.dims().is_empty() {
        return Err(PieceError::NoAxis);
    }
    match tensor.dtype() {
        dtype if dtype == DType::String || dtype.is_packed() => Err(PieceError::Type(dtype)),
        _ => Ok(()),
    }
}

/// Adds a piece, which has to have just the arrays of the first one and as many samples in each.
fn append(spools: &mut [Spool], piece: &[(String, Tensor)]) -> Result<(), PieceError> {
    if piece.len() != spools.len() {
        return Err(PieceError::Arrays {
            found: piece.len(),
            expected: spools.iter().map(|spool| spool.name.clone()).collect(),
        });
    }
    let samples = |tensor: &Tensor| tensor.dims().first().copied();
    let expected = piece.first().and_then(|(_, tensor)| samples(tensor));
    for spool in spools {
        let Some((name, tensor)) = piece.iter().find(|(name, _)| *name == spool.name) else {
            return Err(PieceError::Missing(spool.name.clone()));
        };
        if samples(tensor) != expected {
            return Err(PieceError::Samples(name.clone()));
        }
        spool.push(tensor).map_err(|error| error.of(name))?;
    }
    Ok(())
}

/// An array on its way into a file without a name.
struct Spool {
    name: String,
    dtype: DType,
    /// The shape of a sample.
    entry: Vec<u64>,
    samples: u64,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
}

impl Spool {
    fn begin(name: &str, first: &Tensor) -> std::io::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            dtype: first.dtype(),
            entry: first.dims().get(1..).unwrap_or_default().to_vec(),
            samples: 0,
            file: BufWriter::new(tempfile::tempfile()?),
            hasher: blake3::Hasher::new(),
        })
    }

    fn push(&mut self, tensor: &Tensor) -> Result<(), PieceError> {
        let (samples, entry) = match tensor.dims() {
            [samples, entry @ ..] => (*samples, entry),
            [] => return Err(PieceError::NoAxis),
        };
        if tensor.dtype() != self.dtype || entry != self.entry.as_slice() {
            return Err(PieceError::Entry {
                found: (tensor.dtype(), entry.to_vec()),
                expected: (self.dtype, self.entry.clone()),
            });
        }
        let bytes = tensor.raw()?;
        self.hasher.update(&bytes);
        self.samples += samples;
        Ok(self.file.write_all(&bytes)?)
    }

    fn finish(self, origin: &Path) -> Result<(ArrayFile, blake3::Hash), DataError> {
        let file = self
            .file
            .into_inner()
            .map_err(|error| wrong(origin, &self.name, error.to_string()))?;
        let dims = std::iter::once(self.samples).chain(self.entry).collect();
        let array = ArrayFile::checked(origin, &self.name, self.dtype, dims, file, 0)?;
        Ok((array, self.hasher.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(dims: &[u64], first: f32) -> Tensor {
        let count: u64 = dims.iter().product();
        let values: Vec<f32> = (0..count).map(|at| first + at as f32).collect();
        Tensor::from_slice(dims, &values).unwrap()
    }

    #[test]
    fn pieces_are_the_whole_arrays() {
        let whole = Arrays::whole([("x".to_owned(), floats(&[5, 2], 0.0))]).unwrap();
        let parts = [(&[2, 2][..], 0.0), (&[0, 2], 4.0), (&[3, 2], 4.0)];
        let pieces = parts.map(|(dims, first)| Ok(vec![("x".to_owned(), floats(dims, first))]));
        let pieces = Arrays::pieces::<_, DataError>(pieces).unwrap();
        assert_eq!(whole, pieces);
        for arrays in [whole, pieces] {
            let read = arrays.array("x").unwrap().read(1, 3).unwrap().tensor().unwrap();
            assert!(read.same_as(&floats(&[3, 2], 2.0)));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_piece() {
        let x = |dims: &[u64]| ("x".to_owned(), floats(dims, 0.0));
        let y = |dims: &[u64]| ("y".to_owned(), floats(dims, 0.0));
        let none: [Result<Vec<_>, DataError>; 0] = [];
        assert_eq!(Arrays::pieces(none).unwrap_err().code(), "data-empty");
        for (pieces, word) in [
            (vec![Ok(vec![x(&[1, 2])]), Ok(vec![x(&[1, 3])])], "piece 1"),
            (vec![Ok(vec![x(&[1, 2])]), Ok(vec![y(&[1, 2])])], "no array \"x\""),
            (vec![Ok(vec![x(&[1, 2])]), Ok(vec![])], "it has 0 arrays"),
            (vec![Ok(vec![x(&[1, 2]), y(&[2, 2])])], "number of samples"),
            (vec![Ok(vec![x(&[])])], "no axis"),
        ] {
            let error: DataError = Arrays::pieces(pieces).unwrap_err();
            assert_eq!(error.code(), "data-read");
            assert!(error.to_string().contains(word), "{error}: {word}");
        }
        let lost = || DataError::Empty {
            file: STREAM.into(),
            detail: String::new(),
        };
        let passed_on = Arrays::pieces([Ok(vec![x(&[1, 2])]), Err(lost())]).unwrap_err();
        assert_eq!(passed_on.code(), lost().code());
        let twice = Arrays::whole([x(&[1]), x(&[1])]).unwrap_err();
        assert!(twice.to_string().contains("twice"), "{twice}");
    }
}
