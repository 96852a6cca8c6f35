//! Sweeps: the whole of one, and its three parts.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use secateur::{Error, SweepPlan};
use serde::Serialize;

use crate::error::OrRaise;
use crate::options::Options;
use crate::work::Listener;

/// A sweep that is read.
#[pyclass(frozen, module = "secateur._native")]
pub(crate) struct Sweep {
    inner: Arc<secateur::Sweep>,
}

fn document(value: &impl Serialize) -> Result<String, Error> {
    // What is answered has names and numbers, which JSON can say.
    Ok(serde_json::to_string(value).unwrap_or_default())
}

impl Sweep {
    fn of(py: Python<'_>, made: Result<secateur::Sweep, Error>) -> PyResult<Self> {
        Ok(Self {
            inner: Arc::new(made.or_raise(py)?),
        })
    }

    /// Does work with the plan of the sweep.
    fn planned(
        &self,
        py: Python<'_>,
        options: &Options,
        listener: &Listener,
        work: impl FnOnce(SweepPlan) -> Result<String, Error> + Send + 'static,
    ) -> PyResult<String> {
        let sweep = Arc::clone(&self.inner);
        options.call(py, listener, move |options| work(sweep.plan(options)?))
    }
}

#[pymethods]
impl Sweep {
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        Self::of(py, secateur::Sweep::open(path))
    }

    /// YAML or JSON.
    #[staticmethod]
    fn parse(py: Python<'_>, text: &str) -> PyResult<Self> {
        Self::of(py, secateur::Sweep::parse(text))
    }

    /// Computes what is missing in the folder; answers the report as JSON.
    #[pyo3(signature = (folder, keep_models, retry_failed, options, progress = None, note = None))]
    #[allow(clippy::too_many_arguments)] // Those of the Python function, by name.
    fn run(
        &self,
        py: Python<'_>,
        folder: PathBuf,
        keep_models: bool,
        retry_failed: bool,
        options: &Options,
        progress: Option<Py<PyAny>>,
        note: Option<Py<PyAny>>,
    ) -> PyResult<String> {
        let listener = Listener { progress, note };
        self.planned(py, options, &listener, move |plan| {
            document(&plan.retrying(retry_failed).run(folder, keep_models)?)
        })
    }

    /// The points that are known as a JSON array, and whether the folder has the result of each.
    fn points(&self, py: Python<'_>, folder: PathBuf, options: &Options) -> PyResult<String> {
        self.planned(py, options, &Listener::NOBODY, move |plan| {
            document(&plan.points(folder)?)
        })
    }

    /// Computes one point; answers its record as JSON.
    #[pyo3(signature = (id, folder, options, progress = None, note = None))]
    fn run_point(
        &self,
        py: Python<'_>,
        id: String,
        folder: PathBuf,
        options: &Options,
        progress: Option<Py<PyAny>>,
        note: Option<Py<PyAny>>,
    ) -> PyResult<String> {
        let listener = Listener { progress, note };
        self.planned(py, options, &listener, move |plan| {
            document(&plan.run_point(&id, folder)?)
        })
    }

    /// What the results in the folder say, as JSON.
    fn gather(
        &self,
        py: Python<'_>,
        folder: PathBuf,
        keep_models: bool,
        options: &Options,
    ) -> PyResult<String> {
        self.planned(py, options, &Listener::NOBODY, move |plan| {
            document(&plan.gather(folder, keep_models)?)
        })
    }
}
