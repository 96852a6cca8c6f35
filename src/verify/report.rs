//! What a verification is asked and what it answers.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::bounds::Bounds;
use super::sizes::Sizes;
use crate::data::Dataset;
use crate::engine::compare::{OutputFigures, Tolerances, Verdict};
use crate::engine::{Pace, RunValues};

/// How to verify.
#[derive(Clone, Debug)]
pub struct VerifyOptions {
    /// Seed of synthetic inputs.
    pub seed: u64,
    /// Tolerances by element type.
    pub tolerances: Tolerances,
    /// Sizes of free dimensions that the user chose.
    pub sizes: Sizes,
    /// Given samples, instead of synthetic ones, and what they are called.
    pub data: Option<(String, Arc<Dataset>)>,
    /// Rounds of synthetic samples at each size; one round has a sample of each kind.
    pub rounds: u64,
    /// Whether the engine may optimise both models. It is many times faster and rounds differently in graphs that differ;
    /// off, rewrites that keep every bit give equal bits.
    pub optimise: bool,
    /// How much is compared.
    pub bounds: Bounds,
    /// Pairs of an input or output of the reference and one of the model, by name or position.
    pub map: Vec<(String, String)>,
    /// Whether sizes that the model fixes are noted: not where a pass was asked to fix them.
    pub every_size: bool,
    /// For how long both are timed, beside the comparison.
    pub timed: Option<Duration>,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            seed: 0,
            tolerances: Tolerances::default(),
            sizes: Sizes::new(),
            data: None,
            rounds: 1,
            optimise: true,
            bounds: Bounds::default(),
            map: Vec::new(),
            every_size: false,
            timed: None,
        }
    }
}

/// Something that could not be checked, and why.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct NotChecked {
    /// The output, `reference` or `model`.
    pub what: String,
    /// The operator in the way, if it is one.
    pub operator: Option<String>,
    /// Why.
    pub reason: String,
}

/// The result of a verification.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VerifyReport {
    /// The verdict.
    pub verdict: Verdict,
    /// The engine that ran both models.
    pub engine: String,
    /// Samples on which outputs were compared.
    pub samples: u64,
    /// What the samples are: `synthetic`, or the name of the data.
    pub inputs: String,
    /// Samples that would be compared without a bound on the time.
    pub planned: u64,
    /// Whether samples were left out for the time.
    pub cut_short: bool,
    /// What could not be checked.
    pub not_checked: Vec<NotChecked>,
    /// Figures of each output of the reference.
    pub outputs: Vec<OutputFigures>,
    /// Outputs of samples that were left out: there the reference itself differs by more than the tolerance when its inputs or
    /// values on the way are moved by one unit in the last place, or it overflows.
    pub sensitive: u64,
    /// The sizes of free dimensions that were tried.
    pub sizes: Vec<Sizes>,
    /// Further sizes, tried with few samples: larger ones, 0 and 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further_sizes: Vec<Sizes>,
    /// What else a caller should know: where the model cannot take the place of the reference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Whether the model fails on inputs on which the reference runs.
    pub does_not_run: bool,
    /// What makes the models different beside the figures: an interface or a failure to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How long one run of each takes, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Pace>,
    /// The inputs of the sample that differs most.
    #[serde(skip)]
    pub worst: Option<RunValues>,
}
