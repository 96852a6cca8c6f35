//! Operators of ONNX Runtime's own domain that fuse ONNX's.

use super::super::rule::{Rule, RuleFn};
use super::{convolution, elementwise, matmul};

/// The rule of an operator of `com.microsoft`.
pub(super) fn find(op_type: &str) -> Option<RuleFn> {
    Some(match op_type {
        "Gelu" | "FastGelu" | "QuickGelu" | "BiasGelu" => elementwise::broadcast,
        "FusedMatMul" => fused_matmul,
        "FusedGemm" => matmul::gemm,
        "FusedConv" => fused_conv,
        _ => return None,
    })
}

fn fused_matmul(rule: &mut Rule<'_>) -> Option<()> {
    let plain = ["transA", "transB", "transBatchA", "transBatchB"].iter().all(|name| rule.int(name, 0) == 0);
    if plain { matmul::product(rule, 0, 1) } else { None }
}

/// A Conv with an activation, and a tensor (3) that is added before it.
fn fused_conv(rule: &mut Rule<'_>) -> Option<()> {
    if rule.has(3) {
        return None;
    }
    convolution::conv(rule)
}
