//! Fresh weights for a model's operators.
//!
//! What multiplies data gets random numbers whose spread follows from the operator's fan, or zeros, or an identity; biases are zero and
//! normalisations do nothing. A weight that several operators share stays shared.

use std::collections::BTreeMap;

use regex::RegexSet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adapt::uniform;
use super::parameters::write::Writes;
use super::units::{self, Kind, Part, Role, Unit};
use crate::ir::{EditError, Graph, Tensor, TensorError, ValueId};

/// Standard deviation of class tokens and position embeddings (Dosovitskiy et al., 2021).
const TOKEN_DEVIATION: f64 = 0.02;

/// How weights are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Uniform with variance 2 / fan-in (He et al., 2015).
    Kaiming,
    /// Uniform with variance 2 / (fan-in + fan-out) (Glorot and Bengio, 2010).
    Xavier,
    /// Zero.
    Zeros,
    /// Convolutions and matrix products that pass channel i on as channel i; zero for other operators.
    Identity,
    /// As they are.
    Keep,
}

/// Why there are no fresh weights.
#[derive(Debug, thiserror::Error)]
pub enum InitialiseError {
    /// The element type cannot hold them.
    #[error("{name}: {source}")]
    Tensor {
        /// The weight.
        name: String,
        /// What is wrong.
        source: TensorError,
    },
    /// An edit broke a law of the IR.
    #[error("{0}; this is a defect of secateur, please report it with the model")]
    Edit(#[from] EditError),
}

/// Gives every weight of the main graph new numbers, but for operators and weights whose names `keep` matches. Answers how many weights that were.
pub fn initialise(
    graph: &mut Graph,
    init: Init,
    seed: u64,
    keep: &RegexSet,
) -> Result<usize, InitialiseError> {
    if init == Init::Keep {
        return Ok(0);
    }
    let units = units::find(graph);
    let mut made: BTreeMap<ValueId, Tensor> = BTreeMap::new();
    let mut writes = Writes::default();
    for unit in &units {
        for part in &unit.parts {
            if keep.is_match(&unit.name) || keep.is_match(&part.name) {
                continue;
            }
            let tensor = match made.get(&part.constant) {
                Some(tensor) => tensor.clone(),
                None => {
                    let values = values(unit, part, init, seed, made.len() as u64);
                    let tensor = Tensor::from_f64(part.tensor.dtype(), part.tensor.dims(), &values);
                    let tensor = tensor.map_err(|source| InitialiseError::Tensor {
                        name: part.name.clone(),
                        source,
                    })?;
                    made.insert(part.constant, tensor.clone());
                    tensor
                }
            };
            writes.slot(part.constant, part.node, part.slot, tensor);
        }
    }
    writes.apply(graph)?;
    Ok(made.len())
}

fn values(unit: &Unit, part: &Part, init: Init, seed: u64, stream: u64) -> Vec<f64> {
    let count = part.tensor.elements() as usize;
    let random = |variance: f64| uniform(seed, stream, (3.0 * variance).sqrt(), count);
    let multiplies = matches!(part.role, Role::Weight | Role::Recurrence);
    match (part.role, init) {
        (Role::Scale, _) if unit.kind == Kind::Norm("slope") => vec![0.25; count],
        (Role::Scale | Role::Variance, _) => vec![1.0; count],
        (Role::Value, _) if matches!(&unit.kind, Kind::Constant(kind) if kind.starts_with("Mul") || kind.starts_with("Div")) =>
        {
            vec![1.0; count]
        }
        (Role::Value, Init::Kaiming | Init::Xavier) => random(TOKEN_DEVIATION * TOKEN_DEVIATION),
        (_, Init::Kaiming) if multiplies => random(2.0 / fans(unit, part).0),
        (_, Init::Xavier) if multiplies => {
            let (into, out) = fans(unit, part);
            random(2.0 / (into + out))
        }
        (Role::Weight, Init::Identity) if unit.kind == Kind::Linear => identity(unit, part),
        _ => vec![0.0; count],
    }
}

/// Numbers that each output is a sum of, and outputs that each input is in.
fn fans(unit: &Unit, part: &Part) -> (f64, f64) {
    let dims = unit.dims();
    let at = |index: usize| dims.get(index).copied().unwrap_or(1).max(1) as f64;
    let place = dims.iter().skip(2).product::<u64>().max(1) as f64;
    let group = unit.group as f64;
    match &unit.kind {
        Kind::Linear => (at(1) * place, at(0) / group * place),
        Kind::Transposed => (at(0) / group * place, at(1) * place),
        Kind::Recurrent(meaning) => {
            let gates = match meaning.split(' ').next() {
                Some("LSTM") => 4.0,
                Some("GRU") => 3.0,
                _ => 1.0,
            };
            let own = part.tensor.dims();
            let of = |index: usize| own.get(index).copied().unwrap_or(1).max(1) as f64;
            (of(2), of(1) / gates)
        }
        _ => {
            let width = part.tensor.dims().last().copied().unwrap_or(1).max(1) as f64;
            (width, width)
        }
    }
}

/// Weights that pass channel i of each group on as its channel i, in the middle of the kernel.
fn identity(unit: &Unit, part: &Part) -> Vec<f64> {
    let dims = unit.dims();
    let at = |index: usize| dims.get(index).copied().unwrap_or(1) as usize;
    let (outputs, inputs) = (at(0), at(1));
    let kernel: Vec<usize> = dims.iter().skip(2).map(|size| *size as usize).collect();
    let place: usize = kernel.iter().product();
    let centre = kernel.iter().fold(0, |offset, size| offset * size + size / 2);
    let per_group = (outputs / unit.group.max(1) as usize).max(1);
    let mut values = vec![0.0; part.tensor.elements() as usize];
    for output in 0..outputs {
        let input = output % per_group;
        if input >= inputs {
            continue;
        }
        let index = match part.layout.transposed {
            true => input * outputs + output,
            false => (output * inputs + input) * place + centre,
        };
        if let (Some(value), false) = (values.get_mut(index), part.layout.factor == 0.0) {
            *value = 1.0 / part.layout.factor;
        }
    }
    values
}
