//! `AttributeProto` to attributes; bodies are lifted on the way.

use super::error::LiftError;
use super::graph::{Captures, Context, GraphSource, lift_body};
use super::tensor::tensor_from_proto;
use crate::ir::{Attribute, AttributeValue, Name};
use crate::proto;

/// Lifts an attribute of the node that `label` names; what its bodies capture is added to `captures`.
pub(super) fn attribute_from_proto(
    mut attribute: proto::AttributeProto,
    label: &dyn Fn() -> String,
    context: &Context<'_>,
    captures: &mut Captures,
) -> Result<Attribute, LiftError> {
    let name = Name::from(attribute.name.take().unwrap_or_default());
    let written_type = attribute.r#type;
    let doc_string = attribute.doc_string.take();
    let value = value_of(attribute, &name, label, context, captures)?;
    if let (Some(written), Some(found)) = (written_type, value.onnx_type())
        && written != found
    {
        return Err(wrong(&name, label, "has a value that is not of its type"));
    }
    Ok(Attribute {
        name,
        value,
        doc_string,
        written_type,
    })
}

fn wrong(name: &Name, label: &dyn Fn() -> String, problem: &'static str) -> LiftError {
    LiftError::Attribute {
        node: label(),
        attribute: name.to_string(),
        problem,
    }
}

fn value_of(
    attribute: proto::AttributeProto,
    name: &Name,
    label: &dyn Fn() -> String,
    context: &Context<'_>,
    captures: &mut Captures,
) -> Result<AttributeValue, LiftError> {
    let reference = attribute.ref_attr_name.filter(|reference| !reference.is_empty());
    let tensor_label = || format!("{}.{name}", label());
    let tensor = |tensor| tensor_from_proto(tensor, context.external, &tensor_label);
    let mut body = |graph| lift_body(GraphSource::from_graph(graph), context, captures);
    let mut found = Vec::with_capacity(1);
    if let Some(reference) = reference {
        found.push(AttributeValue::Reference(
            Name::from(reference),
            attribute.r#type.unwrap_or(0),
        ));
    }
    if let Some(value) = attribute.f {
        found.push(AttributeValue::Float(value));
    }
    if let Some(value) = attribute.i {
        found.push(AttributeValue::Int(value));
    }
    if let Some(value) = attribute.s {
        found.push(AttributeValue::String(value));
    }
    if let Some(value) = attribute.t {
        found.push(AttributeValue::Tensor(tensor(value)?));
    }
    if let Some(value) = attribute.g {
        found.push(AttributeValue::Graph(Box::new(body(value)?)));
    }
    if let Some(value) = attribute.sparse_tensor {
        found.push(AttributeValue::Sparse(Box::new(value)));
    }
    if let Some(value) = attribute.tp {
        found.push(AttributeValue::Type(Box::new(value)));
    }
    if !attribute.floats.is_empty() {
        found.push(AttributeValue::Floats(attribute.floats));
    }
    if !attribute.ints.is_empty() {
        found.push(AttributeValue::Ints(attribute.ints));
    }
    if !attribute.strings.is_empty() {
        found.push(AttributeValue::Strings(attribute.strings));
    }
    if !attribute.tensors.is_empty() {
        found.push(AttributeValue::Tensors(
            attribute
                .tensors
                .into_iter()
                .map(tensor)
                .collect::<Result<_, _>>()?,
        ));
    }
    if !attribute.graphs.is_empty() {
        found.push(AttributeValue::Graphs(
            attribute.graphs.into_iter().map(body).collect::<Result<_, _>>()?,
        ));
    }
    if !attribute.sparse_tensors.is_empty() {
        found.push(AttributeValue::Sparses(attribute.sparse_tensors));
    }
    if !attribute.type_protos.is_empty() {
        found.push(AttributeValue::Types(attribute.type_protos));
    }
    match (found.len(), attribute.r#type) {
        (1, _) => Ok(found.swap_remove(0)),
        // An empty list leaves no field behind; its type says which list it is.
        (0, Some(6)) => Ok(AttributeValue::Floats(Vec::new())),
        (0, Some(7)) => Ok(AttributeValue::Ints(Vec::new())),
        (0, Some(8)) => Ok(AttributeValue::Strings(Vec::new())),
        (0, Some(9)) => Ok(AttributeValue::Tensors(Vec::new())),
        (0, Some(10)) => Ok(AttributeValue::Graphs(Vec::new())),
        (0, Some(12)) => Ok(AttributeValue::Sparses(Vec::new())),
        (0, Some(14)) => Ok(AttributeValue::Types(Vec::new())),
        (0, None | Some(0..=5 | 11 | 13)) => Ok(AttributeValue::Missing),
        (0, Some(_)) => Err(wrong(name, label, "is of an unknown type")),
        _ => Err(wrong(name, label, "has more than one value")),
    }
}
