//! tract's operator register, with operators of our own that no file has: lowering makes them, and only this engine runs
//! them.

mod native;
mod places;
mod quantize;
mod round;

use std::sync::LazyLock;

use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{TValue, Tensor, TractResult};

/// The domain of the operators that only the built-in engine knows.
pub(super) const DOMAIN: &str = "secateur.engine";

static FRAMEWORK: LazyLock<Onnx> = LazyLock::new(|| {
    let mut onnx = tract_onnx::onnx()
        .with_ignore_value_info(true)
        .with_ignore_output_shapes(true);
    onnx.op_register.insert("EngineRound", round::build);
    onnx.op_register
        .insert("EngineQuantizeLinear", quantize::build_quantize);
    onnx.op_register
        .insert("EngineDequantizeLinear", quantize::build_dequantize);
    onnx
});

/// The importer with every operator that can be run. Declared intermediate types are ignored: files get them wrong, and
/// tract believes them.
pub(super) fn framework() -> &'static Onnx {
    &FRAMEWORK
}

/// What a node that only widens its constant inputs gives: a dequantization, or float16 cast to float. `None` for other nodes.
pub(super) fn widened(node: &NodeProto, inputs: &[TValue]) -> Option<TractResult<Tensor>> {
    match (node.domain.as_str(), node.op_type.as_str()) {
        (DOMAIN, "EngineDequantizeLinear") => Some(quantize::dequantized(node, inputs)),
        ("", "Cast") => round::widened(node, inputs),
        _ => None,
    }
}
