//! Arrays of samples in memory: element conversion, slicing and finite checks that all sources share.

use crate::ir::{DType, Tensor, TensorError};

/// Shape, type and little-endian elements of `count` samples read from a source.
#[derive(Clone, Debug)]
pub(super) struct Array {
    pub(super) dtype: DType,
    pub(super) dims: Vec<u64>,
    pub(super) bytes: Vec<u8>,
}

impl Array {
    pub(super) fn tensor(self) -> Result<Tensor, TensorError> {
        Tensor::from_raw(self.dtype, self.dims, self.bytes)
    }
}

/// Whether a source's type may be converted to the model's without anybody saying how: only where every number survives
/// or merely loses float precision.
pub(super) fn converts(from: DType, to: DType) -> bool {
    use DType::{BF16, Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32};
    from == to
        || match to {
            F32 | F16 | BF16 | F64 => matches!(from, F64 | F32 | F16 | BF16),
            I64 => matches!(from, I32 | I16 | I8 | U32 | U16 | U8 | Bool),
            I32 => matches!(from, I64 | I16 | I8 | U16 | U8 | Bool),
            Bool => matches!(from, U8),
            U8 => matches!(from, Bool),
            _ => false,
        }
}

/// Converts elements; the pair must satisfy [`converts`]. An integer outside the target's range is an error.
pub(super) fn convert(tensor: Tensor, to: DType) -> Result<Tensor, TensorError> {
    if tensor.dtype() == to {
        return Ok(tensor);
    }
    let wrong = || TensorError::Type {
        expected: to.name(),
        found: tensor.dtype(),
    };
    if to.is_float() {
        return Tensor::from_f64(to, tensor.dims(), &tensor.to_f64()?);
    }
    let values = tensor.to_i64()?;
    match to {
        DType::I64 => Tensor::from_slice(tensor.dims(), &values),
        DType::I32 => {
            let narrow: Option<Vec<i32>> = values.iter().map(|v| i32::try_from(*v).ok()).collect();
            Tensor::from_slice(tensor.dims(), &narrow.ok_or_else(wrong)?)
        }
        DType::Bool => Tensor::from_bools(tensor.dims(), &values.iter().map(|v| *v != 0).collect::<Vec<_>>()),
        DType::U8 => Tensor::from_slice(
            tensor.dims(),
            &values.iter().map(|v| (*v != 0) as u8).collect::<Vec<_>>(),
        ),
        _ => Err(wrong()),
    }
}

/// The first element that is not finite: its index and value.
pub(super) fn not_finite(tensor: &Tensor) -> Option<(usize, f64)> {
    match tensor.dtype() {
        DType::F32 => {
            let values = tensor.view::<f32>().ok()?;
            values
                .iter()
                .position(|v| !v.is_finite())
                .map(|at| (at, values[at] as f64))
        }
        dtype if dtype.is_float() => {
            let values = tensor.to_f64().ok()?;
            values
                .iter()
                .position(|v| !v.is_finite())
                .map(|at| (at, values[at]))
        }
        _ => None,
    }
}
