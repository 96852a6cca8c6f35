//! What streamed data says about the values inside a model: collected batch by batch, in constant memory, mergeable.
//!
//! May use data sets, engines, lowering, gradients and the numeric core of quantization; knows no pass.

mod activations;
mod error;
mod file;
mod gradients;
mod gradients_file;
pub mod gram;
mod parts;
mod second_moments;
mod stored;
mod summary;

pub use activations::{Wanted, collect};
pub use error::{FileFault, StatisticsError, StatisticsFileError};
pub use file::{Statistics, Subject};
pub use gradients::{Gradient, GradientStatistics, GradientSums, Objective, collect_gradients, target_type};
pub use second_moments::{Along, SecondMoments, second_moments};
pub use summary::Summary;
