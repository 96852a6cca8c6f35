//! The options of `quantize-weights`, and what they say of one weight.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::target::row_kind;
use super::{BitsBy, NAME, Rounding, Widths};
use crate::passes::PassError;
use crate::passes::layer_patterns::LayerPatterns;
use crate::passes::train::LossKind;
use crate::quantize::{Granularity, Kind, Scheme};

/// How quantized weights are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// A DequantizeLinear before each reader.
    #[default]
    Qdq,
    /// ONNX Runtime's operators: MatMulNBits for MatMul and Gemm with the weight on the right, GatherBlockQuantized for tables whose rows
    /// are whole blocks, on the same codes where a product has the rows as outputs; the rest as `qdq`, and the report says so. A product of `float` multiplies with 8-bit codes of the activations, as ONNX Runtime does for the form `qdq`.
    MatMulNBits,
}

/// Stores the constant weights of matrix products, recurrent layers and embeddings as integers; activations stay float.
///
/// The file shrinks to a quarter (`int8`, `float8e4m3fn`) or an eighth (`int4`), and so does the memory traffic of large matrix products.
/// Weights may be either operand of a product, may be float16 or bfloat16 (their scales are, too: opset 19), and may lie behind Cast
/// and Transpose, in bodies of If and Loop, around them and in functions; a weight with several readers is stored once. A weight that
/// something else reads as float is left alone, since the file would grow. A Gemm gets the form that ONNX Runtime computes on codes:
/// its weight stored `[K, N]`, a bias with one number for each column, or MatMul and Add.
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
    /// What decides on bits and codes.
    pub criterion: BitsBy,
    /// Bits a weight, in the mean over all weights: 2 to what the type has; all of them by default. Codes then use 2^bits
    /// levels; with `criterion: log-gradient` some channels use more and others fewer, and the mean may be a fraction. The file
    /// holds the type's bits all the same, 4 where none of a weight's channels has more; what is saved shows once it is packed.
    pub bits: Option<f64>,
    /// What shares a number of bits, with `criterion: log-gradient`.
    pub widths: Widths,
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
    #[schemars(extend("x-file" = "read"))]
    pub stats: Option<PathBuf>,
    /// The role of the labelled data that `log-gradient` takes gradients on.
    pub labelled: String,
    /// Gradient statistics of this very model, as `secateur stats --for gradients` writes them, instead of labelled data.
    #[schemars(extend("x-file" = "read"))]
    pub gradient_stats: Option<PathBuf>,
    /// The loss that gradients are of.
    pub loss: LossKind,
    /// The output that the loss sits on; the first one by default.
    pub loss_output: Option<String>,
    /// Operators whose weights are quantized: MatMul, Gemm, LSTM, GRU, RNN, Einsum, the tables that Gather takes rows of, and if
    /// named Conv and ConvTranspose. ONNX Runtime dequantizes the weights of all but MatMul and Gemm anew in every run; of a table it
    /// dequantizes the rows that are gathered, which have 8 bits at least.
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
            criterion: BitsBy::default(),
            bits: None,
            widths: Widths::default(),
            rounding: Rounding::default(),
            layers: Vec::new(),
            correct_bias: true,
            data: "calibration".to_owned(),
            stats: None,
            labelled: "training".to_owned(),
            gradient_stats: None,
            loss: LossKind::default(),
            loss_output: None,
            operators: ["MatMul", "Gemm", "LSTM", "GRU", "RNN", "Gather", "Einsum"]
                .map(str::to_owned)
                .to_vec(),
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
    Float8e4m3fn,
    Float8e4m3fnuz,
    Float8e5m2,
    Float8e5m2fnuz,
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
            Self::Float8e4m3fn => Kind::Float8e4m3fn,
            Self::Float8e4m3fnuz => Kind::Float8e4m3fnuz,
            Self::Float8e5m2 => Kind::Float8e5m2,
            Self::Float8e5m2fnuz => Kind::Float8e5m2fnuz,
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
pub(in crate::passes::quantize) struct Coding {
    /// Type of the codes.
    pub(in crate::passes::quantize) kind: Kind,
    /// Bits that codes make use of, if not all of the type's.
    pub(in crate::passes::quantize) bits: Option<u32>,
    /// Elements that share a scale; 0: a whole channel.
    pub(in crate::passes::quantize) block: usize,
    /// Zero in the middle of the codes.
    pub(in crate::passes::quantize) symmetric: bool,
    /// One scale for each output channel.
    pub(in crate::passes::quantize) per_channel: bool,
}

impl Coding {
    /// The same for a table whose rows are gathered: whole bytes, and a scale for each row.
    pub(super) fn of_rows(self) -> Self {
        let kind = row_kind(self.kind);
        Self {
            kind,
            bits: self.bits.filter(|_| kind == self.kind),
            block: 0,
            ..self
        }
    }

    pub(super) fn scheme(self) -> Scheme {
        Scheme {
            bits: self.bits,
            ..Scheme::new(self.kind, self.symmetric)
        }
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
    layers: LayerPatterns<'a, LayerPrecision>,
}

impl<'a> Overrides<'a> {
    pub(super) fn new(options: &'a QuantizeWeights) -> Result<Self, PassError> {
        Ok(Self {
            options,
            layers: LayerPatterns::new(NAME, &options.layers, |layer| layer.pattern.as_str())?,
        })
    }

    /// How a weight with these names is coded; `None` if it stays float.
    pub(super) fn coding(&self, names: &[String]) -> Option<Coding> {
        let plain = Coding {
            kind: self.options.storage(self.options.uniform()),
            bits: self.options.uniform(),
            block: self.options.block,
            symmetric: self.options.symmetric,
            per_channel: self.options.per_channel,
        };
        match self.layers.find(names) {
            None => Some(plain),
            Some(layer) => Some(Coding {
                kind: layer.precision.kind()?,
                bits: None,
                block: layer.block.unwrap_or(plain.block),
                ..plain
            }),
        }
    }
}

/// Operators that have weights.
pub(in crate::passes::quantize) const OPERATORS: [&str; 9] = [
    "MatMul",
    "Gemm",
    "Conv",
    "ConvTranspose",
    "LSTM",
    "GRU",
    "RNN",
    "Gather",
    "Einsum",
];

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
        if let Some(bits) = self.bits {
            let most = self.kind.bits();
            if most > 8 || !(2.0..=f64::from(most)).contains(&bits) {
                return wrong(format!(
                    "bits: {bits} is not in 2 to the {most} of the type, which has 2, 4 or 8"
                ));
            }
            if self.criterion == BitsBy::Range && bits.fract() != 0.0 {
                return wrong(format!(
                    "bits: {bits} is no whole number, and every weight has the same with criterion: range"
                ));
            }
            if self.form == Form::MatMulNBits {
                return wrong("bits: mat-mul-n-bits uses all levels of the type".to_owned());
            }
        }
        if self.criterion == BitsBy::LogGradient {
            if self.block > 0 || !self.per_channel || self.form != Form::Qdq {
                return wrong(
                    "criterion: log-gradient has one scale for each output channel, in the form qdq"
                        .to_owned(),
                );
            }
            if !self.layers.is_empty() {
                return wrong("layers: log-gradient deals out bits itself".to_owned());
            }
        } else if self.gradient_stats.is_some() {
            return wrong("gradient-stats: criterion: range uses no gradient statistics".to_owned());
        }
        if let Some((kind, _)) = self.precisions().find(|(kind, _)| kind.is_float()) {
            let name = kind.name();
            let refused = [
                (
                    self.rounding != Rounding::Nearest,
                    "rounding: the other roundings count on evenly spaced codes",
                ),
                (
                    self.criterion != BitsBy::Range || self.bits.is_some(),
                    "criterion, bits: levels are dealt out to evenly spaced codes",
                ),
                (!self.symmetric, "symmetric: zero is in the middle of floats"),
            ];
            if let Some((_, why)) = refused.into_iter().find(|(wrong, _)| *wrong) {
                return wrong(format!("type: {name}: {why}"));
            }
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

    /// Bits of a weight that no plan is made for.
    fn uniform(&self) -> Option<u32> {
        self.bits.map(|bits| bits as u32)
    }

    /// The type that codes of so many bits are stored in.
    pub(super) fn storage(&self, bits: Option<u32>) -> Kind {
        match (self.kind, bits) {
            (Kind::Int8, Some(..=4)) => Kind::Int4,
            (Kind::Uint8, Some(..=4)) => Kind::Uint4,
            (kind, _) => kind,
        }
    }

    /// Whether some weights may be stored in 4 bits of a type of 8.
    fn narrows(&self) -> bool {
        match self.criterion {
            BitsBy::Range => self.bits.is_some_and(|bits| bits <= 4.0),
            BitsBy::LogGradient => self.bits.is_some(),
        }
    }

    /// The scheme of weights that have so many bits of `kind`.
    pub(super) fn scheme(&self, kind: Kind, bits: u32) -> Scheme {
        Scheme {
            bits: Some(bits),
            ..Scheme::new(kind, self.symmetric)
        }
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
        let needed = |(kind, block): (Kind, usize)| match self.narrows() {
            true => kind.opset(block > 0).max(21),
            false => kind.opset(block > 0),
        };
        self.precisions().map(needed).max().unwrap_or(13)
    }
}
