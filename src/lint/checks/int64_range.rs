//! `int64-range`

use crate::ir::DType;
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;
use crate::lint::targets::Target;

/// Numbers this large mean "to the end" in Slice and the like, and stay that when they are cut to 32 bits.
const SENTINEL: u64 = 1 << 62;

pub(super) const CHECK: Check = Check {
    code: "int64-range",
    severity: Severity::Error,
    summary: "An int64 constant does not fit the 32 bits that the runtime computes with.",
    about: "TensorRT before 10 casts int64 down and clamps, and WebGPU has no 64-bit integers: a hash, a time stamp or a flat index becomes \
            another number. The bounds of Slice that mean the end are left out.",
    cure: Cure::advice("split the number, or keep the arithmetic on it outside of the model"),
    examples: &[
        Example::found(
            onnx!(17, "g (int64[2] x) => (int64[2] y) <int64[1] k = {5000000000}> { y = Add(x, k) }"),
            &["k"],
        )
        .on("tensorrt@8.6"),
        Example::silent(onnx!(17, "g (int64[2] x) => (int64[2] y) <int64[1] k = {5000000000}> { y = Add(x, k) }"))
            .on("tensorrt"),
        Example::silent(onnx!(
            17,
            "g (float[9] x) => (float[N] y) <int64[1] a = {1}, int64[1] b = {9223372036854775807}> { y = Slice(x, a, b) }"
        ))
        .on("tensorrt@8.6"),
    ],
    run,
};

fn narrows(target: &Target) -> bool {
    match target.name {
        "tensorrt" => !target.is_newest(),
        name => name == "webgpu",
    }
}

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for target in found.targets.iter().filter(|target| narrows(target)) {
        for weight in &subject.weights.all {
            let range = weight.scan.integers.filter(|_| weight.tensor.dtype() == DType::I64);
            let wide = |value: i64| i32::try_from(value).is_err();
            let Some(view) = subject.graphs.get(weight.graph) else {
                continue;
            };
            if !range.is_some_and(|(low, high)| wide(low) || wide(high)) {
                continue;
            }
            let Ok(values) = weight.tensor.to_i64() else { continue };
            let meant = |value: &&i64| wide(**value) && value.unsigned_abs() < SENTINEL;
            let beyond: Vec<&i64> = values.iter().filter(meant).collect();
            if let Some(first) = beyond.first() {
                let message = format!("{} of {} elements need more than 32 bits, the first of them {first}", beyond.len(), values.len());
                found.add_for(target, Severity::Error, view.value(weight.name), message);
            }
        }
    }
}
