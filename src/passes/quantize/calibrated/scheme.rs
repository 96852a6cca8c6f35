//! Schemes: one name for types and pass.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Profile, Quantize};
use crate::passes::Pass;
use crate::passes::form::{ConvertFloat, Half};
use crate::passes::quantize::{QuantizeDynamic, QuantizeWeights};
use crate::quantize::Kind;

/// What is quantized, and to which types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Weights and activations with 8 bits.
    #[default]
    Int8,
    /// Activations with 16 bits and weights with 8: opset 21. Of the engines only QNN's computes on them; ONNX Runtime's profiles
    /// simulate them in float.
    Int16,
    /// Weights and activations as float8e4m3fn: opset 19, biases stay float. TensorRT's profile and `generic` take it.
    Float8,
    /// Matrix products whose input ranges are found in every run.
    Dynamic,
    /// Weights with 8 bits.
    WeightsInt8,
    /// Weights with 4 bits, in blocks of 32: opset 21.
    WeightsInt4,
    /// Half precision.
    Float16,
    /// The upper half of a float.
    Bfloat16,
}

/// Block of 4-bit weights.
const BLOCK: usize = 32;

impl Target {
    /// Type of activation codes.
    pub(super) fn activation(self, profile: Profile) -> Kind {
        match self {
            Self::Int16 => match profile.activation() {
                Kind::Int8 => Kind::Int16,
                _ => Kind::Uint16,
            },
            Self::Float8 => Kind::Float8e4m3fn,
            _ => profile.activation(),
        }
    }

    /// Type of the codes of weights.
    pub(super) fn weight(self) -> Kind {
        match self {
            Self::Float8 => Kind::Float8e4m3fn,
            _ => Kind::Int8,
        }
    }

    /// The pass that the scheme stands for, if it is not this one.
    pub(super) fn other_pass(self, options: &Quantize) -> Option<Box<dyn Pass>> {
        let weights = |kind, block| QuantizeWeights {
            kind,
            block,
            per_channel: options.per_channel,
            exclude: options.exclude.clone(),
            prepare: options.prepare,
            ..QuantizeWeights::default()
        };
        let float = |to| ConvertFloat {
            to,
            exclude: options.exclude.clone(),
            ..ConvertFloat::default()
        };
        Some(match self {
            Self::Int8 | Self::Int16 | Self::Float8 => return None,
            Self::Dynamic => Box::new(QuantizeDynamic {
                per_channel: options.per_channel,
                saturation: options.saturation,
                exclude: options.exclude.clone(),
                prepare: options.prepare,
                ..QuantizeDynamic::default()
            }),
            Self::WeightsInt8 => Box::new(weights(Kind::Int8, 0)),
            Self::WeightsInt4 => Box::new(weights(Kind::Int4, BLOCK)),
            Self::Float16 => Box::new(float(Half::Float16)),
            Self::Bfloat16 => Box::new(float(Half::Bfloat16)),
        })
    }
}
