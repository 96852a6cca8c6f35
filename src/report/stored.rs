//! Stored results: what `run`, `verify` and `evaluate` wrote as JSON, as figures that can be compared.

use indexmap::IndexMap;
use serde_json::Value;

use super::table::{bytes, count};

/// A result as `--json` or `--report` wrote it.
pub struct Stored {
    /// How the page calls it.
    pub name: String,
    /// The document.
    pub document: Value,
}

/// A document that is no stored result.
#[derive(Debug, thiserror::Error)]
#[error("{0}: this is no JSON report of run, verify or evaluate")]
pub struct NoReport(String);

/// Figures of which less is better; of all others, more is.
const LESS: &[&str] = &[
    "nodes",
    "parameters",
    "bytes",
    "MACs",
    TIME,
    RATIO,
    "mean squared error",
    "mean absolute error",
    "cer",
    "wer",
    "nll",
    "perplexity",
    "kl",
    "new",
];
/// Changes of a figure that count as none, as a share of it.
pub const SAME: f64 = 1e-9;
/// A time that is longer by no more than this share is so because of the machine.
pub const SLOWER: f64 = 0.1;
/// A time by itself, which depends on the machine.
pub const TIME: &str = "latency ms";
/// The time as a share of the reference's, which depends on it less.
pub const RATIO: &str = "latency ratio";

/// Whether less of a figure is better.
pub fn less_is_better(figure: &str) -> bool {
    LESS.contains(&figure)
}

/// Figures that say how dear a result is, not how good.
const COSTS: [&str; 6] = ["nodes", "parameters", "bytes", "MACs", TIME, RATIO];

/// The figure that says best how good a measured model is: the task's first one, else the first that is no cost.
pub fn main_figure(measured: &Value, figures: &IndexMap<String, f64>) -> Option<String> {
    let task = measured.pointer("/task/figures").and_then(Value::as_object);
    let of_task = task.and_then(|task| task.keys().find(|name| figures.contains_key(*name)));
    let other = || figures.keys().find(|name| !COSTS.contains(&name.as_str()));
    of_task.or_else(other).cloned()
}

/// What a result has in figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// How it is called.
    pub name: String,
    /// The verdict in a word or two.
    pub verdict: String,
    /// Whether it was accepted: by its pipeline, as equal or within the tolerance, by its gates.
    pub accepted: bool,
    /// Figures by name.
    pub figures: IndexMap<String, f64>,
}

/// The figures of a stored result; an error names one that is none of ours.
///
/// # Errors
/// A document that none of the three verbs writes.
pub fn summary(stored: &Stored) -> Result<Summary, NoReport> {
    let document = &stored.document;
    let mut figures = IndexMap::new();
    let mut set = |name: &str, value: Option<&Value>| {
        if let Some(value) = value.and_then(Value::as_f64) {
            figures.insert(name.to_owned(), value);
        }
    };
    let at = |path: &str| document.pointer(path);
    let (verdict, accepted);
    if at("/steps").is_some() && at("/after").is_some() {
        accepted = at("/accepted").and_then(Value::as_bool).unwrap_or(false);
        let word_of = if accepted { "accepted" } else { "refused" };
        verdict = format!("{}, {word_of}", word(at("/verdict")));
        for (name, key) in [
            ("nodes", "nodes"),
            ("parameters", "parameters"),
            ("bytes", "bytes"),
            ("MACs", "macs"),
        ] {
            set(name, at(&format!("/after/{key}")));
        }
        set(TIME, at("/verify/latency/model/p50"));
        ratio(
            at("/verify/latency/reference/p50"),
            at("/verify/latency/model/p50"),
            &mut set,
        );
        compared(at("/verify/outputs"), &mut set);
        measured(at("/evaluation"), &mut set);
    } else if at("/outputs").is_some() && at("/verdict").is_some() {
        verdict = word(at("/verdict")).to_owned();
        accepted = matches!(verdict.as_str(), "equal" | "within");
        set(TIME, at("/latency/model/p50"));
        ratio(at("/latency/reference/p50"), at("/latency/model/p50"), &mut set);
        compared(at("/outputs"), &mut set);
    } else if at("/samples").is_some() && at("/gates").is_some() {
        let gates = at("/gates")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let failed = gates
            .iter()
            .filter(|gate| gate.get("passed") == Some(&Value::Bool(false)))
            .count();
        accepted = failed == 0;
        verdict = match (gates.len(), failed) {
            (0, _) => "no gates".to_owned(),
            (_, 0) => "gates hold".to_owned(),
            (all, failed) => format!("{failed} of {all} gates do not hold"),
        };
        for (name, key) in [
            ("bytes", "/bytes"),
            ("parameters", "/parameters"),
            ("MACs", "/macs"),
        ] {
            set(name, at(key));
        }
        set(TIME, at("/latency_ms/p50"));
        ratio(at("/against/latency_ms/p50"), at("/latency_ms/p50"), &mut set);
        measured(Some(document), &mut set);
    } else {
        return Err(NoReport(stored.name.clone()));
    }
    Ok(Summary {
        name: stored.name.clone(),
        verdict,
        accepted,
        figures,
    })
}

fn ratio(reference: Option<&Value>, model: Option<&Value>, set: &mut dyn FnMut(&str, Option<&Value>)) {
    if let (Some(reference), Some(model)) = (reference.and_then(Value::as_f64), model.and_then(Value::as_f64))
        && reference > 0.0
    {
        set(RATIO, Some(&Value::from(model / reference)));
    }
}

fn word(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or("unknown")
}

/// The worst output of a comparison.
fn compared(outputs: Option<&Value>, set: &mut dyn FnMut(&str, Option<&Value>)) {
    let outputs = outputs
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    for (name, key) in [
        ("cosine", "cosine"),
        ("SQNR dB", "sqnr_db"),
        ("top-1 agreement", "top1_agreement"),
    ] {
        let worst = outputs
            .iter()
            .filter_map(|output| output.get(key))
            .filter(|value| value.is_number())
            .min_by(|a, b| a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)));
        set(name, worst);
    }
}

fn measured(figures: Option<&Value>, set: &mut dyn FnMut(&str, Option<&Value>)) {
    let Some(figures) = figures.filter(|figures| figures.is_object()) else {
        return;
    };
    for (name, key) in [
        ("accuracy", "accuracy"),
        ("top-5", "top5"),
        ("F1", "f1"),
        ("R²", "r2"),
        ("mean squared error", "mean_squared_error"),
        ("mean absolute error", "mean_absolute_error"),
    ] {
        set(name, figures.get(key));
    }
    set("agreement", figures.pointer("/against/agreement"));
    let task = figures.pointer("/task/figures").and_then(Value::as_object);
    for (name, value) in task.into_iter().flatten() {
        set(name, Some(value));
    }
}

/// A figure that got worse.
#[derive(Clone, Debug, PartialEq)]
pub struct Worse {
    /// Its name.
    pub figure: String,
    /// What it was.
    pub first: f64,
    /// What it is.
    pub own: f64,
}

/// The figures that got worse by more than the share that is allowed of each.
pub fn worse(
    first: &IndexMap<String, f64>,
    own: &IndexMap<String, f64>,
    allowed: &dyn Fn(&str) -> f64,
) -> Vec<Worse> {
    let mut found = Vec::new();
    for (figure, value) in own {
        let Some(reference) = first.get(figure) else {
            continue;
        };
        let by = if less_is_better(figure) {
            value - reference
        } else {
            reference - value
        };
        if by > allowed(figure) * reference.abs().max(f64::MIN_POSITIVE) {
            found.push(Worse {
                figure: figure.clone(),
                first: *reference,
                own: *value,
            });
        }
    }
    found
}

/// What is allowed of a figure where nobody says it.
pub fn usual(figure: &str) -> f64 {
    match figure {
        TIME | RATIO => SLOWER,
        // Rounding of another machine.
        "SQNR dB" => 0.05,
        "cosine" => 1e-6,
        _ => SAME,
    }
}

/// A figure for people.
pub fn number(figure: &str, value: f64) -> String {
    match figure {
        "bytes" => bytes(value as u64),
        "nodes" | "parameters" | "MACs" => count(value as u64),
        _ if value.abs() >= 100.0 => format!("{value:.2}"),
        _ => format!("{value:.5}"),
    }
}
