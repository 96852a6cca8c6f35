//! The operator form of matrix products: QLinearMatMul where pairs stand around a MatMul.

use crate::ir::{EditError, Graph, NodeId, Operator, Value, ValueId};

/// Replaces every MatMul between DequantizeLinear and QuantizeLinear with one scale each by QLinearMatMul. Answers how many.
pub(super) fn operator_form(graph: &mut Graph) -> Result<u64, EditError> {
    let products: Vec<NodeId> = graph
        .topological_order()
        .into_iter()
        .filter(|id| graph.operator(*id).is_some_and(|operator| operator.is("MatMul")))
        .collect();
    let mut editor = graph.edit("quantize");
    let mut count = 0;
    for id in products {
        let graph = editor.graph();
        let (Some(a), Some(b)) = (dequantized(graph, id, 0), dequantized(graph, id, 1)) else {
            continue;
        };
        let product = ValueId::new(id, 0);
        let readers = graph.uses(product);
        let [reader] = readers.as_slice() else { continue };
        let reader = reader.node;
        let is_quantize = graph
            .operator(reader)
            .is_some_and(|operator| operator.is("QuantizeLinear"));
        if !is_quantize || graph.is_graph_output(product) {
            continue;
        }
        let (scale, zero) = (graph.input(reader, 1), graph.input(reader, 2));
        let codes = ValueId::new(reader, 0);
        let ty = graph.ty(codes).clone();
        let mut inputs: Vec<Option<ValueId>> = a.into_iter().chain(b).map(Some).collect();
        inputs.extend([scale, zero]);
        let new = editor.add_operator(
            id,
            Operator::new("QLinearMatMul"),
            &inputs,
            vec![Value::typed("", ty)],
        )?;
        editor.replace(codes, ValueId::new(new, 0))?;
        editor.remove_unused(reader);
        editor.remove_unused(id);
        count += 1;
    }
    Ok(count)
}

/// Codes, scale and zero point behind an input that a DequantizeLinear with one scale produces.
fn dequantized(graph: &Graph, node: NodeId, slot: usize) -> Option<[ValueId; 3]> {
    let source = graph.input(node, slot)?.node;
    graph
        .operator(source)
        .filter(|operator| operator.is("DequantizeLinear"))?;
    let scale = graph.input(source, 1)?;
    graph.constant(scale).filter(|tensor| tensor.elements() == 1)?;
    Some([graph.input(source, 0)?, scale, graph.input(source, 2)?])
}
