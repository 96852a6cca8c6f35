//! `sweep FILE`: many settings of a pipeline on several models, and which of them no other beats.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::global::Global;
use super::options::{self, Comparing};
use super::progress::Progress;
use super::{Answer, terminal};
use crate::api::{Error, Files, Form, Options, Sweep, SweepPoint, SweepReport};
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
    let mut files = global.files();
    files.reads("the sweep", &arguments.sweep);
    let running = Running {
        output: arguments.output.as_deref(),
        reports: &arguments.report,
        keep_models: arguments.keep_models,
        retry_failed: arguments.retry_failed,
        dry_run: arguments.dry_run,
    };
    running.execute(global, files, &|| arguments.options(global), &|| {
        Sweep::open(&arguments.sweep)
    })
}

/// How a sweep is run and shown, wherever it comes from.
pub(super) struct Running<'a> {
    pub(super) output: Option<&'a Path>,
    pub(super) reports: &'a [PathBuf],
    pub(super) keep_models: bool,
    pub(super) retry_failed: bool,
    pub(super) dry_run: bool,
}

impl Running<'_> {
    pub(super) fn execute(
        &self,
        global: &Global,
        mut files: Files,
        options: &dyn Fn() -> Result<Options, Error>,
        sweep: &dyn Fn() -> Result<Sweep, Error>,
    ) -> Result<Answer, Error> {
        if let Some(Form::Github | Form::Junit) = global.form() {
            return Err(Error::usage("a sweep is answered as text, JSON or Markdown"));
        }
        let fresh = self.output.iter().filter(|folder| !folder.is_dir());
        fresh.for_each(|folder| files.writes("-o", folder));
        self.reports
            .iter()
            .for_each(|report| files.writes("--report", report));
        files.check()?;
        let sweep = sweep()?;
        let progress = Progress::new(global);
        let options = options()?.progress(progress.teller());
        global.limit_threads();
        let plan = sweep.plan(&options)?.retrying(self.retry_failed);
        if self.dry_run {
            drop(progress);
            return list(global, &plan.points(self.output.unwrap_or(Path::new("")))?);
        }
        let folder = self
            .output
            .ok_or_else(|| Error::usage("a folder is needed: -o FOLDER"))?;
        let report = plan.run(folder, self.keep_models)?;
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
}

/// The points, and whether the folder has them.
fn list(global: &Global, points: &[SweepPoint]) -> Result<Answer, Error> {
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
