//! What belongs to the whole process: the command line, and where engines run.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;
use secateur::cli as command_line;

/// The command line. `program` with `before` is how this package is started to run an engine.
#[pyfunction]
pub(crate) fn cli(py: Python<'_>, arguments: Vec<OsString>, program: PathBuf, before: Vec<OsString>) -> u8 {
    py.detach(|| command_line::run(arguments, &program, &before))
}

/// Gives each engine that is started from now on a process of its own, in which a model may take `memory` bytes.
#[pyfunction]
#[pyo3(signature = (program, before, memory = None))]
pub(crate) fn engines_in_processes(program: PathBuf, before: Vec<OsString>, memory: Option<u64>) {
    secateur::work_in_processes(secateur::Host {
        memory,
        ..command_line::engine_worker(&program, &before)
    });
}

/// Keeps engines that are started from now on inside this process.
#[pyfunction]
pub(crate) fn engines_inside() {
    secateur::work_inside();
}

/// Bounds the time of each call of an engine, in seconds; `None`: by the size of the model.
#[pyfunction]
#[pyo3(signature = (seconds = None))]
pub(crate) fn limit_engine_calls(seconds: Option<f64>) {
    secateur::limit_calls(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()));
}
