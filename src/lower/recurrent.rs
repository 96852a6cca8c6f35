//! Recurrent layers that run backwards: flipped, run forwards, flipped back.

use super::Rule;
use super::site::Site;
use super::slices::turned;
use crate::ir::{AttributeValue, EditError, Operator, ValueId};

pub(super) const RULES: &[Rule] = &[
    ("", "LSTM", recurrent),
    ("", "GRU", recurrent),
    ("", "RNN", recurrent),
];

/// Inputs whose first axis is the direction: W, R, B, then (after the lengths) the initial states and, for LSTM, P.
const PER_DIRECTION: [usize; 6] = [1, 2, 3, 5, 6, 7];

fn recurrent(site: &mut Site<'_>) -> Result<bool, EditError> {
    let direction = site.operator.string("direction").unwrap_or("forward").to_owned();
    // With lengths, each sample turns at its own end; with the batch in front, states have other axes.
    if direction == "forward" || site.input(4).is_some() || site.int("layout", 0) != 0 {
        return Ok(false);
    }
    let Some(x) = site.input(0) else { return Ok(false) };
    match direction.as_str() {
        "reverse" => {
            let outputs = backwards(site, x, None)?;
            for (index, value) in outputs.into_iter().enumerate() {
                site.replace(index, value)?;
            }
        }
        "bidirectional" => {
            let forth = one_way(site, x, Some(0))?;
            let back = backwards(site, x, Some(1))?;
            for (index, (forth, back)) in forth.into_iter().zip(back).enumerate() {
                if site.is_read(index) {
                    // Y is [time, direction, batch, hidden], the last states are [direction, batch, hidden].
                    let axis = i64::from(index == 0);
                    let both = site.node(Operator::new("Concat").with("axis", axis), &[forth, back])?;
                    site.replace(index, both)?;
                }
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The layer on the sequence from its end, with the outputs in the order of time.
fn backwards(site: &mut Site<'_>, x: ValueId, which: Option<usize>) -> Result<Vec<ValueId>, EditError> {
    let x = turned(site, x, 0)?;
    let mut outputs = one_way(site, x, which)?;
    if let Some(first) = outputs.first_mut() {
        *first = turned(site, *first, 0)?;
    }
    Ok(outputs)
}

/// The layer forwards, with the weights of one of two directions if `which` says so.
fn one_way(site: &mut Site<'_>, x: ValueId, which: Option<usize>) -> Result<Vec<ValueId>, EditError> {
    let mut inputs = site.inputs().to_vec();
    if let Some(first) = inputs.first_mut() {
        *first = Some(x);
    }
    if let Some(which) = which {
        for slot in PER_DIRECTION {
            let Some(Some(value)) = inputs.get(slot).copied() else {
                continue;
            };
            let from = which as i64;
            let part = site.slice(value, &[from], &[from + 1], &[0], &[1])?;
            if let Some(input) = inputs.get_mut(slot) {
                *input = Some(part);
            }
        }
    }
    let mut operator = site.with_attributes(
        Operator::new(site.operator.op_type.clone()),
        &["direction", "activations", "activation_alpha", "activation_beta"],
    );
    for name in ["activations", "activation_alpha", "activation_beta"] {
        if let Some(value) = site.attribute(name) {
            operator = operator.with(name, half(value, which));
        }
    }
    let outputs = site.output_count();
    site.nodes(operator, &inputs, outputs)
}

/// The share of one direction in a list that holds both directions'.
fn half(value: AttributeValue, which: Option<usize>) -> AttributeValue {
    fn share<T: Clone>(list: &[T], which: usize) -> Vec<T> {
        let middle = list.len() / 2;
        let (first, second) = list.split_at(middle);
        if which == 0 {
            first.to_vec()
        } else {
            second.to_vec()
        }
    }
    match (value, which) {
        (AttributeValue::Strings(list), Some(which)) => AttributeValue::Strings(share(&list, which)),
        (AttributeValue::Floats(list), Some(which)) => AttributeValue::Floats(share(&list, which)),
        (value, _) => value,
    }
}
