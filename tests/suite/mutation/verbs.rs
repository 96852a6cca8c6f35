//! What is done with each mutation: everything that reads a model.

use std::path::Path;

use secateur::analysis;
use secateur::fold::TractEvaluator;
use secateur::format::text::{PrintOptions, print_model};
use secateur::format::{self, ReadOptions, WriteOptions, WriteTarget};
use secateur::passes::Limits;
use secateur::pipeline::{self, Pipeline, RunOptions, Step, Unchanged};
use secateur::report::difference::difference;
use secateur::report::facts::{Listed, facts};
use secateur::report::table::{self, Style};
use secateur::verify::VerifyOptions;

/// Steps that run no model, with their options.
pub(super) const STEPS: &[(&str, &str)] = &[
    ("simplify", "{}"),
    ("fold-constants", "{}"),
    ("eliminate-dead-code", "{}"),
    ("eliminate-common-subexpressions", "{}"),
    ("deduplicate-initializers", "{}"),
    ("inline-functions", "{}"),
    ("convert-opset", r#"{"to": 21}"#),
    ("convert-opset", r#"{"to": 11}"#),
    ("convert-float", "{}"),
    ("quantize-dynamic", "{}"),
    ("quantize-weights", r#"{"type": "int4"}"#),
    ("prune-weights", r#"{"sparsity": 0.5}"#),
    ("deepen", "{}"),
    ("equalize", "{}"),
    ("bind-defaults", "{}"),
    ("bind", r#"{"sizes": {"N": 2}}"#),
    ("extract", r#"{"outputs": ["r"]}"#),
    ("rename", r#"{"values": {"^": "m_"}, "nodes": {"^": "m_"}}"#),
    ("drop-outputs", r#"{"outputs": ["r"]}"#),
    ("clean-names", "{}"),
];

/// Verbs of the program that run a model or write one, with `M` for the model and `O` for the output.
pub(super) const CALLS: &[&str] = &[
    "verify M M --verify-time 1 --engine-time 5",
    "simplify M -o O --force --verify-time 1 --engine-time 5",
    "inspect M --values --json",
    "print M",
    "check M --json --target ort --target tract --target tensorrt --target qnn --target webgpu",
    "check M --fix -o O --force --engine-time 5",
    "diff M M",
    "prune channels M --explain --json",
    "prune channels M --ratio 0.5 -o O --force --verify-time 1 --engine-time 5",
    "quantize-dynamic M -o O --force --verify-time 1 --engine-time 5",
    "gradients M --loss mean-squared-error -o O --force",
    "run simplify M -o O --in-place",
    "convert-external M -o O --force --smallest 1",
    "single-file M -o O --force --allow-unchanged",
    "bisect M M --engine-time 5",
    r#"quantize M --data {"synthetic":{},"samples":2} -o O --force --verify-time 1 --engine-time 5"#,
    r#"evaluate M --against M --data {"synthetic":{},"samples":2} --latency-runs 1 --engine-time 5"#,
    r#"stats M --data {"synthetic":{},"samples":2} -o O.npz --force --engine-time 5"#,
    r#"equalize M --data {"synthetic":{},"samples":2} -o O --force --verify-time 1 --engine-time 5"#,
];

/// How far a model came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// It is no model.
    Refused,
    /// It is one, and a check refuses it.
    Checked,
    /// Everything was done with it.
    All,
}

/// Reads the model as every verb does, analyses and prints it, and applies some steps. `say` is told what is done next.
pub(super) fn library(path: &Path, number: u64, every_step: bool, say: &dyn Fn(&str)) -> Reached {
    say("read");
    let Ok(decoded) = format::read_proto(path, &ReadOptions::default()) else {
        return Reached::Refused;
    };
    let mut warnings = decoded.warnings;
    let Ok(mut model) = format::lift_noting(decoded.model, &decoded.origin.external, &mut warnings) else {
        return Reached::Refused;
    };
    say("check");
    let _ = analysis::adopt(&mut model);
    let valid = analysis::check(&model).is_ok();
    say("infer");
    let mut inferred = model.clone();
    analysis::infer(&mut inferred);
    say("conflicts");
    let conflicts = analysis::conflicts(&model);
    say("inspect");
    let listed = Listed {
        values: true,
        layers: true,
    };
    let facts = facts(&inferred, &decoded.origin, &Default::default(), listed);
    assert!(!table::facts(Style::Terminal, &facts).is_empty());
    say("diff");
    let _ = table::difference(&difference(&model, &inferred));
    say("print");
    if let Ok(message) = format::model_to_proto(&model, &format::ExternalFiles::default()) {
        let _ = print_model(
            &message,
            &PrintOptions {
                max_elements: Some(16),
            },
        );
    }
    say("save");
    if let Ok(message) = format::model_to_proto(&model, &decoded.origin.external) {
        let mut sink = Vec::new();
        let target = WriteTarget::Stream(&mut sink);
        let _ = format::write_proto(message, Some(&decoded.origin), target, &WriteOptions::default());
    }
    if !valid || !conflicts.is_empty() {
        return Reached::Checked;
    }
    for (at, (name, options)) in STEPS.iter().enumerate() {
        // Each step sees each kind of mutation; a few steps a model are enough for that.
        if !every_step && at as u64 % 6 != number % 6 {
            continue;
        }
        say(name);
        let options: serde_json::Value = serde_json::from_str(options).unwrap();
        let step = Step::new(name, options.as_object().cloned().unwrap()).unwrap();
        let run = RunOptions {
            evaluator: &TractEvaluator,
            engine: None,
            verify: VerifyOptions::default(),
            limits: Limits::default(),
            keep: Vec::new(),
            seed: number,
            provenance: true,
            macs: true,
            resources: None,
            progress: &|_, _, _| {},
            unchanged: Unchanged::Allowed,
            node_errors: false,
            cancel: None,
            reuse: None,
        };
        let pipeline = Pipeline::of(name, vec![step]);
        if let Ok(outcome) = pipeline::run(&pipeline, &model, &decoded.origin, &run) {
            say("save the result");
            let message = format::model_to_proto(&outcome.model, &decoded.origin.external).unwrap();
            let mut sink = Vec::new();
            let target = WriteTarget::Stream(&mut sink);
            let _ = format::write_proto(message, Some(&decoded.origin), target, &WriteOptions::default());
        }
    }
    Reached::All
}
