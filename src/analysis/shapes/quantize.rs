//! Quantization and dequantization.

use super::super::call::{Call, Facts, Rule};
use crate::ir::DType;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("DequantizeLinear", dequantize),
    ("DynamicQuantizeLinear", dynamic),
    ("QuantizeLinear", quantize),
];

fn dtype_attribute(call: &Call<'_>) -> Option<DType> {
    i32::try_from(call.int("output_dtype").filter(|number| *number != 0)?)
        .ok()
        .and_then(DType::from_onnx)
}

/// The zero point decides the type, then `output_dtype`; without either it is uint8.
pub(super) fn quantize(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let dtype = if call.has(2) {
        call.dtype(2)
    } else {
        Some(dtype_attribute(call).unwrap_or(DType::U8))
    };
    facts.dtype(0, dtype);
    facts.shape(0, call.shape(0)?.iter().cloned());
    Some(())
}

/// The result has the type of the scale unless `output_dtype` says otherwise; before opset 19 it is float.
pub(super) fn dequantize(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let by_scale =
        call.operator.domain().is_empty() && call.version >= 19 || !call.operator.domain().is_empty();
    let dtype = dtype_attribute(call).or_else(|| if by_scale { call.dtype(1) } else { Some(DType::F32) });
    facts.dtype(0, dtype);
    facts.shape(0, call.shape(0)?.iter().cloned());
    Some(())
}

fn dynamic(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    facts.shape(1, []);
    facts.shape(2, []);
    facts.shape(0, call.shape(0)?.iter().cloned());
    Some(())
}
