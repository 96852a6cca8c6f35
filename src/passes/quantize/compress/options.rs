//! What a user may ask for.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NAME;
use crate::passes::PassError;
use crate::passes::quantize::weights::{BitsBy, OPERATORS, QuantizeWeights};
use crate::passes::until::Until;
use crate::quantize::Kind;

/// Weights as integers that take few bits once they are packed, chosen by what the model's outputs lose and what each code costs.
///
/// Weights become 8-bit codes with a scale for each output channel, as with `quantize-weights`, so that every runtime loads the model; but
/// steps and codes are chosen by rate and distortion: a code is what is least in error times importance plus the bits that the coder
/// of `pack` will spend on it where it stands. What one weight loses is made up for by those behind it that the same inputs
/// reach (as in GPTQ). Bits are dealt out over the whole model by one price: layers and channels on which the outputs depend little get
/// few. Activations and arithmetic stay float; weights that are zero stay zero. Run `pack` on the result: it has the stated bits a weight
/// there, and 8 in the model file. Biases keep as many bits of their fractions as a weight has, and three, from 6 to 12.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Compress {
    /// Bits a weight once packed, in the mean over all weights that are coded. 4 without any target.
    pub bits: Option<f64>,
    /// How many times smaller than the given file the packed model is to be.
    pub ratio: Option<f64>,
    /// Bytes that the packed model may have.
    pub max_bytes: Option<u64>,
    /// What says how much a layer matters.
    pub importance: Importance,
    /// The role of the data, without labels. Where there are none the weights alone say what matters, and the run warns of it.
    pub data: String,
    /// Move the biases of Conv and Gemm by the mean error that their weights' codes cause, where data say what that is.
    pub correct_bias: bool,
    /// Operators whose weights are coded.
    pub operators: Vec<String>,
    /// Weights with fewer elements stay float.
    pub minimum_elements: u64,
    /// Nodes whose weights stay float: regular expressions on node names and output names.
    pub exclude: Vec<String>,
    /// Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen and normalizations are in weights.
    pub prepare: bool,
    /// Bounds that the result has to keep, such as `accuracy.drop<=0.01`: the fewest bits a weight at which they hold on evaluation
    /// data that the search did not see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// With `until`, the file that the pipeline with the bits found is written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-file" = "write"))]
    pub write_pipeline: Option<PathBuf>,
    /// A file of `secateur stats --for gram` in the place of data for what the layers read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-file" = "read"))]
    pub stats: Option<PathBuf>,
}

/// What says how much a layer matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Importance {
    /// How far the model's outputs move with each weight: gradients of the outputs on the data; no labels are needed. Where the model has
    /// none, as `outputs`.
    #[default]
    Gradients,
    /// The error of each layer's own output, as a share of that output: the same share in every layer.
    Outputs,
    /// The error of each weight tensor as a share of it. Needs no data.
    Weights,
}

impl Default for Compress {
    fn default() -> Self {
        Self {
            bits: None,
            ratio: None,
            max_bytes: None,
            importance: Importance::default(),
            data: "calibration".to_owned(),
            correct_bias: true,
            operators: OPERATORS.map(str::to_owned).to_vec(),
            minimum_elements: 128,
            exclude: Vec::new(),
            prepare: true,
            until: None,
            write_pipeline: None,
            stats: None,
        }
    }
}

/// How small the result has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// Bits a weight.
    Bits(f64),
    /// Bytes of the container.
    Bytes(u64),
    /// The given file over the container.
    Ratio(f64),
}

impl Compress {
    /// What is asked for.
    pub(super) fn goal(&self) -> Result<Goal, PassError> {
        let wrong = |message: String| PassError::Option { pass: NAME, message };
        match (self.bits, self.ratio, self.max_bytes) {
            (None, None, None) => Ok(Goal::Bits(4.0)),
            (Some(bits), None, None) if bits > 0.0 && bits <= 8.0 => Ok(Goal::Bits(bits)),
            (Some(bits), None, None) => Err(wrong(format!("bits: {bits} is not above 0 and at most 8"))),
            (None, Some(ratio), None) if ratio >= 1.0 && ratio.is_finite() => Ok(Goal::Ratio(ratio)),
            (None, Some(ratio), None) => Err(wrong(format!("ratio: {ratio} is not a number from 1 on"))),
            (None, None, Some(bytes)) => Ok(Goal::Bytes(bytes)),
            _ => Err(wrong(
                "one of `bits`, `ratio` and `max-bytes` says how small".to_owned(),
            )),
        }
    }

    /// How the weights are found and written.
    pub(super) fn written(&self) -> QuantizeWeights {
        QuantizeWeights {
            kind: Kind::Int8,
            criterion: BitsBy::Range,
            correct_bias: self.correct_bias,
            data: self.data.clone(),
            stats: self.stats.clone(),
            operators: self.operators.clone(),
            minimum_elements: self.minimum_elements,
            exclude: self.exclude.clone(),
            prepare: self.prepare,
            ..QuantizeWeights::default()
        }
    }
}
