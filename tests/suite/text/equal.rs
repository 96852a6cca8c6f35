//! One form for models that mean the same: tensors as raw bytes, absent and empty strings alike, and nothing that the text
//! syntax has no place for.

use secateur::proto::attribute_proto::AttributeType;
use secateur::proto::tensor_proto::{DataLocation, DataType};
use secateur::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};

/// The one form of a model.
pub(crate) fn normal(mut model: ModelProto) -> ModelProto {
    model.training_info.clear();
    model.configuration.clear();
    for import in &mut model.opset_import {
        import.domain.get_or_insert_default();
    }
    for pair in &mut model.metadata_props {
        pair.key.get_or_insert_default();
        pair.value.get_or_insert_default();
    }
    if let Some(graph) = &mut model.graph {
        self::graph(graph);
    }
    for function in &mut model.functions {
        function.metadata_props.clear();
        function.overload = function.overload.take().filter(|overload| !overload.is_empty());
        for import in &mut function.opset_import {
            import.domain.get_or_insert_default();
        }
        function.attribute_proto.iter_mut().for_each(attribute);
        function.value_info.iter_mut().for_each(value);
        function.node.iter_mut().for_each(node);
    }
    model
}

fn graph(graph: &mut GraphProto) {
    graph.name.get_or_insert_default();
    graph.doc_string = None;
    graph.metadata_props.clear();
    graph.quantization_annotation.clear();
    graph.initializer.iter_mut().for_each(tensor);
    graph.sparse_initializer.iter_mut().for_each(sparse);
    graph.input.iter_mut().for_each(value);
    graph.output.iter_mut().for_each(value);
    graph.value_info.iter_mut().for_each(value);
    graph.node.iter_mut().for_each(node);
}

fn node(node: &mut NodeProto) {
    node.doc_string = None;
    node.metadata_props.clear();
    node.device_configurations.clear();
    node.name = node.name.take().filter(|name| !name.is_empty());
    node.overload = node.overload.take().filter(|overload| !overload.is_empty());
    node.domain.get_or_insert_default();
    node.attribute.iter_mut().for_each(attribute);
}

fn attribute(attribute: &mut AttributeProto) {
    attribute.doc_string = None;
    attribute.ref_attr_name = attribute.ref_attr_name.take().filter(|name| !name.is_empty());
    match attribute.r#type() {
        AttributeType::Float if attribute.ref_attr_name.is_none() => {
            attribute.f.get_or_insert_default();
        }
        AttributeType::Int if attribute.ref_attr_name.is_none() => {
            attribute.i.get_or_insert_default();
        }
        AttributeType::String if attribute.ref_attr_name.is_none() => {
            attribute.s.get_or_insert_default();
        }
        _ => {}
    }
    // The name of an attribute's tensor means nothing, and has a place in the text only as an identifier.
    let identifier = |name: &String| {
        !name.starts_with(|first: char| first.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
        tensor.name = tensor.name.take().filter(identifier);
    }
    attribute
        .t
        .iter_mut()
        .chain(&mut attribute.tensors)
        .for_each(tensor);
    attribute
        .sparse_tensor
        .iter_mut()
        .chain(&mut attribute.sparse_tensors)
        .for_each(sparse);
    attribute
        .g
        .iter_mut()
        .chain(&mut attribute.graphs)
        .for_each(graph);
    attribute
        .tp
        .iter_mut()
        .chain(&mut attribute.type_protos)
        .for_each(type_of);
}

fn sparse(sparse: &mut SparseTensorProto) {
    sparse
        .values
        .iter_mut()
        .chain(&mut sparse.indices)
        .for_each(tensor);
}

fn value(value: &mut ValueInfoProto) {
    value.doc_string = None;
    value.metadata_props.clear();
    value.r#type = value.r#type.take().filter(|r#type| r#type.value.is_some());
    value.r#type.iter_mut().for_each(type_of);
}

fn type_of(r#type: &mut TypeProto) {
    r#type.denotation = None;
    let shape = match &mut r#type.value {
        Some(type_proto::Value::TensorType(tensor)) => {
            tensor.elem_type.get_or_insert_default();
            &mut tensor.shape
        }
        Some(type_proto::Value::SparseTensorType(tensor)) => {
            tensor.elem_type.get_or_insert_default();
            &mut tensor.shape
        }
        Some(type_proto::Value::SequenceType(inner)) => {
            return inner.elem_type.iter_mut().for_each(|t| type_of(t));
        }
        Some(type_proto::Value::OptionalType(inner)) => {
            return inner.elem_type.iter_mut().for_each(|t| type_of(t));
        }
        Some(type_proto::Value::MapType(inner)) => {
            return inner.value_type.iter_mut().for_each(|t| type_of(t));
        }
        _ => return,
    };
    for dim in shape
        .iter_mut()
        .flat_map(|shape: &mut secateur::proto::TensorShapeProto| &mut shape.dim)
    {
        *dim = tensor_shape_proto::Dimension {
            value: dim.value.take(),
            denotation: None,
        };
    }
}

/// The one form of a tensor: its elements in `raw_data`, if it has any here.
pub(crate) fn tensor(tensor: &mut TensorProto) {
    tensor.doc_string = None;
    tensor.metadata_props.clear();
    tensor.segment = None;
    tensor.name.get_or_insert_default();
    if tensor.data_location() == DataLocation::External {
        return;
    }
    tensor.data_location = None;
    let dtype = DataType::try_from(tensor.data_type()).unwrap_or(DataType::Undefined);
    let raw: Vec<u8> = match (tensor.raw_data.take(), dtype) {
        (Some(raw), _) => raw.to_vec(),
        (None, DataType::Float | DataType::Complex64) => bytes(&tensor.float_data, |v| v.to_le_bytes()),
        (None, DataType::Double | DataType::Complex128) => bytes(&tensor.double_data, |v| v.to_le_bytes()),
        (None, DataType::Int64) => bytes(&tensor.int64_data, |v| v.to_le_bytes()),
        (None, DataType::Uint64) => bytes(&tensor.uint64_data, |v| v.to_le_bytes()),
        (None, DataType::Uint32) => bytes(&tensor.uint64_data, |v| (*v as u32).to_le_bytes()),
        (None, DataType::Int32) => bytes(&tensor.int32_data, |v| v.to_le_bytes()),
        (None, DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16) => {
            bytes(&tensor.int32_data, |v| (*v as u16).to_le_bytes())
        }
        (None, DataType::Float6e2m3 | DataType::Float6e3m2) => {
            let bits: Vec<u8> = tensor
                .int32_data
                .iter()
                .flat_map(|code| (0..6).map(move |bit| (code >> bit & 1) as u8))
                .collect();
            bits.chunks(8)
                .map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit))
                .collect()
        }
        (None, _) => bytes(&tensor.int32_data, |v| [*v as u8]),
    };
    tensor.float_data.clear();
    tensor.double_data.clear();
    tensor.int64_data.clear();
    tensor.uint64_data.clear();
    tensor.int32_data.clear();
    tensor.raw_data = Some(raw).filter(|raw| !raw.is_empty()).map(Into::into);
}

fn bytes<T, const N: usize>(values: &[T], encode: impl Fn(&T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(encode).collect()
}
