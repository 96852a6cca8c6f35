//! The functions of the face.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use secateur::{CheckOptions, Error, Explanation, Purpose, Severity, Style};
use serde::Serialize;

use crate::error::{OrRaise, defect};
use crate::model::Model;
use crate::options::Options;
use crate::pipeline::Pipeline;
use crate::work::{Listener, aside};

/// An answer: its JSON, its text for people, its HTML.
pub(crate) type Answer = (String, String, String);

pub(crate) fn document(value: &impl Serialize) -> Result<String, Error> {
    // What is answered has names and numbers, which JSON can say.
    Ok(serde_json::to_string(value).unwrap_or_default())
}

/// What a pipeline made of a model.
#[pyclass(frozen, module = "secateur._native")]
pub(crate) struct Outcome {
    pub(crate) inner: secateur::Outcome,
}

#[pymethods]
impl Outcome {
    #[getter]
    fn model(&self) -> Model {
        Model {
            inner: self.inner.model.clone(),
        }
    }

    #[getter]
    fn accepted(&self) -> bool {
        self.inner.accepted()
    }

    #[getter]
    fn changed(&self) -> bool {
        self.inner.changed()
    }

    #[getter]
    fn verdict(&self) -> String {
        self.inner.verdict().to_string()
    }

    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.inner.warnings().to_vec()
    }

    #[getter]
    fn unchanged(&self) -> bool {
        self.inner.report.unchanged
    }

    /// Messages of the gates that do not hold.
    #[getter]
    fn broken_gates(&self) -> Vec<String> {
        let broken = self.inner.report.gates.iter().filter(|gate| !gate.passed);
        broken
            .map(|gate| format!("{}: {}", gate.name, gate.message))
            .collect()
    }

    /// The report as JSON.
    fn report(&self, py: Python<'_>) -> PyResult<String> {
        document(&self.inner.report).or_raise(py)
    }

    fn text(&self) -> String {
        self.inner.to_text(Style::Terminal)
    }

    fn html(&self) -> String {
        self.inner.to_text(Style::Html)
    }

    /// What steps leave beside the model.
    fn files<'py>(&self, py: Python<'py>) -> Vec<(PathBuf, Bound<'py, PyBytes>)> {
        let files = self.inner.files.iter();
        files
            .map(|file| (file.path.clone(), PyBytes::new(py, &file.content)))
            .collect()
    }

    /// Writes an accepted result and what steps leave beside it; answers the files and remarks.
    fn save(
        slf: &Bound<'_, Self>,
        py: Python<'_>,
        path: PathBuf,
        options: &Options,
    ) -> PyResult<(Vec<String>, Vec<String>)> {
        let outcome = slf.clone().unbind();
        let work = move |options: &secateur::Options| outcome.get().inner.save_with(path, options);
        options.save(py, work)
    }
}

#[pyfunction]
#[pyo3(signature = (pipeline, model, options, progress = None, note = None))]
pub(crate) fn run(
    py: Python<'_>,
    pipeline: &Pipeline,
    model: &Model,
    options: &Options,
    progress: Option<Py<PyAny>>,
    note: Option<Py<PyAny>>,
) -> PyResult<Outcome> {
    let (pipeline, model) = (pipeline.inner.clone(), model.inner.clone());
    let listener = Listener { progress, note };
    let work = move |options: &secateur::Options| pipeline.run(&model, options);
    let inner = options.call(py, &listener, work)?;
    Ok(Outcome { inner })
}

/// Answers the comparison, and whether it holds.
#[pyfunction]
#[pyo3(signature = (reference, model, options, progress = None, note = None))]
pub(crate) fn verify(
    py: Python<'_>,
    reference: &Model,
    model: &Model,
    options: &Options,
    progress: Option<Py<PyAny>>,
    note: Option<Py<PyAny>>,
) -> PyResult<(Answer, bool)> {
    let (reference, model) = (reference.inner.clone(), model.inner.clone());
    let listener = Listener { progress, note };
    let work = move |options: &secateur::Options| {
        let found = secateur::verify(&reference, &model, options)?;
        let texts = [Style::Terminal, Style::Html].map(|style| found.to_text(style));
        let [text, html] = texts;
        Ok(((document(&found)?, text, html), found.holds()))
    };
    options.call(py, &listener, work)
}

/// Answers the figures, and whether the gates hold.
#[pyfunction]
#[pyo3(signature = (model, options, progress = None, note = None))]
pub(crate) fn evaluate(
    py: Python<'_>,
    model: &Model,
    options: &Options,
    progress: Option<Py<PyAny>>,
    note: Option<Py<PyAny>>,
) -> PyResult<(Answer, bool)> {
    let model = model.inner.clone();
    let listener = Listener { progress, note };
    let work = move |options: &secateur::Options| {
        let found = secateur::evaluate(&model, options)?;
        let texts = [Style::Terminal, Style::Html].map(|style| found.to_text(style));
        let [text, html] = texts;
        Ok(((document(&found)?, text, html), found.accepted()))
    };
    options.call(py, &listener, work)
}

/// Statistics of values over data.
#[pyclass(frozen, module = "secateur._native")]
pub(crate) struct Stats {
    inner: secateur::Stats,
}

#[pymethods]
impl Stats {
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let inner = aside(py, move || secateur::Stats::open(path))?.or_raise(py)?;
        Ok(Self { inner })
    }

    #[getter]
    fn notes(&self) -> Vec<String> {
        self.inner.notes.clone()
    }

    #[getter]
    fn ranges(&self) -> Vec<(u64, u64)> {
        self.inner.ranges().to_vec()
    }

    #[getter]
    fn values(&self) -> usize {
        self.inner.values()
    }

    fn write(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        self.inner.write(path).or_raise(py)
    }
}

/// `purpose` is `quantize`, `gram` or `gradients`, the last one by a loss: `cross-entropy` or `mse`.
#[pyfunction]
#[pyo3(signature = (model, purpose, options, loss = None, output = None, rows_per_sample = 1, progress = None, note = None))]
#[allow(clippy::too_many_arguments)] // Those of the Python function, by name.
pub(crate) fn stats(
    py: Python<'_>,
    model: &Model,
    purpose: &str,
    options: &Options,
    loss: Option<&str>,
    output: Option<String>,
    rows_per_sample: usize,
    progress: Option<Py<PyAny>>,
    note: Option<Py<PyAny>>,
) -> PyResult<Stats> {
    let purpose = match purpose {
        "quantize" => Purpose::Quantize,
        "gram" => Purpose::Gram { rows_per_sample },
        _ => {
            let word = serde_json::Value::from(loss.unwrap_or("cross-entropy"));
            let loss = serde_json::from_value(word).map_err(|error| defect(py, &error.to_string()))?;
            Purpose::Gradients { loss, output }
        }
    };
    let model = model.inner.clone();
    let listener = Listener { progress, note };
    let work = move |options: &secateur::Options| secateur::stats(&model, &purpose, options);
    let inner = options.call(py, &listener, work)?;
    Ok(Stats { inner })
}

#[pyfunction]
pub(crate) fn merge_stats(py: Python<'_>, parts: Vec<PathBuf>) -> PyResult<Stats> {
    let inner = aside(py, move || secateur::Stats::merge(&parts))?.or_raise(py)?;
    Ok(Stats { inner })
}

/// Writes what a model computes at a value; answers the value, the samples, the width and whether there are labels.
#[pyfunction]
#[pyo3(signature = (model, at, output, options, progress = None, note = None))]
pub(crate) fn features(
    py: Python<'_>,
    model: &Model,
    at: String,
    output: PathBuf,
    options: &Options,
    progress: Option<Py<PyAny>>,
    note: Option<Py<PyAny>>,
) -> PyResult<(String, u64, u64, bool)> {
    let model = model.inner.clone();
    let listener = Listener { progress, note };
    let work = move |options: &secateur::Options| secateur::features(&model, &at, output, options);
    let found = options.call(py, &listener, work)?;
    Ok((found.value, found.samples, found.width, found.labelled))
}

#[pyfunction]
#[pyo3(signature = (pipeline, model, options, progress = None, note = None))]
pub(crate) fn bisect(
    py: Python<'_>,
    pipeline: &Pipeline,
    model: &Model,
    options: &Options,
    progress: Option<Py<PyAny>>,
    note: Option<Py<PyAny>>,
) -> PyResult<String> {
    let (pipeline, model) = (pipeline.inner.clone(), model.inner.clone());
    let listener = Listener { progress, note };
    let work = move |options: &secateur::Options| document(&secateur::bisect(&pipeline, &model, options)?);
    options.call(py, &listener, work)
}

/// Looks for findings: in a file, which need be no valid model, or in a model.
#[pyfunction]
#[pyo3(signature = (path, model, targets, only, skip, deny))]
pub(crate) fn check(
    py: Python<'_>,
    path: Option<PathBuf>,
    model: Option<&Model>,
    targets: Vec<String>,
    only: Vec<String>,
    skip: Vec<String>,
    deny: &str,
) -> PyResult<Answer> {
    let model = model.map(|model| model.inner.clone());
    let deny = match deny {
        "note" => Severity::Note,
        "warning" => Severity::Warning,
        _ => Severity::Error,
    };
    let work = move || {
        let mut options = CheckOptions::new().deny(deny);
        for name in &targets {
            options = options.target(name)?;
        }
        for code in &only {
            options = options.only(code)?;
        }
        for code in &skip {
            options = options.skip(code)?;
        }
        let found = match (&model, &path) {
            (Some(model), _) => secateur::check(model, &options)?,
            (None, path) => secateur::check_file(path.clone().unwrap_or_default(), &options)?,
        };
        let texts = (found.to_text(Style::Terminal), found.to_text(Style::Html));
        Ok((document(&found)?, texts.0, texts.1))
    };
    aside(py, work)?.or_raise(py)
}

#[pyfunction]
pub(crate) fn difference(py: Python<'_>, a: &Model, b: &Model) -> PyResult<String> {
    let (a, b) = (a.inner.clone(), b.inner.clone());
    aside(py, move || document(&secateur::difference(&a, &b)))?.or_raise(py)
}

/// A page on stored results, by name.
#[pyfunction]
pub(crate) fn compare_reports(py: Python<'_>, results: Vec<(String, String)>) -> PyResult<String> {
    let work = move || {
        let named: Vec<(&str, &str)> = results
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        secateur::compare_reports(&named)
    };
    aside(py, work)?.or_raise(py)
}

fn explained(found: &Explanation) -> (String, String) {
    (found.document.to_string(), found.to_string())
}

#[pyfunction]
pub(crate) fn explain(py: Python<'_>, name: &str, options: &Options) -> PyResult<(String, String)> {
    let found = secateur::explain(name, &options.inner).or_raise(py)?;
    Ok(explained(&found))
}

#[pyfunction]
pub(crate) fn explain_why_not(
    py: Python<'_>,
    rule: &str,
    node: &str,
    model: &Model,
    options: &Options,
) -> PyResult<(String, String)> {
    let found = secateur::explain_why_not(rule, node, &model.inner, &options.inner).or_raise(py)?;
    Ok(explained(&found))
}

#[pyfunction]
pub(crate) fn schema(py: Python<'_>, name: &str) -> PyResult<String> {
    Ok(secateur::schema_of(name).or_raise(py)?.to_string())
}

#[pyfunction]
pub(crate) fn presets() -> Vec<&'static str> {
    secateur::Pipeline::presets()
}

#[pyfunction]
pub(crate) fn step_names() -> Vec<&'static str> {
    secateur::Pipeline::step_names()
}
