//! What an engine makes of Q/DQ pairs: types, and which operators run on integers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ir::{Graph, NodeId};
use crate::quantize::Kind;

/// The engine that the model is quantized for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// ONNX Runtime on x86: unsigned asymmetric activations, signed symmetric weights.
    #[default]
    OrtX86,
    /// ONNX Runtime on ARM: signed asymmetric activations, signed symmetric weights.
    OrtArm,
}

/// How an operator takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A convolution with a constant weight: input, weight and output are codes.
    Anchor,
    /// A matrix product with a constant weight: its output may stay float.
    FloatOutAnchor,
    /// Runs on codes when all its inputs and its output are codes.
    Elementwise,
    /// Moves codes without changing them: output and input share scale and zero point.
    Moving,
    /// A clamp that the output's range of codes may imply.
    Clamp,
    /// Runs in float.
    Float,
}

impl Profile {
    /// Type of activation codes.
    pub(super) fn activation(self) -> Kind {
        match self {
            Self::OrtX86 => Kind::Uint8,
            Self::OrtArm => Kind::Int8,
        }
    }

    /// The role of an operator, and why it runs in float if it does.
    pub(super) fn role(self, graph: &Graph, node: NodeId, opset: i64) -> (Role, &'static str) {
        let Some(operator) = graph.operator(node) else {
            return (Role::Float, "not an operator");
        };
        if !operator.domain().is_empty() {
            return (Role::Float, "an operator of another domain");
        }
        let weight = graph.input(node, 1).and_then(|value| graph.constant(value));
        match &*operator.op_type {
            "Conv" if weight.is_some() => (Role::Anchor, ""),
            "Conv" => (Role::Float, "its weight is not constant"),
            "Gemm"
                if weight.is_some()
                    && operator.float("alpha").unwrap_or(1.0) == 1.0
                    && operator.int("transA").unwrap_or(0) == 0 =>
            {
                (Role::FloatOutAnchor, "")
            }
            "Gemm" => (
                Role::Float,
                "its weight is not constant, alpha is not 1, or A is transposed",
            ),
            "MatMul" if weight.is_some_and(|tensor| tensor.rank() == 2) => (Role::FloatOutAnchor, ""),
            "MatMul" => (Role::Float, "its second operand is not a constant matrix"),
            "Add" | "Mul" | "Concat" | "AveragePool" | "GlobalAveragePool" | "LeakyRelu" | "Sigmoid" => (
                Role::Elementwise,
                "none of its inputs comes from an integer operator, or nothing integer reads it",
            ),
            "MaxPool" if opset >= 12 && graph.get(node).is_some_and(|n| n.outputs().len() == 1) => {
                (Role::Moving, "nothing integer is around it")
            }
            "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" | "Flatten" => {
                (Role::Moving, "nothing integer is around it")
            }
            "Resize" if operator.string("mode").unwrap_or("nearest") == "nearest" => {
                (Role::Moving, "nothing integer is around it")
            }
            "Relu" | "Clip" => (Role::Clamp, "no range of codes implies it"),
            "ConvTranspose" => (Role::Float, "no integer kernel"),
            _ => (Role::Float, "pairs around it would only cost"),
        }
    }
}
