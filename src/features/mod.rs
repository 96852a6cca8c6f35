//! Features: what a model computes at one value for each sample, and linear heads trained on them.
//!
//! [`Stage`] runs a model up to a value and hands over rows of features in the order of the samples; [`Spool`] keeps them in a
//! temporary file, so that memory does not grow with the data. [`ridge()`] solves least squares from sums of products,
//! [`logistic()`] fits multinomial logistic regression by L-BFGS ([`lbfgs`]). Everything is computed in `f64`.
//!
//! May use data sets, engines, lowering and linear algebra; knows no pass.

mod file;
pub mod lbfgs;
mod logistic;
mod ridge;
mod scale;
mod spool;
mod stage;

pub use file::{Written, write_features};
pub use logistic::{Logistic, Outcome, logistic};
pub use ridge::{HeadTarget, ridge};
pub use scale::Scale;
pub use spool::{Filling, Spool};
pub use stage::{Block, FeatureError, Stage, last_product};

use ndarray::{Array1, Array2};

/// A linear map from features to scores: `scores = weights · features + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// `[K, D]`: a row a score, a column a feature.
    pub weights: Array2<f64>,
    /// `[K]`.
    pub bias: Array1<f64>,
}
