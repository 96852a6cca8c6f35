//! The page of a model on data: its figures, the confusion of classes, pictures of what went wrong.

use std::fmt::Write as _;

use super::draw::text;
use super::graph::Graphs;
use super::{Mood, Page, Source, gates, sketch, source, wide};
use crate::evaluate::Figures;
use crate::ir::Model;
use crate::pipeline::GateReport;
use crate::report::evaluation;
use crate::report::table::Style;

/// An image that was drawn.
pub struct Picture {
    /// What it shows.
    pub name: String,
    /// PNG, base64.
    pub data: String,
}

/// The page of a measurement. `models` are the reference, if there is one, and the model.
pub fn measurement(
    title: &str,
    (reference, model): (Option<&Model>, &Model),
    figures: &Figures,
    (decisions, pictures): (&[GateReport], &[Picture]),
    origin: &Source,
) -> String {
    let mut page = Page::new(title);
    let failed = decisions.iter().filter(|gate| !gate.passed).count();
    let (mood, words) = match (decisions.len(), failed) {
        (0, _) => (
            Mood::Unsure,
            format!("measured on {} samples, without gates", figures.samples),
        ),
        (count, 0) => (
            Mood::Good,
            format!("all {count} gates hold on {} samples", figures.samples),
        ),
        (count, failed) => (
            Mood::Bad,
            format!(
                "{failed} of {count} gates do not hold on {} samples",
                figures.samples
            ),
        ),
    };
    page.verdict(mood, &words);
    page.section("Gates", gates(decisions));
    page.section("Figures", body(figures));
    page.section("Pictures", shown(pictures));
    let graphs = match reference {
        Some(reference) => Graphs::two(reference, model),
        None => Graphs::one(model),
    };
    page.section("The graph", sketch::section(&graphs));
    page.section("Where this comes from", source(origin));
    page.html()
}

/// The figures, and which classes are taken for which.
pub(super) fn body(figures: &Figures) -> String {
    let mut body = wide("figures", &evaluation::table(Style::Html, figures));
    body.push_str(&confusion(figures));
    body
}

/// Classes up to which the table of confusions is drawn.
const CLASSES: usize = 30;
/// Confusions that are listed.
const CONFUSIONS: usize = 20;

fn confusion(figures: &Figures) -> String {
    let Some(table) = &figures.confusion else {
        return String::new();
    };
    let mut body = String::from("<h3>Which classes are taken for which</h3>\n");
    if table.len() <= CLASSES {
        let _ = write!(
            body,
            "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"confusion table\"><table><thead><tr><th scope=\"col\">true / predicted</th>"
        );
        for class in 0..table.len() {
            let _ = write!(body, "<th scope=\"col\">{class}</th>");
        }
        body.push_str("</tr></thead><tbody>\n");
        for (class, row) in table.iter().enumerate() {
            let total = row.iter().sum::<u64>().max(1) as f64;
            let _ = write!(body, "<tr><th scope=\"row\">{class}</th>");
            for (own, count) in row.iter().enumerate() {
                let share = *count as f64 / total;
                let colour = if own == class { "--after" } else { "--bad" };
                let _ = write!(
                    body,
                    "<td class=\"hit\" style=\"background: color-mix(in srgb, var({colour}) {:.0}%, transparent)\">{count}</td>",
                    share * 30.0
                );
            }
            body.push_str("</tr>\n");
        }
        body.push_str("</tbody></table></div>\n");
    }
    let mut wrong: Vec<(u64, usize, usize)> = table
        .iter()
        .enumerate()
        .flat_map(|(truth, row)| {
            row.iter()
                .enumerate()
                .map(move |(found, count)| (*count, truth, found))
        })
        .filter(|(count, truth, found)| *count > 0 && truth != found)
        .collect();
    wrong.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    let lines = wrong
        .iter()
        .take(CONFUSIONS)
        .map(|(count, truth, found)| vec![truth.to_string(), found.to_string(), count.to_string()]);
    body.push_str(&super::rows(
        "confusions",
        &["class", "taken for", "samples"],
        lines,
    ));
    body
}

fn shown(pictures: &[Picture]) -> String {
    let mut body = String::new();
    if !pictures.is_empty() {
        let _ = writeln!(
            body,
            "<p>{}; the worst first.</p>",
            text(crate::report::pictures::LEGEND)
        );
    }
    for picture in pictures {
        let _ = writeln!(
            body,
            "<figure><img src=\"data:image/png;base64,{}\" alt=\"{}\"><figcaption>{}</figcaption></figure>",
            picture.data,
            text(&format!("boxes that both models find on {}", picture.name)),
            text(&picture.name)
        );
    }
    body
}
