//! The options of `search-precision`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NAME;
use crate::passes::quantize::{LayerPrecision, Precision, QuantizeWeights, Rounding};
use crate::passes::{PassError, Until};
use crate::quantize::Kind;

/// What a layer's precision is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sensitivity {
    /// The error of the model's outputs when this layer alone is quantized: one run of the model over `samples` for each layer and
    /// type.
    #[default]
    Output,
    /// The error of the layer's own output, from its second moments: no further runs, but blind to what follows.
    Layer,
}

/// Searches for each layer's weights the type that a budget allows, and quantizes the weights so.
///
/// Every layer is quantized alone, with each of the types, while everything else stays float. Starting from the narrowest type
/// everywhere, the layer that gains most for each bit gets more, as long as the budget (`bits`, `max-size`) lasts, or until the
/// loss of accuracy is at most `max-drop`. Weights in bodies and functions get the widest type. The result can be written as a pipeline of one `quantize-weights` step, which gives
/// the same model again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SearchPrecision {
    /// Types that a layer may have.
    pub types: Vec<Precision>,
    /// Bits of a weight on average, scales not counted, at most.
    pub bits: Option<f64>,
    /// Size of the result as a share of the input's, at most.
    pub max_size: Option<f64>,
    /// Loss of accuracy on the evaluation data (0.01: one point), at most; the smallest model that keeps it is searched for.
    pub max_drop: Option<f64>,
    /// Search for the fewest bits with which bounds hold: `map.drop<=0.005`, `accuracy.drop<=0.01`, or gates with their bounds; with
    /// bounds on size or latency alone, for the most bits. Every other sample of the evaluation data chooses, the rest confirms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// What a layer's precision is judged by.
    pub sensitivity: Sensitivity,
    /// Samples of the calibration data that the model's outputs are compared on.
    pub samples: u64,
    /// Where to write the pipeline.
    #[schemars(extend("x-file" = "write"))]
    pub pipeline: Option<PathBuf>,
    /// How codes are chosen.
    pub rounding: Rounding,
    /// Elements along the summed dimension that share a scale; 0: a whole output channel does.
    pub block: usize,
    /// Zero is in the middle of the codes; else each scale has a zero point.
    pub symmetric: bool,
    /// Move the biases of Conv and Gemm by the mean error that the rounded weights cause.
    pub correct_bias: bool,
    /// Operators whose weights are quantized: MatMul, Gemm, Conv, ConvTranspose.
    pub operators: Vec<String>,
    /// Weights with fewer elements stay float.
    pub minimum_elements: u64,
    /// Nodes whose weights stay float: regular expressions on node names and output names.
    pub exclude: Vec<String>,
    /// The role of the data that sensitivities and codes come from.
    pub data: String,
}

impl Default for SearchPrecision {
    fn default() -> Self {
        Self {
            types: vec![Precision::Int4, Precision::Int8],
            bits: None,
            max_size: None,
            max_drop: None,
            until: None,
            sensitivity: Sensitivity::default(),
            samples: 16,
            pipeline: None,
            rounding: Rounding::Gptq,
            block: 0,
            symmetric: true,
            correct_bias: true,
            operators: vec!["Conv".to_owned(), "Gemm".to_owned(), "MatMul".to_owned()],
            minimum_elements: 1024,
            exclude: Vec::new(),
            data: "calibration".to_owned(),
        }
    }
}

impl SearchPrecision {
    /// Refuses options that leave nothing to search for.
    pub(super) fn check(&self) -> Result<(), PassError> {
        let budgets = [self.bits, self.max_size, self.max_drop];
        if budgets.iter().all(Option::is_none) {
            return Err(wrong("give a budget: bits, max-size, max-drop or until"));
        }
        self.check_values()
    }

    /// The same where a search finds the budget.
    pub(super) fn check_searched(&self) -> Result<(), PassError> {
        if self.max_drop.is_some() {
            return Err(wrong("max-drop: until bounds the loss"));
        }
        self.check_values()
    }

    fn check_values(&self) -> Result<(), PassError> {
        let wrong = |message: &str| Err(wrong(message));
        let positive = |value: Option<f64>| value.is_none_or(|value| value.is_finite() && value > 0.0);
        if !positive(self.bits) || !positive(self.max_size) {
            return wrong("bits and max-size are above 0");
        }
        if self
            .max_drop
            .is_some_and(|drop| !drop.is_finite() || !(0.0..1.0).contains(&drop))
        {
            return wrong("max-drop is a share: 0.01 is one point of accuracy");
        }
        let distinct = self.precisions();
        if distinct.len() < 2 || distinct.first() == Some(&Precision::Float) {
            return wrong("types: at least two different ones");
        }
        if self
            .types
            .iter()
            .any(|precision| precision.kind().is_some_and(Kind::is_float))
        {
            return wrong("types: floats of 8 bits are not searched among; integers and float are");
        }
        if self.samples == 0 {
            return wrong("samples is at least 1");
        }
        Ok(())
    }

    /// The types in ascending order of their bits, each once.
    pub(super) fn precisions(&self) -> Vec<Precision> {
        let mut found = self.types.clone();
        found.sort_by_key(|precision| (precision.bits(), *precision));
        found.dedup_by_key(|precision| precision.bits());
        found
    }

    /// The step that quantizes weights of these layers so, and all others with the widest of the types.
    pub(super) fn step(&self, layers: Vec<LayerPrecision>) -> QuantizeWeights {
        let widest = self
            .precisions()
            .into_iter()
            .filter_map(Precision::kind)
            .next_back();
        let defaults = QuantizeWeights::default();
        QuantizeWeights {
            kind: widest.unwrap_or(defaults.kind),
            block: self.block,
            symmetric: self.symmetric,
            rounding: self.rounding,
            layers,
            correct_bias: self.correct_bias,
            data: self.data.clone(),
            operators: self.operators.clone(),
            minimum_elements: self.minimum_elements,
            exclude: self.exclude.clone(),
            ..defaults
        }
    }
}

fn wrong(message: &str) -> PassError {
    PassError::Option {
        pass: NAME,
        message: message.to_owned(),
    }
}
