//! The figures of an evaluation for people, pull requests and CI.

use super::sanitise;
use super::table::{self, Style, said};
use crate::evaluate::{Figures, Interval, TaskFigures};
use crate::pipeline::GateReport;

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// A row a figure, with the reference beside it where there is one.
pub fn table(style: Style, figures: &Figures) -> String {
    let against = figures.against.as_ref();
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: Option<String>, reference: Option<String>| {
        if let Some(value) = value {
            let mut cells = vec![name.to_owned(), value];
            if against.is_some() {
                cells.push(reference.unwrap_or_default());
            }
            rows.push(cells);
        }
    };
    row("samples", Some(figures.samples.to_string()), None);
    let interval = figures.accuracy_interval.map_or(String::new(), |i| {
        format!(" ({:.2} to {:.2})", 100.0 * i.low, 100.0 * i.high)
    });
    row(
        "accuracy",
        figures.accuracy.map(|a| format!("{}{interval}", percent(a))),
        against.and_then(|a| a.accuracy).map(percent),
    );
    row("top-5", figures.top5.map(percent), None);
    row("precision (macro)", figures.precision.map(percent), None);
    row("recall (macro)", figures.recall.map(percent), None);
    row(
        "F1 (macro)",
        figures.f1.map(percent),
        against.and_then(|a| a.f1).map(percent),
    );
    row(
        "mean squared error",
        figures.mean_squared_error.map(|v| format!("{v:.6e}")),
        None,
    );
    row(
        "mean absolute error",
        figures.mean_absolute_error.map(|v| format!("{v:.6e}")),
        None,
    );
    row("R²", figures.r2.map(|v| format!("{v:.6}")), None);
    if let Some(against) = against {
        row("agreement", Some(percent(against.agreement)), None);
        row("McNemar p", against.mcnemar_p.map(|p| format!("{p:.4}")), None);
    }
    let time = |latency: &crate::engine::Latency| format!("{:.3} / {:.3} ms", latency.p50, latency.p95);
    row(
        "latency p50 / p95",
        figures.latency_ms.as_ref().map(time),
        against.and_then(|a| a.latency_ms.as_ref()).map(time),
    );
    row(
        "samples a second",
        figures.samples_per_second.map(|v| format!("{v:.1}")),
        None,
    );
    row("peak memory", figures.peak_memory_bytes.map(table::bytes), None);
    row(
        "bytes",
        figures.bytes.map(table::bytes),
        against.and_then(|a| a.bytes).map(table::bytes),
    );
    row("parameters", figures.parameters.map(table::count), None);
    row("MACs", figures.macs.map(table::count), None);
    if figures.not_finite > 0 {
        row(
            "samples with NaN or infinite outputs",
            Some(figures.not_finite.to_string()),
            None,
        );
    }
    let heading: &[&str] = if against.is_some() {
        &["figure", "model", "reference"]
    } else {
        &["figure", "model"]
    };
    let mut text = table::plain(style, heading, rows);
    if let Some(found) = &figures.task {
        text = format!("{}\n\n{text}", task(style, found));
    }
    for note in &figures.notes {
        text.push_str("\n\n");
        text.push_str(&said(style, &format!("note: {}", sanitise(note))));
    }
    if let Some(note) = &figures.latency_note {
        text.push_str("\n\n");
        text.push_str(&said(style, &format!("note: {note}")));
    }
    text
}

/// Classes of a task that are shown: those that lost most, or that are most frequent.
const CLASSES: usize = 10;

/// A figure of a task: shares, averages and cosines with four places, whatever is above 10 with two.
fn figure(value: Option<f64>) -> String {
    match value {
        Some(value) if value.abs() >= 10.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.4}"),
        None => "-".to_owned(),
    }
}

/// The figures of a task, with the reference and what was lost beside them, and what the task's own words say.
pub fn task(style: Style, found: &TaskFigures) -> String {
    let between = |of: &indexmap::IndexMap<String, Interval>, name: &str| {
        of.get(name).map_or(String::new(), |i| {
            format!(" ({} to {})", figure(Some(i.low)), figure(Some(i.high)))
        })
    };
    let rows = found.figures.iter().map(|(name, value)| {
        let mut cells = vec![
            name.clone(),
            format!("{}{}", figure(*value), between(&found.intervals, name)),
        ];
        if let Some(reference) = &found.reference {
            cells.push(figure(reference.get(name).copied().flatten()));
            let lost = found.drops.get(name).copied().flatten();
            cells.push(format!(
                "{}{}",
                figure(lost),
                between(&found.drop_intervals, name)
            ));
        }
        cells
    });
    let truth = if found.labels_from_reference {
        " (what the reference answers is true)"
    } else {
        ""
    };
    let kind = serde_json::to_value(found.task).ok();
    let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default();
    let heading = format!("{kind}{truth}");
    let heading: &[&str] = match found.reference {
        Some(_) => &[&heading, "model", "reference", "lost"],
        None => &[&heading, "model"],
    };
    let mut text = table::plain(style, heading, rows);
    if !found.by_class.is_empty() {
        text.push_str("\n\n");
        text.push_str(&classes(style, found));
    }
    for words in &found.words {
        text.push_str("\n\n");
        text.push_str(&said(style, &sanitise(words)));
    }
    text
}

fn classes(style: Style, found: &TaskFigures) -> String {
    let mut classes: Vec<_> = found.by_class.iter().filter(|class| class.support > 0).collect();
    classes.sort_by_key(|class| (std::cmp::Reverse(class.support), class.class));
    let names: Vec<&String> = classes
        .first()
        .map(|class| class.figures.keys().collect())
        .unwrap_or_default();
    let mut heading = vec!["class", "support"];
    heading.extend(names.iter().map(|name| name.as_str()));
    let rows = classes.iter().take(CLASSES).map(|class| {
        let name = class.name.clone().filter(|name| !name.is_empty());
        let mut cells = vec![
            name.unwrap_or_else(|| class.class.to_string()),
            class.support.to_string(),
        ];
        cells.extend(
            names
                .iter()
                .map(|name| figure(class.figures.get(*name).copied().flatten())),
        );
        cells
    });
    let mut text = table::plain(style, &heading, rows);
    if classes.len() > CLASSES {
        let more = format!("({} more classes are in --json)", classes.len() - CLASSES);
        text.push_str(&format!("\n{}", said(style, &more)));
    }
    text
}

/// A document that fits a comment on a pull request.
pub fn markdown(figures: &Figures, gates: &[GateReport]) -> String {
    let mut text = String::from("# Evaluation\n\n");
    text.push_str(&table(Style::Markdown, figures));
    if !gates.is_empty() {
        text.push_str("\n\n## Gates\n\n");
        text.push_str(&table::gates(Style::Markdown, gates));
    }
    text.push('\n');
    text
}
