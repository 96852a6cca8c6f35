//! What a search says of itself.

use schemars::JsonSchema;
use serde::Serialize;

use super::super::gates::GateReport;

/// What a search for the cheapest result that keeps bounds found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Searched {
    /// The bounds.
    pub bounds: Vec<String>,
    /// Whether the result keeps them, on samples that the search did not see where a bound is on samples.
    pub held: bool,
    /// The result, in words.
    pub message: String,
    /// How the samples were used.
    pub samples: SearchedSamples,
    /// What layers were ranked by, where they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranked_by: Option<String>,
    /// Every candidate that was judged, in that order.
    pub candidates: Vec<Candidate>,
    /// Layers of the result that are not as narrow as the step alone would make them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<KeptLayer>,
    /// Share of the multiply-accumulates that run on integers in the result, where it is quantized and they are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integer_macs: Option<f64>,
}

/// How many samples served for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SearchedSamples {
    /// To rank layers.
    pub ranking: u64,
    /// To choose among candidates: of the evaluation data the first sample, the third and so on.
    pub search: u64,
    /// To confirm the choice: of the evaluation data the second sample, the fourth and so on.
    pub held_out: u64,
}

/// What a candidate was judged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JudgedOn {
    /// Samples that the search chooses by.
    Search,
    /// Samples that it does not.
    HeldOut,
    /// No samples: the bounds are on the model itself.
    Model,
}

/// One candidate.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Candidate {
    /// What it is.
    pub what: String,
    /// What it was judged on.
    pub on: JudgedOn,
    /// Whether every bound that was judged holds.
    pub holds: bool,
    /// Whether it is the result.
    pub chosen: bool,
    /// The bounds that were judged.
    pub gates: Vec<GateReport>,
}

/// A layer that a search put back.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct KeptLayer {
    /// The node.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// What it is in the result: `float`, or the type of its activations.
    pub kept_as: String,
    /// What it loses where it alone is quantized.
    pub why: String,
    /// Its multiply-accumulates.
    pub macs: u64,
    /// Those as a share of the model's.
    pub share: f64,
}
