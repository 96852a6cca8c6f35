//! `opset-too-new`

use serde_json::json;

use crate::lint::check::{Check, Cure, Example, FindingPlace, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "opset-too-new",
    severity: Severity::Error,
    summary: "The opset is newer than the runtime knows.",
    about: "ONNX Runtime does not load a model of an opset that it does not know; the parser of TensorRT reads it as the newest it has, and \
            may take an operator for an older form.",
    cure: Cure::advice("`secateur convert-opset --to N` goes down, too, and names the operators that have no older form"),
    examples: &[
        Example::found(onnx!(21, "g (float[2] x) => (float[2] y) { y = Relu(x) }"), &["the model"]).on("ort@1.16"),
        Example::found(onnx!(18, "g (float[2] x) => (float[2] y) { y = Relu(x) }"), &["the model"]).on("tensorrt@8.6"),
        Example::silent(onnx!(21, "g (float[2] x) => (float[2] y) { y = Relu(x) }")).on("ort"),
        Example::silent(onnx!(17, "g (float[2] x) => (float[2] y) { y = Relu(x) }")).on("tensorrt@8.6"),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    let Some(opset) = subject.model.opset() else { return };
    for target in found.targets {
        let (first, last) = target.release.opsets;
        if opset <= last {
            continue;
        }
        let message = format!(
            "the model is of opset {opset}, {} {} takes {first} to {last}",
            target.name, target.release.version
        );
        let severity = match target.name {
            "tensorrt" => Severity::Warning,
            _ => Severity::Error,
        };
        found
            .add_for(target, severity, FindingPlace::default(), message)
            .mended_by("convert-opset", json!({ "to": last }));
    }
}
