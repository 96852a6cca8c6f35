//! tract's operator register, built once.

use std::sync::LazyLock;

use tract_onnx::Onnx;

/// The domain of operators that only the built-in engine knows; lowering makes them, no file has them.
pub(super) const DOMAIN: &str = "secateur.engine";

static FRAMEWORK: LazyLock<Onnx> =
    LazyLock::new(|| tract_onnx::onnx().with_ignore_value_info(true).with_ignore_output_shapes(true));

/// The importer with every operator that can be run. Declared intermediate types are ignored: files get them wrong, and
/// tract believes them.
pub(super) fn framework() -> &'static Onnx {
    &FRAMEWORK
}
