//! Knowledge transfer between models: parts of graphs, and weights.
//!
//! [`region`] cuts a part out of a model at named values.
//!
//! Depends on [`crate::analysis`] and [`crate::ir`]; passes give it models and never paths.

pub mod region;
