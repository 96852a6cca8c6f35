//! `explain [NAME]`: what a pass or a rule does, with which options, and why a rule did not fire.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::global::Global;
use super::{Answer, model, rules, terminal};
use crate::api::{self, Error};
use crate::passes::registry;
use crate::pipeline::presets;

/// Explain a pass, a rule, a preset or how `data` are described; without a name, list them
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// A pass, a rule, a preset, or `data`
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
        return list(global);
    };
    let options = global.options();
    let mut found = api::explain(name, &options)?;
    if let (Some(node), Some(path)) = (&arguments.why_not, &arguments.model)
        && found.document.get("kind").and_then(Value::as_str) == Some("rule")
    {
        let model = model::read(global, path)?;
        found = api::explain_why_not(name, node, &model, &options).map_err(|error| error.in_file(path))?;
    }
    if global.json {
        terminal::json(&found.document);
    } else {
        terminal::answer(&found.to_string());
    }
    Ok(Answer::Done)
}

fn list(global: &Global) -> Result<Answer, Error> {
    let rules = rules::all(global)?;
    let entries = registry::entries();
    if global.json {
        let passes: Vec<Value> = entries
            .iter()
            .map(|entry| json!({ "name": entry.name, "safety": entry.safety, "summary": entry.summary() }))
            .collect();
        let presets: Vec<Value> = presets::names()
            .into_iter()
            .map(|name| json!({ "name": name, "summary": presets::summary(name) }))
            .collect();
        let rules: Vec<Value> = rules
            .rules()
            .iter()
            .map(|rule| json!({ "name": rule.name, "safety": rule.safety, "summary": rule.summary }))
            .collect();
        terminal::json(&json!({ "passes": passes, "presets": presets, "rules": rules }));
        return Ok(Answer::Done);
    }
    let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    let mut text = String::from("passes:\n");
    for entry in &entries {
        text.push_str(&format!("  {:width$}  {}\n", entry.name, entry.summary()));
    }
    text.push_str("presets:\n");
    for name in presets::names() {
        text.push_str(&format!(
            "  {name:width$}  {}\n",
            presets::summary(name).unwrap_or_default()
        ));
    }
    text.push_str(&format!(
        "rules: {}, see `secateur rules list`\ndata: how samples are described, see `secateur explain data`\n",
        rules.rules().len()
    ));
    terminal::answer(&text);
    Ok(Answer::Done)
}
