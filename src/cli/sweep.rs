//! `sweep FILE`: many settings of a pipeline on several models, and which of them no other beats.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::global::Global;
use super::options::{self, Comparing};
use super::progress::Progress;
use super::{Answer, terminal};
use crate::api::{Error, Form, Options, Sweep, SweepReport};
use crate::report::sweep;
use crate::report::table::{Style, plain_words};

/// Run a pipeline with many settings on models, measure each result, and say which of them no other beats
///
/// Each point is computed once: its record lies in the folder under a digest of all that decides about it, so a sweep that was ended goes on
/// where it was, and a longer one computes what is new. Points that fail or are refused are recorded with their reason. Exit status 1: no point
/// was accepted. docs/sweep.md describes the file.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The sweep: models, a pipeline, what its variables are, how to search
    #[arg(value_name = "SWEEP")]
    sweep: PathBuf,
    /// The folder of the results, which may be that of an earlier run
    #[arg(short, long, value_name = "FOLDER", required_unless_present = "dry_run")]
    output: Option<PathBuf>,
    /// Data for a role (calibration, evaluation, training), instead of the sweep's
    #[arg(long, value_name = "[ROLE=]DATA")]
    data: Vec<String>,
    /// Keep the model of every point that was accepted, not of the front alone
    #[arg(long)]
    keep_models: bool,
    /// Compute points again that failed
    #[arg(long)]
    retry_failed: bool,
    /// List the points and compute nothing
    #[arg(long)]
    dry_run: bool,
    /// Write a report: a page with the front (.html), JSON or Markdown by its ending [may be given several times]
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    #[command(flatten)]
    comparing: Comparing,
}

impl Arguments {
    fn options(&self, global: &Global) -> Result<Options, Error> {
        let mut options = self.comparing.apply(global.options());
        options.reports.clone_from(&self.report);
        options.data.extend(options::data_of(&self.data)?);
        Ok(options)
    }
}

pub(super) fn execute(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    if let Some(Form::Github | Form::Junit) = global.form() {
        return Err(Error::usage("a sweep is answered as text, JSON or Markdown"));
    }
    let mut files = global.files();
    files.reads("the sweep", &arguments.sweep);
    let folder = arguments.output.iter().filter(|folder| !folder.is_dir());
    folder.for_each(|folder| files.writes("-o", folder));
    arguments
        .report
        .iter()
        .for_each(|report| files.writes("--report", report));
    files.check()?;
    let sweep = Sweep::open(&arguments.sweep)?;
    let progress = Progress::new(global);
    let options = arguments.options(global)?.progress(progress.teller());
    global.limit_threads();
    if arguments.dry_run {
        return list(global, arguments, &sweep, &options);
    }
    let folder = arguments
        .output
        .as_deref()
        .ok_or_else(|| Error::usage("a folder is needed: -o FOLDER"))?;
    let plan = sweep.plan(&options)?.retrying(arguments.retry_failed);
    let report = plan.run(folder, arguments.keep_models)?;
    drop(progress);
    show(global, &report);
    if global.quiet == 0 && !global.json {
        terminal::note(&format!("written: {}", folder.join("result.json").display()));
    }
    Ok(if report.front.is_empty() {
        Answer::No
    } else {
        Answer::Done
    })
}

/// The points, and whether the folder has them.
fn list(global: &Global, arguments: &Arguments, sweep: &Sweep, options: &Options) -> Result<Answer, Error> {
    let nowhere = PathBuf::new();
    let folder = arguments.output.as_ref().unwrap_or(&nowhere);
    let plan = sweep.plan(options)?.retrying(arguments.retry_failed);
    let points = plan.points(folder)?;
    if global.json {
        terminal::json(&json!({ "points": points }));
        return Ok(Answer::Done);
    }
    let rows = points.iter().map(|point| {
        let samples = point
            .samples
            .map_or_else(|| "all".to_owned(), |samples| samples.to_string());
        let done = if point.done { "there" } else { "to do" };
        vec![point.name.clone(), samples, done.to_owned(), point.id.clone()]
    });
    terminal::answer(&plain_words(
        Style::Terminal,
        &["point", "samples", "result", "id"],
        rows,
    ));
    Ok(Answer::Done)
}

fn show(global: &Global, report: &SweepReport) {
    if global.json {
        return terminal::json(report);
    }
    if global.form().is_some() {
        return terminal::answer(&sweep::markdown(report));
    }
    if global.quiet < 2 {
        for reason in sweep::reasons(report) {
            terminal::note(&reason);
        }
    }
    if global.quiet == 0 {
        terminal::answer(&format!("{}\n", sweep::points(Style::Terminal, report)));
        terminal::answer(&sweep::summary(report));
    }
}
