//! Rewrite rules as data: rule files, patterns, the matcher and the driver that applies them.

mod evaluator;

pub use evaluator::{EvaluateError, Evaluator};
