//! `opset-too-old`

use serde_json::json;

use crate::lint::check::{Check, Cure, Example, FindingPlace, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "opset-too-old",
    severity: Severity::Warning,
    summary: "The opset is older than what the runtime promises to run.",
    about: "Runtimes keep the forms of operators from some opset on, and say so: ONNX Runtime from 7, TensorRT 10 from 9. Older models \
            may load and may not.",
    cure: Cure::advice("`secateur convert-opset --to N` rewrites the operators whose form has changed"),
    examples: &[
        Example::found(onnx!(6, "g (float[2] x) => (float[2] y) { y = Relu(x) }"), &["the model"]).on("ort"),
        Example::found(onnx!(8, "g (float[2] x) => (float[2] y) { y = Relu(x) }"), &["the model"]).on("tensorrt"),
        Example::silent(onnx!(8, "g (float[2] x) => (float[2] y) { y = Relu(x) }")).on("tensorrt@8"),
        Example::silent(onnx!(7, "g (float[2] x) => (float[2] y) { y = Relu(x) }")).on("ort"),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    let Some(opset) = subject.model.opset() else { return };
    for target in found.targets {
        let (first, last) = target.release.opsets;
        if opset >= first {
            continue;
        }
        let message = format!(
            "the model is of opset {opset}, {} {} takes {first} to {last}",
            target.name, target.release.version
        );
        found
            .add_for(target, Severity::Warning, FindingPlace::default(), message)
            .mended_by("convert-opset", json!({ "to": first }));
    }
}
