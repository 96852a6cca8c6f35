//! What a user may ask for.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::apply::Saturation;
use super::profile::Profile;
use super::scheme::Target;
use super::types::LayerTypes;
use crate::passes::Until;
use crate::passes::quantize::Rounding;
use crate::quantize::{Calibrator, Kind};

/// Quantizes weights and activations to 8-bit integers with Q/DQ pairs, placed so that the target engine runs the operators
/// between them on integers. Ranges come from the calibration data. Options give the whole model or single layers other types:
/// 4-bit weights, 16-bit activations, floats of 8 bits; a value that is read in two types gets a pair for each.
///
/// The report names every node with what becomes of it, integer or float in the target engine, and why; `--dry-run` prints
/// it as a table and writes nothing. Operators in bodies of If, Loop and Scan stay float.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Quantize {
    /// What becomes integer or narrow, and to which types. The schemes beside `int8` and `int16` are the passes
    /// `quantize-dynamic`, `quantize-weights` and `convert-float` with their defaults; they need no data.
    pub scheme: Target,
    /// The engine that the result is for: it decides types, symmetry and where pairs go.
    pub profile: Profile,
    /// Type of the codes of activations; that of the scheme and the profile by default. A type that the engine has no kernel for is
    /// refused, or, by ONNX Runtime's profiles for 16 bits, simulated in float, and the plan says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activations: Option<Kind>,
    /// Type of the codes of weights; `int8` by default, `float8e4m3fn` with the scheme `float8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Kind>,
    /// Zero in the middle of the codes of activations; as the profile has it by default, of which TensorRT's alone does. Clamps stay,
    /// as such a range implies none: ONNX Runtime computes them in float between two pairs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symmetric_activations: Option<bool>,
    /// Zero in the middle of the codes of weights. Without, a range that lies on one side of zero has more codes, and weights have zero
    /// points: TensorRT and OpenVINO take none, ONNX Runtime and QNN one for a whole weight (`per-channel: false`).
    pub symmetric_weights: bool,
    /// Elements along the summed dimension of a matrix product that share a scale of its weight; 0: a whole output channel does.
    pub block: usize,
    /// Other types for single layers: the first entry whose pattern matches the node's name, an output of it or its weight
    /// decides. `{match: REGEX, type: int4|int8|...|float, activations: uint8|uint16|...}`, and `per-channel` or `block` where
    /// they differ. Operators that only move codes have the type of what they read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerTypes>,
    /// How the codes of weights are chosen: as for `quantize-weights`, on the second moments of what the float model's layers read.
    pub rounding: Rounding,
    /// How ranges of activations are found. The default, `mse`, beats `min-max` on the models of the comparison table; `percentile`
    /// may beat both, or clip what matters.
    pub calibrate: Calibrator,
    /// One scale for each output channel of a weight; else one for the whole weight.
    pub per_channel: bool,
    /// Weights with one bit less, for processors without VNNI that add pairs of products in 16 bits.
    pub reduce_range: bool,
    /// What is done about weights whose products with 8-bit activations saturate on x86 processors without VNNI. Only the
    /// profiles `ort-x86` and `openvino` have such kernels.
    pub saturation: Saturation,
    /// Simplify the model first, so that batch normalization, padding and weights behind Identity, Transpose or Reshape are
    /// part of the products.
    pub prepare: bool,
    /// Move each bias by the mean error that the rounded weights cause, found from the mean of each input channel (Nagel et
    /// al. 2019, section 4.2).
    pub correct_bias: bool,
    /// Even out the channels of values that additions tie together first, as `equalize` does with `pairs: false`. Only where activations
    /// are codes of 8 bits or fewer and ranges come from data.
    pub equalize: bool,
    /// What becomes of the last products of models whose answers have parts: several outputs or scales, or one output that is cut
    /// into scores, boxes and distributions.
    pub heads: Heads,
    /// Nodes that stay float: regular expressions on node names and output names.
    pub exclude: Vec<String>,
    /// The role of the data that ranges come from.
    pub data: String,
    /// A statistics file (`secateur stats MODEL --for quantize`) to take ranges from, instead of data.
    #[schemars(extend("x-file" = "read"))]
    pub stats: Option<PathBuf>,
    /// Search for the layers that have to stay float (or 16 bits, where the engine runs those) so that bounds hold: `map.drop<=0.005`,
    /// `accuracy.drop<=0.01`, `size<=0.4`, or gates with their bounds. Every other sample of the evaluation data chooses, the rest
    /// confirms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// Where to write the pipeline that gives the same model without the search.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-file" = "write"))]
    pub write_pipeline: Option<PathBuf>,
    /// A statistics file (`secateur stats MODEL --for gram`) to take the second moments for `rounding` from, instead of data.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-file" = "read"))]
    pub gram_stats: Option<PathBuf>,
}

/// What becomes of last products whose results are parts of unlike meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Heads {
    /// They stay float where the engine would make codes of what they answer; where every value has a pair they and all behind them have
    /// 16 bits, if the engine has such codes. Together they are a fifth of the multiply-accumulates at most, else they are codes.
    #[default]
    Float,
    /// They are quantized like every other product.
    Codes,
}

impl Default for Quantize {
    fn default() -> Self {
        Self {
            scheme: Target::default(),
            profile: Profile::default(),
            activations: None,
            weights: None,
            symmetric_activations: None,
            symmetric_weights: true,
            block: 0,
            layers: Vec::new(),
            rounding: Rounding::Nearest,
            calibrate: Calibrator::Mse,
            per_channel: true,
            reduce_range: false,
            saturation: Saturation::default(),
            prepare: true,
            correct_bias: true,
            equalize: true,
            heads: Heads::default(),
            exclude: Vec::new(),
            data: "calibration".to_owned(),
            stats: None,
            until: None,
            write_pipeline: None,
            gram_stats: None,
        }
    }
}
