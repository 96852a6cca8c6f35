//! `run` of a pipeline with a matrix: every combination, and a table of what became of each.

use std::path::Path;

use serde_json::Value;

use super::global::Global;
use super::outcome::lines;
use super::progress::Progress;
use super::run::Running;
use super::{Answer, terminal};
use crate::api::{Error, Family, MemberOutcome, STDIO};
use crate::report::sanitise;
use crate::report::table::{self, Style, plain_words};

/// Runs every member of a family, reports and writes.
pub(super) fn rewrite(
    global: &Global,
    family: &Family,
    model: Option<&Path>,
    running: &Running,
) -> Result<Answer, Error> {
    let mut options = running.options(global)?;
    if running.print_pipeline {
        for member in family.members() {
            let adjusted = member.pipeline.adjusted(&options)?;
            terminal::answer(&format!("---\n{}", adjusted.to_yaml()));
        }
        return Ok(Answer::Done);
    }
    if global.form().is_some() {
        return Err(Error::usage("a family is answered as text or JSON")
            .with_hint("--report 'NAME-${VARIABLE}.md' writes a report for each member"));
    }
    let idle = running.dry_run || running.check;
    options.dry_run = idle;
    let output = match running.output.as_deref().filter(|_| !idle) {
        Some(path) if path == Path::new(STDIO) => {
            return Err(Error::usage(
                "a family has several results, and stdout is one place",
            ));
        }
        Some(path) => Some(path.to_string_lossy().into_owned()),
        None if idle => None,
        None => {
            let names: Vec<String> = family
                .members()
                .first()
                .map(|member| member.vars.keys().map(|name| format!("${{{name}}}")).collect())
                .unwrap_or_default();
            return Err(Error::usage("there is no output")
                .with_hint(format!("name each result with -o 'OUT-{}.onnx'", names.join("-"))));
        }
    };
    if model == Some(Path::new(STDIO)) {
        return Err(Error::usage(
            "a family reads its model again for each member, which stdin cannot give",
        ));
    }
    let progress = Progress::new(global);
    let options = options.progress(progress.teller());
    global.limit_threads();
    let results = family.run(model, output.as_deref(), &options, |_| ())?;
    drop(progress);
    if global.json {
        terminal::json(&results);
    } else if global.quiet == 0 {
        show(&results);
    } else {
        for result in &results {
            if let Some(error) = &result.error {
                terminal::note(&format!("error: {}: {error}", called(result)));
            }
        }
    }
    Ok(answer(&results, running))
}

/// The worst of all members: an error, then what is not accepted.
fn answer(results: &[MemberOutcome], running: &Running) -> Answer {
    let (mut failed, mut no) = (false, false);
    for result in results {
        failed |= result.error.is_some();
        let changed = result.report.as_ref().is_some_and(|report| report.changed);
        no |= !(result.accepted() || running.dry_run) || running.check && changed;
    }
    match (failed, no) {
        (true, _) => Answer::Failed,
        (false, true) => Answer::No,
        (false, false) => Answer::Done,
    }
}

fn show(results: &[MemberOutcome]) {
    let rows = results.iter().map(|result| {
        let mut cells = vec![result.model.clone()];
        cells.extend(
            result
                .vars
                .iter()
                .filter(|(name, _)| *name != "model")
                .map(|(_, value)| word(value)),
        );
        let (state, before, after) = match (&result.report, &result.error) {
            (Some(report), _) => (
                if report.accepted { "accepted" } else { "refused" }.to_owned(),
                table::bytes(report.before.bytes),
                table::bytes(report.after.bytes),
            ),
            (None, Some(error)) => (error.code().to_owned(), String::new(), String::new()),
            (None, None) => Default::default(),
        };
        let verdict = result.report.as_ref().map(|report| report.verdict.to_string());
        cells.extend([before, after, verdict.unwrap_or_default(), state]);
        cells.push(result.output.clone().unwrap_or_default());
        cells
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let mut heading = vec!["model"];
    if let Some(first) = results.first() {
        heading.extend(
            first
                .vars
                .keys()
                .map(String::as_str)
                .filter(|name| *name != "model"),
        );
    }
    heading.extend(["bytes before", "bytes after", "outputs", "result", "written"]);
    terminal::answer(&plain_words(Style::Terminal, &heading, rows));
    for result in results {
        if let Some(error) = &result.error {
            terminal::note(&format!("error: {}: {error}", called(result)));
        }
        for warning in result.report.iter().flat_map(|report| &report.warnings) {
            terminal::note(&format!("warning: {}: {}", called(result), lines(warning)));
        }
        let broken = result
            .report
            .iter()
            .flat_map(|report| &report.gates)
            .filter(|gate| !gate.passed);
        for gate in broken {
            terminal::note(&format!(
                "{}: gate {} is broken: {}",
                called(result),
                gate.name,
                sanitise(&gate.message)
            ));
        }
    }
}

/// A member in words.
fn called(result: &MemberOutcome) -> String {
    let vars = result
        .vars
        .iter()
        .filter(|(name, _)| *name != "model")
        .map(|(name, value)| format!("{name}={}", word(value)));
    let words: Vec<String> = std::iter::once(result.model.clone()).chain(vars).collect();
    sanitise(&words.join(" "))
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
