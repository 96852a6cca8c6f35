//! The face: what a program, the command line and bindings use. Everything that `lib.rs` shows is made here.
//!
//! May use every module but `cli`; prints nothing. What is checked, refused and written is decided here once, so that whoever calls gets
//! the same: [`Files`] holds what a call reads and writes, `run` what becomes of a pipeline's result. A flag of the command line that
//! changes what happens is a field of [`Options`]; a flag that changes what is shown is not.

mod adjust;
mod array;
mod baseline;
mod bisect;
mod causes;
mod channels;
mod check;
mod codes;
mod container;
mod data;
mod digests;
mod error;
mod evaluate;
mod explain;
mod external;
mod family;
mod features;
mod files;
mod gradients;
mod means;
mod merge;
mod model;
mod options;
mod pipeline;
mod plan;
mod reports;
mod rules;
mod run;
mod save;
mod schema;
mod stats;
mod structure;
mod sweep;
mod sweep_plan;
mod sweep_point;
mod sweep_result;
mod verify;

pub(crate) use adjust::sizes_of;
pub use array::{Array, Element, IntoArray, IntoSamples};
pub(crate) use baseline::hold;
pub use bisect::bisect;
pub(crate) use channels::Pruning;
pub use check::{CheckOptions, FindingCounts, Findings, Mending, check, check_file};
pub(crate) use check::{Fixed, examine, fix};
pub use container::{Container, Packed, PackedPart, Packing, pack, unpack};
pub use data::Data;
pub(crate) use error::ErrorDocument;
pub use error::{Error, ErrorPlace};
pub use evaluate::{Evaluation, evaluate};
pub(crate) use evaluate::{EvaluationDocument, check_evaluation};
pub use explain::{Explanation, explain, explain_why_not};
pub(crate) use explain::{StepSchema, catalogue, step_schemas};
pub(crate) use external::single_file_to;
pub use external::{
    Externalizing, Relocated, Shared, SharedContents, SharedModel, Sharing, convert_external, share,
    single_file,
};
pub(crate) use family::Found;
pub use family::{Family, Member, MemberOutcome};
pub use features::{Features, features};
pub(crate) use files::{Files, MODEL, STDIO};
pub(crate) use gradients::GradientDocument;
pub use gradients::gradients;
pub(crate) use merge::{check_parts, merged_states};
pub use model::{Model, difference};
pub(crate) use options::{Comparison, Measuring};
pub use options::{Options, Runtime};
pub use pipeline::{Pipeline, StepOptions};
pub(crate) use plan::job_schema;
pub use plan::{Made, Merged, Plan, Task, Worked};
pub use reports::compare_reports;
pub(crate) use reports::{Form, compare_files, of_comparison, of_measurement, of_run, write_difference};
pub(crate) use rules::{prove_rules, rules, rules_in};
pub use run::Outcome;
pub use save::Saved;
pub(crate) use save::{Destination, write};
pub use schema::schema_of;
pub(crate) use stats::check_stats;
pub use stats::{Purpose, Stats, stats};
pub use structure::StructureSearch;
pub use sweep::{Sweep, SweepPoint};
pub use sweep_plan::SweepPlan;
pub(crate) use verify::check_comparison;
pub use verify::{Verification, verify};

// What the face takes and answers, under one roof: `cli` names these and nothing else of the modules below.
pub(crate) use crate::autodiff::{GradientOptions, InputIs, Loss, Wrt};
pub(crate) use crate::data::{PreprocessSpec, Shard};
pub(crate) use crate::engine::{Host, limit_calls, serve, work_in_processes};
pub(crate) use crate::evaluate::Figures;
pub(crate) use crate::files::{cleanup_temporaries, same_file};
pub(crate) use crate::format::Source;
pub(crate) use crate::ir::DType;
pub(crate) use crate::lint::Severity;
pub(crate) use crate::passes::prune::channels::{ClassPlan, MemberReport};
pub(crate) use crate::passes::{LossKind, Size};
pub(crate) use crate::pipeline::{Decision, Gate, RunReport, bind_options, parse_value};
pub(crate) use crate::rewrite::RuleSet;
pub(crate) use crate::rewrite::prove::{Proof, ProofVerdict};
pub(crate) use crate::schema::nearest;
pub(crate) use crate::statistics::gram::GramOptions;
pub(crate) use crate::sweep::SweepReport;
pub(crate) use crate::verify::{NodeOptions, Verdict};
