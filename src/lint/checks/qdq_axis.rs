//! `qdq-axis`

use crate::analysis::linear::{Family, operand};
use crate::ir::{Slot, ValueId};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "qdq-axis",
    severity: Severity::Warning,
    summary: "The scales of a weight lie on another axis than its output channels.",
    about: "An integer kernel sums products of codes and multiplies the sum by one scale, which is the same along the sum only if scales \
            belong to output channels: axis 0 of Conv, axis 1 of MatMul and of Gemm, 0 with `transB`. On another axis the layer runs in \
            float, or a runtime that takes the axis for granted computes something else.",
    cure: Cure::advice("quantize the float model again: `secateur quantize` takes the axis from the operator"),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[1, 2] x) => (float[1, 2] y) <int8[2, 2] w = {1, 2, 3, 4}, float[2] s = {0.1, 0.2}> \
                 { v = DequantizeLinear <axis = 0> (w, s) [product] y = MatMul(x, v) }"
            ),
            &["product"],
        ),
        Example::silent(onnx!(
            17,
            "g (float[1, 2] x) => (float[1, 2] y) <int8[2, 2] w = {1, 2, 3, 4}, float[2] s = {0.1, 0.2}> \
             { v = DequantizeLinear <axis = 1> (w, s) y = MatMul(x, v) }"
        )),
        Example::silent(onnx!(
            17,
            "g (float[1, 2] x) => (float[1, 2] y) <int8[2, 2] w = {1, 2, 3, 4}, float[2] s = {0.1, 0.2}> \
             { v = DequantizeLinear <axis = 0> (w, s) y = Gemm <transB = 1> (x, v) }"
        )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        for (id, operator) in view.operators().filter(|(_, operator)| operator.is("DequantizeLinear")) {
            let (Some(codes), Some(scale)) = (view.constant(id, 0), view.constant(id, 1)) else {
                continue;
            };
            // Scales of blocks have the rank of the codes.
            if scale.rank() != 1 || scale.elements() < 2 {
                continue;
            }
            let rank = codes.rank() as i64;
            let axis = operator.int("axis").unwrap_or(1);
            let axis = if axis < 0 { axis + rank } else { axis };
            for reader in view.graph.uses(ValueId::new(id, 0)) {
                let (Slot::Input(slot), Some(layer)) = (reader.slot, view.graph.operator(reader.node)) else {
                    continue;
                };
                let weight = operand(layer, slot as usize, codes.rank());
                let Some(own) = weight.filter(|one| one.family != Family::Lookup && one.groups == 1) else {
                    continue;
                };
                let Some(output) = own.output_axis.filter(|output| *output as i64 != axis) else {
                    continue;
                };
                let message = format!(
                    "{} scales on axis {axis} of the weight {:?}, whose output channels are on axis {output}",
                    scale.elements(),
                    codes.dims()
                );
                found.add(view.node(reader.node), message);
            }
        }
    }
}
