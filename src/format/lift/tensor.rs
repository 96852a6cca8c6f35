//! `TensorProto` to tensors that share its bytes.

use super::super::external::ExternalFiles;
use super::error::LiftError;
use crate::ir::{DType, Dims, Name, Tensor, TensorData, TensorMeta};
use crate::proto;

/// A tensor that shares the message's `raw_data` or its range of an external file. `label` names it in errors.
/// Its name is kept in the metadata; an initializer is named by its value instead.
pub fn tensor_from_proto(
    mut tensor: proto::TensorProto,
    external: &ExternalFiles,
    label: &dyn Fn() -> String,
) -> Result<Tensor, LiftError> {
    let number = tensor.data_type.unwrap_or(0);
    let dtype = DType::from_onnx(number).ok_or_else(|| LiftError::ElementType {
        tensor: label(),
        number,
    })?;
    if tensor.segment.is_some() {
        return Err(LiftError::Segment { tensor: label() });
    }
    let mut dims = Dims::with_capacity(tensor.dims.len());
    for dim in &tensor.dims {
        dims.push(u64::try_from(*dim).map_err(|_| LiftError::Dimension {
            tensor: label(),
            dim: *dim,
        })?);
    }
    let outside = external.tensor(&tensor).map_err(|source| LiftError::External {
        tensor: label(),
        source,
    })?;
    let data = match (outside, data(&mut tensor, label)?) {
        (Some(bytes), TensorData::Absent) => TensorData::Raw(bytes),
        (None, own) => own,
        (Some(_), _) => return Err(LiftError::Ambiguous { tensor: label() }),
    };
    let meta = TensorMeta {
        name: tensor.name.map(Name::from),
        doc_string: tensor.doc_string,
        metadata: tensor.metadata_props,
        data_location: tensor.data_location,
        external: tensor.external_data,
    };
    Tensor::new(dtype, dims, data, Some(meta)).map_err(|source| LiftError::Tensor {
        tensor: label(),
        source,
    })
}

fn data(tensor: &mut proto::TensorProto, label: &dyn Fn() -> String) -> Result<TensorData, LiftError> {
    use std::mem::take;
    let mut found = Vec::with_capacity(1);
    if let Some(raw) = tensor.raw_data.take() {
        found.push(TensorData::Raw(raw));
    }
    if !tensor.float_data.is_empty() {
        found.push(TensorData::Float(take(&mut tensor.float_data).into()));
    }
    if !tensor.int32_data.is_empty() {
        found.push(TensorData::Int32(take(&mut tensor.int32_data).into()));
    }
    if !tensor.int64_data.is_empty() {
        found.push(TensorData::Int64(take(&mut tensor.int64_data).into()));
    }
    if !tensor.double_data.is_empty() {
        found.push(TensorData::Double(take(&mut tensor.double_data).into()));
    }
    if !tensor.uint64_data.is_empty() {
        found.push(TensorData::Uint64(take(&mut tensor.uint64_data).into()));
    }
    if !tensor.string_data.is_empty() {
        found.push(TensorData::Strings(take(&mut tensor.string_data).into()));
    }
    match found.len() {
        0 => Ok(TensorData::Absent),
        1 => Ok(found.swap_remove(0)),
        _ => Err(LiftError::Ambiguous { tensor: label() }),
    }
}
