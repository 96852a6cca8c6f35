//! What a comparison of two models found, for people.

use super::sanitise;
use super::table::{Style, number, said, table};
use crate::verify::{NodeReport, OutputFigures, Part, VerifyReport};

/// Parts of an output that are told.
const PARTS: usize = 3;

/// Figures of each output.
pub fn outputs(style: Style, outputs: &[OutputFigures]) -> String {
    let rows = outputs.iter().map(|output| {
        vec![
            output.name.clone(),
            output.verdict.to_string(),
            number(output.max_abs),
            number(output.max_rel),
            number(output.mean_abs),
            number(output.cosine),
            number(output.sqnr_db),
            number(output.top1_agreement),
        ]
    });
    table(
        style,
        &[
            "output", "verdict", "max abs", "max rel", "mean abs", "cosine", "SQNR dB", "top-1",
        ],
        true,
        rows,
    )
}

/// Each node alone: the worst ones against the reference, the worst between two engines, and the verdict.
pub fn nodes_report(style: Style, report: &NodeReport) -> String {
    let mut text = String::new();
    let decibels = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
    let share = |value: f64| format!("{:.4} %", value * 100.0);
    let errors = &report.errors;
    let line = format!(
        "against the reference: {} nodes, {} of them exact, median {} dB ({}, {} samples)",
        errors.nodes,
        errors.exact,
        decibels(errors.median_sqnr_db),
        errors.engine,
        errors.samples
    );
    text.push_str(&said(style, &line));
    text.push('\n');
    if !errors.worst.is_empty() {
        let rows = errors.worst.iter().map(|node| {
            vec![
                node.node.clone(),
                node.operator.clone(),
                node.value.clone(),
                decibels(node.sqnr_db),
                number(node.max_abs),
                node.clipped.map_or("-".to_owned(), share),
            ]
        });
        let heading = ["worst node", "operator", "value", "SQNR dB", "max abs", "clipped"];
        text.push_str(&format!("{}\n", table(style, &heading, true, rows)));
    }
    let agreement = &report.agreement;
    if let [first, second] = agreement.engines.as_slice()
        && agreement.nodes > 0
    {
        let line = format!(
            "{first} and {second}: {} results, at most {} codes apart, {} of the elements differ ({} samples)",
            agreement.nodes,
            agreement
                .most_codes
                .map_or("-".to_owned(), |codes| format!("{codes:.2}")),
            agreement.differing.map_or("-".to_owned(), share),
            agreement.samples
        );
        text.push_str(&said(style, &line));
        text.push('\n');
        if !agreement.worst.is_empty() {
            let rows = agreement.worst.iter().map(|node| {
                vec![
                    node.node.clone(),
                    node.operator.clone(),
                    node.value.clone(),
                    format!("{:.2}", node.codes),
                    share(node.differing),
                ]
            });
            let heading = ["node", "operator", "value", "codes apart", "differing"];
            text.push_str(&format!("{}\n", table(style, &heading, true, rows)));
        }
    }
    let mut end = format!("nodes: {}", report.verdict);
    for reason in &report.reasons {
        end.push_str(&format!("\n  {}", sanitise(reason)));
    }
    for entry in &report.not_checked {
        end.push_str(&format!(
            "\n  not checked: {}: {}",
            sanitise(&entry.what),
            sanitise(&entry.reason)
        ));
    }
    text.push_str(&said(style, &end));
    text
}

/// How many samples were compared, and of how many where some were left out.
fn samples(report: &VerifyReport) -> String {
    let count = if report.cut_short {
        format!("{} of {} planned", report.samples, report.planned)
    } else {
        report.samples.to_string()
    };
    let word = if report.samples == 1 && !report.cut_short {
        "sample"
    } else {
        "samples"
    };
    if report.inputs == "synthetic" {
        format!("{count} synthetic {word}")
    } else {
        format!("{count} {word} of {}", sanitise(&report.inputs))
    }
}

/// The parts of an output that are furthest off for their size, in order, and how many others there are.
fn worst_parts(output: &OutputFigures) -> (Vec<&Part>, usize) {
    let share = |part: &Part| match part.max_abs {
        Some(error) => error / part.largest.max(f64::MIN_POSITIVE),
        None => f64::INFINITY,
    };
    let mut order: Vec<(usize, &Part)> = output.parts.iter().enumerate().collect();
    order.sort_by(|a, b| share(b.1).total_cmp(&share(a.1)));
    order.truncate(PARTS);
    order.sort_by_key(|(place, _)| *place);
    let told: Vec<&Part> = order.into_iter().map(|(_, part)| part).collect();
    let more = output.parts.len() - told.len();
    (told, more)
}

/// The verdict in one line, with what stands behind it.
pub fn verdict_line(report: &VerifyReport) -> String {
    let mut line = format!(
        "verdict: {} ({}, {}",
        report.verdict,
        report.engine,
        samples(report)
    );
    for sizes in &report.sizes {
        let sizes: Vec<String> = sizes
            .iter()
            .map(|(name, size)| format!("{}={size}", sanitise(name)))
            .collect();
        line.push_str(&format!("; {}", sizes.join(" ")));
    }
    line.push(')');
    if report.cut_short {
        line.push_str("\n  the time for comparing was over before the others: --verify-time SECONDS sets it");
    }
    if let (Some(first), false) = (report.sizes.first(), report.further_sizes.is_empty()) {
        let further = report.further_sizes.iter().map(|sizes| {
            let other = sizes
                .iter()
                .filter(|(name, size)| first.get(*name) != Some(*size))
                .map(|(name, size)| format!("{}={size}", sanitise(name)));
            other.collect::<Vec<_>>().join(" ")
        });
        line.push_str(&format!(
            "\n  with few samples at {}",
            further.collect::<Vec<_>>().join("; ")
        ));
    }
    if report.sensitive > 0 {
        line.push_str(&format!(
            "\n  {} outputs of samples left out: rounding alone moves the reference further, or it overflows",
            report.sensitive
        ));
    }
    if let Some(reason) = &report.reason {
        line.push_str(&format!("\n  {}", sanitise(reason)));
    }
    for note in &report.notes {
        line.push_str(&format!("\n  note: {}", sanitise(note)));
    }
    for entry in &report.not_checked {
        let operator = entry
            .operator
            .as_deref()
            .map(|op| format!(" {}:", sanitise(op)))
            .unwrap_or_default();
        line.push_str(&format!(
            "\n  not checked: {}:{operator} {}",
            sanitise(&entry.what),
            sanitise(&entry.reason)
        ));
    }
    for output in &report.outputs {
        let (told, more) = worst_parts(output);
        for part in told {
            line.push_str(&format!("\n  {}: {part}", sanitise(&output.name)));
        }
        if more > 0 {
            line.push_str(&format!("\n  {}: {more} more in --json", sanitise(&output.name)));
        }
    }
    for output in report.outputs.iter().filter(|output| output.reason.is_some()) {
        line.push_str(&format!(
            "\n  {}: {}",
            sanitise(&output.name),
            sanitise(output.reason.as_deref().unwrap_or_default())
        ));
    }
    line
}
