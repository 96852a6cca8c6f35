//! Answers as commands of a GitHub workflow, which show them beside the change: `::error title=...::...`.

use super::comparison::verdict_line;
use super::sanitise;
use super::whole::{Detail, blame, verdict};
use crate::pipeline::{Decision, GateReport, RunReport};
use crate::verify::{NodeReport, Verdict, VerifyReport};

/// How much a remark weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// It makes the job fail.
    Error,
    /// It should be looked at.
    Warning,
    /// It is good to know.
    Notice,
}

/// One remark. `file` is what it is about, where that is a file of the repository.
pub fn annotation(level: Level, title: &str, file: Option<&str>, message: &str) -> String {
    let command = match level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Notice => "notice",
    };
    let file = file.map_or(String::new(), |file| format!("file={},", property(file)));
    format!("::{command} {file}title={}::{}", property(title), data(message))
}

/// Text of a command: a line of it would end the command.
fn data(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(sanitise).collect();
    lines.join("\n").replace('%', "%25").replace('\n', "%0A")
}

/// The value of a property, which colons and commas would end.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A run on the model in `file`.
pub fn run(name: &str, file: Option<&str>, report: &RunReport) -> String {
    let title = |what: &str| format!("secateur {name}: {what}");
    let mut lines: Vec<String> = gates(&title("gate"), file, &report.gates);
    let words = verdict(report, Detail::default());
    match (&report.culprit, report.unchanged) {
        (_, true) => lines.push(annotation(
            Level::Error,
            &title("nothing changed"),
            file,
            &report.warnings.join("\n"),
        )),
        (Some(_), _) => {
            let words = format!("{words}\n{}", blame(report).unwrap_or_default());
            lines.push(annotation(Level::Error, &title("outputs differ"), file, &words));
        }
        (None, false) => {
            let warnings = report.warnings.iter();
            lines
                .extend(warnings.map(|warning| annotation(Level::Warning, &title("warning"), file, warning)));
            lines.push(annotation(
                Level::Notice,
                &title(&report.verdict.to_string()),
                file,
                &words,
            ));
        }
    }
    lines.join("\n")
}

/// A comparison with the model in `file`.
pub fn comparison(file: Option<&str>, report: &VerifyReport, nodes: Option<&NodeReport>) -> String {
    let verdict = nodes.map_or(report.verdict, |nodes| nodes.verdict);
    let level = match verdict {
        Verdict::Equal | Verdict::Within => Level::Notice,
        Verdict::Different => Level::Error,
        Verdict::NotChecked => Level::Warning,
    };
    let reasons = nodes.map(|nodes| nodes.reasons.join("\n")).unwrap_or_default();
    let words = format!("{}\n{reasons}", verdict_line(report));
    annotation(
        level,
        &format!("secateur verify: {verdict}"),
        file,
        words.trim_end(),
    )
}

/// A measurement of the model in `file`.
pub fn measurement(file: Option<&str>, samples: u64, decisions: &[GateReport]) -> String {
    let mut lines = gates("secateur evaluate: gate", file, decisions);
    let failed = decisions.iter().filter(|gate| !gate.passed).count();
    let words = format!(
        "{samples} samples; {failed} of {} gates do not hold",
        decisions.len()
    );
    lines.push(annotation(Level::Notice, "secateur evaluate", file, &words));
    lines.join("\n")
}

fn gates(title: &str, file: Option<&str>, gates: &[GateReport]) -> Vec<String> {
    let failed = gates.iter().filter(|gate| !gate.passed);
    failed
        .map(|gate| {
            let how = match gate.decision {
                Decision::Undecided => "is undecided",
                _ => "does not hold",
            };
            annotation(
                Level::Error,
                &format!("{title} {} {how}", gate.name),
                file,
                &gate.message,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_end_a_command() {
        let line = annotation(Level::Error, "a: b, c", Some("m,1.onnx"), "50 %\n::error::x");
        assert_eq!(
            line,
            "::error file=m%2C1.onnx,title=a%3A b%2C c::50 %25%0A::error::x"
        );
        assert_eq!(line.lines().count(), 1);
    }
}
