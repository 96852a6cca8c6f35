//! Answers as JUnit XML: what was asked for as test cases.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::comparison::verdict_line;
use super::sanitise;
use crate::pipeline::{Decision, GateReport, RunReport};
use crate::verify::{NodeReport, Verdict, VerifyReport};

/// One test case.
struct Case {
    name: String,
    /// Why it fails; `None` where it does not.
    failure: Option<String>,
    seconds: Option<f64>,
}

/// A run: the verdict, each step, each gate. `model` is what was run on.
pub fn run(pipeline: &str, model: &str, report: &RunReport) -> Result<String, SerializeError> {
    let mut cases: Vec<Case> = report
        .steps
        .iter()
        .enumerate()
        .map(|(at, step)| Case {
            name: format!("step {}: {}", at + 1, step.name),
            failure: None,
            seconds: Some(step.seconds),
        })
        .collect();
    let failed = report.culprit.is_some() || report.unchanged;
    let line = match &report.verify {
        Some(verify) => verdict_line(verify),
        None => format!("verdict: {}", report.verdict),
    };
    let words = if report.unchanged {
        report.warnings.join("\n")
    } else {
        line
    };
    cases.push(Case {
        name: format!("verdict: {}", report.verdict),
        failure: failed.then_some(words),
        seconds: None,
    });
    cases.extend(report.gates.iter().map(gate));
    document(&format!("secateur.{pipeline}"), model, cases)
}

/// A comparison: the verdict, each output, each node that is too far off.
pub fn comparison(
    model: &str,
    report: &VerifyReport,
    nodes: Option<&NodeReport>,
) -> Result<String, SerializeError> {
    let verdict = nodes.map_or(report.verdict, |nodes| nodes.verdict);
    let bad = |verdict: Verdict| !matches!(verdict, Verdict::Equal | Verdict::Within);
    let mut cases = vec![Case {
        name: format!("verdict: {verdict}"),
        failure: bad(verdict).then(|| verdict_line(report)),
        seconds: None,
    }];
    // Outputs of a whole quantized model are told of and not judged where nodes are.
    let judged = nodes.is_none();
    cases.extend(report.outputs.iter().map(|output| Case {
        name: format!("output {}", output.name),
        failure: (judged && bad(output.verdict)).then(|| {
            let reason = output.reason.clone();
            reason.unwrap_or_else(|| format!("outputs are {}", output.verdict))
        }),
        seconds: None,
    }));
    for reason in nodes.into_iter().flat_map(|nodes| &nodes.reasons) {
        cases.push(Case {
            name: "node".to_owned(),
            failure: Some(reason.clone()),
            seconds: None,
        });
    }
    document("secateur.verify", model, cases)
}

/// A measurement: that it was made, and its gates.
pub fn measurement(model: &str, samples: u64, gates: &[GateReport]) -> Result<String, SerializeError> {
    let mut cases = vec![Case {
        name: format!("measured on {samples} samples"),
        failure: None,
        seconds: None,
    }];
    cases.extend(gates.iter().map(gate));
    document("secateur.evaluate", model, cases)
}

/// Cases by name, each with why it fails if it does.
pub fn cases(
    class: &str,
    subject: &str,
    cases: Vec<(String, Option<String>)>,
) -> Result<String, SerializeError> {
    let cases = cases.into_iter().map(|(name, failure)| Case {
        name,
        failure,
        seconds: None,
    });
    document(class, subject, cases.collect())
}

fn gate(gate: &GateReport) -> Case {
    let decision = match gate.decision {
        Decision::Undecided => "undecided: ",
        _ => "",
    };
    Case {
        name: gate.name.clone(),
        failure: (!gate.passed).then(|| format!("{decision}{}", gate.message)),
        seconds: None,
    }
}

fn document(class: &str, model: &str, cases: Vec<Case>) -> Result<String, SerializeError> {
    let mut report = Report::new("secateur");
    let mut suite = TestSuite::new(sanitise(model));
    for case in cases {
        let status = match case.failure {
            None => TestCaseStatus::success(),
            Some(message) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(message.lines().map(sanitise).collect::<Vec<_>>().join("\n"));
                status
            }
        };
        let mut test = TestCase::new(sanitise(&case.name), status);
        test.set_classname(sanitise(class));
        if let Some(time) = case
            .seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        {
            test.set_time(time);
        }
        suite.add_test_case(test);
    }
    report.add_test_suite(suite);
    report.to_string()
}
