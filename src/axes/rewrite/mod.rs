//! Removing elements from a model: constants are cut, operands and attributes that name sizes follow, and everything is inferred
//! and checked anew. [`masked`] builds the model that the result is compared with.

pub mod masked;
mod nodes;
mod repeat;
mod tensors;

pub use repeat::{Obstacle, permutable, repeat, repeatable};

use super::elements::Axis;
use super::solve::Solution;
use super::units::{Removal, RemovalError};
use crate::analysis::infer;
use crate::ir::edit::{Reshape, reshape};
use crate::ir::{EditError, Model, NodeId, NodeKind, Tensor, TensorError, ValueId};

/// The name under which edits are recorded.
const ORIGIN: &str = "prune-channels";

/// Why elements could not be removed. The model is as before.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
pub enum RewriteError {
    /// The choice is not valid.
    #[error(transparent)]
    Removal(#[from] RemovalError),
    /// An edit was refused.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A constant does not hold what it declares.
    #[error("{value}: {source}")]
    Tensor {
        /// The constant.
        value: String,
        /// What is wrong.
        source: TensorError,
    },
    /// The rewrite does not know how to follow: a defect of the solver, which should have pinned the axis.
    #[error(
        "{operator} {node} cannot follow: {reason}; this is a defect of secateur, please report it with the model"
    )]
    Node {
        /// Operator type.
        operator: String,
        /// The node.
        node: String,
        /// What stands in the way.
        reason: String,
    },
    /// A value has another shape than planned: a defect of the solver or of a rule.
    #[error(
        "{value} came out as {found}, planned was {planned}; this is a defect of secateur, please report it with the model"
    )]
    Shape {
        /// The value.
        value: String,
        /// The planned shape.
        planned: String,
        /// The inferred type, or what contradicts it.
        found: String,
    },
}

/// The model without the removed elements.
pub fn remove(model: &Model, solution: &Solution, removal: &Removal) -> Result<Model, RewriteError> {
    apply(model, solution, removal, ORIGIN, &|_, tensor| Ok(tensor))
}

/// Cuts or repeats slices of constants; `adjust` has the last word about each that changes.
fn apply(
    model: &Model,
    solution: &Solution,
    removal: &Removal,
    origin: &'static str,
    adjust: &dyn Fn(ValueId, Tensor) -> Result<Tensor, TensorError>,
) -> Result<Model, RewriteError> {
    solution.check_not_empty(&model.graph, removal)?;
    let before = solution.contradictions(model);
    let mut cut = model.clone();
    nodes::follow(&mut cut.graph, &model.graph, solution, removal, origin)?;
    let mut changes = Vec::new();
    let mut names = std::collections::HashSet::new();
    for id in constants(model) {
        let value = ValueId::new(id, 0);
        let Some(tensor) = model.graph.constant(value) else {
            continue;
        };
        let kept: Vec<Option<Vec<u32>>> = solution
            .axes(value)
            .unwrap_or_default()
            .iter()
            .map(|axis| removal.kept(*axis))
            .collect();
        if kept.iter().all(Option::is_none) {
            continue;
        }
        let name = model
            .graph
            .value(value)
            .map(|value| value.name.to_string())
            .unwrap_or_default();
        let selected = tensors::select(tensor, &kept)
            .and_then(|tensor| adjust(value, tensor))
            .map_err(|source| RewriteError::Tensor {
                value: name.clone(),
                source,
            })?;
        changes.push(Reshape::Constant(id, selected));
        names.insert(name);
    }
    cut.graph
        .meta
        .other_value_info
        .retain(|(_, info)| info.name.as_ref().is_none_or(|name| !names.contains(name)));
    reshape(&mut cut, origin, changes, |changed| {
        let report = infer(changed);
        if let Some(new) = report.contradictions.iter().find(|found| !before.contains(found)) {
            return Err(RewriteError::Shape {
                value: new.value.clone(),
                planned: new.declared.clone(),
                found: new.inferred.clone(),
            });
        }
        check(model, solution, removal, changed)
    })?;
    Ok(cut)
}

fn constants(model: &Model) -> Vec<NodeId> {
    let graph = &model.graph;
    let constant = |id: &NodeId| matches!(graph.get(*id).map(|node| &node.kind), Some(NodeKind::Constant(_)));
    graph.node_ids().filter(constant).collect()
}

/// Whether every value has the shape that the removal leaves it.
fn check(model: &Model, solution: &Solution, removal: &Removal, cut: &Model) -> Result<(), RewriteError> {
    for id in model.graph.node_ids() {
        let Some(node) = model.graph.get(id) else { continue };
        for (output, value) in node.outputs().iter().enumerate() {
            let at = ValueId::new(id, output);
            let Some(axes) = solution.axes(at).filter(|_| cut.graph.is_live(id)) else {
                continue;
            };
            let Some(shape) = cut.graph.ty(at).shape() else {
                continue;
            };
            let sized = |(at, axis): (usize, &Axis)| match (
                axis.count(),
                shape.get(at).and_then(|dim| dim.fixed()),
            ) {
                (Some(len), Some(found)) => removal.kept_before(*axis, len) as i64 == found,
                _ => true,
            };
            if shape.len() != axes.len() || !axes.iter().enumerate().all(sized) {
                let planned: Vec<String> = axes
                    .iter()
                    .map(|axis| {
                        axis.count()
                            .map_or("?".to_owned(), |len| removal.kept_before(*axis, len).to_string())
                    })
                    .collect();
                return Err(RewriteError::Shape {
                    value: value.name.to_string(),
                    planned: format!("[{}]", planned.join(", ")),
                    found: cut.graph.ty(at).to_string(),
                });
            }
        }
    }
    Ok(())
}
