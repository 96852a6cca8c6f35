//! The reverse pass: vector-Jacobian products over the tape, contributions to one value summed.

use std::collections::{HashMap, HashSet};

use super::AutodiffError;
use super::emit::{Emitter, Var};
use super::forward::Forward;
use super::vjp::{self, Call, Form};
use crate::ir::{NodeId, Operator, ValueId};

/// An operator of the tape with what it reads and makes.
struct Entry {
    node: NodeId,
    operator: Operator,
    inputs: Vec<Option<ValueId>>,
    outputs: Vec<Option<ValueId>>,
}

/// The gradient of each wanted value, given that of the value `at`. A wanted value that gets none is missing.
pub(super) fn run<'e>(
    emitter: &'e Emitter,
    forward: &Forward<'e>,
    at: ValueId,
    seed: Var<'e>,
) -> Result<HashMap<ValueId, Var<'e>>, AutodiffError> {
    let tape: Vec<Entry> = emitter
        .tape()
        .into_iter()
        .filter_map(|node| entry(emitter, node))
        .collect();
    let wanted: HashSet<ValueId> = forward.wanted.iter().map(|wanted| wanted.value.id).collect();
    let varied = varied(emitter, &tape, &wanted);
    let mut contributions: HashMap<ValueId, Vec<Var<'e>>> = HashMap::from([(at, vec![seed])]);
    let mut gradients = HashMap::new();
    for entry in tape.iter().rev() {
        let mut grads = Vec::with_capacity(entry.outputs.len());
        for output in &entry.outputs {
            let sum = output.and_then(|value| emitter.sum(&contributions.remove(&value)?));
            if let (Some(value), Some(sum)) = (output, &sum)
                && wanted.contains(value)
            {
                gradients.insert(*value, sum.clone());
            }
            grads.push(sum);
        }
        let needs: Vec<bool> = entry
            .inputs
            .iter()
            .map(|input| input.is_some_and(|value| varied.contains(&value)))
            .collect();
        if grads.iter().all(Option::is_none) || !needs.contains(&true) {
            continue;
        }
        let Some(rule) = vjp::rule(entry.operator.domain(), &entry.operator.op_type) else {
            continue;
        };
        let Form::Product(product) = &rule.form else {
            continue;
        };
        let call = Call {
            e: emitter,
            operator: entry.operator.clone(),
            inputs: vars(emitter, forward, entry.node, &entry.inputs)?,
            outputs: vars(emitter, forward, entry.node, &entry.outputs)?,
            grads,
            needs: needs
                .iter()
                .enumerate()
                .map(|(slot, need)| *need && rule.passes(slot))
                .collect(),
        };
        let products = product(&call);
        if let Some(fault) = emitter.take_fault() {
            return Err(forward.form_error(Some(entry.node), fault));
        }
        for (slot, product) in products.into_iter().enumerate() {
            let input = call.inputs.get(slot).and_then(Option::as_ref);
            if let (Some(product), Some(input), true) = (product, input, call.needs(slot)) {
                contributions
                    .entry(input.id)
                    .or_default()
                    .push(product.shaped_like(input));
            }
        }
    }
    for value in forward.wanted.iter().map(|wanted| wanted.value.id) {
        if let Some(sum) = contributions.remove(&value).and_then(|terms| emitter.sum(&terms)) {
            gradients.insert(value, sum);
        }
    }
    Ok(gradients)
}

fn entry(emitter: &Emitter, node: NodeId) -> Option<Entry> {
    emitter.read(|graph| {
        let operator = graph.operator(node)?.clone();
        let values = graph.get(node)?.outputs();
        let outputs = values
            .iter()
            .enumerate()
            .map(|(i, value)| (!value.omitted).then_some(ValueId::new(node, i)))
            .collect();
        Some(Entry {
            node,
            operator,
            inputs: graph.inputs_of(node).to_vec(),
            outputs,
        })
    })
}

/// Values that depend on a wanted one.
fn varied(emitter: &Emitter, tape: &[Entry], wanted: &HashSet<ValueId>) -> HashSet<ValueId> {
    let mut varied = wanted.clone();
    for entry in tape {
        let Some(rule) = vjp::rule(entry.operator.domain(), &entry.operator.op_type) else {
            continue;
        };
        let depends = entry
            .inputs
            .iter()
            .enumerate()
            .any(|(slot, input)| input.is_some_and(|value| varied.contains(&value)) && rule.passes(slot));
        if depends {
            let float = |value: &&ValueId| emitter.var(**value).is_some_and(|var| var.dtype.is_float());
            varied.extend(entry.outputs.iter().flatten().filter(float));
        }
    }
    varied
}

fn vars<'e>(
    emitter: &'e Emitter,
    forward: &Forward<'e>,
    node: NodeId,
    values: &[Option<ValueId>],
) -> Result<Vec<Option<Var<'e>>>, AutodiffError> {
    values
        .iter()
        .map(|value| match value {
            None => Ok(None),
            Some(value) => match emitter.var(*value) {
                Some(var) => Ok(Some(var)),
                None => {
                    let name = emitter.read(|graph| graph.value(*value).map(|v| v.name.to_string()));
                    Err(forward.unknown_type(node, &name.unwrap_or_default()))
                }
            },
        })
        .collect()
}
