//! `run PIPELINE MODEL`, and what the verbs of single steps share with it.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use super::failure::Failure;
use super::global::Global;
use super::model;
use super::options::{self, Comparing};
use super::outputs::{MODEL, Outputs};
use super::progress::Progress;
use super::{Answer, engines, outcome, terminal};
use crate::data::{PreprocessSpec, Spec};
use crate::files::Draft;
use crate::fold::TractEvaluator;
use crate::passes::{Limits, Safety};
use crate::pipeline::{self, Outcome, Pipeline, ROLES, RunOptions, Step, StepResources, Unchanged, presets};
use crate::schema::nearest;

/// Run a pipeline on a model and write the result, if it is as good as the pipeline asks
///
/// The result is compared with the input model. Exit status 1, and nothing written, when a pipeline of exact and rounding steps
/// gives different outputs or when a gate is broken.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// A pipeline file, or the name of a preset
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,
    /// The model; `-` is stdin
    #[arg(required_unless_present = "print_pipeline")]
    model: Option<PathBuf>,
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
    /// How pixels of the data become values: torchvision, efficientnet-lite, mnist, or fields, as in '{crop: [224, 224], scale: 0.0039}'
    #[arg(long, value_name = "PREPROCESS", value_parser = options::preprocess)]
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
    /// Write a report, as JSON, Markdown or JUnit XML (the gates) by its extension
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Write the result and exit with status 0 even if what was asked for changed nothing
    #[arg(long)]
    pub(super) allow_unchanged: bool,
    /// Do not record in the model where it comes from
    #[arg(long)]
    pub(super) no_provenance: bool,
    #[command(flatten)]
    pub(super) comparing: Comparing,
}

/// The safety that a word names.
fn safety(text: &str) -> Option<Safety> {
    match text {
        "exact" => Some(Safety::Exact),
        "rounding" => Some(Safety::Rounding),
        "approximate" => Some(Safety::Approximate),
        _ => None,
    }
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Failure> {
    let pipeline = find(&arguments.pipeline)?;
    let mut files = Outputs::new(global);
    files.reads("the pipeline", &arguments.pipeline);
    rewrite(
        global,
        pipeline,
        arguments.model.as_deref(),
        &arguments.running,
        !global.no_verify,
        Unchanged::RefusedAltogether,
        files,
    )
}

/// The pipeline that an argument names: a file, or a preset.
pub(super) fn find(name: &Path) -> Result<Pipeline, Failure> {
    let text = name.to_string_lossy();
    let is_there = name.metadata().is_ok_and(|found| !found.is_dir());
    let is_file = is_there || name.components().count() > 1 || name.extension().is_some();
    if is_file {
        return Ok(pipeline::read(name)?);
    }
    match Pipeline::preset(&text) {
        Some(pipeline) => Ok(pipeline?),
        None => {
            let known = presets::names();
            let hint = match nearest(&text, known.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("presets are {}; a file ends in .yaml", known.join(", ")),
            };
            Err(Failure::new("unknown-preset", format!("there is no preset `{text}`")).hint(hint))
        }
    }
}

/// Runs a pipeline on a model as the options say, reports and writes.
pub(super) fn rewrite(
    global: &Global,
    mut pipeline: Pipeline,
    input: Option<&Path>,
    running: &Running,
    compare: bool,
    unchanged: Unchanged,
    mut files: Outputs,
) -> Result<Answer, Failure> {
    adjust(global, &mut pipeline, running)?;
    if running.print_pipeline {
        terminal::answer(&pipeline.to_yaml());
        return Ok(Answer::Done);
    }
    let input = input.ok_or_else(|| Failure::usage("a model is needed"))?;
    let writes = !running.dry_run && !running.check;
    files.reads(MODEL, input);
    let output = if writes {
        model::output(global, input, running.output.as_deref(), &mut files)?
    } else {
        None
    };
    if writes && output.is_none() {
        return Err(Failure::usage("there is no output")
            .hint("choose one with -o FILE, or pass --in-place, --check or --dry-run"));
    }
    if let Some(report) = &running.report {
        files.writes("--report", report);
    }
    files.pipeline(&pipeline, writes);
    files.check()?;
    let loaded = model::read(global, input)?;
    pipeline.check_data(&loaded.model.graph)?;
    let compare = compare && !running.dry_run;
    let needs_engine = pipeline.steps.iter().any(|step| step.pass.about().needs.runs());
    let engine = if compare || needs_engine {
        Some(engines::engine(global)?)
    } else {
        None
    };
    let progress = Progress::new(global);
    let tell = |what: &str, done: u64, total: Option<u64>| progress.tell(what, done, total);
    global.limit_threads();
    let resources = StepResources {
        engine: engine.as_deref(),
        data: &pipeline.data,
        base: &pipeline.base,
        original: Some(&loaded.model),
        jobs: global.threads(),
        strict: global.strict,
    };
    let run = RunOptions {
        evaluator: &TractEvaluator,
        engine: engine.as_deref().filter(|_| compare),
        verify: running.comparing.options_for(global, &loaded.model)?,
        limits: Limits {
            max_growth: global.max_growth,
            fuel: running.fuel,
            ..Limits::default()
        },
        keep: running.keep.clone(),
        seed: global.seed,
        provenance: !running.no_provenance,
        resources: Some(&resources),
        progress: &tell,
        unchanged: if running.allow_unchanged || !writes {
            Unchanged::Allowed
        } else {
            unchanged
        },
    };
    let Outcome {
        model,
        mut report,
        files: beside,
    } = pipeline::run(&pipeline, &loaded.model, &loaded.origin, &run)?;
    drop(progress);
    if report.accepted
        && let Some(output) = &output
    {
        let written = model::write(global, output, &model, &loaded, report.changed)?;
        report.output = Some(output.name());
        report.files = written.files;
        report.warnings.extend(written.notes);
        for file in &beside {
            Draft::write_file(&file.path, &file.content, global.force).map_err(|source| {
                crate::format::FormatError::Write {
                    path: file.path.clone(),
                    source,
                }
            })?;
            report.files.push(file.path.display().to_string());
        }
    }
    let mut whole = report.clone();
    whole.warnings.splice(0..0, loaded.warnings.iter().cloned());
    if let Some(path) = &running.report {
        outcome::write_report(path, &pipeline, &whole, global.force)?;
    }
    // People were told of the file when it was read.
    let shown = if global.json { &whole } else { &report };
    outcome::show(global, shown, output.as_ref(), running);
    let refused = !report.accepted && !running.dry_run;
    Ok(
        if refused || running.check && (report.changed || loaded.repaired) {
            Answer::No
        } else {
            Answer::Done
        },
    )
}

/// Applies what the command line says to the pipeline: sizes, rules, safety, data.
pub(super) fn adjust(global: &Global, pipeline: &mut Pipeline, running: &Running) -> Result<(), Failure> {
    let set = |step: &mut Step, option: &str, value: Value| -> Result<(), Failure> {
        if pipeline::option_names(&step.name)
            .iter()
            .any(|name| name == option)
        {
            let mut options = step.options.clone();
            options.insert(option.to_owned(), value);
            *step = Step {
                spot: step.spot,
                ..Step::new(&step.name, options)?
            };
        }
        Ok(())
    };
    if !global.rule_folders.is_empty() {
        // Folders on the command line are relative to the working directory, not to the pipeline's file.
        let here = std::env::current_dir().unwrap_or_default();
        let folders: Vec<Value> = global
            .rule_folders
            .iter()
            .map(|folder| here.join(folder).to_string_lossy().into_owned().into())
            .collect();
        for step in &mut pipeline.steps {
            set(step, "rules", Value::Array(folders.clone()))?;
        }
    }
    let names: Vec<&String> = running
        .only
        .iter()
        .filter(|word| safety(word).is_none())
        .collect();
    if !names.is_empty() {
        let takes = |step: &Step| {
            pipeline::option_names(&step.name)
                .iter()
                .any(|option| option == "only")
        };
        if !pipeline.steps.iter().any(takes) {
            let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
            return Err(Failure::usage(&format!(
                "--only {}: no step has single rules or parts to choose from",
                names.join(", ")
            ))
            .hint(
                "--only takes exact, rounding or approximate, or with `simplify` the name of a rule or part",
            ));
        }
        for step in &mut pipeline.steps {
            set(step, "only", names.iter().map(|name| (*name).clone()).collect())?;
        }
    }
    if let Some(allowed) = running.only.iter().filter_map(|word| safety(word)).min() {
        for step in &mut pipeline.steps {
            set(step, "safety", serde_json::to_value(allowed).unwrap_or_default())?;
        }
        if let Some(step) = pipeline
            .steps
            .iter()
            .find(|step| step.pass.about().safety > allowed)
        {
            let message = format!("step `{}` is not as safe as --only asks", step.name);
            return Err(Failure::new("not-safe-enough", message));
        }
    }
    if !running.bind.is_empty() {
        let sizes = options::sizes_of(&running.bind);
        pipeline
            .steps
            .insert(0, Step::new("bind", pipeline::bind_options(sizes))?);
    }
    if running.constant_inputs {
        pipeline.steps.insert(0, Step::new("bind-defaults", Map::new())?);
    }
    let here = std::env::current_dir().unwrap_or_default();
    for text in &running.data {
        let (role, data) = match text.split_once('=') {
            Some((role, data)) if ROLES.contains(&role) => (role, data),
            _ => (sole_role(pipeline), text.as_str()),
        };
        let described = if Spec::is_inline(data) {
            let (spec, base) = Spec::from_flag(data)?;
            written(&spec.rooted(&here.join(base)))
        } else {
            Value::String(here.join(data).to_string_lossy().into_owned())
        };
        pipeline.data.insert(role.to_owned(), described);
    }
    if let Some(preprocess) = &running.preprocess {
        if pipeline.data.is_empty() {
            return Err(
                Failure::usage("--preprocess says how data become inputs, and there are none")
                    .hint("describe them under `data` in the pipeline or with --data ROLE=DATA"),
            );
        }
        let base = pipeline.base.clone();
        for described in pipeline.data.values_mut() {
            let (spec, base) = pipeline::describe_data(described, &base)?;
            *described = written(&spec.rooted(&base).with_preprocess(preprocess.clone()));
        }
    }
    Ok(())
}

/// A description as the pipeline has it.
fn written(spec: &Spec) -> Value {
    serde_json::to_value(spec).unwrap_or_default()
}

/// The role of data without one: what the steps need, else evaluation.
fn sole_role(pipeline: &Pipeline) -> &'static str {
    let needs = |role: fn(&crate::passes::Needs) -> bool| {
        pipeline.steps.iter().any(|step| role(&step.pass.about().needs))
    };
    match (needs(|needs| needs.calibration), needs(|needs| needs.training)) {
        (true, false) => "calibration",
        (false, true) => "training",
        _ => "evaluation",
    }
}
