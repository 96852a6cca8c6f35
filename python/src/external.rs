//! Where weights lie.

use std::path::PathBuf;

use pyo3::prelude::*;
use secateur::{Externalizing, Sharing};

use crate::calls::document;
use crate::options::Options;
use crate::work::Listener;

/// Writes models on one data file; answers what became of their bytes as JSON.
#[pyfunction]
#[pyo3(signature = (models, folder, data, smallest, options))]
pub(crate) fn share(
    py: Python<'_>,
    models: Vec<PathBuf>,
    folder: PathBuf,
    data: String,
    smallest: u64,
    options: &Options,
) -> PyResult<String> {
    let work = move |options: &secateur::Options| {
        let sharing = Sharing::new(data).smallest(smallest);
        document(&secateur::share(&models, &folder, &sharing, options)?)
    };
    options.call(py, &Listener::NOBODY, work)
}

/// Moves the weights of a model to a data file; answers what moved as JSON.
#[pyfunction]
#[pyo3(signature = (model, output, data, smallest, options))]
pub(crate) fn convert_external(
    py: Python<'_>,
    model: PathBuf,
    output: PathBuf,
    data: Option<String>,
    smallest: u64,
    options: &Options,
) -> PyResult<String> {
    let work = move |options: &secateur::Options| {
        let how = Externalizing::new().smallest(smallest);
        let how = data.into_iter().fold(how, Externalizing::data);
        document(&secateur::convert_external(&model, &output, &how, options)?)
    };
    options.call(py, &Listener::NOBODY, work)
}

/// Takes the external data of a model into its file; answers what moved as JSON.
#[pyfunction]
#[pyo3(signature = (model, output, options))]
pub(crate) fn single_file(
    py: Python<'_>,
    model: PathBuf,
    output: PathBuf,
    options: &Options,
) -> PyResult<String> {
    let work = move |options: &secateur::Options| document(&secateur::single_file(&model, &output, options)?);
    options.call(py, &Listener::NOBODY, work)
}
