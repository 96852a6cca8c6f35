//! Elements of tensors as numbers that hold every element of a type, and back.

use crate::ir::{DType, Element, Tensor};

/// Elements of an integer or truth type; `None` for others.
pub(super) fn whole(tensor: &Tensor) -> Option<Vec<i128>> {
    if tensor.dtype() == DType::U64 {
        return Some(
            tensor
                .view::<u64>()
                .ok()?
                .iter()
                .map(|v| i128::from(*v))
                .collect(),
        );
    }
    Some(tensor.to_i64().ok()?.into_iter().map(i128::from).collect())
}

/// A tensor of an integer type of whole bytes; `None` where a number does not fit.
pub(super) fn from_whole(dtype: DType, dims: &[u64], values: &[i128]) -> Option<Tensor> {
    fn narrow<T: Element + TryFrom<i128>>(dims: &[u64], values: &[i128]) -> Option<Tensor> {
        let values = values
            .iter()
            .map(|value| T::try_from(*value).ok())
            .collect::<Option<Vec<T>>>()?;
        Tensor::from_slice(dims, &values).ok()
    }
    match dtype {
        DType::I64 => narrow::<i64>(dims, values),
        DType::I32 => narrow::<i32>(dims, values),
        DType::I16 => narrow::<i16>(dims, values),
        DType::I8 => narrow::<i8>(dims, values),
        DType::U32 => narrow::<u32>(dims, values),
        DType::U16 => narrow::<u16>(dims, values),
        DType::U8 => narrow::<u8>(dims, values),
        DType::U64 => narrow::<u64>(dims, values),
        _ => None,
    }
}

/// Whether this module's callers compute on floats of this type.
pub(super) fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
}
