//! Work for several processes: planned, done in tasks that any scheduler can start, and joined to the bytes of one process.

mod folder;
mod job;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use self::folder::Folder;
use self::job::Job;
pub use self::job::Made;
use super::error::Error;
use super::options::Options;
pub use crate::parts::Task;
use crate::parts::{Ledger, Own};

/// The code of an error that says that parts are missing.
const WAITING: &str = "parts-waiting";

/// A job that is cut into tasks, in a folder that all processes see.
///
/// [`Plan::make`] writes the tasks that can be done now. Each is done by [`Plan::work`] in any process, in any order and any number of
/// times; what is done already is not done again. [`Plan::merge`] joins the results: to that of the job, with the bytes that one
/// process would have written, or to the tasks of the next stage, where the work goes on from what was found.
///
/// # Examples
///
/// ```
/// use secateur::{Merged, Options, Plan};
/// # let folder = tempfile::tempdir().unwrap();
/// # let here = std::env::current_dir().unwrap();
/// let job = folder.path().join("job.yaml");
/// std::fs::write(&job, format!(
///     "{{job: stats, for: gram, model: {0}/fixtures/digits_mlp.onnx, parts: 2, output: gram.safetensors,
///       data: {{calibration: {{npz: {0}/fixtures/data/digits_calib.npz, samples: 32}}}}}}", here.display()
/// )).unwrap();
/// let options = Options::new();
/// let plan = Plan::make(&job, folder.path().join("plan"), &options)?;
/// assert_eq!(plan.pending().len(), 2);
/// for task in plan.pending() {
///     plan.work(&[task.id.as_str()], &options)?;
/// }
/// assert!(matches!(plan.merge(&options)?, Merged::Made(_)));
/// assert!(folder.path().join("gram.safetensors").is_file());
/// # Ok::<(), secateur::Error>(())
/// ```
#[derive(Debug)]
pub struct Plan {
    folder: Folder,
    job: Job,
    /// The folder that paths of the job start from.
    base: PathBuf,
    tasks: Vec<Task>,
}

/// What [`Plan::merge`] came to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Merged {
    /// The result of the job, which is written.
    Made(Made),
    /// Tasks have to be done first.
    Waiting {
        /// The stage that they belong to, from 1.
        stage: u64,
        /// Their names.
        missing: Vec<String>,
        /// How many of them were not planned before.
        new: usize,
    },
}

/// What [`Plan::work`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Worked {
    /// Tasks that were done.
    pub done: Vec<String>,
    /// Tasks that were done before.
    pub known: Vec<String>,
}

impl Plan {
    /// Reads a job and plans its first stage in `folder`; a folder with the plan of the same job is gone on with.
    ///
    /// # Errors
    ///
    /// `plan` with the place in the file for a job that is none, `plan-other` where the folder holds another plan, and what keeps the
    /// job itself from being done.
    ///
    /// # Examples
    ///
    /// See [`Plan`].
    pub fn make(job: impl AsRef<Path>, folder: impl AsRef<Path>, options: &Options) -> Result<Self, Error> {
        let path = job.as_ref();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Self::make_based(path, parent.unwrap_or(Path::new(".")), folder, options)
    }

    /// The same for a job whose paths start from `base`, and not from its own folder.
    ///
    /// # Errors
    ///
    /// As [`Plan::make`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let plan = secateur::Plan::make_based("/tmp/job.yaml", ".", "plan", &secateur::Options::new())?;
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn make_based(
        job: impl AsRef<Path>,
        base: impl AsRef<Path>,
        folder: impl AsRef<Path>,
        options: &Options,
    ) -> Result<Self, Error> {
        let (path, folder) = (job.as_ref(), folder.as_ref());
        let mut files = options.files();
        files.reads("the job", path);
        if !folder.is_dir() {
            files.writes("-o", folder);
        }
        files.check()?;
        let job = Job::read(path)?;
        let base = std::path::absolute(base).map_err(|error| {
            Error::new("read-failed", format!("{}: {error}", path.display())).in_file(path)
        })?;
        let folder = Folder::begin(folder, &job, &base)?;
        let mut plan = Self {
            tasks: folder.tasks()?,
            folder,
            job,
            base,
        };
        plan.advance(options, false)?;
        plan.folder.write_job(&plan.job, &plan.base)?;
        Ok(plan)
    }

    /// Reads a plan from its folder.
    ///
    /// # Errors
    ///
    /// `plan` where there is none, or one of another release.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(secateur::Plan::open("nowhere").unwrap_err().code(), "plan");
    /// ```
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, Error> {
        let (folder, job, base) = Folder::open(folder.as_ref())?;
        Ok(Self {
            tasks: folder.tasks()?,
            folder,
            job,
            base,
        })
    }

    /// The same plan where paths of the job start from another folder: where that is mounted elsewhere.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// let plan = secateur::Plan::open("/mnt/shared/plan")?.based("/mnt/shared");
    /// # Ok::<(), secateur::Error>(())
    /// ```
    #[must_use]
    pub fn based(mut self, base: impl AsRef<Path>) -> Self {
        base.as_ref().clone_into(&mut self.base);
        self
    }

    /// Where the result of the job goes, as seen from the working directory.
    pub(crate) fn output(&self) -> PathBuf {
        let path = self.base.join(&self.job.output);
        let here = std::env::current_dir().unwrap_or_default();
        path.strip_prefix(here).map(Path::to_owned).unwrap_or(path)
    }

    /// Every task of the stages so far.
    ///
    /// # Examples
    ///
    /// See [`Plan`].
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The tasks that are not done.
    ///
    /// # Examples
    ///
    /// See [`Plan`].
    pub fn pending(&self) -> Vec<&Task> {
        let done = self.folder.done();
        self.tasks
            .iter()
            .filter(|task| !done.contains(&task.key))
            .collect()
    }

    /// Does tasks, by their names, where they are not done.
    ///
    /// # Errors
    ///
    /// `plan-task` for a name that the plan does not have, `part-stale` where the model or the data are not those of the plan, and what
    /// keeps the work from being done.
    ///
    /// # Examples
    ///
    /// See [`Plan`].
    pub fn work(&self, tasks: &[impl AsRef<str>], options: &Options) -> Result<Worked, Error> {
        let done = self.folder.done();
        let mut known = Vec::new();
        let mut own = BTreeSet::new();
        for name in tasks.iter().map(AsRef::as_ref) {
            let task = self.tasks.iter().find(|task| task.id == name).ok_or_else(|| {
                Error::new("plan-task", format!("the plan has no task {name:?}")).in_file(&self.folder.list())
            })?;
            if done.contains(&task.key) {
                known.push(task.id.clone());
            } else {
                own.insert(task.id.clone());
            }
        }
        if own.is_empty() {
            return Ok(Worked {
                done: Vec::new(),
                known,
            });
        }
        let ledger = self.ledger(Own::Tasks(own))?;
        match self.execute(&ledger, options, false) {
            Err(error) if error.code() != WAITING => Err(error),
            _ => match ledger.unsettled().first() {
                None => Ok(Worked {
                    done: ledger.made(),
                    known,
                }),
                Some(task) => Err(Error::new(
                    "plan-stale",
                    format!("task {task} is none of the work as it is now: the model or the data are not those of the plan, or tasks of stages before are not done"),
                )
                .with_hint("plan again, in another folder")),
            },
        }
    }

    /// Joins what is done: to the result of the job, which is written, or to tasks of the next stage, which are planned.
    ///
    /// # Errors
    ///
    /// `part-foreign` for a file among the parts that is not what its name says, `part-stale` where the model or the data changed, and
    /// what keeps the result from being made or written.
    ///
    /// # Examples
    ///
    /// See [`Plan`].
    pub fn merge(&self, options: &Options) -> Result<Merged, Error> {
        let mut again = Self {
            folder: self.folder.clone(),
            job: self.job.clone(),
            base: self.base.clone(),
            tasks: self.folder.tasks()?,
        };
        again.advance(options, true)
    }

    /// Runs the job as far as results go, and plans what is missing then.
    fn advance(&mut self, options: &Options, writes: bool) -> Result<Merged, Error> {
        let ledger = self.ledger(Own::None)?;
        let made = match self.execute(&ledger, options, writes) {
            Ok(made) => made,
            Err(error) if error.code() == WAITING => {
                let wanted = ledger.wanted();
                let missing: Vec<String> = wanted.iter().map(|task| task.id.clone()).collect();
                let planned: BTreeSet<String> = self.tasks.iter().map(|task| task.id.clone()).collect();
                let new: Vec<Task> = wanted
                    .into_iter()
                    .filter(|task| !planned.contains(&task.id))
                    .collect();
                let stage = new.first().map(|task| task.stage).or_else(|| {
                    self.tasks
                        .iter()
                        .find(|task| missing.contains(&task.id))
                        .map(|task| task.stage)
                });
                let count = new.len();
                self.tasks.extend(new);
                self.folder.write_tasks(&self.tasks)?;
                return Ok(Merged::Waiting {
                    stage: stage.unwrap_or(1),
                    missing,
                    new: count,
                });
            }
            Err(error) => return Err(error),
        };
        if self.tasks.is_empty() {
            self.folder.write_tasks(&self.tasks)?;
        }
        Ok(Merged::Made(made))
    }

    fn ledger(&self, own: Own) -> Result<Arc<Ledger>, Error> {
        let how = (self.job.parts(), self.job.context(&self.base)?);
        let ledger = Ledger::open(self.folder.path(), how, self.tasks.clone(), own)?;
        Ok(Arc::new(ledger))
    }

    fn execute(&self, ledger: &Arc<Ledger>, options: &Options, writes: bool) -> Result<Made, Error> {
        let mut shared = options.clone();
        shared.ledger = Some(Arc::clone(ledger));
        self.job.run(&self.base, &shared, writes)
    }
}

/// The JSON Schema of a job.
pub(crate) fn job_schema() -> Value {
    Job::schema()
}
