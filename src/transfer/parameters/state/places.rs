//! Which layer of a state dict stands for which operator of the target.
//!
//! An operator's own weights count first, by name. A weight that several operators read has the name of only one of them, so there
//! the module that a node belongs to decides. A weight that the exporter has renamed is found by that module alone.

use std::collections::{BTreeMap, BTreeSet};

use super::attention::projection;
use super::build::Reason;
use super::gates;
use super::layers::{Layer, Layers, is_batch_norm, split};
use crate::ir::{Graph, Tensor, ValueId};
use crate::transfer::matching::Network;
use crate::transfer::modules;
use crate::transfer::units::{Kind, Part, Role, Unit, output_channels, squeezed};

/// The layer that stands for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its stem.
    pub(super) stem: String,
    /// Rows of a packed projection.
    pub(super) rows: Option<(u64, u64)>,
    /// The stem of the bias, where it is another one.
    pub(super) bias_stem: Option<String>,
    /// The layer of a stacked recurrent network.
    pub(super) level: usize,
    /// Whether the weight is that of another operator, as the target has the same numbers in both.
    pub(super) tied: bool,
}

impl Found {
    fn of(stem: &str) -> Self {
        Self {
            stem: stem.to_owned(),
            rows: None,
            bias_stem: None,
            level: 0,
            tied: false,
        }
    }
}

/// What names are looked for in.
pub(super) struct Sight<'a> {
    pub(super) graph: &'a Graph,
    /// Constants that more than one unit reads.
    pub(super) shared: &'a BTreeSet<ValueId>,
    /// Whether the modules of nodes count, and not only the names of weights.
    pub(super) paths: bool,
}

/// Constants that more than one unit reads.
pub(super) fn shared(units: &[Unit]) -> BTreeSet<ValueId> {
    let mut readers: BTreeMap<ValueId, usize> = BTreeMap::new();
    for unit in units {
        let own: BTreeSet<ValueId> = unit.parts.iter().map(|part| part.constant).collect();
        own.into_iter()
            .for_each(|value| *readers.entry(value).or_default() += 1);
    }
    let several = readers.into_iter().filter(|(_, count)| *count > 1);
    several.map(|(value, _)| value).collect()
}

fn is_of_norm(unit: &Unit, part: &Part) -> bool {
    unit.kind != Kind::BatchNorm
        && unit.normalised()
        && matches!(
            part.role,
            Role::Scale | Role::Offset | Role::Mean | Role::Variance
        )
}

/// Stems that may stand for some parts of a unit, the likeliest first.
fn stems(sight: &Sight<'_>, unit: &Unit, norm: bool) -> Vec<String> {
    let (graph, shared) = (sight.graph, sight.shared);
    let own = move || {
        unit.parts
            .iter()
            .filter(move |part| is_of_norm(unit, part) == norm)
    };
    let names = |among: bool| {
        own()
            .filter(move |part| shared.contains(&part.constant) == among)
            .map(|part| split(&part.name).0.to_owned())
    };
    let nodes: BTreeSet<_> = own().map(|part| part.node).collect();
    let first = (!norm).then_some(unit.node);
    let paths = first
        .into_iter()
        .chain(nodes)
        .filter(|_| sight.paths)
        .flat_map(|node| modules::of_node(graph, node))
        .flat_map(|module| [format!("{module}."), format!("{module}.in_proj_")]);
    let mut stems: Vec<String> = Vec::new();
    for stem in names(false).chain(paths).chain(names(true)) {
        if !stems.contains(&stem) {
            stems.push(stem);
        }
    }
    stems
}

/// Stems by unit, for the comparison of both sides' names.
pub(super) fn wanted(sight: &Sight<'_>, units: &[Unit]) -> Vec<Vec<String>> {
    units.iter().map(|unit| stems(sight, unit, false)).collect()
}

fn rank(layer: &Layer, word: &str) -> usize {
    layer.get(word).map_or(0, |item| item.tensor.rank())
}

/// Whether a layer may have the weights of a unit.
fn is_like(layer: &Layer, unit: &Unit) -> bool {
    match &unit.kind {
        Kind::Linear | Kind::Transposed | Kind::Embedding => rank(layer, "weight").max(rank(layer, "")) >= 2,
        Kind::BatchNorm => is_batch_norm(layer),
        Kind::Norm(_) => {
            let scale = layer.get("weight").or(layer.get(""));
            let own = unit.part(Role::Scale);
            !is_batch_norm(layer)
                && scale
                    .zip(own)
                    .is_some_and(|(scale, own)| squeezed(scale.tensor.dims()) == squeezed(own.tensor.dims()))
        }
        Kind::Recurrent(_) => layer.contains_key("weight_ih_l0"),
        Kind::Constant(_) => layer.contains_key(""),
    }
}

/// The layer of each unit, or why it has none where there is more to say than that.
pub(super) fn find(
    sight: &Sight<'_>,
    units: &[Unit],
    network: &Network<'_>,
    layers: &Layers,
) -> Vec<Result<Found, Option<Reason>>> {
    let mut found: Vec<Result<Found, Option<Reason>>> =
        units.iter().map(|unit| one(sight, unit, layers)).collect();
    stacks(units, network, layers, &mut found);
    contested(units, layers, &mut found);
    tied(units, &mut found);
    for (unit, place) in units.iter().zip(&mut found) {
        // Some weights of an operator have a counterpart, and the one that says which layer it is has none.
        let there = |part: &&Part| layers.item(&part.name).is_some();
        if matches!(place, Err(None))
            && unit.parts.iter().any(|part| there(&part))
            && let Some(lacking) = unit.parts.iter().find(|part| !there(part))
        {
            *place = Err(Some(Reason::Counterpart(lacking.name.clone())));
        }
    }
    found
}

fn one(sight: &Sight<'_>, unit: &Unit, layers: &Layers) -> Result<Found, Option<Reason>> {
    for stem in stems(sight, unit, false) {
        let Some(layer) = layers.get(&stem) else {
            continue;
        };
        if let Some(module) = stem.strip_suffix("in_proj_") {
            if unit.kind == Kind::Linear {
                return packed(sight.graph, unit, module, &stem, layers);
            }
        } else if is_like(layer, unit) {
            return Ok(Found::of(&stem));
        }
    }
    if sight.paths && matches!(unit.kind, Kind::Constant(_)) {
        return parameter(sight.graph, unit, layers).ok_or(None);
    }
    Err(None)
}

/// A projection of an attention whose weights are in one tensor for query, key and value.
fn packed(
    graph: &Graph,
    unit: &Unit,
    module: &str,
    stem: &str,
    layers: &Layers,
) -> Result<Found, Option<Reason>> {
    let outputs = output_channels(unit);
    let role = projection(graph, unit.output);
    let weight = layers.get(stem).and_then(|layer| layer.get("weight"));
    let Some(weight) = weight else {
        // Query, key and value of different widths have weights of their own and one bias.
        let (place, letter) = role.ok_or(Some(Reason::Projections(stem.to_owned())))?.place();
        let own = format!("{module}{letter}_proj_");
        if layers.get(&own).is_none() {
            return Err(None);
        }
        return Ok(Found {
            bias_stem: Some(stem.to_owned()),
            rows: Some((place * outputs, (place + 1) * outputs)),
            ..Found::of(&own)
        });
    };
    let rows = weight.tensor.dims().first().copied().unwrap_or(0);
    let width = rows / 3;
    let out = format!("{module}out_proj.");
    let some = |from: u64, to: u64| {
        Ok(Found {
            rows: Some((from, to)),
            ..Found::of(stem)
        })
    };
    match role {
        _ if outputs == rows => Ok(Found::of(stem)),
        // Key and value read the same, the query something else.
        _ if outputs == 2 * width => some(width, rows),
        Some(role) if outputs == width => {
            let (place, _) = role.place();
            some(place * width, (place + 1) * width)
        }
        None if layers.get(&out).is_some() && reads_attention(graph, unit) => Ok(Found::of(&out)),
        _ => Err(Some(Reason::Projections(stem.to_owned()))),
    }
}

/// Whether a product reads what an attention gives: its weighted values, in another form.
fn reads_attention(graph: &Graph, unit: &Unit) -> bool {
    const BOUND: usize = 8;
    let mut value = graph.input(unit.node, 0);
    for _ in 0..BOUND {
        let Some(operator) = value.and_then(|value| graph.operator(value.node)) else {
            return false;
        };
        let node = value.map(|value| value.node);
        if operator.is("MatMul") || operator.op_type.ends_with("Attention") {
            return node
                .and_then(|node| graph.input(node, 1))
                .is_some_and(|second| graph.constant(second).is_none());
        }
        value = node.and_then(|node| graph.input(node, 0));
    }
    false
}

/// The only parameter of the module of a constant's reader that has the constant's form.
fn parameter(graph: &Graph, unit: &Unit, layers: &Layers) -> Option<Found> {
    let part = unit.parts.first()?;
    for module in modules::of_node(graph, unit.node) {
        let fits: Vec<&str> = layers
            .iter()
            .filter(|(stem, layer)| {
                let inside = stem
                    .strip_prefix(module.as_str())
                    .and_then(|rest| rest.strip_prefix('.'));
                inside.is_some_and(|word| !word.contains('.'))
                    && layer.get("").is_some_and(|item| {
                        item.tensor.dtype().is_float()
                            && squeezed(item.tensor.dims()) == squeezed(part.tensor.dims())
                    })
            })
            .map(|(stem, _)| stem)
            .collect();
        if let [only] = fits.as_slice() {
            return Some(Found::of(only));
        }
    }
    None
}

/// Layers of stacked recurrent networks are numbered in the order in which the data passes them.
fn stacks(
    units: &[Unit],
    network: &Network<'_>,
    layers: &Layers,
    found: &mut [Result<Found, Option<Reason>>],
) {
    let mut stacks: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, unit) in units.iter().enumerate() {
        if let (Kind::Recurrent(_), Some(Ok(place))) = (&unit.kind, found.get(at)) {
            stacks.entry(place.stem.clone()).or_default().push(at);
        }
    }
    for (stem, members) in stacks {
        let depth = layers.get(&stem).map_or(0, gates::depth);
        let chained = members
            .iter()
            .zip(members.iter().skip(1))
            .all(|(before, behind)| network.feeds(*before, *behind));
        for (level, at) in members.iter().enumerate() {
            let Some(place) = found.get_mut(*at) else { continue };
            *place = match (depth == members.len() && chained, place.clone()) {
                (true, Ok(place)) => Ok(Found { level, ..place }),
                _ => Err(Some(Reason::Stack {
                    stem: stem.clone(),
                    layers: depth,
                    operators: members.len(),
                })),
            };
        }
    }
}

/// One layer for operators with different weights is for none of them, but for the one that has its name.
fn contested(units: &[Unit], layers: &Layers, found: &mut [Result<Found, Option<Reason>>]) {
    let mut claims: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (at, place) in found.iter().enumerate() {
        if let Ok(place) = place {
            let key = (place.stem.clone(), place.rows, place.level);
            claims.entry(key).or_default().push(at);
        }
    }
    for ((stem, ..), members) in claims {
        let weight = |at: usize| units.get(at).and_then(|unit| unit.parts.first());
        let Some(first) = members.first().and_then(|at| weight(*at)) else {
            continue;
        };
        let alike = |at: &usize| weight(*at).is_some_and(|part| same_numbers(first, part));
        if members.iter().all(alike) {
            continue;
        }
        let named = |at: usize| weight(at).is_some_and(|part| layers.item(&part.name).is_some());
        let by_name = members.iter().filter(|at| named(**at)).count();
        for at in members {
            if by_name == 1 && named(at) {
                continue;
            }
            if let Some(place) = found.get_mut(at) {
                *place = Err(Some(Reason::Contested(stem.clone())));
            }
        }
    }
}

/// Tables and matrices without a layer whose numbers in the target are those of another operator: both read one parameter.
fn tied(units: &[Unit], found: &mut [Result<Found, Option<Reason>>]) {
    let may_be = |unit: &Unit| matches!(unit.kind, Kind::Linear | Kind::Embedding);
    for (at, unit) in units.iter().enumerate() {
        if !matches!(found.get(at), Some(Err(None))) || !may_be(unit) {
            continue;
        }
        let Some(part) = unit.part(Role::Weight).filter(|part| tells(&part.tensor)) else {
            continue;
        };
        let other = units.iter().zip(found.iter()).find_map(|(other, place)| {
            let place = place.as_ref().ok().filter(|_| may_be(other))?;
            let own = other.part(Role::Weight)?;
            (place.rows.is_none() && !other.normalised() && same_numbers(own, part)).then(|| place.clone())
        });
        if let (Some(other), Some(slot)) = (other, found.get_mut(at)) {
            *slot = Ok(Found { tied: true, ..other });
        }
    }
}

/// Whether numbers are of the kind that no two weights have by chance.
fn tells(tensor: &Tensor) -> bool {
    tensor.to_f64().is_ok_and(|values| {
        values
            .iter()
            .zip(values.iter().skip(1))
            .filter(|(a, b)| a != b)
            .count()
            > 8
    })
}

/// Whether two weights hold the same numbers, one of them transposed or not.
pub(super) fn same_numbers(a: &Part, b: &Part) -> bool {
    if a.constant == b.constant {
        return true;
    }
    if a.tensor.dtype() != b.tensor.dtype() || a.tensor.elements() != b.tensor.elements() {
        return false;
    }
    if a.layout.transposed == b.layout.transposed {
        return a.tensor.same_as(&b.tensor);
    }
    let (da, db) = (a.tensor.dims(), b.tensor.dims());
    let (&[rows, columns], true) = (da, da.iter().rev().eq(db)) else {
        return false;
    };
    let (Ok(x), Ok(y)) = (a.tensor.to_f64(), b.tensor.to_f64()) else {
        return false;
    };
    let (rows, columns) = (rows as usize, columns as usize);
    (0..rows * columns).all(|at| x.get(at) == y.get(at % columns.max(1) * rows + at / columns.max(1)))
}

/// The layer of the batch normalisation that a linear unit has in the target.
pub(super) fn own_norm(sight: &Sight<'_>, unit: &Unit, layers: &Layers) -> Option<String> {
    stems(sight, unit, unit.normalised())
        .into_iter()
        .find(|stem| layers.get(stem).is_some_and(is_batch_norm))
}
