//! What calls of model-local functions come to when an engine puts the functions in their place: calls within calls multiply.

use std::collections::HashMap;

use super::EngineError;
use crate::ir::{Function, FunctionIndex, Graph, Model};

/// Operators that calls may come to.
const MOST: u64 = 100_000;
/// Calls within calls that are followed; the check of models refuses functions that call themselves.
const DEEPEST: usize = 512;

/// Refuses a model whose calls come to more operators than an engine can hold.
pub(super) fn refusal(model: &Model, engine: &'static str) -> Option<EngineError> {
    if model.functions.is_empty() {
        return None;
    }
    let mut sizes = Sizes {
        functions: model.function_index(),
        known: HashMap::new(),
    };
    let count = sizes.called_by(&model.graph, 0);
    (count > MOST).then(|| EngineError::Unsupported {
        engine,
        operator: "calls of functions".to_owned(),
        node: None,
        reason: format!("they come to more than {MOST} operators"),
    })
}

struct Sizes<'m> {
    functions: FunctionIndex<'m>,
    /// Operators of a function, its calls included, by its place in memory.
    known: HashMap<*const Function, u64>,
}

impl Sizes<'_> {
    /// What the calls of a graph come to.
    fn called_by(&mut self, graph: &Graph, depth: usize) -> u64 {
        if depth > DEEPEST {
            return u64::MAX;
        }
        let mut total = 0u64;
        for id in graph.node_ids() {
            let Some(operator) = graph.operator(id) else {
                continue;
            };
            for (_, body) in operator.bodies() {
                total = total.saturating_add(self.called_by(body, depth + 1));
            }
            if let Some(function) = self.functions.called_by(graph, id) {
                total = total.saturating_add(self.size(function, depth + 1));
            }
        }
        total
    }

    fn size(&mut self, function: &Function, depth: usize) -> u64 {
        let place = std::ptr::from_ref(function);
        if let Some(known) = self.known.get(&place) {
            return *known;
        }
        let own = function.graph.operator_count() as u64;
        let size = own.saturating_add(self.called_by(&function.graph, depth));
        self.known.insert(place, size);
        size
    }
}
