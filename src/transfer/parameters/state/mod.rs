//! Weights from a file that has names alone: a PyTorch state dict, or tensors under the names of the target.
//!
//! [`layers`] sorts the tensors by layer, [`prefix`] finds what comes before the names of one side alone, [`places`] says which layer
//! stands for which operator ([`attention`] tells the parts of a packed projection apart), [`norms`] where folded normalisations belong,
//! [`build`] and [`gates`] bring a layer into the form of a unit. From there on it is adapted like a unit of a model.

mod attention;
mod build;
mod gates;
mod layers;
mod norms;
mod places;
mod prefix;

use std::collections::{BTreeMap, BTreeSet};

use super::report::{self, Account, Fate, SourceWeight, TargetWeight};
use super::write::Writes;
use super::{Matching, Options, TransferError, finite};
use crate::ir::{Model, Tensor};
use crate::transfer::adapt::{Adaptation, Adapted, Place, Refusal, adapt};
use crate::transfer::matching::Network;
use crate::transfer::units::{self, Unit};

use build::{Builder, Built, Reason};
use layers::{Layers, Named, is_buffer};
use places::Sight;

/// What became of a unit.
enum Outcome {
    Kept,
    /// Nothing in the file is for it.
    Alone,
    Refused(Reason),
    /// What was built does not fit.
    Unfit(Built, Refusal),
    Done(Built, Adapted),
}

/// Puts the tensors of a file into the weights of a model.
///
/// A convolution or matrix product gets its weights only if its bias, and the batch normalisation that belongs to it, are found,
/// too: a file whose normalisation is not folded would otherwise give a folded model weights that are off by its factors.
///
/// # Errors
/// When names are not told apart, or a tensor holds no finite numbers.
pub fn from_tensors(
    target: &mut Model,
    tensors: &[(String, Tensor)],
    options: &Options,
) -> Result<Account, TransferError> {
    let own = units::find(&target.graph);
    if own.is_empty() {
        return Err(TransferError::NoWeights);
    }
    let shared = places::shared(&own);
    let sight = Sight {
        graph: &target.graph,
        shared: &shared,
        paths: options.matching != Matching::Name,
    };
    let named = named(&sight, &own, tensors, options)?;
    for entry in &named {
        finite(entry.original, entry.tensor, is_buffer(&entry.name, entry.tensor))?;
    }
    let layers = Layers::new(&named)?;
    let network = Network::new(&target.graph, &own);
    let found = places::find(&sight, &own, &network, &layers);
    let assigned = norms::assign(&sight, &own, &found, &layers, &options.norms)
        .map_err(|reason| TransferError::Norms(reason.to_string()))?;
    let builder = Builder {
        graph: &target.graph,
        layers: &layers,
        shared: &shared,
        orientation: build::orientation(
            own.iter()
                .zip(&found)
                .filter_map(|(unit, place)| Some((unit, place.as_ref().ok()?))),
            &layers,
        ),
        epsilon: options.epsilon,
    };
    let mut outcomes = Vec::with_capacity(own.len());
    for (at, (unit, place)) in own.iter().zip(&found).enumerate() {
        let norm = assigned.norms.get(&at).map(String::as_str);
        let spot = Place {
            stem: network.is_stem(at),
            head: network.is_head(at),
        };
        outcomes.push(match place {
            _ if options.keeps(unit) => Outcome::Kept,
            Err(None) => Outcome::Alone,
            Err(Some(reason)) => Outcome::Refused(reason.clone()),
            Ok(_) if assigned.blocked.contains_key(&at) => match assigned.blocked.get(&at) {
                Some(reason) => Outcome::Refused(reason.clone()),
                None => Outcome::Alone,
            },
            Ok(place) => match builder.build(unit, place, norm) {
                Err(reason) => Outcome::Refused(reason),
                Ok(built) => match adapt(&built.unit, unit, spot, &options.rules) {
                    Ok(adapted) => Outcome::Done(built, adapted),
                    Err(refusal) => Outcome::Unfit(built, refusal),
                },
            },
        });
    }
    let mut account = Account::default();
    let mut writes = Writes::default();
    let mut seen = Seen::default();
    for (unit, (outcome, place)) in own.iter().zip(outcomes.into_iter().zip(&found)) {
        record(
            unit,
            outcome,
            place.as_ref().ok(),
            options,
            &mut account,
            &mut seen,
        );
    }
    for (unit, adapted) in std::mem::take(&mut seen.adapted) {
        if let Some(unit) = own.iter().find(|own| own.node == unit) {
            writes.add(unit, adapted);
        }
    }
    unread(
        target,
        &own,
        &named,
        options,
        &mut account,
        &mut writes,
        &mut seen,
    )?;
    sources(&named, &seen, &mut account);
    writes.apply(&mut target.graph)?;
    Ok(account)
}

/// The file's tensors under the target's names.
fn named<'t>(
    sight: &Sight<'_>,
    own: &[Unit],
    tensors: &'t [(String, Tensor)],
    options: &Options,
) -> Result<Vec<Named<'t>>, TransferError> {
    let renamed: Vec<String> = tensors.iter().map(|(name, _)| options.renamed(name)).collect();
    let wanted = places::wanted(sight, own);
    let shift = prefix::shift(&renamed, &wanted).map_err(|(first, second)| TransferError::Prefixes {
        first: first.to_string(),
        second: second.to_string(),
    })?;
    let mut known: BTreeMap<String, &str> = BTreeMap::new();
    let mut named = Vec::with_capacity(tensors.len());
    for ((original, tensor), name) in tensors.iter().zip(&renamed) {
        let name = shift.apply(name);
        if let Some(first) = known.insert(name.clone(), original) {
            return Err(TransferError::SameName {
                first: first.to_owned(),
                second: original.clone(),
                name,
            });
        }
        named.push(Named {
            name,
            original,
            tensor,
        });
    }
    Ok(named)
}

/// What of the file was used and refused, and the weights to write.
#[derive(Default)]
struct Seen {
    used: BTreeSet<String>,
    refused: BTreeMap<String, String>,
    adapted: Vec<(crate::ir::NodeId, Adapted)>,
}

/// The unit's weights in the account.
fn record(
    unit: &Unit,
    outcome: Outcome,
    place: Option<&places::Found>,
    options: &Options,
    account: &mut Account,
    seen: &mut Seen,
) {
    let start = account.weights.len();
    account
        .weights
        .extend(unit.parts.iter().map(|part| TargetWeight::of(part, &unit.name)));
    let weights = account.weights.get_mut(start..).unwrap_or_default();
    let left = |weights: &mut [TargetWeight], why: &str, spare: bool| {
        for weight in weights {
            weight.why = Some(why.to_owned());
            weight.spare = spare;
        }
    };
    match outcome {
        Outcome::Kept => left(weights, report::KEPT, true),
        Outcome::Alone if build::is_neutral(unit) => {
            left(
                weights,
                "the source has no weight of this name, and it changes nothing",
                true,
            );
        }
        Outcome::Alone => left(weights, "the source has no weight of this name", false),
        Outcome::Refused(reason) => {
            left(weights, &reason.to_string(), false);
            let why = format!("for {}: {reason}", unit.name);
            let stem = place.map(|place| place.stem.clone());
            let names = unit.parts.iter().map(|part| part.name.clone());
            seen.refused
                .extend(names.chain(stem).map(|name| (name, why.clone())));
        }
        Outcome::Unfit(built, refusal) => {
            left(weights, &refusal.to_string(), false);
            for name in built.all_names() {
                seen.refused
                    .insert(name.clone(), format!("for {}: {refusal}", unit.name));
            }
        }
        Outcome::Done(built, adapted) => {
            let how: Vec<String> = adapted.how.iter().map(|how| told(how, &built, options)).collect();
            let folded = adapted.how.contains(&Adaptation::Folded);
            for (at, (weight, part)) in weights.iter_mut().zip(&unit.parts).enumerate() {
                let own = built.unit.parts.iter().zip(&built.names);
                weight.from = match adapted.initialised {
                    true => Vec::new(),
                    false => own
                        .filter(|(own, _)| own.role == part.role || folded)
                        .flat_map(|(_, names)| names.iter().cloned())
                        .collect(),
                };
                weight.how.clone_from(&how);
                let given = adapted.tensors.iter().any(|(of, _)| *of == at);
                weight.fate = match (given, adapted.initialised, how.is_empty()) {
                    (false, ..) => Fate::Left,
                    (_, true, _) => Fate::Initialised,
                    (_, _, true) => Fate::Loaded,
                    _ => Fate::Adapted,
                };
            }
            seen.used.extend(built.all_names().cloned());
            seen.adapted.push((unit.node, adapted));
        }
    }
}

/// An adaptation in words; a folded normalisation with its name and what was taken for its epsilon, which no file has.
fn told(how: &Adaptation, built: &Built, options: &Options) -> String {
    if *how != Adaptation::Folded {
        return how.to_string();
    }
    let mean = built
        .unit
        .parts
        .iter()
        .position(|part| part.role == units::Role::Mean);
    let name = mean.and_then(|at| built.names.get(at)?.first());
    let name = name.map_or("", |name| layers::split(name).0.trim_end_matches('.'));
    format!("{how}: {name}, epsilon {}", options.epsilon)
}

/// Weights that bodies, functions and unknown operators read, by their whole names.
fn unread(
    target: &Model,
    own: &[Unit],
    named: &[Named<'_>],
    options: &Options,
    account: &mut Account,
    writes: &mut Writes,
    seen: &mut Seen,
) -> Result<(), TransferError> {
    for (name, tensor) in report::unread(target, own) {
        let mut weight = TargetWeight::unread(name, &tensor);
        weight.spare = options.keep.is_match(&weight.name);
        if let Some(found) = named.iter().find(|found| found.name == weight.name)
            && !weight.spare
            && found.tensor.dims() == tensor.dims()
            && found.tensor.dtype() == tensor.dtype()
            && let Some(value) = target.graph.find_value(&weight.name)
        {
            let slots = super::write::readers(&target.graph, value);
            if slots.len() == target.graph.use_count(value) {
                for (node, slot) in slots {
                    writes.slot(value, node, slot, found.tensor.reshaped(found.tensor.dims())?);
                }
                seen.used.insert(found.original.to_owned());
                weight.from = vec![found.original.to_owned()];
                weight.fate = Fate::Loaded;
                weight.why = None;
            }
        }
        account.weights.push(weight);
    }
    Ok(())
}

/// What became of the file's tensors.
fn sources(named: &[Named<'_>], seen: &Seen, account: &mut Account) {
    for entry in named {
        let used = seen.used.contains(entry.original);
        let twin = || {
            let mut others = named.iter().filter(|other| seen.used.contains(other.original));
            others.find(|other| other.tensor.elements() > 1 && other.tensor.same_as(entry.tensor))
        };
        let stem = layers::split(&entry.name).0;
        let refused = [entry.original, entry.name.as_str(), stem]
            .into_iter()
            .find_map(|name| seen.refused.get(name));
        let buffer = is_buffer(&entry.name, entry.tensor);
        let twin = match used || refused.is_some() || buffer {
            true => None,
            false => twin(),
        };
        account.source.push(SourceWeight {
            name: entry.original.to_owned(),
            dims: entry.tensor.dims().to_vec(),
            used,
            why: match (used, refused, twin) {
                (true, ..) => None,
                (_, Some(why), _) => Some(why.clone()),
                _ if buffer => Some("it is a buffer".to_owned()),
                (_, _, Some(twin)) => Some(format!("the same numbers as {}, which is used", twin.original)),
                _ => Some("the target has no weight of this name".to_owned()),
            },
            spare: buffer || twin.is_some(),
        });
    }
}
