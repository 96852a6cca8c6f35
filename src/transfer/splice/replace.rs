//! A part in the place of another one.

use std::collections::BTreeSet;

use super::{SpliceError, Spliced, free, hand_over, label, splice};
use crate::analysis;
use crate::ir::{Graph, Model, NodeId, NodeKind, Value, ValueId};
use crate::transfer::region;

/// Puts `part` in the place of what computes the values `outputs` of `target` from its values `inputs`, both by name.
///
/// The part's inputs read `inputs` in order, and every reader of a value among `outputs` reads the part's output of the same
/// index, graph outputs included, which keep their names. What nothing reads any more is removed; what lies between the cuts
/// and is still read elsewhere stays. A value that is named on both sides gets the part behind it. Names follow [`splice`].
///
/// An error leaves the target as it was.
pub fn replace_region(
    target: &mut Model,
    part: &Model,
    inputs: &[String],
    outputs: &[String],
    prefix: &str,
) -> Result<Spliced, SpliceError> {
    let inputs: Vec<Option<String>> = inputs.iter().cloned().map(Some).collect();
    replace_or_lead(target, part, &inputs, outputs, prefix)
}

/// As [`replace_region`], but an input of the part for which `inputs` has nothing becomes an input of the model. It keeps its name
/// where that is free or belongs to a graph input that is replaced.
pub fn replace_or_lead(
    target: &mut Model,
    part: &Model,
    inputs: &[Option<String>],
    outputs: &[String],
    prefix: &str,
) -> Result<Spliced, SpliceError> {
    let mut result = target.clone();
    analysis::infer(&mut result);
    let named: Vec<String> = inputs.iter().flatten().cloned().collect();
    let starts = region::find(&result.graph, &named)?;
    let ends = region::find(&result.graph, outputs)?;
    if ends.len() != part.graph.outputs().len() {
        return Err(SpliceError::Outputs {
            expected: ends.len(),
            found: part.graph.outputs().len(),
        });
    }
    for start in &starts {
        let behind = ancestors(&result.graph, *start);
        if let Some(end) = ends
            .iter()
            .find(|end| behind.contains(&end.node) && end.node != start.node)
        {
            return Err(SpliceError::Cycle {
                input: label(&result.graph, *start),
                output: label(&result.graph, *end),
            });
        }
    }
    let mut given = starts.iter().copied();
    let mut bound: Vec<Option<ValueId>> = Vec::with_capacity(inputs.len());
    for (at, input) in inputs.iter().enumerate() {
        bound.push(match input {
            Some(_) => given.next(),
            None => part
                .graph
                .inputs()
                .get(at)
                .map(|id| lead(&mut result.graph, &part.graph, *id, &ends, prefix)),
        });
    }
    let mut spliced = splice(&mut result, part, &bound, prefix)?;
    for ((old, new), output) in ends.iter().zip(&spliced.outputs).zip(part.graph.outputs()) {
        let (expected, found) = (result.graph.ty(*old), result.graph.ty(*new));
        if expected.contradicts(found) {
            return Err(SpliceError::OutputType {
                value: label(&result.graph, *old),
                expected: expected.to_string(),
                output: output.name.to_string(),
                found: found.to_string(),
            });
        }
    }
    for (old, new) in ends.iter().zip(&spliced.outputs) {
        hand_over(&mut result.graph, *old, *new, &spliced.operators)?;
    }
    let mut editor = result.graph.edit("splice");
    for old in &ends {
        if !editor.graph().is_used(old.node) {
            match is_input(editor.graph(), *old) {
                true => editor.remove_graph_input(old.node)?,
                false => {
                    editor.remove_unused(old.node);
                }
            }
        }
    }
    drop(editor);
    spliced.outputs.clear();
    analysis::infer(&mut result);
    *target = result;
    Ok(spliced)
}

fn is_input(graph: &Graph, value: ValueId) -> bool {
    matches!(
        graph.get(value.node).map(|node| &node.kind),
        Some(NodeKind::Input(_))
    )
}

/// A new input of the graph for an input of the part.
fn lead(graph: &mut Graph, part: &Graph, input: NodeId, ends: &[ValueId], prefix: &str) -> ValueId {
    let own = ValueId::new(input, 0);
    let name = part
        .value(own)
        .map(|value| value.name.clone())
        .unwrap_or_default();
    let name = match graph.find_value(&name) {
        Some(holder) if !(ends.contains(&holder) && is_input(graph, holder)) => {
            free(graph, &format!("{prefix}/{name}"))
        }
        _ => name,
    };
    let default = match part.get(input).map(|node| &node.kind) {
        Some(NodeKind::Input(input)) => input.default.as_ref().map(|(tensor, _)| tensor.clone()),
        _ => None,
    };
    let ty = analysis::public_type(part.ty(own));
    graph
        .edit("splice")
        .add_graph_input(Value::typed(name, ty), default)
}

/// The nodes that a value depends on, its own included.
fn ancestors(graph: &Graph, value: ValueId) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::new();
    let mut pending = vec![value.node];
    while let Some(id) = pending.pop() {
        if found.insert(id) && matches!(graph.get(id).map(|node| &node.kind), Some(NodeKind::Operator(_))) {
            let inputs = graph.inputs_of(id).into_iter().flatten();
            let captures = graph.captures_of(id).into_iter().flatten();
            pending.extend(inputs.chain(captures).map(|value| value.node));
        }
    }
    found
}
