//! What a model holds that the text syntax has no place for.

use std::collections::BTreeMap;
use std::fmt;

use super::lexer::is_identifier;
use crate::proto::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto,
    TypeProto, ValueInfoProto, type_proto,
};

/// Something that printing leaves out, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Omission {
    /// What is left out, such as `node doc_string`.
    pub what: &'static str,
    /// How many of them the model has.
    pub count: usize,
}

impl fmt::Display for Omission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.count)
    }
}

/// What [`print_model`](super::print_model()) leaves out of `model`, sorted by name. Empty: the text says it all.
#[must_use]
pub fn omitted(model: &ModelProto) -> Vec<Omission> {
    let mut count = Count::default();
    count.add("training_info", model.training_info.len());
    count.add("device configuration", model.configuration.len());
    if let Some(graph) = &model.graph {
        count.graph(graph);
    }
    for function in &model.functions {
        count.function(function);
    }
    count
        .0
        .into_iter()
        .map(|(what, count)| Omission { what, count })
        .collect()
}

#[derive(Default)]
struct Count(BTreeMap<&'static str, usize>);

impl Count {
    fn add(&mut self, what: &'static str, times: usize) {
        if times > 0 {
            *self.0.entry(what).or_default() += times;
        }
    }

    fn text(&mut self, what: &'static str, text: Option<&str>) {
        self.add(what, usize::from(text.is_some_and(|text| !text.is_empty())));
    }

    fn graph(&mut self, graph: &GraphProto) {
        self.text("graph doc_string", graph.doc_string.as_deref());
        self.add("graph metadata_props", graph.metadata_props.len());
        self.add("quantization_annotation", graph.quantization_annotation.len());
        for tensor in &graph.initializer {
            self.tensor(tensor);
        }
        for sparse in &graph.sparse_initializer {
            self.sparse(sparse);
        }
        for value in graph.input.iter().chain(&graph.output).chain(&graph.value_info) {
            self.value(value);
        }
        for node in &graph.node {
            self.node(node);
        }
    }

    fn function(&mut self, function: &FunctionProto) {
        self.add("function metadata_props", function.metadata_props.len());
        for attribute in &function.attribute_proto {
            self.attribute(attribute);
        }
        for value in &function.value_info {
            self.value(value);
        }
        for node in &function.node {
            self.node(node);
        }
    }

    fn node(&mut self, node: &NodeProto) {
        self.text("node doc_string", node.doc_string.as_deref());
        self.add("node metadata_props", node.metadata_props.len());
        self.add("node device configuration", node.device_configurations.len());
        for attribute in &node.attribute {
            self.attribute(attribute);
        }
    }

    fn attribute(&mut self, attribute: &AttributeProto) {
        self.text("attribute doc_string", attribute.doc_string.as_deref());
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            let nameable = tensor.name().is_empty() || is_identifier(tensor.name());
            self.add("attribute tensor name", usize::from(!nameable));
            self.tensor(tensor);
        }
        for sparse in attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors) {
            self.sparse(sparse);
        }
        for r#type in attribute.tp.iter().chain(&attribute.type_protos) {
            self.type_proto(r#type);
        }
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            self.graph(graph);
        }
    }

    fn tensor(&mut self, tensor: &TensorProto) {
        self.text("tensor doc_string", tensor.doc_string.as_deref());
        self.add("tensor metadata_props", tensor.metadata_props.len());
        self.add("tensor segment", usize::from(tensor.segment.is_some()));
    }

    fn sparse(&mut self, sparse: &SparseTensorProto) {
        for tensor in sparse.values.iter().chain(&sparse.indices) {
            self.tensor(tensor);
        }
    }

    fn value(&mut self, value: &ValueInfoProto) {
        self.text("value doc_string", value.doc_string.as_deref());
        self.add("value metadata_props", value.metadata_props.len());
        if let Some(r#type) = &value.r#type {
            self.type_proto(r#type);
        }
    }

    fn type_proto(&mut self, r#type: &TypeProto) {
        self.text("type denotation", r#type.denotation.as_deref());
        let shape = match &r#type.value {
            Some(type_proto::Value::TensorType(tensor)) => tensor.shape.as_ref(),
            Some(type_proto::Value::SparseTensorType(tensor)) => tensor.shape.as_ref(),
            Some(type_proto::Value::SequenceType(sequence)) => {
                return sequence.elem_type.iter().for_each(|inner| self.type_proto(inner));
            }
            Some(type_proto::Value::OptionalType(optional)) => {
                return optional.elem_type.iter().for_each(|inner| self.type_proto(inner));
            }
            Some(type_proto::Value::MapType(map)) => {
                return map.value_type.iter().for_each(|inner| self.type_proto(inner));
            }
            Some(type_proto::Value::OpaqueType(_)) | None => None,
        };
        for dim in shape.iter().flat_map(|shape| &shape.dim) {
            self.text("dimension denotation", dim.denotation.as_deref());
        }
    }
}
