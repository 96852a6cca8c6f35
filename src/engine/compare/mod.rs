//! Comparing what two models answer: figures per output, tolerances by element type, the verdict, and what rounding explains.
//!
//! One comparison for everything that judges a model by its outputs: `verify`, gates, the oracle of structured pruning and the
//! proofs of rules.

mod figures;
mod noise;
mod slices;
mod tensors;
mod verdict;

pub use figures::{Comparison, OutputFigures};
pub use noise::{
    Moved, compare_runs, excuse, explained, moved, moved_weights, nudged_weights, rounded_elsewhere,
    sensitive,
};
pub use slices::Part;
pub use tensors::compare;
pub use verdict::{Tolerances, Verdict};
