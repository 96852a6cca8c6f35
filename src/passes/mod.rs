//! Native passes: what a rewrite rule cannot say. One file (or folder) a pass.
//!
//! A pass is a struct whose fields are its options: their doc comments are its documentation, its help text, its JSON Schema
//! and its page in the book. It sees the IR, never bytes or paths.

mod pass;

pub use pass::{Change, Context, Limits, Needs, Pass, PassError, PassReport, Safety};
