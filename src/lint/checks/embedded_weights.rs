//! `embedded-weights`

use crate::ir::tensor_type;
use crate::lint::check::{Check, Cure, Example, Found, Severity, elements256, onnx, sixteen};
use crate::lint::subject::Subject;
use crate::lint::weights::Held;

/// Constants below this many bytes belong where they are.
const LEAST: u64 = 4096;

pub(super) const CHECK: Check = Check {
    code: "embedded-weights",
    severity: Severity::Note,
    summary: "A weight stands in the attribute of a Constant node instead of among the initializers.",
    about: "Quantizers and converters look for weights among the initializers and leave such a layer alone; `onnx.save_model` moves attributes \
            to external data only when told to, so that the message may exceed 2 GiB with everything else outside. From 4 KiB on.",
    cure: Cure::advice(
        "export with initializers (`keep_initializers_as_inputs=False`, constant folding on), or run it through ONNX Runtime's offline \
         optimisation; secateur itself reads both alike",
    ),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[1024] x) => (float[1024] y) { w = Constant <value = float[1024] {",
                elements256!("1,", "1,"),
                elements256!("1,", "1,"),
                elements256!("1,", "1,"),
                elements256!("1,", "1"),
                "}> () y = Mul(x, w) }"
            ),
            &["w"],
        ),
        Example::silent(onnx!(
            17,
            "g (float[2] x) => (float[2] y) { w = Constant <value = float[2] {1, 2}> () y = Mul(x, w) }"
        )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for weight in subject.weights.all.iter().filter(|weight| weight.held == Held::Node) {
        let bytes = weight.tensor.byte_len();
        if let Some(view) = subject.graphs.get(weight.graph).filter(|_| bytes >= LEAST) {
            let message = format!("{} ({bytes} bytes) is the value of a Constant node", tensor_type(weight.tensor));
            found.add(view.value(weight.name), message);
        }
    }
}
