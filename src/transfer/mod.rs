//! Knowledge transfer between models: parts of graphs, and weights.
//!
//! [`region`] cuts a part out of a model at named values; [`splice`] puts one into another model, [`chain`] a whole model behind another. [`pairing`] finds out which weights
//! of two models with one graph correspond, [`permutation`] puts the units of one in the order of the other's, [`merge`] makes one
//! weight of several, [`lora`] reads low-rank adapters. [`modules`] says which module of the network a node comes from. [`parameters`] moves weights between models of any form:
//! [`units`] finds them, [`matching`] says which is which, [`adapt`] brings them into another form,
//! and [`initialise`] makes new ones.
//!
//! Depends on [`crate::axes`], [`crate::linalg`], [`crate::analysis`], [`crate::ir`] and, to compare functions, [`crate::format`];
//! passes give it models and never paths.

pub mod adapt;
pub mod chain;
pub mod initialise;
pub mod lora;
pub mod matching;
pub mod merge;
pub mod modules;
pub mod pairing;
pub mod parameters;
pub mod permutation;
pub mod region;
pub mod splice;
pub mod units;
