//! Codes in a graph: which values are codes of which scale and zero point, and which values depend on data.

use std::collections::HashSet;

use crate::ir::{DType, Graph, NodeId, NodeKind, ValueId};

/// Nodes that are followed from codes to where their scale stands.
const STEPS: usize = 64;

/// Operators on codes, with the input slots of the scale and the zero point of their output.
const CODED: &[(&str, &str, usize, usize)] = &[
    ("", "QuantizeLinear", 1, 2),
    ("com.microsoft", "QuantizeLinear", 1, 2),
    ("", "QLinearConv", 6, 7),
    ("", "QLinearMatMul", 6, 7),
    ("com.microsoft", "QLinearAdd", 6, 7),
    ("com.microsoft", "QLinearMul", 6, 7),
    ("com.microsoft", "QLinearAveragePool", 3, 4),
    ("com.microsoft", "QLinearConcat", 0, 1),
    ("com.microsoft", "QLinearGlobalAveragePool", 3, 4),
    ("com.microsoft", "QLinearLeakyRelu", 3, 4),
    ("com.microsoft", "QLinearReduceMean", 3, 4),
    ("com.microsoft", "QLinearSigmoid", 3, 4),
    ("com.microsoft", "QLinearSoftmax", 3, 4),
    ("com.microsoft", "QLinearWhere", 7, 8),
    ("com.microsoft", "QGemm", 7, 8),
];

/// Operators whose output has the codes of their first input.
const MOVING: &[&str] = &[
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "Identity",
    "MaxPool",
    "Pad",
    "Relu",
    "Reshape",
    "Resize",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Scale and zero point of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Coding {
    pub(super) scale: ValueId,
    pub(super) zero: Option<ValueId>,
}

/// Whether elements of this type are codes where they depend on data.
pub(super) fn is_code(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::I4 | DType::U4
    )
}

/// Whether `node` is `QuantizeLinear`, of ONNX or of ONNX Runtime's domain.
pub(super) fn is_quantize(graph: &Graph, node: NodeId) -> bool {
    graph
        .operator(node)
        .is_some_and(|operator| &*operator.op_type == "QuantizeLinear")
}

/// Whether `node` is `DequantizeLinear`, of ONNX or of ONNX Runtime's domain.
pub(super) fn is_dequantize(graph: &Graph, node: NodeId) -> bool {
    graph
        .operator(node)
        .is_some_and(|operator| &*operator.op_type == "DequantizeLinear")
}

/// The scale and zero point of codes, where they are constants with one element.
pub(super) fn coding(graph: &Graph, codes: ValueId) -> Option<Coding> {
    let mut value = codes;
    for _ in 0..STEPS {
        let operator = graph.operator(value.node)?;
        let entry = CODED
            .iter()
            .find(|(domain, name, ..)| operator.domain() == *domain && &*operator.op_type == *name);
        if let Some((_, _, scale, zero)) = entry {
            let scale = graph.input(value.node, *scale)?;
            let zero = graph.input(value.node, *zero);
            let single = |value: ValueId| graph.constant(value).is_some_and(|tensor| tensor.elements() == 1);
            return (single(scale) && zero.is_none_or(single)).then_some(Coding { scale, zero });
        }
        if !operator.domain().is_empty() || !MOVING.contains(&&*operator.op_type) {
            return None;
        }
        value = graph.input(value.node, 0)?;
    }
    None
}

/// The lowest and highest number that codes of `dtype` stand for, and the distance of two codes.
pub(super) fn span(graph: &Graph, coding: Coding, dtype: DType) -> Option<(f64, f64, f64)> {
    let scale = graph.constant(coding.scale)?.single_f64()?;
    let zero = match coding.zero {
        Some(value) => graph.constant(value)?.single_f64()?,
        None => 0.0,
    };
    let (low, high) = dtype.integer_range()?;
    Some(((low as f64 - zero) * scale, (high as f64 - zero) * scale, scale))
}

/// Nodes whose outputs depend on what is in the graph inputs, and not on their shapes alone.
pub(super) fn data_dependent(graph: &Graph) -> HashSet<NodeId> {
    let mut found = HashSet::new();
    for id in graph.topological_order() {
        let depends = match graph.get(id).map(|node| &node.kind) {
            Some(NodeKind::Input(_)) => true,
            Some(NodeKind::Operator(operator)) => {
                !(operator.is("Shape") || operator.is("Size"))
                    && graph
                        .inputs_of(id)
                        .iter()
                        .chain(&graph.captures_of(id))
                        .flatten()
                        .any(|value| found.contains(&value.node))
            }
            _ => false,
        };
        if depends {
            found.insert(id);
        }
    }
    found
}
