//! tract's operator register, with operators of our own that no file has: lowering makes them, and only this engine runs
//! them.

mod native;
mod quantize;
mod round;

use std::sync::LazyLock;

use tract_onnx::Onnx;

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
