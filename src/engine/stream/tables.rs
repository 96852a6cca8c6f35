//! Indices of the data that no table of the model has: said before an engine fails on them, or answers something else.

use std::collections::BTreeMap;

use super::super::{EngineError, RunValue};
use super::Batch;
use crate::ir::{DType, Graph, NodeKind, ValueId};
use crate::ops::is_view;

/// Where an input of the model is the indices of a Gather.
#[derive(Clone, Debug)]
pub(super) struct Lookup {
    input: String,
    node: String,
    table: String,
    /// Entries along the axis that is looked up.
    entries: i64,
}

/// Every Gather of the main graph whose indices are an input of the model, as they are or under another type or shape.
pub(super) fn lookups(graph: &Graph) -> Vec<Lookup> {
    let mut found = Vec::new();
    for id in graph.node_ids() {
        let gathers = graph
            .operator(id)
            .is_some_and(|operator| operator.domain().is_empty() && operator.is("Gather"));
        if !gathers {
            continue;
        }
        let (Some(table), Some(indices)) = (graph.input(id, 0), graph.input(id, 1)) else {
            continue;
        };
        let Some(input) = source(graph, indices) else {
            continue;
        };
        let dims: Vec<Option<i64>> = match (graph.constant(table), graph.ty(table).shape()) {
            (Some(tensor), _) => tensor.dims().iter().map(|dim| i64::try_from(*dim).ok()).collect(),
            (None, Some(shape)) => shape.iter().map(|dim| dim.fixed()).collect(),
            (None, None) => continue,
        };
        let axis = graph
            .operator(id)
            .and_then(|operator| operator.int("axis"))
            .unwrap_or(0);
        let axis = if axis < 0 { axis + dims.len() as i64 } else { axis };
        let entries = usize::try_from(axis).ok().and_then(|axis| *dims.get(axis)?);
        let name = |value: ValueId| {
            graph
                .value(value)
                .map(|value| value.name.to_string())
                .unwrap_or_default()
        };
        if let Some(entries) = entries {
            found.push(Lookup {
                input: name(input),
                node: graph.label(id),
                table: name(table),
                entries,
            });
        }
    }
    found
}

/// The input of the graph that these indices are.
fn source(graph: &Graph, mut value: ValueId) -> Option<ValueId> {
    loop {
        match &graph.get(value.node)?.kind {
            NodeKind::Input(_) => return graph.ty(value).dtype()?.is_integer().then_some(value),
            NodeKind::Operator(operator) if operator.domain().is_empty() => {
                let keeps =
                    is_view(&operator.op_type) || matches!(&*operator.op_type, "Transpose" | "Expand");
                let widens =
                    operator.is("Cast") && matches!(graph.ty(value).dtype(), Some(DType::I64 | DType::I32));
                if !keeps && !widens {
                    return None;
                }
                value = graph.input(value.node, 0)?;
            }
            _ => return None,
        }
    }
}

/// Refuses a batch with an index that its table does not have.
pub(super) fn check(lookups: &[Lookup], batch: &Batch) -> Result<(), EngineError> {
    let mut smallest: BTreeMap<&str, &Lookup> = BTreeMap::new();
    for lookup in lookups {
        let entry = smallest.entry(&lookup.input).or_insert(lookup);
        if lookup.entries < entry.entries {
            *entry = lookup;
        }
    }
    for (input, lookup) in smallest {
        let Some(RunValue::Tensor(tensor)) = batch.inputs.get(input) else {
            continue;
        };
        let Ok(indices) = tensor.to_i64() else { continue };
        let outside = |index: &i64| *index < -lookup.entries || *index >= lookup.entries;
        let Some(at) = indices.iter().position(outside) else {
            continue;
        };
        let each = (indices.len() / batch.ran.max(1)).max(1);
        let sample = batch.first + (at / each).min(batch.count.saturating_sub(1)) as u64;
        let last = lookup.entries - 1;
        return Err(EngineError::Input {
            name: input.to_owned(),
            reason: format!(
                "{} has {} in sample {sample}, which {} looks up in {}: it has entries 0 to {last}",
                batch.origin.display(),
                indices.get(at).copied().unwrap_or_default(),
                lookup.node,
                lookup.table,
            ),
        });
    }
    Ok(())
}
