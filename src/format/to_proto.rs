//! From the IR to protobuf messages. What no rewrite touched comes out as it was read.

use super::external::ExternalFiles;
use super::lift::constant_tensor;
use super::problem::ToProtoError;
use crate::ir::{
    Attribute, AttributeValue, Constant, ConstantOrigin, DType, Dim, Function, Graph, Model, Name, Node,
    NodeId, NodeKind, OpsetImport, Tensor, TensorData, TensorType, ValueId, ValueType,
};
use crate::proto;
use crate::proto::tensor_shape_proto::dimension::Value as DimValue;
use crate::proto::type_proto::Value as TypeValue;

/// The message of a model. External tensors that are untouched keep their external entries as long as `external` holds the
/// files; every other tensor is written inline, for [`super::write_proto`] to place.
pub fn model_to_proto(model: &Model, external: &ExternalFiles) -> Result<proto::ModelProto, ToProtoError> {
    let named;
    let model = if has_unnamed(model) {
        let mut copy = model.clone();
        copy.name_values();
        named = copy;
        &named
    } else {
        model
    };
    let writer = Writer {
        external,
        list_initializers: (1..4).contains(&model.ir_version()),
    };
    let mut message = (*model.header).clone();
    message.opset_import = opset_imports(&model.opset_imports);
    message.metadata_props = model.metadata.clone();
    message.graph = Some(writer.graph(&model.graph, &[], true)?);
    message.functions = model
        .functions
        .iter()
        .map(|function| writer.function(function))
        .collect::<Result<_, _>>()?;
    Ok(message)
}

fn has_unnamed(model: &Model) -> bool {
    model
        .graph_paths()
        .iter()
        .filter_map(|path| model.graph_at(path))
        .any(|graph| {
            graph.node_ids().filter_map(|id| graph.get(id)).any(|node| {
                !matches!(node.kind, NodeKind::Capture(_))
                    && node.outputs().iter().any(|v| v.name.is_empty() && !v.omitted)
            })
        })
}

fn opset_imports(imports: &[OpsetImport]) -> Vec<proto::OperatorSetIdProto> {
    let text = |name: &Option<Name>| name.as_ref().map(Name::to_string);
    imports
        .iter()
        .map(|import| proto::OperatorSetIdProto {
            domain: text(&import.domain),
            version: import.version,
        })
        .collect()
}

struct Writer<'a> {
    external: &'a ExternalFiles,
    list_initializers: bool,
}

/// Names of the values of one graph.
struct Names<'g> {
    graph: &'g Graph,
    captured: &'g [Name],
}

impl Names<'_> {
    fn of(&self, value: ValueId) -> Name {
        match self.graph.get(value.node).map(|node| &node.kind) {
            Some(NodeKind::Capture(capture)) => self
                .captured
                .get(capture.index as usize)
                .cloned()
                .unwrap_or_default(),
            _ => self
                .graph
                .value(value)
                .map(|value| value.name.clone())
                .unwrap_or_default(),
        }
    }
}

impl Writer<'_> {
    fn graph(
        &self,
        graph: &Graph,
        captured: &[Name],
        outer: bool,
    ) -> Result<proto::GraphProto, ToProtoError> {
        let names = Names { graph, captured };
        let mut value_info = graph.meta.other_value_info.clone();
        let node = self.nodes(&names, &mut value_info, self.list_initializers)?;
        value_info.sort_by_key(|(index, _)| *index);
        let mut inputs: Vec<(u32, proto::ValueInfoProto)> = Vec::new();
        let mut initializers: Vec<(u32, proto::TensorProto)> = Vec::new();
        for (position, id) in graph.inputs().iter().enumerate() {
            let Some(node) = graph.get(*id) else { continue };
            let (NodeKind::Input(input), Some(value)) = (&node.kind, node.outputs().first()) else {
                continue;
            };
            let declared = input
                .declared
                .clone()
                .unwrap_or_else(|| value_info_of(&value.name, &value.ty));
            // Inputs keep the order of the list; their indices only place listed initializers between them.
            let index = inputs
                .last()
                .map_or(input.index, |(last, _)| input.index.max(last.saturating_add(1)));
            inputs.push((if position == 0 { input.index } else { index }, declared));
            if let Some((tensor, index)) = &input.default {
                initializers.push((*index, self.tensor(tensor, Some(&value.name))));
            }
        }
        let mut sparse = Vec::new();
        for (id, constant) in graph.initializers() {
            let Some(value) = graph.get(id).and_then(|node| node.outputs().first()) else {
                continue;
            };
            match (&constant.origin, &constant.tensor) {
                // A new one would be a new input: it is written as a node.
                (ConstantOrigin::Initializer(_), _)
                    if self.list_initializers && constant.listed_input.is_none() => {}
                (ConstantOrigin::Initializer(index), Some(tensor)) => {
                    initializers.push((*index, self.tensor(tensor, Some(&value.name))));
                    if let Some(listed) = &constant.listed_input {
                        inputs.push((listed.0, renamed(listed.1.clone(), value, tensor)));
                    }
                }
                (ConstantOrigin::Sparse(message, _), _) => {
                    let mut message = (**message).clone();
                    if let Some(values) = &mut message.values {
                        values.name = Some(value.name.to_string());
                    }
                    sparse.push(message);
                }
                _ => {}
            }
        }
        inputs.sort_by_key(|(index, _)| *index);
        initializers.sort_by_key(|(index, _)| *index);
        Ok(proto::GraphProto {
            node,
            name: graph.meta.name.clone(),
            initializer: initializers.into_iter().map(|(_, tensor)| tensor).collect(),
            sparse_initializer: sparse,
            doc_string: graph.meta.doc_string.clone(),
            input: inputs.into_iter().map(|(_, info)| info).collect(),
            output: self.outputs(&names, outer)?,
            value_info: value_info.into_iter().map(|(_, info)| info).collect(),
            quantization_annotation: graph.meta.quantization.to_vec(),
            metadata_props: graph.meta.metadata.clone(),
        })
    }

    fn outputs(&self, names: &Names<'_>, outer: bool) -> Result<Vec<proto::ValueInfoProto>, ToProtoError> {
        let values = names.graph.output_values();
        let mut outputs = Vec::with_capacity(values.len());
        for (output, value) in names.graph.outputs().iter().zip(values) {
            let value = value.ok_or_else(|| ToProtoError::NoOutput(output.name.to_string()))?;
            let name = names.of(value);
            if outer && name != output.name {
                return Err(ToProtoError::OutputName {
                    output: output.name.to_string(),
                    value: name.to_string(),
                });
            }
            let mut info = output
                .declared
                .clone()
                .unwrap_or_else(|| value_info_of(&output.name, &output.ty));
            // The owner of a body finds its outputs by place, so there the value's name is what counts.
            if info.name.as_deref() != Some(&*name) {
                info.name = Some(name.to_string());
            }
            outputs.push(info);
        }
        Ok(outputs)
    }

    fn function(&self, function: &Function) -> Result<proto::FunctionProto, ToProtoError> {
        let graph = &function.graph;
        let names = Names { graph, captured: &[] };
        let mut value_info = graph.meta.other_value_info.clone();
        let mut message = (*function.header).clone();
        message.node = self.nodes(&names, &mut value_info, true)?;
        value_info.sort_by_key(|(index, _)| *index);
        message.value_info = value_info.into_iter().map(|(_, info)| info).collect();
        let first_output = |id: &NodeId| {
            graph
                .get(*id)?
                .outputs()
                .first()
                .map(|value| value.name.to_string())
        };
        message.input = graph.inputs().iter().filter_map(first_output).collect();
        message.output = self
            .outputs(&names, true)?
            .into_iter()
            .filter_map(|info| info.name)
            .collect();
        message.opset_import = opset_imports(&function.opset_imports);
        Ok(message)
    }

    /// The nodes in topological order. Where an initializer cannot be one (`as_nodes`), because a function has none or because it
    /// would be an input too, it is a `Constant` node.
    fn nodes(
        &self,
        names: &Names<'_>,
        value_info: &mut Vec<(u32, proto::ValueInfoProto)>,
        as_nodes: bool,
    ) -> Result<Vec<proto::NodeProto>, ToProtoError> {
        let graph = names.graph;
        let order = graph.topological_order();
        if let Some(missing) = on_cycle(graph, &order) {
            return Err(ToProtoError::Cycle(graph.label(missing)));
        }
        let mut nodes = Vec::with_capacity(order.len());
        for id in order {
            let Some(node) = graph.get(id) else { continue };
            let (op_type, domain, attribute) = match &node.kind {
                NodeKind::Operator(operator) => {
                    let captured: Vec<Name> = graph
                        .captures_of(id)
                        .iter()
                        .enumerate()
                        .map(|(slot, value)| match value {
                            Some(value) => Ok(names.of(*value)),
                            None => Err(ToProtoError::Capture {
                                node: graph.label(id),
                                slot,
                            }),
                        })
                        .collect::<Result<_, _>>()?;
                    let attributes = operator
                        .attributes()
                        .iter()
                        .map(|attribute| self.attribute(attribute, &captured))
                        .collect::<Result<_, _>>()?;
                    (
                        operator.op_type.to_string(),
                        operator.written_domain.as_ref(),
                        attributes,
                    )
                }
                NodeKind::Constant(constant) => match &constant.origin {
                    ConstantOrigin::Node { attribute, domain } => {
                        let attribute = self.constant(constant, attribute)?;
                        ("Constant".to_owned(), domain.as_ref(), vec![attribute])
                    }
                    ConstantOrigin::Initializer(_) if as_nodes && constant.listed_input.is_none() => {
                        let Some(tensor) = &constant.tensor else { continue };
                        let attribute = self.attribute(&Attribute::new("value", tensor.clone()), &[])?;
                        ("Constant".to_owned(), None, vec![attribute])
                    }
                    _ => continue,
                },
                _ => continue,
            };
            for value in node.outputs() {
                if let Some(declared) = &value.declared {
                    let (index, mut info) = (**declared).clone();
                    if info.name.as_deref() != Some(&*value.name) {
                        info.name = Some(value.name.to_string());
                    }
                    value_info.push((index, info));
                }
            }
            nodes.push(node_message(names, id, node, op_type, domain, attribute));
        }
        Ok(nodes)
    }

    /// The attribute of a `Constant` node: as the file had it while it still says the same.
    fn constant(
        &self,
        constant: &Constant,
        attribute: &Attribute,
    ) -> Result<proto::AttributeProto, ToProtoError> {
        match &constant.tensor {
            Some(tensor) if !constant_tensor(attribute).is_some_and(|written| written.same_as(tensor)) => {
                self.attribute(&Attribute::new("value", tensor.clone()), &[])
            }
            _ => self.attribute(attribute, &[]),
        }
    }

    fn attribute(
        &self,
        attribute: &Attribute,
        captured: &[Name],
    ) -> Result<proto::AttributeProto, ToProtoError> {
        let mut message = proto::AttributeProto {
            name: Some(attribute.name.to_string()),
            doc_string: attribute.doc_string.clone(),
            r#type: attribute.written_type,
            ..proto::AttributeProto::default()
        };
        match &attribute.value {
            AttributeValue::Int(value) => message.i = Some(*value),
            AttributeValue::Float(value) => message.f = Some(*value),
            AttributeValue::String(value) => message.s = Some(value.clone()),
            AttributeValue::Tensor(value) => message.t = Some(self.tensor(value, None)),
            AttributeValue::Graph(value) => message.g = Some(self.graph(value, captured, false)?),
            AttributeValue::Sparse(value) => message.sparse_tensor = Some((**value).clone()),
            AttributeValue::Type(value) => message.tp = Some((**value).clone()),
            AttributeValue::Ints(values) => message.ints = values.clone(),
            AttributeValue::Floats(values) => message.floats = values.clone(),
            AttributeValue::Strings(values) => message.strings = values.clone(),
            AttributeValue::Tensors(values) => {
                message.tensors = values.iter().map(|t| self.tensor(t, None)).collect()
            }
            AttributeValue::Graphs(values) => {
                message.graphs = values
                    .iter()
                    .map(|g| self.graph(g, captured, false))
                    .collect::<Result<_, _>>()?;
            }
            AttributeValue::Sparses(values) => message.sparse_tensors = values.clone(),
            AttributeValue::Types(values) => message.type_protos = values.clone(),
            AttributeValue::Reference(name, _) => message.ref_attr_name = Some(name.to_string()),
            AttributeValue::Missing => {}
        }
        Ok(message)
    }

    fn tensor(&self, tensor: &Tensor, name: Option<&Name>) -> proto::TensorProto {
        tensor_to_proto(tensor, name, self.external)
    }
}

/// The first node that a topological order leaves out.
fn on_cycle(graph: &Graph, order: &[NodeId]) -> Option<NodeId> {
    if order.len() + 1 == graph.node_ids().count() {
        return None;
    }
    let found: std::collections::HashSet<_> = order.iter().copied().collect();
    graph
        .node_ids()
        .find(|id| *id != graph.sink() && !found.contains(id))
}

fn node_message(
    names: &Names<'_>,
    id: NodeId,
    node: &Node,
    op_type: String,
    domain: Option<&Name>,
    attribute: Vec<proto::AttributeProto>,
) -> proto::NodeProto {
    let meta = node.meta.as_deref();
    let name_of =
        |value: &Option<ValueId>| value.map(|value| names.of(value).to_string()).unwrap_or_default();
    proto::NodeProto {
        input: names.graph.inputs_of(id).iter().map(name_of).collect(),
        output: node
            .outputs()
            .iter()
            .map(|value| {
                if value.omitted {
                    String::new()
                } else {
                    value.name.to_string()
                }
            })
            .collect(),
        name: node.name.as_ref().map(Name::to_string),
        op_type: Some(op_type),
        domain: domain.map(Name::to_string),
        overload: meta.and_then(|m| m.overload.as_ref()).map(Name::to_string),
        attribute,
        doc_string: meta.and_then(|m| m.doc_string.clone()),
        metadata_props: meta.map(|m| m.metadata.clone()).unwrap_or_default(),
        device_configurations: meta.map(|m| m.device_configurations.clone()).unwrap_or_default(),
    }
}

/// The message of a tensor. With a `name` it is an initializer; else it keeps the name it was read with.
pub fn tensor_to_proto(tensor: &Tensor, name: Option<&Name>, external: &ExternalFiles) -> proto::TensorProto {
    let meta = tensor.meta();
    let own_name = || meta.and_then(|m| m.name.as_ref());
    let mut message = proto::TensorProto {
        dims: tensor.dims().iter().map(|dim| *dim as i64).collect(),
        data_type: Some(tensor.dtype().onnx()),
        name: name.or_else(own_name).map(Name::to_string),
        doc_string: meta.and_then(|m| m.doc_string.clone()),
        metadata_props: meta.map(|m| m.metadata.clone()).unwrap_or_default(),
        ..proto::TensorProto::default()
    };
    match tensor.data() {
        TensorData::Absent => {}
        TensorData::Raw(bytes) => {
            if let Some(meta) = meta.filter(|m| !m.external.is_empty()) {
                if external.holds(&meta.external, bytes) {
                    message.data_location = meta.data_location;
                    message.external_data = meta.external.clone();
                    return message;
                }
                message.raw_data = Some(bytes.clone());
                return message;
            }
            message.raw_data = Some(bytes.clone());
        }
        TensorData::Float(values) => message.float_data = values.to_vec(),
        TensorData::Int32(values) => message.int32_data = values.to_vec(),
        TensorData::Int64(values) => message.int64_data = values.to_vec(),
        TensorData::Double(values) => message.double_data = values.to_vec(),
        TensorData::Uint64(values) => message.uint64_data = values.to_vec(),
        TensorData::Strings(values) => message.string_data = values.to_vec(),
    }
    message.data_location = meta.and_then(|m| m.data_location);
    message
}

/// The declaration of an initializer among the inputs, adapted to what the initializer is now.
fn renamed(
    mut info: proto::ValueInfoProto,
    value: &crate::ir::Value,
    tensor: &Tensor,
) -> proto::ValueInfoProto {
    let declared = info
        .r#type
        .as_ref()
        .map_or(ValueType::Unknown, super::lift::type_from_proto);
    if declared.contradicts(&crate::ir::tensor_type(tensor)) {
        return value_info_of(&value.name, &crate::ir::tensor_type(tensor));
    }
    if info.name.as_deref() != Some(&*value.name) {
        info.name = Some(value.name.to_string());
    }
    info
}

/// A declaration made from a name and what is known of its type.
pub fn value_info_of(name: &Name, ty: &ValueType) -> proto::ValueInfoProto {
    proto::ValueInfoProto {
        name: Some(name.to_string()),
        r#type: type_to_proto(ty),
        ..proto::ValueInfoProto::default()
    }
}

/// The message of a type; `None` when nothing is known. Dimensions that are neither numbers nor bare symbols are left open.
pub fn type_to_proto(ty: &ValueType) -> Option<proto::TypeProto> {
    let boxed = |ty: &ValueType| type_to_proto(ty).map(Box::new);
    let value = match ty {
        ValueType::Unknown | ValueType::Opaque => return None,
        ValueType::Tensor(tensor) => TypeValue::TensorType(proto::type_proto::Tensor {
            elem_type: tensor.dtype.map(DType::onnx),
            shape: shape_to_proto(tensor),
        }),
        ValueType::Sparse(tensor) => TypeValue::SparseTensorType(proto::type_proto::SparseTensor {
            elem_type: tensor.dtype.map(DType::onnx),
            shape: shape_to_proto(tensor),
        }),
        ValueType::Sequence(element) => TypeValue::SequenceType(Box::new(proto::type_proto::Sequence {
            elem_type: boxed(element),
        })),
        ValueType::Optional(element) => TypeValue::OptionalType(Box::new(proto::type_proto::Optional {
            elem_type: boxed(element),
        })),
        ValueType::Map(key, value) => TypeValue::MapType(Box::new(proto::type_proto::Map {
            key_type: Some(key.onnx()),
            value_type: boxed(value),
        })),
    };
    Some(proto::TypeProto {
        value: Some(value),
        ..proto::TypeProto::default()
    })
}

fn shape_to_proto(tensor: &TensorType) -> Option<proto::TensorShapeProto> {
    let dim = |dim: &Dim| {
        let value = match dim {
            Dim::Fixed(size) => Some(DimValue::DimValue(*size)),
            other => other.as_symbol().map(|name| DimValue::DimParam(name.to_string())),
        };
        proto::tensor_shape_proto::Dimension {
            value,
            ..Default::default()
        }
    };
    Some(proto::TensorShapeProto {
        dim: tensor.shape.as_ref()?.iter().map(dim).collect(),
    })
}
