//! Everything that can go wrong between bytes and a model, each kind with a stable code.

use std::io;
use std::path::{Path, PathBuf};

use super::container::ContainerError;
use super::lift::LiftError;
use super::limits::Warning;
use super::problem::{ExternalProblem, ToProtoError};

/// Why a model could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The operating system refused to read a file.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The operating system refused to write a file; nothing of the save remains.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The path names a directory or a device.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A pipe or standard input delivers more than [`super::Limits::stream_bytes`].
    #[error("{} gives more than the {limit} bytes that a model in one message may have", path.display())]
    StreamTooLong {
        /// The path, `-` for standard input.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The bytes are no well-formed model.
    #[error("not a valid ONNX model: {problem} in {at}, at byte {offset}")]
    Malformed {
        /// The message or field, as a path such as `graph.node[3].input[0]`.
        at: String,
        /// Offset in the file.
        offset: u64,
        /// What is wrong.
        problem: WireProblem,
    },
    /// The protobuf decoder refused the bytes.
    #[error("not a valid ONNX model: {source}")]
    Decode {
        /// The decoder's reason.
        source: prost::DecodeError,
    },
    /// The message is no graph.
    #[error("not a valid ONNX model: {0}")]
    Lift(#[from] LiftError),
    /// A graph that cannot be written: a defect of whatever made it.
    #[error("the model cannot be written, which is a defect of secateur: {0}")]
    ToProto(#[from] ToProtoError),
    /// A warning, under `strict`.
    #[error("{warning} (refused because of --strict)")]
    Strict {
        /// The warning.
        warning: Warning,
    },
    /// The external data of a tensor cannot be used.
    #[error("external data of tensor `{tensor}` at `{location}`: {problem}")]
    External {
        /// The tensor: its name, else its place in the model.
        tensor: String,
        /// The recorded location, empty if there is none.
        location: String,
        /// What is wrong.
        problem: ExternalProblem,
    },
    /// The output exists and may not be replaced.
    #[error("{} exists already", path.display())]
    OutputExists {
        /// The output.
        path: PathBuf,
    },
    /// An external data file of other content stands where the output's must go; it cannot be replaced together with the
    /// model in one step.
    #[error("{} exists with other content, and a data file cannot be replaced together with its model", path.display())]
    ExternalOutputExists {
        /// The data file.
        path: PathBuf,
    },
    /// The output is the input model.
    #[error("{} is the input", path.display())]
    OutputIsInput {
        /// The output.
        path: PathBuf,
    },
    /// The output is a data file that the input model reads.
    #[error("{} holds external data of the input", path.display())]
    OutputIsInputData {
        /// The output.
        path: PathBuf,
    },
    /// A model with external data cannot go to a stream.
    #[error(
        "the model needs an external data file, which a stream cannot carry ({bytes} bytes inline, limit {limit})"
    )]
    StreamNeedsExternal {
        /// Size of the model with all data inline.
        bytes: u64,
        /// The limit for one protobuf message.
        limit: u64,
    },
    /// The model is above the limit even with all its raw data outside.
    #[error(
        "the model takes {bytes} bytes without its external data, the limit for one protobuf message is {limit}"
    )]
    ModelTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The model is above the limit with all its data inside.
    #[error(
        "with its data inside the model takes {bytes} bytes, the limit for one protobuf message is {limit}"
    )]
    SingleFileTooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A data file that is to be replaced and that a model reads which is not.
    #[error("{} is read by {}, which is none of the models that are written", path.display(), model.display())]
    DataInUse {
        /// The data file.
        path: PathBuf,
        /// The model.
        model: PathBuf,
    },
    /// A container that cannot be read.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The save was stopped by [`crate::files::cleanup_temporaries`].
    #[error("interrupted while writing {}", path.display())]
    Interrupted {
        /// The output.
        path: PathBuf,
    },
}

/// What is wrong with the bytes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireProblem {
    /// The bytes end in the middle of a field.
    #[error("the bytes end in the middle of a field")]
    Truncated,
    /// A field declares more bytes than its message has.
    #[error("a field declares {declared} bytes where {available} are left")]
    DeclaredSize {
        /// Declared length.
        declared: u64,
        /// Bytes left.
        available: u64,
    },
    /// A variable-length number takes more than ten bytes.
    #[error("a number takes more than ten bytes")]
    Varint,
    /// Field number 0 or above the maximum of protobuf.
    #[error("field number {0} is not allowed")]
    FieldNumber(u64),
    /// A wire type that protobuf does not have, or not the one of this field.
    #[error("wire type {0} is wrong for the field")]
    WireType(u8),
    /// A group that does not end, or ends without a beginning.
    #[error("a group is not closed")]
    Group,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// Messages are nested too deeply.
    #[error("messages are nested more than {0} deep")]
    Depth(usize),
    /// Too many messages.
    #[error("there are more than {0} messages")]
    Messages(u64),
    /// Too many strings.
    #[error("there are more than {0} strings")]
    Strings(u64),
}

impl FormatError {
    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read-failed",
            Self::Write { .. } => "write-failed",
            Self::NotAFile { .. } => "not-a-file",
            Self::StreamTooLong { .. } => "stream-too-long",
            Self::Malformed { problem, .. } => problem.code(),
            Self::Decode { .. } => "malformed-protobuf",
            Self::Lift(error) => error.code(),
            Self::ToProto(_) => "internal-lower",
            Self::Strict { warning } => warning.kind.code(),
            Self::External { problem, .. } => problem.code(),
            Self::OutputExists { .. } => "output-exists",
            Self::ExternalOutputExists { .. } | Self::DataInUse { .. } => "external-output-exists",
            Self::OutputIsInput { .. } => "output-is-input",
            Self::OutputIsInputData { .. } => "output-is-input-data",
            Self::StreamNeedsExternal { .. } => "stream-needs-external",
            Self::ModelTooLarge { .. } | Self::SingleFileTooLarge { .. } => "model-too-large",
            Self::Container(error) => error.problem.code(),
            Self::Interrupted { .. } => "interrupted",
        }
    }

    /// What may help, if anything is known to.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::StreamTooLong { .. } => "give the model as a file",
            Self::OutputExists { .. } => "choose another output or pass --force",
            Self::OutputIsInput { .. } => "choose another output or pass --in-place",
            Self::ExternalOutputExists { .. } => "remove the data file first or write to another directory",
            Self::StreamNeedsExternal { .. } => "write to a file with -o",
            Self::DataInUse { .. } => "choose another name for the data file, or give that model, too",
            Self::SingleFileTooLarge { .. } => {
                "`convert-external` keeps the data in one file beside the model"
            }
            Self::External {
                problem: ExternalProblem::Outside(_) | ExternalProblem::Absolute | ExternalProblem::Parent,
                ..
            } => "external data must lie in the model's own directory",
            Self::External {
                problem: ExternalProblem::NoDirectory,
                ..
            } => "give the model as a path",
            Self::Container(error) => return error.hint(),
            _ => return None,
        })
    }

    /// The file that the error is about.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::Write { path, .. }
            | Self::NotAFile { path }
            | Self::StreamTooLong { path, .. }
            | Self::OutputExists { path }
            | Self::ExternalOutputExists { path }
            | Self::OutputIsInput { path }
            | Self::OutputIsInputData { path }
            | Self::DataInUse { path, .. }
            | Self::Interrupted { path } => Some(path),
            Self::External { location, .. } if !location.is_empty() => Some(Path::new(location)),
            Self::Container(error) => error.path.as_deref(),
            _ => None,
        }
    }

    /// The node or tensor that the error is about.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Lift(error) => error.subject(),
            _ => None,
        }
    }

    /// The value (tensor) that the error is about.
    pub fn value(&self) -> Option<&str> {
        match self {
            Self::External { tensor, .. } => Some(tensor),
            Self::Lift(error) => error.value(),
            Self::Container(error) => error.tensor.as_deref(),
            _ => None,
        }
    }
}

impl WireProblem {
    fn code(self) -> &'static str {
        match self {
            Self::Depth(_) => "too-deep",
            Self::Messages(_) => "too-many-messages",
            Self::Strings(_) => "too-many-strings",
            _ => "malformed-protobuf",
        }
    }
}
