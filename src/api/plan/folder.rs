//! The folder of a plan: `plan.json` with the job, `tasks.jsonl` with a task a line, and `parts` with the results.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::error::Error;
use super::super::save::write_file;
use super::job::Job;
use crate::files::read_text;
use crate::parts::Task;

/// Version of the plan's format.
const FORMAT: u32 = 1;
const PLAN: &str = "plan.json";
const TASKS: &str = "tasks.jsonl";
const PARTS: &str = "parts";

/// Where a plan is.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Planned {
    plan: u32,
    version: String,
    base: PathBuf,
    job: Job,
}

impl Planned {
    fn text(job: &Job, base: &Path) -> String {
        let planned = Self {
            plan: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            base: base.to_owned(),
            job: job.clone(),
        };
        serde_json::to_string_pretty(&planned).unwrap_or_default() + "\n"
    }
}

impl Folder {
    /// The folder of a new plan, or of one of the same job, which is gone on with. Nothing is written yet.
    pub(super) fn begin(folder: &Path, job: &Job, base: &Path) -> Result<Self, Error> {
        let file = folder.join(PLAN);
        if file.exists() {
            let there = read_text(&file).map_err(|error| unreadable(&file, &error.to_string()))?;
            if there == Planned::text(job, base) {
                return Ok(Self(folder.to_owned()));
            }
            let message = format!(
                "{}: it holds the plan of another job, or of another release",
                folder.display()
            );
            return Err(Error::new("plan-other", message)
                .in_file(&file)
                .with_hint("choose another folder, or remove this one"));
        }
        Ok(Self(folder.to_owned()))
    }

    /// Writes what the plan is of, once its tasks are there.
    pub(super) fn write_job(&self, job: &Job, base: &Path) -> Result<(), Error> {
        self.make()?;
        write_file(&self.0.join(PLAN), Planned::text(job, base).as_bytes(), true)
    }

    fn make(&self) -> Result<(), Error> {
        let made = std::fs::create_dir_all(self.0.join(PARTS));
        made.map_err(|error| {
            Error::new("write-failed", format!("{}: {error}", self.0.display())).in_file(&self.0)
        })
    }

    /// The plan in a folder.
    pub(super) fn open(folder: &Path) -> Result<(Self, Job, PathBuf), Error> {
        let file = folder.join(PLAN);
        let text = read_text(&file).map_err(|error| {
            unreadable(
                &file,
                &format!("there is no plan in {}: {error}", folder.display()),
            )
        })?;
        let planned: Planned =
            serde_json::from_str(&text).map_err(|error| unreadable(&file, &error.to_string()))?;
        if planned.plan != FORMAT || planned.version != env!("CARGO_PKG_VERSION") {
            let message = format!(
                "{}: planned by release {}, and this is {}: results of releases do not mix",
                file.display(),
                planned.version,
                env!("CARGO_PKG_VERSION")
            );
            return Err(Error::new("plan", message)
                .in_file(&file)
                .with_hint("plan again, in another folder"));
        }
        Ok((Self(folder.to_owned()), planned.job, planned.base))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The file of the tasks.
    pub(super) fn list(&self) -> PathBuf {
        self.0.join(TASKS)
    }

    /// The tasks that are planned.
    pub(super) fn tasks(&self) -> Result<Vec<Task>, Error> {
        let file = self.list();
        if !file.exists() {
            return Ok(Vec::new());
        }
        let text = read_text(&file).map_err(|error| unreadable(&file, &error.to_string()))?;
        let read = |(at, line): (usize, &str)| {
            serde_json::from_str(line)
                .map_err(|error| unreadable(&file, &format!("line {}: {error}", at + 1)))
        };
        text.lines().enumerate().map(read).collect()
    }

    pub(super) fn write_tasks(&self, tasks: &[Task]) -> Result<(), Error> {
        let lines: Vec<String> = tasks
            .iter()
            .map(|task| serde_json::to_string(task).unwrap_or_default() + "\n")
            .collect();
        self.make()?;
        write_file(&self.list(), lines.concat().as_bytes(), true)
    }

    /// Keys of the results that are there.
    pub(super) fn done(&self) -> HashSet<String> {
        let entries = std::fs::read_dir(self.0.join(PARTS)).into_iter().flatten();
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect()
    }
}

fn unreadable(file: &Path, reason: &str) -> Error {
    Error::new("plan", format!("{}: {reason}", file.display())).in_file(file)
}
