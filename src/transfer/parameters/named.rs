//! Weights from a file that has names alone.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{self, Account, Fate, SourceWeight, TargetWeight};
use super::write::Writes;
use super::{Options, TransferError};
use crate::ir::{Model, Tensor};
use crate::transfer::adapt::{Adaptation, Refusal, Rules};
use crate::transfer::units::{self, Part, Role, squeezed};

/// Puts named tensors into the constants of the same names.
///
/// A convolution or matrix product gets its weights only if its bias, and the batch normalisation that belongs to it, are found,
/// too: a file whose normalisation is not folded would otherwise give a folded model weights that are off by its factors.
pub fn from_tensors(
    target: &mut Model,
    tensors: &[(String, Tensor)],
    options: &Options,
) -> Result<Account, TransferError> {
    let own = units::find(&target.graph);
    if own.is_empty() {
        return Err(TransferError::NoWeights);
    }
    let mut named: BTreeMap<String, (&String, &Tensor)> = BTreeMap::new();
    for (name, tensor) in tensors {
        let renamed = options.renamed(name);
        if let Some((first, _)) = named.insert(renamed.clone(), (name, tensor)) {
            return Err(TransferError::SameName {
                first: first.clone(),
                second: name.clone(),
                name: renamed,
            });
        }
    }
    let mut account = Account::default();
    let mut used: BTreeSet<&String> = BTreeSet::new();
    let mut refused: BTreeMap<&String, String> = BTreeMap::new();
    let mut writes = Writes::default();
    for unit in &own {
        let found: Vec<_> = unit.parts.iter().map(|part| named.get(&part.name)).collect();
        let lacking = unit
            .parts
            .iter()
            .zip(&found)
            .find(|(_, found)| found.is_none())
            .map(|(part, _)| part);
        for (part, found) in unit.parts.iter().zip(&found) {
            let mut weight = TargetWeight::of(part, &unit.name);
            match (found, lacking) {
                _ if options.keeps(unit) => weight.why = Some(report::KEPT.to_owned()),
                (None, _) => weight.why = Some("the source has no weight of this name".to_owned()),
                (Some((name, _)), Some(lacking)) => {
                    let why = format!("{:?} of the same operator has no counterpart", lacking.name);
                    refused.insert(name, why.clone());
                    weight.why = Some(why);
                }
                (Some((name, tensor)), None) => match fit(tensor, part, &options.rules) {
                    Ok((tensor, how)) => {
                        used.insert(name);
                        weight.from = vec![(*name).clone()];
                        weight.fate = match how.is_empty() {
                            true => Fate::Loaded,
                            false => Fate::Adapted,
                        };
                        weight.how = how.iter().map(ToString::to_string).collect();
                        writes.slot(part.constant, part.node, part.slot, tensor);
                    }
                    Err(refusal) => {
                        refused.insert(name, format!("for {}: {refusal}", unit.name));
                        weight.why = Some(refusal.to_string());
                    }
                },
            }
            account.weights.push(weight);
        }
    }
    for (name, tensor) in report::unread(target, &own) {
        let mut weight = TargetWeight::unread(name, &tensor);
        if let Some((source, found)) = named.get(&weight.name)
            && !options.keep.is_match(&weight.name)
            && found.dims() == tensor.dims()
            && found.dtype() == tensor.dtype()
            && let Some(value) = target.graph.find_value(&weight.name)
        {
            let slots = super::write::readers(&target.graph, value);
            if slots.len() == target.graph.use_count(value) {
                for (node, slot) in slots {
                    writes.slot(value, node, slot, found.reshaped(found.dims())?);
                }
                used.insert(source);
                weight.from = vec![(*source).clone()];
                weight.fate = Fate::Loaded;
                weight.why = None;
            }
        }
        account.weights.push(weight);
    }
    for (name, tensor) in tensors {
        account.source.push(SourceWeight {
            name: name.clone(),
            dims: tensor.dims().to_vec(),
            used: used.contains(name),
            why: match (used.contains(name), refused.get(name)) {
                (true, _) => None,
                (false, Some(why)) => Some(why.clone()),
                (false, None) => Some("the target has no weight of this name".to_owned()),
            },
        });
    }
    writes.apply(&mut target.graph)?;
    Ok(account)
}

/// A named tensor in the form of a part.
fn fit(tensor: &Tensor, part: &Part, rules: &Rules) -> Result<(Tensor, Vec<Adaptation>), Refusal> {
    let (from, to) = (tensor.dims(), part.tensor.dims());
    let mut how = Vec::new();
    let shape = || Refusal::Shape {
        from: from.to_vec(),
        to: to.to_vec(),
    };
    let reversed = from.len() == 2 && from.iter().rev().eq(to) && from != to;
    let transposed = part.role == Role::Weight && part.layout.transposed && reversed;
    if !transposed && squeezed(from) != squeezed(to) || part.layout.factor != 1.0 {
        return Err(shape());
    }
    if from != to {
        how.push(Adaptation::Layout {
            from: from.to_vec(),
            to: to.to_vec(),
        });
    }
    if tensor.dtype() != part.tensor.dtype() {
        how.push(Adaptation::Dtype {
            from: tensor.dtype(),
            to: part.tensor.dtype(),
        });
    }
    if let Some(change) = how
        .iter()
        .find(|change| !rules.allowed.contains(&change.adapter()))
    {
        return Err(Refusal::NotAllowed(change.clone()));
    }
    if tensor.dtype() == part.tensor.dtype() && !transposed {
        return Ok((tensor.reshaped(to)?, how));
    }
    let mut values = tensor.to_f64()?;
    if transposed {
        let (rows, columns) = (
            to.first().copied().unwrap_or(0) as usize,
            to.get(1).copied().unwrap_or(0) as usize,
        );
        let stored = values;
        values = (0..rows)
            .flat_map(|row| (0..columns).map(move |column| column * rows + row))
            .map(|at| stored.get(at).copied().unwrap_or(0.0))
            .collect();
    }
    Ok((Tensor::from_f64(part.tensor.dtype(), to, &values)?, how))
}
