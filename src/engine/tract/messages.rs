//! A model of the IR as tract's own protobuf messages.
//!
//! Every value gets a name that is unique in the whole model, and so does every node, because tract refuses repeated
//! node names and looks names up without regard to scopes. Constants of the main graph are no messages: they are handed
//! over as tensors that all plans of a session share.

use std::collections::HashMap;

use tract_onnx::pb;

use super::tensor::held;
use super::{ENGINE, failed};
use crate::engine::{EngineError, carrier};
use crate::ir::{
    Attribute, AttributeValue, DType, Function, FunctionIndex, Graph, Imports, Model, NodeId, NodeKind,
    Operator, Tensor, ValueId, ValueType, opset_version,
};
use crate::proto;

/// The main graph as messages, and the names by which to find its parts.
pub(super) struct Messages {
    /// The graph without initializers; its inputs are the graph inputs in order, then the constants in order.
    pub(super) graph: pb::GraphProto,
    /// Names of the graph inputs, in order.
    pub(super) inputs: Vec<String>,
    /// Names and elements of the constants that something reads.
    pub(super) constants: Vec<(String, Tensor)>,
}

/// The main graph of a model, with `outputs` as its graph outputs.
pub(super) fn graph_messages(model: &Model, outputs: &[ValueId]) -> Result<Messages, EngineError> {
    let graph = &model.graph;
    let mut names = Names {
        model,
        values: 0,
        nodes: 0,
        calls: Vec::new(),
        functions: model.function_index(),
    };
    let (mut messages, scope) = names.nodes(graph, &HashMap::new())?;
    let mut inputs = Vec::new();
    for id in graph.inputs() {
        let name = scope.get(&ValueId::new(*id, 0)).cloned().unwrap_or_default();
        messages
            .input
            .push(value_info(&name, graph.ty(ValueId::new(*id, 0))));
        inputs.push(name);
    }
    let mut constants = Vec::new();
    for id in graph.topological_order() {
        let Some(NodeKind::Constant(constant)) = graph.get(id).map(|node| &node.kind) else {
            continue;
        };
        let value = ValueId::new(id, 0);
        if !graph.is_used(id) && !outputs.contains(&value) {
            continue;
        }
        let tensor = constant.tensor.as_ref().ok_or_else(|| EngineError::Unsupported {
            engine: ENGINE,
            operator: "sparse tensor".to_owned(),
            node: Some(graph.label(id)),
            reason: "sparse constants have no counterpart in tract".to_owned(),
        })?;
        let name = scope.get(&value).cloned().unwrap_or_default();
        messages.input.push(value_info(&name, graph.ty(value)));
        constants.push((name, tensor.clone()));
    }
    for value in outputs {
        names.output(graph, *value, &scope, &mut messages)?;
    }
    Ok(Messages {
        graph: messages,
        inputs,
        constants,
    })
}

/// One operator of ONNX as a message.
pub(super) fn operator_message(operator: &Operator) -> Result<pb::NodeProto, EngineError> {
    let attribute = operator
        .attributes()
        .iter()
        .map(plain_attribute)
        .collect::<Result<_, _>>()?;
    Ok(pb::NodeProto {
        op_type: operator.op_type.to_string(),
        domain: operator.domain().to_owned(),
        attribute,
        ..Default::default()
    })
}

/// The model around a graph.
pub(super) fn model_message(graph: pb::GraphProto, imports: &Imports) -> pb::ModelProto {
    // tract takes the first import of a domain; ONNX files that import one twice mean the highest version.
    let mut opset_import: Vec<pb::OperatorSetIdProto> = Vec::new();
    for import in imports {
        let domain = import.domain();
        let version = crate::ir::opset_version(imports, domain).unwrap_or(0);
        if !opset_import.iter().any(|known| known.domain == domain) {
            opset_import.push(pb::OperatorSetIdProto {
                domain: domain.to_owned(),
                version,
            });
        }
    }
    pb::ModelProto {
        ir_version: 10,
        opset_import,
        graph: Some(graph),
        ..Default::default()
    }
}

/// Names of the values of one graph.
type Scope = HashMap<ValueId, String>;

struct Names<'m> {
    model: &'m Model,
    values: usize,
    nodes: usize,
    /// The functions that are being read, with the attributes of their calls.
    calls: Vec<Call<'m>>,
    functions: FunctionIndex<'m>,
}

struct Call<'m> {
    function: &'m Function,
    /// References resolved.
    attributes: Vec<Attribute>,
}

impl<'m> Names<'m> {
    fn value(&mut self) -> String {
        self.values += 1;
        format!("v{}", self.values)
    }

    /// The operators of a graph in topological order. `captured` names the values behind its capture slots.
    fn nodes(
        &mut self,
        graph: &Graph,
        captured: &HashMap<u32, String>,
    ) -> Result<(pb::GraphProto, Scope), EngineError> {
        let mut scope = Scope::new();
        let mut messages = pb::GraphProto {
            name: "graph".to_owned(),
            ..Default::default()
        };
        let order = graph.topological_order();
        for id in &order {
            let Some(node) = graph.get(*id) else { continue };
            if let NodeKind::Capture(capture) = &node.kind {
                let name = captured.get(&capture.index).cloned();
                let name = name.ok_or_else(|| failed(format!("{} captures nothing", graph.label(*id))))?;
                scope.insert(ValueId::new(*id, 0), name);
                continue;
            }
            for (index, value) in node.outputs().iter().enumerate() {
                if !value.omitted {
                    scope.insert(ValueId::new(*id, index), self.value());
                }
            }
        }
        for id in order {
            let Some(NodeKind::Operator(operator)) = graph.get(id).map(|node| &node.kind) else {
                continue;
            };
            let message = self.node(graph, id, operator, &scope)?;
            match self.functions.called_by(graph, id) {
                Some(function) => self.call(function, operator, message, &mut messages)?,
                None => messages.node.push(message),
            }
        }
        Ok((messages, scope))
    }

    /// The nodes of a function in the place of its call. Identities join the names of both sides.
    fn call(
        &mut self,
        function: &'m Function,
        operator: &Operator,
        call: pb::NodeProto,
        messages: &mut pb::GraphProto,
    ) -> Result<(), EngineError> {
        let refuse = |reason: &str| EngineError::Unsupported {
            engine: ENGINE,
            operator: operator.op_type.to_string(),
            node: Some(call.name.clone()),
            reason: reason.to_owned(),
        };
        if self.calls.len() >= MAX_CALLS
            || self
                .calls
                .iter()
                .any(|open| std::ptr::eq(open.function, function))
        {
            return Err(refuse("the function calls itself"));
        }
        let differs = function.opset_imports.iter().any(|import| {
            let version = opset_version(&self.model.opset_imports, import.domain());
            version.is_some_and(|version| Some(version) != import.version)
        });
        if differs {
            return Err(refuse(
                "the function imports another opset than the model; convert-opset brings them together",
            ));
        }
        let mut attributes = Vec::new();
        for given in operator.attributes() {
            attributes.extend(self.resolve(given));
        }
        for default in &function.header.attribute_proto {
            let name = default.name.as_deref().unwrap_or("");
            if !attributes.iter().any(|known: &Attribute| known.name == *name) {
                let value = default_attribute(default)
                    .ok_or_else(|| refuse("a default attribute of an unknown kind"))?;
                attributes.push(Attribute::new(name, value));
            }
        }
        self.calls.push(Call { function, attributes });
        let (inner, scope) = self.nodes(&function.graph, &HashMap::new())?;
        self.calls.pop();
        let mut inputs = HashMap::new();
        for (index, id) in function.graph.inputs().iter().enumerate() {
            let inside = scope.get(&ValueId::new(*id, 0)).cloned().unwrap_or_default();
            inputs.insert(inside, call.input.get(index).cloned().unwrap_or_default());
        }
        for id in function.graph.node_ids() {
            let Some(NodeKind::Constant(constant)) = function.graph.get(id).map(|node| &node.kind) else {
                continue;
            };
            let name = scope.get(&ValueId::new(id, 0)).cloned().unwrap_or_default();
            let tensor = constant
                .tensor
                .as_ref()
                .ok_or_else(|| refuse("the function has a sparse constant"))?;
            messages.initializer.push(tensor_message(&name, tensor)?);
        }
        for mut node in inner.node {
            rename(&mut node, &inputs);
            trim(&mut node.input);
            messages.node.push(node);
        }
        messages.initializer.extend(inner.initializer);
        for (index, value) in function.graph.output_values().iter().enumerate() {
            let Some(outside) = call.output.get(index).filter(|name| !name.is_empty()) else {
                continue;
            };
            let inside = value.and_then(|value| scope.get(&value).cloned());
            let inside = inside.ok_or_else(|| refuse("the function has an output without a value"))?;
            let inside = inputs.get(&inside).cloned().unwrap_or(inside);
            messages.node.push(self.identity(inside, outside.clone()));
        }
        Ok(())
    }

    fn identity(&mut self, from: String, to: String) -> pb::NodeProto {
        self.nodes += 1;
        pb::NodeProto {
            input: vec![from],
            output: vec![to],
            name: format!("identity~{}", self.nodes),
            op_type: "Identity".to_owned(),
            ..Default::default()
        }
    }

    /// An attribute in a function's body: a reference becomes the attribute of the call, or nothing if the call has none.
    fn resolve(&self, attribute: &Attribute) -> Option<Attribute> {
        let AttributeValue::Reference(name, _) = &attribute.value else {
            return Some(attribute.clone());
        };
        let given = self
            .calls
            .last()?
            .attributes
            .iter()
            .find(|given| given.name == *name)?;
        Some(Attribute::new(attribute.name.clone(), given.value.clone()))
    }

    fn node(
        &mut self,
        graph: &Graph,
        id: NodeId,
        operator: &Operator,
        scope: &Scope,
    ) -> Result<pb::NodeProto, EngineError> {
        let name_of = |value: &ValueId| {
            scope
                .get(value)
                .cloned()
                .ok_or_else(|| failed(format!("{} reads an omitted value", graph.label(id))))
        };
        let mut input = Vec::with_capacity(operator.input_count());
        for value in &graph.inputs_of(id) {
            input.push(value.as_ref().map(name_of).transpose()?.unwrap_or_default());
        }
        let outputs = graph.get(id).map_or(&[][..], |node| node.outputs());
        let mut output = (0..outputs.len())
            .map(|index| scope.get(&ValueId::new(id, index)).cloned().unwrap_or_default())
            .collect();
        trim(&mut output);
        trim(&mut input);
        let mut captured = HashMap::new();
        for (index, value) in graph.captures_of(id).iter().enumerate() {
            if let Some(value) = value {
                captured.insert(index as u32, name_of(value)?);
            }
        }
        let mut attribute = Vec::with_capacity(operator.attributes().len());
        for known in operator.attributes() {
            let Some(known) = &self.resolve(known) else {
                continue;
            };
            let mut message = match &known.value {
                AttributeValue::Graph(_) | AttributeValue::Graphs(_) => pb::AttributeProto::default(),
                _ => plain_attribute(known)?,
            };
            if let [body] = known.value.graphs() {
                message.name = known.name.to_string();
                message.r#type = pb::attribute_proto::AttributeType::Graph as i32;
                message.g = Some(self.body(body, &captured)?);
            } else if !known.value.graphs().is_empty() {
                return Err(no_attribute(known));
            }
            attribute.push(message);
        }
        self.nodes += 1;
        Ok(pb::NodeProto {
            input,
            output,
            name: format!("{}~{}", graph.label(id), self.nodes),
            op_type: operator.op_type.to_string(),
            domain: operator.domain().to_owned(),
            attribute,
            doc_string: String::new(),
        })
    }

    fn body(
        &mut self,
        graph: &Graph,
        captured: &HashMap<u32, String>,
    ) -> Result<pb::GraphProto, EngineError> {
        let (mut messages, scope) = self.nodes(graph, captured)?;
        for id in graph.inputs() {
            let value = ValueId::new(*id, 0);
            let name = scope.get(&value).cloned().unwrap_or_default();
            messages.input.push(value_info(&name, graph.ty(value)));
        }
        for id in graph.node_ids() {
            let Some(NodeKind::Constant(constant)) = graph.get(id).map(|node| &node.kind) else {
                continue;
            };
            let name = scope.get(&ValueId::new(id, 0)).cloned().unwrap_or_default();
            let tensor = constant
                .tensor
                .as_ref()
                .ok_or_else(|| failed(format!("{name} is sparse")))?;
            messages.initializer.push(tensor_message(&name, tensor)?);
        }
        for (index, value) in graph.output_values().iter().enumerate() {
            let value = value.ok_or_else(|| failed(format!("a body has no value for its output {index}")))?;
            self.output(graph, value, &scope, &mut messages)?;
        }
        Ok(messages)
    }

    /// Appends a graph output. tract forgets the type of a value that is made an output, so one that no operator
    /// produces, or that is an output already, goes through an Identity.
    fn output(
        &mut self,
        graph: &Graph,
        value: ValueId,
        scope: &Scope,
        messages: &mut pb::GraphProto,
    ) -> Result<(), EngineError> {
        let mut name = scope
            .get(&value)
            .cloned()
            .ok_or_else(|| failed("a graph output is an omitted value"))?;
        let direct = graph.operator(value.node).is_some();
        if !direct || messages.output.iter().any(|known| known.name == name) {
            let identity = self.value();
            messages.node.push(self.identity(name, identity.clone()));
            name = identity;
        }
        messages.output.push(pb::ValueInfoProto {
            name,
            ..Default::default()
        });
        Ok(())
    }
}

/// Functions that may be open at a time.
const MAX_CALLS: usize = 64;

/// Reads other names, in bodies too: those of a call's operands for those of a function's inputs.
fn rename(node: &mut pb::NodeProto, names: &HashMap<String, String>) {
    for input in &mut node.input {
        if let Some(name) = names.get(input) {
            input.clone_from(name);
        }
    }
    for body in node
        .attribute
        .iter_mut()
        .filter_map(|attribute| attribute.g.as_mut())
    {
        body.node.iter_mut().for_each(|node| rename(node, names));
    }
}

/// The default that a function gives one of its attributes.
fn default_attribute(default: &proto::AttributeProto) -> Option<AttributeValue> {
    Some(match default.r#type? {
        1 => AttributeValue::Float(default.f?),
        2 => AttributeValue::Int(default.i?),
        3 => AttributeValue::String(default.s.clone()?),
        6 => AttributeValue::Floats(default.floats.clone()),
        7 => AttributeValue::Ints(default.ints.clone()),
        8 => AttributeValue::Strings(default.strings.clone()),
        _ => return None,
    })
}

/// Drops trailing slots that are left out: tract reads the number of slots as the number of values.
pub(super) fn trim(names: &mut Vec<String>) {
    while names.last().is_some_and(String::is_empty) {
        names.pop();
    }
}

/// A declaration with the element type and, where known, the shape.
pub(super) fn value_info(name: &str, ty: &ValueType) -> pb::ValueInfoProto {
    let shape = ty.shape().map(|dims| pb::TensorShapeProto {
        dim: dims
            .iter()
            .map(|dim| pb::tensor_shape_proto::Dimension {
                value: dim
                    .fixed()
                    .map(pb::tensor_shape_proto::dimension::Value::DimValue),
                ..Default::default()
            })
            .collect(),
    });
    typed(name, ty.dtype(), shape)
}

/// A declaration with these dimensions.
pub(super) fn concrete(name: &str, dtype: DType, dims: &[u64]) -> pb::ValueInfoProto {
    let dim = dims
        .iter()
        .map(|dim| pb::tensor_shape_proto::Dimension {
            value: Some(pb::tensor_shape_proto::dimension::Value::DimValue(*dim as i64)),
            ..Default::default()
        })
        .collect();
    typed(name, Some(dtype), Some(pb::TensorShapeProto { dim }))
}

fn typed(name: &str, dtype: Option<DType>, shape: Option<pb::TensorShapeProto>) -> pb::ValueInfoProto {
    let tensor = pb::type_proto::Tensor {
        elem_type: dtype.map_or(0, |dtype| held(dtype).onnx()),
        shape,
    };
    pb::ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(pb::TypeProto {
            value: Some(pb::type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn no_attribute(attribute: &Attribute) -> EngineError {
    EngineError::Unsupported {
        engine: ENGINE,
        operator: format!("attribute {}", attribute.name),
        node: None,
        reason: "attributes of this kind have no counterpart in tract".to_owned(),
    }
}

/// An attribute without bodies.
fn plain_attribute(attribute: &Attribute) -> Result<pb::AttributeProto, EngineError> {
    let mut message = pb::AttributeProto {
        name: attribute.name.to_string(),
        r#type: attribute.value.onnx_type().unwrap_or(0),
        ..Default::default()
    };
    match &attribute.value {
        AttributeValue::Int(value) => message.i = *value,
        AttributeValue::Float(value) => message.f = *value,
        AttributeValue::String(value) => message.s = value.to_vec(),
        AttributeValue::Tensor(tensor) => message.t = Some(tensor_message("", tensor)?),
        AttributeValue::Ints(values) => message.ints = values.clone(),
        AttributeValue::Floats(values) => message.floats = values.clone(),
        AttributeValue::Strings(values) => message.strings = values.iter().map(|v| v.to_vec()).collect(),
        AttributeValue::Tensors(tensors) => {
            message.tensors = tensors
                .iter()
                .map(|t| tensor_message("", t))
                .collect::<Result<_, _>>()?;
        }
        _ => return Err(no_attribute(attribute)),
    }
    Ok(message)
}

fn tensor_message(name: &str, tensor: &Tensor) -> Result<pb::TensorProto, EngineError> {
    let widened;
    let tensor = if carrier::carrier(tensor.dtype()).is_some() {
        widened = carrier::widen(tensor).map_err(|e| failed(e.to_string()))?;
        &widened
    } else {
        tensor
    };
    let mut message = pb::TensorProto {
        name: name.to_owned(),
        dims: tensor.dims().iter().map(|dim| *dim as i64).collect(),
        data_type: tensor.dtype().onnx(),
        ..Default::default()
    };
    if super::tensor::datum_type(tensor.dtype()).is_none() {
        return Err(super::tensor::unsupported(tensor.dtype(), name));
    }
    match tensor.strings() {
        Ok(strings) => message.string_data = strings.iter().map(|s| s.to_vec()).collect(),
        Err(_) => message.raw_data = tensor.raw().map_err(|e| failed(e.to_string()))?.into_owned(),
    }
    Ok(message)
}
