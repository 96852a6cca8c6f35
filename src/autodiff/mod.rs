//! Gradients as a graph rewrite: the backward pass is an ONNX model of plain operators.
//!
//! [`gradients()`] copies what the loss needs of a model ([`forward`]), puts a loss on it ([`loss`]) and goes backward over the
//! copied operators ([`backward`]), asking the table in [`vjp`] for the vector-Jacobian product of each. Operators that are
//! small programs themselves (recurrent layers, attention) are first written out as such programs ([`steps`]).
//!
//! Formulas are written over [`emit::Var`]s. Adding an operator is one row in a table of [`vjp`] and one function there.
//! Depends on [`crate::analysis`], [`crate::ops`] and [`crate::ir`]; runs no engine.

mod arithmetic;
mod backward;
mod emit;
mod error;
mod forward;
mod gradients;
mod layout;
mod loss;
mod options;
mod steps;
mod vjp;

pub use error::AutodiffError;
pub use gradients::gradients;
pub use options::{GradientOptions, InputIs, Loss, Wrt};
pub use vjp::{Coverage, coverage};
