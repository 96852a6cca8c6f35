//! `evaluate MODEL --data DATA`: how well a model does, how fast, and against which reference; `evaluate merge` adds up shards.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::global::Global;
use super::progress::Progress;
use super::{Answer, model, terminal};
use crate::api::{
    self, Data, Error, EvaluationDocument, Figures, Gate, Measuring, PreprocessSpec, Shard, check_evaluation,
    check_parts, merged_states, of_measurement,
};
use crate::report::table::{self, Style};
use crate::report::{evaluation, pictures, sanitise};

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
    /// The array (or file, for images and boxes) that holds the labels; `reference`: what the model of --against answers is true
    #[arg(long, value_name = "ARRAY")]
    labels: Option<String>,
    /// What the model is judged by: classification, regression, detection, keypoints [default: classes or values, boxes for a COCO file]
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// How boxes are read from the outputs: a layout (`secateur explain data` lists them), or fields in YAML [default: by the outputs' shapes]
    #[arg(long, value_name = "LAYOUT")]
    boxes: Option<String>,
    /// Which array fills a model input
    #[arg(long = "input", value_name = "INPUT=ARRAY", value_parser = pair)]
    inputs: Vec<(String, String)>,
    /// How pixels become values: a preset such as torchvision or yolo, or fields in YAML
    #[arg(long, value_name = "PREPROCESS", value_parser = PreprocessSpec::parse)]
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
    /// What must hold: accuracy.at-least=0.9, accuracy.drop=0.01, f1.drop=0.01, map.drop=0.005, found.at-least=0.97, latency.at-most=0.6, size.at-most=0.3, or in YAML with a confidence, '{map: {drop: 0.005, confidence: 0.95}}'
    #[arg(long = "gate", value_name = "GATE")]
    gates: Vec<Gate>,
    /// Draw the N images on which the model is furthest from the reference, or from the truth, with both models' boxes
    #[arg(long, value_name = "N")]
    show: Option<usize>,
    /// The folder that the pictures of --show go to
    #[arg(long, value_name = "FOLDER", default_value = "worst", requires = "show")]
    show_folder: PathBuf,
    /// Write a report: a page with pictures (.html), JSON, Markdown or JUnit XML by its ending [may be given several times]
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
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

/// Reads `INPUT=ARRAY`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (input, array) = text.rsplit_once('=').ok_or("write INPUT=ARRAY")?;
    Ok((input.to_owned(), array.to_owned()))
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    if let Some(Verb::Merge { parts, state }) = &arguments.verb {
        return merge(global, parts, state.as_deref());
    }
    let (Some(path), Some(data)) = (&arguments.model, &arguments.data) else {
        return Err(Error::usage("a model and --data are needed"));
    };
    let progress = Progress::new(global);
    let mut options = global.options().progress(progress.teller());
    options.data.push((None, described(arguments, data)?));
    options.reports.clone_from(&arguments.report);
    options.evaluation = Measuring {
        against: None,
        output: arguments.output_name.clone(),
        threshold: arguments.threshold,
        latency_runs: arguments.latency_runs,
        gates: arguments.gates.clone(),
        state: arguments.state.clone(),
        show: arguments.show.map(|count| (count, arguments.show_folder.clone())),
    };
    check_evaluation(&options, Some(path), arguments.against.as_deref())?;
    global.limit_threads();
    let loaded = model::read(global, path)?;
    if let Some(path) = &arguments.against {
        options.evaluation.against = Some(model::read(global, path)?);
    }
    let found = api::evaluate(&loaded, &options)?;
    drop(progress);
    match global.form() {
        Some(form) => terminal::answer(&of_measurement(form, &found, &loaded)?),
        None => show(global, &found.document()),
    }
    Ok(if found.accepted() {
        Answer::Done
    } else {
        Answer::No
    })
}

/// The data that --data names, with what the flags add to them.
fn described(arguments: &Arguments, data: &str) -> Result<Data, Error> {
    let (_, mut data) = Data::flag(data)?;
    if let Some(labels) = &arguments.labels {
        data = data.labels(labels);
    }
    if let Some(task) = &arguments.task {
        data = data.task(task)?;
    }
    if let Some(boxes) = &arguments.boxes {
        data = data.boxes(boxes)?;
    }
    for (input, array) in &arguments.inputs {
        data = data.input(input, array);
    }
    if let Some(preprocess) = &arguments.preprocess {
        data = data.preprocessed(preprocess.clone());
    }
    if let Some(samples) = arguments.samples {
        data = data.samples(samples);
    }
    if let Some(batch) = arguments.batch {
        data = data.batch(batch);
    }
    Ok(match arguments.shard {
        Some(shard) => data.sharded(shard),
        None => data,
    })
}

fn merge(global: &Global, parts: &[PathBuf], target: Option<&Path>) -> Result<Answer, Error> {
    check_parts(global.files(), parts, target.map(|target| ("--state", target)))?;
    let state = merged_states(parts)?;
    if let Some(target) = target {
        state.write(target)?;
    }
    let figures = Figures::of(&state);
    show(
        global,
        &EvaluationDocument {
            figures: &figures,
            engine: &state.subject.engine,
            gates: &[],
            pictures: &[],
        },
    );
    if !global.json && state.samples() < state.subject.samples {
        terminal::note(&format!(
            "{} of {} samples are counted",
            state.samples(),
            state.subject.samples
        ));
    }
    Ok(Answer::Done)
}

pub(super) fn show(global: &Global, document: &EvaluationDocument<'_>) {
    if global.json {
        return terminal::json(document);
    }
    terminal::answer(&evaluation::table(Style::Terminal, document.figures));
    if !document.gates.is_empty() {
        terminal::answer(&table::gates(Style::Terminal, document.gates));
    }
    if !document.pictures.is_empty() {
        let files: Vec<String> = document.pictures.iter().map(|path| sanitise(path)).collect();
        terminal::answer(&format!("drawn ({}): {}", pictures::LEGEND, files.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_from_flags() {
        let gate = |text: &str| text.parse::<Gate>();
        assert!(matches!(gate("accuracy.drop=0.005"), Ok(Gate::Accuracy(_))));
        assert!(matches!(gate("size.at-most=0.3"), Ok(Gate::Size(_))));
        assert!(matches!(gate("{size: {at-most: 0.3}}"), Ok(Gate::Size(_))));
        let near = gate("accurcy.drop=1").unwrap_err().to_string();
        assert!(near.contains("accuracy"), "{near}");
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
