//! Loops that never run, and loops that are written out.

use super::control_flow::{Decision, Outcome, misfit, replace_outputs};
use super::{Fold, NAME};
use crate::ir::{
    AttributeValue, BodyIndex, EditError, Editor, Graph, NodeId, Operator, Tensor, Value, ValueId,
};
use crate::passes::PassError;
use crate::passes::scope::Scope;
use crate::passes::simplify::splice::{Bindings, Naming, obstacle, splice};
use crate::passes::simplify::sweep::remove_unused;

/// Bytes of a body's constants that are repeated at most.
const MOST_CONSTANTS: u64 = 4096;

/// What becomes of a Loop that may run. `trips` are known where it runs until its counter ends it at first; `limit` are the operators that it
/// may become, 0 if it is not to be written out.
pub(super) fn decide(
    graph: &Graph,
    id: NodeId,
    at: BodyIndex,
    trips: Option<i64>,
    limit: u64,
) -> Option<Decision> {
    let stays = |why: String| (limit > 0).then_some(Decision::Stays(id, why));
    let Some(trips) = trips.and_then(|trips| u64::try_from(trips).ok()) else {
        return stays("its trips are not known".to_owned());
    };
    if trips == 1 {
        return Some(Decision::Times(id, at, trips));
    }
    let body = graph.body(id, at)?;
    let (mut operators, mut bytes) = (0u64, 0u64);
    for node in body.node_ids() {
        operators += u64::from(body.operator(node).is_some());
        bytes += body.constant(ValueId::new(node, 0)).map_or(0, Tensor::byte_len);
    }
    let all = operators.saturating_mul(trips);
    if !goes_on(body) {
        return stays("its body may end it before its counter does".to_owned());
    }
    if all > limit {
        return stays(format!(
            "it would become {all} operators, and `unroll` is {limit}"
        ));
    }
    let repeated = bytes.saturating_mul(trips);
    if repeated > MOST_CONSTANTS {
        return stays(format!(
            "constants of its body would take {repeated} bytes, more than {MOST_CONSTANTS}"
        ));
    }
    Some(Decision::Times(id, at, trips))
}

/// Whether the condition that a body gives is true whenever the one that it gets is.
fn goes_on(body: &Graph) -> bool {
    let Some(Some(mut value)) = body.output_values().first().copied() else {
        return false;
    };
    loop {
        if body.inputs().get(1) == Some(&value.node) {
            return true;
        }
        if let Some(tensor) = body.constant(value) {
            return tensor.single_i64() == Some(1);
        }
        match body.operator(value.node) {
            Some(operator) if operator.is("Identity") => match body.input(value.node, 0) {
                Some(before) => value = before,
                None => return false,
            },
            _ => return false,
        }
    }
}

pub(super) fn never(graph: &mut Graph, scope: &Scope<'_>, id: NodeId) -> Result<Outcome, PassError> {
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

/// Writes the trips of a Loop out, one after the other.
pub(super) fn times(
    fold: &mut Fold<'_>,
    graph: &mut Graph,
    scope: &Scope<'_>,
    (id, at): (NodeId, BodyIndex),
    trips: u64,
) -> Result<Outcome, PassError> {
    let Some(body) = graph.body(id, at).cloned() else {
        return Ok(Outcome::stays("it has no body"));
    };
    let initial: Vec<Option<ValueId>> = graph.inputs_of(id).into_iter().skip(2).collect();
    if let Some(outcome) = unfit(graph, id, &body, &initial) {
        return Ok(outcome);
    }
    let Some(version) = scope.version("") else {
        return Ok(Outcome::stays("ONNX's own opset is not imported"));
    };
    let Ok(condition) = Tensor::from_bools(&[], &[true]) else {
        return Ok(Outcome::stays("no boolean constant"));
    };
    let captures: Vec<Option<ValueId>> = graph.captures_of(id).into_iter().collect();
    let carried = initial.len();
    let label = graph.label(id);
    let mut editor = graph.edit(NAME);
    let mut state = initial;
    let mut scans: Vec<Vec<ValueId>> = vec![Vec::new(); body.outputs().len().saturating_sub(carried + 1)];
    let mut unused = Vec::new();
    for trip in 0..trips {
        let mut inputs = vec![
            Some(editor.add_constant("", Tensor::scalar(trip as i64))),
            Some(editor.add_constant("", condition.clone())),
        ];
        inputs.extend(state);
        let bindings = Bindings {
            inputs: &inputs,
            captures: &captures,
        };
        let (naming, prefix) = match trips {
            1 => (Naming::Move, label.clone()),
            _ => (Naming::Copy, format!("{label}/{trip}")),
        };
        let spliced = splice(
            &mut editor,
            id,
            &body,
            &bindings,
            naming,
            &prefix,
            &mut fold.names,
        )
        .map_err(|error| scope.defect(error))?;
        unused.extend(spliced.operators);
        unused.extend(inputs.iter().flatten().map(|value| value.node));
        let mut values = spliced.outputs.into_iter().skip(1);
        state = values.by_ref().take(carried).map(Some).collect();
        for (scan, value) in scans.iter_mut().zip(values) {
            scan.push(stack_one(&mut editor, id, value, version).map_err(|error| scope.defect(error))?);
        }
    }
    let mut values: Vec<ValueId> = state.into_iter().flatten().collect();
    for scan in &scans {
        values.extend(joined(&mut editor, id, scan).map_err(|error| scope.defect(error))?);
    }
    replace_outputs(&mut editor, scope, id, &values)?;
    remove_unused(&mut editor, scope, unused).map_err(|error| scope.defect(error))?;
    Ok(Outcome::Replaced(match trips {
        1 => "Loop that runs once",
        _ => "Loop written out",
    }))
}

/// Why the body of a Loop cannot be copied into the graph around it.
fn unfit(graph: &Graph, id: NodeId, body: &Graph, initial: &[Option<ValueId>]) -> Option<Outcome> {
    let condition = Tensor::from_bools(&[], &[true]).ok()?;
    let fits = |slot: usize, tensor: &Tensor| {
        body.inputs().get(slot).is_some_and(|input| {
            !body
                .ty(ValueId::new(*input, 0))
                .contradicts(&crate::ir::tensor_type(tensor))
        })
    };
    if !fits(0, &Tensor::scalar(0i64)) || !fits(1, &condition) || body.inputs().len() != initial.len() + 2 {
        return Some(Outcome::stays(
            "its body takes other inputs than a counter, a condition and the initial values",
        ));
    }
    if body.outputs().len() < initial.len() + 1 {
        return Some(Outcome::stays("its body has too few outputs"));
    }
    // The counter and the condition are there in any case; only what the caller leaves out is an obstacle.
    let given = |first: Option<ValueId>| -> Vec<Option<ValueId>> {
        [first; 2].into_iter().chain(initial.iter().copied()).collect()
    };
    let captures: Vec<Option<ValueId>> = graph.captures_of(id).into_iter().collect();
    let unbound = given(None);
    let bindings = Bindings {
        inputs: &unbound,
        captures: &captures,
    };
    let reason = obstacle(body, &given(Some(ValueId::new(id, 0))))
        .or_else(|| misfit(graph, id, body, &bindings, 1, initial.len()));
    reason.map(Outcome::Stays)
}

/// A scan output of one trip: the value with a new first axis.
fn stack_one(
    editor: &mut Editor<'_>,
    near: NodeId,
    value: ValueId,
    version: i64,
) -> Result<ValueId, EditError> {
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

/// The scan outputs of all trips as one value.
fn joined(editor: &mut Editor<'_>, near: NodeId, scan: &[ValueId]) -> Result<Option<ValueId>, EditError> {
    if let [_, _, ..] = scan {
        let inputs: Vec<_> = scan.iter().copied().map(Some).collect();
        let concat = Operator::new("Concat").with("axis", 0);
        let id = editor.add_operator(near, concat, &inputs, vec![Value::default()])?;
        return Ok(Some(ValueId::new(id, 0)));
    }
    Ok(scan.first().copied())
}
