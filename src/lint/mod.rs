//! Findings about a model that do not change it: what a runtime refuses, what costs, what is a mistake in waiting.
//!
//! `check` says what a check and a finding are, `checks` has one file a check with its documentation, its cure and its examples, and
//! `subject` what they look at: the inferred model, its graphs, and `weights`, one pass over the elements of all constants that every check
//! on values shares. `targets` and `tables` hold what runtimes take, `refusals` what tract answers. `run` puts them together, `cures` makes a
//! pipeline of what passes can mend, `examples` proves the examples of a check.
//!
//! A check that is not certain says nothing: a false alarm costs more than a missing finding.

mod check;
mod checks;
mod cures;
mod examples;
mod page;
mod refusals;
mod run;
mod subject;
mod tables;
mod targets;
mod weights;

pub use check::{Check, Cure, Example, Finding, FindingPlace, Fix, Severity};
pub use checks::checks;
pub use cures::pipeline_of;
pub use examples::{ExampleFault, Proof, prove};
pub use page::{page, section};
pub use run::{Selection, run};
pub use subject::FileFacts;
pub use targets::Target;
