//! The pass `prune-blocks`: [`find()`] finds residual blocks, [`score`] says what the model loses without one, and [`run`] takes the
//! cheapest away, one after the other.

mod find;
mod options;
mod run;
mod score;

pub use find::{Block, Found, find};
pub use options::{BlockCriterion, PruneBlocks};
