//! The pass `deduplicate-initializers`.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ir::{ConstantOrigin, DType, EditError, Graph, Model, NodeId, NodeKind, Tensor, ValueId};
use crate::passes::scope::{self, Scope};
use crate::passes::{About, Context, Pass, PassError, PassReport, Safety};

const NAME: &str = "deduplicate-initializers";

/// Keeps one of several constants with the same type, shape and bits.
///
/// The readers of the others, bodies that capture them included, read the first one of the file. Each graph, body and function
/// on its own. Only constants of the same type and shape are read at all, each of them once.
///
/// Left alone: graph inputs with a default (a caller may override one and not the other), sparse constants, two graph outputs,
/// and whatever `keep`, quantization annotations or training information name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct DeduplicateInitializers {}

impl Pass for DeduplicateInitializers {
    fn about(&self) -> About {
        About::new(NAME, Safety::Exact).tidying()
    }

    fn run(&self, model: &mut Model, context: &Context<'_>) -> Result<PassReport, PassError> {
        let mut report = PassReport::default();
        scope::for_each_root(model, NAME, context, |graph, scope| {
            deduplicate(graph, scope, &mut report)
        })?;
        Ok(report)
    }
}

fn deduplicate(graph: &mut Graph, scope: &Scope<'_>, report: &mut PassReport) -> Result<(), PassError> {
    let mut groups: HashMap<(DType, Vec<u64>), Vec<NodeId>> = HashMap::new();
    let mut order = Vec::new();
    for id in in_file_order(graph) {
        let Some(tensor) = graph.get(id).and_then(|node| node.constant()) else {
            continue;
        };
        let group = groups
            .entry((tensor.dtype(), tensor.dims().to_vec()))
            .or_default();
        group.push(id);
        if group.len() == 2 {
            order.push((tensor.dtype(), tensor.dims().to_vec()));
        }
    }
    for key in order {
        let Some(group) = groups.remove(&key) else {
            continue;
        };
        let mut first: HashMap<[u8; 32], NodeId> = HashMap::new();
        for id in group {
            let Some(tensor) = graph.get(id).and_then(|node| node.constant()) else {
                continue;
            };
            let Some(digest) = digest(tensor) else { continue };
            let bytes = tensor.byte_len();
            let survivor = *first.entry(digest).or_insert(id);
            if survivor != id && merge(graph, scope, survivor, id)? {
                report.add("repeated constant", 1);
                if let Some(change) = report
                    .changes
                    .iter_mut()
                    .find(|change| change.rule == "repeated constant")
                    && bytes > LARGE
                {
                    change
                        .details
                        .push(format!("{bytes} bytes shared through {}", graph.label(survivor)));
                }
            }
        }
    }
    for (owner, at) in graph.bodies() {
        if scope.protected(graph, owner) {
            continue;
        }
        if let Some(body) = graph.body_mut(owner, at) {
            deduplicate(body, scope, report)?;
        }
    }
    Ok(())
}

/// Constants above this many bytes are named in the report.
const LARGE: u64 = 1 << 16;

/// Initializers first, as they are anywhere; then `Constant` nodes by position.
fn in_file_order(graph: &Graph) -> Vec<NodeId> {
    let mut order: Vec<NodeId> = graph.initializers().into_iter().map(|(id, _)| id).collect();
    let mut nodes: Vec<NodeId> = graph
        .node_ids()
        .filter(|id| match graph.get(*id).map(|node| &node.kind) {
            Some(NodeKind::Constant(constant)) => matches!(constant.origin, ConstantOrigin::Node { .. }),
            _ => false,
        })
        .collect();
    nodes.sort_by_key(|id| (graph.get(*id).map(|node| node.position()), *id));
    order.extend(nodes);
    order
}

/// A digest of the elements; type and shape are known to be the same.
fn digest(tensor: &Tensor) -> Option<[u8; 32]> {
    if tensor.dtype() == DType::String {
        let mut hasher = blake3::Hasher::new();
        for text in tensor.strings().ok()? {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
        return Some(*hasher.finalize().as_bytes());
    }
    Some(*blake3::hash(&tensor.raw().ok()?).as_bytes())
}

fn merge(graph: &mut Graph, scope: &Scope<'_>, survivor: NodeId, id: NodeId) -> Result<bool, PassError> {
    let (old, new) = (ValueId::new(id, 0), ValueId::new(survivor, 0));
    if scope.protected(graph, id) || graph.is_graph_output(old) && scope.protected(graph, survivor) {
        return Ok(false);
    }
    let same = match (graph.constant(old), graph.constant(new)) {
        (Some(a), Some(b)) => a.shares_data_with(b) || a.same_as(b),
        _ => false,
    };
    if !same {
        return Ok(false);
    }
    let mut editor = graph.edit(NAME);
    match editor.replace(old, new) {
        Ok(()) => {}
        Err(EditError::OutputName { .. } | EditError::Type { .. }) => return Ok(false),
        Err(error) => return Err(scope.defect(error)),
    }
    editor.remove(id).map_err(|error| scope.defect(error))?;
    Ok(true)
}
