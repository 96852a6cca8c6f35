//! What streamed data says about the values inside a model: collected batch by batch, in constant memory, mergeable.
//!
//! May use data sets, engines, lowering and the numeric core of quantization; knows no pass.

mod activations;

pub use activations::{StatisticsError, Summary, Wanted, collect};
