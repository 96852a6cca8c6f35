//! What structured pruning would take from a model, and what pins the rest.

use regex::RegexSet;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::adjust::adjust;
use super::error::Error;
use super::model::Model;
use super::options::Options;
use crate::fold::TractEvaluator;
use crate::passes::prune::channels::{ClassPlan, PruneChannels};
use crate::passes::{Context, Limits};
use crate::pipeline::{Pipeline, RunError, Step, StepResources};
use crate::schema::patterns;

/// A step `prune-channels`, as its options and those of the call have it.
pub(crate) struct Pruning {
    pass: PruneChannels,
    pipeline: Pipeline,
    keep: RegexSet,
}

impl Pruning {
    /// Refuses options that are none, before a model is read.
    pub(crate) fn new(step: Map<String, Value>, options: &Options) -> Result<Self, Error> {
        // The step names the option at fault better than serde does.
        let own = Step::new("prune-channels", step.clone())?;
        let mut pipeline = Pipeline::of("prune-channels", vec![own]);
        adjust(&mut pipeline, options)?;
        Ok(Self {
            pass: PruneChannels::deserialize(Value::Object(step))
                .map_err(|error| Error::new("option-value", error.to_string()))?,
            pipeline,
            keep: patterns(&options.keep)
                .map_err(|error| Error::new("keep-pattern", format!("--keep: {error}")))?,
        })
    }

    /// Every class of units, what it would lose and free, or what pins it.
    pub(crate) fn plan(self, model: &Model, options: &Options) -> Result<ClassPlan, Error> {
        let runs = self
            .pipeline
            .steps
            .iter()
            .any(|step| step.pass.about().needs.runs());
        let engine = runs.then(|| options.make_engine()).transpose()?;
        let resources = StepResources {
            engine: engine.as_deref(),
            data: &self.pipeline.data,
            base: &self.pipeline.base,
            original: None,
            jobs: options.threads(),
            strict: options.strict,
            ledger: None,
        };
        let tell = |what: &str, done: u64, total: Option<u64>| options.tell(what, done, total);
        let context = Context {
            evaluator: &TractEvaluator,
            limits: Limits::default(),
            keep: self.keep,
            seed: options.seed,
            base: self.pipeline.base.clone(),
            progress: &tell,
            resources: Some(&resources),
        };
        let mut folded = model.model.clone();
        self.pass
            .plan(&mut folded, &context)
            .map_err(|source| RunError::Pass { step: 1, source }.into())
    }
}
