//! If and Loop whose course is known.

use super::known::Known;
use super::{Fold, FoldConstants, NAME, loops};
use crate::ir::{BodyIndex, DType, Editor, Graph, NodeId, NodeKind, Operator, Tensor, ValueId};
use crate::passes::PassError;
use crate::passes::scope::{Scope, read_by};
use crate::passes::simplify::splice::{Bindings, Naming, hand_over, obstacle, splice};
use crate::passes::simplify::sweep::remove_unused;

/// What is known of an operator's course.
#[derive(Clone, Debug)]
pub(super) enum Decision {
    /// An If always takes this branch.
    Branch(NodeId, BodyIndex),
    /// A Loop never runs.
    Never(NodeId),
    /// A Loop runs so many times, once at least.
    Times(NodeId, BodyIndex, u64),
    /// A Loop that was to be written out stays, for this reason.
    Stays(NodeId, String),
}

/// Every If and Loop whose course is known, in topological order.
pub(super) fn decide(
    graph: &Graph,
    scope: &Scope<'_>,
    known: &Known,
    options: &FoldConstants,
) -> Vec<Decision> {
    let mut found = Vec::new();
    let mut owners: Vec<NodeId> = graph.bodies().into_iter().map(|(owner, _)| owner).collect();
    owners.dedup();
    for id in owners {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        if scope.schema(operator).is_none() || scope.protected(graph, id) {
            continue;
        }
        let body = |name: &str| {
            let attribute = operator.attributes().iter().position(|a| a.name == *name)?;
            operator
                .bodies()
                .map(|(at, _)| at)
                .find(|at| at.attribute == attribute)
        };
        let truth = |slot: usize| {
            let tensor = known.tensor(graph, graph.input(id, slot)?)?;
            (tensor.dtype() == DType::Bool)
                .then(|| tensor.single_i64())?
                .map(|value| value != 0)
        };
        if operator.is("If") {
            let branch = truth(0).and_then(|taken| body(if taken { "then_branch" } else { "else_branch" }));
            found.extend(branch.map(|branch| Decision::Branch(id, branch)));
        } else if operator.is("Loop") {
            let trips = graph
                .input(id, 0)
                .map(|value| known.tensor(graph, value).and_then(Tensor::single_i64));
            let condition = if graph.input(id, 1).is_some() {
                truth(1)
            } else {
                Some(true)
            };
            if condition == Some(false) || trips.flatten().is_some_and(|trips| trips <= 0) {
                found.push(Decision::Never(id));
            } else if let Some(body) = body("body") {
                let course = (condition == Some(true)).then_some(trips.flatten());
                found.extend(loops::decide(graph, id, body, course.flatten(), options.unroll));
            }
        }
    }
    found
}

/// Replaces the operator by what it does; `false` when something stands in the way, which is reported.
pub(super) fn resolve(
    fold: &mut Fold<'_>,
    graph: &mut Graph,
    scope: &Scope<'_>,
    decision: Decision,
) -> Result<bool, PassError> {
    let (Decision::Branch(id, _) | Decision::Never(id) | Decision::Times(id, ..) | Decision::Stays(id, _)) =
        decision;
    fold.kept.remove(&graph.label(id));
    if let Decision::Stays(_, why) = decision {
        fold.kept.insert(graph.label(id), why);
        return Ok(false);
    }
    let Some(operator) = graph.operator(id) else {
        return Ok(false);
    };
    if operator.bodies().any(|(_, body)| holds_protected(body, scope)) {
        fold.refuse(
            graph.label(id),
            "its body holds nodes that `keep` protects".to_owned(),
        );
        return Ok(false);
    }
    let outcome = match decision {
        Decision::Branch(_, at) => branch(fold, graph, scope, id, at)?,
        Decision::Never(_) => loops::never(graph, scope, id)?,
        Decision::Times(_, at, trips) => loops::times(fold, graph, scope, (id, at), trips)?,
        Decision::Stays(..) => return Ok(false),
    };
    match outcome {
        Outcome::Replaced(rule) => {
            fold.report.add(rule, 1);
            Ok(true)
        }
        Outcome::Stays(reason) => {
            fold.refuse(graph.label(id), reason);
            Ok(false)
        }
    }
}

/// What became of an operator.
pub(super) enum Outcome {
    /// The rule that replaced it.
    Replaced(&'static str),
    /// Why it stays.
    Stays(String),
}

impl Outcome {
    pub(super) fn stays(why: &str) -> Self {
        Self::Stays(why.to_owned())
    }
}

fn branch(
    fold: &mut Fold<'_>,
    graph: &mut Graph,
    scope: &Scope<'_>,
    id: NodeId,
    at: BodyIndex,
) -> Result<Outcome, PassError> {
    let Some(body) = graph.body(id, at).cloned() else {
        return Ok(Outcome::stays("it has no such branch"));
    };
    let captures: Vec<Option<ValueId>> = graph.captures_of(id).into_iter().collect();
    let bindings = Bindings {
        inputs: &[],
        captures: &captures,
    };
    let outputs = graph.get(id).map_or(0, |node| node.outputs().len());
    if let Some(reason) = obstacle(&body, &[]).or_else(|| misfit(graph, id, &body, &bindings, 0, outputs)) {
        return Ok(Outcome::Stays(reason));
    }
    let prefix = graph.label(id);
    let mut editor = graph.edit(NAME);
    let spliced = splice(
        &mut editor,
        id,
        &body,
        &bindings,
        Naming::Move,
        &prefix,
        &mut fold.names,
    )
    .map_err(|error| scope.defect(error))?;
    replace_outputs(&mut editor, scope, id, &spliced.outputs)?;
    Ok(Outcome::Replaced("If with known condition"))
}

/// Hands the outputs of `id` over and removes it, with what only it read.
pub(super) fn replace_outputs(
    editor: &mut Editor<'_>,
    scope: &Scope<'_>,
    id: NodeId,
    values: &[ValueId],
) -> Result<(), PassError> {
    let outputs = editor.graph().get(id).map_or(0, |node| node.outputs().len());
    for (output, value) in values.iter().enumerate().take(outputs) {
        let old = ValueId::new(id, output);
        if editor.graph().use_count(old) > 0 {
            hand_over(editor, old, *value).map_err(|error| scope.defect(error))?;
        }
    }
    let sources: Vec<NodeId> = read_by(editor.graph(), id).map(|value| value.node).collect();
    editor.remove(id).map_err(|error| scope.defect(error))?;
    remove_unused(editor, scope, sources).map_err(|error| scope.defect(error))?;
    Ok(())
}

/// Why outputs of `body`, from the one with index `skip` on, cannot stand for the first `count` outputs of `id`.
pub(super) fn misfit(
    graph: &Graph,
    id: NodeId,
    body: &Graph,
    bindings: &Bindings<'_>,
    skip: usize,
    count: usize,
) -> Option<String> {
    let values = body.output_values();
    if values.len() < count + skip {
        return Some("its body has too few outputs".to_owned());
    }
    (0..count).find_map(|output| {
        let inner = values.get(output + skip).copied().flatten()?;
        let outer = match &body.get(inner.node)?.kind {
            NodeKind::Capture(capture) => bindings.captures.get(capture.index as usize).copied().flatten(),
            NodeKind::Input(_) => {
                let index = body.inputs().iter().position(|input| *input == inner.node);
                index.and_then(|index| bindings.inputs.get(index).copied().flatten())
            }
            _ => None,
        };
        let (declared, found) = (
            graph.ty(ValueId::new(id, output)),
            outer.map_or(body.ty(inner), |value| graph.ty(value)),
        );
        declared
            .contradicts(found)
            .then(|| format!("its body gives {found} where the model says {declared}"))
    })
}

/// Whether a body or a body in it has a node that no pass may change.
fn holds_protected(body: &Graph, scope: &Scope<'_>) -> bool {
    body.node_ids().any(|id| {
        let Some(node) = body.get(id) else { return false };
        let own =
            matches!(node.kind, NodeKind::Operator(_) | NodeKind::Constant(_)) && scope.protected(body, id);
        own || node
            .operator()
            .into_iter()
            .flat_map(Operator::bodies)
            .any(|(_, inner)| holds_protected(inner, scope))
    })
}
