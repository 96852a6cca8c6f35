//! Weights that are stored as codes and the few values that the codes stand for: `Gather(codebook, Cast(codes))`.

use crate::ir::{DType, Graph, NodeId, Operator, Slot, ValueId};

/// Most values of a codebook: codes have 8 bits.
const MOST_VALUES: u64 = 256;

/// The codebook that `node` looks codes up in: a constant vector of floats that a Gather reads at indices which a Cast makes of unsigned
/// integers of at most 8 bits.
pub fn codebook(graph: &Graph, node: NodeId) -> Option<ValueId> {
    let operator = graph.operator(node).filter(|operator| operator.is("Gather"))?;
    let (book, indices) = (graph.input(node, 0)?, graph.input(node, 1)?);
    let tensor = graph.constant(book)?;
    let vector = tensor.rank() == 1 && tensor.elements() <= MOST_VALUES && tensor.dtype().is_float();
    let first = matches!(operator.int("axis").unwrap_or(0), 0 | -1);
    graph
        .operator(indices.node)
        .filter(|operator| is_index_cast(operator))?;
    let codes = graph.ty(graph.input(indices.node, 0)?).dtype()?;
    let narrow = matches!(codes, DType::U8 | DType::U4 | DType::U2);
    (vector && first && narrow).then_some(book)
}

/// Whether `node` reads codes as what they stand for: it looks them up, or it makes indices of them that a lookup reads. Once such a node
/// is folded the weight takes as much as before it was shared.
pub fn reads_codes(graph: &Graph, node: NodeId) -> bool {
    let Some(operator) = graph.operator(node) else {
        return false;
    };
    if is_index_cast(operator) {
        let mut readers = graph.readers_of(ValueId::new(node, 0));
        return readers.any(|at| at.slot == Slot::Input(1) && codebook(graph, at.node).is_some());
    }
    codebook(graph, node).is_some()
}

fn is_index_cast(operator: &Operator) -> bool {
    let to = operator.int("to").filter(|_| operator.is("Cast"));
    to.is_some_and(|to| {
        [DType::I32, DType::I64]
            .iter()
            .any(|dtype| i64::from(dtype.onnx()) == to)
    })
}
