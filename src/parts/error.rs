//! Why parts cannot be joined, or not yet.

use std::io;
use std::path::PathBuf;

/// What is wrong with parts of some work.
#[derive(Debug, thiserror::Error)]
pub enum PartsError {
    /// Parts are missing: the work goes on when they are done.
    #[error("{missing} parts of {work} are not done yet")]
    Waiting {
        /// What is cut into parts.
        work: &'static str,
        /// How many are missing.
        missing: usize,
    },
    /// A task was planned for something else than what is there now.
    #[error("task {task} was planned for another {what}: {planned}, and there is {found} now; plan again")]
    Stale {
        /// The task.
        task: String,
        /// What differs.
        what: String,
        /// What the plan says of it.
        planned: String,
        /// What is there.
        found: String,
    },
    /// A file among the parts that is not what its name says.
    #[error("{}: {reason}", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A part could not be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl PartsError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "parts-waiting",
            Self::Stale { .. } => "part-stale",
            Self::Foreign { .. } => "part-foreign",
            Self::Io { .. } => "part-file",
        }
    }
}
