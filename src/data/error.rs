//! What is wrong with data, with the file, array or sample at fault.

use std::path::PathBuf;

use super::preprocess::PreprocessError;
use crate::yaml::ConfigError;

/// A data set that cannot be used. [`DataError::code`] is stable.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder could not be read.
    #[error("{}: {reason}", file.display())]
    Read {
        /// The file or folder.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// The description itself is wrong.
    #[error("{}: {message}", file.as_deref().unwrap_or(std::path::Path::new("data")).display())]
    Spec {
        /// The description's file, if it has one.
        file: Option<PathBuf>,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The description is not valid, at a place in its text.
    #[error("{}:{}:{}: {source}", source.file, source.spot.line, source.spot.column)]
    Config {
        /// What is wrong, and where.
        #[from]
        source: Box<ConfigError>,
    },
    /// The source has no samples.
    #[error("{}: no samples{}", file.display(), detail)]
    Empty {
        /// The file or folder.
        file: PathBuf,
        /// What was looked for.
        detail: String,
    },
    /// The source has no array for a model input, or none of the name given.
    #[error("{}: no array {array:?}; it has {}", file.display(), available.join(", "))]
    NoArray {
        /// The file.
        file: PathBuf,
        /// The array asked for.
        array: String,
        /// The arrays there are.
        available: Vec<String>,
    },
    /// An array or image has a shape that the model input cannot take.
    #[error("{}: {array} has shape {found}, the model's input {input} takes {expected}", file.display())]
    Shape {
        /// The file.
        file: PathBuf,
        /// The array or image.
        array: String,
        /// The model input.
        input: String,
        /// Its shape.
        expected: String,
        /// The shape found.
        found: String,
    },
    /// An array has an element type that the model input cannot take as it is.
    #[error("{}: {array} holds {found}, the model's input {input} takes {expected}{hint}", file.display())]
    Type {
        /// The file.
        file: PathBuf,
        /// The array.
        array: String,
        /// The model input.
        input: String,
        /// Its element type.
        expected: String,
        /// The type found.
        found: String,
        /// What would help.
        hint: &'static str,
    },
    /// Arrays differ in their number of samples.
    #[error("{}: {array} has {found} samples, {other} has {expected}", file.display())]
    Length {
        /// The file.
        file: PathBuf,
        /// The array.
        array: String,
        /// Its samples.
        found: u64,
        /// The other array.
        other: String,
        /// Its samples.
        expected: u64,
    },
    /// Labels are needed and there are none, or a sample has none.
    #[error("{}: {reason}", file.display())]
    Labels {
        /// The file or folder.
        file: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// An image that cannot be decoded.
    #[error("{}: cannot be decoded: {reason}", file.display())]
    Image {
        /// The image.
        file: PathBuf,
        /// The decoder's words.
        reason: String,
    },
    /// An input value that is NaN or infinite.
    #[error("{}: {array}, sample {sample}: {value} is not a finite number", file.display())]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// The array or image.
        array: String,
        /// The global sample index.
        sample: u64,
        /// The value.
        value: f64,
    },
}

/// Fields of a description that do not go together.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// No source, or several.
    #[error("a data description needs exactly one of npz, images, onnx, synthetic")]
    Sources,
    /// A field of another task.
    #[error("`{0}` has no meaning for the task")]
    NotOfTask(&'static str),
    /// A number of `augment` that it cannot have.
    #[error("`augment`: {field}: {value} is out of range")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// The number.
        value: f64,
    },
    /// A field that stands twice.
    #[error("`{0}` stands in `images` and beside it: once is enough")]
    Twice(&'static str),
    /// A field that the source has no use for.
    #[error("`{field}` has no meaning for `{of}`")]
    NotOfSource {
        /// The field.
        field: &'static str,
        /// The source.
        of: &'static str,
    },
}

impl From<PreprocessError> for DataError {
    fn from(error: PreprocessError) -> Self {
        Self::Spec {
            file: None,
            message: format!("preprocess: {error}"),
        }
    }
}

impl From<SpecError> for DataError {
    fn from(error: SpecError) -> Self {
        Self::Spec {
            file: None,
            message: error.to_string(),
        }
    }
}

impl DataError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "data-read",
            Self::Spec { .. } | Self::Config { .. } => "data-spec",
            Self::Empty { .. } => "data-empty",
            Self::NoArray { .. } => "data-no-array",
            Self::Shape { .. } => "data-shape",
            Self::Type { .. } => "data-type",
            Self::Length { .. } => "data-length",
            Self::Labels { .. } => "data-labels",
            Self::Image { .. } => "data-image",
            Self::NotFinite { .. } => "data-not-finite",
        }
    }

    /// The file at fault.
    pub fn file(&self) -> Option<&std::path::Path> {
        match self {
            Self::Spec { file, .. } => file.as_deref(),
            Self::Config { source } => Some(std::path::Path::new(&*source.file)),
            Self::Read { file, .. }
            | Self::Empty { file, .. }
            | Self::NoArray { file, .. }
            | Self::Shape { file, .. }
            | Self::Type { file, .. }
            | Self::Length { file, .. }
            | Self::Labels { file, .. }
            | Self::Image { file, .. }
            | Self::NotFinite { file, .. } => Some(file),
        }
    }
}
