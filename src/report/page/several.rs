//! The page of stored results side by side: figures, what got worse than in the first, and what costs and quality buy each other.

use indexmap::IndexMap;
use serde_json::Value;

use super::draw::{self, Trade};
use super::{Mood, Page, Source, paragraph, source, wide};
use crate::report::table::{Style, bytes, count, table};

/// A result as `--json` or `--report` wrote it.
pub struct Stored {
    /// How the page calls it.
    pub name: String,
    /// The document.
    pub document: Value,
}

/// Figures of which less is better; of all others, more is.
const LESS: &[&str] = &[
    "nodes",
    "parameters",
    "bytes",
    "MACs",
    "latency ms",
    "mean squared error",
    "mean absolute error",
    "cer",
    "wer",
    "nll",
    "perplexity",
    "kl",
    "new",
];
/// Changes that count as none: a share of the first result's figure.
const SAME: f64 = 1e-9;
/// A latency that is so much longer is one that got worse; below, it is the machine.
const SLOWER: f64 = 0.05;

/// What the results have in figures.
struct Result {
    name: String,
    verdict: String,
    figures: IndexMap<String, f64>,
}

/// The page; an error names the document that is none of ours.
pub fn several(title: &str, stored: &[Stored], origin: &Source) -> std::result::Result<String, String> {
    let results: Vec<Result> = stored.iter().map(read).collect::<std::result::Result<_, _>>()?;
    let mut page = Page::new(title);
    let worse = regressions(&results);
    let first = results
        .first()
        .map(|result| result.name.as_str())
        .unwrap_or_default();
    if worse.is_empty() {
        page.verdict(
            Mood::Good,
            &format!(
                "{} results; none is worse than {first} in any figure",
                results.len()
            ),
        );
    } else {
        page.verdict(
            Mood::Bad,
            &format!("{} figures are worse than in {first}", worse.len()),
        );
    }
    page.section("Worse than the first", regressed(&worse));
    page.section("Figures", figures(&results));
    page.section("Cost and quality", trade(&results));
    page.section("Where this comes from", source(origin));
    Ok(page.html())
}

fn read(stored: &Stored) -> std::result::Result<Result, String> {
    let document = &stored.document;
    let mut figures = IndexMap::new();
    let mut set = |name: &str, value: Option<&Value>| {
        if let Some(value) = value.and_then(Value::as_f64) {
            figures.insert(name.to_owned(), value);
        }
    };
    let at = |path: &str| document.pointer(path);
    let verdict;
    if at("/steps").is_some() && at("/after").is_some() {
        let accepted = at("/accepted").and_then(Value::as_bool).unwrap_or(false);
        verdict = format!(
            "{}, {}",
            word(at("/verdict")),
            if accepted { "accepted" } else { "refused" }
        );
        for (name, key) in [
            ("nodes", "nodes"),
            ("parameters", "parameters"),
            ("bytes", "bytes"),
            ("MACs", "macs"),
        ] {
            set(name, at(&format!("/after/{key}")));
        }
        set("latency ms", at("/verify/latency/model/p50"));
        compared(at("/verify/outputs"), &mut set);
        measured(at("/evaluation"), &mut set);
    } else if at("/outputs").is_some() && at("/verdict").is_some() {
        verdict = word(at("/verdict")).to_owned();
        set("latency ms", at("/latency/model/p50"));
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
        set("latency ms", at("/latency_ms/p50"));
        measured(Some(document), &mut set);
    } else {
        return Err(format!(
            "{}: this is no JSON report of run, verify or evaluate",
            stored.name
        ));
    }
    Ok(Result {
        name: stored.name.clone(),
        verdict,
        figures,
    })
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

/// Something that got worse.
struct Regression {
    name: String,
    figure: String,
    first: f64,
    own: f64,
}

fn regressions(results: &[Result]) -> Vec<Regression> {
    let Some((first, others)) = results.split_first() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for other in others {
        for (figure, own) in &other.figures {
            let Some(reference) = first.figures.get(figure) else {
                continue;
            };
            let by = if LESS.contains(&figure.as_str()) {
                own - reference
            } else {
                reference - own
            };
            let bound = if figure == "latency ms" { SLOWER } else { SAME };
            if by > bound * reference.abs().max(f64::MIN_POSITIVE) {
                found.push(Regression {
                    name: other.name.clone(),
                    figure: figure.clone(),
                    first: *reference,
                    own: *own,
                });
            }
        }
    }
    found
}

fn regressed(worse: &[Regression]) -> String {
    if worse.is_empty() {
        return String::new();
    }
    let lines = worse.iter().map(|found| {
        vec![
            found.name.clone(),
            found.figure.clone(),
            number(&found.figure, found.first),
            number(&found.figure, found.own),
        ]
    });
    wide(
        "worse",
        &table(Style::Html, &["result", "figure", "first", "here"], false, lines),
    )
}

fn number(figure: &str, value: f64) -> String {
    match figure {
        "bytes" => bytes(value as u64),
        "nodes" | "parameters" | "MACs" => count(value as u64),
        _ if value.abs() >= 100.0 => format!("{value:.2}"),
        _ => format!("{value:.5}"),
    }
}

fn figures(results: &[Result]) -> String {
    let mut names: Vec<&String> = Vec::new();
    for name in results.iter().flat_map(|result| result.figures.keys()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut heading = vec!["result", "verdict"];
    heading.extend(names.iter().map(|name| name.as_str()));
    let lines = results.iter().map(|result| {
        let mut cells = vec![result.name.clone(), result.verdict.clone()];
        cells.extend(names.iter().map(|name| {
            result
                .figures
                .get(*name)
                .map(|value| number(name, *value))
                .unwrap_or_default()
        }));
        cells
    });
    wide("figures", &table(Style::Html, &heading, true, lines))
}

/// Costs and qualities that are drawn, the most telling one first.
const COSTS: &[&str] = &["latency ms", "bytes", "MACs", "nodes"];
const QUALITIES: &[&str] = &[
    "map",
    "miou",
    "accuracy",
    "found",
    "F1",
    "SQNR dB",
    "cosine",
    "agreement",
];

/// The results in the plane of a cost and a quality that all of them have.
fn trade(results: &[Result]) -> String {
    let shared = |names: &'static [&'static str]| {
        names
            .iter()
            .copied()
            .find(|name| results.iter().all(|result| result.figures.contains_key(*name)))
    };
    let (Some(cost), Some(quality)) = (shared(COSTS), shared(QUALITIES)) else {
        return String::new();
    };
    if results.len() < 2 {
        return String::new();
    }
    let of = |result: &Result, name: &str| result.figures.get(name).copied().unwrap_or(f64::NAN);
    let plane: Vec<(f64, f64)> = results
        .iter()
        .map(|result| (of(result, cost), of(result, quality)))
        .collect();
    let beaten = |own: (f64, f64)| {
        plane
            .iter()
            .any(|other| other.0 <= own.0 && other.1 >= own.1 && (other.0 < own.0 || other.1 > own.1))
    };
    let points: Vec<Trade> = results
        .iter()
        .zip(&plane)
        .map(|(result, own)| Trade {
            name: result.name.clone(),
            cost: own.0,
            value: own.1,
            best: !beaten(*own),
        })
        .collect();
    let best: Vec<&str> = points
        .iter()
        .filter(|point| point.best)
        .map(|point| point.name.as_str())
        .collect();
    format!(
        "{}{}",
        draw::trades(&points, cost, quality),
        paragraph(&format!(
            "No other result is at least as good in both {cost} and {quality} as {}.",
            best.join(", ")
        ))
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn result(name: &str, bytes: u64, accuracy: f64) -> Stored {
        Stored {
            name: name.to_owned(),
            document: json!({ "samples": 10, "gates": [], "bytes": bytes, "accuracy": accuracy }),
        }
    }

    #[test]
    fn what_got_worse_is_named_and_what_is_best_is_joined() {
        let stored = [result("a", 100, 0.9), result("b", 50, 0.8), result("c", 120, 0.7)];
        let page = several("t", &stored, &Source::default()).unwrap();
        assert!(page.contains("3 figures are worse than in a"), "{page}");
        assert!(page.contains("in both bytes and accuracy as a, b."), "{page}");
    }

    #[test]
    fn a_document_of_another_program_is_named() {
        let stored = [Stored {
            name: "x.json".to_owned(),
            document: json!({ "a": 1 }),
        }];
        let error = several("t", &stored, &Source::default()).unwrap_err();
        assert!(error.starts_with("x.json: "), "{error}");
    }
}
