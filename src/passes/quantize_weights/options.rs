//! The options of `quantize-weights`, and what they say of one weight.

use std::path::PathBuf;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NAME, Rounding};
use crate::passes::PassError;
use crate::quantize::{Granularity, Kind, Scheme};

/// How quantized weights are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A DequantizeLinear before each reader.
    #[default]
    Qdq,
    /// ONNX Runtime's operator MatMulNBits, for matrix products; the rest as `qdq`.
    MatMulNBits,
}

/// Stores the constant weights of matrix products as integers; activations stay float.
///
/// The file shrinks to a quarter (`int8`) or an eighth (`int4`), and so does the memory traffic of large matrix products.
/// Weights in bodies of If and Loop and in functions are covered; a weight with several readers is stored once. A weight that
/// something else reads as float is left alone, since the file would grow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct QuantizeWeights {
    /// Type of the codes.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Elements along the summed dimension that share a scale; 0: a whole output channel does.
    pub block: usize,
    /// One scale for each output channel; else one for the whole weight. Without effect on blocks.
    pub per_channel: bool,
    /// Zero is in the middle of the codes; else each scale has a zero point.
    pub symmetric: bool,
    /// How quantized weights are written.
    pub form: Form,
    /// How codes are chosen.
    pub rounding: Rounding,
    /// Other types for single layers: the first entry whose pattern matches the node's name, an output of it or its weight
    /// decides. `{match: REGEX, type: int4|int8|...|float}`, and `block` where it differs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<LayerPrecision>,
    /// Move the biases of Conv and Gemm by the mean error that the rounded weights cause, for roundings that know the rows of
    /// the layer.
    pub correct_bias: bool,
    /// The role of the data that `gptq` and `adaround` run the model over.
    pub data: String,
    /// A statistics file (`secateur stats MODEL --for gram`) to take the second moments of layers from, instead of data.
    pub stats: Option<PathBuf>,
    /// Operators whose weights are quantized: MatMul, Gemm, Conv, ConvTranspose. ONNX Runtime dequantizes the weights of
    /// convolutions anew in every run.
    pub operators: Vec<String>,
    /// Weights with fewer elements stay float.
    pub minimum_elements: u64,
    /// Nodes whose weights stay float: regular expressions on node names and output names.
    pub exclude: Vec<String>,
    /// Simplify the model first, so that weights behind Identity, Transpose or Reshape are seen.
    pub prepare: bool,
}

impl Default for QuantizeWeights {
    fn default() -> Self {
        Self {
            kind: Kind::Int8,
            block: 0,
            per_channel: true,
            symmetric: true,
            form: Form::default(),
            rounding: Rounding::default(),
            layers: Vec::new(),
            correct_bias: true,
            data: "calibration".to_owned(),
            stats: None,
            operators: vec!["MatMul".to_owned(), "Gemm".to_owned()],
            minimum_elements: 1024,
            exclude: Vec::new(),
            prepare: true,
        }
    }
}

/// What becomes of the weights of some layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LayerPrecision {
    /// A regular expression on the node's name, its outputs and its weight.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Type of the codes, or `float`.
    #[serde(rename = "type")]
    pub precision: Precision,
    /// Elements along the summed dimension that share a scale; that of the pass by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
}

/// A type of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Precision {
    Uint2,
    Int2,
    Uint4,
    Int4,
    Uint8,
    Int8,
    Uint16,
    Int16,
    /// As it is.
    Float,
}

impl Precision {
    /// The type of the codes; `None` for weights that stay as they are.
    pub fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::Uint2 => Kind::Uint2,
            Self::Int2 => Kind::Int2,
            Self::Uint4 => Kind::Uint4,
            Self::Int4 => Kind::Int4,
            Self::Uint8 => Kind::Uint8,
            Self::Int8 => Kind::Int8,
            Self::Uint16 => Kind::Uint16,
            Self::Int16 => Kind::Int16,
            Self::Float => return None,
        })
    }

    /// Bits of a weight.
    pub fn bits(self) -> u32 {
        self.kind().map_or(32, Kind::bits)
    }
}

/// How the codes of one weight are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coding {
    /// Type of the codes.
    pub(super) kind: Kind,
    /// Elements that share a scale; 0: a whole channel.
    pub(super) block: usize,
    pub(super) symmetric: bool,
    pub(super) per_channel: bool,
}

impl Coding {
    pub(super) fn scheme(self) -> Scheme {
        Scheme::new(self.kind, self.symmetric)
    }

    pub(super) fn granularity(self, channel_axis: usize, sum_axis: Option<usize>) -> Granularity {
        match sum_axis {
            Some(axis) if self.block > 0 => Granularity::Blocked {
                axis,
                size: self.block,
            },
            _ if self.per_channel => Granularity::PerChannel(channel_axis),
            _ => Granularity::PerTensor,
        }
    }
}

/// The patterns of `layers`, compiled.
pub(super) struct Overrides<'a> {
    options: &'a QuantizeWeights,
    patterns: Vec<Regex>,
}

impl<'a> Overrides<'a> {
    pub(super) fn new(options: &'a QuantizeWeights) -> Result<Self, PassError> {
        let compile = |layer: &LayerPrecision| {
            Regex::new(&layer.pattern).map_err(|error| PassError::Option {
                pass: NAME,
                message: format!("layers: {error}"),
            })
        };
        Ok(Self {
            options,
            patterns: options.layers.iter().map(compile).collect::<Result<_, _>>()?,
        })
    }

    /// How a weight with these names is coded; `None` if it stays float.
    pub(super) fn coding(&self, names: &[String]) -> Option<Coding> {
        let own = self
            .patterns
            .iter()
            .zip(&self.options.layers)
            .find(|(pattern, _)| names.iter().any(|name| pattern.is_match(name)))
            .map(|(_, layer)| layer);
        let plain = Coding {
            kind: self.options.kind,
            block: self.options.block,
            symmetric: self.options.symmetric,
            per_channel: self.options.per_channel,
        };
        match own {
            None => Some(plain),
            Some(layer) => Some(Coding {
                kind: layer.precision.kind()?,
                block: layer.block.unwrap_or(plain.block),
                ..plain
            }),
        }
    }
}

/// Operators that have weights.
const OPERATORS: [&str; 4] = ["MatMul", "Gemm", "Conv", "ConvTranspose"];

impl QuantizeWeights {
    /// Refuses options that contradict each other.
    pub(super) fn check(&self) -> Result<(), PassError> {
        let wrong = |message: String| Err(PassError::Option { pass: NAME, message });
        if let Some(unknown) = self
            .operators
            .iter()
            .find(|name| !OPERATORS.contains(&name.as_str()))
        {
            return wrong(format!(
                "operators: {unknown} is none of {}",
                OPERATORS.join(", ")
            ));
        }
        if self.form == Form::MatMulNBits {
            for (kind, block) in self.precisions() {
                if !matches!(kind, Kind::Int4 | Kind::Uint4 | Kind::Int8 | Kind::Uint8) {
                    return wrong("form: mat-mul-n-bits has 4 or 8 bits".to_owned());
                }
                if block < 16 || !block.is_power_of_two() {
                    return wrong(format!(
                        "block: mat-mul-n-bits needs a power of two from 16 on, not {block}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Every type of codes that the options name, with the size of its blocks.
    fn precisions(&self) -> impl Iterator<Item = (Kind, usize)> + '_ {
        let layers = self.layers.iter();
        std::iter::once((self.kind, self.block)).chain(
            layers.filter_map(|layer| Some((layer.precision.kind()?, layer.block.unwrap_or(self.block)))),
        )
    }

    /// The first opset whose DequantizeLinear has what the options ask for.
    pub(super) fn opset(&self) -> i64 {
        let needed = |(kind, block): (Kind, usize)| match kind {
            Kind::Int8 | Kind::Uint8 if block == 0 => 13,
            Kind::Int2 | Kind::Uint2 => 25,
            _ => 21,
        };
        self.precisions().map(needed).max().unwrap_or(13)
    }
}
