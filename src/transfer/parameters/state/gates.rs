//! Recurrent layers: PyTorch's tensors of each direction in the operator's form.
//!
//! PyTorch keeps the gates of an LSTM in the order i, f, g, o and of a GRU in the order r, z, n; the operators have i, o, f, c and
//! z, r, h, one direction behind the other, and both biases in one tensor.

use super::build::Reason;
use super::layers::{Item, Layer};
use crate::ir::{DType, Tensor};
use crate::transfer::units::Role;

/// What an operator's attributes say.
pub(super) struct Form<'k> {
    operator: &'k str,
    direction: &'k str,
    linear_before_reset: bool,
    input_forget: bool,
}

impl<'k> Form<'k> {
    /// From the words of [`crate::transfer::units::Kind::Recurrent`].
    pub(super) fn of(meaning: &'k str) -> Self {
        let mut words = meaning.split_whitespace();
        Self {
            operator: words.next().unwrap_or(""),
            direction: words.next().unwrap_or(""),
            linear_before_reset: words.next() == Some("1"),
            input_forget: words.next() == Some("1"),
        }
    }

    /// The block of the operator's order that each of PyTorch's blocks is: for each block of the operator, PyTorch's.
    fn order(&self) -> &'static [usize] {
        match self.operator {
            "LSTM" => &[0, 3, 1, 2],
            "GRU" => &[1, 0, 2],
            _ => &[0],
        }
    }

    fn endings(&self) -> &'static [&'static str] {
        match self.direction {
            "bidirectional" => &["", "_reverse"],
            "reverse" => &["_reverse"],
            _ => &[""],
        }
    }
}

/// How many layers of a stacked recurrent network there are.
pub(super) fn depth(layer: &Layer) -> usize {
    (0..)
        .take_while(|at| layer.contains_key(&format!("weight_ih_l{at}")))
        .count()
}

/// The weights of layer `at` by role.
pub(super) fn weights(form: &Form<'_>, layer: &Layer, at: usize) -> Result<Vec<(Role, Item)>, Reason> {
    if form.operator == "GRU" && !form.linear_before_reset {
        return Err(Reason::Reset);
    }
    if form.input_forget {
        return Err(Reason::Coupled);
    }
    if let Some(item) = layer.get(&format!("weight_hr_l{at}")) {
        return Err(Reason::Projection(item.names.join(", ")));
    }
    let order = form.order();
    let joined = |kind: &str| -> Result<Option<Item>, Reason> {
        let mut names = Vec::new();
        let mut values = Vec::new();
        let mut found: Option<(Vec<u64>, DType)> = None;
        for ending in form.endings() {
            let word = format!("{kind}_l{at}{ending}");
            let Some(item) = layer.get(&word) else {
                return match found {
                    None => Ok(None),
                    Some(_) => Err(Reason::Lacking(word)),
                };
            };
            let dims = item.tensor.dims().to_vec();
            if found.as_ref().is_some_and(|(known, _)| *known != dims) {
                return Err(Reason::Lacking(word));
            }
            found = Some((dims, item.tensor.dtype()));
            names.extend(item.names.iter().cloned());
            values.extend(reordered(&item.tensor.to_f64()?, order));
        }
        let Some((mut dims, dtype)) = found else {
            return Ok(None);
        };
        dims.insert(0, form.endings().len() as u64);
        Ok(Some(Item {
            names,
            tensor: Tensor::from_f64(dtype, &dims, &values)?,
        }))
    };
    let needed = |kind: &str| joined(kind)?.ok_or_else(|| Reason::Lacking(format!("{kind}_l{at}")));
    let mut weights = vec![
        (Role::Weight, needed("weight_ih")?),
        (Role::Recurrence, needed("weight_hh")?),
    ];
    if let (Some(input), Some(state)) = (joined("bias_ih")?, joined("bias_hh")?) {
        weights.push((Role::Bias, beside(&input, &state)?));
    }
    Ok(weights)
}

/// Blocks of equal length in another order.
fn reordered(values: &[f64], order: &[usize]) -> Vec<f64> {
    let block = values.len() / order.len().max(1);
    order
        .iter()
        .flat_map(|at| values.get(at * block..(at + 1) * block).unwrap_or(&[]))
        .copied()
        .collect()
}

/// The biases of input and state, `[directions, gates · hidden]` each, beside each other.
fn beside(input: &Item, state: &Item) -> Result<Item, Reason> {
    let directions = input.tensor.dims().first().copied().unwrap_or(1).max(1) as usize;
    let (a, b) = (input.tensor.to_f64()?, state.tensor.to_f64()?);
    let width = a.len() / directions;
    let rows = a.chunks(width.max(1)).zip(b.chunks(width.max(1)));
    let values: Vec<f64> = rows.flat_map(|(a, b)| a.iter().chain(b)).copied().collect();
    let dims = [directions as u64, 2 * width as u64];
    Ok(Item {
        names: input.names.iter().chain(&state.names).cloned().collect(),
        tensor: Tensor::from_f64(input.tensor.dtype(), &dims, &values)?,
    })
}
