//! What a run shows and reports: JSON, tables for people, a report file.

use super::global::Global;
use super::run::Running;
use super::terminal;
use crate::api::{Decision, Destination, RunReport};
use crate::report::comparison;
use crate::report::sanitise;
use crate::report::table::Style;
use crate::report::whole::{self, Detail};

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
    if global.verbose == 0 {
        report.left.iter().for_each(|words| terminal::note(&lines(words)));
    }
    let say = |text: &str| {
        if output == Some(&Destination::Stdout) {
            terminal::note(text)
        } else {
            terminal::answer(text)
        }
    };
    tables(global, report, running, &say);
    say(&whole::verdict(report, detail(global, running)));
    if let Some(blame) = whole::blame(report) {
        say(&blame);
    }
    match &report.output {
        Some(_) => say(&format!("written: {}", sanitise(&report.files.join(", ")))),
        None if !report.accepted => say(refused(report)),
        None => {}
    }
}

fn tables(global: &Global, report: &RunReport, running: &Running, say: &dyn Fn(&str)) {
    if global.verbose > 0 {
        for step in &report.steps {
            step.notes
                .iter()
                .for_each(|note| terminal::note(&format!("{}: {}", step.name, lines(note))));
        }
    }
    for table in whole::tables(Style::Terminal, report, detail(global, running)) {
        say(&format!("{table}\n"));
    }
}

fn detail(global: &Global, running: &Running) -> Detail {
    Detail {
        all: global.verbose > 0,
        planned: running.dry_run,
        uncompared: global.no_verify,
    }
}

/// What is said where nothing was written because nothing changed.
pub(super) const UNCHANGED: &str = "refused: nothing was written, as what was asked for changed nothing; --allow-unchanged takes it all the same";

fn refused(report: &RunReport) -> &'static str {
    if report.unchanged {
        UNCHANGED
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
        parts.extend(whole::blame(report));
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
pub(super) fn lines(text: &str) -> String {
    text.lines().map(sanitise).collect::<Vec<_>>().join("\n")
}
