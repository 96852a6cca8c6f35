//! What each operator does to axes, one file an operator family, and the table that finds a rule.

mod contrib;
mod convolution;
mod elementwise;
mod matmul;
mod normalise;
mod quantize;
mod recurrent;
mod reduce;
mod reshape;
mod select;
mod space;

use super::rule::RuleFn;
use crate::ops::{Traits, operator_names};

/// One row: operator and rule.
type Row = (&'static str, RuleFn);

/// Rules of ONNX's own operators, beside those that follow from their traits.
const ONNX: &[Row] = &[
    ("Dropout", elementwise::dropout),
    ("LRN", elementwise::local_response),
    ("Softmax", elementwise::softmax),
    ("LogSoftmax", elementwise::softmax),
    ("Hardmax", elementwise::softmax),
    ("CumSum", elementwise::cumulative),
    ("Trilu", elementwise::last_two_fixed),
    ("Conv", convolution::conv),
    ("ConvInteger", convolution::conv_integer),
    ("QLinearConv", convolution::qlinear_conv),
    ("ConvTranspose", convolution::conv_transpose),
    ("MaxPool", convolution::pool),
    ("AveragePool", convolution::pool),
    ("LpPool", convolution::pool),
    ("GlobalAveragePool", convolution::pool),
    ("GlobalMaxPool", convolution::pool),
    ("GlobalLpPool", convolution::pool),
    ("Gemm", matmul::gemm),
    ("MatMul", matmul::matmul),
    ("MatMulInteger", matmul::matmul_integer),
    ("QLinearMatMul", matmul::qlinear_matmul),
    ("Einsum", matmul::einsum),
    ("BatchNormalization", normalise::per_channel),
    ("InstanceNormalization", normalise::per_channel),
    ("GroupNormalization", normalise::group),
    ("LayerNormalization", normalise::layer),
    ("RMSNormalization", normalise::root_mean_square),
    ("ReduceSum", reduce::sum),
    ("ReduceL1", reduce::sum),
    ("ReduceL2", reduce::sum),
    ("ReduceSumSquare", reduce::sum),
    ("ReduceMean", reduce::mean),
    ("ReduceMax", reduce::pinning),
    ("ReduceMin", reduce::pinning),
    ("ReduceProd", reduce::pinning),
    ("ReduceLogSum", reduce::pinning),
    ("ReduceLogSumExp", reduce::pinning),
    ("ArgMax", reduce::arg),
    ("ArgMin", reduce::arg),
    ("TopK", reduce::top_k),
    ("Concat", select::concat),
    ("Split", select::split),
    ("Slice", select::slice),
    ("Gather", select::gather),
    ("Shape", select::shape),
    ("Reshape", reshape::reshape),
    ("Flatten", reshape::flatten),
    ("Transpose", reshape::transpose),
    ("Squeeze", reshape::squeeze),
    ("Unsqueeze", reshape::unsqueeze),
    ("Expand", reshape::expand),
    ("ConstantOfShape", reshape::constant_of_shape),
    ("Tile", reshape::tile),
    ("DepthToSpace", space::depth_to_space),
    ("SpaceToDepth", space::space_to_depth),
    ("Pad", space::pad),
    ("Resize", space::resize),
    ("Upsample", space::resize),
    ("GridSample", space::grid_sample),
    ("RoiAlign", space::regions),
    ("MaxRoiPool", space::regions),
    ("LSTM", recurrent::lstm),
    ("GRU", recurrent::gru),
    ("RNN", recurrent::rnn),
    ("QuantizeLinear", quantize::quantize),
    ("DequantizeLinear", quantize::quantize),
    ("DynamicQuantizeLinear", quantize::dynamic),
];

/// The rule of an operator; `None` for one that nothing is known of.
pub(super) fn find(domain: &str, op_type: &str) -> Option<RuleFn> {
    let rows = match domain {
        "" => ONNX,
        "com.microsoft" => contrib::RULES,
        _ => return None,
    };
    let row = rows.iter().find(|(name, _)| *name == op_type);
    row.map(|(_, rule)| *rule).or_else(|| by_traits(domain, op_type))
}

fn by_traits(domain: &str, op_type: &str) -> Option<RuleFn> {
    let traits = Traits::of(domain, op_type);
    if traits.elementwise_unary {
        Some(elementwise::unary)
    } else if traits.elementwise_broadcast {
        Some(elementwise::broadcast)
    } else {
        None
    }
}

/// Domain and type of every operator that has a rule.
pub fn operators() -> Vec<(&'static str, &'static str)> {
    let own = ONNX.iter().map(|(name, _)| ("", *name));
    let contrib = contrib::RULES.iter().map(|(name, _)| ("com.microsoft", *name));
    let traits = operator_names().filter(|name| by_traits("", name).is_some());
    own.chain(contrib).chain(traits.map(|name| ("", name))).collect()
}
