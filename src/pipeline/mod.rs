//! Pipelines: their YAML with a place for every error, running them step by step, the comparison at the end and the gates.
//!
//! May use passes, verification, formats and everything below; prints nothing and writes no model.

mod again;
mod bisect;
mod definition;
mod done;
mod figure_gate;
mod files;
mod gate;
mod gates;
mod interfaces;
mod judge;
mod needs;
mod outputs_gate;
mod pace;
pub mod presets;
mod provenance;
mod read;
mod resources;
mod reuse;
mod rooted;
mod run;
mod schema;
mod score_gate;
mod until;
mod weigh;
mod written;

pub use crate::yaml::{ConfigError, Location, Spot};
pub use bisect::{Bisection, bisect};
pub use definition::{Pipeline, ROLES, Step, StepError, VERSION, bind_options, option_names, parse_value};
pub use figure_gate::FigureGate;
pub use files::{FILE_KEY, NamedFile, Usage};
pub use gate::GateError;
pub use gates::{Decision, Gate, GateReport, Judged, Share, Weight};
pub use needs::LackError;
pub use outputs_gate::OutputsGate;
pub use provenance::digest;
pub use read::{ReadError, read, read_written};
pub use resources::{Described, StepResources, describe_data, open_data};
pub use reuse::{Reached, Reuse};
pub use run::{Culprit, Outcome, RunError, RunOptions, RunReport, StepReport, Unchanged, run};
pub use schema::pipeline_schema;
pub use score_gate::ScoreGate;
pub use until::{Candidate, JudgedOn, KeptLayer, Searched, SearchedSamples};
pub use weigh::{weigh, weigh_input};
pub use written::{
    Combination, Given, MODEL, Matrix, TemplateError, Values, Written, fill, is_variable_name, label, matches,
};
