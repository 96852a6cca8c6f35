//! The report of a run as a Markdown document.

use super::comparison;
use super::table::{self, Style};
use super::{sanitise, searched, training};
use crate::pipeline::RunReport;

/// A document with the result, the steps, the figures and the gates.
pub fn run(title: &str, report: &RunReport) -> String {
    let mut text = format!("# {}\n\n", sanitise(title));
    let accepted = if report.accepted {
        "accepted"
    } else {
        "refused: nothing was written"
    };
    text.push_str(&format!("Verdict **{}**, {accepted}.\n\n", report.verdict));
    text.push_str(&table::weights(Style::Markdown, report));
    text.push_str("\n\n## Steps\n\n");
    text.push_str(&table::steps(Style::Markdown, report));
    for found in report.steps.iter().filter_map(|step| step.until.as_ref()) {
        text.push_str("\n\n## Search\n\n");
        text.push_str(&searched::searched(Style::Markdown, found, true));
    }
    for trained in report.steps.iter().filter_map(|step| step.training.as_ref()) {
        text.push_str("\n\n## Training\n\n");
        text.push_str(&training::trained(Style::Markdown, trained, true));
    }
    if let Some(verify) = &report.verify {
        text.push_str("\n\n## Outputs\n\n");
        text.push_str(&comparison::verdict_line(verify));
        text.push_str("\n\n");
        text.push_str(&comparison::outputs(Style::Markdown, &verify.outputs));
    }
    if let Some(culprit) = &report.culprit {
        text.push_str(&format!(
            "\n\nOutputs differ from step {} (`{}`) on",
            culprit.step, culprit.name
        ));
        match &culprit.divergence {
            Some(divergence) => text.push_str(&format!(
                ": first at value `{}` of node `{}` ({}).",
                sanitise(&divergence.value),
                sanitise(&divergence.model_node),
                sanitise(&divergence.model_operator)
            )),
            None => text.push('.'),
        }
    }
    if !report.gates.is_empty() {
        text.push_str("\n\n## Gates\n\n");
        text.push_str(&table::gates(Style::Markdown, &report.gates));
    }
    if !report.warnings.is_empty() {
        text.push_str("\n\n## Warnings\n\n");
        let lines: Vec<String> = report
            .warnings
            .iter()
            .map(|warning| {
                let lines: Vec<String> = warning.lines().map(sanitise).collect();
                format!("- {}", lines.join("\n"))
            })
            .collect();
        text.push_str(&lines.join("\n"));
    }
    text.push('\n');
    text
}
