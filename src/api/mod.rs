//! The face: what a program, the command line and bindings use. Everything that `lib.rs` shows is made here.
//!
//! May use every module but `cli`; prints nothing. What is checked, refused and written is decided here once, so that whoever calls gets
//! the same: [`Files`] holds what a call reads and writes, `run` what becomes of a pipeline's result. A flag of the command line that
//! changes what happens is a field of [`Options`]; a flag that changes what is shown is not.

mod adjust;
mod array;
mod causes;
mod data;
mod error;
mod evaluate;
mod explain;
mod files;
mod means;
mod model;
mod options;
mod pipeline;
mod run;
mod save;
mod stats;
mod verify;

pub(crate) use adjust::{adjust, sizes_of};
pub use array::{Array, Element, IntoArray, IntoSamples};
pub use data::Data;
pub(crate) use error::ErrorDocument;
pub use error::{Error, ErrorPlace};
pub use evaluate::{Evaluation, evaluate};
pub(crate) use evaluate::{EvaluationDocument, check_evaluation};
pub(crate) use explain::rules;
pub use explain::{Explanation, explain, explain_why_not};
pub(crate) use files::{Files, MODEL, STDIO};
pub use model::Model;
pub(crate) use options::{Comparison, Measuring};
pub use options::{Options, Runtime};
pub use pipeline::{Pipeline, StepOptions};
pub use run::Outcome;
pub use save::Saved;
pub(crate) use save::{Destination, write};
pub(crate) use stats::check_stats;
pub use stats::{Purpose, Stats, stats};
pub use verify::{Verification, verify};
