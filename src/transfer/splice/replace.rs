//! A part in the place of another one.

use std::collections::BTreeSet;

use super::{SpliceError, Spliced, hand_over, label, splice};
use crate::analysis;
use crate::ir::{Graph, Model, NodeId, NodeKind, ValueId};
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
    let mut result = target.clone();
    analysis::infer(&mut result);
    let starts = region::find(&result.graph, inputs)?;
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
    let bound: Vec<Option<ValueId>> = starts.iter().copied().map(Some).collect();
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
            editor.remove_unused(old.node);
        }
    }
    drop(editor);
    spliced.outputs.clear();
    analysis::infer(&mut result);
    *target = result;
    Ok(spliced)
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
