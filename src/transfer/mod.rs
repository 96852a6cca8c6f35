//! Knowledge transfer between models: parts of graphs, and weights.
//!
//! [`region`] cuts a part out of a model at named values; [`splice`] puts one into another model.
//!
//! Depends on [`crate::analysis`], [`crate::ir`] and, to compare functions, [`crate::format`]; passes give it models and never
//! paths.

pub mod region;
pub mod splice;
