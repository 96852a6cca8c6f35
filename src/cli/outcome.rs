//! What a run shows and reports: JSON, tables for people, a report file.

use super::global::Global;
use super::run::Running;
use super::{terminal, verify};
use crate::api::{Decision, Destination, RunReport, Verdict};
use crate::report::comparison;
use crate::report::evaluation;
use crate::report::table::{self, Style};
use crate::report::{sanitise, searched, training};

/// Prints the result: JSON, or tables for people. They go to stderr when the model itself goes to stdout. Under `--quiet` only
/// why a result is refused is said.
pub(super) fn show(global: &Global, report: &RunReport, output: Option<&Destination>, running: &Running) {
    if global.json {
        return terminal::json(report);
    }
    if global.quiet > 0 {
        if global.quiet == 1 && !report.accepted {
            terminal::note(&refusal(report));
        }
        return;
    }
    for warning in &report.warnings {
        terminal::note(&format!("warning: {}", lines(warning)));
    }
    let say = |text: &str| {
        if output == Some(&Destination::Stdout) {
            terminal::note(text)
        } else {
            terminal::answer(text)
        }
    };
    tables(global, report, running, &say);
    say(&verdict(global, report));
    if let Some(blame) = blame(report) {
        say(&blame);
    }
    match &report.output {
        Some(_) => say(&format!("written: {}", sanitise(&report.files.join(", ")))),
        None if !report.accepted => say(refused(report)),
        None => {}
    }
}

fn tables(global: &Global, report: &RunReport, running: &Running, say: &dyn Fn(&str)) {
    let draw = |text: String| say(&format!("{text}\n"));
    if global.verbose > 0 {
        for step in &report.steps {
            step.notes
                .iter()
                .for_each(|note| terminal::note(&format!("{}: {}", step.name, lines(note))));
        }
    }
    if report.steps.len() > 1 || global.verbose > 0 || running.dry_run {
        draw(table::steps(Style::Terminal, report));
    }
    if running.dry_run {
        for step in report.steps.iter().filter(|step| !step.nodes.is_empty()) {
            draw(table::planned(Style::Terminal, &step.nodes));
        }
    }
    for account in report.steps.iter().filter_map(|step| step.transfer.as_ref()) {
        draw(table::transferred(Style::Terminal, account, global.verbose > 0));
    }
    for trained in report.steps.iter().filter_map(|step| step.training.as_ref()) {
        draw(training::trained(Style::Terminal, trained, global.verbose > 0));
    }
    for found in report.steps.iter().filter_map(|step| step.until.as_ref()) {
        draw(searched::searched(Style::Terminal, found, global.verbose > 0));
    }
    draw(table::weights(Style::Terminal, report));
    if let Some(verify) = report
        .verify
        .as_ref()
        .filter(|verify| verify.verdict != Verdict::Equal && !verify.outputs.is_empty())
    {
        draw(comparison::outputs(Style::Terminal, &verify.outputs));
    }
    if let Some(task) = report
        .evaluation
        .as_ref()
        .and_then(|figures| figures.task.as_ref())
    {
        draw(evaluation::task(Style::Terminal, task));
    }
    if !report.gates.is_empty() {
        draw(table::gates(Style::Terminal, &report.gates));
    }
}

/// The verdict in words, with how it came about.
fn verdict(global: &Global, report: &RunReport) -> String {
    let line = match &report.verify {
        Some(verify) => comparison::verdict_line(verify),
        None if !report.changed => "verdict: equal (nothing to change)".to_owned(),
        None if global.no_verify => "verdict: not-checked (not compared, as --no-verify asks)".to_owned(),
        None => "verdict: not-checked (not compared)".to_owned(),
    };
    if report.approximate && report.accepted && report.verdict == Verdict::Different {
        line + "\n  a step that is not exact makes outputs differ: judge by the figures, or set gates in a pipeline"
    } else {
        line
    }
}

/// The step and the node that make outputs differ.
fn blame(report: &RunReport) -> Option<String> {
    let culprit = report.culprit.as_ref()?;
    let mut text = format!("outputs differ from step {} on: {}", culprit.step, culprit.name);
    if let Some(divergence) = &culprit.divergence {
        text.push_str(&format!("\n{}", verify::describe(divergence)));
    }
    Some(text)
}

fn refused(report: &RunReport) -> &'static str {
    if report.unchanged {
        "refused: nothing was written, as what was asked for changed nothing; --allow-unchanged takes it all the same"
    } else {
        "refused: nothing was written"
    }
}

/// Why a result is refused, and no more.
fn refusal(report: &RunReport) -> String {
    let mut parts = Vec::new();
    if report.unchanged {
        parts.extend(report.warnings.iter().map(|warning| lines(warning)));
    }
    if report.culprit.is_some()
        && let Some(verify) = &report.verify
    {
        parts.push(comparison::verdict_line(verify));
        parts.extend(blame(report));
    }
    let broken = report.gates.iter().filter(|gate| !gate.passed);
    parts.extend(broken.map(|gate| match gate.decision {
        Decision::Undecided => format!("gate {} is undecided: {}", gate.name, sanitise(&gate.message)),
        _ => format!("gate {} is broken: {}", gate.name, sanitise(&gate.message)),
    }));
    parts.push(refused(report).to_owned());
    parts.join("\n")
}

/// Text of several lines, each made harmless.
fn lines(text: &str) -> String {
    text.lines().map(sanitise).collect::<Vec<_>>().join("\n")
}
