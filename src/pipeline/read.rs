//! Pipelines in files.

use std::path::Path;
use std::sync::Arc;

use super::definition::Pipeline;

/// Reads a pipeline from a file.
pub fn read(path: &Path) -> Result<Pipeline, ReadError> {
    let text = crate::files::read_text(path).map_err(|source| ReadError::File {
        path: path.to_owned(),
        source: Arc::new(source),
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    Ok(Pipeline::parse(&path.display().to_string(), &text, base)?)
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
