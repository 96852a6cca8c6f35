//! Operators on codes, of ONNX and of ONNX Runtime's domain.

use crate::ir::Operator;

/// Whether the operator rounds: works on codes or makes them.
pub fn works_on_codes(operator: &Operator) -> bool {
    let name = &*operator.op_type;
    matches!(
        name,
        "QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear" | "MatMulInteger" | "ConvInteger"
    ) || name.starts_with("QLinear")
        || matches!(
            name,
            "QGemm"
                | "MatMulNBits"
                | "GatherBlockQuantized"
                | "DynamicQuantizeMatMul"
                | "DynamicQuantizeLSTM"
                | "MatMulIntegerToFloat"
                | "QAttention"
                | "QEmbedLayerNormalization"
        )
}
