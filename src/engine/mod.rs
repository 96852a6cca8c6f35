//! Running a model: one trait, two engines (tract, built in; the user's ONNX Runtime).
//!
//! An engine gets a model that [`crate::lower`] has already turned into what the engine can run. It knows the IR and the
//! format, and no pass. [`stream`] runs data sets: what belongs to which sample is decided there. A model runs on threads of this
//! process ([`bounded`]) or, where the program asks for it, in a process of its own ([`worker`]).

mod bounded;
mod calls;
mod cancel;
mod carrier;
pub mod compare;
mod guard;
mod held;
mod latency;
mod ort;
mod own;
mod parallel;
pub mod stream;
mod tract;
#[cfg(target_os = "linux")]
mod worker;
#[cfg(not(target_os = "linux"))]
#[path = "worker/absent.rs"]
mod worker;

pub use bounded::limit_calls;
pub use cancel::{CancelToken, Cancellable};
pub use held::{FloatOutputs, HeldSession, hold};
pub use latency::{Latency, Pace, measure, pace, peak_memory};
pub use ort::OrtEngine;
pub use parallel::{run_many, run_ordered};
pub use tract::{TractEngine, refusals as tract_refusals, run_node, runs as tract_runs};
pub use worker::{Host, serve, work_in_processes, work_inside, workers_memory};

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::ir::{Model, Tensor};

/// A value at run time.
#[derive(Clone, Debug)]
pub enum RunValue {
    /// A tensor of any element type; packed types stay packed.
    Tensor(Tensor),
    /// A sequence.
    Sequence(Vec<RunValue>),
    /// An optional value.
    Optional(Option<Box<RunValue>>),
    /// A map, as parallel keys and values.
    Map(Tensor, Box<RunValue>),
}

/// Values by name.
pub type RunValues = BTreeMap<String, RunValue>;

/// What an engine could not do.
#[derive(Debug, thiserror::Error, Clone)]
pub enum EngineError {
    /// The engine has no kernel for an operator, or is known to be wrong on it: the model is *not checked*.
    #[error("{engine} cannot run {operator}: {reason}")]
    Unsupported {
        /// Engine name.
        engine: &'static str,
        /// Operator type, or the part of the model that stands in the way.
        operator: String,
        /// Node or value.
        node: Option<String>,
        /// Why.
        reason: String,
    },
    /// The engine refused or failed to run the model.
    #[error("{engine} failed: {reason}")]
    Failed {
        /// Engine name.
        engine: &'static str,
        /// The engine's own words.
        reason: String,
    },
    /// An input is missing or does not fit the model.
    #[error("input {name}: {reason}")]
    Input {
        /// Input name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Shapes that contradict each other, found before the engine sees them.
    #[error("{node} ({operator}): {reason}")]
    Shapes {
        /// The node.
        node: String,
        /// Operator type.
        operator: String,
        /// Which shapes, and why they do not fit.
        reason: String,
    },
    /// The engine did not come back in time; the model is *not checked*.
    #[error("the engine {engine} took longer than {seconds} s at {at}{}", on(node))]
    TimedOut {
        /// Engine name.
        engine: &'static str,
        /// What it was doing: `compiling` or `a run`.
        at: &'static str,
        /// The bound in seconds.
        seconds: f64,
        /// On which node, where that is known.
        node: Option<String>,
    },
    /// The engine's process ended; the model is *not checked*.
    #[error("the engine {engine} ended by {how}{} ({at})", on(node))]
    Ended {
        /// Engine name.
        engine: &'static str,
        /// The signal or the exit status.
        how: String,
        /// What it was doing: `compiling` or `a run`.
        at: &'static str,
        /// On which node, where that is known.
        node: Option<String>,
    },
    /// The engine asked for more memory than a model of this size may take; the model is *not checked*.
    #[error("the engine {engine} needs more than {megabytes} MB of memory ({at})")]
    Memory {
        /// Engine name.
        engine: &'static str,
        /// What it was doing: `compiling` or `a run`.
        at: &'static str,
        /// The bound.
        megabytes: u64,
    },
    /// The caller asked the work to end before this call; the model is *not checked*.
    #[error("the work was cancelled")]
    Cancelled,
    /// The engine itself is not there.
    #[error("{engine} is not available: {reason}")]
    Unavailable {
        /// Engine name.
        engine: &'static str,
        /// Where it was looked for and how to get it.
        reason: String,
    },
}

fn on(node: &Option<String>) -> String {
    node.as_ref()
        .map_or_else(String::new, |node| format!(" on node {node}"))
}

impl EngineError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } => "engine-unsupported",
            Self::Failed { .. } => "engine-failed",
            Self::Input { .. } => "engine-input",
            Self::Unavailable { .. } => "engine-unavailable",
            Self::TimedOut { .. } => "engine-timed-out",
            Self::Ended { .. } => "engine-ended",
            Self::Memory { .. } => "engine-memory",
            Self::Shapes { .. } => "contradictory-shapes",
            Self::Cancelled => "cancelled",
        }
    }

    /// The node at fault.
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Unsupported { node, .. } | Self::Ended { node, .. } => node.as_deref(),
            Self::Shapes { node, .. } => Some(node),
            _ => None,
        }
    }

    /// Whether the engine did not survive the call or was given up: it says nothing about the model's numbers, which are *not
    /// checked*.
    pub fn ends_the_engine(&self) -> bool {
        matches!(
            self,
            Self::TimedOut { .. } | Self::Ended { .. } | Self::Memory { .. } | Self::Cancelled
        )
    }
}

/// How to compile a model.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// Values to return beside the graph outputs, by name. An unknown name is an error.
    pub expose: Vec<String>,
    /// Sizes for symbolic dimensions (`dim_param`).
    pub symbols: BTreeMap<String, i64>,
    /// Whether the engine may optimise the graph; off for bit comparisons between runs.
    pub optimise: bool,
    /// Threads inside one run; 0 is the engine's default.
    pub threads: usize,
}

impl CompileOptions {
    /// For runs of many samples next to each other, each on one thread.
    pub fn side_by_side() -> Self {
        Self {
            optimise: true,
            threads: 1,
            ..Self::default()
        }
    }
}

/// Something that runs models.
pub trait Engine: Send + Sync {
    /// `tract` or `ort`, with the version in reports.
    fn name(&self) -> &'static str;

    /// Name and version: what numbers may depend on, wherever the engine lies.
    fn release(&self) -> String;

    /// Name, version and, for an engine that is loaded, the file it came from: for reports.
    fn describe(&self) -> String;

    /// Compiles a model once; the session runs any number of samples.
    fn compile(&self, model: &Model, options: &CompileOptions) -> Result<Box<dyn Session>, EngineError>;
}

/// What looks at a value of a run: it gets the value's place among the names asked for, its dimensions and its elements.
pub type Look<'l> = &'l mut dyn FnMut(usize, &[u64], &[f32]);

/// A compiled model. Runs are independent of each other, so one session serves many threads.
pub trait Session: Send + Sync {
    /// Runs the model on named inputs and returns the graph outputs and the exposed values.
    fn run(&self, inputs: &RunValues) -> Result<RunValues, EngineError>;

    /// Runs the model and shows the elements of float values, graph outputs or exposed ones, in the engine's own memory where it
    /// can: `look` gets the place of a name among `names`, its dimensions and its elements in row-major order.
    fn observe(&self, inputs: &RunValues, names: &[String], look: Look<'_>) -> Result<(), EngineError> {
        let outputs = self.run(inputs)?;
        for (at, name) in names.iter().enumerate() {
            let wrong = |reason: String| EngineError::Input {
                name: name.clone(),
                reason,
            };
            let Some(RunValue::Tensor(tensor)) = outputs.get(name) else {
                return Err(wrong("no tensor of this name came out".to_owned()));
            };
            let elements = tensor.to_f32().map_err(|error| wrong(error.to_string()))?;
            look(at, tensor.dims(), &elements);
        }
        Ok(())
    }

    /// Runs the model and answers how long the engine took, without what moves values to it and back where that is known.
    fn time(&self, inputs: &RunValues) -> Result<Duration, EngineError> {
        let start = Instant::now();
        self.run(inputs)?;
        Ok(start.elapsed())
    }

    /// A session that shares these float inputs with the engine; `None` if it cannot. Callers use [`hold`].
    fn holding(&self, held: &[(String, Tensor)]) -> Option<Result<Box<dyn HeldSession + '_>, EngineError>> {
        let _ = held;
        None
    }
}
