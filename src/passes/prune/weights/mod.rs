//! The pass `prune-weights`: single weights become zero. [`layers`] finds the weights and their axes, [`score`] says how much
//! each one matters, [`select`] which ones go, [`update`] what the others become, [`run`] writes
//! the zeros, the masks and the report.
//!
//! A criterion is one variant of [`Criterion`] and one arm of [`score::scores`].

mod layers;
mod options;
mod run;
mod score;
mod select;
mod update;

pub use options::{Criterion, PruneWeights, Scope};
pub use update::Update;

const NAME: &str = "prune-weights";
