//! The main graphs of two models as they differ: what happened to each node, and why.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis;
use crate::ir::{AttributeValue, Graph, Model, NodeId, Tensor};
use crate::report::difference::{node_difference, nodes};

/// What became of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is in both models and nothing differs.
    Same,
    /// It is in both, and this differs.
    Changed(String),
    /// Only the input has it.
    Removed,
    /// Only the result has it.
    Added,
}

impl Fate {
    /// In a word.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Changed(_) => "changed",
            Self::Removed => "removed",
            Self::Added => "added",
        }
    }
}

/// A node of a drawing.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    /// How messages call it.
    pub(super) label: String,
    /// Operator.
    pub(super) operator: String,
    pub(super) fate: Fate,
    /// The rules and passes that made or removed it.
    pub(super) origins: Vec<String>,
    /// What it stands for, or what stands for it.
    pub(super) partners: Vec<String>,
    /// Multiply-accumulates.
    pub(super) macs: Option<u64>,
    /// Type of its first output.
    pub(super) ty: String,
    /// Signal-to-quantization-noise ratio in decibels, where nodes were compared.
    pub(super) error: Option<f64>,
}

/// A graph to be drawn. Nodes stand in an order in which they can run.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    pub(super) nodes: Vec<Drawn>,
    pub(super) edges: Vec<(usize, usize)>,
}

/// Both graphs. `after` is all there is where one model was looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Graphs {
    pub(super) before: Option<Side>,
    pub(super) after: Side,
}

impl Graphs {
    /// One model.
    pub(super) fn one(model: &Model) -> Self {
        Self {
            before: None,
            after: Ready::new(model).side(),
        }
    }

    /// Two models: nodes of the same label are the same node.
    pub(super) fn two(before: &Model, after: &Model) -> Self {
        let (a, b) = (Ready::new(before), Ready::new(after));
        let (mut left, mut right) = (a.side(), b.side());
        let places: BTreeMap<&str, usize> = b
            .labels
            .keys()
            .enumerate()
            .map(|(at, key)| (key.as_str(), at))
            .collect();
        for node in &mut right.nodes {
            node.fate = Fate::Added;
        }
        for ((key, id), node) in a.labels.iter().zip(&mut left.nodes) {
            let found = places.get(key.as_str()).copied();
            let (Some(place), Some(other)) = (found, b.labels.get(key)) else {
                node.fate = Fate::Removed;
                continue;
            };
            let what = differences(&a.model.graph, *id, &b.model.graph, *other);
            let fate = what.map_or(Fate::Same, Fate::Changed);
            node.fate = fate.clone();
            if let Some(partner) = right.nodes.get_mut(place) {
                partner.fate = fate;
            }
        }
        explain(&b.model.graph, &mut left.nodes, &mut right.nodes);
        Self {
            before: Some(left),
            after: right,
        }
    }

    /// Gives nodes of the result their errors, by label.
    pub(super) fn with_errors(mut self, errors: &BTreeMap<String, f64>) -> Self {
        for node in &mut self.after.nodes {
            node.error = errors.get(&node.label).copied();
        }
        self
    }

    /// Whether there is a node that is not the same in both.
    pub(super) fn differ(&self) -> bool {
        let sides = self.before.iter().chain(std::iter::once(&self.after));
        sides
            .flat_map(|side| &side.nodes)
            .any(|node| node.fate != Fate::Same)
    }
}

/// A model with its types and its nodes by label.
struct Ready {
    model: Model,
    labels: indexmap::IndexMap<String, NodeId>,
}

impl Ready {
    fn new(model: &Model) -> Self {
        let mut model = model.clone();
        analysis::infer(&mut model);
        let labels = nodes(&model.graph);
        Self { model, labels }
    }

    fn side(&self) -> Side {
        let graph = &self.model.graph;
        let cost = analysis::cost(&self.model, &|_| None);
        let main = cost
            .by_node
            .iter()
            .filter(|cost| cost.path == crate::ir::GraphPath::MAIN);
        let macs: BTreeMap<NodeId, u64> = main.filter_map(|cost| Some((cost.node, cost.macs?))).collect();
        let places: BTreeMap<NodeId, usize> = self
            .labels
            .values()
            .enumerate()
            .map(|(at, id)| (*id, at))
            .collect();
        let mut side = Side::default();
        for (place, (label, id)) in self.labels.iter().enumerate() {
            let first = graph.get(*id).and_then(|node| node.outputs().first());
            side.nodes.push(Drawn {
                label: label.clone(),
                operator: graph
                    .operator(*id)
                    .map_or(String::new(), |operator| operator.op_type.to_string()),
                fate: Fate::Same,
                origins: Vec::new(),
                partners: Vec::new(),
                macs: macs.get(id).copied(),
                ty: first.map_or(String::new(), |value| value.ty.to_string()),
                error: None,
            });
            let bodies = graph.captures_of(*id).into_iter();
            let mut reads: Vec<usize> = graph
                .inputs_of(*id)
                .into_iter()
                .chain(bodies)
                .flatten()
                .filter_map(|value| places.get(&value.node).copied())
                .collect();
            reads.sort_unstable();
            reads.dedup();
            side.edges.extend(reads.into_iter().map(|from| (from, place)));
        }
        side
    }
}

/// What differs between two nodes: operator, attributes, what they read, the constants among that, bodies.
fn differences(a: &Graph, left: NodeId, b: &Graph, right: NodeId) -> Option<String> {
    let mut found: Vec<String> = node_difference(a, left, b, right).into_iter().collect();
    let constant = |graph: &Graph, value: Option<crate::ir::ValueId>| -> Option<(String, Tensor)> {
        let value = value?;
        let tensor = graph.get(value.node)?.constant()?.clone();
        Some((graph.value(value)?.name.to_string(), tensor))
    };
    for (x, y) in a.inputs_of(left).into_iter().zip(b.inputs_of(right)) {
        let (Some((name, x)), Some((_, y))) = (constant(a, x), constant(b, y)) else {
            continue;
        };
        if x.dtype() != y.dtype() || x.dims() != y.dims() {
            let text = |tensor: &Tensor| format!("{}{:?}", tensor.dtype(), tensor.dims());
            found.push(format!("{name} is {}, then {}", text(&x), text(&y)));
        } else if !x.same_as(&y) {
            found.push(format!("{name} has other elements"));
        }
    }
    let inside = |graph: &Graph, id: NodeId| -> Vec<usize> {
        let bodies = graph
            .operator(id)
            .into_iter()
            .flat_map(|operator| operator.attributes());
        let bodies = bodies.flat_map(|attribute| match &attribute.value {
            AttributeValue::Graph(_) | AttributeValue::Graphs(_) => attribute.value.graphs().iter().collect(),
            _ => Vec::new(),
        });
        bodies.map(Graph::operator_count).collect()
    };
    let (x, y) = (inside(a, left), inside(b, right));
    if x != y {
        found.push(format!("bodies of {x:?} operators, then of {y:?}"));
    }
    (!found.is_empty()).then(|| found.join("; "))
}

/// Says of each node which edits it comes from, as the journal of the result tells them.
fn explain(graph: &Graph, before: &mut [Drawn], after: &mut [Drawn]) {
    let names =
        |nodes: &[Drawn]| -> BTreeSet<String> { nodes.iter().map(|node| node.label.clone()).collect() };
    let (there, here) = (names(before), names(after));
    let mut made: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut unmade: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let journal = graph.journal();
    for (index, edit) in journal.iter().enumerate() {
        for label in &edit.after {
            made.entry(label).or_default().push(index);
        }
        for label in &edit.before {
            unmade.entry(label).or_default().push(index);
        }
    }
    let tell = |node: &mut Drawn, edits: &BTreeMap<&str, Vec<usize>>, from: bool| {
        for edit in edits
            .get(node.label.as_str())
            .into_iter()
            .flatten()
            .filter_map(|index| journal.get(*index))
        {
            let origin = edit.origin.to_string();
            if !node.origins.contains(&origin) {
                node.origins.push(origin);
            }
            let others = if from { &edit.before } else { &edit.after };
            // An edit of the whole graph does not say what stands for what.
            for other in others.iter().filter(|_| others.len() <= PARTNERS) {
                let drawn = if from { &there } else { &here };
                if *other != node.label
                    && drawn.contains(other)
                    && !node.partners.contains(other)
                    && node.partners.len() < PARTNERS
                {
                    node.partners.push(other.clone());
                }
            }
        }
    };
    for node in before.iter_mut().filter(|node| node.fate != Fate::Same) {
        tell(node, &unmade, false);
    }
    for node in after.iter_mut().filter(|node| node.fate != Fate::Same) {
        tell(node, &made, true);
    }
}

/// Partners that are named.
const PARTNERS: usize = 6;
