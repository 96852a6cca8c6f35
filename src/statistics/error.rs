//! What can go wrong while statistics are collected.

use std::path::PathBuf;

use safetensors::SafeTensorError;

use super::stored::FORMAT;
use crate::autodiff::AutodiffError;
use crate::data::DataError;
use crate::engine::EngineError;
use crate::ir::TensorError;
use crate::parts::PartsError;

/// Why statistics could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum StatisticsError {
    /// The data cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The engine cannot run the model.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A value that is NaN or infinite.
    #[error("value {value:?} is not finite on sample {sample} of the data")]
    NotFinite {
        /// The value.
        value: String,
        /// First sample of the batch.
        sample: u64,
    },
    /// An operator that makes NaN or infinity of finite inputs.
    #[error(
        "{node} answers NaN or infinity in {value:?} on sample {sample} of the data, whose inputs are finite"
    )]
    Produced {
        /// The value.
        value: String,
        /// The operator, the first in topological order.
        node: String,
        /// First sample of the batch.
        sample: u64,
    },
    /// A sample of the data that is not finite itself.
    #[error("{file}: input {input} is {found} on sample {sample}; expected finite values", file = file.display())]
    InputNotFinite {
        /// Where the data comes from.
        file: PathBuf,
        /// The input.
        input: String,
        /// The sample.
        sample: u64,
        /// What it has.
        found: f32,
    },
    /// Data that says nothing.
    #[error(
        "{file}: {inputs} is 0 everywhere in all {samples} samples: no range follows from zeros; give samples like those the model will get",
        file = file.display(),
        inputs = inputs.join(", ")
    )]
    Zeros {
        /// Where the data comes from.
        file: PathBuf,
        /// The model's inputs.
        inputs: Vec<String>,
        /// Samples there are.
        samples: u64,
    },
    /// The model cannot be differentiated.
    #[error(transparent)]
    Autodiff(#[from] AutodiffError),
    /// The model fixes its batch size and there are fewer samples.
    #[error("{samples} samples do not fill one batch of {batch}, which the model fixes")]
    NoFullBatch {
        /// Samples there are.
        samples: u64,
        /// The batch size.
        batch: u64,
    },
    /// A value of another shape than the layer that reads it says.
    #[error("{node} reads a value of shape {dims:?}, which its weights do not fit")]
    Rows {
        /// The layer.
        node: String,
        /// Shape of the value.
        dims: Vec<u64>,
    },
    /// An output whose size is not known, where targets are drawn for it.
    #[error("the sizes of the output that is differentiated are not known beside the batch")]
    OutputSize,
    /// A tensor that cannot be made.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// A value that the engine did not return.
    #[error("the engine did not return {0:?}")]
    Missing(String),
    /// Parts of shared work that are not there, or do not fit.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// A part of shared work that is not of the form.
    #[error("a part of shared work: {0}")]
    Part(#[from] FileFault),
    /// Parts of shared work that do not join.
    #[error(transparent)]
    Join(#[from] StatisticsFileError),
}

impl StatisticsError {
    /// A stable code: that of what failed, where it has one.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Data(error) => error.code(),
            Self::Engine(error) => error.code(),
            Self::Autodiff(error) => error.code(),
            Self::Parts(error) => error.code(),
            _ => STATISTICS,
        }
    }
}

/// A statistics file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StatisticsFileError {
    /// The file cannot be read or written, or is none.
    #[error("statistics file {file}: {reason}")]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: FileFault,
    },
    /// Parts that do not belong together.
    #[error("statistics do not merge: {0}")]
    Merge(String),
}

/// What is wrong with a file of statistics.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is no safetensors file.
    #[error(transparent)]
    Container(#[from] SafeTensorError),
    /// Its header is not of the form.
    #[error(transparent)]
    Header(#[from] serde_json::Error),
    /// Some other program made it.
    #[error("it was not written by secateur stats")]
    Foreign,
    /// Another version of the format.
    #[error("format {0} is not {FORMAT}")]
    Format(u32),
    /// Tensors of one name that contradict each other.
    #[error("the fields of {0} do not fit together")]
    Fields(String),
    /// A field of another element type.
    #[error("{0} is not f64")]
    NotF64(String),
    /// Statistics without gradients.
    #[error("it holds no gradient statistics; collect them with `secateur stats --for gradients`")]
    NoGradients,
    /// Statistics of another kind.
    #[error("it holds {0} statistics, not gradients")]
    Kind(String),
    /// Statistics without Gram matrices.
    #[error("no Gram matrices in it; `secateur stats --for gram` collects them")]
    NoGrams,
    /// Statistics of another model than they are used for.
    #[error("the statistics are of another model than this step gets")]
    OtherModel,
}

/// The code of whatever goes wrong with statistics.
const STATISTICS: &str = "statistics";

impl StatisticsFileError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        STATISTICS
    }
}
