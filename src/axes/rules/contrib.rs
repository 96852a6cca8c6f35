//! Operators of ONNX Runtime's own domain: fused forms of ONNX's, and operators on quantized tensors, whose scales and zero points
//! stand beside each tensor.

use super::super::elements::Axis;
use super::super::rule::{Axes, Rule};
use super::{Row, convolution, elementwise, matmul};

/// Rules of operators of `com.microsoft`.
pub(super) const RULES: &[Row] = &[
    ("Gelu", elementwise::broadcast),
    ("FastGelu", elementwise::broadcast),
    ("QuickGelu", elementwise::broadcast),
    ("BiasGelu", elementwise::broadcast),
    ("FusedMatMul", fused_matmul),
    ("FusedGemm", matmul::gemm),
    ("FusedConv", fused_conv),
    ("QLinearAdd", quantized_binary),
    ("QLinearMul", quantized_binary),
    ("QLinearLeakyRelu", elementwise::unary),
    ("QLinearSigmoid", elementwise::unary),
    ("QLinearGlobalAveragePool", quantized_pool),
    ("QLinearAveragePool", quantized_pool),
    ("QLinearConcat", quantized_concat),
    ("QGemm", quantized_gemm),
];

fn fused_matmul(rule: &mut Rule<'_>) -> Option<()> {
    let plain = ["transA", "transB", "transBatchA", "transBatchB"]
        .iter()
        .all(|name| rule.int(name, 0) == 0);
    if plain { matmul::product(rule, 0, 1) } else { None }
}

/// A Conv with an activation, and a tensor (3) that is added before it.
fn fused_conv(rule: &mut Rule<'_>) -> Option<()> {
    if rule.has(3) {
        return None;
    }
    convolution::conv(rule)
}

/// Whether none of these inputs has more than one element.
fn scalars(rule: &mut Rule<'_>, slots: &[usize]) -> bool {
    slots.iter().all(|slot| {
        rule.axes(*slot)
            .is_none_or(|axes| axes.iter().all(|axis| !axis.is_free()))
    })
}

/// A, its scale and zero point, B, its scale and zero point, the result's.
fn quantized_binary(rule: &mut Rule<'_>) -> Option<()> {
    if !scalars(rule, &[1, 2, 4, 5, 6, 7]) {
        return None;
    }
    let axes = rule.broadcast(&[0, 3], 0)?;
    rule.set(0, axes);
    Some(())
}

fn quantized_pool(rule: &mut Rule<'_>) -> Option<()> {
    if rule.int("channels_last", 0) != 0 {
        return None;
    }
    convolution::pool(rule)
}

/// The result's scale and zero point, then each tensor with its own.
fn quantized_concat(rule: &mut Rule<'_>) -> Option<()> {
    let slots: Vec<usize> = (2..rule.inputs.len()).step_by(3).collect();
    let mut result: Axes = rule.axes(2)?;
    let axis = rule.at(rule.operator.int("axis")?, result.len())?;
    let mut sizes = Vec::with_capacity(slots.len());
    for slot in &slots {
        let axes = rule.axes(*slot)?;
        if axes.len() != result.len() || !scalars(rule, &[slot + 1, slot + 2]) {
            return None;
        }
        for at in (0..axes.len()).filter(|at| *at != axis) {
            rule.same(axes[at], result[at], *slot, at);
            if !axes[at].is_free() {
                result[at] = Axis::Fixed;
            }
        }
        sizes.push(rule.size(*slot, axis)?);
    }
    let whole = rule.fresh(sizes.iter().fold(0, |sum, size| sum.saturating_add(*size)));
    let mut offset = 0;
    for (slot, size) in slots.iter().zip(sizes) {
        let own = rule.axis(*slot, axis)?;
        rule.same(own, whole.part(offset, size), *slot, axis);
        offset += size;
    }
    result[axis] = whole;
    rule.set(0, result);
    Some(())
}

/// A, its scale and zero point, B, its scale and zero point (one or one a column), C, the result's scale and zero point.
fn quantized_gemm(rule: &mut Rule<'_>) -> Option<()> {
    let (a, b) = (rule.axes(0)?, rule.axes(3)?);
    if a.len() != 2 || b.len() != 2 || !scalars(rule, &[1, 2, 7, 8]) {
        return None;
    }
    let at_a = usize::from(rule.int("transA", 0) != 0);
    let at_b = usize::from(rule.int("transB", 0) != 0);
    rule.same(a[1 - at_a], b[at_b], 0, 1 - at_a);
    let columns = b[1 - at_b];
    for slot in [4, 5, 6] {
        let Some(axes) = rule.axes(slot) else { continue };
        match axes.as_slice() {
            [axis] if axis.is_free() => rule.same(*axis, columns, slot, 0),
            _ if axes.iter().any(|axis| axis.is_free()) => return None,
            _ => {}
        }
    }
    rule.set(0, [a[at_a], columns]);
    Some(())
}
