//! The page of documentation, made from the checks.

use std::fmt::Write as _;

use super::check::{Check, Example, Severity};
use super::checks::checks;
use super::tables;
use super::targets::{DEFAULT, Target};

/// `docs/check.md`.
pub fn page() -> String {
    let mut text = format!(
        "# Findings about a model\n\n`secateur check MODEL` lists what is wrong with a model, what costs and what will surprise somebody later, \
         without changing it. This page is made from the checks; `secateur check --list` prints their list.\n\n{HOW}\n## Runtimes\n\n"
    );
    text.push_str(&runtimes());
    text.push_str("\n## The checks\n\n| check | severity | finds |\n|---|---|---|\n");
    for check in checks() {
        let _ = writeln!(
            text,
            "| [`{0}`](#{0}) | {1} | {2} |",
            check.code, check.severity, check.summary
        );
    }
    for check in checks() {
        let _ = write!(text, "\n### {}\n\n{}", check.code, section(check));
    }
    text
}

/// What every check has in common.
const HOW: &str = "    secateur check model.onnx                                 a table, grouped by check
    secateur check model.onnx --json                          one document (`secateur schema check`)
    secateur check model.onnx --format sarif                  SARIF 2.1.0; also github, junit, markdown
    secateur check model.onnx --target tensorrt --target qnn  what these runtimes refuse
    secateur check model.onnx --deny warning                  exit status 1 from warnings on
    secateur check model.onnx --fix -o better.onnx            runs the steps that mend what was found

Exit status: 0, nothing is as bad as `--deny` says (errors, if nothing is said); 1, something is; 2, the file cannot be read. A model that
is read but is none, such as one in which types contradict each other, is answered by findings whose codes are those of the errors.

`--only CODE` and `--skip CODE` choose checks. `--fix` runs the passes that the findings name, through the same pipeline as any other step:
the result is compared with the model, written whole or not at all, and checked again; what is mended and what remains is said. Only steps
that change nothing but rounding are run. What loses something, such as taking channels out or quantizing again, is for you to run.
";

fn runtimes() -> String {
    let mut text = format!(
        "Without `--target` the newest releases of {} are looked at, and what they lack is a note: nobody said that the model is to run there. \
         What `--target` names is looked at in earnest. `--target ort@1.16` asks for a release.\n\n| runtime | releases | opsets of the newest |\n|---|---|---|\n",
        DEFAULT.join(" and ")
    );
    for name in Target::names() {
        let rows: Vec<_> = tables::releases()
            .iter()
            .filter(|row| row.target == name)
            .collect();
        let versions: Vec<&str> = rows.iter().map(|row| row.version).collect();
        let opsets = rows.last().map_or((0, 0), |row| row.opsets);
        let _ = writeln!(
            text,
            "| `{name}` | {} | {} to {} |",
            versions.join(", "),
            opsets.0,
            opsets.1
        );
    }
    text.push_str("\nThe facts stand in `src/lint/tables`, each with its source. They are those of the newest release in the table.\n");
    text
}

/// What there is to say about a check, in Markdown.
pub fn section(check: &Check) -> String {
    let mut text = format!(
        "{} ({}.)\n\n{}\n\n",
        check.summary,
        named(check.severity),
        check.about
    );
    let fix = match check.cure.step {
        Some(_) => " `--fix` runs it.",
        None => "",
    };
    let _ = writeln!(text, "*Cure:* {}.{fix}\n", check.cure.text);
    let example = |example: Option<&Example>| example.map(|example| short(example.model)).unwrap_or_default();
    let fires = check.examples.iter().find(|example| !example.finds.is_empty());
    let silent = check.examples.iter().find(|example| example.finds.is_empty());
    let _ = writeln!(text, "Found here{}:\n\n    {}\n", on(fires), example(fires));
    let _ = writeln!(text, "Not here{}:\n\n    {}", on(silent), example(silent));
    text
}

fn named(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "Error",
        Severity::Warning => "Warning",
        Severity::Note => "Note",
    }
}

/// The runtime that an example is for.
fn on(example: Option<&Example>) -> String {
    let target = example.and_then(|example| example.target);
    target.map_or(String::new(), |target| format!(", on `{target}`"))
}

/// A model's text without long lists of elements.
fn short(model: &str) -> String {
    let mut text = String::with_capacity(model.len());
    for part in model.split_inclusive('}') {
        match part.rsplit_once('{') {
            Some((before, list)) if list.len() > 200 && !list.contains('=') => {
                let _ = write!(text, "{before}{{...}}");
            }
            _ => text.push_str(part),
        }
    }
    text
}
