//! Sequences and optionals.

use super::super::bodies::join;
use super::super::call::{Call, Facts, Rule, axis};
use crate::ir::{DType, Dim, ValueType};
use crate::proto;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("ConcatFromSequence", concat),
    ("Optional", optional),
    ("OptionalGetElement", optional_get),
    ("OptionalHasElement", |_, facts| {
        facts.shape(0, []);
        Some(())
    }),
    ("SequenceAt", |call, facts| {
        facts.whole(0, call.element_type(0)?.clone());
        Some(())
    }),
    ("SequenceConstruct", construct),
    ("SequenceEmpty", empty),
    ("SequenceErase", |call, facts| {
        facts.whole(0, call.ty(0)?.clone());
        Some(())
    }),
    ("SequenceInsert", insert),
    ("SequenceLength", |_, facts| {
        facts.shape(0, []);
        Some(())
    }),
    ("SplitToSequence", split),
];

fn sequence(facts: &mut Facts, element: ValueType) {
    facts.whole(0, ValueType::Sequence(Box::new(element)));
}

fn construct(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let types = (0..call.inputs.len()).map(|input| call.ty(input).cloned().unwrap_or(ValueType::Unknown));
    sequence(facts, types.reduce(|a, b| join(&a, &b))?);
    Some(())
}

fn empty(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let dtype = i32::try_from(call.int_or("dtype", 1))
        .ok()
        .and_then(DType::from_onnx);
    sequence(facts, ValueType::tensor(dtype, None));
    Some(())
}

/// An empty sequence takes the shape of what is put in, but whether it is empty is not known: only equal shapes stay.
fn insert(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    sequence(facts, join(call.element_type(0)?, call.ty(1)?));
    Some(())
}

fn concat(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let element = call.element_type(0)?.clone();
    facts.dtype(0, element.dtype());
    let mut shape = element.shape()?.clone();
    let at = call.int("axis")?;
    if call.int_or("new_axis", 0) != 0 {
        shape.insert(axis(at, shape.len() + 1)?, Dim::Unknown);
    } else {
        let at = axis(at, shape.len())?;
        *shape.get_mut(at)? = Dim::Unknown;
    }
    facts.shape(0, shape);
    Some(())
}

fn split(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let Some(shape) = call.shape(0) else {
        sequence(facts, ValueType::tensor(call.dtype(0), None));
        return None;
    };
    let at = axis(call.int_or("axis", 0), shape.len())?;
    let mut element = shape.clone();
    let slot = element.get_mut(at)?;
    let total = slot.clone();
    *slot = Dim::Unknown;
    if !call.has(1) {
        // One slice each, with the axis or without it.
        *slot = Dim::Fixed(1);
        if call.int_or("keepdims", 1) == 0 {
            element.remove(at);
        }
    } else if let Some(parts) = call.sizes(1) {
        let parts = &parts.elements;
        let equal = parts
            .first()
            .filter(|first| parts.iter().all(|part| part.same(first)));
        match (equal, call.rank(1), &total) {
            // A scalar cuts into chunks, of which the last may be smaller.
            (Some(part), Some(0), total) if total.modulo(part) == Dim::Fixed(0) => *slot = part.clone(),
            (Some(part), Some(1), _) => *slot = part.clone(),
            _ => {}
        }
    }
    sequence(facts, ValueType::tensor(call.dtype(0), Some(element)));
    Some(())
}

fn optional(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let element = match (call.ty(0), call.operator.attribute("type")) {
        (Some(ty), _) => ty.clone(),
        (None, Some(crate::ir::AttributeValue::Type(ty))) => of_proto(ty),
        _ => ValueType::Unknown,
    };
    facts.whole(0, ValueType::Optional(Box::new(element)));
    Some(())
}

/// The kind and element type of a type attribute; its shape would only repeat what the value has.
fn of_proto(ty: &proto::TypeProto) -> ValueType {
    use proto::type_proto::Value;
    match &ty.value {
        Some(Value::TensorType(tensor)) => {
            ValueType::tensor(tensor.elem_type.and_then(DType::from_onnx), None)
        }
        Some(Value::SequenceType(sequence)) => ValueType::Sequence(Box::new(
            sequence.elem_type.as_deref().map_or(ValueType::Unknown, of_proto),
        )),
        _ => ValueType::Unknown,
    }
}

/// From opset 18 on the input may also be the value itself.
fn optional_get(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    match call.ty(0)? {
        ValueType::Optional(element) => facts.whole(0, (**element).clone()),
        ValueType::Unknown => return None,
        other => facts.whole(0, other.clone()),
    }
    Some(())
}
