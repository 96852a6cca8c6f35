//! Tensors between the IR and tract.
//!
//! tract has the integers of 8 to 64 bits, booleans, strings and floats of 16, 32 and 64 bits. bfloat16, the floats of 8 bits and
//! fewer and the integers below a byte are carried by wider types ([`carrier`]); complex numbers are refused.

use bytes::Bytes;
use half::f16;
use tract_onnx::prelude::tract_ndarray::{ArrayD, IxDyn};
use tract_onnx::prelude::{Datum, DatumType, Tensor as TractTensor};
use tract_onnx::tract_core::internal::TDim;

use super::{ENGINE, failed};
use crate::engine::{EngineError, carrier};
use crate::ir::{DType, Element, Tensor};

/// tract's element type for one of ONNX's, if there is one.
pub(super) fn datum_type(dtype: DType) -> Option<DatumType> {
    Some(match dtype {
        DType::Bool => DatumType::Bool,
        DType::U8 => DatumType::U8,
        DType::U16 => DatumType::U16,
        DType::U32 => DatumType::U32,
        DType::U64 => DatumType::U64,
        DType::I8 => DatumType::I8,
        DType::I16 => DatumType::I16,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
        DType::F16 => DatumType::F16,
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        DType::String => DatumType::String,
        _ => return None,
    })
}

/// The type in which tract holds the elements of a type: its own, or the one that carries it.
pub(super) fn held(dtype: DType) -> DType {
    carrier::carrier(dtype).unwrap_or(dtype)
}

/// The element type that tract cannot hold, as an error about the value `name`.
pub(super) fn unsupported(dtype: DType, name: &str) -> EngineError {
    EngineError::Unsupported {
        engine: ENGINE,
        operator: dtype.name().to_owned(),
        node: Some(name.to_owned()),
        reason: format!("{dtype} values have no counterpart in tract"),
    }
}

/// Copies a tensor of the IR into one of tract's.
pub(super) fn to_tract(tensor: &Tensor, name: &str) -> Result<TractTensor, EngineError> {
    let shape: Vec<usize> = tensor.dims().iter().map(|dim| *dim as usize).collect();
    match tensor.dtype() {
        DType::F32 => plain::<f32>(tensor, &shape),
        DType::F64 => plain::<f64>(tensor, &shape),
        DType::I8 => plain::<i8>(tensor, &shape),
        DType::I16 => plain::<i16>(tensor, &shape),
        DType::I32 => plain::<i32>(tensor, &shape),
        DType::I64 => plain::<i64>(tensor, &shape),
        DType::U8 => plain::<u8>(tensor, &shape),
        DType::U16 => plain::<u16>(tensor, &shape),
        DType::U32 => plain::<u32>(tensor, &shape),
        DType::U64 => plain::<u64>(tensor, &shape),
        DType::Bool => {
            let raw = tensor.raw().map_err(|e| failed(e.to_string()))?;
            let values: Vec<bool> = raw.iter().map(|byte| *byte != 0).collect();
            TractTensor::from_shape(&shape, &values).map_err(|e| failed(format!("{e:#}")))
        }
        DType::F16 => {
            let raw = tensor.raw().map_err(|e| failed(e.to_string()))?;
            let values: Vec<f16> = raw
                .as_chunks()
                .0
                .iter()
                .map(|pair| f16::from_le_bytes(*pair))
                .collect();
            TractTensor::from_shape(&shape, &values).map_err(|e| failed(format!("{e:#}")))
        }
        DType::String => {
            let strings = tensor.strings().map_err(|e| failed(e.to_string()))?;
            let values: Option<Vec<String>> = strings
                .iter()
                .map(|s| std::str::from_utf8(s).ok().map(str::to_owned))
                .collect();
            let values = values.ok_or_else(|| failed(format!("{name} holds a string that is not UTF-8")))?;
            let array = ArrayD::from_shape_vec(IxDyn(&shape), values).map_err(|e| failed(e.to_string()))?;
            Ok(TractTensor::from(array))
        }
        narrow if carrier::carrier(narrow).is_some() => {
            to_tract(&carrier::widen(tensor).map_err(|e| failed(e.to_string()))?, name)
        }
        other => Err(unsupported(other, name)),
    }
}

fn plain<T: Element + Datum + Copy>(tensor: &Tensor, shape: &[usize]) -> Result<TractTensor, EngineError> {
    let values = tensor.view::<T>().map_err(|e| failed(e.to_string()))?;
    TractTensor::from_shape(shape, &values).map_err(|e| failed(format!("{e:#}")))
}

/// Copies a tensor of tract's into one of the IR of type `declared`, if one is declared.
pub(super) fn from_tract_as(
    tensor: &TractTensor,
    declared: Option<DType>,
    name: &str,
) -> Result<Tensor, EngineError> {
    let found = from_tract(tensor, name)?;
    match declared {
        Some(declared) if carrier::carrier(declared) == Some(found.dtype()) => {
            carrier::narrow(declared, &found)
                .map_err(|_| failed(format!("{name} holds a number that is no {declared}")))
        }
        Some(declared) if declared != found.dtype() => Err(failed(format!(
            "{name} came out as {} instead of {declared}",
            found.dtype()
        ))),
        _ => Ok(found),
    }
}

/// Copies a tensor of tract's into one of the IR. Dimensions that tract carries as expressions (`TDim`, where ONNX has
/// `int64`) must be numbers by now.
pub(super) fn from_tract(tensor: &TractTensor, name: &str) -> Result<Tensor, EngineError> {
    let dims: Vec<u64> = tensor.shape().iter().map(|dim| *dim as u64).collect();
    let wrong = |e: crate::ir::TensorError| failed(format!("{name}: {e}"));
    match tensor.datum_type() {
        DatumType::F32 => back::<f32>(tensor, &dims, name),
        DatumType::F64 => back::<f64>(tensor, &dims, name),
        DatumType::I8 | DatumType::QI8(_) => {
            Tensor::from_raw(DType::I8, dims, tensor.as_bytes().to_vec()).map_err(wrong)
        }
        DatumType::U8 | DatumType::QU8(_) => {
            Tensor::from_raw(DType::U8, dims, tensor.as_bytes().to_vec()).map_err(wrong)
        }
        DatumType::I16 => back::<i16>(tensor, &dims, name),
        DatumType::I32 => back::<i32>(tensor, &dims, name),
        DatumType::I64 => back::<i64>(tensor, &dims, name),
        DatumType::U16 => back::<u16>(tensor, &dims, name),
        DatumType::U32 => back::<u32>(tensor, &dims, name),
        DatumType::U64 => back::<u64>(tensor, &dims, name),
        DatumType::Bool => {
            let values: Vec<bool> = items::<bool>(tensor, name)?;
            Tensor::from_bools(&dims, &values).map_err(wrong)
        }
        DatumType::F16 => {
            let bytes: Vec<u8> = items::<f16>(tensor, name)?
                .into_iter()
                .flat_map(f16::to_le_bytes)
                .collect();
            Tensor::from_raw(DType::F16, dims, bytes).map_err(wrong)
        }
        DatumType::TDim => {
            let values: Option<Vec<i64>> = items::<TDim>(tensor, name)?
                .iter()
                .map(|dim| dim.as_i64())
                .collect();
            let values = values.ok_or_else(|| failed(format!("{name} depends on an unbound dimension")))?;
            Tensor::from_slice(&dims, &values).map_err(wrong)
        }
        DatumType::String => {
            let strings = items::<String>(tensor, name)?;
            Tensor::from_strings(&dims, strings.into_iter().map(Bytes::from)).map_err(wrong)
        }
        other => Err(failed(format!("{name} has tract's own type {other:?}"))),
    }
}

fn items<T: Datum + Clone>(tensor: &TractTensor, name: &str) -> Result<Vec<T>, EngineError> {
    let view = tensor
        .to_plain_array_view::<T>()
        .map_err(|e| failed(format!("{name}: {e:#}")))?;
    Ok(view.iter().cloned().collect())
}

fn back<T: Element + Datum + Copy>(
    tensor: &TractTensor,
    dims: &[u64],
    name: &str,
) -> Result<Tensor, EngineError> {
    let view = tensor
        .to_plain_array_view::<T>()
        .map_err(|e| failed(format!("{name}: {e:#}")))?;
    let wrong = |e: crate::ir::TensorError| failed(format!("{name}: {e}"));
    match view.as_slice() {
        Some(values) => Tensor::from_slice(dims, values).map_err(wrong),
        None => Tensor::from_slice(dims, &view.iter().copied().collect::<Vec<T>>()).map_err(wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_survive_the_way_there_and_back() {
        let tensors = [
            Tensor::from_slice(&[2, 2], &[1.5f32, f32::NAN, -0.0, f32::INFINITY]).unwrap(),
            Tensor::from_slice(&[3], &[i64::MIN, 0, i64::MAX]).unwrap(),
            Tensor::from_slice(&[2], &[0u64, u64::MAX]).unwrap(),
            Tensor::from_slice(&[0, 4], &[] as &[i8]).unwrap(),
            Tensor::scalar(7u16),
            Tensor::from_bools(&[2], &[true, false]).unwrap(),
            Tensor::from_f64(DType::F16, &[2], &[0.5, -65504.0]).unwrap(),
            Tensor::from_strings(&[2], [Bytes::from("a"), Bytes::from("")]).unwrap(),
        ];
        for tensor in tensors {
            let there = to_tract(&tensor, "x").unwrap();
            assert_eq!(Some(there.datum_type()), datum_type(tensor.dtype()));
            assert!(
                from_tract(&there, "x").unwrap().same_as(&tensor),
                "{}",
                tensor.dtype()
            );
        }
    }

    #[test]
    fn narrow_types_are_carried_and_come_back() {
        for (dtype, raw) in [
            (DType::BF16, vec![0x80u8, 0x3f]),
            (DType::I4, vec![0x0f]),
            (DType::F8E5M2, vec![0x7b]),
        ] {
            let tensor = Tensor::from_raw(dtype, [1], raw).unwrap();
            let there = to_tract(&tensor, "x").unwrap();
            assert_eq!(Some(there.datum_type()), datum_type(held(dtype)));
            assert!(
                from_tract_as(&there, Some(dtype), "x").unwrap().same_as(&tensor),
                "{dtype}"
            );
        }
        let third = to_tract(&Tensor::scalar(1f32 / 3.0), "x").unwrap();
        assert!(from_tract_as(&third, Some(DType::BF16), "x").is_err());
    }

    #[test]
    fn types_that_tract_lacks_are_refused_by_name() {
        let tensor = Tensor::from_raw(DType::Complex64, [1], vec![0u8; 8]).unwrap();
        assert!(
            matches!(to_tract(&tensor, "x"), Err(EngineError::Unsupported { operator, .. }) if operator == "complex64")
        );
    }
}
