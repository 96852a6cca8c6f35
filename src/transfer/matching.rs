//! Which unit of one model is which of another, without names.
//!
//! Units are compared by what they compute and by the units before and behind them, refined until nothing changes (the colours
//! of Weisfeiler and Leman, 1968). Units that stay alike are paired in topological order, one at a time, refining after each.
//! What then has no partner, as the models are not the same all over, is aligned in topological order (Needleman and Wunsch,
//! 1970) by operator and shape, and by how alike the numbers are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::units::{Kind, Role, Unit, squeezed};
use crate::ir::{Graph, NodeId, NodeKind, Slot, ValueId};

/// Where a value is combined with another one: the operator and the slot, for operators whose operands are not alike.
type Combination = Option<(&'static str, u32)>;

/// The first and the last combination on the way.
type Marker = (Combination, Combination);

/// Units and how data flows between them.
pub struct Network<'u> {
    units: &'u [Unit],
    before: Vec<BTreeSet<(usize, Marker)>>,
    behind: Vec<BTreeSet<(usize, Marker)>>,
    /// Whether data of the graph's inputs comes without passing another unit.
    first: Vec<bool>,
    /// The ways on which results get to the graph's outputs without passing another unit.
    last: Vec<BTreeSet<Marker>>,
}

/// Operators whose slots are not alike.
const ORDERED: [&str; 4] = ["MatMul", "Concat", "Sub", "Attention"];

impl<'u> Network<'u> {
    /// The flow between the units of a graph.
    pub fn new(graph: &Graph, units: &'u [Unit]) -> Self {
        let mut entry: HashMap<(NodeId, Slot), usize> = HashMap::new();
        let mut inside: HashMap<NodeId, usize> = HashMap::new();
        for (at, unit) in units.iter().enumerate() {
            for read in &unit.reads {
                entry.insert(*read, at);
            }
            inside.insert(unit.node, at);
            for part in &unit.parts {
                inside.insert(part.node, at);
            }
        }
        let mut network = Self {
            units,
            before: vec![BTreeSet::new(); units.len()],
            behind: vec![BTreeSet::new(); units.len()],
            first: vec![false; units.len()],
            last: vec![BTreeSet::new(); units.len()],
        };
        let flow = Flow {
            graph,
            entry: &entry,
            inside: &inside,
        };
        for (at, unit) in units.iter().enumerate() {
            let (reached, ends) = flow.from(unit.output);
            network.set(at, reached, ends);
        }
        for input in graph.inputs() {
            let (reached, _) = flow.from(ValueId::new(*input, 0));
            for (to, _) in reached {
                if let Some(first) = network.first.get_mut(to) {
                    *first = true;
                }
            }
        }
        network
    }

    fn set(&mut self, at: usize, reached: BTreeSet<(usize, Marker)>, ends: BTreeSet<Marker>) {
        for (to, marker) in &reached {
            if let Some(before) = self.before.get_mut(*to) {
                before.insert((at, *marker));
            }
        }
        if let Some(behind) = self.behind.get_mut(at) {
            *behind = reached;
        }
        if let Some(last) = self.last.get_mut(at) {
            *last = ends;
        }
    }

    /// Whether no other unit comes before.
    pub fn is_stem(&self, at: usize) -> bool {
        self.first.get(at) == Some(&true) && self.before.get(at).is_some_and(BTreeSet::is_empty)
    }

    /// Whether the result of one unit gets to another one without passing a third.
    pub fn feeds(&self, from: usize, to: usize) -> bool {
        let behind = self.behind.get(from);
        behind.is_some_and(|behind| behind.iter().any(|(at, _)| *at == to))
    }

    /// Whether no other unit comes behind.
    pub fn is_head(&self, at: usize) -> bool {
        self.last.get(at).is_some_and(|ends| !ends.is_empty())
            && self.behind.get(at).is_some_and(BTreeSet::is_empty)
    }
}

struct Flow<'a> {
    graph: &'a Graph,
    entry: &'a HashMap<(NodeId, Slot), usize>,
    inside: &'a HashMap<NodeId, usize>,
}

impl Flow<'_> {
    /// The units that read a value, through operators without weights; and whether it gets to an output.
    fn from(&self, value: ValueId) -> (BTreeSet<(usize, Marker)>, BTreeSet<Marker>) {
        let mut found = BTreeSet::new();
        let mut ends = BTreeSet::new();
        let mut seen: BTreeSet<(ValueId, Marker)> = BTreeSet::from([(value, (None, None))]);
        let mut pending = vec![(value, (None, None))];
        while let Some((value, marker)) = pending.pop() {
            for at in self.graph.uses(value) {
                if at.node == self.graph.sink() {
                    ends.insert(marker);
                    continue;
                }
                if let Some(unit) = self.entry.get(&(at.node, at.slot)) {
                    found.insert((*unit, marker));
                    continue;
                }
                if self.inside.contains_key(&at.node) {
                    continue;
                }
                let Some(node) = self.graph.get(at.node) else {
                    continue;
                };
                let NodeKind::Operator(operator) = &node.kind else {
                    continue;
                };
                // What only depends on sizes is no flow of data.
                if matches!(&*operator.op_type, "Shape" | "Size" | "NonZero") {
                    continue;
                }
                let marker = match ORDERED.iter().find(|name| operator.is(name)) {
                    Some(name) if self.combines(at.node) => {
                        let here = Some((*name, slot(at.slot)));
                        (marker.0.or(here), here)
                    }
                    _ => marker,
                };
                for output in 0..node.outputs().len() {
                    let next = (ValueId::new(at.node, output), marker);
                    if seen.insert(next) {
                        pending.push(next);
                    }
                }
            }
        }
        (found, ends)
    }

    /// Whether an operator reads more than one value that is no constant.
    fn combines(&self, id: NodeId) -> bool {
        let inputs = self.graph.inputs_of(id);
        let dynamic = inputs
            .iter()
            .flatten()
            .filter(|value| self.graph.constant(**value).is_none());
        dynamic.count() > 1
    }
}

fn slot(slot: Slot) -> u32 {
    match slot {
        Slot::Input(at) => at,
        Slot::Capture(at) => at + 1000,
    }
}

/// How a pair was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By its place in graphs that are the same.
    Place,
    /// By its place in the order, where the graphs differ.
    Order,
}

/// For each unit of `target` the unit of `source` that it stands for.
pub fn by_structure(source: &Network<'_>, target: &Network<'_>) -> Vec<Option<(usize, How)>> {
    let mut pairs: Vec<Option<(usize, How)>> = vec![None; target.units.len()];
    let mut own: Vec<u32> = Vec::new();
    let mut other: Vec<u32> = Vec::new();
    let mut fixed: Vec<(usize, usize)> = Vec::new();
    loop {
        refine(source, target, &fixed, &mut own, &mut other);
        let sources = classes(&own);
        let targets = classes(&other);
        // The first class of units that are alike on both sides, as often here as there.
        let open = targets.iter().find_map(|(colour, of)| {
            let from = sources.get(colour)?;
            let known = |pair: &&(usize, usize)| of.contains(&pair.1);
            (from.len() == of.len() && of.len() > 1 && !fixed.iter().any(|pair| known(&pair)))
                .then(|| Some((*from.first()?, *of.first()?)))
                .flatten()
        });
        match open {
            Some(pair) if fixed.len() < target.units.len() => fixed.push(pair),
            _ => {
                for (colour, of) in &targets {
                    if let (Some([from]), [to]) = (sources.get(colour).map(Vec::as_slice), of.as_slice())
                        && let Some(pair) = pairs.get_mut(*to)
                    {
                        *pair = Some((*from, How::Place));
                    }
                }
                break;
            }
        }
    }
    align(source, target, &mut pairs);
    pairs
}

fn classes(colours: &[u32]) -> BTreeMap<u32, Vec<usize>> {
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (at, colour) in colours.iter().enumerate() {
        classes.entry(*colour).or_default().push(at);
    }
    classes
}

/// Kind, kernel, whether it is depthwise, whether inputs come to it, and how it gets to outputs.
type Look = (Kind, Vec<u64>, bool, bool, BTreeSet<Marker>);

/// What a unit looks like by itself. Sizes of channels are left out: they may be adapted.
fn look(unit: &Unit, first: bool, last: &BTreeSet<Marker>) -> Look {
    let depthwise = unit.group > 1 && unit.dims().get(1) == Some(&1);
    (unit.kind.clone(), unit.kernel(), depthwise, first, last.clone())
}

/// Colours of both networks, until the classes are stable. Pairs of `fixed` have colours of their own.
fn refine(
    source: &Network<'_>,
    target: &Network<'_>,
    fixed: &[(usize, usize)],
    own: &mut Vec<u32>,
    other: &mut Vec<u32>,
) {
    let nowhere = BTreeSet::new();
    let flag = |flags: &[bool], at: usize| flags.get(at).copied().unwrap_or(false);
    let looks = |network: &Network<'_>, side: fn(&(usize, usize)) -> usize| -> Vec<_> {
        network
            .units
            .iter()
            .enumerate()
            .map(|(at, unit)| {
                let place = fixed.iter().position(|pair| side(pair) == at);
                (
                    look(
                        unit,
                        flag(&network.first, at),
                        network.last.get(at).unwrap_or(&nowhere),
                    ),
                    place,
                )
            })
            .collect()
    };
    let (a, b) = (looks(source, |pair| pair.0), looks(target, |pair| pair.1));
    numbered(&a, &b, own, other);
    let mut count = 0;
    loop {
        let seen = |network: &Network<'_>, colours: &[u32]| -> Vec<_> {
            let of = |edges: &BTreeSet<(usize, Marker)>| -> Vec<(u32, Marker)> {
                let mut seen: Vec<_> = edges
                    .iter()
                    .map(|(at, marker)| (colours.get(*at).copied().unwrap_or(0), *marker))
                    .collect();
                seen.sort_unstable();
                seen
            };
            let each = network.before.iter().zip(&network.behind).zip(colours);
            each.map(|((before, behind), colour)| (*colour, of(before), of(behind)))
                .collect()
        };
        let (a, b): (Vec<_>, Vec<_>) = (seen(source, own), seen(target, other));
        let found = numbered(&a, &b, own, other);
        if found == count {
            return;
        }
        count = found;
    }
}

/// Numbers for what is seen, the same for the same on both sides. Answers how many there are.
fn numbered<T: Ord>(a: &[T], b: &[T], own: &mut Vec<u32>, other: &mut Vec<u32>) -> usize {
    let all: BTreeSet<&T> = a.iter().chain(b).collect();
    let numbers: BTreeMap<&T, u32> = all.into_iter().zip(0u32..).collect();
    let of = |items: &[T]| {
        items
            .iter()
            .map(|item| numbers.get(item).copied().unwrap_or(0))
            .collect()
    };
    *own = of(a);
    *other = of(b);
    numbers.len()
}

/// Pairs up what is left between pairs that are known, in topological order.
fn align(source: &Network<'_>, target: &Network<'_>, pairs: &mut [Option<(usize, How)>]) {
    let used: BTreeSet<usize> = pairs.iter().flatten().map(|pair| pair.0).collect();
    let left: Vec<usize> = (0..source.units.len()).filter(|at| !used.contains(at)).collect();
    let open: Vec<usize> = (0..pairs.len())
        .filter(|at| pairs.get(*at) == Some(&None))
        .collect();
    if left.is_empty() || open.is_empty() || left.len().saturating_mul(open.len()) > 4_000_000 {
        return;
    }
    let spreads = |network: &Network<'_>, of: &[usize]| -> BTreeMap<usize, f64> {
        of.iter()
            .filter_map(|at| Some((*at, spread(network.units.get(*at)?)?)))
            .collect()
    };
    let (own, other) = (spreads(source, &left), spreads(target, &open));
    let score = |from: usize, to: usize| -> Option<f64> {
        let resemblance = match (own.get(&from), other.get(&to)) {
            (Some(a), Some(b)) if a.max(*b) > 0.0 => a.min(*b) / a.max(*b),
            _ => 0.0,
        };
        alike(source.units.get(from)?, target.units.get(to)?, resemblance)
    };
    let width = open.len() + 1;
    let mut best = vec![0f64; (left.len() + 1) * width];
    let at = |row: usize, column: usize| row * width + column;
    let mut scores: Vec<Option<f64>> = vec![None; left.len() * open.len()];
    for (row, from) in left.iter().enumerate().rev() {
        for (column, to) in open.iter().enumerate().rev() {
            let found = score(*from, *to);
            let mut value = best[at(row + 1, column)].max(best[at(row, column + 1)]);
            if let Some(score) = found {
                value = value.max(score + best[at(row + 1, column + 1)]);
            }
            best[at(row, column)] = value;
            scores[row * open.len() + column] = found;
        }
    }
    let (mut row, mut column) = (0, 0);
    while row < left.len() && column < open.len() {
        let here = best[at(row, column)];
        if let Some(score) = scores[row * open.len() + column]
            && here == score + best[at(row + 1, column + 1)]
        {
            pairs[open[column]] = Some((left[row], How::Order));
            row += 1;
            column += 1;
        } else if here == best[at(row + 1, column)] {
            row += 1;
        } else {
            column += 1;
        }
    }
}

/// How well two units go together: `None` for another computation. Shapes count most, then how near the numbers are.
fn alike(from: &Unit, to: &Unit, resemblance: f64) -> Option<f64> {
    if from.kind != to.kind || from.kernel() != to.kernel() {
        return None;
    }
    let (a, b) = (squeezed(&from.dims()), squeezed(&to.dims()));
    let same = a.iter().zip(&b).filter(|(a, b)| a == b).count();
    if a == b {
        return Some(2.0 + 0.5 * resemblance);
    }
    // One dimension may be another one: channels of images, classes, positions.
    (a.len() == b.len() && same + 1 >= a.len() && !a.is_empty()).then_some(0.75)
}

/// Standard deviation of a unit's weights.
fn spread(unit: &Unit) -> Option<f64> {
    let part = unit.part(Role::Weight).or(unit.parts.first())?;
    let values = part.tensor.to_f64().ok()?;
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    Some((values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt())
}
