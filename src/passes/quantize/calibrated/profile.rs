//! What an engine makes of Q/DQ pairs, as a table: types, places of pairs, and which operators run on integers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::analysis::linear;
use crate::ir::{Graph, NodeId, Operator};
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
    /// TensorRT: signed symmetric activations, pairs before operators only, clamps and float biases kept.
    Tensorrt,
    /// Qualcomm's QNN: pairs around every operator, one scale a weight but for convolutions, no range below 1e-4.
    Qnn,
    /// OpenVINO: pairs before operators only, one scale for all operands of a sum or a concatenation.
    Openvino,
    /// tract: matrix products as QLinearMatMul with one scale a tensor; everything else is faster in float.
    Tract,
    /// No engine in particular: pairs around the operators that most engines have integer kernels for.
    Generic,
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
    /// A sum that is fused into the product before it: only the other operand is codes.
    Residual,
    /// Moves codes without changing them: output and input share scale and zero point.
    Moving,
    /// A clamp that the output's range of codes may imply.
    Clamp,
    /// Runs in float.
    Float,
}

/// Where pairs stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pairs {
    /// On inputs and outputs of integer operators.
    Around,
    /// On inputs of integer operators; the engine finds what lies between two pairs.
    Before,
    /// On every float tensor of an operator: one without would leave the accelerator.
    Everywhere,
}

/// Which weights may have codes around another zero than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZeroPoints {
    /// None.
    Nowhere,
    /// Those with one scale: older kernels want the same one for each channel.
    PerTensor,
    /// All.
    Everywhere,
}

/// One engine.
#[derive(Debug)]
pub(super) struct Traits {
    /// Type of activation codes with 8 bits, unless options say otherwise.
    pub(super) activation: Kind,
    /// Other types of activation codes, and of weights, that the engine takes.
    pub(super) activations: &'static [Kind],
    pub(super) weights: &'static [Kind],
    /// Types of either that it takes and computes in float between the pairs.
    pub(super) simulated: &'static [Kind],
    /// Input and weight of a product have one type.
    pub(super) one_type: bool,
    /// Zero is in the middle of the activation codes, and options cannot move it.
    pub(super) symmetric: bool,
    /// Weights that may have a zero point.
    pub(super) zero_points: ZeroPoints,
    /// Smallest span of an activation's range.
    pub(super) minimum_range: Option<f32>,
    /// Operators whose weight may have one scale a channel.
    pub(super) per_channel: &'static [&'static str],
    /// Biases as 32-bit codes; else they stay float.
    pub(super) integer_bias: bool,
    pub(super) pairs: Pairs,
    /// Clamps that a range of codes implies are left out.
    pub(super) implies_clamps: bool,
    /// Clamps that it does not imply are one with the product or sum before them, without a pair between.
    pub(super) fuses_clamps: bool,
    /// Operators whose operands have one scale.
    pub(super) one_scale: &'static [&'static str],
    /// Some processors of the engine add pairs of products in 16 bits.
    pub(super) saturates: bool,
    /// Fewest rows and columns of a matrix product's weight.
    pub(super) least_matrix: u64,
    /// Matrix products become QLinearMatMul.
    pub(super) operator_form: bool,
    /// Operators with their roles; the first entry that fits counts.
    pub(super) operators: &'static [(Role, &'static [&'static str])],
    /// What operators without an entry are, and why.
    pub(super) others: (Role, &'static str),
}

const PRODUCTS: &[&str] = &["Conv", "ConvTranspose", "Gemm", "MatMul"];
const CONVOLUTIONS: &[&str] = &["Conv", "ConvTranspose"];
const MATRIX: &[&str] = &["Gemm", "MatMul"];
const MOVES: &[&str] = &[
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "MaxPool",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];
const COSTS: &str = "pairs around it would only cost";

/// ONNX Runtime's CPU kernels.
const ORT: Traits = Traits {
    activation: Kind::Uint8,
    activations: &[Kind::Uint8, Kind::Int8],
    weights: &[Kind::Int8, Kind::Uint8],
    simulated: &[Kind::Int16, Kind::Uint16, Kind::Int4, Kind::Uint4],
    one_type: false,
    symmetric: false,
    zero_points: ZeroPoints::PerTensor,
    minimum_range: None,
    per_channel: PRODUCTS,
    integer_bias: true,
    pairs: Pairs::Around,
    implies_clamps: true,
    fuses_clamps: false,
    one_scale: &[],
    saturates: false,
    least_matrix: 0,
    operator_form: false,
    operators: &[
        (Role::Anchor, &["Conv"]),
        (Role::FloatOutAnchor, MATRIX),
        (
            Role::Elementwise,
            &[
                "Add",
                "AveragePool",
                "Concat",
                "GlobalAveragePool",
                "LeakyRelu",
                "Mul",
                "Sigmoid",
                "Softmax",
            ],
        ),
        (Role::Moving, MOVES),
        (Role::Clamp, &["Clip", "Relu"]),
    ],
    others: (Role::Float, COSTS),
};
const ORT_X86: Traits = Traits {
    saturates: true,
    ..ORT
};
const ORT_ARM: Traits = Traits {
    activation: Kind::Int8,
    ..ORT
};
const TENSORRT: Traits = Traits {
    activation: Kind::Int8,
    activations: &[Kind::Int8, Kind::Float8e4m3fn],
    weights: &[Kind::Int8, Kind::Float8e4m3fn],
    simulated: &[],
    one_type: true,
    symmetric: true,
    zero_points: ZeroPoints::Nowhere,
    integer_bias: false,
    pairs: Pairs::Before,
    implies_clamps: false,
    fuses_clamps: true,
    least_matrix: 16,
    operators: &[
        (Role::Anchor, CONVOLUTIONS),
        (Role::FloatOutAnchor, MATRIX),
        (Role::Residual, &["Add"]),
        (Role::Elementwise, &["AveragePool", "GlobalAveragePool"]),
        (
            Role::Moving,
            &[
                "MaxPool",
                "Reshape",
                "Transpose",
                "Flatten",
                "Squeeze",
                "Unsqueeze",
            ],
        ),
        (Role::Clamp, &["Clip", "Relu"]),
    ],
    others: (Role::Float, "it runs in half precision"),
    ..ORT
};
const QNN: Traits = Traits {
    activations: &[Kind::Uint8, Kind::Uint16, Kind::Int16],
    weights: &[Kind::Int8, Kind::Uint8, Kind::Int4],
    simulated: &[],
    minimum_range: Some(1e-4),
    per_channel: CONVOLUTIONS,
    pairs: Pairs::Everywhere,
    operators: &[
        (Role::Anchor, PRODUCTS),
        (Role::Moving, MOVES),
        (Role::Clamp, &["Clip", "Relu"]),
        (
            Role::Float,
            &[
                "Cast",
                "If",
                "Loop",
                "Scan",
                "QuantizeLinear",
                "DequantizeLinear",
                "Shape",
                "Constant",
            ],
        ),
    ],
    others: (Role::Elementwise, "it has no float tensor"),
    ..ORT
};
const OPENVINO: Traits = Traits {
    simulated: &[],
    zero_points: ZeroPoints::Nowhere,
    integer_bias: false,
    pairs: Pairs::Before,
    implies_clamps: false,
    fuses_clamps: true,
    one_scale: &["Add", "Concat", "Mul"],
    saturates: true,
    operators: &[
        (Role::Anchor, CONVOLUTIONS),
        (Role::FloatOutAnchor, MATRIX),
        (
            Role::Elementwise,
            &["Add", "AveragePool", "Concat", "GlobalAveragePool", "Mul"],
        ),
        (Role::Moving, MOVES),
        (Role::Clamp, &["Clip", "Relu"]),
    ],
    ..ORT
};
const TRACT: Traits = Traits {
    activation: Kind::Int8,
    simulated: &[],
    per_channel: &[],
    integer_bias: false,
    operator_form: true,
    operators: &[(Role::Anchor, &["MatMul"])],
    others: (Role::Float, "tract runs it faster in float"),
    ..ORT
};
const EVERY: &[Kind] = &[
    Kind::Uint8,
    Kind::Int8,
    Kind::Uint16,
    Kind::Int16,
    Kind::Uint4,
    Kind::Int4,
    Kind::Float8e4m3fn,
    Kind::Float8e4m3fnuz,
    Kind::Float8e5m2,
    Kind::Float8e5m2fnuz,
];
const GENERIC: Traits = Traits {
    activations: EVERY,
    weights: EVERY,
    simulated: &[],
    zero_points: ZeroPoints::Everywhere,
    fuses_clamps: true,
    operators: &[
        (Role::Anchor, PRODUCTS),
        (
            Role::Elementwise,
            &[
                "Add",
                "AveragePool",
                "Concat",
                "GlobalAveragePool",
                "LeakyRelu",
                "Mul",
                "Sigmoid",
                "Softmax",
                "Sub",
            ],
        ),
        (Role::Moving, MOVES),
        (Role::Clamp, &["Clip", "Relu"]),
    ],
    others: (Role::Float, "few engines have an integer kernel for it"),
    ..ORT
};

/// Types of the operators of ONNX's own domain that some profile has on codes: as a product, between products, as a move or a clamp.
pub fn operators() -> Vec<&'static str> {
    let entries = Profile::ALL.iter().flat_map(|profile| profile.traits().operators);
    entries
        .filter(|(role, _)| *role != Role::Float)
        .flat_map(|(_, names)| names.iter().copied())
        .collect()
}

/// What an engine has on codes for an operator between pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerForm {
    /// A kernel whose inputs and result are codes.
    Codes,
    /// A kernel that moves codes of any type without changing them.
    Moves,
    /// A kernel that reads codes and whose result may be float.
    FloatResult,
    /// Nothing of its own: a range of codes implies it.
    Implied,
}

impl Profile {
    /// What the engine has on codes for an operator of ONNX's own domain; `None` where it runs in float.
    pub fn integer_form(self, op_type: &str) -> Option<IntegerForm> {
        let traits = self.traits();
        let entry = traits
            .operators
            .iter()
            .find(|(_, names)| names.contains(&op_type));
        match entry.map_or(traits.others.0, |(role, _)| *role) {
            Role::Anchor | Role::Elementwise | Role::Residual => Some(IntegerForm::Codes),
            Role::Moving => Some(IntegerForm::Moves),
            Role::FloatOutAnchor => Some(IntegerForm::FloatResult),
            Role::Clamp => Some(IntegerForm::Implied),
            Role::Float => None,
        }
    }

    /// Every profile.
    pub const ALL: [Self; 7] = [
        Self::OrtX86,
        Self::OrtArm,
        Self::Tensorrt,
        Self::Qnn,
        Self::Openvino,
        Self::Tract,
        Self::Generic,
    ];

    /// What the engine makes of pairs.
    pub(super) fn traits(self) -> &'static Traits {
        match self {
            Self::OrtX86 => &ORT_X86,
            Self::OrtArm => &ORT_ARM,
            Self::Tensorrt => &TENSORRT,
            Self::Qnn => &QNN,
            Self::Openvino => &OPENVINO,
            Self::Tract => &TRACT,
            Self::Generic => &GENERIC,
        }
    }

    /// Type of activation codes.
    pub(super) fn activation(self) -> Kind {
        self.traits().activation
    }

    /// The name of the profile in options.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OrtX86 => "ort-x86",
            Self::OrtArm => "ort-arm",
            Self::Tensorrt => "tensorrt",
            Self::Qnn => "qnn",
            Self::Openvino => "openvino",
            Self::Tract => "tract",
            Self::Generic => "generic",
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
        if operator.has_bodies() {
            return (Role::Float, "it holds a body, and what is in bodies stays float");
        }
        let traits = self.traits();
        let entry = traits
            .operators
            .iter()
            .find(|(_, names)| names.contains(&&*operator.op_type));
        let (role, why) = match entry {
            Some((Role::Float, _)) => (Role::Float, "it has no form on codes"),
            Some((role, _)) => (*role, idle(*role)),
            None => traits.others,
        };
        match refused(self, graph, node, operator, opset) {
            Some(why) if !matches!(role, Role::Float) => {
                // Where every operator needs pairs, a product of two activations has them, too.
                let spread = traits.pairs == Pairs::Everywhere && operator.is("MatMul");
                if spread {
                    (Role::Elementwise, "")
                } else {
                    (Role::Float, why)
                }
            }
            _ => (role, why),
        }
    }
}

/// Why an operator of this role may still run in float.
fn idle(role: Role) -> &'static str {
    match role {
        Role::Elementwise => "none of its inputs comes from an integer operator, or nothing integer reads it",
        Role::Residual => "no operand comes from a product that it could be fused into",
        Role::Moving => "nothing integer is around it",
        Role::Clamp => "no range of codes implies it",
        _ => "",
    }
}

/// Forms of an operator that have no integer kernel.
fn refused(
    profile: Profile,
    graph: &Graph,
    node: NodeId,
    operator: &Operator,
    opset: i64,
) -> Option<&'static str> {
    let weight = graph.input(node, 1).and_then(|value| graph.constant(value));
    let least = profile.traits().least_matrix;
    let small = weight.is_some_and(|tensor| tensor.dims().iter().any(|dim| *dim < least));
    match &*operator.op_type {
        "Conv" if weight.is_none() => Some("its weight is not constant"),
        "ConvTranspose" if weight.is_none() => Some("its weight is not constant"),
        "ConvTranspose" if operator.int("group").unwrap_or(1) != 1 => {
            Some("the channels of a grouped transposed convolution lie on two axes")
        }
        "Gemm"
            if weight.is_none()
                || operator.float("alpha").unwrap_or(1.0) != 1.0
                || operator.int("transA").unwrap_or(0) != 0 =>
        {
            Some("its weight is not constant, alpha is not 1, or A is transposed")
        }
        "Gemm" | "Conv" if profile.traits().integer_bias && !has_channel_bias(graph, node, operator) => {
            Some("its bias is not a constant with one number for each output channel")
        }
        "MatMul" if weight.is_none() && graph.input(node, 0).is_some_and(|a| graph.constant(a).is_some()) => {
            Some(
                "its constant is the first operand, whose rows have no scales of their own in integer kernels",
            )
        }
        "MatMul" if weight.is_none() => Some("it multiplies two activations"),
        "MatMul" if weight.is_none_or(|tensor| tensor.rank() != 2) => {
            Some("its weight is a vector or a stack of matrices")
        }
        "Gemm" | "MatMul" if small => Some("the matrix is too small for the integer kernel"),
        "MaxPool" if opset < 12 => Some("it takes codes from opset 12 on"),
        "MaxPool" if graph.get(node).is_some_and(|n| n.outputs().len() != 1) => Some("its indices are read"),
        "Resize" if operator.string("mode").unwrap_or("nearest") != "nearest" => Some("it interpolates"),
        _ => None,
    }
}

/// Whether a product has no bias, or a constant one that becomes 32-bit codes with the scales of its channels.
fn has_channel_bias(graph: &Graph, node: NodeId, operator: &Operator) -> bool {
    let Some(bias) = graph.input(node, 2) else {
        return true;
    };
    let weight = graph.input(node, 1).and_then(|value| graph.constant(value));
    let axis = weight
        .and_then(|tensor| linear::operand(operator, 1, tensor.rank()))
        .and_then(|operand| operand.output_axis);
    let channels = weight
        .zip(axis)
        .and_then(|(tensor, axis)| tensor.dims().get(axis).copied());
    let own = graph
        .constant(bias)
        .map(|tensor| (tensor.rank(), tensor.elements()));
    channels.is_some_and(|channels| own == Some((1, channels)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_consistent() {
        for profile in Profile::ALL {
            let traits = profile.traits();
            let mut seen: Vec<&str> = Vec::new();
            for name in traits.operators.iter().flat_map(|(_, names)| *names) {
                assert!(!seen.contains(name), "{profile:?} lists {name} twice");
                seen.push(name);
                assert!(
                    crate::ops::schema("", name, 21).is_some(),
                    "{profile:?}: {name} is no operator"
                );
            }
            // A range of codes implies a clamp at 0 only when 0 may be the lowest code.
            assert!(!traits.implies_clamps || !traits.symmetric, "{profile:?}");
            assert!(traits.activations.contains(&traits.activation), "{profile:?}");
            assert!(traits.weights.contains(&Kind::Int8), "{profile:?}");
            let name = serde_json::to_value(profile).unwrap();
            assert_eq!(name.as_str(), Some(profile.name()));
            for name in traits.one_scale {
                assert!(seen.contains(name), "{profile:?}: {name}");
            }
        }
    }
}
