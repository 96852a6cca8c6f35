//! Finding the one rewrite that breaks a model.

use super::error::Error;
use super::model::Model;
use super::options::Options;
use super::pipeline::Pipeline;
use crate::fold::TractEvaluator;
use crate::pipeline::{self as inner, Bisection, RunOptions, Unchanged};

/// Finds the first rewrite of a pipeline after which the outputs differ from those of `model`, by running with fewer and fewer
/// rewrites. That there is one is an answer and no error.
///
/// # Errors
///
/// A step that fails, an engine that is not there, sizes that name no dimension, a token that was set.
///
/// # Examples
///
/// ```
/// use secateur::{Model, Options, Pipeline, bisect};
/// let model = Model::open("fixtures/digits_cnn_bn.onnx")?;
/// let found = bisect(&Pipeline::step("simplify", ())?, &model, &Options::new())?;
/// assert!(found.rewrites > 0);
/// assert_eq!(found.breaking, None);
/// # Ok::<(), secateur::Error>(())
/// ```
pub fn bisect(pipeline: &Pipeline, model: &Model, options: &Options) -> Result<Bisection, Error> {
    let engine = options.make_engine()?;
    let tell = |what: &str, done: u64, total: Option<u64>| options.tell(what, done, total);
    let run = RunOptions {
        evaluator: &TractEvaluator,
        engine: None,
        verify: options.comparing(&model.model)?,
        limits: options.limits(),
        keep: options.keep.clone(),
        seed: options.seed,
        provenance: false,
        macs: false,
        resources: None,
        progress: &tell,
        unchanged: Unchanged::Allowed,
        node_errors: false,
        cancel: options.cancel.as_ref(),
        reuse: None,
    };
    let found = options.on_threads(|| inner::bisect(&pipeline.inner, &model.model, &*engine, &run))?;
    options.admit()?;
    Ok(found?)
}
