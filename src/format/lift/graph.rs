//! `GraphProto` and the body of `FunctionProto` to graphs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::super::external::ExternalFiles;
use super::attribute::attribute_from_proto;
use super::error::LiftError;
use super::tensor::tensor_from_proto;
use super::types::{input_type, type_from_proto, unknown_element_type};
use crate::ir::{
    Attribute, AttributeValue, Constant, ConstantOrigin, Graph, GraphBuilder, GraphMeta, GraphOutput, Input,
    Name, NodeId, NodeMeta, Operator, Slot, Tensor, Value, ValueId, ValueType, tensor_type,
};
use crate::proto;

/// What lifting needs beside the message.
pub(super) struct Context<'a> {
    pub(super) external: &'a ExternalFiles,
    /// IR versions before 4: every initializer is listed among the inputs and is a constant nevertheless.
    pub(super) initializers_are_inputs: bool,
    /// Initializers that are given again, with the same elements.
    pub(super) repeated: RefCell<Vec<String>>,
}

/// Who reads a value.
#[derive(Clone)]
pub(super) struct Reader {
    /// How messages call it.
    pub(super) label: String,
    /// Whether it is an output of a graph, not an input of a node.
    pub(super) is_output: bool,
}

/// Values that bodies read from the graph around their owner, in the order of capture slots, each with its first reader.
#[derive(Default)]
pub(super) struct Captures {
    found: Vec<(Name, Reader)>,
    slots: HashMap<Name, u32>,
}

impl Captures {
    fn slot(&mut self, name: &Name, reader: &dyn Fn() -> Reader) -> u32 {
        if let Some(slot) = self.slots.get(name) {
            return *slot;
        }
        let slot = self.found.len() as u32;
        self.found.push((name.clone(), reader()));
        self.slots.insert(name.clone(), slot);
        slot
    }
}

/// The parts of a graph or function that make a graph.
pub(super) struct GraphSource {
    label: String,
    inputs: Vec<(String, Option<proto::ValueInfoProto>)>,
    outputs: Vec<(String, Option<proto::ValueInfoProto>)>,
    nodes: Vec<proto::NodeProto>,
    initializers: Vec<proto::TensorProto>,
    sparse: Vec<proto::SparseTensorProto>,
    value_info: Vec<proto::ValueInfoProto>,
    meta: GraphMeta,
}

impl GraphSource {
    pub(super) fn from_graph(graph: proto::GraphProto) -> Self {
        let named = |infos: Vec<proto::ValueInfoProto>| {
            infos
                .into_iter()
                .map(|info| (info.name.clone().unwrap_or_default(), Some(info)))
                .collect()
        };
        Self {
            label: format!("graph {:?}", graph.name.as_deref().unwrap_or("")),
            inputs: named(graph.input),
            outputs: named(graph.output),
            nodes: graph.node,
            initializers: graph.initializer,
            sparse: graph.sparse_initializer,
            value_info: graph.value_info,
            meta: GraphMeta {
                name: graph.name,
                doc_string: graph.doc_string,
                metadata: graph.metadata_props,
                quantization: graph.quantization_annotation.into(),
                other_value_info: Vec::new(),
            },
        }
    }

    /// Takes nodes, inputs, outputs and value_info out of a function.
    pub(super) fn from_function(function: &mut proto::FunctionProto) -> Self {
        use std::mem::take;
        let named = |names: Vec<String>| names.into_iter().map(|name| (name, None)).collect();
        Self {
            label: format!("function {:?}", function.name.as_deref().unwrap_or("")),
            inputs: named(take(&mut function.input)),
            outputs: named(take(&mut function.output)),
            nodes: take(&mut function.node),
            initializers: Vec::new(),
            sparse: Vec::new(),
            value_info: take(&mut function.value_info),
            meta: GraphMeta::default(),
        }
    }
}

/// Lifts a graph that stands by itself; answers the names it reads without defining them, each with a reader.
pub(super) fn lift_graph(
    source: GraphSource,
    context: &Context<'_>,
) -> Result<(Graph, Vec<(Name, Reader)>), LiftError> {
    let mut captures = Captures::default();
    let graph = lift_body(source, context, &mut captures)?;
    Ok((graph, captures.found))
}

/// Lifts a body; names that it does not define become capture slots in `captures`, which all bodies of one node share.
pub(super) fn lift_body(
    source: GraphSource,
    context: &Context<'_>,
    captures: &mut Captures,
) -> Result<Graph, LiftError> {
    let mut lifter = Lifter {
        context,
        label: source.label,
        builder: GraphBuilder::new(),
        values: HashMap::with_capacity(source.nodes.len() + source.initializers.len()),
        declared: HashMap::new(),
        other: Vec::new(),
        captures,
    };
    lifter
        .builder
        .reserve(source.nodes.len() + source.initializers.len());
    *lifter.builder.meta() = source.meta;
    lifter.value_info(source.value_info);
    lifter.inputs_and_initializers(source.inputs, source.initializers, source.sparse)?;
    let mut pending = Vec::with_capacity(source.nodes.len());
    for node in source.nodes {
        pending.extend(lifter.node(node)?);
    }
    for node in pending {
        lifter.connect(node)?;
    }
    for (name, declared) in source.outputs {
        lifter.output(name, declared)?;
    }
    Ok(lifter.finish())
}

struct Lifter<'a, 'c> {
    context: &'a Context<'a>,
    label: String,
    builder: GraphBuilder,
    values: HashMap<Name, ValueId>,
    /// `value_info` by name, with its index in the file.
    declared: HashMap<String, (u32, proto::ValueInfoProto)>,
    other: Vec<(u32, proto::ValueInfoProto)>,
    captures: &'c mut Captures,
}

/// The initializers of a graph: their tensors with their places in the file, and their names in its order.
struct Initializers {
    tensors: HashMap<Name, (u32, Tensor)>,
    order: Vec<Name>,
}

/// Entries of the list of inputs that stand for initializers, with their places.
type Listed = HashMap<Name, (u32, proto::ValueInfoProto)>;

/// A node whose inputs and captures are still names.
struct Pending {
    id: NodeId,
    inputs: Vec<String>,
    captures: Vec<(Name, Reader)>,
}

impl Lifter<'_, '_> {
    fn value_info(&mut self, infos: Vec<proto::ValueInfoProto>) {
        for (index, info) in infos.into_iter().enumerate() {
            let name = info.name.clone().unwrap_or_default();
            if name.is_empty() || self.declared.contains_key(&name) {
                self.other.push((index as u32, info));
            } else {
                self.declared.insert(name, (index as u32, info));
            }
        }
    }

    fn define(&mut self, name: &Name, value: ValueId, node: &dyn Fn() -> String) -> Result<(), LiftError> {
        if self.values.insert(name.clone(), value).is_some() {
            return Err(self.duplicate(name, &node()));
        }
        Ok(())
    }

    fn unnamed(&self) -> LiftError {
        LiftError::Unnamed {
            graph: self.label.clone(),
        }
    }

    fn duplicate(&self, value: &Name, node: &str) -> LiftError {
        LiftError::Duplicate {
            value: value.to_string(),
            node: node.to_owned(),
            graph: self.label.clone(),
        }
    }

    /// Inputs, and what has a tensor in the file: in old versions of the format one list names both.
    fn inputs_and_initializers(
        &mut self,
        inputs: Vec<(String, Option<proto::ValueInfoProto>)>,
        initializers: Vec<proto::TensorProto>,
        sparse: Vec<proto::SparseTensorProto>,
    ) -> Result<(), LiftError> {
        let mut initializers = self.initializers(initializers)?;
        let listed = self.inputs(inputs, &mut initializers.tensors)?;
        self.constants(initializers, listed)?;
        self.sparse_constants(sparse)
    }

    /// The tensors of the initializers. Repetitions of one are left out and noted.
    fn initializers(&self, initializers: Vec<proto::TensorProto>) -> Result<Initializers, LiftError> {
        let mut found = Initializers {
            tensors: HashMap::with_capacity(initializers.len()),
            order: Vec::with_capacity(initializers.len()),
        };
        for (index, mut proto) in initializers.into_iter().enumerate() {
            let name = proto.name.take().filter(|name| !name.is_empty());
            let name = Name::from(name.ok_or_else(|| self.unnamed())?);
            let tensor = tensor_from_proto(proto, self.context.external, &|| name.to_string())?;
            match found.tensors.entry(name.clone()) {
                Entry::Occupied(first) if first.get().1.same_as(&tensor) => {
                    self.context.repeated.borrow_mut().push(name.to_string());
                }
                Entry::Occupied(_) => return Err(self.duplicate(&name, "an initializer")),
                Entry::Vacant(place) => {
                    place.insert((index as u32, tensor));
                    found.order.push(name);
                }
            }
        }
        Ok(found)
    }

    /// Makes the graph's inputs, with the tensors that are their defaults. Where an initializer has to be listed among the inputs, its
    /// entry is answered instead.
    fn inputs(
        &mut self,
        inputs: Vec<(String, Option<proto::ValueInfoProto>)>,
        tensors: &mut HashMap<Name, (u32, Tensor)>,
    ) -> Result<Listed, LiftError> {
        let mut listed = Listed::new();
        for (index, (name, declared)) in inputs.into_iter().enumerate() {
            if name.is_empty() {
                return Err(self.unnamed());
            }
            let (index, name) = (index as u32, Name::from(name));
            let has_default = tensors.contains_key(&name);
            if let Some(info) = declared
                .as_ref()
                .filter(|_| has_default && self.context.initializers_are_inputs)
            {
                if listed.insert(name.clone(), (index, info.clone())).is_some() {
                    return Err(self.duplicate(&name, "a graph input"));
                }
                continue;
            }
            let default = tensors.remove(&name).map(|(at, tensor)| (tensor, at));
            let declared_type = declared.as_ref().and_then(|info| info.r#type.as_ref());
            if let Some(number) = declared_type.and_then(unknown_element_type) {
                return Err(LiftError::ElementType {
                    tensor: name.to_string(),
                    number,
                });
            }
            let ty = declared_type.map_or(ValueType::Unknown, |ty| {
                input_type(ty, default.as_ref().map(|(tensor, _)| tensor))
            });
            let value = self.builder.input(
                Value::typed(name.clone(), ty),
                Input {
                    declared,
                    default,
                    index,
                },
            );
            self.define(&name, value, &|| "a graph input".to_owned())?;
        }
        Ok(listed)
    }

    /// Makes constants of the initializers that are no input's default.
    fn constants(&mut self, initializers: Initializers, mut listed: Listed) -> Result<(), LiftError> {
        let Initializers { mut tensors, order } = initializers;
        for name in order {
            let Some((index, tensor)) = tensors.remove(&name) else {
                continue;
            };
            let value = Value::typed(name.clone(), tensor_type(&tensor));
            let listed_input = listed.remove(&name).map(Box::new);
            let constant = Constant {
                tensor: Some(tensor),
                origin: ConstantOrigin::Initializer(index),
                listed_input,
            };
            let value = self.builder.constant(value, constant, None, None);
            self.define(&name, value, &|| "an initializer".to_owned())?;
        }
        Ok(())
    }

    fn sparse_constants(&mut self, sparse: Vec<proto::SparseTensorProto>) -> Result<(), LiftError> {
        for (index, sparse) in sparse.into_iter().enumerate() {
            let name = sparse
                .values
                .as_ref()
                .and_then(|values| values.name.clone())
                .filter(|name| !name.is_empty());
            let name = Name::from(name.ok_or_else(|| self.unnamed())?);
            let origin = ConstantOrigin::Sparse(Box::new(sparse), index as u32);
            let constant = Constant {
                tensor: None,
                origin,
                listed_input: None,
            };
            let value = self
                .builder
                .constant(Value::named(name.clone()), constant, None, None);
            self.define(&name, value, &|| "a sparse initializer".to_owned())?;
        }
        Ok(())
    }

    fn output_value(&mut self, name: String) -> Value {
        if name.is_empty() {
            return Value::omitted();
        }
        let declared = self.declared.remove(&name).map(Box::new);
        let ty = declared
            .as_ref()
            .and_then(|d| d.1.r#type.as_ref())
            .map_or(ValueType::Unknown, type_from_proto);
        Value {
            declared,
            ..Value::typed(name, ty)
        }
    }

    fn node(&mut self, mut node: proto::NodeProto) -> Result<Option<Pending>, LiftError> {
        let op_type = Name::from(node.op_type.take().unwrap_or_default());
        if op_type.is_empty() {
            let node = label_of(
                node.name.as_deref(),
                node.output.first().map(String::as_str),
                &"a node".into(),
            );
            return Err(LiftError::NoOperator {
                node,
                graph: self.label.clone(),
            });
        }
        let label = label_of(
            node.name.as_deref(),
            node.output.first().map(String::as_str),
            &op_type,
        );
        let label = || label.clone();
        let mut captures = Captures::default();
        let mut attributes = Vec::with_capacity(node.attribute.len());
        for attribute in node.attribute {
            attributes.push(attribute_from_proto(
                attribute,
                &label,
                self.context,
                &mut captures,
            )?);
        }
        let meta = NodeMeta {
            doc_string: node.doc_string,
            metadata: node.metadata_props,
            overload: node.overload.map(Name::from),
            device_configurations: node.device_configurations,
        };
        let name = node.name.map(Name::from);
        let written_domain = node.domain.map(Name::from);
        let outputs: Vec<Value> = node
            .output
            .into_iter()
            .map(|output| self.output_value(output))
            .collect();
        let names: Vec<Name> = outputs.iter().map(|value| value.name.clone()).collect();
        let mut operator = Operator::new(op_type);
        operator.written_domain = written_domain;
        if is_constant(&operator, &attributes, &outputs, &node.input) {
            let (Some(attribute), Some(output)) = (attributes.pop(), outputs.into_iter().next()) else {
                return Ok(None);
            };
            let tensor = constant_tensor(&attribute);
            let value = match &tensor {
                Some(tensor) => Value {
                    ty: tensor_type(tensor),
                    ..output
                },
                None => output,
            };
            let defined = value.name.clone();
            let origin = ConstantOrigin::Node {
                attribute,
                domain: operator.written_domain,
            };
            let constant = Constant {
                tensor,
                origin,
                listed_input: None,
            };
            let value = self.builder.constant(value, constant, name, Some(meta));
            self.define(&defined, value, &label)?;
            return Ok(None);
        }
        let operator = operator.with_attributes(attributes);
        let id = self.builder.operator(
            operator,
            node.input.len(),
            captures.found.len(),
            outputs,
            name,
            Some(meta),
        );
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            self.define(name, ValueId::new(id, index), &label)?;
        }
        Ok(Some(Pending {
            id,
            inputs: node.input,
            captures: captures.found,
        }))
    }

    /// The value with this name here, or the capture of it from the graph around.
    fn resolve(&mut self, name: &Name, reader: &dyn Fn() -> Reader) -> ValueId {
        if let Some(value) = self.values.get(name) {
            return *value;
        }
        let slot = self.captures.slot(name, reader);
        let value = self.builder.capture(Value::named(name.clone()), slot);
        self.values.insert(name.clone(), value);
        value
    }

    fn connect(&mut self, pending: Pending) -> Result<(), LiftError> {
        let id = pending.id;
        for (index, input) in pending
            .inputs
            .into_iter()
            .enumerate()
            .filter(|(_, input)| !input.is_empty())
        {
            let label = self.builder.graph().label(id);
            let reader = || Reader {
                label: label.clone(),
                is_output: false,
            };
            let value = self.resolve(&Name::from(input), &reader);
            self.builder.connect(value, id, Slot::Input(index as u32));
        }
        for (index, (name, reader)) in pending.captures.into_iter().enumerate() {
            let value = self.resolve(&name, &|| reader.clone());
            self.builder.connect(value, id, Slot::Capture(index as u32));
        }
        Ok(())
    }

    fn output(&mut self, name: String, declared: Option<proto::ValueInfoProto>) -> Result<(), LiftError> {
        if name.is_empty() {
            return Err(LiftError::Unnamed {
                graph: self.label.clone(),
            });
        }
        let name = Name::from(name);
        let ty = declared
            .as_ref()
            .and_then(|info| info.r#type.as_ref())
            .map_or(ValueType::Unknown, type_from_proto);
        let reader = || Reader {
            label: format!("output {name:?}"),
            is_output: true,
        };
        let value = self.resolve(&name, &reader);
        self.builder.output(
            GraphOutput {
                name: name.clone(),
                declared,
                ty,
            },
            Some(value),
        );
        Ok(())
    }

    fn finish(mut self) -> Graph {
        self.other.extend(self.declared.into_values());
        self.other.sort_by_key(|(index, _)| *index);
        self.builder.meta().other_value_info = self.other;
        self.builder.finish()
    }
}

fn label_of(name: Option<&str>, output: Option<&str>, op_type: &Name) -> String {
    let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    given(name)
        .or_else(|| given(output))
        .unwrap_or_else(|| op_type.to_string())
}

/// Whether a node is a `Constant` with one value that is its own, not one of the enclosing function.
fn is_constant(operator: &Operator, attributes: &[Attribute], outputs: &[Value], inputs: &[String]) -> bool {
    operator.is("Constant")
        && inputs.is_empty()
        && matches!(outputs, [output] if !output.omitted)
        && matches!(attributes, [attribute] if is_constant_value(attribute))
}

fn is_constant_value(attribute: &Attribute) -> bool {
    matches!(
        (&*attribute.name, &attribute.value),
        ("value", AttributeValue::Tensor(_))
            | ("sparse_value", AttributeValue::Sparse(_))
            | ("value_float", AttributeValue::Float(_))
            | ("value_floats", AttributeValue::Floats(_))
            | ("value_int", AttributeValue::Int(_))
            | ("value_ints", AttributeValue::Ints(_))
            | ("value_string", AttributeValue::String(_))
            | ("value_strings", AttributeValue::Strings(_))
    )
}

/// The tensor that the attribute of a `Constant` node stands for; `None` for a sparse one.
pub(in crate::format) fn constant_tensor(attribute: &Attribute) -> Option<Tensor> {
    match &attribute.value {
        AttributeValue::Tensor(tensor) => Some(tensor.clone()),
        AttributeValue::Float(value) => Some(Tensor::scalar(*value)),
        AttributeValue::Int(value) => Some(Tensor::scalar(*value)),
        AttributeValue::Floats(values) => Tensor::from_slice(&[values.len() as u64], values).ok(),
        AttributeValue::Ints(values) => Some(Tensor::vector_i64(values)),
        AttributeValue::String(value) => Tensor::from_strings(&[], [value.clone()]).ok(),
        AttributeValue::Strings(values) => {
            Tensor::from_strings(&[values.len() as u64], values.iter().cloned()).ok()
        }
        _ => None,
    }
}
