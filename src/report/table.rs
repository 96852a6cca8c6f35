//! Tables for people, on a terminal or in Markdown. Text from models is made harmless on the way.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use super::difference::Difference;
use super::facts::{LayerFacts, ModelFacts, ValueFacts};
use super::sanitise;
use crate::passes::{PlannedNode, Runs, readable_bytes};
use crate::pipeline::{Decision, GateReport, RunReport};
use crate::transfer::parameters::{Account, Fate};

/// How tables are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Columns apart by spaces.
    Terminal,
    /// Markdown.
    Markdown,
    /// A fragment of HTML: tables and paragraphs.
    Html,
}

/// A table with a heading and rows; columns from the second on stand right where `numbers` says so.
pub(super) fn table(
    style: Style,
    heading: &[&str],
    numbers: bool,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table.load_style(match style {
        Style::Terminal => presets::NOTHING,
        Style::Markdown => presets::ASCII_MARKDOWN,
        Style::Html => return html(heading, numbers, rows),
    });
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heading.to_vec());
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, text)| {
            let text = sanitise(text);
            let text = if style == Style::Markdown {
                text.replace('|', "\\|")
            } else {
                text
            };
            let aligned = numbers && column > 0;
            Cell::new(text).set_alignment(if aligned {
                CellAlignment::Right
            } else {
                CellAlignment::Left
            })
        });
        table.add_row(cells.collect::<Vec<_>>());
    }
    let text = table.to_string();
    text.lines()
        .map(|line| line.trim_end())
        .collect::<Vec<_>>()
        .join("\n")
}

fn html(heading: &[&str], numbers: bool, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let row = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        let cells: String = cells
            .enumerate()
            .map(|(column, text)| {
                let side = if numbers && column > 0 { "right" } else { "left" };
                let text = escaped(&sanitise(text));
                format!("<{tag} style=\"text-align: {side}; white-space: pre\">{text}</{tag}>")
            })
            .collect();
        format!("<tr>{cells}</tr>\n")
    };
    let head = row("th", &mut heading.iter().copied());
    let body: String = rows
        .into_iter()
        .map(|cells| row("td", &mut cells.iter().map(String::as_str)))
        .collect();
    format!("<table>\n<thead>{head}</thead>\n<tbody>\n{body}</tbody>\n</table>")
}

/// Text that HTML shows as it is.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Words beside tables, which are harmless already.
pub(super) fn said(style: Style, text: &str) -> String {
    match style {
        Style::Html => format!("<p style=\"white-space: pre-line\">{}</p>", escaped(text)),
        Style::Terminal | Style::Markdown => text.to_owned(),
    }
}

/// A table whose second and later columns stand right.
pub fn plain(style: Style, heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    table(style, heading, true, rows)
}

/// A table of words: every column stands left.
pub fn plain_words(style: Style, heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    table(style, heading, false, rows)
}

/// A number of bytes in a unit that reads well.
pub fn bytes(count: u64) -> String {
    readable_bytes(count)
}

/// A count with a narrow gap between thousands.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(value) if (1e-3..1e5).contains(&value.abs()) => format!("{value:.5}"),
        Some(value) => format!("{value:.3e}"),
    }
}

fn change(before: u64, after: u64) -> String {
    if before == after {
        return "=".to_owned();
    }
    if before == 0 {
        return format!("+{}", count(after));
    }
    format!("{:+.1} %", (after as f64 / before as f64 - 1.0) * 100.0)
}

fn layers(style: Style, layers: &[LayerFacts]) -> String {
    let rows = layers.iter().map(|layer| {
        vec![
            layer.name.clone(),
            layer.op_type.clone(),
            layer.output.clone(),
            count(layer.parameters),
            layer.macs.map_or("unknown".to_owned(), count),
            layer
                .macs_share
                .map_or(String::new(), |share| format!("{:.1} %", 100.0 * share)),
        ]
    });
    let heading = ["layer", "operator", "output", "parameters", "MACs", "share"];
    table(style, &heading, true, rows)
}

/// Before and after.
pub fn weights(style: Style, report: &RunReport) -> String {
    let (before, after) = (&report.before, &report.after);
    let mut rows = vec![
        vec![
            "nodes".to_owned(),
            count(before.nodes),
            count(after.nodes),
            change(before.nodes, after.nodes),
        ],
        vec![
            "parameters".to_owned(),
            count(before.parameters),
            count(after.parameters),
            change(before.parameters, after.parameters),
        ],
        vec![
            "size".to_owned(),
            bytes(before.bytes),
            bytes(after.bytes),
            change(before.bytes, after.bytes),
        ],
    ];
    if let (Some(a), Some(b)) = (before.opset, after.opset)
        && a != b
    {
        rows.push(vec![
            "opset".to_owned(),
            a.to_string(),
            b.to_string(),
            format!("{:+}", b - a),
        ]);
    }
    if let (Some(a), Some(b)) = (before.macs, after.macs) {
        rows.push(vec!["MACs".to_owned(), count(a), count(b), change(a, b)]);
    }
    let pace = report.verify.as_ref().and_then(|verify| verify.latency);
    let of_step = || report.steps.iter().rev().find_map(|step| step.times);
    let times = match pace {
        Some(pace) => Some((pace.reference.p50, pace.model.p50)),
        None => of_step().map(|times| (times.before_ms, times.after_ms)),
    };
    if let Some((before, after)) = times {
        rows.push(vec![
            "latency".to_owned(),
            format!("{before:.3} ms"),
            format!("{after:.3} ms"),
            format!("{:+.1} %", (after / before - 1.0) * 100.0),
        ]);
    }
    let first = if style == Style::Html { "what" } else { "" };
    table(style, &[first, "before", "after", "change"], true, rows)
}

/// Each step with what it changed.
pub fn steps(style: Style, report: &RunReport) -> String {
    let mut rows = Vec::new();
    for (index, step) in report.steps.iter().enumerate() {
        rows.push(vec![
            format!("{}. {}", index + 1, step.name),
            format!("{} -> {}", count(step.nodes_before), count(step.nodes_after)),
            format!("{} -> {}", bytes(step.bytes_before), bytes(step.bytes_after)),
            format!("{:.3} s", step.seconds),
        ]);
        for change in &step.changes {
            rows.push(vec![
                format!("   {}", change.rule),
                format!("{} x", count(change.count)),
                String::new(),
                String::new(),
            ]);
        }
    }
    table(style, &["step", "nodes", "size", "time"], true, rows)
}

/// Rows of weights that are shown where not all are asked for.
const SHOWN_WEIGHTS: usize = 24;

/// What became of the weights of two models: counts, and those that are not simply loaded, or all.
pub fn transferred(style: Style, account: &Account, all: bool) -> String {
    let mut rows = Vec::new();
    let fates = [
        ("loaded", Fate::Loaded),
        ("adapted", Fate::Adapted),
        ("initialised", Fate::Initialised),
        ("left", Fate::Left),
    ];
    let shape = |dims: &[u64]| {
        let sizes: Vec<String> = dims.iter().map(u64::to_string).collect();
        sizes.join("x")
    };
    for (word, fate) in fates {
        let of: Vec<_> = account
            .weights
            .iter()
            .filter(|weight| weight.fate == fate)
            .collect();
        if of.is_empty() {
            continue;
        }
        let sum = count(account.elements(fate));
        rows.push(vec![
            word.to_owned(),
            format!("{} weights", of.len()),
            sum,
            String::new(),
        ]);
        let listed = match (fate, all) {
            (_, true) => of.len(),
            (Fate::Loaded, false) => 0,
            (_, false) => SHOWN_WEIGHTS.min(of.len()),
        };
        rows.extend(of.iter().take(listed).map(|weight| {
            let mut why: Vec<String> = weight.how.clone();
            why.extend(weight.why.clone());
            if weight.by_order {
                why.push("found by order".to_owned());
            }
            if all && !weight.from.is_empty() {
                why.push(format!("from {}", weight.from.join(", ")));
            }
            vec![
                String::new(),
                weight.name.clone(),
                shape(&weight.dims),
                why.join("; "),
            ]
        }));
        if listed > 0 && listed < of.len() {
            rows.push(vec![
                String::new(),
                format!("and {} more (--verbose)", of.len() - listed),
                String::new(),
                String::new(),
            ]);
        }
    }
    let unused: Vec<_> = account.source.iter().filter(|weight| !weight.used).collect();
    if !unused.is_empty() {
        rows.push(vec![
            "not used".to_owned(),
            format!("{} of the source", unused.len()),
            String::new(),
            String::new(),
        ]);
        let listed = if all { unused.len() } else { SHOWN_WEIGHTS };
        rows.extend(unused.into_iter().take(listed).map(|weight| {
            vec![
                String::new(),
                weight.name.clone(),
                shape(&weight.dims),
                weight.why.clone().unwrap_or_default(),
            ]
        }));
    }
    table(
        style,
        &["fate", "weight", "shape", "how, or why not"],
        false,
        rows,
    )
}

/// What becomes of each node in the engine that a step plans for.
pub fn planned(style: Style, nodes: &[PlannedNode]) -> String {
    let rows = nodes.iter().map(|node| {
        let runs = match node.runs {
            Runs::Integer => "integer",
            Runs::Implied => "implied",
            Runs::Float => "float",
        };
        vec![
            node.node.clone(),
            node.operator.clone(),
            runs.to_owned(),
            node.why.clone(),
        ]
    });
    table(style, &["node", "operator", "runs", "why"], false, rows)
}

/// Each gate.
pub fn gates(style: Style, gates: &[GateReport]) -> String {
    let rows = gates.iter().map(|gate| {
        vec![
            gate.name.clone(),
            match gate.decision {
                Decision::Passed => "passed",
                Decision::Undecided => "undecided",
                Decision::Broken => "broken",
            }
            .to_owned(),
            gate.message.clone(),
        ]
    });
    table(style, &["gate", "", ""], false, rows)
}

/// What `inspect` shows.
pub fn facts(style: Style, facts: &ModelFacts) -> String {
    let opsets: Vec<String> = facts
        .opsets
        .iter()
        .map(|(domain, version)| format!("{domain} {version}"))
        .collect();
    let rows = [
        ("nodes", count(facts.nodes)),
        ("parameters", count(facts.parameters)),
        ("size", bytes(facts.bytes)),
        ("MACs", macs(facts)),
        ("IR version", facts.ir_version.to_string()),
        ("opsets", opsets.join(", ")),
        (
            "producer",
            facts.producer.clone().unwrap_or_else(|| "-".to_owned()),
        ),
        ("functions", count(facts.functions)),
    ];
    let mut text = table(
        style,
        &["model", ""],
        false,
        rows.map(|(name, value)| vec![name.to_owned(), value]),
    );
    text.push_str("\n\n");
    text.push_str(&values(style, "input", &facts.inputs));
    text.push_str("\n\n");
    text.push_str(&values(style, "output", &facts.outputs));
    text.push_str("\n\n");
    let mut ops: Vec<(&String, &u64)> = facts.ops.iter().collect();
    ops.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
    let rows = ops
        .into_iter()
        .map(|(name, number)| vec![name.clone(), count(*number)]);
    text.push_str(&table(style, &["operator", "nodes"], true, rows));
    for conflict in &facts.conflicts {
        text.push_str("\n\n");
        text.push_str(&said(style, &format!("cannot run: {}", sanitise(conflict))));
    }
    if let Some(list) = &facts.layers {
        text.push_str("\n\n");
        text.push_str(&layers(style, list));
    }
    if let Some(list) = &facts.values {
        text.push_str("\n\n");
        text.push_str(&values(style, "value", list));
    }
    text
}

/// The operations, and the sizes that they are counted with.
fn macs(facts: &ModelFacts) -> String {
    let Some(macs) = facts.macs else {
        return "unknown (some shapes are not known)".to_owned();
    };
    if facts.macs_sizes.is_empty() {
        return count(macs);
    }
    let sizes: Vec<String> = facts
        .macs_sizes
        .iter()
        .map(|(name, size)| format!("{name}={size}"))
        .collect();
    format!("{} (with {}; see --size)", count(macs), sizes.join(", "))
}

fn values(style: Style, heading: &str, values: &[ValueFacts]) -> String {
    let rows = values.iter().map(|value| {
        let shape = match &value.shape {
            None => "..".to_owned(),
            Some(dims) => {
                let dims: Vec<String> = dims
                    .iter()
                    .map(|dim| match dim {
                        serde_json::Value::Null => "?".to_owned(),
                        serde_json::Value::String(name) => name.clone(),
                        other => other.to_string(),
                    })
                    .collect();
                format!("[{}]", dims.join(", "))
            }
        };
        let note = value
            .operator
            .clone()
            .or(value.optional.then(|| "optional".to_owned()))
            .unwrap_or_default();
        vec![
            value.name.clone(),
            value.dtype.clone().unwrap_or_else(|| "?".to_owned()),
            shape,
            note,
        ]
    });
    table(style, &[heading, "type", "shape", ""], false, rows)
}

/// What `diff` shows.
pub fn difference(difference: &Difference) -> String {
    if difference.same {
        return "no difference in interface, nodes and constants".to_owned();
    }
    let mut lines = Vec::new();
    let mut section = |title: &str, items: &[String]| {
        if !items.is_empty() {
            lines.push(format!("{title}:"));
            lines.extend(items.iter().map(|item| format!("  {}", sanitise(item))));
        }
    };
    section("interface", &difference.interface);
    let ops: Vec<String> = difference
        .ops
        .iter()
        .map(|(name, (a, b))| format!("{name}: {a} -> {b}"))
        .collect();
    section("operators", &ops);
    section("nodes only in A", &difference.only_in_a);
    section("nodes only in B", &difference.only_in_b);
    section("changed nodes", &difference.changed_nodes);
    section("constants", &difference.constants);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            (count(0), count(999), count(1000), count(1_234_567)),
            ("0".into(), "999".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!(
            (bytes(1023), bytes(1536), bytes(5 << 30)),
            ("1023 B".into(), "1.5 KiB".into(), "5.0 GiB".into())
        );
        assert_eq!(
            (change(100, 80), change(5, 5), change(0, 2)),
            ("-20.0 %".into(), "=".into(), "+2".into())
        );
        assert_eq!(
            (number(None), number(Some(1e-7)), number(Some(0.25))),
            ("-".into(), "1.000e-7".into(), "0.25000".into())
        );
    }

    #[test]
    fn names_from_models_cannot_steer_a_terminal_or_break_a_table() {
        let text = table(
            Style::Markdown,
            &["a", "b"],
            false,
            [vec!["x\u{1b}[2J|y".to_owned(), "z\nw".to_owned()]],
        );
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.contains("\\|"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }
}
