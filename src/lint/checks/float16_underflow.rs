//! `float16-underflow`

use crate::ir::{DType, ValueId};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{GraphView, Subject};

pub(super) const CHECK: Check = Check {
    code: "float16-underflow",
    severity: Severity::Note,
    summary: "A small number that guards a division, a root or a logarithm becomes zero in float16.",
    about: "An epsilon such as 1e-12, added to a norm or set as its lower bound so that nothing is divided by zero. Numbers up to 3e-8 are zero \
            in float16, and the guard is gone: the result is infinite or NaN for the inputs that it was written for.",
    cure: Cure::advice(
        "`secateur convert-float` keeps the epsilon and what it guards in float32; or take 1e-6 in the source, where the model allows it",
    ),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[2, 8] x) => (float[2, 8] y) <float eps = {1e-12}> { n = ReduceL2 <axes = [1]> (x) m = Max(n, eps) y = Div(x, m) }"
            ),
            &["eps"],
        ),
        Example::found(
            onnx!(17, "g (float[2] x) => (float[2] y) <float eps = {1e-10}> { a = Add(x, eps) y = Log(a) }"),
            &["eps"],
        ),
        Example::silent(onnx!(
            17,
            "g (float[2] x) => (float[2] y) <float eps = {1e-5}> { a = Add(x, eps) y = Log(a) }"
        )),
        // Nothing divides by it.
        Example::silent(onnx!(17, "g (float[2] x) => (float[2] y) <float k = {1e-12}> { a = Add(x, k) y = Relu(a) }")),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for weight in &subject.weights.all {
        let single = weight.tensor.elements() == 1 && weight.tensor.dtype() == DType::F32;
        if !single || weight.scan.below_half != 1 {
            continue;
        }
        let Some(view) = subject.graphs.get(weight.graph) else {
            continue;
        };
        let Some(guarded) = guarded(view, ValueId::new(weight.id, 0)) else {
            continue;
        };
        let message = format!("{:e} guards {guarded}, and is zero in float16", weight.scan.largest as f32);
        found.add(view.value(weight.name), message);
    }
}

/// What the number keeps from zero: a divisor or the operand of a root or logarithm that it is added to or that it bounds.
fn guarded(view: &GraphView<'_>, value: ValueId) -> Option<String> {
    view.graph.uses(value).into_iter().find_map(|reader| {
        let operator = view.graph.operator(reader.node)?;
        let bounds = ["Add", "Clip", "Max"].iter().any(|name| operator.is(name));
        let sum = ValueId::new(reader.node, 0);
        let behind = view.graph.uses(sum).into_iter().filter(|_| bounds);
        let mut dangerous = behind.filter_map(|next| {
            let operator = view.graph.operator(next.node)?;
            let divides = operator.is("Div") && view.graph.input(next.node, 1) == Some(sum);
            let powers = operator.is("Pow")
                && view.graph.input(next.node, 0) == Some(sum)
                && view
                    .constant(next.node, 1)
                    .and_then(|power| power.single_f64())
                    .is_some_and(|power| power < 0.0);
            let other = ["Log", "Reciprocal", "Sqrt"].iter().any(|name| operator.is(name));
            (divides || powers || other).then(|| format!("the {} {}", operator.op_type, view.graph.label(next.node)))
        });
        dangerous.next()
    })
}
