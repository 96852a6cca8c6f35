//! Task metrics: how well a model does on labelled data, how fast, and against which reference.
//!
//! Counts and sums live in a [`State`] that merges over shards and survives a killed run; [`Figures`] are computed from it.
//! May use data sets, engines and the IR; knows no pass and no pipeline.

mod classification;
mod outputs;
mod regression;
mod report;
mod run;
mod state;
mod statistics;
mod task;
mod tasks;

use std::path::PathBuf;

pub use classification::{ClassScores, Classification, Scores, argmax};
pub use outputs::{Predictions, classes, output, values};
pub use regression::{Column, Regression};
pub use report::{Against, Figures};
pub use run::{Counter, boxes};
pub use state::{Checkpoint, State, Subject as StateSubject};
pub use statistics::{Interval, Paired, normal_quantile, wilson};
pub use task::{NO_INTEGERS, Task, is_quantized, names};
pub use tasks::{
    ClassFigures, Counts, Detection, Embedding, Fate, Fates, Found, Image, Named, Segmentation, Signals,
    TaskFigures, TaskState, Texts, Tokens,
};

/// Why an evaluation stopped.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// The engine cannot run the model.
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    /// The model's output does not fit the labels.
    #[error("output {output:?} {problem}")]
    Output {
        /// The output.
        output: String,
        /// What is wrong.
        problem: String,
    },
    /// Outputs that the task cannot be read from, or a task without what it needs.
    #[error("{problem}")]
    Task {
        /// What is wrong, and the cure.
        problem: String,
    },
    /// A label that is no class of the model.
    #[error("the label {label} is none of the model's {classes} classes")]
    Label {
        /// The label.
        label: i64,
        /// Classes of the model.
        classes: u64,
    },
    /// A state file that cannot be read or written.
    #[error("{}: {reason}", file.display())]
    State {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Parts that do not belong together.
    #[error("cannot merge: {0}")]
    Merge(String),
    /// Parts of shared work that are not there, or do not fit.
    #[error(transparent)]
    Parts(#[from] crate::parts::PartsError),
}

impl EvaluateError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Data(error) => error.code(),
            Self::Engine(error) => error.code(),
            Self::Output { .. } => "output",
            Self::Task { .. } => "task",
            Self::Label { .. } => "label",
            Self::State { .. } => "state",
            Self::Merge(_) => "merge",
            Self::Parts(error) => error.code(),
        }
    }
}
