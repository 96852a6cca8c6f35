//! `plan JOB -o FOLDER`, `work FOLDER`, `merge FOLDER`: a job of several processes, on one machine or on many that share a folder.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::global::Global;
use super::progress::Progress;
use super::{Answer, evaluate, outcome, stats, terminal};
use crate::api::{Error, Made, Merged, Plan, Shard, Task};
use crate::report::sanitise;

/// Cut a job into tasks that several processes can do
///
/// A job collects statistics, evaluates a model or runs a pipeline. FOLDER/tasks.jsonl has a task a line, with the command that does it:
/// any scheduler that can start a command in a folder that all machines see can do them, in any order and any number of times. `merge`
/// joins the results, to the bytes that one process would have written.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The job, in YAML: `secateur schema job` says what it holds
    #[arg(value_name = "JOB")]
    job: PathBuf,
    /// The folder of the plan; one with the plan of the same job is gone on with
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
}

/// Do tasks of a plan
///
/// What is done already is not done again. Without --task and --part it does everything of the stage that is left.
#[derive(Clone, Debug, Args)]
pub(super) struct Work {
    /// The folder of the plan
    #[arg(value_name = "FOLDER")]
    plan: PathBuf,
    /// The task to do, by its name [may be given several times]
    #[arg(long = "task", value_name = "ID", conflicts_with = "part")]
    tasks: Vec<String>,
    /// Do part I of N of the tasks of the last stage, I counted from 0
    #[arg(long, value_name = "I/N")]
    part: Option<Shard>,
    /// The folder that paths of the job start from, where it is not the one that was planned in
    #[arg(long, value_name = "FOLDER")]
    base: Option<PathBuf>,
}

/// Join what the tasks of a plan found: to the result of the job, or to tasks of its next stage
///
/// Exit status 0: the result is written. 1: tasks are to be done first, or the result is refused.
#[derive(Clone, Debug, Args)]
pub(super) struct Merge {
    /// The folder of the plan
    #[arg(value_name = "FOLDER")]
    plan: PathBuf,
    /// The folder that paths of the job start from, where it is not the one that was planned in
    #[arg(long, value_name = "FOLDER")]
    base: Option<PathBuf>,
}

#[derive(Serialize)]
struct Planned<'a> {
    folder: String,
    tasks: usize,
    pending: Vec<&'a Task>,
}

#[derive(Serialize)]
struct Waiting<'a> {
    finished: bool,
    stage: u64,
    missing: &'a [String],
    new: usize,
}

pub(super) fn plan(global: &Global, arguments: &Arguments) -> Result<Answer, Error> {
    global.limit_threads();
    let progress = Progress::new(global);
    let options = global.options().progress(progress.teller());
    let plan = Plan::make(&arguments.job, &arguments.output, &options)?;
    drop(progress);
    let pending = plan.pending();
    if global.json {
        terminal::json(&Planned {
            folder: arguments.output.display().to_string(),
            tasks: plan.tasks().len(),
            pending,
        });
    } else if global.quiet == 0 {
        let folder = sanitise(&arguments.output.display().to_string());
        terminal::answer(&match plan.tasks().len() {
            0 => format!("{folder}: nothing of this job can be shared; `secateur merge {folder}` does it"),
            all => format!(
                "{folder}: {} of {all} tasks are to be done: `secateur work {folder}`",
                pending.len()
            ),
        });
    }
    Ok(Answer::Done)
}

/// The plan in a folder, with paths that start from `base` where one is given.
fn open(folder: &Path, base: Option<&PathBuf>) -> Result<Plan, Error> {
    let plan = Plan::open(folder)?;
    Ok(match base {
        Some(base) => plan.based(base),
        None => plan,
    })
}

pub(super) fn work(global: &Global, arguments: &Work) -> Result<Answer, Error> {
    global.limit_threads();
    let plan = open(&arguments.plan, arguments.base.as_ref())?;
    let stage = plan.tasks().last().map_or(0, |task| task.stage);
    let last: Vec<&str> = plan
        .tasks()
        .iter()
        .filter(|task| task.stage == stage)
        .map(|task| task.id.as_str())
        .collect();
    let chosen: Vec<&str> = match arguments.part {
        _ if !arguments.tasks.is_empty() => arguments.tasks.iter().map(String::as_str).collect(),
        Some(part) => last
            .into_iter()
            .skip(part.index as usize)
            .step_by(part.count as usize)
            .collect(),
        None => last,
    };
    let progress = Progress::new(global);
    let options = global.options().progress(progress.teller());
    let done = plan.work(&chosen, &options)?;
    drop(progress);
    if global.json {
        terminal::json(&done);
    } else if global.quiet == 0 {
        terminal::answer(&format!(
            "{} tasks done, {} were done before",
            done.done.len(),
            done.known.len()
        ));
    }
    Ok(Answer::Done)
}

pub(super) fn merge(global: &Global, arguments: &Merge) -> Result<Answer, Error> {
    global.limit_threads();
    let plan = open(&arguments.plan, arguments.base.as_ref())?;
    let progress = Progress::new(global);
    let options = global.options().progress(progress.teller());
    let merged = plan.merge(&options)?;
    drop(progress);
    Ok(match &merged {
        Merged::Made(made) => {
            show(global, &plan, made);
            if made.accepted() { Answer::Done } else { Answer::No }
        }
        Merged::Waiting { stage, missing, new } => {
            wait(global, &arguments.plan, *stage, missing, *new);
            Answer::No
        }
    })
}

fn show(global: &Global, plan: &Plan, made: &Made) {
    match made {
        Made::Stats(found) => stats::finish(global, found, &plan.output()),
        Made::Evaluation(found) => evaluate::show(global, &found.document()),
        Made::Model(made) => outcome::show(global, &made.own_report(), None, &super::run::Running::default()),
    }
}

fn wait(global: &Global, folder: &Path, stage: u64, missing: &[String], new: usize) {
    if global.json {
        terminal::json(&Waiting {
            finished: false,
            stage,
            missing,
            new,
        });
    } else if global.quiet < 2 {
        let folder = sanitise(&folder.display().to_string());
        let first: Vec<&str> = missing.iter().take(3).map(String::as_str).collect();
        let more = if missing.len() > first.len() { ", ..." } else { "" };
        terminal::note(&format!(
            "stage {stage}: {} tasks are to be done first ({}{more}): `secateur work {folder}`, then merge again",
            missing.len(),
            first.join(", ")
        ));
    }
}
