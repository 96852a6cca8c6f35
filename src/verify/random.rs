//! Which outputs depend on chance.

use std::collections::{BTreeSet, HashMap};

use crate::engine::RunValues;
use crate::engine::compare::{Comparison, Tolerances, compare};
use crate::ir::{Function, FunctionIndex, Graph, Model, NodeId, Operator};
use crate::ops::Traits;

/// Nested functions and bodies that are followed; the check refuses recursive functions, so real models end before.
const DEPTH: usize = 32;

/// How a model uses random numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Randomness {
    /// Output names that depend on an operator whose numbers differ from run to run, with that operator.
    pub(super) outputs: Vec<(String, String)>,
    /// Whether an operator draws seeded numbers, so that runs must follow each other in one order.
    pub(super) seeded: bool,
}

impl Randomness {
    /// Compares every output that does not depend on chance.
    pub(super) fn compared(
        &self,
        expected: &RunValues,
        found: &RunValues,
        tolerances: &Tolerances,
    ) -> Vec<(String, Comparison)> {
        expected
            .iter()
            .filter(|(name, _)| !self.outputs.iter().any(|(output, _)| output == *name))
            .filter_map(|(name, value)| Some((name.clone(), compare(value, found.get(name)?, tolerances))))
            .collect()
    }
}

/// Finds the outputs that depend on chance. Shapes do not: `Shape` and `Size` of a random tensor are as certain as any.
pub(super) fn randomness(model: &Model) -> Randomness {
    let graph = &model.graph;
    let mut result = Randomness::default();
    let mut tainted: BTreeSet<(NodeId, String)> = BTreeSet::new();
    let source_of = |tainted: &BTreeSet<(NodeId, String)>, id: NodeId| {
        tainted
            .range((id, String::new())..)
            .next()
            .filter(|(node, _)| *node == id)
            .map(|(_, source)| source.clone())
    };
    let mut search = Search {
        functions: model.function_index(),
        known: HashMap::new(),
        seeded: false,
    };
    for id in graph.topological_order() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        let own = search.draws(graph, id, operator, 0);
        let inherits = !(operator.is("Shape") || operator.is("Size"));
        let inputs = graph.inputs_of(id);
        let captures = graph.captures_of(id);
        let inherited = inputs
            .iter()
            .chain(&captures)
            .flatten()
            .find_map(|value| source_of(&tainted, value.node))
            .filter(|_| inherits);
        if let Some(source) = own.or(inherited) {
            tainted.insert((id, source));
        }
    }
    result.seeded = search.seeded;
    for (output, value) in graph.outputs().iter().zip(graph.output_values()) {
        if let Some(source) = value.and_then(|value| source_of(&tainted, value.node)) {
            result.outputs.push((output.name.to_string(), source));
        }
    }
    result
}

/// Looks for operators that draw numbers, into each function once at each depth however often it is called.
struct Search<'m> {
    functions: FunctionIndex<'m>,
    /// What was found in a function, by its place in memory and how deep it was called: calls end at [`DEPTH`].
    known: HashMap<(*const Function, usize), Option<String>>,
    /// Whether an operator that was looked at draws seeded numbers.
    seeded: bool,
}

impl Search<'_> {
    /// The unseeded random operator in `operator`: itself, in its bodies or in the function it calls.
    fn draws(&mut self, graph: &Graph, id: NodeId, operator: &Operator, depth: usize) -> Option<String> {
        if depth > DEPTH {
            return None;
        }
        let random = Traits::of(operator.domain(), &operator.op_type).random
            || is_training_dropout(graph, id, operator);
        if random {
            if operator.attribute("seed").is_none() {
                return Some(operator.op_type.to_string());
            }
            self.seeded = true;
        }
        for (_, body) in operator.bodies() {
            if let Some(source) = self.draws_in(body, depth + 1) {
                return Some(source);
            }
        }
        let function = self.functions.called_by(graph, id)?;
        let place = (std::ptr::from_ref(function), depth);
        if let Some(known) = self.known.get(&place) {
            return known.clone();
        }
        let found = self.draws_in(&function.graph, depth + 1);
        self.known.insert(place, found.clone());
        found
    }

    fn draws_in(&mut self, graph: &Graph, depth: usize) -> Option<String> {
        graph
            .node_ids()
            .find_map(|id| self.draws(graph, id, graph.operator(id)?, depth))
    }
}

/// Dropout drops only where its third input says that this is training; one that is not known to be false may.
fn is_training_dropout(graph: &Graph, id: NodeId, operator: &Operator) -> bool {
    operator.is("Dropout")
        && graph.input(id, 2).is_some_and(|mode| {
            graph
                .constant(mode)
                .and_then(|tensor| tensor.to_i64().ok()?.first().copied())
                != Some(0)
        })
}
