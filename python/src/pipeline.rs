//! Pipelines.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use secateur::Error;
use serde_json::{Map, Value};

use crate::error::{OrRaise, defect};

/// Steps and gates.
#[pyclass(frozen, module = "secateur._native")]
pub(crate) struct Pipeline {
    pub(crate) inner: Arc<secateur::Pipeline>,
}

impl Pipeline {
    fn of(py: Python<'_>, made: Result<secateur::Pipeline, Error>) -> PyResult<Self> {
        Ok(Self {
            inner: Arc::new(made.or_raise(py)?),
        })
    }
}

/// JSON that the other half of the package wrote.
pub(crate) fn json(py: Python<'_>, text: &str) -> PyResult<Value> {
    serde_json::from_str(text).map_err(|error| defect(py, &format!("not JSON: {error}")))
}

/// The values of variables.
fn values(py: Python<'_>, text: &str) -> PyResult<Map<String, Value>> {
    match json(py, text)? {
        Value::Object(values) => Ok(values),
        other => Err(defect(py, &format!("not variables: {other}"))),
    }
}

#[pymethods]
impl Pipeline {
    #[staticmethod]
    fn preset(py: Python<'_>, name: &str) -> PyResult<Self> {
        Self::of(py, secateur::Pipeline::preset(name))
    }

    /// `variables` is a JSON object.
    #[staticmethod]
    #[pyo3(signature = (yaml, variables = "{}"))]
    fn parse(py: Python<'_>, yaml: &str, variables: &str) -> PyResult<Self> {
        Self::of(py, secateur::Pipeline::parse_with(yaml, values(py, variables)?))
    }

    /// `variables` is a JSON object.
    #[staticmethod]
    #[pyo3(signature = (path, variables = "{}"))]
    fn open(py: Python<'_>, path: PathBuf, variables: &str) -> PyResult<Self> {
        Self::of(py, secateur::Pipeline::open_with(path, values(py, variables)?))
    }

    /// One step; `options` is a JSON object.
    #[staticmethod]
    fn step(py: Python<'_>, name: &str, options: &str) -> PyResult<Self> {
        Self::of(py, secateur::Pipeline::step(name, json(py, options)?))
    }

    /// The same with one more step.
    fn then(&self, py: Python<'_>, name: &str, options: &str) -> PyResult<Self> {
        let again = self.inner.try_clone().or_raise(py)?;
        Self::of(py, again.then(name, json(py, options)?))
    }

    /// The same with another value of an option of a step.
    fn set(&self, py: Python<'_>, variable: &str, value: &str) -> PyResult<Self> {
        let again = self.inner.try_clone().or_raise(py)?;
        Self::of(py, again.set(variable, json(py, value)?))
    }

    fn steps(&self) -> Vec<String> {
        self.inner.steps().map(str::to_owned).collect()
    }

    /// The options of all steps as a JSON object.
    fn variables(&self) -> String {
        let variables: Map<String, Value> = self.inner.variables().into_iter().collect();
        Value::Object(variables).to_string()
    }

    fn to_yaml(&self) -> String {
        self.inner.to_yaml()
    }
}
