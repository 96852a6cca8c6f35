//! What passes, rules and presets are, in words and as JSON.

use std::fmt;

use serde_json::{Value, json};

use super::error::Error;
use super::model::Model;
use super::options::Options;
use super::rules::rules;
use crate::analysis;
use crate::data;
use crate::fold::TractEvaluator;
use crate::ir::NodeId;
use crate::lint;
use crate::passes::{Safety, registry};
use crate::pipeline::presets;
use crate::report::sanitise;
use crate::rewrite::{self, Example, Rule, WhyNot};
use crate::schema::nearest;

/// What something is: its `Display` is for people, [`Explanation::document`] for programs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The same as JSON: `name`, `kind` (`pass`, `rule`, `preset`, `page`), and what there is to say of that kind.
    pub document: Value,
    text: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The name of the page on descriptions of data.
const DATA: &str = "data";

/// The options of a step.
pub(crate) struct StepSchema {
    pub(crate) name: &'static str,
    pub(crate) schema: Value,
    pub(crate) documentation: String,
    pub(crate) summary: String,
    /// What it preserves with default options, in a word.
    pub(crate) safety: &'static str,
    /// The role of the data that it needs with default options.
    pub(crate) role: Option<&'static str>,
}

/// Every step there is, by name.
pub(crate) fn step_schemas() -> Vec<StepSchema> {
    let entries = registry::entries();
    entries
        .iter()
        .map(|entry| StepSchema {
            name: entry.name,
            schema: entry.schema.as_value().clone(),
            documentation: entry.documentation().to_owned(),
            summary: entry.summary().to_owned(),
            safety: entry.safety.name(),
            role: match entry.needs {
                needs if needs.training => Some("training"),
                needs if needs.calibration => Some("calibration"),
                _ => None,
            },
        })
        .collect()
}

/// Everything that can be explained: passes, presets, rules.
pub(crate) fn catalogue(options: &Options) -> Result<Explanation, Error> {
    let rules = rules(options)?;
    let entries = registry::entries();
    let passes: Vec<Value> = entries
        .iter()
        .map(|entry| json!({ "name": entry.name, "safety": entry.safety, "summary": entry.summary() }))
        .collect();
    let named: Vec<Value> = presets::names()
        .into_iter()
        .map(|name| json!({ "name": name, "summary": presets::summary(name) }))
        .collect();
    let listed: Vec<Value> = rules
        .rules()
        .iter()
        .map(|rule| json!({ "name": rule.name, "safety": rule.safety, "summary": rule.summary }))
        .collect();
    let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    let mut text = String::from("passes:\n");
    for entry in entries {
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
    Ok(Explanation {
        document: json!({ "passes": passes, "presets": named, "rules": listed }),
        text,
    })
}

/// Explains a pass with its options, a rewrite rule, a check, a preset, or with `data` how data are described.
///
/// # Errors
///
/// `unknown-name`, with the nearest name as a hint; rules in [`Options::rules`] that are none.
///
/// # Examples
///
/// ```
/// use secateur::{Options, explain};
/// let quantize = explain("quantize", &Options::new())?;
/// assert_eq!(quantize.document["kind"], "pass");
/// assert!(quantize.to_string().contains("calibrate"));
/// assert_eq!(explain("quantise", &Options::new()).unwrap_err().hint(), Some("did you mean `quantize`?"));
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn explain(name: &str, options: &Options) -> Result<Explanation, Error> {
    let entries = registry::entries();
    if let Some(entry) = entries.iter().find(|entry| entry.name == name) {
        return Ok(pass(entry));
    }
    if name == DATA {
        let text = data::page();
        let schema = data::Spec::schema();
        return Ok(Explanation {
            document: json!({ "name": name, "kind": "page", "documentation": text, "schema": schema }),
            text,
        });
    }
    if let Some(text) = presets::text(name) {
        let summary = presets::summary(name);
        return Ok(Explanation {
            document: json!({ "name": name, "kind": "preset", "summary": summary, "pipeline": text }),
            text: text.to_owned(),
        });
    }
    if let Some(check) = lint::checks().iter().find(|check| check.code == name) {
        return Ok(Explanation {
            text: lint::section(check),
            document: json!({
                "name": name,
                "kind": "check",
                "severity": check.severity,
                "summary": check.summary,
                "documentation": check.about,
                "cure": check.cure.text,
                "step": check.cure.step.map(|(step, _)| step),
            }),
        });
    }
    let rules = rules(options)?;
    if let Some(found) = rules.get(name) {
        return Ok(rule(found));
    }
    let names = rules
        .rules()
        .iter()
        .map(|rule| rule.name.as_str())
        .chain(presets::names())
        .chain([DATA])
        .chain(lint::checks().iter().map(|check| check.code))
        .chain(entries.iter().map(|entry| entry.name));
    let error = Error::new(
        "unknown-name",
        format!("there is no pass, rule, check or preset `{name}`"),
    );
    Err(match nearest(name, names) {
        Some(name) => error.with_hint(format!("did you mean `{name}`?")),
        None => error.with_hint("`secateur explain` lists them"),
    })
}

/// Says why a rule does not fire at the node of this name, or at the node that produces the value of this name.
///
/// # Errors
///
/// `unknown-name` for what is no rule, `unknown-node`.
///
/// # Examples
///
/// ```
/// use secateur::{Model, Options, explain_why_not};
/// let model = Model::open("fixtures/digits_mlp.onnx")?;
/// let found = explain_why_not("mul-one", "logits", &model, &Options::new())?;
/// assert_eq!(found.document["fires"], false);
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn explain_why_not(
    rule: &str,
    node: &str,
    model: &Model,
    options: &Options,
) -> Result<Explanation, Error> {
    let rules = rules(options)?;
    let Some(found) = rules.get(rule) else {
        let names = rules.rules().iter().map(|rule| rule.name.as_str());
        let error = Error::new("unknown-name", format!("there is no rule `{rule}`"));
        return Err(match nearest(rule, names) {
            Some(name) => error.with_hint(format!("did you mean `{name}`?")),
            None => error,
        });
    };
    let mut inferred = model.model.clone();
    analysis::infer(&mut inferred);
    for path in inferred.graph_paths() {
        let Some(graph) = inferred.graph_at(&path) else {
            continue;
        };
        let named = |id: &NodeId| {
            graph.operator(*id).is_some()
                && graph.get(*id).is_some_and(|found| {
                    found.name.as_deref() == Some(node)
                        || found.outputs().iter().any(|value| value.name == *node)
                })
        };
        if let Some(id) = graph.topological_order().into_iter().find(named) {
            let how = rewrite::Options::new(&TractEvaluator);
            let answer = rewrite::why_not(&inferred, found, &path, id, &how);
            return Ok(why_not(rule, node, &answer));
        }
    }
    let known: Vec<String> = inferred
        .graph
        .topological_order()
        .into_iter()
        .map(|id| inferred.graph.label(id))
        .collect();
    let error = Error::new(
        "unknown-node",
        format!("no node or value of the model is called {node}"),
    )
    .in_source(model.origin.path.as_deref());
    Err(match nearest(node, known.iter().map(String::as_str)) {
        Some(name) => error.with_hint(format!("did you mean `{name}`?")),
        None => error,
    })
}

fn why_not(rule: &str, node: &str, answer: &WhyNot) -> Explanation {
    let fires = *answer == WhyNot::Fires;
    let reason = answer.to_string();
    Explanation {
        text: format!("{rule} at {}: {}", sanitise(node), sanitise(&reason)),
        document: json!({ "rule": rule, "node": node, "fires": fires, "reason": reason }),
    }
}

fn rule(rule: &Rule) -> Explanation {
    let document = json!({
        "name": rule.name, "kind": "rule", "family": rule.family, "summary": rule.summary, "safety": rule.safety,
        "opset": rule.opset_text(), "match": rule.matches, "where": rule.clauses, "replace": rule.replace,
        "examples": rule.examples().iter().map(example).collect::<Vec<_>>(), "file": &*rule.file,
    });
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
    if !rule.examples().is_empty() {
        text.push_str("\nexamples:\n");
        rule.examples()
            .iter()
            .for_each(|case| text.push_str(&indent(&example(case).to_string())));
    }
    Explanation { document, text }
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

fn pass(entry: &registry::Entry) -> Explanation {
    let document = json!({
        "name": entry.name,
        "kind": "pass",
        "safety": entry.safety,
        "documentation": entry.documentation(),
        "options": entry.schema,
    });
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
    Explanation { document, text }
}
