//! `schema NAME`: the JSON Schemas of what secateur reads and prints.

use clap::Args;

use super::global::Global;
use super::{Answer, terminal};
use crate::api::{Error, schema_of};

/// Print the JSON Schema of pipelines, of a pass's options or of what a verb prints under --json
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// pipeline, job, data, a pass, or one of run, family, sweep, verify, evaluate, gradients, inspect, diff, check, bisect, error
    #[arg(default_value = "pipeline")]
    name: String,
}

pub(super) fn execute(_: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    terminal::json(&schema_of(&arguments.name)?);
    Ok(Answer::Done)
}
