//! float16 in the operators that sum: computed in float and rounded once, as ONNX Runtime does on a CPU. tract's own float16
//! kernels are a hundred times slower than its float ones where the processor has none.

use super::Rule;
use super::site::Site;
use crate::ir::{DType, EditError, Operator};

pub(super) const RULES: &[Rule] = &[
    ("", "AveragePool", widen),
    ("", "BatchNormalization", widen),
    ("", "Conv", widen),
    ("", "ConvTranspose", widen),
    ("", "Einsum", widen),
    ("", "GRU", widen),
    ("", "Gelu", widen),
    ("", "Gemm", widen),
    ("", "GlobalAveragePool", widen),
    ("", "GroupNormalization", widen),
    ("", "InstanceNormalization", widen),
    ("", "LSTM", widen),
    ("", "LayerNormalization", widen),
    ("", "LpNormalization", widen),
    ("", "MatMul", widen),
    ("", "Mean", widen),
    ("", "RMSNormalization", widen),
    ("", "RNN", widen),
    ("", "ReduceL1", widen),
    ("", "ReduceL2", widen),
    ("", "ReduceLogSum", widen),
    ("", "ReduceLogSumExp", widen),
    ("", "ReduceMean", widen),
    ("", "ReduceProd", widen),
    ("", "ReduceSum", widen),
    ("", "ReduceSumSquare", widen),
    ("", "Softmax", widen),
];

fn widen(site: &mut Site<'_>) -> Result<bool, EditError> {
    if site.input_dtype(0) != Some(DType::F16) || site.operator.attribute("stash_type").is_some() {
        return Ok(false);
    }
    let mut inputs = site.inputs().to_vec();
    for value in inputs.iter_mut().flatten() {
        if site.dtype(*value) == Some(DType::F16) {
            *value = site.cast(*value, DType::F32)?;
        }
    }
    let outputs = site.output_count();
    let operator = site.with_attributes(Operator::new(site.operator.op_type.clone()), &[]);
    let made = site.nodes(operator, &inputs, outputs)?;
    for (index, value) in made.into_iter().enumerate() {
        if !site.is_read(index) {
            continue;
        }
        let value = match site.output_dtype(index) {
            Some(DType::F16) => site.cast(value, DType::F16)?,
            Some(_) => value,
            None => return Ok(false),
        };
        site.replace(index, value)?;
    }
    Ok(true)
}
