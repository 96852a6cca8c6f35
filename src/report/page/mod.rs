//! Reports as one HTML file: no request, readable without scripts, every figure of a picture in words as well.
//!
//! A page is a heading, a verdict and sections. What stands in them: `run` for what a pipeline made, `comparison` for two models,
//! `measurement` for a model on data, `several` for stored results side by side, `sweep` for many settings. `graph` says how two graphs differ, `sketch` draws
//! them in the places that `layers` finds, `weights` counts weights before and after, `draw` has the plots.

mod comparison;
mod draw;
mod graph;
mod layers;
mod measurement;
mod run;
mod several;
mod sketch;
mod sweep;
mod weights;

pub use comparison::{comparison, difference_page as difference};
pub use measurement::{Picture, measurement};
pub use run::{Made, run};
pub use several::several;
pub use sweep::sweep;

use std::fmt::Write as _;

use draw::text;

use super::table::{self, Style};
use crate::pipeline::{Decision, GateReport};

/// Where a report comes from: what makes it again.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The command, as it was typed.
    pub command: Option<String>,
    /// What else: names and values.
    pub facts: Vec<(String, String)>,
}

/// A page that is being put together.
struct Page {
    title: String,
    sections: Vec<(String, String)>,
    lead: String,
}

/// How good news is.
#[derive(Clone, Copy)]
enum Mood {
    Good,
    Bad,
    Unsure,
}

impl Page {
    fn new(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            sections: Vec::new(),
            lead: String::new(),
        }
    }

    /// The sentence that stands above everything.
    fn verdict(&mut self, mood: Mood, words: &str) {
        let class = match mood {
            Mood::Good => "good",
            Mood::Bad => "bad",
            Mood::Unsure => "unsure",
        };
        let _ = writeln!(self.lead, "<p class=\"verdict {class}\">{}</p>", text(words));
    }

    /// Words below the verdict.
    fn remark(&mut self, words: &str) {
        self.lead.push_str(&paragraph(words));
    }

    /// A section; nothing where there is nothing to say.
    fn section(&mut self, title: &str, body: String) {
        if !body.trim().is_empty() {
            self.sections.push((title.to_owned(), body));
        }
    }

    fn html(self) -> String {
        let anchors: String = self
            .sections
            .iter()
            .enumerate()
            .map(|(at, (title, _))| format!("<li><a href=\"#s{at}\">{}</a></li>", text(title)))
            .collect();
        let sections: String = self
            .sections
            .iter()
            .enumerate()
            .map(|(at, (title, body))| {
                format!(
                    "<section>\n<h2 id=\"s{at}\">{}</h2>\n{body}</section>\n",
                    text(title)
                )
            })
            .collect();
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{style}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n{lead}<nav aria-label=\"sections\"><ul>{anchors}</ul></nav>\n</header>\n<main>\n{sections}</main>\n<script>\n{script}</script>\n</body>\n</html>\n",
            title = text(&self.title),
            style = include_str!("style.css"),
            script = include_str!("script.js"),
            lead = self.lead,
        )
    }
}

/// Lines of text.
fn paragraph(words: &str) -> String {
    let lines: Vec<String> = words.lines().map(text).collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!("<p>{}</p>\n", lines.join("<br>\n"))
    }
}

/// A table, which may be wider than the screen.
fn wide(name: &str, table: &str) -> String {
    format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{}\">{table}</div>\n",
        text(name)
    )
}

/// A table of words.
fn rows(name: &str, heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    wide(name, &table::table(Style::Html, heading, false, rows))
}

/// A list of texts.
fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: String = items
        .into_iter()
        .map(|item| {
            let lines: Vec<String> = item.lines().map(text).collect();
            format!("<li>{}</li>\n", lines.join("<br>"))
        })
        .collect();
    if items.is_empty() {
        String::new()
    } else {
        format!("<ul>\n{items}</ul>\n")
    }
}

/// The gates, those that do not hold first, with how far the figure is from the bound.
fn gates(gates: &[GateReport]) -> String {
    if gates.is_empty() {
        return String::new();
    }
    let mut order: Vec<&GateReport> = gates.iter().collect();
    order.sort_by_key(|gate| gate.passed);
    let number = |value: Option<f64>| value.map(|value| format!("{value:.6}")).unwrap_or_default();
    let body = order.iter().map(|gate| {
        let decision = match gate.decision {
            Decision::Passed => "passed",
            Decision::Undecided => "undecided",
            Decision::Broken => "broken",
        };
        let missing = match (gate.decision, gate.value, gate.bound, gate.more_samples) {
            (Decision::Undecided, .., Some(more)) => format!("about {more} more samples would decide"),
            (Decision::Broken, Some(value), Some(bound), _) => {
                format!("it holds once the figure has moved by {:.6}", bound - value)
            }
            _ => String::new(),
        };
        vec![
            gate.name.clone(),
            decision.to_owned(),
            number(gate.value),
            number(gate.bound),
            gate.message.clone(),
            missing,
        ]
    });
    rows(
        "gates",
        &[
            "gate",
            "decision",
            "figure",
            "bound",
            "in words",
            "what is missing",
        ],
        body,
    )
}

/// What makes the page again.
fn source(source: &Source) -> String {
    let mut body = String::new();
    if let Some(command) = &source.command {
        let _ = writeln!(
            body,
            "<pre tabindex=\"0\" role=\"region\" aria-label=\"command\"><code>{}</code></pre>",
            text(command)
        );
    }
    let facts = source
        .facts
        .iter()
        .map(|(name, value)| vec![name.clone(), value.clone()]);
    body.push_str(&rows("provenance", &["what", "value"], facts));
    body
}

/// Text to be copied.
fn code(name: &str, words: &str) -> String {
    let lines: Vec<String> = words.lines().map(text).collect();
    format!(
        "<pre tabindex=\"0\" role=\"region\" aria-label=\"{}\"><code>{}</code></pre>\n",
        text(name),
        lines.join("\n")
    )
}
