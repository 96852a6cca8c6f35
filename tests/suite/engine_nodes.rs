//! Every node test of the onnx package through lowering and an engine, and the committed table of what comes out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use secateur::engine::{CompileOptions, Engine, EngineError, OrtEngine, TractEngine};
use secateur::ir::Model;
use secateur::lower::for_engine;

use super::node_tests::{self, NodeTest};

/// How one test went.
enum Outcome {
    Right,
    Wrong(String),
    NotChecked(String),
}

fn outcome(test: &NodeTest, model: &Model, engine: &dyn Engine, optimise: bool) -> Outcome {
    let lowered = for_engine(model, engine).unwrap_or_else(|error| panic!("{}: {error}", test.name));
    let options = CompileOptions {
        optimise,
        ..CompileOptions::default()
    };
    let session = match engine.compile(&lowered, &options) {
        Ok(session) => session,
        Err(error) => return Outcome::NotChecked(reason(error)),
    };
    for set in test.data_sets(model) {
        let found = match session.run(&set.inputs) {
            Ok(found) => found,
            Err(error) => return Outcome::NotChecked(reason(error)),
        };
        for (name, expected) in &set.outputs {
            let difference = match found.get(name) {
                Some(found) => node_tests::difference(found, expected),
                None => Some("missing".to_owned()),
            };
            if let Some(difference) = difference {
                return Outcome::Wrong(difference);
            }
        }
    }
    Outcome::Right
}

/// Why a test was not checked, without what differs from test to test.
fn reason(error: EngineError) -> String {
    match error {
        EngineError::Unsupported { operator, reason, .. } => format!("{operator}: {reason}"),
        EngineError::Failed { .. } => "the engine refuses the form".to_owned(),
        other => other.to_string(),
    }
}

/// The operator that a test is about: its only one, or the family in its name for the body of a function.
fn subject(test: &NodeTest, model: &Model) -> String {
    let operators: Vec<String> = model
        .graph
        .topological_order()
        .into_iter()
        .filter_map(|id| model.graph.operator(id))
        .map(|op| {
            if op.domain().is_empty() {
                op.op_type.to_string()
            } else {
                format!("{}.{}", op.domain(), op.op_type)
            }
        })
        .collect();
    match operators.as_slice() {
        [one] => one.clone(),
        _ if test.name.contains("_expanded") => "bodies of function operators".to_owned(),
        _ => "models of several operators".to_owned(),
    }
}

#[derive(Default)]
struct Row {
    right: usize,
    wrong: Vec<String>,
    not_checked: BTreeMap<String, usize>,
}

struct Table {
    rows: BTreeMap<String, Row>,
}

impl Table {
    fn of(engine: &dyn Engine, optimise: bool) -> Self {
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        for test in node_tests::all() {
            let model = test.model();
            let row = rows.entry(subject(&test, &model)).or_default();
            match outcome(&test, &model, engine, optimise) {
                Outcome::Right => row.right += 1,
                Outcome::Wrong(difference) => row.wrong.push(format!("`{}`: {difference}", test.name)),
                Outcome::NotChecked(reason) => *row.not_checked.entry(reason).or_default() += 1,
            }
        }
        Self { rows }
    }

    fn counts(&self) -> (usize, usize, usize) {
        self.rows.values().fold((0, 0, 0), |(right, wrong, rest), row| {
            (
                right + row.right,
                wrong + row.wrong.len(),
                rest + row.not_checked.values().sum::<usize>(),
            )
        })
    }

    fn section(&self, title: &str) -> String {
        let (right, wrong, rest) = self.counts();
        let mut text = format!(
            "## {title}\n\n{} tests: {right} as recorded, {wrong} otherwise, {rest} not checked.\n\n",
            right + wrong + rest
        );
        text += "| operator | as recorded | not checked | why |\n|---|---|---|---|\n";
        for (operator, row) in self.rows.iter().filter(|(_, row)| !row.not_checked.is_empty()) {
            let why: Vec<String> = row
                .not_checked
                .iter()
                .map(|(why, count)| format!("{why} ({count})"))
                .collect();
            let total: usize = row.not_checked.values().sum();
            writeln!(
                text,
                "| {operator} | {} | {total} | {} |",
                row.right,
                why.join("; ").replace('|', "\\|")
            )
            .unwrap();
        }
        let complete: Vec<String> = self
            .rows
            .iter()
            .filter(|(_, row)| row.not_checked.is_empty() && row.wrong.is_empty())
            .map(|(operator, row)| format!("{operator} {}", row.right))
            .collect();
        writeln!(text, "\nAll tests as recorded: {}.", complete.join(", ")).unwrap();
        if wrong > 0 {
            text += "\nOtherwise than recorded:\n\n";
            for line in self.rows.values().flat_map(|row| &row.wrong) {
                writeln!(text, "- {line}").unwrap();
            }
        }
        text
    }
}

const INTRODUCTION: &str = "# What the engines run

The node tests of the onnx package, each a small model with recorded outputs, through lowering and each engine. Floats agree to the
tolerance of ONNX's own runner, everything else exactly; undefined values agree by position. *Not checked* means that the engine or
secateur refused: such an operator makes a comparison `not-checked`, never `equal`.

This file is generated by `UPDATE=1 cargo test --test suite engine_nodes` with `SECATEUR_CORPUS` set.
";

/// Compares a section of the committed table with what was found, or renews it.
fn check_section(title: &str, section: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/engine-coverage.md");
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _held = LOCK.lock().unwrap();
    let committed = std::fs::read_to_string(&path).unwrap_or_else(|_| INTRODUCTION.to_owned());
    let mut sections: BTreeMap<String, String> = BTreeMap::new();
    for part in committed.split("\n## ").skip(1) {
        let name = part.lines().next().unwrap_or("").to_owned();
        sections.insert(name, format!("## {}\n", part.trim_end()));
    }
    if std::env::var_os("UPDATE").is_some() {
        let family = title.split(' ').next().unwrap_or("");
        sections.retain(|name, _| name.split(' ').next() != Some(family));
        sections.insert(title.to_owned(), format!("{}\n", section.trim_end()));
        let text = sections
            .into_values()
            .rev()
            .fold(INTRODUCTION.to_owned(), |text, section| text + "\n" + &section);
        std::fs::write(&path, text).unwrap();
        return;
    }
    match sections.get(title) {
        Some(known) => assert_eq!(
            known.trim_end(),
            section.trim_end(),
            "docs/engine-coverage.md is stale: UPDATE=1 renews it"
        ),
        None => super::corpus::skip(&format!("docs/engine-coverage.md has no section {title:?}")),
    }
}

#[test]
fn tract_is_right_on_every_node_test_that_it_runs() {
    if node_tests::all().is_empty() {
        return;
    }
    let table = Table::of(&TractEngine, true);
    let (right, wrong, rest) = table.counts();
    println!("tract: {right} as recorded, {wrong} otherwise, {rest} not checked");
    let lines: Vec<&String> = table.rows.values().flat_map(|row| &row.wrong).collect();
    assert!(lines.is_empty(), "{lines:#?}");
    assert!(right >= 1600, "only {right} tests as recorded");
    check_section("tract 0.23.9", &table.section("tract 0.23.9"));
}

#[test]
fn tract_is_right_without_optimisation_too() {
    let table = Table::of(&TractEngine, false);
    let lines: Vec<&String> = table.rows.values().flat_map(|row| &row.wrong).collect();
    assert!(lines.is_empty(), "{lines:#?}");
    let (right, _, rest) = table.counts();
    println!("tract, not optimised: {right} as recorded, {rest} not checked");
    super::corpus::ran(right, 1500);
}

/// ONNX Runtime's own disagreements with the recorded outputs: random generators, and operators that it defines otherwise.
const DISAGREEMENTS: &[&str] = &[
    "_dropout",
    "resize_downsample_scales_",
    "maxunpool_export_with_output_shape",
];

#[test]
fn the_runtime_agrees_with_the_recorded_outputs() {
    let engine = match OrtEngine::load() {
        Ok(engine) => engine,
        Err(EngineError::Unavailable { reason, .. }) => return super::corpus::skip(&reason),
        Err(other) => panic!("{other}"),
    };
    if node_tests::all().is_empty() {
        return;
    }
    let table = Table::of(&engine, false);
    let (right, wrong, rest) = table.counts();
    let description = engine.describe();
    println!("{description}: {right} as recorded, {wrong} otherwise, {rest} not checked");
    let lines: Vec<&String> = table
        .rows
        .values()
        .flat_map(|row| &row.wrong)
        .filter(|line| !DISAGREEMENTS.iter().any(|known| line.contains(known)))
        .collect();
    assert!(lines.is_empty(), "{lines:#?}");
    assert!(right >= 1700, "only {right} tests as recorded");
    let title = description.split(" (").next().unwrap_or("").to_owned();
    check_section(&title, &table.section(&title));
}
