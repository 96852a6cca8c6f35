//! Comparing what two models answer: figures per output, tolerances by element type, the verdict, and what rounding explains.
//!
//! One comparison for everything that judges a model by its outputs: `verify`, gates, the oracle of structured pruning and the
//! proofs of rules.

mod figures;
mod noise;
mod slices;
mod spread;
mod tensors;
mod verdict;

pub use figures::{Comparison, OutputFigures};
pub use noise::{
    Moved, Place, Way, compare_runs, excuse, moved, moved_weights, nudged_weights, nudges, rounded_elsewhere,
};
pub use slices::Part;
pub use spread::{Doubtful, Origins};
pub use tensors::compare;
pub use verdict::{Tolerances, Verdict};
