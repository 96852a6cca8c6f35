//! What a sweep found, in tables.

use serde_json::Value;

use super::sanitise;
use super::stored::{TIME, number};
use super::table::{Style, table};
use crate::sweep::{Measure, PointResult, Status, SweepReport};

/// The name of a figure, however it is written: `latency-ms`, `latency`, `Latency ms` are one.
pub fn resolve_measure(name: &str) -> String {
    let plain: String = name
        .to_lowercase()
        .chars()
        .map(|letter| if matches!(letter, '-' | '_') { ' ' } else { letter })
        .collect();
    match plain.as_str() {
        "size" => "bytes".to_owned(),
        "latency" | "time" => TIME.to_owned(),
        _ => plain,
    }
}

/// A value of a variable.
pub(super) fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

/// The file of a model, without its folder.
pub(super) fn model(point: &PointResult) -> String {
    let path = std::path::Path::new(&point.model);
    path.file_name()
        .map_or_else(|| point.model.clone(), |name| name.to_string_lossy().into_owned())
}

/// How a point stands, in a word or two.
pub(super) fn state(point: &PointResult) -> String {
    match point.status {
        None => "missing".to_owned(),
        Some(Status::Done) if point.best => "front".to_owned(),
        Some(Status::Done) if !point.finished => match point.samples {
            Some(samples) => format!("left after {samples} samples"),
            None => "left".to_owned(),
        },
        Some(status) => status.to_string(),
    }
}

/// The columns of a table of points.
pub(super) fn heading(report: &SweepReport) -> Vec<String> {
    let mut heading = vec!["model".to_owned()];
    heading.extend(
        report
            .points
            .first()
            .into_iter()
            .flat_map(|point| point.vars.keys().cloned()),
    );
    heading.extend(report.measures.iter().map(|measure| measure.name.clone()));
    heading.push("result".to_owned());
    heading
}

/// The cells of a point.
pub(super) fn cells(point: &PointResult, measures: &[Measure]) -> Vec<String> {
    let mut cells = vec![model(point)];
    cells.extend(point.vars.values().map(word));
    cells.extend(measures.iter().map(|measure| {
        let value = point.figures.get(&measure.name);
        value
            .map(|value| number(&measure.name, *value))
            .unwrap_or_default()
    }));
    cells.push(state(point));
    cells
}

/// Every point with what it is judged by.
pub fn points(style: Style, report: &SweepReport) -> String {
    let heading = heading(report);
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    let rows = report.points.iter().map(|point| cells(point, &report.measures));
    table(style, &heading, true, rows)
}

/// Why points have no figures.
pub fn reasons(report: &SweepReport) -> Vec<String> {
    let without = report.points.iter().filter(|point| !point.reasons.is_empty());
    without
        .map(|point| {
            let state = point.status.map(|status| status.to_string()).unwrap_or_default();
            format!(
                "{}: {state}: {}",
                sanitise(&point.name),
                sanitise(&point.reasons.join("; "))
            )
        })
        .collect()
}

/// How many points there are, and what became of them.
pub fn summary(report: &SweepReport) -> String {
    let count = |status: Status| {
        report
            .points
            .iter()
            .filter(|point| point.status == Some(status))
            .count()
    };
    let same: usize = report.points.iter().map(|point| point.also.len()).sum();
    let mut words = vec![format!("{} points", report.points.len())];
    for (status, count) in
        [Status::Done, Status::Refused, Status::Failed].map(|status| (status, count(status)))
    {
        if count > 0 {
            words.push(format!("{count} {status}"));
        }
    }
    if report.missing > 0 {
        words.push(format!("{} missing", report.missing));
    }
    if same > 0 {
        words.push(format!("{same} settings that give the pipeline of another one"));
    }
    words.push(format!("{} on the front", report.front.len()));
    words.join(", ")
}

/// A document with all of it.
pub fn markdown(report: &SweepReport) -> String {
    let mut text = format!(
        "# secateur: sweep {}\n\n{}\n\n",
        sanitise(&report.name),
        summary(report)
    );
    text.push_str(&points(Style::Markdown, report));
    text.push('\n');
    let reasons = reasons(report);
    if !reasons.is_empty() {
        text.push_str("\n## Without a result\n\n");
        for reason in reasons {
            text.push_str(&format!("- {reason}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_is_found_however_it_is_written() {
        for (name, expected) in [
            ("latency", "latency ms"),
            ("latency-ms", "latency ms"),
            ("size", "bytes"),
            ("SQNR dB", "sqnr db"),
            ("map_50", "map 50"),
        ] {
            assert_eq!(resolve_measure(name), expected);
        }
    }
}
