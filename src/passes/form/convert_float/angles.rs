//! Angles computed from positions: a position times a frequency needs more bits than float16 and bfloat16 have, and the sine of what
//! is left is another number.

use std::collections::HashSet;

use super::families::{Family, family};
use crate::ir::{DType, Graph, NodeId, ValueId};

/// Operators between whole numbers and a sine or cosine of them, these included.
pub(super) fn find(graph: &Graph) -> HashSet<NodeId> {
    let mut whole: HashSet<ValueId> = HashSet::new();
    let mut found = HashSet::new();
    for id in graph.topological_order() {
        let Some(operator) = graph.operator(id) else {
            continue;
        };
        let inputs: Vec<ValueId> = graph.inputs_of(id).into_iter().flatten().collect();
        let integer = |value: &ValueId| graph.ty(*value).dtype().is_some_and(|dtype| dtype.is_integer());
        let known =
            |value: &ValueId| whole.contains(value) || graph.constant(*value).is_some() || integer(value);
        let any = inputs.iter().any(|value| whole.contains(value));
        let derived = match family(operator) {
            _ if operator.is("Cast") => {
                inputs
                    .iter()
                    .any(|value| integer(value) && graph.constant(*value).is_none())
                    || any
            }
            _ if operator.is("Range") => true,
            Family::Moves | Family::Adds | Family::Multiplies | Family::Divides | Family::Products => {
                any && inputs.iter().all(known)
            }
            Family::Other if matches!(&*operator.op_type, "Sin" | "Cos") && any => {
                mark(graph, id, &whole, &mut found);
                false
            }
            _ => false,
        };
        let float = |value: ValueId| graph.ty(value).dtype() == Some(DType::F32);
        if derived && float(ValueId::new(id, 0)) {
            whole.insert(ValueId::new(id, 0));
        }
    }
    found
}

/// The operator and those that its whole numbers come through.
fn mark(graph: &Graph, id: NodeId, whole: &HashSet<ValueId>, found: &mut HashSet<NodeId>) {
    let mut pending = vec![id];
    while let Some(id) = pending.pop() {
        if !found.insert(id) {
            continue;
        }
        let inputs = graph.inputs_of(id).into_iter().flatten();
        pending.extend(
            inputs
                .filter(|value| whole.contains(value))
                .map(|value| value.node),
        );
    }
}
