//! What passes that run the model ask for, and why they may not get it.

use std::path::{Path, PathBuf};

use super::kept::Kept;
use crate::data::{DataError, Dataset};
use crate::engine::{Engine, EngineError};
use crate::evaluate::EvaluateError;
use crate::features::FeatureError;
use crate::finetune::FinetuneError;
use crate::format::{FormatError, ToProtoError};
use crate::ir::{CheckError, Graph, Model, Tensor, TensorError};
use crate::parts::{Ledger, PartsError};
use crate::rewrite::RuleError;
use crate::statistics::{StatisticsError, StatisticsFileError};

/// An engine and data by role, and files beside the model.
pub trait Resources: Sync {
    /// The engine that runs the model.
    fn engine(&self) -> Result<&dyn Engine, ResourceError>;

    /// The data of a role (`calibration`, `evaluation`, `training`), fitted to the inputs of `graph`.
    fn data(&self, role: &str, graph: &Graph) -> Result<Dataset, ResourceError>;

    /// Whether there are data of a role.
    fn describes(&self, _role: &str) -> bool {
        false
    }

    /// A second model, from a file; relative to the pipeline's folder.
    fn model(&self, path: &Path) -> Result<Model, ResourceError> {
        Err(ResourceError::Unreachable {
            path: path.to_owned(),
            what: "a second model",
        })
    }

    /// The named tensors of a safetensors or npz file, by name in ascending order; relative to the pipeline's folder.
    fn tensors(&self, path: &Path) -> Result<Vec<(String, Tensor)>, ResourceError> {
        Err(ResourceError::Unreachable {
            path: path.to_owned(),
            what: "weights",
        })
    }

    /// The text of a file that may be there or not; relative to the pipeline's folder.
    fn text(&self, path: &Path) -> Result<Option<String>, ResourceError> {
        let _ = path;
        Ok(None)
    }

    /// The model that the pipeline started with, before any step.
    fn original(&self) -> Option<&Model> {
        None
    }

    /// What earlier runs of passes measured on data; `None` where each run measures anew.
    fn kept(&self) -> Option<&Kept> {
        None
    }

    /// Where work is shared with other processes, if it is. Data know it by themselves.
    fn ledger(&self) -> Option<&Ledger> {
        None
    }

    /// Threads to use.
    fn jobs(&self) -> usize;
}

/// Why a pass did not get what it asked for, or could not use it. What has a code of its own keeps it.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// Nobody said which engine.
    #[error("there is no engine to run the model")]
    NoEngine,
    /// Nobody described the data of a role.
    #[error("there is no {role} data: describe it under `data` in the pipeline or with --data {role}=PATH")]
    NoData {
        /// The role.
        role: String,
    },
    /// The pass runs where no files are read.
    #[error("{}: there is nothing to read {what} with", path.display())]
    Unreachable {
        /// The file.
        path: PathBuf,
        /// What is in it.
        what: &'static str,
    },
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Statistics could not be collected.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// A file of statistics cannot be used.
    #[error(transparent)]
    StatisticsFile(#[from] StatisticsFileError),
    /// Figures could not be counted.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// Features could not be taken, or a head on them not trained.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// The model could not be trained.
    #[error(transparent)]
    Training(#[from] FinetuneError),
    /// Rules could not be loaded.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A second model could not be read.
    #[error("{}: {source}", path.display())]
    Model {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: FormatError,
    },
    /// A second model is not valid.
    #[error("{}: {source}", path.display())]
    Invalid {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: Box<CheckError>,
    },
    /// A text could not be read.
    #[error("{}: {source}", path.display())]
    Text {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Parts of shared work that are not there, or do not fit.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// A tensor does not hold what it declares.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A model that a pass made cannot be written.
    #[error(transparent)]
    Unwritable(#[from] ToProtoError),
    /// Something of the above, about a thing that has a name.
    #[error("{name}: {source}")]
    Of {
        /// A file, an option, a layer.
        name: String,
        /// What is wrong.
        source: Box<ResourceError>,
    },
    /// What the pass got is not what it needs.
    #[error("{0}")]
    Unfit(String),
}

impl From<String> for ResourceError {
    fn from(message: String) -> Self {
        Self::Unfit(message)
    }
}

impl From<&str> for ResourceError {
    fn from(message: &str) -> Self {
        Self::Unfit(message.to_owned())
    }
}

impl ResourceError {
    /// The same, said of `name`.
    pub fn of(name: impl Into<String>, error: impl Into<Self>) -> Self {
        Self::Of {
            name: name.into(),
            source: Box::new(error.into()),
        }
    }

    /// The node at fault.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Engine(error)
            | Self::Statistics(StatisticsError::Engine(error))
            | Self::Evaluate(EvaluateError::Engine(error))
            | Self::Features(FeatureError::Engine(error))
            | Self::Training(FinetuneError::Engine(error)) => error.node(),
            Self::Statistics(StatisticsError::Autodiff(error))
            | Self::Training(FinetuneError::Autodiff(error)) => error.node(),
            Self::Of { source, .. } => source.node(),
            _ => None,
        }
    }

    /// A stable code: that of what went wrong, where it has one.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Data(error) => error.code(),
            Self::Engine(error) => error.code(),
            Self::Statistics(error) => error.code(),
            Self::StatisticsFile(error) => error.code(),
            Self::Evaluate(error) => error.code(),
            Self::Features(error) => error.code(),
            Self::Training(FinetuneError::Data(error)) => error.code(),
            Self::Training(FinetuneError::Engine(error)) => error.code(),
            Self::Training(FinetuneError::Autodiff(error)) => error.code(),
            Self::Unwritable(_) => "result-unwritable",
            Self::Rule(error) => error.code(),
            Self::Model { source, .. } => source.code(),
            Self::Invalid { source, .. } => source.code(),
            Self::Of { source, .. } => source.code(),
            Self::Parts(error) => error.code(),
            Self::NoData { .. } => "data-missing",
            Self::NoEngine
            | Self::Training(_)
            | Self::Unreachable { .. }
            | Self::Text { .. }
            | Self::Tensor(_)
            | Self::Unfit(_) => RESOURCE,
        }
    }
}

/// The code of what has none of its own.
const RESOURCE: &str = "pass-resource";
