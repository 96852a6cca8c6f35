//! Operands that hold sizes: where each entry comes from, whether it can be changed, and the target of a Reshape or Expand
//! written anew.

use super::elements::Axis;
use super::rule::Rule;
use crate::ir::{Dim, Graph, NodeId, Shape, ValueId};

/// Longest chain of operators behind an entry that is followed.
const DEEPEST: usize = 16;

/// Where one entry of a size vector comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is the same number in every run, and does not follow from the size of an axis that can be cut.
    Number(i64),
    /// The size of an axis of a value at run time.
    Tied(ValueId, usize),
    /// Anything else.
    Computed,
}

/// The elements of a value of rank 0 or 1, each known or not.
pub(super) fn contents(graph: &Graph, value: ValueId) -> Option<Vec<Dim>> {
    if let Some(tensor) = graph.constant(value) {
        return if tensor.rank() <= 1 {
            Some(tensor.to_i64().ok()?.into_iter().map(Dim::Fixed).collect())
        } else {
            None
        };
    }
    Some(graph.value(value)?.content.as_ref()?.elements.clone())
}

/// Where entry `at` of a vector (or the scalar) comes from. An entry that is computed from the size of an axis pins that axis
/// ([`readers_follow`]), so a known number that is not tied may be taken for what it is.
pub(super) fn entry(graph: &Graph, value: ValueId, at: usize) -> Entry {
    match follow(graph, value, at, 0) {
        Entry::Computed => match contents(graph, value).and_then(|list| list.get(at)?.fixed()) {
            Some(number) => Entry::Number(number),
            None => Entry::Computed,
        },
        found => found,
    }
}

fn follow(graph: &Graph, value: ValueId, at: usize, depth: usize) -> Entry {
    if graph.constant(value).is_some() {
        return Entry::Computed;
    }
    let Some(operator) = graph
        .operator(value.node)
        .filter(|operator| operator.domain().is_empty())
    else {
        return Entry::Computed;
    };
    if depth > DEEPEST {
        return Entry::Computed;
    }
    let input = |slot| graph.input(value.node, slot);
    let deeper = |slot: usize, at: usize, depth: usize| match input(slot) {
        Some(source) => follow(graph, source, at, depth + 1),
        None => Entry::Computed,
    };
    match operator.op_type.as_str() {
        "Concat" if operator.int("axis") == Some(0) || operator.int("axis") == Some(-1) => {
            match piece(graph, value.node, at) {
                Some((slot, within)) => deeper(slot, within, depth),
                None => Entry::Computed,
            }
        }
        "Shape" => {
            let Some(source) = input(0) else {
                return Entry::Computed;
            };
            let Some(rank) = graph.ty(source).rank() else {
                return Entry::Computed;
            };
            let start = operator.int("start").unwrap_or(0);
            let start = if start < 0 { start + rank as i64 } else { start };
            Entry::Tied(source, at + start.clamp(0, rank as i64) as usize)
        }
        "Identity" | "Cast" | "Squeeze" | "Unsqueeze" => deeper(0, at, depth),
        "Gather" if operator.int("axis").unwrap_or(0) == 0 => {
            let indices = input(1)
                .and_then(|value| graph.constant(value))
                .and_then(|tensor| tensor.to_i64().ok());
            let length = input(0).and_then(|value| length(graph, value));
            match (indices.as_deref().and_then(|list| list.get(at)), length) {
                (Some(index), Some(length)) => {
                    let index = if *index < 0 { index + length as i64 } else { *index };
                    deeper(0, index.max(0) as usize, depth)
                }
                _ => Entry::Computed,
            }
        }
        "Slice" => match slice_start(graph, value.node) {
            Some(start) => deeper(0, at + start, depth),
            None => Entry::Computed,
        },
        _ => Entry::Computed,
    }
}

/// Number of entries of a vector, 1 for a scalar.
fn length(graph: &Graph, value: ValueId) -> Option<usize> {
    match graph.ty(value).shape()?.as_slice() {
        [] => Some(1),
        [Dim::Fixed(length)] => usize::try_from(*length).ok(),
        _ => None,
    }
}

/// The input slot of a Concat of vectors that holds entry `at`, and the entry within it.
fn piece(graph: &Graph, concat: NodeId, at: usize) -> Option<(usize, usize)> {
    let mut offset = 0;
    for (slot, input) in graph.inputs_of(concat).into_iter().enumerate() {
        let length = length(graph, input?)?;
        if at < offset + length {
            return Some((slot, at - offset));
        }
        offset += length;
    }
    None
}

/// First entry of a Slice of a vector by constant bounds and step 1.
fn slice_start(graph: &Graph, id: NodeId) -> Option<usize> {
    let operator = graph.operator(id)?;
    let one = |attribute: &str, slot: usize| -> Option<i64> {
        match operator.ints(attribute) {
            Some(list) => list.first().copied(),
            None => graph
                .constant(graph.input(id, slot)?)?
                .to_i64()
                .ok()?
                .first()
                .copied(),
        }
    };
    if graph.input(id, 4).is_some() && one("steps", 4)? != 1 {
        return None;
    }
    let start = one("starts", 1)?;
    let length = length(graph, graph.input(id, 0)?)? as i64;
    usize::try_from((if start < 0 { start + length } else { start }).clamp(0, length)).ok()
}

/// Whether everything that reads some entries of a size vector can follow when they change: by itself at run time, or because
/// the rewrite sets them. Says which readers of sizes there are.
pub(super) fn readers_follow(graph: &Graph, value: ValueId, entries: &[usize]) -> bool {
    readers(graph, value, entries, 0)
}

fn readers(graph: &Graph, value: ValueId, entries: &[usize], depth: usize) -> bool {
    if entries.is_empty() {
        return true;
    }
    if depth > DEEPEST {
        return false;
    }
    graph.uses(value).into_iter().all(|use_| {
        let crate::ir::Slot::Input(slot) = use_.slot else {
            return false;
        };
        let Some(operator) = graph
            .operator(use_.node)
            .filter(|operator| operator.domain().is_empty())
        else {
            return false;
        };
        let output = ValueId::new(use_.node, 0);
        match (operator.op_type.as_str(), slot) {
            ("Reshape" | "Expand", 1) | ("ConstantOfShape", 0) | ("Resize", 3) => true,
            ("Identity" | "Cast" | "Squeeze" | "Unsqueeze", 0) => readers(graph, output, entries, depth + 1),
            ("Gather" | "Slice" | "Concat", _) => {
                let Some(count) = length(graph, output) else {
                    return false;
                };
                let mapped: Vec<usize> = (0..count)
                    .filter(|at| match operator.op_type.as_str() {
                        "Concat" => piece(graph, use_.node, *at)
                            .is_some_and(|(from, within)| from == slot as usize && entries.contains(&within)),
                        _ => traces_to(graph, output, *at, entries),
                    })
                    .collect();
                let understood = operator.op_type == *"Concat"
                    || slot == 0 && (0..count).all(|at| traced(graph, output, at).is_some());
                understood && readers(graph, output, &mapped, depth + 1)
            }
            _ => false,
        }
    })
}

/// The entry of the first input that entry `at` of a Gather or Slice is.
fn traced(graph: &Graph, value: ValueId, at: usize) -> Option<usize> {
    let operator = graph.operator(value.node)?;
    if operator.is("Slice") {
        return slice_start(graph, value.node).map(|start| at + start);
    }
    let indices = graph.constant(graph.input(value.node, 1)?)?.to_i64().ok()?;
    let length = length(graph, graph.input(value.node, 0)?)? as i64;
    let index = *indices.get(at)?;
    usize::try_from(if index < 0 { index + length } else { index }).ok()
}

fn traces_to(graph: &Graph, value: ValueId, at: usize, entries: &[usize]) -> bool {
    traced(graph, value, at).is_none_or(|entry| entries.contains(&entry))
}

/// Whether entry `at` of an operand can take another size: it follows by itself, or a difference can be added to it.
pub(super) fn settable(rule: &Rule<'_>, slot: usize, at: usize) -> bool {
    let Some(value) = rule.value(slot) else {
        return false;
    };
    entry(rule.graph, value, at) != Entry::Computed
}

/// Ties entries that follow an axis at run time to the axes that they size.
pub(super) fn tie_entries(rule: &mut Rule<'_>, slot: usize, axes: &[Axis], input: usize) {
    let Some(value) = rule.value(slot) else { return };
    if rule.graph.constant(value).is_some() {
        return;
    }
    let count = length(rule.graph, value).unwrap_or(axes.len());
    for at in 0..count {
        if let Entry::Tied(source, axis) = entry(rule.graph, value, at)
            && let Some(found) = rule
                .gathered
                .axes_of(source)
                .and_then(|axes| axes.get(axis))
                .copied()
            && found.is_free()
        {
            let target = axes
                .len()
                .checked_sub(count - at)
                .and_then(|at| axes.get(at))
                .copied()
                .unwrap_or(Axis::Fixed);
            rule.same(found, target, input, axis);
        }
    }
}

/// The target of a Reshape from `x` to `y`, where entry `at` is `size(at)` if that is given; entries that are known at run time
/// only are written as 0 or, once, as -1.
pub(super) fn reshape_target(
    x: &Shape,
    y: &Shape,
    zero_copies: bool,
    size: &dyn Fn(usize) -> Option<i64>,
) -> Option<Vec<i64>> {
    let mut inferred = false;
    y.iter()
        .enumerate()
        .map(|(at, dim)| match (size(at), dim.fixed()) {
            (Some(size), _) | (None, Some(size)) => (size > 0).then_some(size),
            _ if zero_copies && x.get(at).is_some_and(|from| from.same(dim)) => Some(0),
            _ if !inferred => {
                inferred = true;
                Some(-1)
            }
            _ => None,
        })
        .collect()
}

/// The target of an Expand from `x` to `y`: 1 keeps what `x` has.
pub(super) fn expand_target(x: &Shape, y: &Shape, size: &dyn Fn(usize) -> Option<i64>) -> Option<Vec<i64>> {
    y.iter()
        .enumerate()
        .map(|(at, dim)| match (size(at), dim.fixed()) {
            (Some(size), _) | (None, Some(size)) => Some(size),
            _ => {
                let from = (at + x.len()).checked_sub(y.len()).and_then(|at| x.get(at))?;
                from.same(dim).then_some(1)
            }
        })
        .collect()
}
