//! A vector a sample: how near the model's vectors are to the reference's, and what vectors are good for - telling the same from
//! the different, finding the nearest.
//!
//! Similarities are cosines; a vector of zeros has similarity 0 to every other. Where similarities are ordered they are rounded to
//! 12 decimals, so that those that are equal but for the rounding of `f64` tie.
//!
//! May use what tasks have in common; knows no other task.

mod agreement;
mod similarity;
mod state;
mod verification;

pub use state::Embedding;
