//! Second moments of what layers read: for each layer with weights the Gram matrix `G = sum of x xᵀ` over the rows `x` that its
//! weights are multiplied with (im2col rows of a convolution), with the sum of the rows and their number.
//!
//! A Gram matrix is a sum, so parts over disjoint samples merge. It is all that least-squares refits, GPTQ, AdaRound and OBS need
//! of the data. [`layer`] says what the rows of a layer are, [`rows`] gathers them, [`collect()`] streams them through an engine.

mod collect;
pub(super) mod fields;
mod layer;
mod moments;
mod rows;

pub use collect::{CHUNK_SAMPLES, GramOptions, collect, collect_cross, collect_sums};
pub use layer::{Layer, SkipReason, Skipped, layers};
pub use moments::{Cross, Gram, GramSums, Grams, SumsByKey};
