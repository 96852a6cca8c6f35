//! The time that a cut saves, measured.

use super::options::PruneChannels;
use super::sample::sample;
use crate::engine::{CompileOptions, Engine, EngineError, RunValues, Session, measure};
use crate::ir::Model;
use crate::lower;
use crate::passes::{PassError, ResourceError, Times};

const NAME: &str = "prune-channels";

/// Timed runs of each model.
const RUNS: usize = 15;

/// The original, ready to run beside what becomes of it.
pub(super) struct Clock<'a> {
    engine: &'a dyn Engine,
    original: Box<dyn Session>,
    inputs: RunValues,
}

impl<'a> Clock<'a> {
    /// Compiles the original, if there is a target to meet.
    pub(super) fn start(
        model: &Model,
        options: &PruneChannels,
        engine: Option<&'a dyn Engine>,
        seed: u64,
    ) -> Result<Option<Self>, PassError> {
        if options.target_latency.is_none() {
            return Ok(None);
        }
        let engine = engine.ok_or_else(|| failed("target-latency: there is no engine to run the model"))?;
        let inputs = sample(&model.graph, seed)
            .ok_or_else(|| failed("target-latency: the types of the inputs are not known"))?;
        Ok(Some(Self {
            engine,
            original: compile(model, engine)?,
            inputs,
        }))
    }

    /// The time of one run of `cut` as a share of the original's: both in turn, the fastest of each.
    pub(super) fn share(&self, cut: &Model) -> Result<f64, PassError> {
        let times = self.times(cut)?;
        Ok(if times.before_ms > 0.0 {
            times.after_ms / times.before_ms
        } else {
            1.0
        })
    }

    /// The time of one run of the original and of `cut`: both in turn, the fastest of each.
    pub(super) fn times(&self, cut: &Model) -> Result<Times, PassError> {
        let other = compile(cut, self.engine)?;
        let times = measure(&[&*self.original, &*other], &self.inputs, RUNS)
            .map_err(|error| failed(ResourceError::of("target-latency", error)))?;
        let least = |at: usize| times.get(at).map_or(0.0, |times| times.min);
        Ok(Times {
            before_ms: least(0),
            after_ms: least(1),
        })
    }
}

fn compile(model: &Model, engine: &dyn Engine) -> Result<Box<dyn Session>, PassError> {
    let options = CompileOptions::side_by_side();
    let compiled = lower::for_engine(model, engine)
        .map_err(EngineError::from)
        .and_then(|lowered| engine.compile(&lowered, &options));
    compiled.map_err(|error| failed(ResourceError::of("target-latency", error)))
}

fn failed(error: impl Into<ResourceError>) -> PassError {
    PassError::resource(NAME, error)
}
