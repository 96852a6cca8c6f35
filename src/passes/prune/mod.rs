//! Passes that take weights out of a model: whole residual blocks ([`blocks`]), whole channels and heads ([`channels`]), or single
//! weights, which become zero (`weights`).

pub mod blocks;
pub mod channels;
mod weights;

pub use blocks::{BlockCriterion, PruneBlocks};
pub use channels::PruneChannels;
pub use weights::{Criterion as WeightCriterion, PruneWeights, Scope as WeightScope, Update};
