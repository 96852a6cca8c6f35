//! Rewrite rules as data: rule files, patterns, the matcher and the driver that applies them.
//!
//! A file goes `load` -> `syntax` -> `compile` (everything that can be refused before a model is seen) -> [`Rule`]. The driver
//! goes over a graph with a worklist: `matcher` finds a fit, `plan` computes what replaces it (constant parts through an
//! [`Evaluator`]), `apply` puts it into the graph if that is allowed and pays. `canonical` lets a rule name parameters alike
//! in all opsets, `helper` holds the closed set of predicates, `siblings` finds the parts of a pattern of several results. [`prove`] runs
//! a rule's examples.
//!
//! Depends on [`crate::analysis`], [`crate::ops`] and [`crate::ir`]; `prove` also on
//! [`crate::engine`] and the text syntax of [`crate::format`].

mod apply;
mod canonical;
mod compile;
mod cost;
mod domains;
mod draft;
mod driver;
mod error;
mod eval;
mod evaluator;
mod helper;
mod load;
mod matcher;
mod plan;
pub mod prove;
mod report;
mod rule;
mod safety;
mod set;
mod siblings;
mod syntax;
mod tree;
mod value;

pub use driver::{FREE_GROWTH, Options, RewriteError, apply, why_not};
pub use error::{Place, RuleError};
pub use evaluator::{EvaluateError, Evaluator};
pub use helper::reference;
pub use report::{Fired, Refused, RewriteReport, WhyNot};
pub use rule::{Example, OPTIONAL_FAMILIES, Rule};
pub use safety::Safety;
pub use set::RuleSet;
