//! Jobs of several processes.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use secateur::{Made, Merged, Style};

use crate::calls::{Answer, Outcome, document};
use crate::error::{OrRaise, defect};
use crate::options::Options;
use crate::work::Listener;

/// A job that is cut into tasks.
#[pyclass(frozen, module = "secateur._native")]
pub(crate) struct Plan {
    inner: Arc<secateur::Plan>,
}

/// What a merge came to: the kind of what was made, its JSON and texts where it has any, the outcome of a pipeline, and whether it is
/// accepted; or the stage and the tasks that are to be done first.
type Joined = (
    Option<(String, Option<Answer>, Option<Outcome>, bool)>,
    u64,
    Vec<String>,
);

#[pymethods]
impl Plan {
    /// Plans a job; paths in it start from `base`, or from its own folder.
    #[staticmethod]
    #[pyo3(signature = (job, folder, options, base = None, progress = None, note = None))]
    fn make(
        py: Python<'_>,
        job: PathBuf,
        folder: PathBuf,
        options: &Options,
        base: Option<PathBuf>,
        progress: Option<Py<PyAny>>,
        note: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let listener = Listener { progress, note };
        let work = move |options: &secateur::Options| match base {
            Some(base) => secateur::Plan::make_based(job, base, folder, options),
            None => secateur::Plan::make(job, folder, options),
        };
        let inner = Arc::new(options.call(py, &listener, work)?);
        Ok(Self { inner })
    }

    #[staticmethod]
    #[pyo3(signature = (folder, base = None))]
    fn open(py: Python<'_>, folder: PathBuf, base: Option<PathBuf>) -> PyResult<Self> {
        let plan = secateur::Plan::open(folder).or_raise(py)?;
        let inner = Arc::new(match base {
            Some(base) => plan.based(base),
            None => plan,
        });
        Ok(Self { inner })
    }

    /// Every task, as JSON.
    fn tasks(&self, py: Python<'_>) -> PyResult<String> {
        document(&self.inner.tasks()).or_raise(py)
    }

    /// The names of those that are not done.
    fn pending(&self) -> Vec<String> {
        self.inner
            .pending()
            .into_iter()
            .map(|task| task.id.clone())
            .collect()
    }

    /// Does tasks; answers those that were done now and those that were done before.
    #[pyo3(signature = (tasks, options, progress = None, note = None))]
    fn work(
        &self,
        py: Python<'_>,
        tasks: Vec<String>,
        options: &Options,
        progress: Option<Py<PyAny>>,
        note: Option<Py<PyAny>>,
    ) -> PyResult<(Vec<String>, Vec<String>)> {
        let plan = Arc::clone(&self.inner);
        let listener = Listener { progress, note };
        let done = options.call(py, &listener, move |options| plan.work(&tasks, options))?;
        Ok((done.done, done.known))
    }

    #[pyo3(signature = (options, progress = None, note = None))]
    fn merge(
        &self,
        py: Python<'_>,
        options: &Options,
        progress: Option<Py<PyAny>>,
        note: Option<Py<PyAny>>,
    ) -> PyResult<Joined> {
        let plan = Arc::clone(&self.inner);
        let listener = Listener { progress, note };
        let merged = options.call(py, &listener, move |options| plan.merge(options))?;
        match merged {
            Merged::Waiting { stage, missing, .. } => Ok((None, stage, missing)),
            Merged::Made(made) => {
                let accepted = made.accepted();
                let (kind, answer, outcome) = match made {
                    Made::Evaluation(found) => {
                        let [text, html] = [Style::Terminal, Style::Html].map(|style| found.to_text(style));
                        (
                            "evaluate",
                            Some((document(&*found).or_raise(py)?, text, html)),
                            None,
                        )
                    }
                    Made::Model(outcome) => ("run", None, Some(Outcome { inner: *outcome })),
                    _ => ("stats", None, None),
                };
                Ok((Some((kind.to_owned(), answer, outcome, accepted)), 0, Vec::new()))
            }
            _ => Err(defect(py, "a merge came to something else")),
        }
    }
}
