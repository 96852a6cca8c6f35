//! `run PIPELINE MODEL`, and what the verbs of single steps share with it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::global::Global;
use super::options::{self, Comparing, Variable};
use super::progress::Progress;
use super::{Answer, family, model, outcome, terminal};
use crate::api::{Destination, Error, Found, Options, Pipeline, PreprocessSpec, of_run};

/// Run a pipeline on a model and write the result, if it is as good as the pipeline asks
///
/// The result is compared with the input model. Exit status 1, and nothing written, when a pipeline of exact and rounding steps
/// gives different outputs or when a gate is broken.
///
/// A pipeline with a `matrix` is run on each combination of it: -o and --report are templates then, as in 'out/${model}-${bits}.onnx', and
/// the exit status is the worst of all.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// A pipeline file, or the name of a preset
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,
    /// The model; `-` is stdin
    model: Option<PathBuf>,
    /// The value of a variable that the pipeline declares, or of an option of a step as STEP.OPTION=VALUE
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = options::variable)]
    variables: Vec<Variable>,
    #[command(flatten)]
    running: Running,
}

/// Options of everything that rewrites a model.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Running {
    /// Where the result goes; `-` is stdout
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Fix a dimension of the result, by symbol or as input[axis], or all of an input's (x=1,3,224,224); a name in the place of
    /// the size makes a batch of 1 free
    #[arg(long, value_name = "NAME=SIZE", value_parser = options::binding)]
    pub(super) bind: Vec<options::Binding>,
    /// Make constants of graph inputs that have a default, before the first step
    #[arg(long)]
    pub(super) constant_inputs: bool,
    /// Neither remove nor change nodes and values whose names match this regular expression
    #[arg(long, value_name = "PATTERN")]
    pub(super) keep: Vec<String>,
    /// Apply at most this many rewrites
    #[arg(long, value_name = "N")]
    pub(super) fuel: Option<u64>,
    /// Apply only rewrites that are this safe (exact, rounding, approximate), or only this rule or part of a step
    #[arg(long, value_name = "SAFETY|RULE")]
    pub(super) only: Vec<String>,
    /// Data for a role (calibration, evaluation, training), instead of the pipeline's: .npz, a folder of images or ONNX test sets,
    /// a description in YAML, as a file or in place, as in '{images: {folder: D}, preprocess: mnist}'
    #[arg(long, value_name = "[ROLE=]DATA")]
    pub(super) data: Vec<String>,
    /// How pixels of the data become values: a preset such as torchvision or yolo, or fields, as in '{crop: [224, 224], scale: 0.0039}';
    /// `bake` puts it into the model, too
    #[arg(long, value_name = "PREPROCESS", value_parser = PreprocessSpec::parse)]
    pub(super) preprocess: Option<PreprocessSpec>,
    /// Show what would be done and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Write nothing; exit with status 1 if anything would change
    #[arg(long)]
    pub(super) check: bool,
    /// Print the pipeline as YAML and do nothing else
    #[arg(long)]
    pub(super) print_pipeline: bool,
    /// Write a report: a page with the graphs, errors and gates (.html), JSON, Markdown or JUnit XML by its ending [may be given several times]
    #[arg(long, value_name = "FILE")]
    pub(super) report: Vec<PathBuf>,
    /// Write the result and exit with status 0 even if what was asked for changed nothing
    #[arg(long)]
    pub(super) allow_unchanged: bool,
    /// Do not record in the model where it comes from. Nothing is recorded, either, where that alone would make the file larger than the input
    #[arg(long)]
    pub(super) no_provenance: bool,
    #[command(flatten)]
    pub(super) comparing: Comparing,
}

impl Running {
    /// What these flags and those of every verb say. Nothing is written yet.
    pub(super) fn options(&self, global: &Global) -> Result<Options, Error> {
        let mut options = self.comparing.apply(global.options());
        options.bind = options::sizes_of(&self.bind);
        options.constant_inputs = self.constant_inputs;
        options.keep.clone_from(&self.keep);
        options.fuel = self.fuel;
        options.only.clone_from(&self.only);
        options.preprocess.clone_from(&self.preprocess);
        options.dry_run = self.dry_run;
        options.allow_unchanged = self.allow_unchanged || self.check;
        options.provenance = !self.no_provenance;
        options.reports.clone_from(&self.report);
        options.data.extend(options::data_of(&self.data)?);
        Ok(options)
    }
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    let variables = options::values_of(&arguments.variables)?;
    let (model, running) = (arguments.model.as_deref(), &arguments.running);
    match Found::find(&arguments.pipeline, &variables)? {
        Found::Alone(pipeline) => rewrite(global, &pipeline, model, running),
        Found::Family(found) => family::rewrite(global, &found, model, running),
    }
}

/// Runs a pipeline on a model as the options say, reports and writes.
pub(super) fn rewrite(
    global: &Global,
    pipeline: &Pipeline,
    input: Option<&Path>,
    running: &Running,
) -> Result<Answer, Error> {
    let mut options = running.options(global)?;
    let adjusted = pipeline.adjusted(&options)?;
    if running.print_pipeline {
        terminal::answer(&adjusted.to_yaml());
        return Ok(Answer::Done);
    }
    let input = input
        .ok_or_else(|| Error::usage("a model is needed").with_hint("secateur run PIPELINE MODEL -o OUT"))?;
    if running.dry_run || running.check {
        options.in_place = false;
    } else {
        options.output = model::output(global, input, running.output.as_deref())?;
        if options.output.is_none() {
            return Err(Error::usage("there is no output")
                .with_hint("choose one with -o FILE, or pass --in-place, --check or --dry-run"));
        }
    }
    let progress = Progress::new(global);
    let options = options.progress(progress.teller());
    let job = adjusted.job(&options);
    job.check_files(Some(input))?;
    let loaded = model::read(global, input)?;
    global.limit_threads();
    let outcome = job.run(&loaded)?;
    drop(progress);
    if let Some(form) = global.form() {
        let text = of_run(form, pipeline.name(), &loaded, &outcome.report)?;
        match options.output {
            Some(Destination::Stdout) => terminal::note(&text),
            _ => terminal::answer(&text),
        }
    } else if global.json {
        outcome::show(global, &outcome.report, options.output.as_ref(), running);
    } else {
        // People were told of the file when it was read.
        outcome::show(global, &outcome.own_report(), options.output.as_ref(), running);
    }
    let refused = !outcome.accepted() && !running.dry_run;
    Ok(
        if refused || running.check && (outcome.changed() || loaded.repaired) {
            Answer::No
        } else {
            Answer::Done
        },
    )
}
