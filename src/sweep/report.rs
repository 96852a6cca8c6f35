//! The answer of a sweep: every point with its figures, and which of them no other beats.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::front::Measure;
use super::record::Status;

/// What a sweep found.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(
    rename = "Document",
    description = "Settings of a pipeline on models, and which of them no other beats."
)]
pub struct SweepReport {
    /// The sweep.
    pub name: String,
    /// The version of secateur.
    pub version: String,
    /// What ran models.
    pub engine: String,
    /// The seed of everything random in the pipelines.
    pub seed: u64,
    /// What points are judged by, the main figure first.
    pub measures: Vec<Measure>,
    /// Points that are not computed yet.
    pub missing: usize,
    /// Points that were computed by the call that answers this.
    pub computed: usize,
    /// Every point: those of models in their order, settings in the order of the search.
    pub points: Vec<PointResult>,
    /// The names of the points that no other beats, the smallest first.
    pub front: Vec<String>,
}

/// A point and what was found of it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PointResult {
    /// The digest of all that decides about the result.
    pub id: String,
    /// How it is called: the model and the values.
    pub name: String,
    /// The model's file.
    pub model: String,
    /// The values by variable.
    pub vars: IndexMap<String, Value>,
    /// Other values with which the pipeline is the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<IndexMap<String, Value>>,
    /// Evaluation samples of the last rung that it reached; `null` for all there are.
    pub samples: Option<u64>,
    /// Whether it reached the last rung; `true` in searches without.
    pub finished: bool,
    /// What became of it; `null` while it is missing.
    pub status: Option<Status>,
    /// Why it was refused or failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// The code of the error with which it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How outputs compare with those of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Figures by name.
    pub figures: IndexMap<String, f64>,
    /// Whether no other beats it.
    pub best: bool,
    /// How long it took.
    pub seconds: f64,
}
