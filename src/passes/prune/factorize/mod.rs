//! The pass `factorize`: a layer with a large weight as two with smaller ones.
//!
//! [`options`] is what a user may ask for, [`spectrum`] how much of each layer's outputs lies in how many directions, [`rank`] the
//! choice of ranks for a budget, [`split`] the edit of the graph, [`run`] the pass.

mod options;
mod rank;
mod run;
mod spectrum;
mod split;

pub use options::{Basis, Factorize};
