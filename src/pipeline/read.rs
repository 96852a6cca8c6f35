//! Pipelines in files.

use std::path::Path;
use std::sync::Arc;

use super::definition::Pipeline;
use super::written::{Given, Written};

/// Reads a pipeline from a file. Variables have their defaults.
pub fn read(path: &Path) -> Result<Pipeline, ReadError> {
    Ok(read_written(path)?.alone(&Given::default())?)
}

/// Reads a pipeline from a file as it is written.
pub fn read_written(path: &Path) -> Result<Written, ReadError> {
    let text = crate::files::read_text(path).map_err(|source| ReadError::File {
        path: path.to_owned(),
        source: Arc::new(source),
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    Ok(Written::parse(&path.display().to_string(), &text, base)?)
}

/// Why a pipeline file could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        source: Arc<std::io::Error>,
    },
    /// The text is not a pipeline.
    #[error(transparent)]
    Config(#[from] crate::yaml::ConfigError),
}
