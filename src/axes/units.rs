//! Removal units: elements closed under all constraints, grouped by the part they play.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::elements::{Axis, Product};
use super::pins::Pin;
use super::rule::Gathered;
use super::solve::Solution;
use crate::ir::{Graph, NodeId, NodeKind, ValueId};

/// The smallest set of elements that can be removed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Classes of elements, ascending.
    pub(super) classes: Vec<u32>,
    /// What is removed from constants: the index of a member of the group, and an element of its axis.
    pub slices: Vec<(u32, u32)>,
}

impl Unit {
    /// The classes of elements that go with the unit, ascending; units of other groups may share some.
    pub fn classes(&self) -> &[u32] {
        &self.classes
    }
}

/// An axis of a constant that the units of a group cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The constant.
    pub value: ValueId,
    /// Its name.
    pub name: String,
    /// The axis.
    pub axis: usize,
    /// Size of the axis.
    pub size: u32,
    /// Elements of the axis that each unit takes.
    pub per_unit: u32,
}

/// Units that cut the same axes of the same constants: the channels of a layer, the heads of an attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What the units cut, in graph order.
    pub members: Vec<Member>,
    /// The units, in the order of their elements.
    pub units: Vec<Unit>,
    /// What pins every unit of the group.
    pub pin: Option<Pin>,
}

/// Elements chosen to be removed, or to be repeated.
#[derive(Clone, Debug)]
pub struct Removal {
    /// How often each element is there afterwards: 0 is removed, 1 kept.
    copies: Vec<u32>,
    /// The class of each element.
    roots: Vec<u32>,
}

/// An element of an axis as it is afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its index before.
    pub index: u32,
    /// Its class.
    pub class: u32,
    /// Which of the class's copies it is.
    pub copy: u32,
}

/// A choice that cannot be removed.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum RemovalError {
    /// A chosen unit is pinned.
    #[error("a chosen unit is pinned: {0}")]
    Pinned(Pin),
    /// An axis would keep no element.
    #[error("axis {axis} of {value} would keep no element")]
    Empty {
        /// The value.
        value: String,
        /// The axis.
        axis: usize,
    },
    /// The choice is not closed: a defect of the solver.
    #[error(
        "the removed elements do not form a block; this is a defect of secateur, please report it with the model"
    )]
    NotClosed,
}

impl Removal {
    /// Elements of an axis that stay, in order; `None` if all do, once.
    pub fn kept(&self, axis: Axis) -> Option<Vec<u32>> {
        let placed = self.placed(axis);
        (axis.count()? != placed.len()).then(|| placed.iter().map(|placed| placed.index).collect())
    }

    /// Elements of an axis that stay, in order. A run of one class is repeated as a whole, so that the elements of an axis that was
    /// made of several keep the order of its factors.
    pub fn placed(&self, axis: Axis) -> Vec<Placed> {
        let Axis::Free { start, len } = axis else {
            return Vec::new();
        };
        let class = |at: u32| self.roots.get((start + at) as usize).copied();
        let mut placed = Vec::with_capacity(len as usize);
        let mut at = 0;
        while at < len {
            let copies = self.copies_of(start + at);
            let run = match copies {
                0 | 1 => 1,
                _ => (at..len).take_while(|other| class(*other) == class(at)).count() as u32,
            };
            for copy in 0..copies {
                placed.extend((at..at + run).map(|index| Placed {
                    index,
                    class: class(at).unwrap_or(u32::MAX),
                    copy,
                }));
            }
            at += run;
        }
        placed
    }

    /// How many elements the first `count` of an axis are afterwards.
    pub(super) fn kept_before(&self, axis: Axis, count: usize) -> usize {
        axis.elements()
            .take(count)
            .map(|element| self.copies_of(element) as usize)
            .sum()
    }

    pub(super) fn is_removed(&self, element: u32) -> bool {
        self.copies_of(element) == 0
    }

    /// How often an element is there afterwards.
    pub(super) fn copies_of(&self, element: u32) -> u32 {
        self.copies.get(element as usize).copied().unwrap_or(1)
    }
}

impl Solution {
    /// The elements that go when these units go; each is a group's index and a unit's index in it.
    pub fn removal(&self, chosen: impl IntoIterator<Item = (usize, usize)>) -> Result<Removal, RemovalError> {
        let mut classes = vec![false; self.roots.len()];
        for (group, unit) in chosen {
            let Some(group) = self.groups().get(group) else {
                continue;
            };
            if let Some(pin) = &group.pin {
                return Err(RemovalError::Pinned(pin.clone()));
            }
            for class in group.units.get(unit).into_iter().flat_map(|unit| &unit.classes) {
                if let Some(flag) = classes.get_mut(*class as usize) {
                    *flag = true;
                }
            }
        }
        let flag = |root: &u32| classes.get(*root as usize).copied().unwrap_or(false);
        let removal = Removal {
            copies: self.roots.iter().map(|root| u32::from(!flag(root))).collect(),
            roots: self.roots.clone(),
        };
        let block = |product: &Product| {
            let removed = |at| removal.is_removed(at);
            (0..product.outer.1).all(|j| {
                (0..product.inner.1).all(|l| {
                    removed(product.whole + j * product.inner.1 + l)
                        == (removed(product.outer.0 + j) || removed(product.inner.0 + l))
                })
            })
        };
        if self.gathered.elements.products.iter().all(block) {
            Ok(removal)
        } else {
            Err(RemovalError::NotClosed)
        }
    }

    /// What becomes of elements when units are there more than once; each is a group's index, a unit's index in it and how often. A unit
    /// has to be a class of its own.
    pub fn repetition(
        &self,
        chosen: impl IntoIterator<Item = (usize, usize, u32)>,
    ) -> Result<Removal, RemovalError> {
        let mut classes = vec![1u32; self.roots.len()];
        for (group, unit, copies) in chosen {
            let Some(group) = self.groups().get(group) else {
                continue;
            };
            if let Some(pin) = &group.pin {
                return Err(RemovalError::Pinned(pin.clone()));
            }
            let classes_of = group.units.get(unit).map_or(&[][..], |unit| &unit.classes);
            let [class] = classes_of else {
                return Err(RemovalError::NotClosed);
            };
            if let Some(slot) = classes.get_mut(*class as usize) {
                *slot = copies;
            }
        }
        let copies = |root: &u32| classes.get(*root as usize).copied().unwrap_or(1);
        Ok(Removal {
            copies: self.roots.iter().map(copies).collect(),
            roots: self.roots.clone(),
        })
    }

    /// Whether every axis of the graph keeps at least one element.
    pub fn check_not_empty(&self, graph: &Graph, removal: &Removal) -> Result<(), RemovalError> {
        let mut seen = BTreeSet::new();
        for id in graph.node_ids() {
            for output in 0..graph.get(id).map_or(0, |node| node.outputs().len()) {
                let value = ValueId::new(id, output);
                for (at, axis) in self.axes(value).unwrap_or_default().iter().enumerate() {
                    let Axis::Free { start, len } = axis else { continue };
                    if seen.insert((*start, *len))
                        && axis.elements().all(|element| removal.is_removed(element))
                    {
                        let value = graph
                            .value(value)
                            .map(|value| value.name.to_string())
                            .unwrap_or_default();
                        return Err(RemovalError::Empty { value, axis: at });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Where a class appears in products.
#[derive(Clone, Copy)]
enum Place {
    Whole(u32, u32),
    Outer(u32, u32),
    Inner(u32, u32),
}

struct Closer<'a> {
    gathered: &'a Gathered,
    roots: &'a [u32],
    /// Places in products by class.
    places: HashMap<u32, Vec<Place>>,
}

impl Closer<'_> {
    fn root(&self, element: u32) -> u32 {
        self.roots.get(element as usize).copied().unwrap_or(element)
    }

    fn pin(&self, root: u32) -> Option<u32> {
        self.gathered.elements.pin_of_root(root)
    }

    fn product(&self, at: u32) -> Option<&Product> {
        self.gathered.elements.products.get(at as usize)
    }

    /// The classes that go with `seed`, ascending.
    fn close(&self, seed: u32) -> Vec<u32> {
        if !self.places.contains_key(&seed) {
            return vec![seed];
        }
        let mut closed = BTreeSet::new();
        let mut pending = vec![seed];
        let mut wholes: Vec<(u32, u32)> = Vec::new();
        let mut covered: HashMap<(u32, bool, u32), u32> = HashMap::new();
        loop {
            while let Some(root) = pending.pop() {
                if !closed.insert(root) {
                    continue;
                }
                for place in self.places.get(&root).into_iter().flatten() {
                    match *place {
                        Place::Whole(product, at) => {
                            let Some(found) = self.product(product) else {
                                continue;
                            };
                            let width = found.inner.1.max(1);
                            wholes.push((product, at));
                            *covered.entry((product, true, at / width)).or_default() += 1;
                            *covered.entry((product, false, at % width)).or_default() += 1;
                        }
                        Place::Outer(product, j) => {
                            let Some(found) = self.product(product) else {
                                continue;
                            };
                            let width = found.inner.1;
                            pending.extend((0..width).map(|l| self.root(found.whole + j * width + l)));
                        }
                        Place::Inner(product, l) => {
                            let Some(found) = self.product(product) else {
                                continue;
                            };
                            let width = found.inner.1;
                            pending
                                .extend((0..found.outer.1).map(|j| self.root(found.whole + j * width + l)));
                        }
                    }
                }
            }
            // A removed element of a split axis needs a factor that explains it; once explained it stays so.
            let mut extension = None;
            wholes.retain(|(product, at)| {
                let Some(found) = self.product(*product) else {
                    return false;
                };
                let width = found.inner.1.max(1);
                let (j, l) = (at / width, at % width);
                let (outer, inner) = (self.root(found.outer.0 + j), self.root(found.inner.0 + l));
                if closed.contains(&outer) || closed.contains(&inner) {
                    return false;
                }
                let full_row = covered.get(&(*product, true, j)) == Some(&width);
                let full_column = covered.get(&(*product, false, l)) == Some(&found.outer.1);
                if full_row || full_column {
                    pending.push(if full_row { outer } else { inner });
                } else {
                    let choose_outer =
                        self.pin(inner).is_some() || (self.pin(outer).is_none() && width < found.outer.1);
                    extension.get_or_insert(if choose_outer { outer } else { inner });
                }
                true
            });
            if pending.is_empty() {
                match extension {
                    Some(root) => pending.push(root),
                    None => return closed.into_iter().collect(),
                }
            }
        }
    }
}

/// Cut axes with the number of elements that a unit takes, and the pin.
type Signature = (Vec<(u32, u32)>, Option<u32>);

/// The units of a graph, grouped, in the order of the first constant that they cut.
pub(super) fn groups(graph: &Graph, gathered: &Gathered, roots: &[u32]) -> Vec<Group> {
    // Elements of constants by class.
    let constants = constants(graph, gathered);
    let mut slices: HashMap<u32, Vec<(u32, u32)>> = HashMap::new();
    for (member, (_, _, axis)) in constants.iter().enumerate() {
        for (index, element) in axis.elements().enumerate() {
            if let Some(root) = roots.get(element as usize) {
                slices
                    .entry(*root)
                    .or_default()
                    .push((member as u32, index as u32));
            }
        }
    }
    let closer = Closer {
        gathered,
        roots,
        places: places(gathered, roots),
    };
    let mut seen = vec![false; roots.len()];
    let mut known: BTreeSet<Vec<u32>> = BTreeSet::new();
    let mut found: BTreeMap<Signature, Vec<Unit>> = BTreeMap::new();
    for root in roots {
        match seen.get_mut(*root as usize) {
            Some(flag) if !*flag => *flag = true,
            _ => continue,
        }
        let places = closer.places.get(root);
        if places.is_some_and(|places| places.iter().any(|place| matches!(place, Place::Whole(..)))) {
            continue;
        }
        let classes = closer.close(*root);
        let mut cut: Vec<(u32, u32)> = classes
            .iter()
            .flat_map(|class| slices.get(class).into_iter().flatten())
            .copied()
            .collect();
        if cut.is_empty() || (classes.len() > 1 && !known.insert(classes.clone())) {
            continue;
        }
        cut.sort_unstable();
        let pin = classes.iter().filter_map(|class| closer.pin(*class)).min();
        let mut signature: Vec<(u32, u32)> = Vec::new();
        for (member, _) in &cut {
            match signature.last_mut() {
                Some(last) if last.0 == *member => last.1 += 1,
                _ => signature.push((*member, 1)),
            }
        }
        let key = (signature, pin);
        found.entry(key).or_default().push(Unit { classes, slices: cut });
    }
    found
        .into_iter()
        .map(|((signature, pin), units)| {
            let pin = pin.and_then(|pin| gathered.pins.get(pin as usize)).cloned();
            group(graph, &constants, &signature, units, pin)
        })
        .collect()
}

/// Where the elements of each class stand in products of two factors.
fn places(gathered: &Gathered, roots: &[u32]) -> HashMap<u32, Vec<Place>> {
    let mut places: HashMap<u32, Vec<Place>> = HashMap::new();
    for (index, product) in gathered.elements.products.iter().enumerate() {
        let index = index as u32;
        let mut add = |element: u32, place: Place| {
            if let Some(root) = roots.get(element as usize) {
                places.entry(*root).or_default().push(place);
            }
        };
        (0..product.outer.1).for_each(|j| add(product.outer.0 + j, Place::Outer(index, j)));
        (0..product.inner.1).for_each(|l| add(product.inner.0 + l, Place::Inner(index, l)));
        (0..product.outer.1 * product.inner.1)
            .for_each(|at| add(product.whole + at, Place::Whole(index, at)));
    }
    places
}

/// Units that cut the same axes by the same amounts.
fn group(
    graph: &Graph,
    constants: &[(ValueId, usize, Axis)],
    signature: &[(u32, u32)],
    mut units: Vec<Unit>,
    pin: Option<Pin>,
) -> Group {
    units.sort_by(|a, b| a.slices.cmp(&b.slices));
    let position = |member: u32| {
        signature
            .iter()
            .position(|(known, _)| *known == member)
            .unwrap_or(0) as u32
    };
    for unit in &mut units {
        unit.slices
            .iter_mut()
            .for_each(|(member, _)| *member = position(*member));
    }
    let members: Vec<Member> = signature
        .iter()
        .filter_map(|(member, per_unit)| {
            let (value, at, axis) = *constants.get(*member as usize)?;
            let name = graph
                .value(value)
                .map(|value| value.name.to_string())
                .unwrap_or_default();
            let size = axis.count().unwrap_or(0) as u32;
            Some(Member {
                value,
                name,
                axis: at,
                size,
                per_unit: *per_unit,
            })
        })
        .collect();
    let pin = pin.or_else(|| emptied(&members));
    Group { members, units, pin }
}

/// A unit that takes a whole axis of a constant cannot go.
fn emptied(members: &[Member]) -> Option<Pin> {
    let member = members.iter().find(|member| member.per_unit == member.size)?;
    Some(Pin {
        operator: "constant".to_owned(),
        node: member.name.clone(),
        value: member.name.clone(),
        axis: member.axis,
        reason: "it would keep no element",
    })
}

/// Every axis of a constant that has elements, in graph order.
fn constants(graph: &Graph, gathered: &Gathered) -> Vec<(ValueId, usize, Axis)> {
    let mut ids: Vec<NodeId> = graph
        .node_ids()
        .filter(|id| matches!(graph.get(*id).map(|node| &node.kind), Some(NodeKind::Constant(_))))
        .collect();
    // In the order of their first readers: the order of layers, whatever the order of the initializers.
    ids.sort_by_key(|id| {
        let first = graph.uses(ValueId::new(*id, 0)).first().copied();
        (
            first.and_then(|first| graph.get(first.node).map(|node| (node.position(), first.slot))),
            *id,
        )
    });
    ids.into_iter()
        .flat_map(|id| {
            let value = ValueId::new(id, 0);
            let axes = gathered.axes_of(value).cloned().unwrap_or_default();
            axes.into_iter()
                .enumerate()
                .filter(|(_, axis)| axis.is_free())
                .map(move |(at, axis)| (value, at, axis))
        })
        .collect()
}
