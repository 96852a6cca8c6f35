//! Models.

use std::path::PathBuf;

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrays::Array;
use crate::error::OrRaise;
use crate::options::Options;
use crate::work::aside;

/// A model that was read and checked.
#[pyclass(frozen, module = "secateur._native")]
pub(crate) struct Model {
    pub(crate) inner: secateur::Model,
}

#[pymethods]
impl Model {
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let inner = aside(py, move || secateur::Model::open(path))?.or_raise(py)?;
        Ok(Self { inner })
    }

    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: Bytes) -> PyResult<Self> {
        let inner = aside(py, move || secateur::Model::from_bytes(data))?.or_raise(py)?;
        Ok(Self { inner })
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let inner = self.inner.clone();
        let pieces = aside(py, move || inner.to_pieces())?.or_raise(py)?;
        PyBytes::new_with(py, pieces.iter().map(Bytes::len).sum(), |mut rest| {
            for piece in &pieces {
                let (here, behind) = rest.split_at_mut(piece.len());
                here.copy_from_slice(piece);
                rest = behind;
            }
            Ok(())
        })
    }

    /// Writes the model; answers the files and remarks.
    fn save(&self, py: Python<'_>, path: PathBuf, options: &Options) -> PyResult<(Vec<String>, Vec<String>)> {
        let inner = self.inner.clone();
        let work = move |options: &secateur::Options| inner.save_with(path, options);
        options.save(py, work)
    }

    fn facts(&self, py: Python<'_>) -> PyResult<String> {
        let inner = self.inner.clone();
        aside(py, move || {
            serde_json::to_string(&inner.facts()).unwrap_or_default()
        })
    }

    /// The inputs as JSON; those that are declared, so that it takes no time.
    fn inputs(&self) -> String {
        serde_json::to_string(&self.inner.inputs()).unwrap_or_default()
    }

    fn outputs(&self, py: Python<'_>) -> PyResult<String> {
        let inner = self.inner.clone();
        aside(py, move || {
            serde_json::to_string(&inner.outputs()).unwrap_or_default()
        })
    }

    fn nodes(&self, py: Python<'_>) -> PyResult<String> {
        let inner = self.inner.clone();
        aside(py, move || {
            serde_json::to_string(&inner.nodes()).unwrap_or_default()
        })
    }

    fn initializers(&self, py: Python<'_>) -> PyResult<Vec<(String, Array)>> {
        let arrays = self.inner.initializers().into_iter();
        // Strings have no bytes to look at.
        let numbers = arrays.filter(|(_, array)| array.element() != "string");
        numbers
            .map(|(name, array)| Ok((name, Array::of(array).or_raise(py)?)))
            .collect()
    }

    fn text(&self, py: Python<'_>) -> PyResult<String> {
        let inner = self.inner.clone();
        aside(py, move || inner.text())?.or_raise(py)
    }

    fn warnings(&self) -> Vec<String> {
        self.inner.warnings().to_vec()
    }
}
