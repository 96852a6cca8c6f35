//! What can go wrong.

use std::path::PathBuf;

use crate::autodiff::AutodiffError;
use crate::data::DataError;
use crate::engine::EngineError;
use crate::ir::{EditError, TensorError};

/// Why a model cannot be trained.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum FinetuneError {
    #[error(transparent)]
    Autodiff(#[from] AutodiffError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// There is nothing to train.
    #[error("there is no float32 parameter to train")]
    NoParameters,
    /// Too few samples for one step.
    #[error("{samples} samples are too few to train on")]
    TooFew { samples: u64 },
    /// The teacher does not fit the model.
    #[error("the teacher: {reason}")]
    Teacher { reason: String },
    /// There are no features to learn.
    #[error("features: {reason}")]
    Features { reason: String },
    /// A checkpoint cannot be used or written.
    #[error("the checkpoint {}: {reason}", file.display())]
    Checkpoint { file: PathBuf, reason: String },
    /// A mask does not fit a parameter.
    #[error("the mask of {name}: {reason}")]
    Mask { name: String, reason: String },
    /// The loss is NaN or infinite.
    #[error("the loss is not finite in epoch {epoch}, step {step}; a lower learning rate may help")]
    Diverged { epoch: usize, step: usize },
}
