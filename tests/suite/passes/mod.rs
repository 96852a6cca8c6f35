//! Native passes, on models in ONNX text: what they change, what they leave alone, and that the outputs stay the same.

mod baking;
mod blocks;
mod calibrating;
mod chaining;
mod cluster;
mod codebooks;
mod compress;
mod corpus;
mod equalizing;
mod factorize;
mod features;
mod folding;
mod gram;
mod growing;
mod halving;
mod heads;
mod interface;
mod large;
mod linear;
mod merging;
mod migrating;
mod naming;
mod opsets;
mod opsets_down;
mod parameters;
mod promises;
mod quantizing;
mod quantizing_types;
mod refitting;
mod rounding;
mod rule_order;
mod sensitivity;
mod sharing;
mod simplifying;
mod splicing;
mod state_dict;
mod symmetry;
mod tied;
mod training;
mod transferring;
mod updating;
mod weights;

use std::path::PathBuf;

use regex::RegexSet;
use secateur::analysis::infer;
use secateur::engine::{CompileOptions, Engine, RunValue, RunValues, TractEngine};
use secateur::fold::TractEvaluator;
use secateur::format::text::{PrintOptions, parse_model, print_model, print_node};
use secateur::format::{ExternalFiles, lift, model_to_proto};
use secateur::ir::{DType, Dim, Model, NodeKind, Tensor, ValueId};
use secateur::passes::{Context, Limits, Pass, PassError, PassReport, Resources};

/// How a pass is run.
#[derive(Clone, Default)]
struct Setting {
    keep: Vec<&'static str>,
    limits: Limits,
}

/// Keeps what these patterns match.
fn keep(patterns: &[&'static str]) -> Setting {
    Setting {
        keep: patterns.to_vec(),
        ..Setting::default()
    }
}

/// Lets the file grow by this share.
fn growth(max_growth: f64) -> Setting {
    Setting {
        limits: Limits {
            max_growth,
            ..Limits::default()
        },
        ..Setting::default()
    }
}

/// A model from its text, with inferred types.
fn model(text: &str) -> Model {
    let message = parse_model(text).unwrap_or_else(|error| panic!("{error}"));
    let mut model = lift(message, &ExternalFiles::default()).unwrap();
    infer(&mut model);
    model
}

fn run_pass(pass: &dyn Pass, model: &mut Model, setting: &Setting) -> Result<PassReport, PassError> {
    run_with(pass, model, setting, None)
}

/// Runs a pass that takes data and an engine.
fn run_with(
    pass: &dyn Pass,
    model: &mut Model,
    setting: &Setting,
    resources: Option<&dyn Resources>,
) -> Result<PassReport, PassError> {
    pass.run(model, &setting.context(resources))
}

impl Setting {
    fn context<'a>(&self, resources: Option<&'a dyn Resources>) -> Context<'a> {
        Context {
            evaluator: &TractEvaluator,
            limits: self.limits.clone(),
            keep: RegexSet::new(self.keep.iter()).unwrap(),
            seed: 0,
            base: PathBuf::new(),
            progress: &|_, _, _| {},
            resources,
        }
    }
}

/// What a pass says: its notes, and its reasons for what it left alone, a line each.
fn said(report: &PassReport) -> String {
    let reasons = secateur::passes::reasons(&report.left, &report.notes);
    let lines: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// The main graph of a model: a line each for its constants (name, type, numbers) and its nodes, in order.
fn lines(model: &Model) -> Vec<String> {
    let mut model = model.clone();
    model.name_values();
    let mut lines: Vec<String> = Vec::new();
    for (id, constant) in model.graph.initializers() {
        let value = model.graph.value(ValueId::new(id, 0)).unwrap();
        let numbers = constant.tensor.as_ref().map(numbers).unwrap_or_default();
        lines.push(format!("{}: {} = {numbers}", value.name, value.ty));
    }
    let message = model_to_proto(&model, &ExternalFiles::default()).unwrap();
    // Whatever a pass leaves can be written and read again.
    let text = print_model(&message, &PrintOptions::default());
    parse_model(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    lift(message.clone(), &ExternalFiles::default()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let squeeze = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    lines.extend(
        message
            .graph
            .unwrap()
            .node
            .iter()
            .map(|node| squeeze(print_node(node, &PrintOptions::default()))),
    );
    lines
}

fn numbers(tensor: &Tensor) -> String {
    let shown: Vec<String> = match tensor.to_f64() {
        Ok(values) => values.iter().take(8).map(f64::to_string).collect(),
        Err(_) => return "?".to_owned(),
    };
    format!(
        "{}{}",
        shown.join(" "),
        if tensor.elements() > 8 { " ..." } else { "" }
    )
}

/// Runs `pass` and compares the main graph with `expected`, line by line; the outputs in tract have to be the same bits.
fn check(pass: &dyn Pass, text: &str, setting: &Setting, expected: &[&str]) -> PassReport {
    let before = model(text);
    let mut after = before.clone();
    let report = run_pass(pass, &mut after, setting).unwrap_or_else(|error| panic!("{error}\n{text}"));
    secateur::analysis::check(&after).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    let found = lines(&after);
    assert_eq!(found, expected, "{text}\n{report:#?}");
    assert_eq!(report.changed, found != lines(&before), "{text}\n{report:#?}");
    same_outputs(&before, &after, text);
    report
}

/// Checks that `pass` leaves a model alone.
fn check_untouched(pass: &dyn Pass, text: &str, setting: &Setting) -> PassReport {
    let before = lines(&model(text));
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    check(pass, text, setting, &before)
}

/// Runs both models on the same numbers. Symbols are 2; models with random operators or float64 are not run.
fn same_outputs(before: &Model, after: &Model, text: &str) {
    let Some(expected) = outputs(before) else { return };
    let found = outputs(after).unwrap_or_else(|| panic!("does not run any more\n{text}"));
    for (name, value) in &expected {
        let (RunValue::Tensor(a), Some(RunValue::Tensor(b))) = (value, found.get(name)) else {
            continue;
        };
        assert!(
            a.same_as(b),
            "{name} differs: {} -> {}\n{text}",
            numbers(a),
            numbers(b)
        );
    }
}

fn outputs(model: &Model) -> Option<RunValues> {
    let mut model = model.clone();
    model.name_values();
    let mut inputs = RunValues::new();
    for (index, id) in model.graph.inputs().iter().enumerate() {
        let node = model.graph.get(*id).unwrap();
        let NodeKind::Input(input) = &node.kind else {
            continue;
        };
        if input.default.is_some() {
            continue;
        }
        let ty = model.graph.ty(ValueId::new(*id, 0));
        let dims: Vec<u64> = ty
            .shape()?
            .iter()
            .map(|dim| if let Dim::Fixed(n) = dim { *n as u64 } else { 2 })
            .collect();
        let count = dims.iter().product::<u64>() as usize;
        let tensor = match ty.dtype()? {
            DType::F32 => {
                let values: Vec<f32> = (0..count)
                    .map(|i| ((i * 7 + index * 3) % 11) as f32 * 0.75 - 3.0)
                    .collect();
                Tensor::from_slice(&dims, &values).unwrap()
            }
            DType::I64 => Tensor::from_slice(&dims, &(0..count as i64).collect::<Vec<_>>()).unwrap(),
            DType::Bool => Tensor::from_bools(&dims, &vec![index % 2 == 0; count]).unwrap(),
            _ => return None,
        };
        let name = node.outputs()[0].name.to_string();
        inputs.insert(name, RunValue::Tensor(tensor));
    }
    let mut options = CompileOptions::default();
    for id in model.graph.inputs() {
        for dim in model.graph.ty(ValueId::new(*id, 0)).shape()? {
            dim.for_each_symbol(&mut |name| {
                options.symbols.insert(name.to_string(), 2);
            });
        }
    }
    let session = TractEngine.compile(&model, &options).ok()?;
    session.run(&inputs).ok()
}
