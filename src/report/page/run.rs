//! The page of a run: verdict and gates, before and after, the graphs, errors along them, what each step did.

use std::collections::BTreeMap;

use super::draw::{self, Pair, Point};
use super::graph::Graphs;
use super::{Mood, Page, Source, code, list, measurement, paragraph, rows, sketch, source, weights, wide};
use crate::ir::Model;
use crate::pipeline::{Decision, RunReport};
use crate::report::comparison as tables;
use crate::report::table::{self, Style, bytes, count};
use crate::report::whole::{self, Detail};
use crate::report::{searched, training};
use crate::verify::{NodeErrors, Verdict, VerifyReport};

/// A result and how it came about.
pub struct Made<'a> {
    /// What was run.
    pub title: &'a str,
    /// The input.
    pub before: &'a Model,
    /// The result.
    pub after: &'a Model,
    /// What the run says.
    pub report: &'a RunReport,
    /// Errors of all nodes that could be compared, where that was done.
    pub errors: Option<&'a NodeErrors>,
    /// The steps as YAML.
    pub pipeline: &'a str,
    /// What makes it again.
    pub source: Source,
}

/// The page of a run.
pub fn run(made: &Made<'_>) -> String {
    let report = made.report;
    let mut page = Page::new(made.title);
    let (mood, words) = decision(report);
    page.verdict(mood, &words);
    page.remark(&whole::verdict(report, Detail::default()));
    if let Some(blame) = whole::blame(report) {
        page.remark(&blame);
    }
    page.section("Gates", super::gates(&report.gates));
    page.section("Warnings", list(report.warnings.iter().map(String::as_str)));
    page.section("Before and after", sizes(report));
    if let Some(figures) = &report.evaluation {
        page.section("Figures on the evaluation data", measurement::body(figures));
    }
    let errors = made.errors.map(by_label).unwrap_or_default();
    let graphs = Graphs::two(made.before, made.after).with_errors(&errors);
    page.section("The graph", sketch::section(&graphs));
    if let Some(found) = made.errors {
        page.section("Errors along the graph", along(found, &graphs));
    }
    page.section("Weights", weights::section(made.before, made.after, &errors));
    if let Some(verify) = &report.verify {
        page.section("Outputs", outputs(verify));
    }
    page.section("Steps", steps(report));
    page.section("The pipeline", code("pipeline", made.pipeline));
    page.section("Where this comes from", source(&made.source));
    page.html()
}

/// What became of the result, in a sentence.
fn decision(report: &RunReport) -> (Mood, String) {
    let broken = report
        .gates
        .iter()
        .filter(|gate| gate.decision == Decision::Broken)
        .count();
    let undecided = report
        .gates
        .iter()
        .filter(|gate| gate.decision == Decision::Undecided)
        .count();
    if report.accepted {
        return match report.verdict {
            _ if !report.changed => (Mood::Good, "accepted: nothing changed".to_owned()),
            Verdict::Equal | Verdict::Within => {
                (Mood::Good, format!("accepted: outputs are {}", report.verdict))
            }
            verdict => (Mood::Unsure, format!("accepted: outputs are {verdict}")),
        };
    }
    let mut reasons = Vec::new();
    if broken > 0 {
        reasons.push(format!("{broken} gates are broken"));
    }
    if undecided > 0 {
        reasons.push(format!("{undecided} gates are undecided"));
    }
    if report.unchanged {
        reasons.push("what was asked for changed nothing".to_owned());
    }
    if reasons.is_empty() {
        reasons.push(format!("outputs are {}", report.verdict));
    }
    (
        Mood::Bad,
        format!("refused: {}; nothing was written", reasons.join(", ")),
    )
}

fn sizes(report: &RunReport) -> String {
    let (before, after) = (&report.before, &report.after);
    let pair = |name: &str, a: f64, b: f64, words: &dyn Fn(f64) -> String| Pair {
        name: name.to_owned(),
        before: a,
        after: b,
        before_text: words(a),
        after_text: words(b),
    };
    let whole = |value: f64| count(value as u64);
    let mut pairs = vec![
        pair("nodes", before.nodes as f64, after.nodes as f64, &whole),
        pair(
            "parameters",
            before.parameters as f64,
            after.parameters as f64,
            &whole,
        ),
        pair("size", before.bytes as f64, after.bytes as f64, &|value| {
            bytes(value as u64)
        }),
    ];
    if let (Some(a), Some(b)) = (before.macs, after.macs) {
        pairs.push(pair("MACs", a as f64, b as f64, &whole));
    }
    if let Some(pace) = report.verify.as_ref().and_then(|verify| verify.latency) {
        pairs.push(pair("latency", pace.reference.p50, pace.model.p50, &|value| {
            format!("{value:.3} ms")
        }));
    }
    let mut body = draw::pairs(&pairs);
    body.push_str(&wide("before and after", &table::weights(Style::Html, report)));
    if let Some(task) = report
        .evaluation
        .as_ref()
        .and_then(|figures| figures.task.as_ref())
        && let Some(reference) = &task.reference
    {
        let figures: Vec<Pair> = task
            .figures
            .iter()
            .filter_map(|(name, value)| {
                let (own, other) = ((*value)?, reference.get(name).copied().flatten()?);
                Some(pair(name, other, own, &|value| format!("{value:.4}")))
            })
            .filter(|pair| pair.before >= 0.0 && pair.after >= 0.0)
            .collect();
        body.push_str(&draw::pairs(&figures));
    }
    body
}

/// The outputs, and what could not be compared.
pub(super) fn outputs(report: &VerifyReport) -> String {
    let mut body = String::new();
    if !report.outputs.is_empty() {
        body.push_str(&wide("outputs", &tables::outputs(Style::Html, &report.outputs)));
    }
    for entry in &report.not_checked {
        body.push_str(&paragraph(&format!(
            "not checked: {}: {}",
            entry.what, entry.reason
        )));
    }
    body
}

/// Errors in decibels by the label of their node; of several values of a node, the worst.
pub(super) fn by_label(errors: &NodeErrors) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for node in &errors.worst {
        if let Some(error) = node.sqnr_db.filter(|error| error.is_finite()) {
            let own: &mut f64 = found.entry(node.node.clone()).or_insert(error);
            *own = own.min(error);
        }
    }
    found
}

/// Worst nodes that are named.
const WORST: usize = 10;

/// How far each node is off when it gets the values of the input model.
pub(super) fn along(errors: &NodeErrors, graphs: &Graphs) -> String {
    let known = graphs.after.nodes.iter().enumerate();
    let points: Vec<Point> = known
        .filter_map(|(at, node)| {
            Some(Point {
                name: node.label.clone(),
                value: node.error?,
                link: Some(format!("a{at}")),
            })
        })
        .collect();
    let said = format!(
        "{} nodes were compared on {} samples in {}, each with the values that the input model computes; {} have the same numbers exactly.",
        errors.nodes, errors.samples, errors.engine, errors.exact
    );
    let mut body = paragraph(&said);
    for entry in &errors.not_checked {
        body.push_str(&paragraph(&format!(
            "not compared: {}: {}",
            entry.what, entry.reason
        )));
    }
    if points.is_empty() {
        return body;
    }
    body.push_str(&draw::along(&points, "dB (higher is better)", WORST));
    let worst: Vec<&crate::verify::NodeError> = errors
        .worst
        .iter()
        .filter(|node| node.sqnr_db.is_some_and(f64::is_finite))
        .take(WORST)
        .collect();
    let lines = worst.iter().map(|node| {
        let number = |value: Option<f64>| value.map(|value| format!("{value:.4}")).unwrap_or_default();
        vec![
            node.node.clone(),
            node.operator.clone(),
            node.value.clone(),
            node.sqnr_db
                .map(|error| format!("{error:.1} dB"))
                .unwrap_or_default(),
            number(node.max_abs),
            node.clipped
                .map(|share| format!("{:.3} %", 100.0 * share))
                .unwrap_or_default(),
        ]
    });
    body.push_str("<h3>The worst nodes</h3>\n");
    let heading = [
        "node",
        "operator",
        "value",
        "error",
        "largest difference",
        "beyond the codes",
    ];
    body.push_str(&rows("the worst nodes", &heading, lines));
    body.push_str(&advice(&worst, graphs));
    body
}

/// What to try: the layers behind the worst values left in float.
fn advice(worst: &[&crate::verify::NodeError], graphs: &Graphs) -> String {
    let nodes = &graphs.after.nodes;
    let mut names: Vec<String> = Vec::new();
    for node in worst {
        let Some(mut at) = nodes.iter().position(|own| own.label == node.node) else {
            continue;
        };
        // The rounding is told of; what can be left in float is the layer before it.
        while let Some(own) = nodes.get(at)
            && own.operator.ends_with("QuantizeLinear")
            && let Some((from, _)) = graphs.after.edges.iter().find(|(_, to)| *to == at)
        {
            at = *from;
        }
        if let Some(own) = nodes.get(at)
            && !own.operator.ends_with("QuantizeLinear")
            && !names.contains(&own.label)
        {
            names.push(own.label.clone());
        }
    }
    if names.is_empty() || !nodes.iter().any(|node| node.operator == "QuantizeLinear") {
        return String::new();
    }
    let patterns = names
        .iter()
        .map(|name| format!("'^{}$'", regex::escape(name).replace('\'', "''")));
    let yaml = format!("exclude: [{}]", patterns.collect::<Vec<_>>().join(", "));
    format!(
        "<p>To leave these layers in float, as an option of the step that quantizes:</p>\n{}",
        code("the worst layers as an option", &yaml)
    )
}

fn steps(report: &RunReport) -> String {
    let mut body = wide("steps", &table::steps(Style::Html, report));
    for (index, step) in report.steps.iter().enumerate() {
        let mut own = String::new();
        if let Some(found) = &step.until {
            own.push_str(&wide("search", &searched::searched(Style::Html, found, true)));
        }
        if let Some(account) = &step.transfer {
            own.push_str(&wide(
                "weights that moved",
                &table::transferred(Style::Html, account, true),
            ));
        }
        if let Some(trained) = &step.training {
            own.push_str(&wide("training", &training::trained(Style::Html, trained, true)));
        }
        if !step.nodes.is_empty() {
            own.push_str(&wide("how nodes run", &table::planned(Style::Html, &step.nodes)));
        }
        let reasons: Vec<String> = step.reasons.iter().map(ToString::to_string).collect();
        if !reasons.is_empty() {
            own.push_str("<h4>What was left alone, and why</h4>\n");
            own.push_str(&list(reasons.iter().map(String::as_str)));
        }
        let details: Vec<&str> = step
            .changes
            .iter()
            .flat_map(|change| change.details.iter().map(String::as_str))
            .chain(step.notes.iter().map(String::as_str))
            .collect();
        if !details.is_empty() {
            own.push_str(&format!(
                "<details><summary>The log: {} lines</summary>\n{}</details>\n",
                details.len(),
                list(details)
            ));
        }
        if !own.is_empty() {
            body.push_str(&format!(
                "<h3>{}. {}</h3>\n{own}",
                index + 1,
                draw::text(&step.name)
            ));
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::NotChecked;

    #[test]
    fn what_kept_nodes_from_being_compared_is_said() {
        let errors = NodeErrors {
            not_checked: vec![NotChecked {
                what: "nodes against the reference".to_owned(),
                operator: None,
                reason: "sizes do not fit <5>".to_owned(),
            }],
            ..NodeErrors::default()
        };
        let text = along(&errors, &Graphs::default());
        assert!(
            text.contains("not compared: nodes against the reference: sizes do not fit &lt;5&gt;"),
            "{text}"
        );
    }
}
