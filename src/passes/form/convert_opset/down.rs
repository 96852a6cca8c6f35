//! The way down: an operator in the form that the version before has.
//!
//! What a version allows and the one before does not is either undone by an adapter ([`back`](super::back)), or found by
//! [`fit`], which compares what the operator uses with everything that the older form has. Changes that leave no trace in a form,
//! such as axes that may be negative or operands that are broadcast, all have an adapter.

use super::back;
use super::obstacle::Obstacle;
use super::site::{Outcome, Site};
use crate::ir::{AttributeValue, ValueType};
use crate::ops::{AttributeDefault, Parameter, Schema};

/// Brings an operator from the form `new` into the form `old` of the version before, or says why it has none.
pub(super) fn lower(site: &mut Site<'_>, new: &Schema, old: &Schema) -> Outcome {
    for adapter in back::adapters(new.op_type, new.since) {
        adapter(site)?;
        if site.op_type() != new.op_type {
            return Ok(());
        }
    }
    fit(site, new, old)
}

/// Leaves out what means the same when it is left out, and refuses what the older form cannot say.
fn fit(site: &mut Site<'_>, new: &Schema, old: &Schema) -> Outcome {
    if old.deprecated {
        return Err(Obstacle::Withdrawn { opset: new.since - 1 });
    }
    for name in site.attribute_names() {
        let Some(value) = site.attribute(&name)? else {
            continue;
        };
        let known = old.attribute(&name);
        let default = new.attribute(&name).and_then(|formal| formal.default.as_ref());
        match known {
            None if default.is_some_and(|default| is_default(&value, default)) => site.strip(&name)?,
            None => {
                return Err(format!(
                    "its attribute {name} is {}, which opset {} cannot say",
                    text(&value),
                    new.since - 1
                )
                .into());
            }
            Some(known)
                if new
                    .attribute(&name)
                    .is_some_and(|formal| formal.kind != known.kind) =>
            {
                if known.kind != kind(&value) {
                    return Err(format!("its attribute {name} is of another kind before").into());
                }
            }
            Some(_) => {}
        }
    }
    for formal in &old.attributes {
        if site.attribute(formal.name)?.is_some() {
            continue;
        }
        let default = new
            .attribute(formal.name)
            .and_then(|formal| formal.default.as_ref());
        match default {
            Some(default) if formal.required || formal.default.as_ref() != Some(default) => {
                site.set(formal.name, value_of(default))?;
            }
            None if formal.required => {
                return Err(Obstacle::Absent {
                    name: formal.name.to_owned(),
                });
            }
            _ => {}
        }
    }
    slots(site, new, old)?;
    types(site, old)
}

/// Every value stands in a slot that the older form has, and every slot that it needs has one.
fn slots(site: &mut Site<'_>, new: &Schema, old: &Schema) -> Outcome {
    let most = old.inputs_range.1;
    if let Some(slot) = (most..site.inputs()).find(|slot| site.has_input(*slot)) {
        let name = new.input(slot).map_or("", |formal| formal.name);
        return Err(format!("its input {name} is new in opset {}", new.since).into());
    }
    let used = (0..site.inputs()).rev().find(|slot| site.has_input(*slot));
    // Empty slots count towards the fewest that there may be.
    let kept = used.map_or(0, |slot| slot + 1).max(old.inputs_range.0);
    if kept < site.inputs() {
        site.truncate_inputs(kept)?;
    }
    for (slot, formal) in old.inputs.iter().enumerate() {
        let needed = !formal.optional && (!formal.variadic || slot < old.inputs_range.0);
        if needed && !site.has_input(slot) {
            return Err(format!("its input {} is left out", formal.name).into());
        }
    }
    if site.has_output_from(old.outputs_range.1) {
        return Err(format!("it has an output that is new in opset {}", new.since).into());
    }
    Ok(())
}

/// Every element type is one that the older form takes, and one type variable stands for one type.
fn types(site: &Site<'_>, old: &Schema) -> Outcome {
    let mut bound: Vec<(&str, ValueType)> = Vec::new();
    let mut judge = |what: &str, formal: &Parameter, ty: ValueType| -> Outcome {
        if old.type_set(formal.ty).is_some_and(|set| !set.admits(&ty)) {
            return Err(format!(
                "its {what} {} is of the type {}",
                formal.name,
                ty.dtype()
                    .map_or_else(|| ty.to_string(), |dtype| dtype.name().to_owned())
            )
            .into());
        }
        if !formal.homogeneous || formal.ty.ends_with(')') || ty.dtype().is_none() {
            return Ok(());
        }
        match bound.iter().find(|(variable, _)| *variable == formal.ty) {
            Some((_, known)) if known.dtype() != ty.dtype() => {
                Err(format!("its {what} {} is of another type than its others", formal.name).into())
            }
            Some(_) => Ok(()),
            None => {
                bound.push((formal.ty, ty));
                Ok(())
            }
        }
    };
    for slot in (0..site.inputs()).filter(|slot| site.has_input(*slot)) {
        if let Some(formal) = old.input(slot) {
            judge("input", formal, site.input_type(slot))?;
        }
    }
    for slot in 0..site.outputs() {
        if let Some(formal) = old.output(slot) {
            judge("output", formal, site.output_type(slot))?;
        }
    }
    Ok(())
}

fn kind(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::Int(_) => "int",
        AttributeValue::Float(_) => "float",
        AttributeValue::String(_) => "string",
        AttributeValue::Ints(_) => "ints",
        AttributeValue::Floats(_) => "floats",
        AttributeValue::Strings(_) => "strings",
        _ => "",
    }
}

fn is_default(value: &AttributeValue, default: &AttributeDefault) -> bool {
    match (value, default) {
        (AttributeValue::Int(value), AttributeDefault::Int(default)) => value == default,
        (AttributeValue::Float(value), AttributeDefault::Float(default)) => value == default,
        (AttributeValue::String(value), AttributeDefault::String(default)) => {
            &value[..] == default.as_bytes()
        }
        (AttributeValue::Ints(value), AttributeDefault::Ints(default)) => value == default,
        (AttributeValue::Floats(value), AttributeDefault::Floats(default)) => value == default,
        _ => false,
    }
}

fn value_of(default: &AttributeDefault) -> AttributeValue {
    match default {
        AttributeDefault::Int(value) => (*value).into(),
        AttributeDefault::Float(value) => (*value).into(),
        AttributeDefault::String(value) => (*value).into(),
        AttributeDefault::Ints(values) => values.clone().into(),
        AttributeDefault::Floats(values) => AttributeValue::Floats(values.clone()),
        AttributeDefault::Strings(values) => AttributeValue::Strings(
            values
                .iter()
                .map(|text| bytes::Bytes::from_static(text.as_bytes()))
                .collect(),
        ),
    }
}

fn text(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Int(value) => value.to_string(),
        AttributeValue::Float(value) => value.to_string(),
        AttributeValue::String(value) => String::from_utf8_lossy(value).into_owned(),
        AttributeValue::Ints(values) => format!("{values:?}"),
        AttributeValue::Floats(values) => format!("{values:?}"),
        _ => "set".to_owned(),
    }
}
