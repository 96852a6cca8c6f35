//! What tract answers to a model: its refusals, after the operators that it lacks have been rewritten for it.

use crate::engine::{EngineError, TractEngine, tract_refusals};
use crate::ir::{Model, ValueId, ValueType};
use crate::lower;

/// Why tract does not run a part of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The node or value, as far as the refusal names one.
    pub(super) node: Option<String>,
    /// The operator, or the kind of value.
    pub(super) operator: String,
    /// Why.
    pub(super) reason: String,
}

/// Every refusal of a model; none where the model cannot be rewritten for tract, which is a defect and no finding.
pub(super) fn refusals(model: &Model) -> Vec<Refusal> {
    let Ok(lowered) = lower::for_engine(model, &TractEngine) else {
        return Vec::new();
    };
    let mut found: Vec<Refusal> = values(model);
    for error in tract_refusals(&lowered) {
        if let EngineError::Unsupported {
            operator,
            node,
            reason,
            ..
        } = error
        {
            let refusal = Refusal {
                node,
                operator,
                reason,
            };
            if found.last() != Some(&refusal) {
                found.push(refusal);
            }
        }
    }
    found
}

/// Inputs of the model that tract has no type for.
fn values(model: &Model) -> Vec<Refusal> {
    let graph = &model.graph;
    let no_tensor = |id: &crate::ir::NodeId| {
        let ty = graph.ty(ValueId::new(*id, 0));
        (!matches!(ty, ValueType::Tensor(tensor) if tensor.dtype.is_some())).then(|| Refusal {
            node: Some(graph.label(*id)),
            operator: "input that is no tensor".to_owned(),
            reason: "sequences, optionals, maps and inputs without a type have no counterpart".to_owned(),
        })
    };
    graph.inputs().iter().filter_map(no_tensor).collect()
}
