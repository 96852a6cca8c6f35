//! The page of two models: whether they compute the same, and how their graphs differ.

use super::graph::Graphs;
use super::{Mood, Page, Source, list, paragraph, run, sketch, source, weights, wide};
use crate::ir::Model;
use crate::report::comparison as tables;
use crate::report::difference::difference;
use crate::report::table::{Style, table};
use crate::report::whole;
use crate::verify::{Divergence, NodeErrors, NodeReport, Verdict, VerifyReport};

/// The page of a comparison. `errors` are those of all nodes, where they were compared.
pub fn comparison(
    title: &str,
    models: (&Model, &Model),
    report: &VerifyReport,
    (nodes, errors): (Option<&NodeReport>, Option<&NodeErrors>),
    divergence: Option<&Divergence>,
    origin: &Source,
) -> String {
    let mut page = Page::new(title);
    let verdict = nodes.map_or(report.verdict, |nodes| nodes.verdict);
    let mood = match verdict {
        Verdict::Equal | Verdict::Within => Mood::Good,
        Verdict::Different => Mood::Bad,
        Verdict::NotChecked => Mood::Unsure,
    };
    page.verdict(mood, &format!("the models are {verdict}"));
    page.remark(&tables::verdict_line(report));
    if let Some(found) = divergence {
        page.remark(&whole::describe(found));
    }
    page.section("Outputs", run::outputs(report));
    if let Some(nodes) = nodes {
        page.section("Nodes", wide("nodes", &tables::nodes_report(Style::Html, nodes)));
    }
    let known = errors.map(run::by_label).unwrap_or_default();
    let graphs = Graphs::two(models.0, models.1).with_errors(&known);
    page.section("The graph", sketch::section(&graphs));
    if let Some(found) = errors {
        page.section("Errors along the graph", run::along(found, &graphs));
    }
    page.section("Weights", weights::section(models.0, models.1, &known));
    page.section("Differences by name", differences(models));
    page.section("Where this comes from", source(origin));
    page.html()
}

/// The page of two models that nobody ran.
pub fn difference_page(title: &str, models: (&Model, &Model), origin: &Source) -> String {
    let mut page = Page::new(title);
    let graphs = Graphs::two(models.0, models.1);
    if difference(models.0, models.1).same {
        page.verdict(Mood::Good, "nothing differs by name, attribute or constant");
    } else {
        page.verdict(
            Mood::Unsure,
            "the models differ; verify tells whether they compute the same",
        );
    }
    page.section("The graph", sketch::section(&graphs));
    page.section(
        "Weights",
        weights::section(models.0, models.1, &Default::default()),
    );
    page.section("Differences by name", differences(models));
    page.section("Where this comes from", source(origin));
    page.html()
}

fn differences((before, after): (&Model, &Model)) -> String {
    let found = difference(before, after);
    if found.same {
        return paragraph("Nothing differs by name, attribute or constant.");
    }
    let mut body = String::new();
    if !found.ops.is_empty() {
        let counts = found
            .ops
            .iter()
            .map(|(name, (a, b))| vec![name.clone(), a.to_string(), b.to_string()]);
        body.push_str(&wide(
            "operators",
            &table(Style::Html, &["operator", "first", "second"], true, counts),
        ));
    }
    for (name, items) in [
        ("Interface", &found.interface),
        ("Nodes that differ", &found.changed_nodes),
        ("Only in the first", &found.only_in_a),
        ("Only in the second", &found.only_in_b),
        ("Constants", &found.constants),
    ] {
        if !items.is_empty() {
            body.push_str(&format!(
                "<details><summary>{name}: {}</summary>\n{}</details>\n",
                items.len(),
                list(items.iter().map(String::as_str))
            ));
        }
    }
    body
}
