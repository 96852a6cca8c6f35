//! Passes that make a model smaller and keep what it computes: [`run`] is `simplify`, the others are the steps that it, `prepare` and
//! pipelines are made of. [`splice`] puts the graph of a body or a function where its node stood, [`sweep`] removes what nothing reads.

mod deduplicate_initializers;
mod eliminate_common_subexpressions;
mod eliminate_dead_code;
mod fold_constants;
mod inline_functions;
mod run;
pub(super) mod splice;
mod sweep;

pub use deduplicate_initializers::DeduplicateInitializers;
pub use eliminate_common_subexpressions::EliminateCommonSubexpressions;
pub use eliminate_dead_code::EliminateDeadCode;
pub use fold_constants::FoldConstants;
pub use inline_functions::InlineFunctions;
pub use run::Simplify;
