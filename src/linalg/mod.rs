//! Dense linear algebra in f64 over `ndarray`: what closed-form solutions need, and sums that do not depend on their order.
//!
//! Products run in `ndarray`'s kernels; depends on nothing of this crate.

mod assignment;
mod cholesky;
mod eigen;
mod sums;

pub use assignment::assign;
pub use cholesky::{Cholesky, LinalgError};
pub use eigen::{Eigen, symmetric};
pub use sums::Sums;
