//! Values between the IR and ONNX Runtime.
//!
//! The safe interface of the `ort` crate moves numbers of whole bytes, strings, non-empty sequences and maps. Elements below a
//! byte and 8-bit floats travel as wider types: see [`super::boundary`].

use std::fmt::Debug;

use bytes::Bytes;
use half::{bf16, f16};
use ort::value::{
    DynMapValueType, DynTensor, DynTensorValueType, DynValue, PrimitiveTensorElementType, Sequence,
    Tensor as OrtTensor, TensorElementType, ValueType as OrtType,
};

use super::{ENGINE, failed, ort_error};
use crate::engine::{EngineError, RunValue};
use crate::ir::{DType, Element, Tensor};

fn unsupported(what: &str, name: &str) -> EngineError {
    EngineError::Unsupported {
        engine: ENGINE,
        operator: what.to_owned(),
        node: Some(name.to_owned()),
        reason: "the runtime's safe interface cannot carry it".to_owned(),
    }
}

/// Copies a value into the runtime.
pub(super) fn to_ort(value: &RunValue, name: &str) -> Result<DynValue, EngineError> {
    match value {
        RunValue::Tensor(tensor) => Ok(tensor_to_ort(tensor, name)?.into_dyn()),
        RunValue::Sequence(items) if items.is_empty() => Err(unsupported("empty sequence", name)),
        RunValue::Sequence(items) => {
            let one = |item: &RunValue| match item {
                RunValue::Tensor(tensor) => tensor_to_ort(tensor, name),
                _ => Err(unsupported("sequence of values that are no tensors", name)),
            };
            let items = items.iter().map(one).collect::<Result<Vec<DynTensor>, _>>()?;
            Ok(Sequence::<DynTensorValueType>::new(items)
                .map_err(ort_error)?
                .into_dyn())
        }
        RunValue::Optional(Some(value)) => to_ort(value, name),
        RunValue::Optional(None) => Err(unsupported("absent optional", name)),
        RunValue::Map(..) => Err(unsupported("map as an input", name)),
    }
}

fn tensor_to_ort(tensor: &Tensor, name: &str) -> Result<DynTensor, EngineError> {
    let shape: Vec<i64> = tensor.dims().iter().map(|dim| *dim as i64).collect();
    let raw = || tensor.raw().map_err(|e| failed(e.to_string()));
    Ok(match tensor.dtype() {
        DType::F32 => plain::<f32>(tensor, shape)?,
        DType::F64 => plain::<f64>(tensor, shape)?,
        DType::I8 => plain::<i8>(tensor, shape)?,
        DType::I16 => plain::<i16>(tensor, shape)?,
        DType::I32 => plain::<i32>(tensor, shape)?,
        DType::I64 => plain::<i64>(tensor, shape)?,
        DType::U8 => plain::<u8>(tensor, shape)?,
        DType::U16 => plain::<u16>(tensor, shape)?,
        DType::U32 => plain::<u32>(tensor, shape)?,
        DType::U64 => plain::<u64>(tensor, shape)?,
        DType::Bool => owned(shape, raw()?.iter().map(|byte| *byte != 0).collect::<Vec<bool>>())?,
        DType::F16 => owned(
            shape,
            raw()?
                .as_chunks()
                .0
                .iter()
                .map(|pair| f16::from_le_bytes(*pair))
                .collect::<Vec<f16>>(),
        )?,
        DType::BF16 => owned(
            shape,
            raw()?
                .as_chunks()
                .0
                .iter()
                .map(|pair| bf16::from_le_bytes(*pair))
                .collect::<Vec<bf16>>(),
        )?,
        DType::String => {
            let strings = tensor.strings().map_err(|e| failed(e.to_string()))?;
            let strings: Vec<String> = strings
                .iter()
                .map(|s| {
                    String::from_utf8(s.to_vec()).map_err(|_| unsupported("string that is not UTF-8", name))
                })
                .collect::<Result<_, _>>()?;
            OrtTensor::from_string_array((shape, strings.as_slice()))
                .map_err(ort_error)?
                .upcast()
        }
        other => return Err(unsupported(other.name(), name)),
    })
}

fn plain<T>(tensor: &Tensor, shape: Vec<i64>) -> Result<DynTensor, EngineError>
where
    T: Element + PrimitiveTensorElementType + Debug,
{
    owned(
        shape,
        tensor
            .view::<T>()
            .map_err(|e| failed(e.to_string()))?
            .into_owned(),
    )
}

fn owned<T>(shape: Vec<i64>, values: Vec<T>) -> Result<DynTensor, EngineError>
where
    T: PrimitiveTensorElementType + Debug + Clone + 'static,
{
    Ok(OrtTensor::from_array((shape, values))
        .map_err(ort_error)?
        .upcast())
}

/// Copies a value out of the runtime.
pub(super) fn from_ort(value: DynValue, name: &str) -> Result<RunValue, EngineError> {
    match value.dtype() {
        OrtType::Tensor { .. } => {
            let tensor = value.downcast::<DynTensorValueType>().map_err(ort_error)?;
            tensor_from_ort(&tensor, name).map(RunValue::Tensor)
        }
        OrtType::Sequence(element) if element.is_map() => {
            let sequence = value
                .downcast::<ort::value::DynSequenceValueType>()
                .map_err(ort_error)?;
            let items = sequence
                .try_extract_sequence::<DynMapValueType>()
                .map_err(ort_error)?;
            items
                .into_iter()
                .map(|item| from_ort(item.into_dyn(), name))
                .collect::<Result<_, _>>()
                .map(RunValue::Sequence)
        }
        OrtType::Sequence(_) => {
            let sequence = value
                .downcast::<ort::value::DynSequenceValueType>()
                .map_err(ort_error)?;
            let items = sequence
                .try_extract_sequence::<DynTensorValueType>()
                .map_err(ort_error)?;
            let items = items
                .iter()
                .map(|item| tensor_from_ort(item, name).map(RunValue::Tensor));
            items.collect::<Result<_, _>>().map(RunValue::Sequence)
        }
        OrtType::Map { key, value: element } => {
            let (key, element) = (*key, *element);
            let map = value.downcast::<DynMapValueType>().map_err(ort_error)?;
            macro_rules! entries {
                ($key:ty, $value:ty, $keys:expr) => {{
                    let mut entries = map
                        .try_extract_key_values::<$key, $value>()
                        .map_err(ort_error)?;
                    entries.sort_by(|a, b| a.0.cmp(&b.0));
                    let dims = [entries.len() as u64];
                    let (keys, values): (Vec<$key>, Vec<$value>) = entries.into_iter().unzip();
                    let keys =
                        $keys(&dims, keys).map_err(|e: crate::ir::TensorError| failed(e.to_string()))?;
                    let values = Tensor::from_slice(&dims, &values).map_err(|e| failed(e.to_string()))?;
                    RunValue::Map(keys, Box::new(RunValue::Tensor(values)))
                }};
            }
            let numbers = |dims: &[u64], keys: Vec<i64>| Tensor::from_slice(dims, &keys);
            let strings = |dims: &[u64], keys: Vec<String>| {
                Tensor::from_strings(dims, keys.into_iter().map(Bytes::from))
            };
            Ok(match (key, element) {
                (TensorElementType::Int64, TensorElementType::Float32) => entries!(i64, f32, numbers),
                (TensorElementType::Int64, TensorElementType::Float64) => entries!(i64, f64, numbers),
                (TensorElementType::Int64, TensorElementType::Int64) => entries!(i64, i64, numbers),
                (TensorElementType::String, TensorElementType::Float32) => entries!(String, f32, strings),
                (TensorElementType::String, TensorElementType::Float64) => entries!(String, f64, strings),
                (TensorElementType::String, TensorElementType::Int64) => entries!(String, i64, strings),
                _ => return Err(unsupported("map of these types", name)),
            })
        }
        OrtType::Optional(_) => Err(unsupported("optional", name)),
    }
}

fn tensor_from_ort(tensor: &DynTensor, name: &str) -> Result<Tensor, EngineError> {
    let dims: Vec<u64> = tensor.shape().iter().map(|dim| *dim as u64).collect();
    let wrong = |e: crate::ir::TensorError| failed(e.to_string());
    match tensor.data_type() {
        TensorElementType::Float32 => back::<f32>(tensor, &dims),
        TensorElementType::Float64 => back::<f64>(tensor, &dims),
        TensorElementType::Int8 => back::<i8>(tensor, &dims),
        TensorElementType::Int16 => back::<i16>(tensor, &dims),
        TensorElementType::Int32 => back::<i32>(tensor, &dims),
        TensorElementType::Int64 => back::<i64>(tensor, &dims),
        TensorElementType::Uint8 => back::<u8>(tensor, &dims),
        TensorElementType::Uint16 => back::<u16>(tensor, &dims),
        TensorElementType::Uint32 => back::<u32>(tensor, &dims),
        TensorElementType::Uint64 => back::<u64>(tensor, &dims),
        TensorElementType::Bool => {
            let (_, values) = tensor.try_extract_tensor::<bool>().map_err(ort_error)?;
            Tensor::from_bools(&dims, values).map_err(wrong)
        }
        TensorElementType::Float16 => {
            let (_, values) = tensor.try_extract_tensor::<f16>().map_err(ort_error)?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Tensor::from_raw(DType::F16, dims, bytes).map_err(wrong)
        }
        TensorElementType::Bfloat16 => {
            let (_, values) = tensor.try_extract_tensor::<bf16>().map_err(ort_error)?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            Tensor::from_raw(DType::BF16, dims, bytes).map_err(wrong)
        }
        TensorElementType::String => {
            let (_, strings) = tensor.try_extract_strings().map_err(ort_error)?;
            Tensor::from_strings(&dims, strings.into_iter().map(Bytes::from)).map_err(wrong)
        }
        other => Err(unsupported(&other.to_string(), name)),
    }
}

fn back<T: Element + PrimitiveTensorElementType>(
    tensor: &DynTensor,
    dims: &[u64],
) -> Result<Tensor, EngineError> {
    let (_, values) = tensor.try_extract_tensor::<T>().map_err(ort_error)?;
    Tensor::from_slice(dims, values).map_err(|e| failed(e.to_string()))
}
