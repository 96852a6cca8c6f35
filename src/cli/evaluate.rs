//! `evaluate MODEL --data DATA`: how well a model does, how fast, and against which reference; `evaluate merge` adds up shards.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::failure::Failure;
use super::global::Global;
use super::model::Loaded;
use super::outputs::{MODEL, Outputs};
use super::progress::Progress;
use super::{Answer, engines, model, options, terminal};
use crate::analysis;
use crate::data::{Dataset, PreprocessSpec, Shard, Spec};
use crate::evaluate::{Checkpoint, EvaluateError, Figures, State, StateSubject, Task, names};
use crate::files::Draft;
use crate::pipeline::{Gate, GateReport, Judged, weigh_input};
use crate::report::evaluation;
use crate::report::table::{self, Style};

/// Measure a model on labelled data: accuracy, precision, recall, F1, latency, size
///
/// With --against, both models run on the same samples and are compared. Exit status 1 when a --gate is broken.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// The model; `-` is stdin
    #[arg(required = true)]
    model: Option<PathBuf>,
    /// The data: .npz, a folder of images or ONNX test sets, a description in YAML, as a file or in place
    #[arg(long, value_name = "DATA", required = true)]
    data: Option<String>,
    /// Compare with this model on the same samples
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,
    /// The array (or file, for images) that holds the labels
    #[arg(long, value_name = "ARRAY")]
    labels: Option<String>,
    /// Which array fills a model input
    #[arg(long = "input", value_name = "INPUT=ARRAY", value_parser = pair)]
    inputs: Vec<(String, String)>,
    /// How pixels become values: torchvision, efficientnet-lite, mnist, or fields in YAML
    #[arg(long, value_name = "PREPROCESS", value_parser = options::preprocess)]
    preprocess: Option<PreprocessSpec>,
    /// Use this many samples
    #[arg(long, value_name = "N")]
    samples: Option<u64>,
    /// Samples a run, where the model leaves it open
    #[arg(long, value_name = "N")]
    batch: Option<u64>,
    /// Use part I of N of the samples
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Keep the counts in this file: for `evaluate merge`, and to go on after an interruption
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The output that holds the predictions [default: the first]
    #[arg(long, value_name = "NAME")]
    output_name: Option<String>,
    /// A single score above this is class 1
    #[arg(long, value_name = "SCORE", default_value_t = 0.5)]
    threshold: f64,
    /// Timed runs; 0 leaves latency out
    #[arg(long, value_name = "N", default_value_t = 20)]
    latency_runs: usize,
    /// What must hold: accuracy.at-least=0.9, accuracy.drop=0.01, f1.drop=0.01, latency.at-most=0.6, size.at-most=0.3
    #[arg(long = "gate", value_name = "GATE", value_parser = gate)]
    gates: Vec<Gate>,
    /// Write a report, as JSON, Markdown or JUnit XML by its extension
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Add up the states of shards
    Merge {
        /// State files that `evaluate --state` wrote
        #[arg(required = true)]
        parts: Vec<PathBuf>,
        /// Write the merged state
        #[arg(long, value_name = "FILE")]
        state: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    figures: &'a Figures,
    engine: &'a str,
    gates: &'a [GateReport],
}

/// Reads `INPUT=ARRAY`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (input, array) = text.rsplit_once('=').ok_or("write INPUT=ARRAY")?;
    Ok((input.to_owned(), array.to_owned()))
}

/// Reads `NAME.KEY=VALUE`, the flag form of a gate.
fn gate(text: &str) -> Result<Gate, String> {
    let wrong = || format!("{text:?} is not a gate; write NAME.KEY=VALUE, for example accuracy.drop=0.005");
    let (path, value) = text.split_once('=').ok_or_else(wrong)?;
    let (name, key) = path.split_once('.').ok_or_else(wrong)?;
    let value: f64 = value.trim().parse().map_err(|_| wrong())?;
    let document = serde_json::json!({ name: { key: value } });
    serde_json::from_value(document).map_err(|error| format!("{text:?}: {error}"))
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Failure> {
    if let Some(Verb::Merge { parts, state }) = &arguments.verb {
        return merge(global, parts, state.as_deref());
    }
    let (Some(path), Some(data)) = (&arguments.model, &arguments.data) else {
        return Err(Failure::usage("a model and --data are needed"));
    };
    check_outputs(global, arguments, path, data)?;
    let engine = engines::engine(global)?;
    let mut loaded = model::read(global, path)?;
    let mut reference = arguments
        .against
        .as_deref()
        .map(|path| model::read(global, path))
        .transpose()?;
    analysis::infer(&mut loaded.model);
    if let Some(reference) = &mut reference {
        analysis::infer(&mut reference.model);
    }
    let (spec, base) = described(arguments, data)?;
    let dataset = Dataset::open(&spec, &base, &loaded.model.graph)?;
    let subject = StateSubject {
        model: digest(&loaded),
        reference: reference.as_ref().map(digest),
        data: dataset.digest().to_owned(),
        samples: dataset.samples(),
        engine: engine.name().to_owned(),
        output: arguments
            .output_name
            .clone()
            .or_else(|| names(&loaded.model).first().cloned())
            .unwrap_or_default(),
        batch: dataset.batch_size(),
    };
    let mut state = start(arguments.state.as_deref(), subject)?;
    let progress = Progress::new(global);
    let total = dataset.sample_range().end - dataset.sample_range().start;
    let task = Task {
        engine: &*engine,
        data: &dataset,
        output: arguments.output_name.clone(),
        threshold: arguments.threshold,
        jobs: global.threads(),
        latency_runs: arguments.latency_runs,
        progress: &|done| progress.tell("evaluate", done, Some(total)),
    };
    let mut write = |state: &State| match &arguments.state {
        Some(file) => state.write(file),
        None => Ok(()),
    };
    let checkpoint: Option<Checkpoint<'_>> = arguments.state.is_some().then_some(&mut write);
    let mut figures = task.figures(
        &loaded.model,
        reference.as_ref().map(|reference| &reference.model),
        &mut state,
        checkpoint,
    )?;
    drop(progress);
    let after = weigh_input(&loaded.model, &loaded.origin, true);
    let before = reference
        .as_ref()
        .map(|reference| weigh_input(&reference.model, &reference.origin, true));
    figures.bytes = Some(after.bytes);
    figures.parameters = Some(after.parameters);
    figures.macs = after.macs;
    if let (Some(against), Some(before)) = (&mut figures.against, &before) {
        against.bytes = Some(before.bytes);
    }
    let judged = Judged {
        before: before.unwrap_or(after),
        after,
        figures: Some(&figures),
        state: Some(&state),
        ..Judged::default()
    };
    let gates: Vec<GateReport> = arguments.gates.iter().map(|gate| gate.judge(&judged)).collect();
    show(global, &figures, engine.name(), &gates);
    if let Some(report) = &arguments.report {
        write_report(report, &figures, engine.name(), &gates, global.force)?;
    }
    Ok(if gates.iter().all(|gate| gate.passed) {
        Answer::Done
    } else {
        Answer::No
    })
}

/// Refuses files that must not be written before any work is done. A state file is there to be gone on with.
fn check_outputs(global: &Global, arguments: &Arguments, model: &Path, data: &str) -> Result<(), Failure> {
    let mut files = Outputs::new(global);
    files.reads(MODEL, model);
    if let Some(reference) = &arguments.against {
        files.reads("the model of --against", reference);
    }
    files.reads_data(data);
    if let Some(labels) = &arguments.labels {
        files.reads("the labels", Path::new(labels));
    }
    if let Some(state) = &arguments.state {
        files.continues("--state", state);
    }
    if let Some(report) = &arguments.report {
        if !matches!(
            report.extension().and_then(|e| e.to_str()),
            Some("json" | "md" | "xml")
        ) {
            return Err(Failure::usage("a report ends in .json, .md or .xml"));
        }
        files.writes("--report", report);
    }
    files.check()
}

/// The description that --data names, with what the flags add to it.
fn described(arguments: &Arguments, data: &str) -> Result<(Spec, PathBuf), Failure> {
    let (mut spec, base) = Spec::from_flag(data)?;
    if let Some(labels) = &arguments.labels {
        match &mut spec.images {
            Some(images) => {
                spec.labels = None;
                images.labels = Some(PathBuf::from(labels));
            }
            None => spec.labels = Some(labels.clone()),
        }
    } else if spec.npz.is_some() && spec.labels.is_none() && spec.inputs.is_empty() {
        // The usual name of labels beside `x`; a description file says it itself.
        let plain = Path::new(data)
            .extension()
            .is_some_and(|extension| extension == "npz");
        spec.labels = plain.then(|| "y".to_owned());
    }
    spec.inputs.extend(arguments.inputs.iter().cloned());
    if let Some(preprocess) = &arguments.preprocess {
        spec = spec.with_preprocess(preprocess.clone());
    }
    spec.samples = arguments.samples.or(spec.samples);
    spec.batch = arguments.batch.or(spec.batch);
    spec.shard = arguments.shard.or(spec.shard);
    Ok((spec, base))
}

fn digest(loaded: &Loaded) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&loaded.origin.bytes);
    for (location, file) in loaded.origin.external.iter() {
        hasher.update(location.as_bytes());
        hasher.update(&file.bytes);
    }
    hasher.finalize().to_hex().to_string()
}

/// The state of an interrupted run of the same subject, or a new one.
fn start(file: Option<&Path>, subject: StateSubject) -> Result<State, Failure> {
    let Some(file) = file.filter(|file| file.exists()) else {
        return Ok(State::new(subject));
    };
    let mut state = State::new(subject);
    state.merge(&State::read(file)?).map_err(|error| {
        Failure::from(error)
            .in_file(file)
            .hint("the state file is of another run; choose another file or remove it")
    })?;
    Ok(state)
}

fn merge(global: &Global, parts: &[PathBuf], target: Option<&Path>) -> Result<Answer, Failure> {
    let mut files = Outputs::new(global);
    parts.iter().for_each(|part| files.reads("a part", part));
    if let Some(target) = target {
        files.writes("--state", target);
    }
    files.check()?;
    let mut merged: Option<State> = None;
    for part in parts {
        let state = State::read(part)?;
        match &mut merged {
            Some(merged) => merged
                .merge(&state)
                .map_err(|error| Failure::from(error).in_file(part))?,
            None => merged = Some(state),
        }
    }
    let Some(state) = merged else {
        return Err(Failure::usage("there is nothing to merge"));
    };
    if let Some(target) = target {
        state.write(target)?;
    }
    let figures = Figures::of(&state);
    show(global, &figures, &state.subject.engine, &[]);
    if !global.json && state.samples() < state.subject.samples {
        terminal::note(&format!(
            "{} of {} samples are counted",
            state.samples(),
            state.subject.samples
        ));
    }
    Ok(Answer::Done)
}

fn show(global: &Global, figures: &Figures, engine: &str, gates: &[GateReport]) {
    if global.json {
        return terminal::json(&Document {
            figures,
            engine,
            gates,
        });
    }
    terminal::answer(&evaluation::table(Style::Terminal, figures));
    if !gates.is_empty() {
        terminal::answer(&table::gates(Style::Terminal, gates));
    }
}

fn write_report(
    path: &Path,
    figures: &Figures,
    engine: &str,
    gates: &[GateReport],
    force: bool,
) -> Result<(), Failure> {
    let text = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => serde_json::to_string_pretty(&Document {
            figures,
            engine,
            gates,
        })
        .map_err(|error| Failure::new("report", error.to_string()))?,
        Some("xml") => evaluation::junit(gates).map_err(|error| Failure::new("report", error))?,
        _ => evaluation::markdown(figures, gates),
    };
    Draft::write_file(path, text.as_bytes(), force).map_err(|source| {
        crate::format::FormatError::Write {
            path: path.to_owned(),
            source,
        }
        .into()
    })
}

impl From<EvaluateError> for Failure {
    fn from(error: EvaluateError) -> Self {
        match error {
            EvaluateError::Data(error) => error.into(),
            EvaluateError::Engine(error) => error.into(),
            EvaluateError::State { ref file, .. } => {
                let file = file.clone();
                Failure::new(error.code(), error.to_string()).in_file(&file)
            }
            EvaluateError::Output { ref output, .. } => {
                let output = output.clone();
                Failure::new(error.code(), error.to_string()).at_value(Some(output))
            }
            other => Failure::new(other.code(), other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_from_flags() {
        assert!(matches!(gate("accuracy.drop=0.005"), Ok(Gate::Accuracy(_))));
        assert!(matches!(gate("size.at-most=0.3"), Ok(Gate::Size(_))));
        for wrong in [
            "accuracy",
            "accuracy=1",
            "accuracy.dorp=1",
            "accurcy.drop=1",
            "size.at-most=x",
        ] {
            assert!(gate(wrong).is_err(), "{wrong}");
        }
    }
}
