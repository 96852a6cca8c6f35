//! Weights of one model in another one, with an account of every weight.
//!
//! [`from_model`] pairs the units of both models by names or by structure; [`state`] takes weights from a file that has names
//! alone. [`report`] is the account, [`write`] puts the new tensors into the graph.

mod report;
mod state;
pub(super) mod write;

use std::collections::{BTreeMap, BTreeSet};

use regex::{Regex, RegexSet};

use super::adapt::{Adapted, Adapter, Place, Refusal, Rules, adapt};
use super::matching::{How, Network, by_structure};
use super::units::{self, Unit};
use crate::ir::{EditError, Model, Tensor, TensorError, ValueId};

pub use report::{Account, Fate, SourceWeight, TargetWeight};
pub use state::from_tensors;
pub use write::Writes;

/// What PyTorch's batch normalisations add to the variance by default.
pub const EPSILON: f64 = 1e-5;

/// How weights are paired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matching {
    /// By name.
    Name,
    /// By what the operators compute and where they are.
    Structure,
    /// By name where all of the target's units are found by name in the same form, else by structure.
    Auto,
}

/// What to transfer, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// How weights are paired.
    pub matching: Matching,
    /// Patterns and replacements, applied to the source's names in order.
    pub rename: Vec<(Regex, String)>,
    /// What may be done to weights.
    pub rules: Rules,
    /// Names of operators and weights of the target that stay as they are.
    pub keep: RegexSet,
    /// Layers of a file of tensors and the batch normalisations that the target has folded into them.
    pub norms: BTreeMap<String, String>,
    /// What such a normalisation adds to the variance: a file does not say it.
    pub epsilon: f64,
}

impl Options {
    fn keeps(&self, unit: &Unit) -> bool {
        self.keep.is_match(&unit.name) || unit.parts.iter().any(|part| self.keep.is_match(&part.name))
    }

    fn renamed(&self, name: &str) -> String {
        self.rename.iter().fold(name.to_owned(), |name, (pattern, by)| {
            pattern.replace_all(&name, by.as_str()).into_owned()
        })
    }
}

/// Why nothing could be transferred.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The target has no weights that an operator of the main graph reads.
    #[error("the target has no weights in its main graph")]
    NoWeights,
    /// Two names become one.
    #[error("{first:?} and {second:?} of the source are both renamed to {name:?}")]
    SameName {
        /// A name in the source.
        first: String,
        /// Another one.
        second: String,
        /// What both become.
        name: String,
    },
    /// Two ways to bring the names together.
    #[error(
        "names of the source fit with {first} as well as with {second}; `rename` says which part is meant"
    )]
    Prefixes {
        /// One of them.
        first: String,
        /// The other one.
        second: String,
    },
    /// A rule that is for nothing.
    #[error("{pattern:?} matches no name of the source; one is {example:?}")]
    Unmatched {
        /// The regular expression.
        pattern: String,
        /// A name that there is.
        example: String,
    },
    /// Normalisations given by the user.
    #[error("batch-norm: {0}")]
    Norms(String),
    /// A number that is none.
    #[error("{name:?} of the source holds {found} at element {at}")]
    NotFinite {
        /// The tensor.
        name: String,
        /// What it holds.
        found: f64,
        /// Where.
        at: usize,
    },
    /// Elements cannot be read.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// An edit broke a law of the IR.
    #[error("{0}; this is a defect of secateur, please report it with the model")]
    Edit(#[from] EditError),
}

/// Refuses rules of which one matches none of the names that those before it leave.
pub fn check_rename(
    rename: &[(Regex, String)],
    names: impl IntoIterator<Item = String>,
) -> Result<(), TransferError> {
    let mut names: Vec<String> = names.into_iter().collect();
    for (pattern, by) in rename {
        if !names.iter().any(|name| pattern.is_match(name)) {
            return Err(TransferError::Unmatched {
                pattern: pattern.to_string(),
                example: names.first().cloned().unwrap_or_default(),
            });
        }
        for name in &mut names {
            *name = pattern.replace_all(name, by.as_str()).into_owned();
        }
    }
    Ok(())
}

/// Refuses a weight with a number that is none; a buffer may hold infinities, as masks do.
pub(super) fn finite(name: &str, tensor: &Tensor, buffer: bool) -> Result<(), TransferError> {
    if !tensor.dtype().is_float() {
        return Ok(());
    }
    let wrong = |value: &f64| value.is_nan() || value.is_infinite() && !buffer;
    let values = tensor.to_f64()?;
    match values.iter().position(wrong) {
        Some(at) => Err(TransferError::NotFinite {
            name: name.to_owned(),
            found: values.get(at).copied().unwrap_or(f64::NAN),
            at,
        }),
        None => Ok(()),
    }
}

/// Why a unit of the target has not got the weights of one of the source.
#[derive(Clone, Debug, PartialEq)]
enum Missed {
    /// Nothing in the source is like it.
    Alone,
    /// It is to stay as it is.
    Kept,
    /// The pair does not fit.
    Refused { from: usize, refusal: Refusal },
}

/// Puts the weights of `source` into `target`. Types of both must be inferred. Weights that are computed from constants count
/// as missing: folding comes first.
pub fn from_model(target: &mut Model, source: &Model, options: &Options) -> Result<Account, TransferError> {
    let (own, other) = (units::find(&target.graph), units::find(&source.graph));
    if own.is_empty() {
        return Err(TransferError::NoWeights);
    }
    for part in other.iter().flat_map(|unit| &unit.parts) {
        finite(&part.name, &part.tensor, false)?;
    }
    let names = by_name(&other, &own, options)?;
    let agree = || {
        names.iter().zip(&own).all(|(pair, unit)| {
            pair.and_then(|from| other.get(from)).is_some_and(|from| {
                from.kind == unit.kind && from.dims() == unit.dims() && from.normalised() == unit.normalised()
            })
        })
    };
    let network = Network::new(&target.graph, &own);
    let (matching, pairs) = match options.matching {
        Matching::Name => (Matching::Name, by(names, How::Place)),
        Matching::Auto if !options.rename.is_empty() || agree() => (Matching::Name, by(names, How::Place)),
        Matching::Auto | Matching::Structure => {
            let from = Network::new(&source.graph, &other);
            (Matching::Structure, by_structure(&from, &network))
        }
    };
    let mut results: Vec<Result<(usize, How, Adapted), Missed>> = Vec::with_capacity(own.len());
    for (at, (pair, unit)) in pairs.iter().zip(&own).enumerate() {
        let place = Place {
            stem: network.is_stem(at),
            head: network.is_head(at),
        };
        if options.keeps(unit) {
            results.push(Err(Missed::Kept));
            continue;
        }
        results.push(
            match pair.and_then(|(from, how)| Some((from, how, other.get(from)?))) {
                None => Err(Missed::Alone),
                Some((from, how, unit_of_source)) if unit_of_source.kind == unit.kind => {
                    match adapt(unit_of_source, unit, place, &options.rules) {
                        Ok(adapted) => Ok((from, how, adapted)),
                        Err(refusal) => Err(Missed::Refused { from, refusal }),
                    }
                }
                Some(_) => Err(Missed::Alone),
            },
        );
    }
    let mut account = account(target, source, &own, &other, &results, matching);
    excuse(&mut account, target, source, options);
    account.narrower = is_narrower(&own, &other);
    let mut writes = write::Writes::default();
    for (unit, result) in own.iter().zip(results) {
        if let Ok((_, _, adapted)) = result {
            writes.add(unit, adapted);
        }
    }
    writes.apply(&mut target.graph)?;
    Ok(account)
}

/// Marks what is left though nothing is missing: what `keep` protects, and numbers that both models have already.
fn excuse(account: &mut Account, target: &Model, source: &Model, options: &Options) {
    const SAME: &str = "both models have the same numbers";
    let constants = |model: &Model| -> BTreeMap<String, Tensor> {
        let mut found = BTreeMap::new();
        for path in model.graph_paths() {
            let Some(graph) = model.graph_at(&path) else {
                continue;
            };
            for id in graph.node_ids() {
                let value = ValueId::new(id, 0);
                if let (Some(tensor), Some(known)) = (graph.constant(value), graph.value(value)) {
                    found.insert(known.name.to_string(), tensor.clone());
                }
            }
        }
        found
    };
    let (own, other) = (constants(target), constants(source));
    // Ones and zeros are alike everywhere: they count under the same name alone.
    let tells = |tensor: &Tensor| {
        tensor
            .to_f64()
            .is_ok_and(|values| values.iter().any(|value| Some(value) != values.first()))
    };
    let among = |all: &BTreeMap<String, Tensor>, name: &str, tensor: Option<&Tensor>| {
        tensor.is_some_and(|tensor| {
            all.get(name).is_some_and(|known| known.same_as(tensor))
                || tells(tensor) && all.values().any(|known| known.same_as(tensor))
        })
    };
    for weight in account
        .weights
        .iter_mut()
        .filter(|weight| weight.fate == Fate::Left)
    {
        if options.keep.is_match(&weight.name) {
            weight.spare = true;
        } else if !weight.spare && among(&other, &weight.name, own.get(&weight.name)) {
            weight.spare = true;
            weight.why = Some(SAME.to_owned());
        }
    }
    for weight in account.source.iter_mut().filter(|weight| !weight.used) {
        if among(&own, &weight.name, other.get(&weight.name)) {
            weight.spare = true;
            weight.why = Some(SAME.to_owned());
        }
    }
}

/// Whether the units of the target are those of the source, and none is wider and some are narrower.
fn is_narrower(target: &[Unit], source: &[Unit]) -> bool {
    let pairs = || target.iter().zip(source);
    let fits = |(own, other): (&Unit, &Unit)| {
        let (a, b) = (own.dims(), other.dims());
        own.kind == other.kind && a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a <= b)
    };
    target.len() == source.len()
        && pairs().all(fits)
        && pairs().any(|(own, other)| own.dims() != other.dims())
}

fn by(pairs: Vec<Option<usize>>, how: How) -> Vec<Option<(usize, How)>> {
    pairs
        .into_iter()
        .map(|pair| pair.map(|from| (from, how)))
        .collect()
}

/// For each unit of the target the one of the source whose weights have the same names, or whose first weight has if that is
/// the only one.
fn by_name(source: &[Unit], target: &[Unit], options: &Options) -> Result<Vec<Option<usize>>, TransferError> {
    let mut origin: BTreeMap<String, String> = BTreeMap::new();
    let mut whole: BTreeMap<Vec<String>, Vec<usize>> = BTreeMap::new();
    let mut first: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, unit) in source.iter().enumerate() {
        let mut names = Vec::with_capacity(unit.parts.len());
        for part in &unit.parts {
            let name = options.renamed(&part.name);
            if let Some(known) = origin.insert(name.clone(), part.name.clone())
                && known != part.name
            {
                return Err(TransferError::SameName {
                    first: known,
                    second: part.name.clone(),
                    name,
                });
            }
            names.push(name);
        }
        if let Some(name) = names.first().filter(|name| !name.is_empty()) {
            first.entry(name.clone()).or_default().push(at);
        }
        whole.entry(names).or_default().push(at);
    }
    let only = |found: Option<&Vec<usize>>| match found.map(Vec::as_slice) {
        Some([at]) => Some(*at),
        _ => None,
    };
    Ok(target
        .iter()
        .map(|unit| {
            let names: Vec<String> = unit.parts.iter().map(|part| part.name.clone()).collect();
            only(whole.get(&names)).or_else(|| only(first.get(names.first()?)))
        })
        .collect())
}

fn account(
    target: &Model,
    from: &Model,
    own: &[Unit],
    other: &[Unit],
    results: &[Result<(usize, How, Adapted), Missed>],
    matching: Matching,
) -> Account {
    let mut weights = Vec::new();
    let mut used: BTreeSet<usize> = BTreeSet::new();
    let mut refused: BTreeMap<usize, String> = BTreeMap::new();
    for (unit, result) in own.iter().zip(results) {
        for (at, part) in unit.parts.iter().enumerate() {
            let mut weight = TargetWeight::of(part, &unit.name);
            match result {
                Ok((from, how, adapted)) => {
                    used.insert(*from);
                    let names = other.get(*from).into_iter().flat_map(|unit| &unit.parts);
                    let folded = adapted.how.iter().any(|how| how.adapter() == Adapter::BatchNorm);
                    let same = |own: &&units::Part| own.role == part.role || folded;
                    weight.from = match adapted.initialised {
                        true => Vec::new(),
                        false => names.filter(same).map(|own| own.name.clone()).collect(),
                    };
                    weight.how = adapted.how.iter().map(ToString::to_string).collect();
                    weight.by_order = *how == How::Order;
                    let given = adapted.tensors.iter().any(|(of, _)| *of == at);
                    weight.fate = match (given, adapted.initialised, adapted.how.is_empty()) {
                        (false, ..) => Fate::Left,
                        (_, true, _) => Fate::Initialised,
                        (_, _, true) => Fate::Loaded,
                        _ => Fate::Adapted,
                    };
                }
                Err(Missed::Alone) => weight.why = Some("nothing in the source is like it".to_owned()),
                Err(Missed::Kept) => {
                    weight.why = Some(report::KEPT.to_owned());
                    weight.spare = true;
                }
                Err(Missed::Refused { from, refusal }) => {
                    weight.why = Some(refusal.to_string());
                    refused.insert(*from, format!("for {}: {refusal}", unit.name));
                }
            }
            weights.push(weight);
        }
    }
    for (name, tensor) in report::unread(target, own) {
        weights.push(TargetWeight::unread(name, &tensor));
    }
    let mut source = Vec::new();
    for (at, unit) in other.iter().enumerate() {
        for part in &unit.parts {
            source.push(SourceWeight {
                name: part.name.clone(),
                dims: part.tensor.dims().to_vec(),
                used: used.contains(&at),
                why: match (used.contains(&at), refused.get(&at)) {
                    (true, _) => None,
                    (false, Some(why)) => Some(why.clone()),
                    (false, None) => Some("nothing in the target is like it".to_owned()),
                },
                spare: false,
            });
        }
    }
    for (name, tensor) in report::unread(from, other) {
        source.push(SourceWeight {
            name,
            dims: tensor.dims().to_vec(),
            used: false,
            why: Some(report::UNREAD.to_owned()),
            spare: false,
        });
    }
    Account {
        by_structure: matching == Matching::Structure,
        weights,
        source,
        narrower: false,
    }
}
