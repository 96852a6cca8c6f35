//! What the plan says about each node, for reports.

use super::plan::{Decision, GraphPlan};
use crate::ir::Model;
use crate::passes::{PlannedNode, Runs};

/// Each node of the plan, in topological order.
pub(super) fn nodes(model: &Model, plan: &GraphPlan) -> Vec<PlannedNode> {
    plan.decisions
        .iter()
        .map(|(id, decision)| {
            let (runs, why) = match decision {
                Decision::Integer(how) => (Runs::Integer, (*how).to_owned()),
                Decision::Implied => (Runs::Implied, "the range of the codes before it".to_owned()),
                Decision::Simulated(why) | Decision::Float(why) => (Runs::Float, why.clone()),
            };
            PlannedNode {
                node: model.graph.label(*id),
                operator: model
                    .graph
                    .operator(*id)
                    .map(|operator| operator.op_type.to_string())
                    .unwrap_or_default(),
                runs,
                why,
            }
        })
        .collect()
}

/// Says of each node with bodies how many operators in them stay float.
pub(super) fn in_bodies(model: &Model) -> Vec<String> {
    let graph = &model.graph;
    graph
        .topological_order()
        .into_iter()
        .filter_map(|id| {
            let operator = graph.operator(id).filter(|operator| operator.has_bodies())?;
            let inside: usize = operator.bodies().map(|(_, body)| body.operator_count()).sum();
            Some(format!(
                "{}: {inside} operators in the bodies of {} stay float",
                graph.label(id),
                operator.op_type
            ))
        })
        .collect()
}
