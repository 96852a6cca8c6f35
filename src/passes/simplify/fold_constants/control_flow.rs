//! If and Loop whose course is known.

use super::known::Known;
use super::{Fold, NAME};
use crate::ir::{
    AttributeValue, BodyIndex, DType, Editor, Graph, NodeId, NodeKind, Operator, Tensor, Value, ValueId,
};
use crate::passes::PassError;
use crate::passes::scope::{Scope, read_by};
use crate::passes::simplify::splice::{Bindings, Naming, hand_over, obstacle, splice};
use crate::passes::simplify::sweep::remove_unused;

/// What is known of an operator's course.
#[derive(Clone, Copy, Debug)]
pub(super) enum Decision {
    /// An If always takes this branch.
    Branch(NodeId, BodyIndex),
    /// A Loop never runs.
    Never(NodeId),
    /// A Loop runs once.
    Once(NodeId, BodyIndex),
}

/// Every If and Loop whose course is known, in topological order.
pub(super) fn decide(graph: &Graph, scope: &Scope<'_>, known: &Known) -> Vec<Decision> {
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
            } else if condition == Some(true) && trips == Some(Some(1)) {
                found.extend(body("body").map(|body| Decision::Once(id, body)));
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
    let (Decision::Branch(id, _) | Decision::Never(id) | Decision::Once(id, _)) = decision;
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
        Decision::Never(_) => never(graph, scope, id)?,
        Decision::Once(_, at) => once(fold, graph, scope, id, at)?,
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
enum Outcome {
    /// The rule that replaced it.
    Replaced(&'static str),
    /// Why it stays.
    Stays(String),
}

impl Outcome {
    fn stays(why: &str) -> Self {
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

fn never(graph: &mut Graph, scope: &Scope<'_>, id: NodeId) -> Result<Outcome, PassError> {
    let initial: Vec<Option<ValueId>> = graph.inputs_of(id).into_iter().skip(2).collect();
    let outputs = graph.get(id).map_or(0, |node| node.outputs().len());
    let unknown_scan = (initial.len()..outputs).any(|output| graph.use_count(ValueId::new(id, output)) > 0);
    if unknown_scan {
        return Ok(Outcome::stays(
            "its scan outputs are empty tensors of unknown shape",
        ));
    }
    let Some(values) = initial.into_iter().take(outputs).collect::<Option<Vec<_>>>() else {
        return Ok(Outcome::stays("an initial value is left out"));
    };
    if values
        .iter()
        .enumerate()
        .any(|(output, value)| graph.ty(ValueId::new(id, output)).contradicts(graph.ty(*value)))
    {
        return Ok(Outcome::stays(
            "its outputs are declared with other types than its initial values",
        ));
    }
    let mut editor = graph.edit(NAME);
    replace_outputs(&mut editor, scope, id, &values)?;
    Ok(Outcome::Replaced("Loop that never runs"))
}

fn once(
    fold: &mut Fold<'_>,
    graph: &mut Graph,
    scope: &Scope<'_>,
    id: NodeId,
    at: BodyIndex,
) -> Result<Outcome, PassError> {
    let Some(body) = graph.body(id, at).cloned() else {
        return Ok(Outcome::stays("it has no body"));
    };
    let initial: Vec<Option<ValueId>> = graph.inputs_of(id).into_iter().skip(2).collect();
    let (iteration, condition) = (Tensor::scalar(0i64), Tensor::from_bools(&[], &[true]));
    let Ok(condition) = condition else {
        return Ok(Outcome::stays("no boolean constant"));
    };
    let fits = |slot: usize, tensor: &Tensor| {
        body.inputs().get(slot).is_some_and(|input| {
            !body
                .ty(ValueId::new(*input, 0))
                .contradicts(&crate::ir::tensor_type(tensor))
        })
    };
    if !fits(0, &iteration) || !fits(1, &condition) || body.inputs().len() != initial.len() + 2 {
        return Ok(Outcome::stays(
            "its body takes other inputs than a counter, a condition and the initial values",
        ));
    }
    let carried = initial.len();
    if body.outputs().len() < carried + 1 {
        return Ok(Outcome::stays("its body has too few outputs"));
    }
    // The counter and the condition are there in any case; only what the caller leaves out is an obstacle.
    let placeholder = Some(ValueId::new(id, 0));
    let supplied: Vec<Option<ValueId>> = [placeholder; 2]
        .into_iter()
        .chain(initial.iter().copied())
        .collect();
    let captures: Vec<Option<ValueId>> = graph.captures_of(id).into_iter().collect();
    let unbound = [None; 2]
        .into_iter()
        .chain(initial.iter().copied())
        .collect::<Vec<_>>();
    let bindings = Bindings {
        inputs: &unbound,
        captures: &captures,
    };
    if let Some(reason) =
        obstacle(&body, &supplied).or_else(|| misfit(graph, id, &body, &bindings, 1, carried))
    {
        return Ok(Outcome::Stays(reason));
    }
    let Some(version) = scope.version("") else {
        return Ok(Outcome::stays("ONNX's own opset is not imported"));
    };
    let prefix = graph.label(id);
    let mut editor = graph.edit(NAME);
    let mut inputs = vec![
        Some(editor.add_constant("", iteration)),
        Some(editor.add_constant("", condition)),
    ];
    inputs.extend(initial);
    let bindings = Bindings {
        inputs: &inputs,
        captures: &captures,
    };
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
    let mut unused = spliced.operators;
    let mut values = spliced.outputs;
    if !values.is_empty() {
        values.remove(0);
    }
    for value in values.iter_mut().skip(carried) {
        *value = stack_one(&mut editor, id, *value, version).map_err(|error| scope.defect(error))?;
    }
    replace_outputs(&mut editor, scope, id, &values)?;
    unused.extend(inputs.iter().flatten().map(|value| value.node));
    remove_unused(&mut editor, scope, unused).map_err(|error| scope.defect(error))?;
    Ok(Outcome::Replaced("Loop that runs once"))
}

/// A scan output of one iteration: the value with a new first axis.
fn stack_one(
    editor: &mut Editor<'_>,
    near: NodeId,
    value: ValueId,
    version: i64,
) -> Result<ValueId, crate::ir::EditError> {
    let outputs = vec![Value::default()];
    let id = if version >= 13 {
        let axes = editor.add_constant("", Tensor::vector_i64(&[0]));
        editor.add_operator(
            near,
            Operator::new("Unsqueeze"),
            &[Some(value), Some(axes)],
            outputs,
        )?
    } else {
        let operator = Operator::new("Unsqueeze").with("axes", AttributeValue::Ints(vec![0]));
        editor.add_operator(near, operator, &[Some(value)], outputs)?
    };
    Ok(ValueId::new(id, 0))
}

/// Hands the outputs of `id` over and removes it, with what only it read.
fn replace_outputs(
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
fn misfit(
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
