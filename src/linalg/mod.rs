//! Dense linear algebra in f64 over `ndarray`: what closed-form solutions need and nothing else.
//!
//! Products run in `ndarray`'s kernels; depends on nothing of this crate.

mod assignment;
mod cholesky;

pub use assignment::assign;
pub use cholesky::{Cholesky, LinalgError};
