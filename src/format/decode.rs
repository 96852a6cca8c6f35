//! Reading a model: bounded, checked, and without copying a tensor.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;

use super::container;
use super::error::{FormatError, WireProblem};
use super::external::{self, ExternalFiles};
use super::limits::{Limits, ReadOptions, Warning};
use super::location::Home;
use super::map::file_bytes;
use super::wire;
use crate::proto;

/// Where a model comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file (or a pipe).
    Path(PathBuf),
    /// Standard input.
    Stdin,
    /// Bytes in memory.
    Bytes(Bytes),
}

/// Where a model came from, kept for writing it back: cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The path as given; `None` for a stream or bytes.
    pub path: Option<PathBuf>,
    /// The model file's content.
    pub bytes: Bytes,
    /// Its external data files.
    pub external: ExternalFiles,
}

/// A model as the file has it.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The message. External tensors carry their entries; their bytes are `origin.external.tensor(..)`.
    pub model: proto::ModelProto,
    /// Where it came from.
    pub origin: Origin,
    /// What is unusual about it.
    pub warnings: Vec<Warning>,
}

impl Source {
    /// The source that a command-line argument names: `-` is standard input.
    pub fn from_argument(argument: &Path) -> Self {
        if argument == Path::new("-") {
            Self::Stdin
        } else {
            Self::Path(argument.to_owned())
        }
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&PathBuf> for Source {
    fn from(path: &PathBuf) -> Self {
        Self::Path(path.clone())
    }
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// Reads a model and maps its external data.
///
/// Only the model, its external data files and nothing else is opened; of a container with a base, the base. Under `strict` the first warning is an error.
pub fn read_proto(source: impl Into<Source>, options: &ReadOptions) -> Result<Decoded, FormatError> {
    let limits = &options.limits;
    let (bytes, path) = match source.into() {
        Source::Bytes(bytes) => (bytes, None),
        Source::Stdin => (
            read_stream(&mut io::stdin().lock(), Path::new("-"), limits)?,
            None,
        ),
        Source::Path(path) => (read_path(&path, limits)?, Some(path)),
    };
    let packed = container::is_container(&bytes);
    let (bytes, files) = if packed {
        let origin = container::restore(bytes, path.as_deref(), options.base.as_deref())?;
        (origin.bytes, origin.external)
    } else {
        (bytes, ExternalFiles::default())
    };
    let mut warnings = wire::check_model(&bytes, &options.limits)?;
    options.admit(&warnings)?;
    let model = proto::ModelProto::decode(bytes.clone()).map_err(|source| FormatError::Decode { source })?;
    let external = if packed {
        external::resolve(&model, None, files, &mut warnings)?
    } else if external::has_external(&model) {
        let home = match (&path, &options.directory) {
            (_, Some(directory)) => Some(Home::directory(directory).map_err(|e| cannot_read(directory, e))?),
            (Some(path), None) => Some(Home::of_model(path).map_err(|e| cannot_read(path, e))?),
            (None, None) => None,
        };
        external::resolve(&model, home.as_ref(), files, &mut warnings)?
    } else {
        ExternalFiles::default()
    };
    options.admit(&warnings)?;
    Ok(Decoded {
        model,
        origin: Origin {
            path,
            bytes,
            external,
        },
        warnings,
    })
}

impl ReadOptions {
    /// The first warning as an error, where warnings are errors.
    pub fn admit(&self, warnings: &[Warning]) -> Result<(), FormatError> {
        match warnings.first() {
            Some(warning) if self.strict => Err(FormatError::Strict {
                warning: warning.clone(),
            }),
            _ => Ok(()),
        }
    }
}

fn cannot_read(path: &Path, source: io::Error) -> FormatError {
    FormatError::Read {
        path: path.to_owned(),
        source,
    }
}

pub(super) fn read_path(path: &Path, limits: &Limits) -> Result<Bytes, FormatError> {
    let failed = |source| cannot_read(path, source);
    let kind = path.metadata().map_err(failed)?.file_type();
    if !kind.is_file() && !is_pipe(kind) {
        return Err(FormatError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() {
        file_bytes(file, metadata.len()).map_err(failed)
    } else {
        read_stream(&mut file, path, limits)
    }
}

/// How much of a stream is looked at before the rest is read: what begins as no model does not get to fill the memory.
const FIRST_LOOK: u64 = 1 << 16;

fn read_stream(stream: &mut dyn Read, path: &Path, limits: &Limits) -> Result<Bytes, FormatError> {
    let limit = limits.stream_bytes;
    let failed = |source| cannot_read(path, source);
    let mut buffer = Vec::new();
    let first = limit.saturating_add(1).min(FIRST_LOOK);
    stream.take(first).read_to_end(&mut buffer).map_err(failed)?;
    if buffer.len() as u64 == FIRST_LOOK {
        match (!container::is_container(&buffer))
            .then(|| wire::check_model(&buffer, limits))
            .transpose()
        {
            // It ends where the look ended.
            Err(FormatError::Malformed {
                problem: WireProblem::Truncated | WireProblem::DeclaredSize { .. },
                ..
            })
            | Ok(_) => {}
            Err(error) => return Err(error),
        }
        let rest = limit.saturating_add(1) - FIRST_LOOK;
        stream.take(rest).read_to_end(&mut buffer).map_err(failed)?;
    }
    if buffer.len() as u64 > limit {
        return Err(FormatError::StreamTooLong {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(Bytes::from(buffer))
}

#[cfg(unix)]
fn is_pipe(kind: std::fs::FileType) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    kind.is_fifo()
}

#[cfg(not(unix))]
fn is_pipe(_: std::fs::FileType) -> bool {
    false
}
