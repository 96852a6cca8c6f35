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
use crate::ops::Traits;

/// The rule of an operator; `None` for one that nothing is known of.
pub(super) fn find(domain: &str, op_type: &str) -> Option<RuleFn> {
    match domain {
        "" => onnx(op_type),
        "com.microsoft" => contrib::find(op_type),
        _ => None,
    }
}

fn onnx(op_type: &str) -> Option<RuleFn> {
    Some(match op_type {
        "Dropout" => elementwise::dropout,
        "LRN" => elementwise::local_response,
        "Softmax" | "LogSoftmax" | "Hardmax" => elementwise::softmax,
        "CumSum" => elementwise::cumulative,
        "Trilu" => elementwise::last_two_fixed,
        "Conv" => convolution::conv,
        "ConvInteger" => convolution::conv_integer,
        "QLinearConv" => convolution::qlinear_conv,
        "ConvTranspose" => convolution::conv_transpose,
        "MaxPool" | "AveragePool" | "LpPool" | "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => {
            convolution::pool
        }
        "Gemm" => matmul::gemm,
        "MatMul" => matmul::matmul,
        "MatMulInteger" => matmul::matmul_integer,
        "QLinearMatMul" => matmul::qlinear_matmul,
        "Einsum" => matmul::einsum,
        "BatchNormalization" | "InstanceNormalization" => normalise::per_channel,
        "GroupNormalization" => normalise::group,
        "LayerNormalization" => normalise::layer,
        "RMSNormalization" => normalise::root_mean_square,
        "ReduceSum" | "ReduceL1" | "ReduceL2" | "ReduceSumSquare" => reduce::sum,
        "ReduceMean" => reduce::mean,
        "ReduceMax" | "ReduceMin" | "ReduceProd" | "ReduceLogSum" | "ReduceLogSumExp" => reduce::pinning,
        "ArgMax" | "ArgMin" => reduce::arg,
        "TopK" => reduce::top_k,
        "Concat" => select::concat,
        "Split" => select::split,
        "Slice" => select::slice,
        "Gather" => select::gather,
        "Shape" => select::shape,
        "Reshape" => reshape::reshape,
        "Flatten" => reshape::flatten,
        "Transpose" => reshape::transpose,
        "Squeeze" => reshape::squeeze,
        "Unsqueeze" => reshape::unsqueeze,
        "Expand" => reshape::expand,
        "ConstantOfShape" => reshape::constant_of_shape,
        "Tile" => reshape::tile,
        "DepthToSpace" => space::depth_to_space,
        "SpaceToDepth" => space::space_to_depth,
        "Pad" => space::pad,
        "Resize" | "Upsample" => space::resize,
        "GridSample" => space::grid_sample,
        "RoiAlign" | "MaxRoiPool" => space::regions,
        "LSTM" => recurrent::lstm,
        "GRU" => recurrent::gru,
        "RNN" => recurrent::rnn,
        "QuantizeLinear" | "DequantizeLinear" => quantize::quantize,
        "DynamicQuantizeLinear" => quantize::dynamic,
        other if Traits::of("", other).elementwise_unary => elementwise::unary,
        other if Traits::of("", other).elementwise_broadcast => elementwise::broadcast,
        _ => return None,
    })
}
