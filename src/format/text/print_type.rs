//! Types and typed values.

use super::names::element_type_name;
use super::printer::Printer;
use crate::proto::tensor_shape_proto::dimension;
use crate::proto::{TensorShapeProto, TypeProto, ValueInfoProto, type_proto};

impl Printer<'_> {
    pub(super) fn type_proto(&mut self, r#type: &TypeProto) {
        match &r#type.value {
            Some(type_proto::Value::TensorType(tensor)) => {
                self.shaped(tensor.elem_type, tensor.shape.as_ref())
            }
            Some(type_proto::Value::SparseTensorType(tensor)) => {
                self.push("sparse_tensor(");
                self.shaped(tensor.elem_type, tensor.shape.as_ref());
                self.push(")");
            }
            Some(type_proto::Value::SequenceType(sequence)) => {
                self.enclosed("seq(", sequence.elem_type.as_deref())
            }
            Some(type_proto::Value::OptionalType(optional)) => {
                self.enclosed("optional(", optional.elem_type.as_deref());
            }
            Some(type_proto::Value::MapType(map)) => {
                self.push("map(");
                self.push(&element_type_name(map.key_type.unwrap_or_default()));
                self.enclosed(", ", map.value_type.as_deref());
            }
            Some(type_proto::Value::OpaqueType(opaque)) => {
                self.push("opaque(");
                if let Some(domain) = opaque.domain.as_deref().filter(|domain| !domain.is_empty()) {
                    self.dotted(domain);
                    self.push(", ");
                    self.name(opaque.name());
                } else if !opaque.name().is_empty() {
                    self.dotted(opaque.name());
                }
                self.push(")");
            }
            None => {}
        }
    }

    fn enclosed(&mut self, open: &str, inner: Option<&TypeProto>) {
        self.push(open);
        if let Some(inner) = inner {
            self.type_proto(inner);
        }
        self.push(")");
    }

    fn shaped(&mut self, element: Option<i32>, shape: Option<&TensorShapeProto>) {
        self.push(&element_type_name(element.unwrap_or_default()));
        let Some(shape) = shape else {
            self.push("[]");
            return;
        };
        for (index, dim) in shape.dim.iter().enumerate() {
            self.push(if index == 0 { "[" } else { "," });
            match &dim.value {
                Some(dimension::Value::DimValue(size)) => self.display(size),
                Some(dimension::Value::DimParam(symbol)) => self.name(symbol),
                None => self.push("?"),
            }
        }
        if !shape.dim.is_empty() {
            self.push("]");
        }
    }

    /// A name whose parts between dots are identifiers, or one in quotes.
    pub(super) fn dotted(&mut self, name: &str) {
        if name.split('.').all(super::lexer::is_identifier) {
            self.push(name)
        } else {
            self.quoted(name)
        }
    }

    pub(super) fn value_info(&mut self, value: &ValueInfoProto) {
        match &value.r#type {
            Some(r#type) if r#type.value.is_some() => {
                self.type_proto(r#type);
                self.push(" ");
                self.name(value.name());
            }
            _ => self.untyped_name(value.name()),
        }
    }
}
