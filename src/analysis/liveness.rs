//! Which nodes a graph's outputs depend on.

use std::collections::HashSet;

use crate::ir::{Graph, NodeId};

/// The nodes that the graph's outputs depend on, the output sink included. Inputs are listed only where they are used. A body
/// is judged by itself: what it captures counts as used.
pub fn needed(graph: &Graph) -> HashSet<NodeId> {
    let mut found = HashSet::from([graph.sink()]);
    let mut pending = vec![graph.sink()];
    while let Some(id) = pending.pop() {
        for value in graph
            .inputs_of(id)
            .into_iter()
            .chain(graph.captures_of(id))
            .flatten()
        {
            if found.insert(value.node) {
                pending.push(value.node);
            }
        }
    }
    found
}

/// Whether two runs of the operator on the same inputs give the same outputs and nothing else happens: false for random
/// operators, in bodies too, and for operators that the table does not know.
pub fn is_pure(graph: &Graph, id: NodeId) -> bool {
    let Some(operator) = graph.operator(id) else {
        return graph.is_live(id);
    };
    let (domain, op_type) = (operator.domain(), operator.op_type.as_str());
    if crate::ops::schemas(domain, op_type).is_empty() || crate::ops::Traits::of(domain, op_type).random {
        return false;
    }
    // A Dropout drops at random when it is told to train: by its third input, or before opset 7 by `is_test` = 0.
    let trains = match graph.input(id, 2) {
        Some(training) => graph
            .constant(training)
            .is_none_or(|flag| flag.single_i64() != Some(0)),
        None => operator.int("is_test") == Some(0),
    };
    if operator.is("Dropout") && trains {
        return false;
    }
    operator
        .bodies()
        .all(|(_, body)| body.node_ids().all(|inner| is_pure(body, inner)))
}
