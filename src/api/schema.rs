//! The JSON Schemas of what is read and answered.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::baseline::Baseline;
use super::check::Findings;
use super::error::{Error, ErrorDocument};
use super::evaluate::EvaluationDocument;
use super::family::MemberOutcome;
use super::gradients::GradientDocument;
use super::job_schema;
use super::verify::Verification;
use crate::data::Spec;
use crate::passes::registry;
use crate::pipeline::{Bisection, RunReport, pipeline_schema};
use crate::report::difference::Difference;
use crate::report::facts::ModelFacts;
use crate::schema::nearest;
use crate::sweep::SweepReport;

const DOCUMENTS: [&str; 15] = [
    "pipeline",
    "job",
    "data",
    "run",
    "family",
    "sweep",
    "verify",
    "evaluate",
    "gradients",
    "inspect",
    "diff",
    "check",
    "ci",
    "bisect",
    "error",
];

/// The JSON Schema of pipelines (`pipeline`), of jobs of several processes (`job`), descriptions of data (`data`), the options of a pass, or
/// what a verb prints under `--json` (`run`, or `family` where it runs one, `sweep`, `verify`, `evaluate`, `gradients`, `inspect`, `diff`,
/// `check`, `ci`, `bisect`, `error`).
///
/// # Errors
///
/// `unknown-schema`, with the nearest name as a hint.
///
/// # Examples
///
/// ```
/// let quantize = secateur::schema_of("quantize")?;
/// assert!(quantize["properties"].get("calibrate").is_some());
/// assert_eq!(secateur::schema_of("pipelin").unwrap_err().code(), "unknown-schema");
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn schema_of(name: &str) -> Result<Value, Error> {
    Ok(match name {
        "pipeline" => pipeline_schema(),
        "job" => job_schema(),
        "run" => answer::<RunReport>(),
        "family" => answer::<Vec<MemberOutcome>>(),
        "sweep" => answer::<SweepReport>(),
        "verify" => answer::<Verification>(),
        "evaluate" => answer::<EvaluationDocument<'_>>(),
        "gradients" => answer::<GradientDocument>(),
        "inspect" => answer::<ModelFacts>(),
        "diff" => answer::<Difference>(),
        "check" => answer::<Findings>(),
        "ci" => answer::<Baseline>(),
        "bisect" => answer::<Bisection>(),
        "data" => Spec::schema(),
        "error" => answer::<ErrorDocument<'_>>(),
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

/// The schema of what is answered: what is left out where it is empty need not be there.
fn answer<T: JsonSchema>() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    generator.into_root_schema_for::<T>().to_value()
}
