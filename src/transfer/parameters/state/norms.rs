//! Batch normalisations that the target has folded into the weights before them.
//!
//! The target has no node of them, so names and places say where they belong: an exporter's scope, a pair that the user gives, the only
//! open convolution of the module, or the order in which both stand. Evidence that disagrees is no evidence: then neither is loaded.

use std::collections::{BTreeMap, BTreeSet};

use super::build::Reason;
use super::layers::{Layers, is_batch_norm};
use super::places::{Found, Sight, own_norm};
use crate::transfer::units::{Kind, Role, Unit, output_channels};

/// What is known of the normalisation of each unit.
#[derive(Debug, Default)]
pub(super) struct Assigned {
    /// The stem of the normalisation by unit.
    pub(super) norms: BTreeMap<usize, String>,
    /// Units that may have one, and it cannot be told which.
    pub(super) blocked: BTreeMap<usize, Reason>,
}

/// A linear unit that may have had a normalisation behind it.
struct Open {
    at: usize,
    stem: String,
    outputs: u64,
    /// The target has a bias and the source has none: something was folded in.
    definite: bool,
}

/// Finds the normalisation of every linear unit. `given` are pairs of the user, by names of modules.
///
/// # Errors
/// A given pair of which one is not there.
pub(super) fn assign(
    sight: &Sight<'_>,
    units: &[Unit],
    found: &[Result<Found, Option<Reason>>],
    layers: &Layers,
    given: &BTreeMap<String, String>,
) -> Result<Assigned, Reason> {
    let mut assigned = Assigned::default();
    let mut open_units: Vec<Open> = Vec::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (at, (unit, place)) in units.iter().zip(found).enumerate() {
        let Ok(place) = place else { continue };
        if unit.kind == Kind::BatchNorm {
            taken.insert(place.stem.clone());
        }
        if !matches!(unit.kind, Kind::Linear | Kind::Transposed) {
            continue;
        }
        if let Some(norm) = own_norm(sight, unit, layers) {
            taken.insert(norm.clone());
            assigned.norms.insert(at, norm);
        } else if !unit.normalised() && unit.part(Role::Bias).is_some() {
            open_units.push(Open {
                at,
                stem: place.stem.clone(),
                outputs: output_channels(unit),
                definite: layers
                    .get(&place.stem)
                    .is_some_and(|layer| !layer.contains_key("bias")),
            });
        }
    }
    for (module, norm) in given {
        let (module, norm) = (format!("{module}."), format!("{norm}."));
        let unit = open_units.iter().position(|open| open.stem == module);
        match (unit, layers.get(&norm).is_some_and(is_batch_norm)) {
            (Some(position), true) => {
                let open = open_units.remove(position);
                taken.insert(norm.clone());
                assigned.norms.insert(open.at, norm);
            }
            (None, _) => return Err(Reason::NoLayer(module)),
            (_, false) => return Err(Reason::NoLayer(norm)),
        }
    }
    let open_norms: Vec<&str> = layers
        .norms()
        .into_iter()
        .filter(|norm| !taken.contains(*norm))
        .collect();
    let mut modules: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for norm in open_norms {
        modules.entry(parent(norm)).or_default().push(norm);
    }
    for (module, norms) in modules {
        settle(module, norms, &open_units, layers, &mut assigned);
    }
    Ok(assigned)
}

fn parent(stem: &str) -> &str {
    let name = stem.trim_end_matches('.');
    name.rfind('.').map_or("", |dot| name.get(..dot).unwrap_or(""))
}

fn last(stem: &str) -> &str {
    let name = stem.trim_end_matches('.');
    name.rsplit('.').next().unwrap_or(name)
}

fn features(layers: &Layers, norm: &str) -> u64 {
    let mean = layers.get(norm).and_then(|layer| layer.get("running_mean"));
    mean.map_or(0, |item| item.tensor.elements())
}

/// Pairs the open normalisations of one module with the open units beside them or, where there are none, below or above.
fn settle(module: &str, mut norms: Vec<&str>, units: &[Open], layers: &Layers, assigned: &mut Assigned) {
    norms.sort_by_key(|norm| natural(last(norm)));
    let sizes: BTreeSet<u64> = norms.iter().map(|norm| features(layers, norm)).collect();
    let free = |open: &&Open| !assigned.norms.contains_key(&open.at) && sizes.contains(&open.outputs);
    let beside: Vec<&Open> = units
        .iter()
        .filter(free)
        .filter(|open| parent(&open.stem) == module)
        .collect();
    let members = match beside.is_empty() {
        false => beside,
        true => {
            let inside = |scope: &str| -> Vec<&Open> {
                let within = |open: &&Open| {
                    scope.is_empty()
                        || open
                            .stem
                            .strip_prefix(scope)
                            .is_some_and(|rest| rest.starts_with('.'))
                };
                let open = units.iter().filter(free).filter(within);
                open.filter(|open| open.definite).collect()
            };
            match inside(module) {
                below if !below.is_empty() => below,
                _ => inside(parent(module)),
            }
        }
    };
    let definite: Vec<&Open> = members.iter().copied().filter(|open| open.definite).collect();
    let by_order = |chosen: &[&Open]| -> Option<Vec<(usize, String)>> {
        let fits = chosen.len() == norms.len()
            && chosen.iter().zip(&norms).all(|(open, norm)| {
                let better = |other: &&Open| follows(last(&other.stem), last(norm));
                open.outputs == features(layers, norm)
                    && (follows(last(&open.stem), last(norm)) || !chosen.iter().any(better))
            });
        let pairs = chosen.iter().zip(&norms);
        fits.then(|| pairs.map(|(open, norm)| (open.at, (*norm).to_owned())).collect())
    };
    let pairs = match definite.len() == norms.len() {
        true => by_order(&definite),
        false => by_order(&members).or_else(|| by_name(&members, &norms, layers)),
    };
    match pairs {
        Some(pairs) => assigned.norms.extend(pairs),
        None => {
            let names: Vec<String> = norms
                .iter()
                .map(|norm| norm.trim_end_matches('.').to_owned())
                .collect();
            for open in members {
                assigned.blocked.insert(
                    open.at,
                    Reason::Norms {
                        layer: open.stem.trim_end_matches('.').to_owned(),
                        norms: names.join(", "),
                    },
                );
            }
        }
    }
}

/// Pairs by names alone: each normalisation follows exactly one unit, and none that needs one is left over.
fn by_name(members: &[&Open], norms: &[&str], layers: &Layers) -> Option<Vec<(usize, String)>> {
    let mut pairs = Vec::new();
    let mut used = BTreeSet::new();
    for norm in norms {
        let fits =
            |open: &&&Open| open.outputs == features(layers, norm) && follows(last(&open.stem), last(norm));
        let found: Vec<&&Open> = members.iter().filter(fits).collect();
        let [only] = found.as_slice() else { return None };
        used.insert(only.at).then_some(())?;
        pairs.push((only.at, (*norm).to_owned()));
    }
    let all = members
        .iter()
        .filter(|open| open.definite)
        .all(|open| used.contains(&open.at));
    all.then_some(pairs)
}

/// Whether names of two modules of one parent say that the second normalises what the first gives: `0` and `1` of a sequence, `conv1` and `bn1`.
fn follows(layer: &str, norm: &str) -> bool {
    if let (Ok(layer), Ok(norm)) = (layer.parse::<u64>(), norm.parse::<u64>()) {
        return layer + 1 == norm;
    }
    let digits = |name: &str| {
        let start = name
            .trim_end_matches(|letter: char| letter.is_ascii_digit())
            .len();
        (
            name.get(..start).unwrap_or("").to_owned(),
            name.get(start..).unwrap_or("").to_owned(),
        )
    };
    let ((word, number), (other, of_norm)) = (digits(layer), digits(norm));
    number == of_norm && word != other && (other.contains("bn") || other.contains("norm"))
}

/// Words and numbers of a name, so that 10 comes behind 9.
fn natural(name: &str) -> (String, u64) {
    let start = name
        .trim_end_matches(|letter: char| letter.is_ascii_digit())
        .len();
    let number = name.get(start..).unwrap_or("");
    (
        name.get(..start).unwrap_or("").to_owned(),
        number.parse().unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_layer_and_its_normalisation_go_together() {
        for (layer, norm, together) in [
            ("conv1", "bn1", true),
            ("conv1", "norm2", false),
            ("conv", "bn", true),
            ("0", "1", true),
            ("0", "2", false),
            ("conv1", "conv1", false),
        ] {
            assert_eq!(follows(layer, norm), together, "{layer} {norm}");
        }
        assert!(natural("bn10") > natural("bn9"));
    }
}
