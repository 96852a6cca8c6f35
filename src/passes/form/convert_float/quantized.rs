//! Operators between quantized values: engines compute them on integers, and Casts between them and their DequantizeLinear or
//! QuantizeLinear would keep engines from it.

use std::collections::HashSet;

use super::families::{Family, family};
use crate::ir::{DType, Graph, NodeId, Slot, Tensor, ValueId};

/// What quantization means for the operators of a graph.
#[derive(Default)]
pub(super) struct Quantized {
    /// Operators that read what is dequantized, or make what is quantized.
    pub(super) between: HashSet<NodeId>,
    /// DequantizeLinear of weights that may give 16 bits themselves.
    pub(super) weights: HashSet<NodeId>,
}

/// `version` is that of ONNX's own operators.
pub(super) fn find(graph: &Graph, dtype: DType, version: i64) -> Quantized {
    let mut found = Quantized::default();
    let order = graph.topological_order();
    // Values that are dequantized, and whether they are so at every run.
    let (mut data, mut weights): (HashSet<ValueId>, HashSet<ValueId>) = Default::default();
    for id in &order {
        let Some(operator) = graph.operator(*id) else {
            continue;
        };
        let output = ValueId::new(*id, 0);
        let inputs: Vec<ValueId> = graph.inputs_of(*id).into_iter().flatten().collect();
        if operator.op_type == *"DequantizeLinear" {
            let stored = inputs
                .first()
                .is_some_and(|value| graph.constant(*value).is_some());
            if stored && version >= 19 && operator.is("DequantizeLinear") && scales_fit(graph, *id, dtype) {
                weights.insert(output);
            } else {
                data.insert(output);
            }
            continue;
        }
        let moves = matches!(family(operator), Family::Moves | Family::Bounds) || operator.is("MaxPool");
        if inputs.iter().any(|value| data.contains(value)) {
            found.between.insert(*id);
            if moves {
                data.insert(output);
            }
        } else if moves && inputs.iter().any(|value| weights.contains(value)) {
            weights.insert(output);
        }
    }
    // What goes to a QuantizeLinear and nowhere else, and has no weights that could be halved.
    for id in order.iter().rev() {
        let Some(node) = graph.get(*id) else { continue };
        let inputs = graph.inputs_of(*id);
        let mut constants = inputs.iter().flatten().filter_map(|value| graph.constant(*value));
        if node.operator().is_none()
            || constants.any(|tensor| tensor.dtype() == DType::F32 && tensor.elements() > 1)
        {
            continue;
        }
        let goes = (0..node.outputs().len()).any(|output| {
            let uses = graph.uses(ValueId::new(*id, output));
            !uses.is_empty()
                && uses.iter().all(|at| {
                    let reader = graph.operator(at.node);
                    let quantizes = reader.is_some_and(|reader| {
                        reader.op_type == *"QuantizeLinear" && at.slot == Slot::Input(0)
                    });
                    let passes =
                        reader.is_some_and(|reader| matches!(family(reader), Family::Moves | Family::Bounds));
                    quantizes || passes && found.between.contains(&at.node)
                })
        });
        if goes {
            found.between.insert(*id);
        }
    }
    // Weights of an operator that computes on integers are dequantized as its data are.
    let mut kept: HashSet<NodeId> = HashSet::new();
    for id in order.iter().rev() {
        let output = ValueId::new(*id, 0);
        if !weights.contains(&output) {
            continue;
        }
        let reads = graph.uses(output);
        let integer = reads
            .iter()
            .any(|at| found.between.contains(&at.node) || kept.contains(&at.node));
        if integer {
            kept.insert(*id);
        } else if graph
            .operator(*id)
            .is_some_and(|operator| operator.is("DequantizeLinear"))
        {
            found.weights.insert(*id);
        }
    }
    found.between.extend(kept);
    found
}

/// Whether the scales of a DequantizeLinear keep their precision in 16 bits.
fn scales_fit(graph: &Graph, id: NodeId, dtype: DType) -> bool {
    let scale = graph.input(id, 1).and_then(|value| graph.constant(value));
    let numbers = scale.and_then(|scale: &Tensor| scale.to_f64().ok());
    let lowest = match dtype {
        DType::F16 => f64::from(half::f16::MIN_POSITIVE),
        _ => 0.0,
    };
    // The 8 bits of bfloat16 would add an error as large as that of 8-bit codes.
    dtype == DType::F16
        && numbers.is_some_and(|numbers| {
            numbers
                .iter()
                .all(|scale| *scale == 0.0 || (lowest..=f64::from(half::f16::MAX)).contains(&scale.abs()))
        })
}
