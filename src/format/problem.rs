//! What is wrong with a part of a model, which [`FormatError`](super::FormatError) and what reads or writes parts say.

use std::io;
use std::path::PathBuf;

/// What is wrong with the external data of a tensor.
#[derive(Debug, thiserror::Error)]
pub enum ExternalProblem {
    /// No `location`.
    #[error("no location is recorded")]
    NoLocation,
    /// A location with a zero byte or another form that no file can have.
    #[error("the location is no file name")]
    InvalidLocation,
    /// An absolute path.
    #[error("absolute paths are not allowed")]
    Absolute,
    /// A path with `..`.
    #[error("`..` is not allowed")]
    Parent,
    /// After resolving links the file is outside of the model's directory.
    #[error("it resolves to {}, outside of the model's directory", .0.display())]
    Outside(PathBuf),
    /// No such file.
    #[error("no such file")]
    NotFound,
    /// A directory, device, pipe or socket.
    #[error("it is not a regular file")]
    NotAFile,
    /// The model came without a directory.
    #[error("the model was not read from a file, so there is no directory to look in")]
    NoDirectory,
    /// `offset` or `length` is no number.
    #[error("`{key}` is `{value}`, not a number of bytes")]
    Number {
        /// The entry's key.
        key: &'static str,
        /// The entry's value.
        value: String,
    },
    /// Offset and length reach beyond the end of the file.
    #[error("bytes {offset}..{offset}+{length} are beyond the {size} bytes of the file")]
    OutOfBounds {
        /// Recorded offset.
        offset: u64,
        /// Recorded or derived length.
        length: u64,
        /// Size of the file.
        size: u64,
    },
    /// The recorded length is not what shape and type need.
    #[error("{recorded} bytes are recorded, shape and type need {needed}")]
    Length {
        /// Recorded length.
        recorded: u64,
        /// What shape and type need.
        needed: u64,
    },
    /// Shape and type give no number of bytes: strings, unknown types, negative or overflowing dimensions.
    #[error("shape and type do not give a number of bytes")]
    Shape,
    /// The file is not the one whose checksum is recorded.
    #[error("the file's SHA-1 is {found}, {recorded} is recorded")]
    Checksum {
        /// Recorded digest.
        recorded: String,
        /// Digest of the file.
        found: String,
    },
    /// The file cannot be read.
    #[error("{0}")]
    Io(io::Error),
}

impl ExternalProblem {
    /// A stable name for this kind of problem.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoLocation => "external-no-location",
            Self::InvalidLocation => "external-invalid-location",
            Self::Absolute => "external-absolute",
            Self::Parent => "external-parent",
            Self::Outside(_) => "external-outside",
            Self::NotFound => "external-missing",
            Self::NotAFile => "external-not-a-file",
            Self::NoDirectory => "external-no-directory",
            Self::Number { .. } => "external-key",
            Self::OutOfBounds { .. } => "external-range",
            Self::Length { .. } => "tensor-size",
            Self::Shape => "external-shape",
            Self::Checksum { .. } => "external-checksum",
            Self::Io(_) => "external-read-failed",
        }
    }
}

/// A graph that cannot be written: a defect of the pass that made it.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
pub enum ToProtoError {
    /// A graph output that no value is connected to.
    #[error("the graph output {0:?} has no value")]
    NoOutput(String),
    /// The value behind a graph output bears another name.
    #[error("the graph output {output:?} is the value {value:?}")]
    OutputName {
        /// The graph output.
        output: String,
        /// The value behind it.
        value: String,
    },
    /// Nodes that depend on each other.
    #[error("{0} is on a cycle or behind one")]
    Cycle(String),
    /// A body captures a value that its owner does not read.
    #[error("{node}: capture slot {slot} is not connected")]
    Capture {
        /// The body's owner.
        node: String,
        /// The slot.
        slot: usize,
    },
}
