//! `rules list` and `rules test`: the rewrite rules there are, and whether their examples prove them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::global::Global;
use super::progress::Progress;
use super::{Answer, terminal};
use crate::api::{Error, Proof, ProofVerdict, RuleSet, prove_rules, rules, rules_in};
use crate::report::sanitise;

/// List rewrite rules, or prove them with their examples
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// List the rules: those that come with secateur, and those of --rules
    List,
    /// Run the examples of the rules in a folder, or of those that come with secateur
    Test {
        /// A folder of rules
        folder: Option<PathBuf>,
        /// Only rules whose names contain this text
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
    },
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    match &arguments.action {
        Action::List => list(global),
        Action::Test { folder, name } => {
            let set = match folder {
                Some(folder) => rules_in(folder)?,
                None => rules(&global.options())?,
            };
            test(global, &set, name.as_deref().unwrap_or_default())
        }
    }
}

fn list(global: &Global) -> Result<Answer, Error> {
    let set = rules(&global.options())?;
    if global.json {
        let rules: Vec<Value> = set
            .rules()
            .iter()
            .map(|rule| {
                json!({
                    "name": rule.name, "family": rule.family, "summary": rule.summary, "safety": rule.safety,
                    "opset": rule.opset_text(), "examples": rule.examples().len(), "file": &*rule.file,
                })
            })
            .collect();
        terminal::json(&json!({ "rules": rules }));
        return Ok(Answer::Done);
    }
    let width = set.rules().iter().map(|rule| rule.name.len()).max().unwrap_or(0);
    let mut families: Vec<&str> = set.rules().iter().map(|rule| rule.family.as_str()).collect();
    families.sort_unstable();
    families.dedup();
    let mut text = String::new();
    for family in families {
        let waits = set
            .rules()
            .iter()
            .any(|rule| rule.family == family && rule.is_optional());
        let how = if waits { " (simplify --families)" } else { "" };
        text.push_str(&format!("{family}{how}:\n"));
        for rule in set.rules().iter().filter(|rule| rule.family == family) {
            text.push_str(&format!(
                "  {:width$}  {}\n",
                sanitise(&rule.name),
                sanitise(&rule.summary)
            ));
        }
    }
    terminal::answer(&text);
    Ok(Answer::Done)
}

/// Exit status 1 when an example speaks against its rule, or a rule has none that says something for it. A rule whose examples the
/// engine does not run is named, and is no failure: another engine may run them.
fn test(global: &Global, set: &RuleSet, text: &str) -> Result<Answer, Error> {
    global.limit_threads();
    let progress = Progress::new(global);
    let options = global.options().progress(progress.teller());
    let mut documents = Vec::new();
    let (mut proven, mut drawn, mut failed) = (0usize, 0usize, 0usize);
    let mut instances = serde_json::Map::new();
    let (mut unproven, mut not_run) = (Vec::new(), Vec::new());
    let tried = |rule: &str, proofs: Vec<Proof>| {
        let own = proofs.iter().filter(|proof| proof.is_instance()).count();
        instances.insert(rule.to_owned(), json!(own));
        drawn += own;
        proven += proofs
            .iter()
            .filter(|proof| proof.instance == 0 && proof.verdict.is_proven())
            .count();
        failed += proofs.iter().filter(|proof| proof.verdict.is_failed()).count();
        if !proofs.iter().any(|proof| proof.verdict.is_proven()) {
            let reason = proofs.iter().find_map(|proof| match &proof.verdict {
                ProofVerdict::NotChecked(reason) => Some(reason.clone()),
                _ => None,
            });
            match reason {
                Some(reason) => not_run.push((rule.to_owned(), reason)),
                None => unproven.push(rule.to_owned()),
            }
        }
        if global.json {
            documents.extend(proofs.iter().map(document));
            return;
        }
        for proof in proofs
            .iter()
            .filter(|proof| proof.verdict.is_failed() || global.verbose > 0)
        {
            terminal::answer(&sanitise(&proof.to_string()));
        }
    };
    let count = prove_rules(set, |name| name.contains(text), &options, tried)?;
    drop(progress);
    let passed = failed == 0 && unproven.is_empty();
    if global.json {
        terminal::json(
            &json!({ "passed": passed, "rules": count, "proven": proven, "failed": failed, "unproven": unproven, "instances": instances,
                "not-run": not_run.iter().map(|(name, reason)| json!({ "rule": name, "reason": reason })).collect::<Vec<_>>(),
                "cases": documents }),
        );
    } else {
        for (name, reason) in &not_run {
            terminal::answer(&format!(
                "{}: this engine runs no example ({}); try another --engine",
                sanitise(name),
                sanitise(reason)
            ));
        }
        for name in &unproven {
            terminal::answer(&format!("{}: no example proves it", sanitise(name)));
        }
        terminal::answer(&format!(
            "{count} rules, {proven} cases and {drawn} random instances proven, {failed} failed"
        ));
    }
    Ok(if passed { Answer::Done } else { Answer::No })
}

fn document(proof: &Proof) -> Value {
    let (verdict, detail): (&str, Value) = match &proof.verdict {
        ProofVerdict::Equal => ("equal", Value::Null),
        ProofVerdict::Within(difference) => ("within", json!(difference)),
        ProofVerdict::Refused => ("refused", Value::Null),
        ProofVerdict::NotInOpset(reason) => ("not-in-opset", json!(reason)),
        ProofVerdict::NotChecked(reason) => ("not-checked", json!(reason)),
        ProofVerdict::Failed(reason) => ("failed", json!(reason)),
    };
    json!({ "rule": proof.rule, "example": proof.example + 1, "variant": proof.variant, "opset": proof.opset,
        "instance": proof.instance, "verdict": verdict, "detail": detail })
}
