//! Sequences, which tract has not: what is read from one that was put together in the same graph is read from its parts.

use super::Rule;
use super::site::Site;
use crate::ir::{EditError, Operator, ValueId};

pub(super) const RULES: &[Rule] = &[
    ("", "ConcatFromSequence", concat),
    ("", "SequenceAt", at),
    ("", "SequenceLength", length),
];

/// The parts of the sequence that the operator reads.
fn parts(site: &Site<'_>) -> Option<Vec<ValueId>> {
    let (operator, inputs) = site.source(site.input(0)?)?;
    if !operator.is("SequenceConstruct") {
        return None;
    }
    inputs.into_iter().collect()
}

fn concat(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(mut parts), Some(axis)) = (parts(site), site.operator.int("axis")) else {
        return Ok(false);
    };
    if site.int("new_axis", 0) != 0 {
        for part in &mut parts {
            *part = site.fold_axes("Unsqueeze", *part, &[axis])?;
        }
    }
    let y = site.node(Operator::new("Concat").with("axis", axis), &parts)?;
    site.replace(0, y)?;
    Ok(true)
}

fn at(site: &mut Site<'_>) -> Result<bool, EditError> {
    let index = site.input(1).and_then(|value| site.constant(value)?.single_i64());
    let (Some(parts), Some(index)) = (parts(site), index) else {
        return Ok(false);
    };
    let index = if index < 0 {
        index + parts.len() as i64
    } else {
        index
    };
    let Some(part) = usize::try_from(index).ok().and_then(|index| parts.get(index)) else {
        return Ok(false);
    };
    site.replace(0, *part)?;
    Ok(true)
}

fn length(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some(parts) = parts(site) else {
        return Ok(false);
    };
    let y = site.number(crate::ir::DType::I64, parts.len() as f64)?;
    site.replace(0, y)?;
    Ok(true)
}
