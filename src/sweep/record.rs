//! What was found of a point, kept in a file of its own that appears when it is complete.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::files::{Draft, read_text};

/// The version of records; one of another version is not taken for a result.
pub const FORMAT: u32 = 1;

/// What became of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was accepted and measured.
    Done,
    /// The pipeline's gates, or the comparison, did not accept it.
    Refused,
    /// It could not be run.
    Failed,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        })
    }
}

/// What was found of a point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// The version of this format.
    pub format: u32,
    /// The digest of all that decides about the result.
    pub id: String,
    /// The version of secateur.
    pub version: String,
    /// The digest of the model.
    pub model: String,
    /// The pipeline, resolved.
    pub pipeline: String,
    /// Digests of the data by role.
    pub data: IndexMap<String, String>,
    /// The seed.
    pub seed: u64,
    /// What runs models.
    pub engine: String,
    /// Evaluation samples of the rung; `null` for all there are.
    pub samples: Option<u64>,
    /// What became of it.
    pub status: Status,
    /// Why it was refused or failed.
    pub reasons: Vec<String>,
    /// The code of the error with which it failed.
    pub code: Option<String>,
    /// How outputs compare with those of the model.
    pub verdict: Option<String>,
    /// The main figure of the task.
    pub main: Option<String>,
    /// Figures by name.
    pub figures: IndexMap<String, f64>,
    /// The digest of the result.
    pub result: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file has no record of this point.
    #[error("{}: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl RecordError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "read-failed",
            Self::Foreign { .. } => "sweep-record",
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. } | Self::Foreign { path, .. } => path,
        }
    }
}

impl Record {
    /// Writes the record.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        Draft::write_file(path, (text + "\n").as_bytes(), true)
    }
}

/// The record of a point, if it is there.
///
/// # Errors
///
/// A file that is no record, or that of another point.
pub fn read(path: &Path, id: &str) -> Result<Option<Record>, RecordError> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(RecordError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let foreign = |reason: String| RecordError::Foreign {
        path: path.to_owned(),
        reason,
    };
    let record: Record = serde_json::from_str(&text)
        .map_err(|error| foreign(format!("this is no record of a point: {error}")))?;
    if record.id != id || record.format != FORMAT {
        return Err(foreign("this is the record of another point".to_owned()));
    }
    Ok(Some(record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_no_other_file_is_taken_for_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        assert_eq!(read(&path, "a").unwrap(), None);
        let record = Record {
            format: FORMAT,
            id: "a".to_owned(),
            version: "1".to_owned(),
            model: "m".to_owned(),
            pipeline: "steps: []\n".to_owned(),
            data: IndexMap::new(),
            seed: 7,
            engine: "tract".to_owned(),
            samples: Some(8),
            status: Status::Done,
            reasons: Vec::new(),
            code: None,
            verdict: None,
            main: Some("accuracy".to_owned()),
            figures: IndexMap::from([("accuracy".to_owned(), 0.1 + 0.2)]),
            result: None,
            seconds: 0.5,
        };
        record.write(&path).unwrap();
        assert_eq!(read(&path, "a").unwrap(), Some(record));
        assert_eq!(read(&path, "b").unwrap_err().code(), "sweep-record");
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read(&path, "a").unwrap_err().code(), "sweep-record");
        assert_eq!(read(folder.path(), "a").unwrap_err().code(), "read-failed");
    }
}
