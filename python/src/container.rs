//! Packed models.

use std::path::PathBuf;

use pyo3::prelude::*;
use secateur::Packing;

use crate::arrays::Array;
use crate::calls::document;
use crate::error::OrRaise;
use crate::options::Options;
use crate::work::{Listener, aside};

/// Packs a model file; answers what became of its bytes as JSON.
#[pyfunction]
#[pyo3(signature = (model, output, fast, base, options))]
pub(crate) fn pack(
    py: Python<'_>,
    model: PathBuf,
    output: PathBuf,
    fast: bool,
    base: Option<PathBuf>,
    options: &Options,
) -> PyResult<String> {
    let packing = if fast {
        Packing::new().fast()
    } else {
        Packing::new()
    };
    let packing = base.into_iter().fold(packing, Packing::base);
    let work =
        move |options: &secateur::Options| document(&secateur::pack(&model, &output, &packing, options)?);
    options.call(py, &Listener::NOBODY, work)
}

/// Unpacks a container; answers the files and remarks.
#[pyfunction]
#[pyo3(signature = (container, output, base, options))]
pub(crate) fn unpack(
    py: Python<'_>,
    container: PathBuf,
    output: PathBuf,
    base: Option<PathBuf>,
    options: &Options,
) -> PyResult<(Vec<String>, Vec<String>)> {
    let work =
        move |options: &secateur::Options| secateur::unpack(&container, &output, base.as_deref(), options);
    options.save(py, work)
}

/// A container whose index has been read.
#[pyclass(frozen, module = "secateur._native")]
pub(crate) struct Container {
    inner: secateur::Container,
}

#[pymethods]
impl Container {
    #[staticmethod]
    #[pyo3(signature = (path, base = None))]
    fn open(py: Python<'_>, path: PathBuf, base: Option<PathBuf>) -> PyResult<Self> {
        let open = move || secateur::Container::open_with(&path, base.as_deref());
        let inner = aside(py, open)?.or_raise(py)?;
        Ok(Self { inner })
    }

    /// The file name of the base, where the container has one.
    fn base(&self) -> Option<String> {
        self.inner.base().map(str::to_owned)
    }

    /// Each tensor that can be had by itself: its name, its bytes, and those in the container.
    fn tensors(&self) -> Vec<(String, u64, u64)> {
        let tensors = self.inner.tensors().into_iter();
        tensors
            .map(|tensor| (tensor.name, tensor.bytes, tensor.packed))
            .collect()
    }

    fn tensor(&self, py: Python<'_>, name: String) -> PyResult<Array> {
        let inner = self.inner.clone();
        let array = aside(py, move || inner.tensor(&name))?.or_raise(py)?;
        Array::of(array).or_raise(py)
    }
}
