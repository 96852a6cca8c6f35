//! What a user may ask for.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Replaces layers with large weights by two with smaller ones: fewer parameters and multiply-accumulates in every runtime.
///
/// A convolution becomes one of the same kernel into fewer channels and a 1x1 convolution behind it, a matrix product becomes two. The
/// channels between are the directions in which the layer's outputs vary most on the data, which is the best that a layer of that rank
/// can do (principal components of the outputs; with `basis: weights` those of the weight itself, a singular value decomposition). What
/// lies in other directions is replaced by its mean where the layer has a bias. Ranks are chosen for all layers together: the share of
/// the outputs' variance that is lost is weighed against the multiply-accumulates that go. A step `finetune` with the loss `features`
/// then recovers accuracy. Every result is compared with the model that has the same weights as products; a difference is an error and
/// nothing is changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Factorize {
    /// Multiply-accumulates that may remain, as a share of the model's.
    pub target_macs: Option<f64>,
    /// Bytes of constants that may remain, as a share of the model's.
    pub target_bytes: Option<f64>,
    /// Share of the variance of each layer's outputs that has to stay, 0 to 1: each layer gets the lowest rank that keeps it.
    pub energy: Option<f64>,
    /// Where directions come from.
    pub basis: Basis,
    /// Ranks are multiples of this.
    pub round_to: u32,
    /// Layers to factorize: patterns over the names of nodes and weights; all without patterns.
    pub layers: Vec<String>,
    /// Layers to leave alone: patterns over the names of nodes and weights.
    pub keep: Vec<String>,
    /// The role of the data; they need no labels.
    pub data: String,
    /// A file of `secateur stats --for gram` in the place of data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-file" = "read"))]
    pub stats: Option<PathBuf>,
}

impl Default for Factorize {
    fn default() -> Self {
        Self {
            target_macs: None,
            target_bytes: None,
            energy: None,
            basis: Basis::default(),
            round_to: 1,
            layers: Vec::new(),
            keep: Vec::new(),
            data: "calibration".to_owned(),
            stats: None,
        }
    }
}

/// Where the directions of a layer come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// From what the layer puts out on data.
    #[default]
    Outputs,
    /// From the weight alone, as if all inputs were independent and of one size. Needs no data.
    Weights,
}
