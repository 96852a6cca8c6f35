//! The page of stored results side by side: figures, what got worse than in the first, and what costs and quality buy each other.

use super::draw::{self, Trade};
use super::{Mood, Page, Source, paragraph, rows, source, wide};
use crate::report::stored::{NoReport, Stored, Summary, Worse, number, summary, usual, worse};
use crate::report::table::{Style, table};

/// The page; an error names the document that is none of ours.
pub fn several(title: &str, stored: &[Stored], origin: &Source) -> Result<String, NoReport> {
    let results: Vec<Summary> = stored.iter().map(summary).collect::<Result<_, _>>()?;
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

/// What got worse in each result but the first.
fn regressions(results: &[Summary]) -> Vec<(&str, Worse)> {
    let Some((first, others)) = results.split_first() else {
        return Vec::new();
    };
    let of = |other: &'_ Summary| worse(&first.figures, &other.figures, &usual);
    others
        .iter()
        .flat_map(|other| of(other).into_iter().map(|found| (other.name.as_str(), found)))
        .collect()
}

fn regressed(worse: &[(&str, Worse)]) -> String {
    if worse.is_empty() {
        return String::new();
    }
    let lines = worse.iter().map(|(name, found)| {
        vec![
            (*name).to_owned(),
            found.figure.clone(),
            number(&found.figure, found.first),
            number(&found.figure, found.own),
        ]
    });
    rows("worse", &["result", "figure", "first", "here"], lines)
}

fn figures(results: &[Summary]) -> String {
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
const COSTS: &[&str] = &["latency ratio", "latency ms", "bytes", "MACs", "nodes"];
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
fn trade(results: &[Summary]) -> String {
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
    let of = |result: &Summary, name: &str| result.figures.get(name).copied().unwrap_or(f64::NAN);
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
        assert!(error.to_string().starts_with("x.json: "), "{error}");
    }
}
