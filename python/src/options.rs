//! The options of a call.

use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;
use pyo3::prelude::*;
use secateur::{Error, NodeOptions, Runtime, Saved};
use serde::Deserialize;

use crate::data::Data;
use crate::error::{OrRaise, defect};
use crate::model::Model;
use crate::work::{self, Listener};

/// How a call works; made once, used any number of times.
#[pyclass(frozen, module = "secateur._native")]
pub(crate) struct Options {
    pub(crate) inner: secateur::Options,
    jobs: Option<usize>,
}

/// What the other half of the package gives; its `RunOptions` and its signatures say what each is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Given {
    engine: Option<Engine>,
    jobs: Option<usize>,
    seed: Option<u64>,
    compare: Option<bool>,
    bind: IndexMap<String, Size>,
    constant_inputs: bool,
    keep: Vec<String>,
    fuel: Option<u64>,
    only: Vec<String>,
    rules: Vec<PathBuf>,
    max_growth: Option<f64>,
    strict: bool,
    dry_run: bool,
    allow_unchanged: bool,
    provenance: Option<bool>,
    macs: Option<bool>,
    output: Option<PathBuf>,
    in_place: bool,
    force: bool,
    report: Option<PathBuf>,
    gates: Vec<String>,
    sizes: IndexMap<String, i64>,
    tolerance: IndexMap<String, f64>,
    rounds: Option<u64>,
    unoptimised: bool,
    verify_time: Option<f64>,
    map: IndexMap<String, String>,
    localize: bool,
    per_node: bool,
    node_sqnr: Option<f64>,
    output_name: Option<String>,
    threshold: Option<f64>,
    latency_runs: Option<usize>,
    state: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Engine {
    Tract,
    Ort,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Size {
    Fixed(u64),
    Symbol(String),
}

impl Given {
    fn apply(self) -> Result<secateur::Options, Error> {
        let mut options = secateur::Options::new()
            .constant_inputs(self.constant_inputs)
            .strict(self.strict)
            .dry_run(self.dry_run)
            .allow_unchanged(self.allow_unchanged)
            .force(self.force)
            .unoptimised(self.unoptimised)
            .localize(self.localize);
        if let Some(Engine::Ort) = self.engine {
            options = options.engine(Runtime::OnnxRuntime);
        }
        options = given(options, self.seed, secateur::Options::seed);
        options = given(options, self.compare, secateur::Options::compare);
        options = given(options, self.fuel, secateur::Options::fuel);
        options = given(options, self.max_growth, secateur::Options::max_growth);
        options = given(options, self.provenance, secateur::Options::provenance);
        options = given(options, self.macs, secateur::Options::macs);
        options = given(options, self.rounds, secateur::Options::rounds);
        options = given(options, self.threshold, secateur::Options::threshold);
        options = given(options, self.latency_runs, secateur::Options::latency_runs);
        options = given(options, self.output, secateur::Options::output);
        options = given(options, self.report, secateur::Options::report);
        options = given(options, self.state, secateur::Options::state);
        options = given(options, self.output_name, secateur::Options::output_name);
        if let Some(seconds) = self.verify_time {
            let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            options = options.verify_time(time);
        }
        if self.in_place {
            options = options.in_place();
        }
        if self.per_node {
            options = options.per_node(NodeOptions {
                least_sqnr: self.node_sqnr,
                ..NodeOptions::default()
            });
        }
        for (dimension, size) in self.bind {
            options = match size {
                Size::Fixed(size) => options.bind(dimension, size),
                Size::Symbol(symbol) => options.free(dimension, symbol),
            };
        }
        options = self.keep.into_iter().fold(options, secateur::Options::keep);
        options = self.only.into_iter().fold(options, secateur::Options::only);
        options = self.rules.into_iter().fold(options, secateur::Options::rules);
        for (dimension, size) in self.sizes {
            options = options.size(dimension, size);
        }
        for (reference, model) in self.map {
            options = options.map(reference, model);
        }
        for (element, share) in self.tolerance {
            options = options.tolerance(element, share)?;
        }
        for gate in self.gates {
            options = options.gate(gate)?;
        }
        Ok(options)
    }
}

fn given<T>(
    options: secateur::Options,
    value: Option<T>,
    set: impl FnOnce(secateur::Options, T) -> secateur::Options,
) -> secateur::Options {
    match value {
        Some(value) => set(options, value),
        None => options,
    }
}

impl Options {
    /// Does what may fail with these options, beside Python.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        py: Python<'_>,
        listener: &Listener,
        work: impl FnOnce(&secateur::Options) -> Result<T, Error> + Send + 'static,
    ) -> PyResult<T> {
        let threads = self.jobs.unwrap_or_else(work::threads);
        work::call(py, self.inner.clone(), threads, listener, work)?.or_raise(py)
    }

    /// Does a save, which nobody listens to; answers the files and remarks.
    pub(crate) fn save(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&secateur::Options) -> Result<Saved, Error> + Send + 'static,
    ) -> PyResult<(Vec<String>, Vec<String>)> {
        let saved = self.call(py, &Listener::NOBODY, work)?;
        Ok((saved.files, saved.notes))
    }
}

#[pymethods]
impl Options {
    /// `given` is a JSON object. `data` come with their roles; no role is what the steps need.
    #[new]
    #[pyo3(signature = (given, data = Vec::new(), against = None))]
    fn new(
        py: Python<'_>,
        given: &str,
        data: Vec<(Option<String>, Bound<'_, Data>)>,
        against: Option<&Bound<'_, Model>>,
    ) -> PyResult<Self> {
        let given: Given = serde_json::from_str(given).map_err(|error| defect(py, &error.to_string()))?;
        let jobs = given.jobs.map(|jobs| jobs.clamp(1, 4096));
        let mut options = given.apply().or_raise(py)?;
        for (role, data) in data {
            let data = data.get().inner.clone();
            options = match role {
                Some(role) => options.data(role, data),
                None => options.sole_data(data),
            };
        }
        if let Some(model) = against {
            options = options.against(model.get().inner.clone());
        }
        Ok(Self { inner: options, jobs })
    }
}
