//! The edges of a graph: which output goes into which slot.
//!
//! Every question and every change takes the same time however many edges a node has: petgraph's own lists are singly
//! linked, and taking one of n edges from a node takes n steps there.

use smallvec::SmallVec;

use super::node::{NodeId, Slot, Use, ValueId};

/// No edge.
const NONE: u32 = u32::MAX;

/// One edge, in two lists: that of its source node and that of the value.
#[derive(Clone, Debug)]
struct Wire {
    from: ValueId,
    to: Use,
    of_node: Link,
    of_value: Link,
}

/// Neighbours in a list.
#[derive(Clone, Copy, Debug)]
struct Link {
    newer: u32,
    older: u32,
}

/// The edges of one node.
#[derive(Clone, Debug)]
struct Ends {
    /// The newest edge that leaves the node.
    newest: u32,
    outputs: SmallVec<[Readers; 1]>,
    /// The edge in each input slot.
    inputs: SmallVec<[u32; 4]>,
    captures: Vec<u32>,
}

/// The edges that leave one output.
#[derive(Clone, Copy, Debug)]
struct Readers {
    newest: u32,
    count: u32,
    /// Those of them that go into the sink.
    shown: u32,
}

impl Default for Ends {
    fn default() -> Self {
        Self {
            newest: NONE,
            outputs: SmallVec::new(),
            inputs: SmallVec::new(),
            captures: Vec::new(),
        }
    }
}

impl Ends {
    fn slot(&self, slot: Slot) -> u32 {
        let found = match slot {
            Slot::Input(index) => self.inputs.get(index as usize),
            Slot::Capture(index) => self.captures.get(index as usize),
        };
        found.copied().unwrap_or(NONE)
    }

    fn set_slot(&mut self, slot: Slot, wire: u32) {
        let (length, index) = match slot {
            Slot::Input(index) => (self.inputs.len(), index as usize),
            Slot::Capture(index) => (self.captures.len(), index as usize),
        };
        if index >= length && wire == NONE {
            return;
        }
        let place = match slot {
            Slot::Input(_) => {
                if index >= length {
                    self.inputs.resize(index + 1, NONE);
                }
                self.inputs.get_mut(index)
            }
            Slot::Capture(_) => {
                if index >= length {
                    self.captures.resize(index + 1, NONE);
                }
                self.captures.get_mut(index)
            }
        };
        if let Some(place) = place {
            *place = wire;
        }
    }

    fn output(&mut self, output: u32) -> Option<&mut Readers> {
        let index = output as usize;
        if index >= self.outputs.len() {
            let nothing = Readers {
                newest: NONE,
                count: 0,
                shown: 0,
            };
            self.outputs.resize(index + 1, nothing);
        }
        self.outputs.get_mut(index)
    }
}

/// The edges of a graph.
#[derive(Clone, Debug)]
pub(super) struct Wires {
    wires: Vec<Wire>,
    free: Vec<u32>,
    ends: Vec<Ends>,
    sink: NodeId,
}

impl Wires {
    /// No edges, in a graph whose outputs `sink` reads.
    pub(super) fn new(sink: NodeId) -> Self {
        Self {
            wires: Vec::new(),
            free: Vec::new(),
            ends: Vec::new(),
            sink,
        }
    }

    /// Makes room for this many nodes and edges.
    pub(super) fn reserve(&mut self, nodes: usize, edges: usize) {
        self.ends.reserve(nodes);
        self.wires.reserve(edges);
    }

    fn wire(&self, at: u32) -> Option<&Wire> {
        self.wires.get(at as usize)
    }

    fn ends(&self, node: NodeId) -> Option<&Ends> {
        self.ends.get(node.index())
    }

    fn ends_mut(&mut self, node: NodeId) -> Option<&mut Ends> {
        if node.index() >= self.ends.len() {
            self.ends.resize_with(node.index() + 1, Ends::default);
        }
        self.ends.get_mut(node.index())
    }

    /// Lets `to` read `value`, and nothing else.
    pub(super) fn connect(&mut self, value: ValueId, to: Use) {
        self.disconnect(to);
        let at = self.free.pop().unwrap_or(self.wires.len() as u32);
        let shown = u32::from(to.node == self.sink);
        let Some(ends) = self.ends_mut(value.node) else {
            return;
        };
        let older_of_node = std::mem::replace(&mut ends.newest, at);
        let Some(readers) = ends.output(value.output) else {
            return;
        };
        let older_of_value = std::mem::replace(&mut readers.newest, at);
        readers.count += 1;
        readers.shown += shown;
        let link = |older| Link { newer: NONE, older };
        let wire = Wire {
            from: value,
            to,
            of_node: link(older_of_node),
            of_value: link(older_of_value),
        };
        match self.wires.get_mut(at as usize) {
            Some(place) => *place = wire,
            None => self.wires.push(wire),
        }
        if let Some(older) = self.wires.get_mut(older_of_node as usize) {
            older.of_node.newer = at;
        }
        if let Some(older) = self.wires.get_mut(older_of_value as usize) {
            older.of_value.newer = at;
        }
        if let Some(ends) = self.ends_mut(to.node) {
            ends.set_slot(to.slot, at);
        }
    }

    /// Lets `to` read nothing.
    pub(super) fn disconnect(&mut self, to: Use) {
        let at = self.ends(to.node).map_or(NONE, |ends| ends.slot(to.slot));
        let Some(Wire {
            from,
            of_node,
            of_value,
            ..
        }) = self.wire(at).cloned()
        else {
            return;
        };
        if let Some(ends) = self.ends_mut(to.node) {
            ends.set_slot(to.slot, NONE);
        }
        let shown = u32::from(to.node == self.sink);
        if let Some(ends) = self.ends_mut(from.node) {
            if ends.newest == at {
                ends.newest = of_node.older;
            }
            if let Some(readers) = ends.output(from.output) {
                if readers.newest == at {
                    readers.newest = of_value.older;
                }
                readers.count -= 1;
                readers.shown -= shown;
            }
        }
        if let Some(newer) = self.wires.get_mut(of_node.newer as usize) {
            newer.of_node.older = of_node.older;
        }
        if let Some(older) = self.wires.get_mut(of_node.older as usize) {
            older.of_node.newer = of_node.newer;
        }
        if let Some(newer) = self.wires.get_mut(of_value.newer as usize) {
            newer.of_value.older = of_value.older;
        }
        if let Some(older) = self.wires.get_mut(of_value.older as usize) {
            older.of_value.newer = of_value.newer;
        }
        self.free.push(at);
    }

    /// Lets `node` read nothing.
    pub(super) fn disconnect_all(&mut self, node: NodeId) {
        let slots: Vec<Slot> = self.incoming(node).map(|(slot, _)| slot).collect();
        for slot in slots {
            self.disconnect(Use { node, slot });
        }
    }

    /// Gives the capture slots of `node` the numbers in `renumbered`; those without one read nothing any more.
    pub(super) fn renumber_captures(&mut self, node: NodeId, renumbered: &[Option<u32>]) {
        let captured: Vec<(u32, ValueId)> = self
            .incoming(node)
            .filter_map(|(slot, value)| match slot {
                Slot::Capture(index) => Some((index, value)),
                Slot::Input(_) => None,
            })
            .collect();
        let place = |index: u32| renumbered.get(index as usize).copied().flatten();
        for (index, _) in captured.iter().filter(|(index, _)| place(*index).is_none()) {
            let slot = Slot::Capture(*index);
            self.disconnect(Use { node, slot });
        }
        // In ascending order no slot is taken: numbers only fall.
        for (index, _) in captured {
            let Some(new) = place(index).filter(|new| *new != index) else {
                continue;
            };
            let at = self
                .ends(node)
                .map_or(NONE, |ends| ends.slot(Slot::Capture(index)));
            if let Some(wire) = self.wires.get_mut(at as usize) {
                wire.to.slot = Slot::Capture(new);
            }
            if let Some(ends) = self.ends_mut(node) {
                ends.set_slot(Slot::Capture(index), NONE);
                ends.set_slot(Slot::Capture(new), at);
            }
        }
    }

    /// The value in a slot of `node`.
    pub(super) fn value_at(&self, node: NodeId, slot: Slot) -> Option<ValueId> {
        Some(self.wire(self.ends(node)?.slot(slot))?.from)
    }

    /// The filled slots of `node` with the values in them: inputs, then captures, in order.
    pub(super) fn incoming(&self, node: NodeId) -> impl DoubleEndedIterator<Item = (Slot, ValueId)> + '_ {
        let (inputs, captures): (&[u32], &[u32]) = match self.ends(node) {
            Some(ends) => (&ends.inputs, &ends.captures),
            None => (&[], &[]),
        };
        inputs
            .iter()
            .chain(captures)
            .filter_map(|at| self.wire(*at))
            .map(|wire| (wire.to.slot, wire.from))
    }

    /// The uses of all outputs of `node`, newest first.
    pub(super) fn readers(&self, node: NodeId) -> impl Iterator<Item = (u32, Use)> + '_ {
        let newest = self.ends(node).and_then(|ends| self.wire(ends.newest));
        std::iter::successors(newest, |wire| self.wire(wire.of_node.older))
            .map(|wire| (wire.from.output, wire.to))
    }

    /// The uses of a value, newest first.
    pub(super) fn readers_of(&self, value: ValueId) -> impl Iterator<Item = Use> + '_ {
        let newest = self.count(value).and_then(|readers| self.wire(readers.newest));
        std::iter::successors(newest, |wire| self.wire(wire.of_value.older)).map(|wire| wire.to)
    }

    fn count(&self, value: ValueId) -> Option<&Readers> {
        self.ends(value.node)?.outputs.get(value.output as usize)
    }

    /// Number of uses of a value.
    pub(super) fn use_count(&self, value: ValueId) -> usize {
        self.count(value).map_or(0, |readers| readers.count as usize)
    }

    /// Whether the sink reads the value.
    pub(super) fn is_shown(&self, value: ValueId) -> bool {
        self.count(value).is_some_and(|readers| readers.shown > 0)
    }

    /// Whether anything reads an output of `node`.
    pub(super) fn is_used(&self, node: NodeId) -> bool {
        self.ends(node).is_some_and(|ends| ends.newest != NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(node: u32, slot: u32) -> Use {
        Use {
            node: NodeId::new(node as usize),
            slot: Slot::Input(slot),
        }
    }

    fn value(node: usize, output: usize) -> ValueId {
        ValueId::new(NodeId::new(node), output)
    }

    /// Against a plain list of edges, newest first, over many changes.
    #[test]
    fn answers_as_a_plain_list_of_edges_does() {
        let mut wires = Wires::new(NodeId::new(0));
        let mut plain: Vec<(ValueId, Use)> = Vec::new();
        let mut state = 1u32;
        let mut next = |bound: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % bound
        };
        for _ in 0..4000 {
            let to = at(next(6), next(5));
            plain.retain(|(_, used)| *used != to);
            if next(3) == 0 {
                wires.disconnect(to);
            } else {
                let from = value(next(6) as usize, next(3) as usize);
                wires.connect(from, to);
                plain.insert(0, (from, to));
            }
            for node in 0..6 {
                let id = NodeId::new(node);
                let expected: Vec<_> = plain
                    .iter()
                    .filter(|(from, _)| from.node == id)
                    .map(|(from, to)| (from.output, *to))
                    .collect();
                assert_eq!(wires.readers(id).collect::<Vec<_>>(), expected);
                assert_eq!(wires.is_used(id), !expected.is_empty());
                let mut incoming: Vec<_> = plain
                    .iter()
                    .filter(|(_, to)| to.node == id)
                    .map(|(from, to)| (to.slot, *from))
                    .collect();
                incoming.sort();
                assert_eq!(wires.incoming(id).collect::<Vec<_>>(), incoming);
                for output in 0..3 {
                    let one = value(node, output);
                    let uses: Vec<Use> = plain
                        .iter()
                        .filter(|(from, _)| *from == one)
                        .map(|(_, to)| *to)
                        .collect();
                    assert_eq!(wires.use_count(one), uses.len());
                    assert_eq!(wires.is_shown(one), uses.iter().any(|to| to.node.index() == 0));
                    assert_eq!(wires.readers_of(one).collect::<Vec<_>>(), uses);
                }
            }
        }
        assert!(wires.wires.len() <= 30, "slots of removed edges are used again");
    }

    #[test]
    fn captures_move_down_and_unnumbered_ones_go() {
        let mut wires = Wires::new(NodeId::new(0));
        let node = NodeId::new(1);
        for index in 0..4 {
            let slot = Slot::Capture(index);
            wires.connect(value(2, index as usize), Use { node, slot });
        }
        wires.renumber_captures(node, &[None, Some(0), None, Some(1)]);
        let left: Vec<_> = wires.incoming(node).collect();
        assert_eq!(
            left,
            [(Slot::Capture(0), value(2, 1)), (Slot::Capture(1), value(2, 3))]
        );
        assert_eq!(wires.use_count(value(2, 0)), 0);
        assert_eq!(
            wires.readers_of(value(2, 3)).next(),
            Some(Use {
                node,
                slot: Slot::Capture(1)
            })
        );
    }
}
