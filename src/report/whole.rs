//! Whole answers for people: what is said after a run, a comparison, a measurement, in any style.

use super::table::{self, Style, said};
use super::{comparison, evaluation, sanitise, searched, training};
use crate::evaluate::Figures;
use crate::pipeline::{GateReport, RunReport, StepReport};
use crate::verify::{Divergence, NodeReport, Verdict, VerifyReport};

/// How much of a run is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detail {
    /// Steps where there is only one, and every row of what they account for.
    pub all: bool,
    /// What was planned and not done: a run that only says what it would do.
    pub planned: bool,
    /// Whether nobody wanted the result compared.
    pub uncompared: bool,
}

/// A run: what changed, how the outputs compare, what the gates say.
pub fn run(style: Style, report: &RunReport, detail: Detail) -> String {
    let mut words = vec![verdict(report, detail)];
    words.extend(blame(report));
    let mut parts = tables(style, report, detail);
    parts.push(said(style, &words.join("\n")));
    join(style, &parts)
}

/// What a step did, one by one, where it says that and no table of its own does.
fn details(style: Style, step: &StepReport) -> Option<String> {
    let changes = step.changes.iter().filter(|_| step.transfer.is_none());
    let told = changes.filter(|change| !change.details.is_empty());
    let blocks: Vec<String> = told
        .map(|change| {
            format!(
                "{}: {}\n  {}",
                step.name,
                change.rule,
                change.details.join("\n  ")
            )
        })
        .collect();
    (!blocks.is_empty()).then(|| said(style, &blocks.join("\n")))
}

/// A comparison of two models.
pub fn comparison(
    style: Style,
    report: &VerifyReport,
    nodes: Option<&NodeReport>,
    divergence: Option<&Divergence>,
) -> String {
    let mut parts = Vec::new();
    if !report.outputs.is_empty() {
        parts.push(comparison::outputs(style, &report.outputs));
    }
    let mut words = vec![said(style, &comparison::verdict_line(report))];
    words.extend(nodes.map(|nodes| comparison::nodes_report(style, nodes)));
    words.extend(divergence.map(|found| said(style, &describe(found))));
    parts.push(words.join("\n"));
    join(style, &parts)
}

/// A measurement of a model.
pub fn measurement(style: Style, figures: &Figures, gates: &[GateReport]) -> String {
    let mut parts = vec![evaluation::table(style, figures)];
    if !gates.is_empty() {
        parts.push(table::gates(style, gates));
    }
    join(style, &parts)
}

fn join(style: Style, parts: &[String]) -> String {
    // In Markdown a line behind a table would be a row of it.
    parts.join(if style == Style::Markdown { "\n\n" } else { "\n" })
}

/// The tables of a run.
pub fn tables(style: Style, report: &RunReport, detail: Detail) -> Vec<String> {
    let mut parts = Vec::new();
    if report.steps.len() > 1 || detail.all || detail.planned {
        parts.push(table::steps(style, report));
    }
    if detail.all {
        parts.extend(report.steps.iter().filter_map(|step| details(style, step)));
    }
    if detail.planned {
        let planned = report.steps.iter().filter(|step| !step.nodes.is_empty());
        parts.extend(planned.map(|step| table::planned(style, &step.nodes)));
    }
    for step in &report.steps {
        parts.extend(
            step.transfer
                .as_ref()
                .map(|account| table::transferred(style, account, detail.all)),
        );
    }
    for step in &report.steps {
        parts.extend(
            step.training
                .as_ref()
                .map(|trained| training::trained(style, trained, detail.all)),
        );
    }
    for step in &report.steps {
        parts.extend(
            step.until
                .as_ref()
                .map(|found| searched::searched(style, found, detail.all)),
        );
    }
    parts.push(table::weights(style, report));
    if let Some(verify) = report
        .verify
        .as_ref()
        .filter(|verify| verify.verdict != Verdict::Equal && !verify.outputs.is_empty())
    {
        parts.push(comparison::outputs(style, &verify.outputs));
    }
    let task = report
        .evaluation
        .as_ref()
        .and_then(|figures| figures.task.as_ref());
    parts.extend(task.map(|task| evaluation::task(style, task)));
    if !report.gates.is_empty() {
        parts.push(table::gates(style, &report.gates));
    }
    parts
}

/// The verdict in words, with how it came about.
pub fn verdict(report: &RunReport, detail: Detail) -> String {
    let line = match &report.verify {
        Some(verify) => comparison::verdict_line(verify),
        None if !report.changed => "verdict: equal (nothing to change)".to_owned(),
        None if detail.uncompared => "verdict: not-checked (not compared, as --no-verify asks)".to_owned(),
        None => "verdict: not-checked (not compared)".to_owned(),
    };
    if report.approximate && report.accepted && report.verdict == Verdict::Different {
        line + "\n  a step that is not exact makes outputs differ: judge by the figures, or set gates in a pipeline"
    } else {
        line
    }
}

/// The step and the node that make outputs differ.
pub fn blame(report: &RunReport) -> Option<String> {
    let culprit = report.culprit.as_ref()?;
    let mut text = format!("outputs differ from step {} on: {}", culprit.step, culprit.name);
    if let Some(divergence) = &culprit.divergence {
        text.push_str(&format!("\n{}", describe(divergence)));
    }
    Some(text)
}

/// The first difference in words.
pub fn describe(divergence: &Divergence) -> String {
    let node = |name: &str, operator: &str| format!("{} ({})", sanitise(name), sanitise(operator));
    let mut text = format!(
        "first difference: value {}, node {} in the reference, {} in the model",
        sanitise(&divergence.value),
        node(&divergence.reference_node, &divergence.reference_operator),
        node(&divergence.model_node, &divergence.model_operator),
    );
    if let Some(error) = divergence.figures.max_abs {
        text.push_str(&format!(", maximum error {error:.3e}"));
    }
    if let Some(reason) = &divergence.figures.reason {
        text.push_str(&format!(", {}", sanitise(reason)));
    }
    if !divergence.origins.is_empty() {
        text.push_str(&format!("; rewritten by {}", divergence.origins.join(", ")));
    }
    text
}
