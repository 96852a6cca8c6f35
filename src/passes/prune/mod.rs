//! Passes that take weights out of a model: whole residual blocks ([`blocks`]), whole channels and heads ([`channels`]), directions that
//! a layer's outputs hardly vary in (`factorize`), or single weights, which become zero (`weights`).

mod bias;
pub mod blocks;
pub mod channels;
mod factorize;
mod weights;

pub use blocks::{BlockCriterion, PruneBlocks};
pub use channels::PruneChannels;
pub use factorize::{Basis, Factorize};
pub use weights::{Criterion as WeightCriterion, PruneWeights, Scope as WeightScope, Update};
