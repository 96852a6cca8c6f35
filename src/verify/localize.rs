//! The first node at which two models part.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::interface::Names;
use super::random::randomness;
use super::report::VerifyOptions;
use super::session;
use crate::engine::compare::{OutputFigures, Verdict, compare_runs};
use crate::engine::{Engine, EngineError, RunValues};
use crate::ir::{Graph, Model, NodeId, NodeKind, ValueId};

/// Values that are asked for in one run; more would keep too many activations in memory.
const AT_ONCE: usize = 128;

/// Where two models part.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Divergence {
    /// The first value, in the reference's order, that both models have and that differs.
    pub value: String,
    /// The node that produces it in the reference.
    pub reference_node: String,
    /// Its operator.
    pub reference_operator: String,
    /// The node that produces it in the model.
    pub model_node: String,
    /// Its operator.
    pub model_operator: String,
    /// Rules and passes that changed what lies between this value and the last values on which both agree.
    pub origins: Vec<String>,
    /// How far the value is off.
    pub figures: OutputFigures,
}

/// Runs both models on `sample`, asks for every value whose name both have, and answers the first that differs; `None` if none
/// does.
pub fn localize(
    reference: &Model,
    model: &Model,
    engine: &dyn Engine,
    sample: &RunValues,
    options: &VerifyOptions,
) -> Result<Option<Divergence>, EngineError> {
    let names = Names::new(reference, model, &options.map).unwrap_or_default();
    let shapes = session::shapes_of(sample);
    let left = session::prepare(reference, engine, &shapes)?;
    let right = session::prepare(model, engine, &session::translated(&shapes, &names))?;
    let theirs = producers(&right.model.graph);
    let random: BTreeSet<String> = [reference, model]
        .into_iter()
        .flat_map(|model| randomness(model).outputs)
        .map(|(name, _)| name)
        .collect();
    let shared: Vec<(String, ValueId)> = ordered(&left.model.graph)
        .into_iter()
        .filter(|(name, _)| theirs.contains_key(name) && !random.contains(name))
        .collect();
    let mut agreed: BTreeSet<String> = BTreeSet::new();
    for part in shared.chunks(AT_ONCE) {
        let exposed: Vec<String> = part.iter().map(|(name, _)| name.clone()).collect();
        let session = left.compile(engine, exposed.clone(), false)?;
        let expected = session.run(sample)?;
        let other = names.translate(right.compile(engine, exposed, false)?);
        let found = other.run(sample)?;
        let wanted = |name: &str| part.iter().any(|(known, _)| known == name);
        let compared: BTreeMap<_, _> = compare_runs(
            &*session,
            sample,
            (&expected, &found),
            &wanted,
            &options.tolerances,
        )
        .into_iter()
        .collect();
        for (name, value) in part {
            let Some(comparison) = compared.get(name) else {
                continue;
            };
            if comparison.verdict() != Verdict::Different {
                agreed.insert(name.clone());
                continue;
            }
            let Some(other) = theirs.get(name) else { continue };
            let (reference_node, reference_operator) = describe(&left.model.graph, value.node);
            let (model_node, model_operator) = describe(&right.model.graph, other.node);
            return Ok(Some(Divergence {
                value: name.clone(),
                reference_node,
                reference_operator,
                model_node,
                model_operator,
                origins: origins(model, &right.model.graph, *other, &agreed),
                figures: comparison.figures(name),
            }));
        }
    }
    Ok(None)
}

fn describe(graph: &Graph, node: NodeId) -> (String, String) {
    (
        graph.label(node),
        graph
            .operator(node)
            .map(|op| op.op_type.to_string())
            .unwrap_or_default(),
    )
}

/// Named values of operators, in topological order.
fn ordered(graph: &Graph) -> Vec<(String, ValueId)> {
    let mut found = Vec::new();
    for id in graph.topological_order() {
        let Some(node) = graph
            .get(id)
            .filter(|node| matches!(node.kind, NodeKind::Operator(_)))
        else {
            continue;
        };
        for (output, value) in node.outputs().iter().enumerate() {
            if !value.omitted && !value.name.is_empty() {
                found.push((value.name.to_string(), ValueId::new(id, output)));
            }
        }
    }
    found
}

fn producers(graph: &Graph) -> BTreeMap<String, ValueId> {
    ordered(graph).into_iter().collect()
}

/// What the journal of `model` says about the nodes behind `value`, up to values on which both agree.
fn origins(model: &Model, lowered: &Graph, value: ValueId, agreed: &BTreeSet<String>) -> Vec<String> {
    let mut labels = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut pending = vec![value.node];
    while let Some(id) = pending.pop() {
        if !seen.insert(id) {
            continue;
        }
        labels.insert(lowered.label(id));
        let inputs = lowered.inputs_of(id);
        let captures = lowered.captures_of(id);
        for input in inputs.iter().chain(&captures).flatten() {
            let known = lowered
                .value(*input)
                .is_some_and(|value| agreed.contains(value.name.as_str()));
            if !known {
                pending.push(input.node);
            }
        }
    }
    let mut found = Vec::new();
    for entry in model.graph.journal() {
        let touches = entry
            .after
            .iter()
            .chain(&entry.before)
            .any(|label| labels.contains(label));
        if touches && !found.iter().any(|origin| *origin == *entry.origin) {
            found.push(entry.origin.to_string());
        }
    }
    found
}
