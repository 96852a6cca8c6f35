//! `ir-version-too-new`

use crate::lint::check::{Check, Cure, Example, FindingPlace, Found, Severity};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "ir-version-too-new",
    severity: Severity::Error,
    summary: "The IR version of the file is newer than the runtime reads.",
    about: "Each release of the onnx package writes its own IR version by default, and ONNX Runtime refuses a file of a newer one than it \
            knows, whatever opset the model is of.",
    cure: Cure::advice(
        "set `model.ir_version` before saving (exporters write the newest), or take a newer runtime; `secateur convert-opset` to an older \
         opset lowers it as well",
    ),
    examples: &[
        Example::found(
            "<ir_version: 10, opset_import: [\"\" : 17]> g (float[2] x) => (float[2] y) { y = Relu(x) }",
            &["the model"],
        )
        .on("ort@1.17"),
        Example::silent("<ir_version: 9, opset_import: [\"\" : 17]> g (float[2] x) => (float[2] y) { y = Relu(x) }")
            .on("ort@1.17"),
        Example::silent("<ir_version: 10, opset_import: [\"\" : 17]> g (float[2] x) => (float[2] y) { y = Relu(x) }"),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    let version = subject.model.ir_version();
    for target in found.targets {
        let Some(newest) = target.release.ir_version.filter(|newest| version > *newest) else {
            continue;
        };
        let message = format!(
            "the file is of IR version {version}, {} {} reads up to {newest}",
            target.name, target.release.version
        );
        found.add_for(target, Severity::Error, FindingPlace::default(), message);
    }
}
