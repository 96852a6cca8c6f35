//! `schema NAME`: the JSON Schemas of what secateur reads and prints.

use clap::Args;
use schemars::schema_for;
use serde_json::Value;

use super::global::Global;
use super::{Answer, terminal};
use crate::api::{Error, ErrorDocument, Verification};
use crate::data::Spec;
use crate::passes::registry;
use crate::pipeline::{Bisection, RunReport, pipeline_schema};
use crate::report::difference::Difference;
use crate::report::facts::ModelFacts;
use crate::schema::nearest;

/// Print the JSON Schema of pipelines, of a pass's options or of what a verb prints under --json
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// pipeline, data, a pass, or one of run, verify, gradients, inspect, diff, bisect, error
    #[arg(default_value = "pipeline")]
    name: String,
}

const DOCUMENTS: [&str; 9] = [
    "pipeline",
    "data",
    "run",
    "verify",
    "gradients",
    "inspect",
    "diff",
    "bisect",
    "error",
];

pub(super) fn execute(_: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    terminal::json(&schema(&arguments.name)?);
    Ok(Answer::Done)
}

fn schema(name: &str) -> Result<Value, Error> {
    Ok(match name {
        "pipeline" => pipeline_schema(),
        "run" => schema_for!(RunReport).to_value(),
        "verify" => schema_for!(Verification).to_value(),
        "gradients" => schema_for!(super::gradients::Document).to_value(),
        "inspect" => schema_for!(ModelFacts).to_value(),
        "diff" => schema_for!(Difference).to_value(),
        "bisect" => schema_for!(Bisection).to_value(),
        "data" => Spec::schema(),
        "error" => schema_for!(ErrorDocument<'_>).to_value(),
        other => {
            let entries = registry::entries();
            if let Some(entry) = entries.iter().find(|entry| entry.name == other) {
                return Ok(entry.schema.as_value().clone());
            }
            let names = DOCUMENTS
                .into_iter()
                .chain(entries.iter().map(|entry| entry.name));
            let hint = match nearest(other, names) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("schemas are {}, and the passes", DOCUMENTS.join(", ")),
            };
            return Err(
                Error::new("unknown-schema", format!("there is no schema `{other}`")).with_hint(hint),
            );
        }
    })
}
