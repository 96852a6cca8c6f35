//! `explain [NAME]`: what a pass or a rule does, with which options, and why a rule did not fire.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::failure::Failure;
use super::global::Global;
use super::{Answer, model, rules, terminal};
use crate::analysis;
use crate::data;
use crate::fold::TractEvaluator;
use crate::ir::NodeId;
use crate::passes::{Safety, registry};
use crate::pipeline::presets;
use crate::report::sanitise;
use crate::rewrite::{self, Example, Options, Rule, WhyNot};
use crate::schema::nearest;

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

/// The name of the page on descriptions of data.
const DATA: &str = "data";

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Failure> {
    let Some(name) = &arguments.name else {
        return list(global);
    };
    if let Some(entry) = registry::entries().into_iter().find(|entry| entry.name == *name) {
        pass(global, &entry);
        return Ok(Answer::Done);
    }
    if name == DATA {
        let page = data::page();
        if global.json {
            terminal::json(
                &json!({ "name": name, "kind": "page", "documentation": page, "schema": data::Spec::schema() }),
            );
        } else {
            terminal::answer(&page);
        }
        return Ok(Answer::Done);
    }
    if let Some(text) = presets::text(name) {
        if global.json {
            terminal::json(
                &json!({ "name": name, "kind": "preset", "summary": presets::summary(name), "pipeline": text }),
            );
        } else {
            terminal::answer(text);
        }
        return Ok(Answer::Done);
    }
    let rules = rules::all(global)?;
    if let Some(rule) = rules.get(name) {
        return match (&arguments.why_not, &arguments.model) {
            (Some(node), Some(path)) => why_not(global, rule, node, path),
            _ => {
                describe(global, rule);
                Ok(Answer::Done)
            }
        };
    }
    let entries = registry::entries();
    let names = rules
        .rules()
        .iter()
        .map(|rule| rule.name.as_str())
        .chain(presets::names())
        .chain([DATA])
        .chain(entries.iter().map(|entry| entry.name));
    let failure = Failure::new(
        "unknown-name",
        format!("there is no pass, rule or preset `{name}`"),
    );
    Err(match nearest(name, names) {
        Some(name) => failure.hint(format!("did you mean `{name}`?")),
        None => failure.hint("`secateur explain` lists them"),
    })
}

fn list(global: &Global) -> Result<Answer, Failure> {
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

fn describe(global: &Global, rule: &Rule) {
    if global.json {
        return terminal::json(&json!({
            "name": rule.name, "kind": "rule", "family": rule.family, "summary": rule.summary, "safety": rule.safety,
            "opset": rule.opset_text(), "match": rule.matches, "where": rule.clauses, "replace": rule.replace,
            "examples": rule.examples.iter().map(example).collect::<Vec<_>>(), "file": &*rule.file,
        }));
    }
    let indent = |text: &str| -> String {
        text.lines()
            .map(|line| format!("  {}\n", sanitise(line)))
            .collect()
    };
    let mut text = format!(
        "{} ({}, opset {})\n\n{}\n",
        rule.name,
        word(rule.safety),
        rule.opset_text(),
        sanitise(&rule.summary)
    );
    for matched in &rule.matches {
        text.push_str(&format!("\nmatch:\n{}", indent(matched)));
    }
    if !rule.clauses.is_empty() {
        text.push_str("\nwhere:\n");
        rule.clauses
            .iter()
            .for_each(|clause| text.push_str(&indent(clause)));
    }
    text.push_str(&format!("\nreplace:\n{}", indent(&rule.replace)));
    if !rule.examples.is_empty() {
        text.push_str("\nexamples:\n");
        rule.examples
            .iter()
            .for_each(|case| text.push_str(&indent(&example(case).to_string())));
    }
    terminal::answer(&text);
}

fn example(example: &Example) -> Value {
    Value::Object(
        example
            .fields()
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect(),
    )
}

fn word(safety: Safety) -> String {
    serde_json::to_value(safety)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// Says why `rule` does not fire at the node of this name, or at the node that produces the value of this name.
fn why_not(global: &Global, rule: &Rule, name: &str, path: &Path) -> Result<Answer, Failure> {
    let mut model = model::read(global, path)?.model;
    analysis::infer(&mut model);
    let mut found = None;
    for graph_path in model.graph_paths() {
        let Some(graph) = model.graph_at(&graph_path) else {
            continue;
        };
        let named = |id: &NodeId| {
            graph.operator(*id).is_some()
                && graph.get(*id).is_some_and(|node| {
                    node.name.as_deref() == Some(name)
                        || node.outputs().iter().any(|value| value.name == *name)
                })
        };
        if let Some(id) = graph.topological_order().into_iter().find(named) {
            found = Some((graph_path, id));
            break;
        }
    }
    let Some((graph_path, id)) = found else {
        let known: Vec<String> = model
            .graph
            .topological_order()
            .into_iter()
            .map(|id| model.graph.label(id))
            .collect();
        let failure = Failure::new(
            "unknown-node",
            format!("no node or value of the model is called {name}"),
        )
        .in_file(path);
        return Err(match nearest(name, known.iter().map(String::as_str)) {
            Some(name) => failure.hint(format!("did you mean `{name}`?")),
            None => failure,
        });
    };
    let answer = rewrite::why_not(&model, rule, &graph_path, id, &Options::new(&TractEvaluator));
    if global.json {
        let fires = answer == WhyNot::Fires;
        terminal::json(
            &json!({ "rule": rule.name, "node": name, "fires": fires, "reason": answer.to_string() }),
        );
    } else {
        terminal::answer(&format!(
            "{} at {}: {}",
            rule.name,
            sanitise(name),
            sanitise(&answer.to_string())
        ));
    }
    Ok(Answer::Done)
}

fn pass(global: &Global, entry: &registry::Entry) {
    if global.json {
        return terminal::json(&json!({
            "name": entry.name,
            "kind": "pass",
            "safety": entry.safety,
            "documentation": entry.documentation(),
            "options": entry.schema,
        }));
    }
    let mut text = format!(
        "{} ({})\n\n{}\n",
        entry.name,
        word(entry.safety),
        entry.documentation()
    );
    let properties = entry
        .schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    for (index, (option, schema)) in properties.enumerate() {
        if index == 0 {
            text.push_str("\noptions:\n");
        }
        let about = schema
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or("")
            .replace('\n', " ");
        let default = schema
            .get("default")
            .map(|value| format!(" [default: {value}]"))
            .unwrap_or_default();
        text.push_str(&format!("  {option}{default}\n      {about}\n"));
    }
    terminal::answer(&text);
}
