//! `TypeProto` to value types.

use crate::ir::{DType, Dim, Shape, Tensor, TensorType, ValueType};
use crate::proto;
use crate::proto::tensor_shape_proto::dimension::Value as DimValue;
use crate::proto::type_proto::Value as TypeValue;

/// The type that a message declares. A negative dimension or an empty `dim_param` is unknown.
pub fn type_from_proto(ty: &proto::TypeProto) -> ValueType {
    let element = |ty: &Option<Box<proto::TypeProto>>| {
        Box::new(ty.as_deref().map_or(ValueType::Unknown, type_from_proto))
    };
    match &ty.value {
        None => ValueType::Unknown,
        Some(TypeValue::TensorType(tensor)) => {
            ValueType::Tensor(tensor_type(tensor.elem_type, tensor.shape.as_ref()))
        }
        Some(TypeValue::SparseTensorType(tensor)) => {
            ValueType::Sparse(tensor_type(tensor.elem_type, tensor.shape.as_ref()))
        }
        Some(TypeValue::SequenceType(sequence)) => ValueType::Sequence(element(&sequence.elem_type)),
        Some(TypeValue::OptionalType(optional)) => ValueType::Optional(element(&optional.elem_type)),
        Some(TypeValue::MapType(map)) => match map.key_type.and_then(DType::from_onnx) {
            Some(key) => ValueType::Map(key, element(&map.value_type)),
            None => ValueType::Unknown,
        },
        Some(TypeValue::OpaqueType(_)) => ValueType::Opaque,
    }
}

fn tensor_type(dtype: Option<i32>, shape: Option<&proto::TensorShapeProto>) -> TensorType {
    TensorType {
        dtype: dtype.and_then(DType::from_onnx),
        shape: shape.map(shape_from_proto),
    }
}

fn shape_from_proto(shape: &proto::TensorShapeProto) -> Shape {
    shape
        .dim
        .iter()
        .map(|dim| match &dim.value {
            Some(DimValue::DimValue(size)) if *size >= 0 => Dim::Fixed(*size),
            Some(DimValue::DimParam(name)) if !name.is_empty() => Dim::symbol(name.as_str()),
            _ => Dim::Unknown,
        })
        .collect()
}

/// The type of a graph input: exporters write 0 for a dimension they do not know, so there it counts as unknown, unless the input's
/// default has no elements along it.
pub(super) fn input_type(ty: &proto::TypeProto, default: Option<&Tensor>) -> ValueType {
    let mut ty = type_from_proto(ty);
    let empty = |axis: usize| default.is_some_and(|tensor| tensor.dims().get(axis) == Some(&0));
    if let ValueType::Tensor(TensorType {
        shape: Some(shape), ..
    }) = &mut ty
    {
        for (axis, dim) in shape.iter_mut().enumerate() {
            if *dim == Dim::Fixed(0) && !empty(axis) {
                *dim = Dim::Unknown;
            }
        }
    }
    ty
}

/// The element type of a tensor type, if it is one that ONNX does not have.
pub(super) fn unknown_element_type(ty: &proto::TypeProto) -> Option<i32> {
    let number = match &ty.value {
        Some(TypeValue::TensorType(tensor)) => tensor.elem_type?,
        Some(TypeValue::SparseTensorType(tensor)) => tensor.elem_type?,
        _ => return None,
    };
    // 0 is ONNX's own `UNDEFINED`: the type is left open.
    Some(number).filter(|number| *number != 0 && DType::from_onnx(*number).is_none())
}
