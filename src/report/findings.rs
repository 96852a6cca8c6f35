//! Findings about a model: for people, and in the forms of code scanning (SARIF 2.1.0), of annotations on GitHub and of JUnit.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Map, Value, json};

use super::github::{Level, annotation};
use super::sanitise;
use super::table::{Style, count, table};
use crate::lint::{Check, Finding, FindingPlace, Severity, checks};

/// Places of a check that are listed where not all are asked for.
const SHOWN: usize = 5;

/// Findings of one check for one runtime at one severity, in their order.
fn groups(findings: &[Finding]) -> Vec<Vec<&Finding>> {
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    for finding in findings {
        let same = |group: &&mut Vec<&Finding>| {
            group.first().is_some_and(|first| {
                (&first.code, first.severity, &first.target)
                    == (&finding.code, finding.severity, &finding.target)
            })
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    groups
}

/// The check with this code; findings of reading have none.
fn check_of(code: &str) -> Option<&'static Check> {
    checks().iter().find(|check| check.code == code)
}

/// The findings grouped by check, a few places of each or all, and how many there are.
pub fn text(style: Style, findings: &[Finding], all: bool) -> String {
    let mut parts: Vec<String> = groups(findings)
        .iter()
        .map(|group| of_group(style, group, all))
        .collect();
    parts.push(summary(findings));
    parts.join("\n\n")
}

/// How many findings of each severity there are, and how many of them steps mend.
pub fn summary(findings: &[Finding]) -> String {
    let of = |severity: Severity| {
        let count = findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count() as u64;
        plural(count, severity.name())
    };
    let mut line = format!(
        "{}, {}, {}",
        of(Severity::Error),
        of(Severity::Warning),
        of(Severity::Note)
    );
    let fixable = findings.iter().filter(|finding| finding.fix.is_some()).count() as u64;
    if fixable > 0 {
        let _ = write!(line, "; --fix has a step for {}", count(fixable));
    }
    line
}

fn plural(number: u64, word: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {word}{ending}", count(number))
}

fn of_group(style: Style, group: &[&Finding], all: bool) -> String {
    let Some(first) = group.first() else {
        return String::new();
    };
    let target = first
        .target
        .as_ref()
        .map_or(String::new(), |target| format!(" for {target}"));
    let summary = check_of(&first.code).map_or("What reading the file found.", |check| check.summary);
    let number = count(group.len() as u64);
    let mut text = match style {
        Style::Terminal => format!(
            "{}: {} ({number}){target}\n{summary}\n",
            first.severity, first.code
        ),
        Style::Markdown => format!(
            "### {}: `{}` ({number}){target}\n\n{summary}\n\n",
            first.severity, first.code
        ),
        Style::Html => format!(
            "<h3>{}: <code>{}</code> ({number}){target}</h3>\n<p>{summary}</p>\n",
            first.severity, first.code
        ),
    };
    let shown = if all { group.len() } else { SHOWN.min(group.len()) };
    let rows = group.iter().take(shown).map(|finding| {
        vec![
            format!("  {}", place_cell(&finding.place)),
            finding.message.clone(),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    text.push_str(&table(style, &["  where", "what"], false, rows));
    if shown < group.len() {
        let rest = format!("and {} more (--verbose)", count((group.len() - shown) as u64));
        text.push_str(&paragraph(style, &rest));
    }
    text.push_str(&paragraph(style, &format!("cure: {}", sanitise(&first.cure))));
    text
}

fn paragraph(style: Style, line: &str) -> String {
    match style {
        Style::Terminal => format!("\n  {line}"),
        Style::Markdown => format!("\n\n{line}"),
        Style::Html => format!("\n<p>{}</p>", super::table::escaped(line)),
    }
}

/// A place in a table: its path, and the operator.
fn place_cell(place: &FindingPlace) -> String {
    match &place.operator {
        Some(operator) => format!("{} ({operator})", place.path()),
        None => place.path(),
    }
}

/// The list of checks.
pub fn list(style: Style) -> String {
    let rows = checks().iter().map(|check| {
        let fix = check.cure.step.map_or("", |(step, _)| step);
        vec![
            check.code.to_owned(),
            check.severity.to_string(),
            fix.to_owned(),
            check.summary.to_owned(),
        ]
    });
    table(style, &["check", "severity", "fixed by", "finds"], false, rows)
}

/// The list of checks as a document.
pub fn list_document() -> Value {
    let one = |check: &Check| {
        json!({
            "code": check.code,
            "severity": check.severity,
            "summary": check.summary,
            "about": check.about,
            "cure": check.cure.text,
            "step": check.cure.step.map(|(step, _)| step),
        })
    };
    json!({ "checks": checks().iter().map(one).collect::<Vec<_>>() })
}

/// The word of SARIF for a severity.
fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// A log in SARIF 2.1.0: a rule for each check that found something, a result for each finding.
pub fn sarif(file: Option<&str>, findings: &[Finding]) -> Value {
    let mut codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    let rules: Vec<Value> = codes.iter().map(|code| rule(code, findings)).collect();
    let results: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let index = codes.iter().position(|code| *code == finding.code);
            result(file, finding, index.unwrap_or_default())
        })
        .collect();
    let mut run = json!({
        "tool": {
            "driver": {
                "name": "secateur",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": results,
    });
    if let Some(file) = file
        && let Some(run) = run.as_object_mut()
    {
        run.insert(
            "artifacts".to_owned(),
            json!([{ "location": { "uri": uri(file) } }]),
        );
    }
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    })
}

fn rule(code: &str, findings: &[Finding]) -> Value {
    let of = findings.iter().find(|finding| finding.code == code);
    let (summary, about, cure, severity) = match check_of(code) {
        Some(check) => (check.summary, check.about, check.cure.text, check.severity),
        None => (
            "What reading the file found.",
            "The file is no valid model, or is unusual; the code is that of the error that other verbs end with.",
            of.map_or("", |finding| finding.cure.as_str()),
            of.map_or(Severity::Error, |finding| finding.severity),
        ),
    };
    let mut name = String::new();
    for word in code.split('-') {
        let mut letters = word.chars();
        name.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    json!({
        "id": code,
        "name": name,
        "shortDescription": { "text": summary },
        "fullDescription": { "text": about },
        "help": {
            "text": format!("{about} Cure: {cure}."),
            "markdown": format!("{about}\n\n*Cure:* {cure}."),
        },
        "defaultConfiguration": { "level": level(severity) },
    })
}

fn result(file: Option<&str>, finding: &Finding, index: usize) -> Value {
    let mut location = Map::new();
    if let Some(file) = file {
        // A model has no lines: the first stands for all of it, as readers of code ask for one.
        let physical = json!({
            "artifactLocation": { "uri": uri(file), "index": 0 },
            "region": { "startLine": 1 },
        });
        location.insert("physicalLocation".to_owned(), physical);
    }
    let place = &finding.place;
    let kind = match (&place.node, &place.value) {
        (Some(_), _) => "function",
        (None, Some(_)) => "variable",
        (None, None) => "module",
    };
    let logical = json!([{
        "name": place.name(),
        "fullyQualifiedName": place.path(),
        "kind": kind,
    }]);
    location.insert("logicalLocations".to_owned(), logical);
    let mut properties = Map::new();
    properties.insert("cure".to_owned(), json!(finding.cure));
    if let Some(target) = &finding.target {
        properties.insert("target".to_owned(), json!(target));
    }
    json!({
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": level(finding.severity),
        "message": { "text": format!("{}: {}", place.path(), finding.message) },
        "locations": [location],
        "partialFingerprints": { "place/v1": fingerprint(finding) },
        "properties": properties,
    })
}

/// What stays the same while figures change: the check, the runtime and the place.
fn fingerprint(finding: &Finding) -> String {
    let target = finding.target.as_deref().unwrap_or_default();
    let text = format!("{}\n{target}\n{}", finding.code, finding.place.path());
    blake3::hash(text.as_bytes()).to_hex().chars().take(32).collect()
}

/// A path as a relative reference, or as a `file` URI where it is absolute: what is no letter, digit or mark is escaped.
fn uri(path: &str) -> String {
    let mut text = if path.starts_with('/') {
        "file://".to_owned()
    } else {
        String::new()
    };
    for byte in path.trim_start_matches("./").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                text.push(byte.into())
            }
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

/// Annotations of GitHub's workflow commands: one for each check, with its first places.
pub fn github(file: Option<&str>, findings: &[Finding]) -> String {
    let mut text = String::new();
    for group in groups(findings) {
        let Some(first) = group.first() else { continue };
        let level = match first.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warning,
            Severity::Note => Level::Notice,
        };
        let target = first
            .target
            .as_ref()
            .map_or(String::new(), |target| format!(" for {target}"));
        let title = format!("secateur: {}{target} ({})", first.code, group.len());
        let mut lines: Vec<String> = group
            .iter()
            .take(SHOWN)
            .map(|finding| format!("{}: {}", place_cell(&finding.place), finding.message))
            .collect();
        if group.len() > SHOWN {
            lines.push(format!("and {} more", group.len() - SHOWN));
        }
        lines.push(format!("cure: {}", first.cure));
        let line = annotation(level, &title, file, &lines.join("\n"));
        let _ = writeln!(text, "{line}");
    }
    text
}

/// A suite in the form of JUnit: a case for each check, failed where it found something that is denied.
///
/// # Errors
/// A report that cannot be written as XML.
pub fn junit(file: Option<&str>, findings: &[Finding], deny: Severity) -> Result<String, SerializeError> {
    let mut by_code: BTreeMap<&str, Vec<&Finding>> =
        checks().iter().map(|check| (check.code, Vec::new())).collect();
    for finding in findings {
        by_code.entry(finding.code.as_str()).or_default().push(finding);
    }
    let mut report = Report::new("secateur");
    let mut suite = TestSuite::new(format!("check {}", file.unwrap_or("model")));
    for (code, found) in by_code {
        let lines: Vec<String> = found
            .iter()
            .map(|finding| {
                format!(
                    "{}: {}: {}",
                    finding.severity,
                    place_cell(&finding.place),
                    finding.message
                )
            })
            .collect();
        let denied = found.iter().filter(|finding| finding.severity >= deny).count();
        let mut case = if denied > 0 {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(format!("{denied} found"));
            status.set_description(sanitised(&lines));
            TestCase::new(code, status)
        } else {
            TestCase::new(code, TestCaseStatus::success())
        };
        if denied == 0 && !lines.is_empty() {
            case.set_system_out(sanitised(&lines));
        }
        suite.add_test_case(case);
    }
    report.add_test_suite(suite);
    report.to_string()
}

fn sanitised(lines: &[String]) -> String {
    lines
        .iter()
        .map(|line| sanitise(line))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(code: &str, node: &str, message: &str) -> Finding {
        Finding {
            code: code.to_owned(),
            severity: Severity::Warning,
            message: message.to_owned(),
            place: FindingPlace {
                node: Some(node.to_owned()),
                ..FindingPlace::default()
            },
            target: None,
            cure: "mend it".to_owned(),
            fix: None,
        }
    }

    #[test]
    fn a_workflow_command_cannot_be_ended_by_what_a_model_is_called() {
        let text = github(
            Some("a,b:c.onnx"),
            &[finding("dead-node", "n\n::error::x", "50 %\r\nmore, and: more")],
        );
        assert_eq!(
            text,
            "::warning file=a%2Cb%3Ac.onnx,title=secateur%3A dead-node (1)::n%0A::error::x: 50 %25%0Amore, and: more%0Acure: mend it\n"
        );
    }

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("./models/größe 1.onnx"), "models/gr%C3%B6%C3%9Fe%201.onnx");
        assert_eq!(uri("/tmp/a#b.onnx"), "file:///tmp/a%23b.onnx");
    }

    #[test]
    fn places_beyond_a_few_are_counted() {
        let findings: Vec<Finding> = (0..8)
            .map(|index| finding("dead-node", &format!("n{index}"), "m"))
            .collect();
        let short = text(Style::Terminal, &findings, false);
        assert!(
            short.contains("n4") && !short.contains("n5") && short.contains("and 3 more"),
            "{short}"
        );
        assert!(text(Style::Terminal, &findings, true).contains("n7"));
        assert!(github(None, &findings).contains("and 3 more"));
    }

    #[test]
    fn results_point_to_their_rules() {
        let log = sarif(
            Some("m.onnx"),
            &[
                finding("unused-input", "x", "m"),
                finding("dead-node", "y", "m"),
                finding("cycle", "z", "m"),
            ],
        );
        let run = &log["runs"][0];
        let results = run["results"].as_array().unwrap();
        for result in results {
            let index = result["ruleIndex"].as_u64().unwrap() as usize;
            assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
        }
        assert_eq!(results.len(), 3);
        assert_ne!(
            results[0]["partialFingerprints"],
            results[1]["partialFingerprints"]
        );
    }

    #[test]
    fn a_case_fails_by_what_is_denied() {
        let findings = [finding("dead-node", "y", "m")];
        let denied = junit(None, &findings, Severity::Warning).unwrap();
        assert!(denied.contains("failures=\"1\""), "{denied}");
        let allowed = junit(None, &findings, Severity::Error).unwrap();
        assert!(
            allowed.contains("failures=\"0\"") && allowed.contains("system-out"),
            "{allowed}"
        );
    }
}
