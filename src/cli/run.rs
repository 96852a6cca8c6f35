//! `run PIPELINE MODEL`, and what the verbs of single steps share with it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value};

use super::failure::Failure;
use super::global::Global;
use super::model::{self, Loaded, Output};
use super::options::{self, Comparing};
use super::progress::Progress;
use super::{Answer, engines, terminal, verify};
use crate::fold::TractEvaluator;
use crate::passes::{Limits, Safety};
use crate::pipeline::{
    self, Outcome, Pipeline, ROLES, RunOptions, RunReport, Step, StepResources, Unchanged, nearest, presets,
};
use crate::report::table::{self, Style};
use crate::report::{evaluation, markdown, sanitise};
use crate::verify::{Verdict, VerifyOptions};

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
    /// Fix a dimension of the result, by symbol or as input[axis]
    #[arg(long, value_name = "NAME=SIZE", value_parser = options::size)]
    pub(super) bind: Vec<(String, i64)>,
    /// Neither remove nor change nodes and values whose names match this regular expression
    #[arg(long, value_name = "PATTERN")]
    pub(super) keep: Vec<String>,
    /// Apply at most this many rewrites
    #[arg(long, value_name = "N")]
    pub(super) fuel: Option<u64>,
    /// Apply only rewrites that are this safe (exact, rounding, approximate), or only this rule or part of a step
    #[arg(long, value_name = "SAFETY|RULE")]
    pub(super) only: Vec<String>,
    /// Data for a role (calibration, evaluation, training), instead of the pipeline's
    #[arg(long, value_name = "[ROLE=]DATA")]
    pub(super) data: Vec<String>,
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
    rewrite(
        global,
        pipeline,
        arguments.model.as_deref(),
        &arguments.running,
        !global.no_verify,
        Unchanged::RefusedAltogether,
    )
}

/// The pipeline that an argument names: a file, or a preset.
pub(super) fn find(name: &Path) -> Result<Pipeline, Failure> {
    let text = name.to_string_lossy();
    let is_file = name.is_file() || name.components().count() > 1 || name.extension().is_some();
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
) -> Result<Answer, Failure> {
    adjust(global, &mut pipeline, running)?;
    if running.print_pipeline {
        terminal::answer(&pipeline.to_yaml());
        return Ok(Answer::Done);
    }
    let input = input.ok_or_else(|| Failure::usage("a model is needed"))?;
    let writes = !running.dry_run && !running.check;
    let output = if writes {
        model::output(global, input, running.output.as_deref())?
    } else {
        None
    };
    if writes && output.is_none() {
        return Err(Failure::usage("there is no output")
            .hint("choose one with -o FILE, or pass --in-place, --check or --dry-run"));
    }
    if let Some(report) = running
        .report
        .as_deref()
        .filter(|report| !global.force && report.exists())
    {
        return Err(crate::format::FormatError::OutputExists {
            path: report.to_owned(),
        }
        .into());
    }
    let loaded = model::read(global, input)?;
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
        verify: verify_options(global, &pipeline, running, &loaded)?,
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
        files,
    } = pipeline::run(&pipeline, &loaded.model, &loaded.origin, &run)?;
    drop(progress);
    if report.accepted
        && let Some(output) = &output
    {
        if let Some(file) = files.iter().find(|file| !global.force && file.path.exists()) {
            return Err(crate::format::FormatError::OutputExists {
                path: file.path.clone(),
            }
            .into());
        }
        model::write(global, output, &model, &loaded.origin, report.changed)?;
        report.output = Some(output.name());
        for file in &files {
            std::fs::write(&file.path, &file.text).map_err(|source| crate::format::FormatError::Write {
                path: file.path.clone(),
                source,
            })?;
        }
    }
    if let Some(path) = &running.report {
        write_report(path, &pipeline, &report, global.force)?;
    }
    show(global, &report, output.as_ref(), running);
    let refused = !report.accepted && !running.dry_run;
    Ok(if refused || running.check && report.changed {
        Answer::No
    } else {
        Answer::Done
    })
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
            *step = Step::new(&step.name, options)?;
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
        let sizes: Map<String, Value> = running
            .bind
            .iter()
            .map(|(name, size)| (name.clone(), (*size).into()))
            .collect();
        pipeline
            .steps
            .insert(0, Step::new("bind", pipeline::bind_options(sizes))?);
    }
    for text in &running.data {
        let (role, data) = match text.split_once('=') {
            Some((role, data)) if ROLES.contains(&role) => (role, data),
            _ => (sole_role(pipeline), text.as_str()),
        };
        pipeline.data.insert(
            role.to_owned(),
            Value::String(
                std::env::current_dir()
                    .unwrap_or_default()
                    .join(data)
                    .to_string_lossy()
                    .into_owned(),
            ),
        );
    }
    Ok(())
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

/// How the result is compared: on the evaluation data, if there is any, else on synthetic inputs.
fn verify_options(
    global: &Global,
    pipeline: &Pipeline,
    running: &Running,
    loaded: &Loaded,
) -> Result<VerifyOptions, Failure> {
    let mut options = running.comparing.verify_options(global);
    if let Some(described) = pipeline.data.get("evaluation") {
        options.data = Some(Arc::new(pipeline::open_data(
            described,
            &pipeline.base,
            &loaded.model.graph,
        )?));
    }
    Ok(options)
}

/// Prints the result: JSON, or tables for people. They go to stderr when the model itself goes to stdout.
fn show(global: &Global, report: &RunReport, output: Option<&Output>, running: &Running) {
    if global.json {
        return terminal::json(report);
    }
    if global.quiet == 0 {
        for warning in &report.warnings {
            terminal::note(&format!("warning: {}", lines(warning)));
        }
    }
    let say = |text: &str| {
        if output == Some(&Output::Stdout) {
            terminal::note(text)
        } else {
            terminal::answer(text)
        }
    };
    if global.quiet < 2 {
        if global.verbose > 0 {
            for step in &report.steps {
                step.notes
                    .iter()
                    .for_each(|note| terminal::note(&format!("{}: {}", step.name, sanitise(note))));
            }
        }
        if report.steps.len() > 1 || global.verbose > 0 || running.dry_run {
            say(&format!("{}\n", table::steps(Style::Terminal, report)));
        }
        if running.dry_run {
            for step in report.steps.iter().filter(|step| !step.nodes.is_empty()) {
                say(&format!("{}\n", table::planned(Style::Terminal, &step.nodes)));
            }
        }
        for account in report.steps.iter().filter_map(|step| step.transfer.as_ref()) {
            let all = global.verbose > 0;
            say(&format!(
                "{}\n",
                table::transferred(Style::Terminal, account, all)
            ));
        }
        say(&format!(
            "{}\n",
            table::weights(Style::Terminal, &report.before, &report.after)
        ));
        if let Some(verify) = report
            .verify
            .as_ref()
            .filter(|verify| verify.verdict != Verdict::Equal && !verify.outputs.is_empty())
        {
            say(&format!("{}\n", table::outputs(Style::Terminal, &verify.outputs)));
        }
        if !report.gates.is_empty() {
            say(&format!("{}\n", table::gates(Style::Terminal, &report.gates)));
        }
    }
    match &report.verify {
        Some(verify) => say(&table::verdict_line(verify)),
        None if !report.changed => say("verdict: equal (nothing to change)"),
        None => say("verdict: not-checked (not compared)"),
    }
    if let Some(culprit) = &report.culprit {
        say(&format!(
            "outputs differ from step {} on: {}",
            culprit.step, culprit.name
        ));
        if let Some(divergence) = &culprit.divergence {
            say(&verify::describe(divergence));
        }
    }
    match &report.output {
        Some(path) => say(&format!("written: {}", sanitise(path))),
        None if report.unchanged => say(
            "refused: nothing was written, as what was asked for changed nothing; --allow-unchanged takes it all the same",
        ),
        None if !report.accepted => say("refused: nothing was written"),
        None => {}
    }
}

/// Text of several lines, each made harmless.
fn lines(text: &str) -> String {
    text.lines().map(sanitise).collect::<Vec<_>>().join("\n")
}

fn write_report(path: &Path, pipeline: &Pipeline, report: &RunReport, force: bool) -> Result<(), Failure> {
    let text = match path.extension().and_then(|extension| extension.to_str()) {
        Some("md") => markdown::run(&format!("secateur: {}", pipeline.name), report),
        Some("xml") => evaluation::junit(&report.gates).map_err(|error| Failure::new("report", error))?,
        _ => {
            let failed = |error: serde_json::Error| Failure::new("report", error.to_string());
            serde_json::to_string_pretty(report).map_err(failed)? + "\n"
        }
    };
    let failed = |source| {
        Failure::from(crate::format::FormatError::Write {
            path: path.to_owned(),
            source,
        })
    };
    let mut options = std::fs::OpenOptions::new();
    let options = options
        .write(true)
        .create_new(!force)
        .create(force)
        .truncate(force);
    options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(failed)
}
