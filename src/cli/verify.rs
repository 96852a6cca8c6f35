//! `verify REFERENCE MODEL`: do both compute the same?

use std::path::PathBuf;

use clap::Args;

use super::global::Global;
use super::options::Comparing;
use super::progress::Progress;
use super::{Answer, model, terminal};
use crate::api::{
    self, Data, Error, NodeOptions, PreprocessSpec, Verdict, Verification, check_comparison, of_comparison,
};
use crate::report::table::Style;

/// Compare the outputs of two models on the same inputs
///
/// Without data, inputs are made from the model itself: free dimensions at two sizes, indices and masks as the model uses them,
/// floats normal and adversarial. Exit status 0: equal, or within the tolerance. 1: different, or not checked.
///
/// With --per-node a quantized model is judged node by node instead: each node gets the values that the reference computes, and
/// its error is reported as SQNR; and each node runs in tract and in ONNX Runtime (ORT_DYLIB_PATH, or an installed wheel) on the
/// same inputs, where more than one code of difference is `different`. Exit status 0: every node holds. 1: one does not, or
/// nothing could be compared; the figures of the whole model are reported and not judged.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The model that is right; `-` is stdin
    reference: PathBuf,
    /// The model to judge
    model: PathBuf,
    #[command(flatten)]
    comparing: Comparing,
    /// Compare on this data (.npz, a folder of ONNX test sets or images, a description in YAML) instead of synthetic inputs
    #[arg(long, value_name = "DATA")]
    data: Option<String>,
    /// How pixels of the data become values: a preset such as torchvision or yolo, or fields in YAML
    #[arg(long, value_name = "PREPROCESS", value_parser = PreprocessSpec::parse, requires = "data")]
    preprocess: Option<PreprocessSpec>,
    /// An input or output of the reference and what stands for it in the model, by name or position; what has the same name, and
    /// the only one of each, needs none
    #[arg(long, value_name = "OLD=NEW", value_parser = pair)]
    map: Vec<(String, String)>,
    /// Name the first node that differs
    #[arg(long)]
    localize: bool,
    /// Judge each node alone, on inputs that the reference computes, and the agreement of tract and ONNX Runtime on it
    #[arg(long, conflicts_with = "localize")]
    per_node: bool,
    /// With --per-node: how many of the worst nodes are listed
    #[arg(long, value_name = "N", default_value_t = 10, requires = "per_node")]
    worst: usize,
    /// With --per-node: the lowest signal-to-quantization-noise ratio in decibels that a node may have
    #[arg(long, value_name = "DB", requires = "per_node")]
    node_sqnr: Option<f64>,
    /// Write a report: a page with the graphs and where they differ (.html), JSON, Markdown or JUnit XML by its ending [may be given several times]
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// Exit with status 0 also for what could not be checked
    #[arg(long)]
    allow_not_checked: bool,
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let progress = Progress::new(global);
    let mut options = arguments
        .comparing
        .apply(global.options())
        .localize(arguments.localize)
        .progress(progress.teller());
    options.comparison.map.clone_from(&arguments.map);
    options.comparison.per_node = arguments.per_node.then(|| NodeOptions {
        worst: arguments.worst,
        least_sqnr: arguments.node_sqnr,
        ..NodeOptions::default()
    });
    options.reports.clone_from(&arguments.report);
    options.preprocess.clone_from(&arguments.preprocess);
    if let Some(text) = &arguments.data {
        options.data.push((None, Data::flag(text)?.1));
    }
    check_comparison(&options, Some(&arguments.reference), Some(&arguments.model))?;
    global.limit_threads();
    let reference = model::read(global, &arguments.reference)?;
    let judged = model::read(global, &arguments.model)?;
    let found = api::verify(&reference, &judged, &options)?;
    drop(progress);
    match global.form() {
        Some(form) => terminal::answer(&of_comparison(form, &found, (&reference, &judged))?),
        None => show(global, arguments, &found),
    }
    Ok(match found.verdict() {
        Verdict::Equal | Verdict::Within => Answer::Done,
        Verdict::NotChecked if arguments.allow_not_checked => Answer::Done,
        Verdict::NotChecked | Verdict::Different => Answer::No,
    })
}

fn show(global: &Global, arguments: &Arguments, found: &Verification) {
    let Verification {
        report, divergence, ..
    } = found;
    if global.json {
        terminal::json(found);
    } else if global.quiet == 0 {
        terminal::answer(&found.to_text(Style::Terminal));
        if divergence.is_none()
            && arguments.localize
            && report.verdict == Verdict::Different
            && report.reason.is_none()
        {
            terminal::answer("no value that both models name differs before the outputs");
        }
    }
}

/// Reads `OLD=NEW`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("write OLD=NEW, for example logits=scores or 0=1".to_owned()),
    }
}
