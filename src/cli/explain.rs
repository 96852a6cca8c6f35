//! `explain [NAME]`: what a pass or a rule does, with which options, and why a rule did not fire.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::global::Global;
use super::{Answer, model, terminal};
use crate::api::{self, Error, Explanation};

/// Explain a pass, a rule, a check, a preset or how `data` are described; without a name, list them
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// A pass, a rule, a check, a preset, or `data`
    name: Option<String>,
    /// Say why the rule does not fire at this node
    #[arg(long, value_name = "NODE", requires = "model", requires = "name")]
    why_not: Option<String>,
    /// The model of --why-not
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let Some(name) = &arguments.name else {
        return Ok(show(global, &api::catalogue(&global.options())?));
    };
    let options = global.options();
    let mut found = api::explain(name, &options)?;
    if let (Some(node), Some(path)) = (&arguments.why_not, &arguments.model)
        && found.document.get("kind").and_then(Value::as_str) == Some("rule")
    {
        let model = model::read(global, path)?;
        found = api::explain_why_not(name, node, &model, &options).map_err(|error| error.in_file(path))?;
    }
    Ok(show(global, &found))
}

fn show(global: &Global, found: &Explanation) -> Answer {
    if global.json {
        terminal::json(&found.document);
    } else {
        terminal::answer(&found.to_string());
    }
    Answer::Done
}
