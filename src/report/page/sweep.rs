//! The page of a sweep: which points no other beats, drawn in the plane of a cost and the main figure, and a table of all.

use super::draw::{self, Trade};
use super::{Mood, Page, Source, list, rows, source};
use crate::report::sweep::{cells, heading, reasons, summary};
use crate::sweep::{Measure, PointResult, SweepReport};

/// The page.
pub fn sweep(report: &SweepReport, origin: &Source) -> String {
    let mut page = Page::new(&format!("secateur: sweep {}", report.name));
    let mood = match (report.front.is_empty(), report.missing) {
        (true, _) => Mood::Bad,
        (false, 0) => Mood::Good,
        (false, _) => Mood::Unsure,
    };
    page.verdict(mood, &summary(report));
    page.section("Front", front(report));
    for cost in report.measures.iter().filter(|measure| measure.less_is_better) {
        let title = format!("{} and quality", cost.name);
        page.section(&title, plane(report, cost));
    }
    page.section("Points", table(report, &|_| true));
    let reasons = reasons(report);
    page.section("Without a result", list(reasons.iter().map(String::as_str)));
    page.section("Where this comes from", source(origin));
    page.html()
}

fn front(report: &SweepReport) -> String {
    table(report, &|point| point.best)
}

fn table(report: &SweepReport, of: &dyn Fn(&PointResult) -> bool) -> String {
    let heading = heading(report);
    let heading: Vec<&str> = heading.iter().map(String::as_str).collect();
    let mut lines: Vec<Vec<String>> = Vec::new();
    for point in report.points.iter().filter(|point| of(point)) {
        lines.push(cells(point, &report.measures));
    }
    if lines.is_empty() {
        return String::new();
    }
    rows("points", &heading, lines)
}

/// The measured points in the plane of a cost and the first figure of which more is better.
fn plane(report: &SweepReport, cost: &Measure) -> String {
    let Some(quality) = report.measures.iter().find(|measure| !measure.less_is_better) else {
        return String::new();
    };
    let points: Vec<Trade> = report
        .points
        .iter()
        .filter(|point| point.finished)
        .filter_map(|point| {
            Some(Trade {
                name: point.name.clone(),
                cost: *point.figures.get(&cost.name)?,
                value: *point.figures.get(&quality.name)?,
                best: point.best,
            })
        })
        .collect();
    if points.len() < 2 {
        return String::new();
    }
    draw::trades(&points, &cost.name, &quality.name)
}
