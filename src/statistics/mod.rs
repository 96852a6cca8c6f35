//! What streamed data says about the values inside a model: collected batch by batch, in constant memory, mergeable.
//!
//! May use data sets, engines, lowering and the numeric core of quantization; knows no pass.

mod activations;
mod digest;
mod file;

pub use activations::{StatisticsError, Summary, Wanted, collect};
pub use digest::model_digest;
pub use file::{Statistics, StatisticsFileError, Subject};
