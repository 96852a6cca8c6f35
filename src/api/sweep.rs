//! Sweeps: a file that says which settings of a pipeline are tried on which models, and the whole of it run in one process.
//!
//! [`SweepPlan`] has the three parts that others can call as well: the points, one point, and the answer from all that are there.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use super::error::Error;
use super::options::Options;
use super::sweep_plan::SweepPlan;
use crate::files::read_text;
use crate::sweep::{Definition, Record, Status, SweepReport};

/// Settings of a pipeline on models, and what to measure of each.
///
/// # Examples
///
/// ```
/// use secateur::{Data, Options, Sweep};
/// # let folder = tempfile::tempdir().unwrap();
/// let sweep = Sweep::parse(
///     "models: [fixtures/digits_mlp.onnx]
/// pipeline: { steps: [{ quantize-weights: { type: '${type}' }, when: '${type}' }] }
/// vars: { type: [null, int8] }
/// measure: [accuracy, bytes]",
/// )?;
/// let test = Data::npz("fixtures/data/digits_test.npz")?.labels("y").samples(50);
/// let options = Options::new().data("evaluation", test);
/// let found = sweep.run(folder.path(), &options, false)?;
/// assert_eq!((found.points.len(), found.computed), (2, 2));
/// // Nothing is computed twice.
/// assert_eq!(sweep.run(folder.path(), &options, false)?.computed, 0);
/// # Ok::<(), secateur::Error>(())
/// ```
#[derive(Debug)]
pub struct Sweep {
    pub(crate) definition: Definition,
    pub(crate) path: Option<PathBuf>,
}

/// A point of a sweep: a model with one setting of the pipeline, on so many samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SweepPoint {
    /// The digest of all that decides about its result.
    pub id: String,
    /// How it is called: the model and the values.
    pub name: String,
    /// The model's file.
    pub model: PathBuf,
    /// The values by variable.
    pub vars: IndexMap<String, Value>,
    /// The rung of successive halving, from 0.
    pub rung: usize,
    /// Evaluation samples of the rung; `None` for all there are.
    pub samples: Option<u64>,
    /// Whether its result is there.
    pub done: bool,
}

impl Sweep {
    /// Reads a sweep from a file; relative paths in it start from its folder.
    ///
    /// # Errors
    ///
    /// `read-failed`; what is wrong and where: [`Error::line`].
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(secateur::Sweep::open("nowhere.yaml").unwrap_err().code(), "read-failed");
    /// ```
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let text = read_text(path).map_err(|error| {
            Error::new("read-failed", format!("cannot read {}: {error}", path.display())).in_file(path)
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        Ok(Self {
            definition: Definition::parse(&path.display().to_string(), &text, base)?,
            path: Some(path.to_owned()),
        })
    }

    /// Reads a sweep in YAML or JSON; relative paths in it start from the working directory.
    ///
    /// # Errors
    ///
    /// What is wrong and where.
    ///
    /// # Examples
    ///
    /// ```
    /// let error = secateur::Sweep::parse("models: [a.onnx]\npipelin: simplify").unwrap_err();
    /// assert_eq!((error.code(), error.line()), ("unknown-key", Some(2)));
    /// ```
    pub fn parse(yaml: &str) -> Result<Self, Error> {
        Ok(Self {
            definition: Definition::parse("sweep", yaml, Path::new(""))?,
            path: None,
        })
    }

    /// Reads the models, resolves every setting of the pipeline and tells its points apart.
    ///
    /// # Errors
    ///
    /// A model or data that cannot be read, a setting that is no pipeline, data that are missing.
    ///
    /// # Examples
    ///
    /// See [`SweepPlan`].
    pub fn plan(&self, options: &Options) -> Result<SweepPlan, Error> {
        SweepPlan::of(self, options)
    }

    /// Computes every point that is not in the folder yet and answers what all of them say. A point that fails or is refused is recorded
    /// with its reason, and the others go on; what an earlier run with this folder found is taken as it is. The folder gets `points`, a
    /// record each; `models`, those of the front or with `keep_models` of all; `front`, a pipeline for each point of the front; and
    /// `result.json`. Reports of the options are written, too.
    ///
    /// # Errors
    ///
    /// As [`Sweep::plan`]; a folder of something else; `cancelled`.
    ///
    /// # Examples
    ///
    /// See [`Sweep`].
    pub fn run(
        &self,
        folder: impl AsRef<Path>,
        options: &Options,
        keep_models: bool,
    ) -> Result<SweepReport, Error> {
        self.plan(options)?.run(folder, keep_models)
    }
}

impl SweepPlan {
    /// Computes every point that is not in the folder yet and answers what all of them say; see [`Sweep::run`].
    ///
    /// # Errors
    ///
    /// As [`Sweep::run`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use secateur::{Options, Sweep};
    /// let report = Sweep::open("sweep.yaml")?.plan(&Options::new())?.run("results", false)?;
    /// # Ok::<(), secateur::Error>(())
    /// ```
    pub fn run(mut self, folder: impl AsRef<Path>, keep_models: bool) -> Result<SweepReport, Error> {
        let folder = folder.as_ref();
        self.check_folder(folder)?;
        let mut computed = 0;
        loop {
            let points = self.points(folder)?;
            let begun = points.iter().filter(|point| !point.done);
            let before = points.len() - begun.clone().count();
            if before == points.len() {
                break;
            }
            for (at, point) in begun.enumerate() {
                self.compute(point, (before + at, points.len()), folder)?;
                computed += 1;
            }
            // What failed once more is not tried a third time.
            self = self.retrying(false);
        }
        let mut report = self.gather(folder, keep_models)?;
        report.computed = computed;
        self.write_reports(&report)?;
        Ok(report)
    }

    fn compute(&self, point: &SweepPoint, (done, total): (usize, usize), folder: &Path) -> Result<(), Error> {
        self.options.tell("sweep", done as u64, Some(total as u64));
        let record = self.run_point(&point.id, folder)?;
        self.measures(std::iter::once(&record))?;
        let words = in_words(&record);
        self.options
            .say(&format!("{}/{total} {}: {words}", done + 1, point.name));
        Ok(())
    }
}

/// What was found of a point, in a few words.
fn in_words(record: &Record) -> String {
    match record.status {
        Status::Done => {
            let main = record
                .main
                .as_ref()
                .and_then(|name| Some((name, record.figures.get(name)?)));
            let figure = main.map(|(name, value)| format!("{name} {value:.4}"));
            let bytes = record.figures.get("bytes").map(|bytes| format!("{bytes} bytes"));
            figure.into_iter().chain(bytes).collect::<Vec<_>>().join(", ")
        }
        other => format!("{other}: {}", record.reasons.join("; ")),
    }
}
