//! Attributes, nodes and graphs.

use super::lexer::{is_identifier, is_special_float};
use super::names::{attribute_type_name, starts_type};
use super::printer::Printer;
use crate::proto::attribute_proto::AttributeType;
use crate::proto::{AttributeProto, GraphProto, NodeProto};

/// The type of an attribute, found from its value where an old model does not state it.
pub(super) fn attribute_type(attribute: &AttributeProto) -> AttributeType {
    let candidates = [
        (attribute.f.is_some(), AttributeType::Float),
        (attribute.i.is_some(), AttributeType::Int),
        (attribute.s.is_some(), AttributeType::String),
        (attribute.t.is_some(), AttributeType::Tensor),
        (attribute.g.is_some(), AttributeType::Graph),
        (attribute.sparse_tensor.is_some(), AttributeType::SparseTensor),
        (attribute.tp.is_some(), AttributeType::TypeProto),
        (!attribute.floats.is_empty(), AttributeType::Floats),
        (!attribute.ints.is_empty(), AttributeType::Ints),
        (!attribute.strings.is_empty(), AttributeType::Strings),
        (!attribute.tensors.is_empty(), AttributeType::Tensors),
        (!attribute.graphs.is_empty(), AttributeType::Graphs),
        (!attribute.sparse_tensors.is_empty(), AttributeType::SparseTensors),
        (!attribute.type_protos.is_empty(), AttributeType::TypeProtos),
    ];
    match attribute.r#type() {
        AttributeType::Undefined => candidates
            .iter()
            .find(|(present, _)| *present)
            .map_or(AttributeType::Undefined, |(_, kind)| *kind),
        stated => stated,
    }
}

impl Printer<'_> {
    /// `name = value`, with the type where the value does not tell it.
    pub(super) fn attribute(&mut self, attribute: &AttributeProto) {
        let kind = attribute_type(attribute);
        self.name(attribute.name());
        if let Some(reference) = attribute.ref_attr_name.as_deref().filter(|name| !name.is_empty()) {
            self.declared(kind);
            self.push(" = @");
            self.name(reference);
            return;
        }
        let telling = match kind {
            AttributeType::Ints => !attribute.ints.is_empty(),
            AttributeType::Floats => !attribute.floats.is_empty(),
            AttributeType::Strings => !attribute.strings.is_empty(),
            AttributeType::Tensors
            | AttributeType::Graphs
            | AttributeType::SparseTensors
            | AttributeType::TypeProtos => false,
            _ => true,
        };
        if !telling {
            self.declared(kind);
        }
        self.push(" = ");
        self.attribute_value(attribute, kind);
    }

    fn declared(&mut self, kind: AttributeType) {
        if kind != AttributeType::Undefined {
            self.push(": ");
            self.push(attribute_type_name(kind));
        }
    }

    fn attribute_value(&mut self, attribute: &AttributeProto, kind: AttributeType) {
        match kind {
            AttributeType::Float => self.float32(attribute.f()),
            AttributeType::Int => self.display(attribute.i()),
            AttributeType::String => self.bytes(attribute.s()),
            AttributeType::Tensor => match &attribute.t {
                Some(tensor) => self.attribute_tensor(tensor),
                None => self.push("?"),
            },
            AttributeType::Graph => match &attribute.g {
                Some(graph) => self.graph(graph),
                None => self.push("?"),
            },
            AttributeType::SparseTensor => match &attribute.sparse_tensor {
                Some(sparse) => self.sparse_tensor(sparse, false),
                None => self.push("?"),
            },
            AttributeType::TypeProto => match &attribute.tp {
                Some(r#type) if r#type.value.is_some() => self.type_proto(r#type),
                _ => self.push("?"),
            },
            AttributeType::Floats => self.list("[", "]", &attribute.floats, |p, v| p.float32(*v)),
            AttributeType::Ints => self.list("[", "]", &attribute.ints, |p, v| p.display(v)),
            AttributeType::Strings => self.list("[", "]", &attribute.strings, |p, v| p.bytes(v)),
            AttributeType::Tensors => self.list("[", "]", &attribute.tensors, |p, v| p.attribute_tensor(v)),
            AttributeType::Graphs => self.list("[", "]", &attribute.graphs, Printer::graph),
            AttributeType::SparseTensors => {
                self.list("[", "]", &attribute.sparse_tensors, |p, v| {
                    p.sparse_tensor(v, false)
                });
            }
            AttributeType::TypeProtos => self.list("[", "]", &attribute.type_protos, Printer::type_proto),
            AttributeType::Undefined => self.push("?"),
        }
    }

    /// One node, without a line break after it.
    pub(super) fn node(&mut self, node: &NodeProto) {
        if !node.name().is_empty() {
            self.push("[");
            self.name(node.name());
            self.push("] ");
        }
        for (index, output) in node.output.iter().enumerate() {
            self.push(if index == 0 { "" } else { ", " });
            self.name(output);
        }
        self.push(if node.output.is_empty() { "= " } else { " = " });
        if !node.domain().is_empty() {
            self.dotted(node.domain());
            self.push(".");
        }
        self.name(node.op_type());
        if !node.overload().is_empty() {
            self.push(":");
            self.name(node.overload());
        }
        let bodies = node
            .attribute
            .iter()
            .any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty());
        if !bodies && !node.attribute.is_empty() {
            self.list(" <", ">", &node.attribute, Printer::attribute);
        }
        self.list(" (", ")", &node.input, |printer, input| printer.name(input));
        if bodies {
            self.list(" <", ">", &node.attribute, Printer::attribute);
        }
    }

    pub(super) fn node_block(&mut self, nodes: &[NodeProto]) {
        self.push("{");
        self.indented(|printer| {
            for node in nodes {
                printer.line();
                printer.node(node);
            }
        });
        self.line();
        self.push("}");
    }

    /// A graph, the main one or a body.
    pub(super) fn graph(&mut self, graph: &GraphProto) {
        self.graph_name(graph.name());
        self.list(" (", ")", &graph.input, Printer::value_info);
        self.push(" => ");
        self.list("(", ")", &graph.output, Printer::value_info);
        let constants = graph.initializer.iter().map(Constant::Dense);
        let sparse = graph.sparse_initializer.iter().map(Constant::Sparse);
        let values = graph.value_info.iter().map(Constant::Value);
        let mut section = constants.chain(sparse).chain(values).peekable();
        if section.peek().is_some() {
            self.line();
            self.push("<");
            self.indented(|printer| {
                for (index, constant) in section.enumerate() {
                    printer.push(if index == 0 { "" } else { "," });
                    printer.line();
                    match constant {
                        Constant::Dense(tensor) => printer.initializer(tensor),
                        Constant::Sparse(tensor) => printer.sparse_tensor(tensor, true),
                        Constant::Value(value) => printer.value_info(value),
                    }
                }
            });
            self.line();
            self.push(">");
            self.line();
        } else {
            self.push(" ");
        }
        self.node_block(&graph.node);
    }

    /// The name of a body needs quotes where it would be taken for another value.
    fn graph_name(&mut self, name: &str) {
        if is_identifier(name) && !starts_type(name) && !is_special_float(name) {
            self.push(name);
        } else {
            self.quoted(name);
        }
    }
}

enum Constant<'a> {
    Dense(&'a crate::proto::TensorProto),
    Sparse(&'a crate::proto::SparseTensorProto),
    Value(&'a crate::proto::ValueInfoProto),
}
