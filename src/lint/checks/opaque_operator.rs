//! `opaque-operator`

use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{Subject, operator_name};

/// Domains whose operators are known, here or to a runtime.
const KNOWN: [&str; 5] = ["", "ai.onnx.ml", "ai.onnx.preview.training", "ai.onnx.preview", "com.microsoft"];

pub(super) const CHECK: Check = Check {
    code: "opaque-operator",
    severity: Severity::Warning,
    summary: "An operator that nothing in the file defines.",
    about: "It is of a domain of somebody's own and no function gives it a body, or it claims to be ONNX's and the imported opset has no such \
            operator. Only a runtime with a kernel registered for it runs the model; shapes behind it are unknown, and no rewrite touches it. \
            Operators of `com.microsoft` are ONNX Runtime's and not mentioned here.",
    cure: Cure::advice(
        "export it as operators of ONNX, add a model-local function for it, or raise the opset to one that has it (`secateur convert-opset`)",
    ),
    examples: &[
        Example::found(
            "<ir_version: 8, opset_import: [\"\" : 17, \"acme\" : 1]> g (float[2] x) => (float[2] y) { [own] y = acme.Magic(x) }",
            &["own"],
        ),
        Example::found(onnx!(13, "g (float[2] x) => (float[2] y) { [gelu] y = Gelu(x) }"), &["gelu"]),
        Example::silent(
            "<ir_version: 8, opset_import: [\"\" : 17, \"acme\" : 1]> g (float[2] x) => (float[2] y) { y = acme.Magic(x) } \
             <domain: \"acme\", opset_import: [\"\" : 17]> Magic (a) => (b) { b = Neg(a) }",
        ),
        Example::silent(
            "<ir_version: 8, opset_import: [\"\" : 17, \"com.microsoft\" : 1]> g (float[2] x) => (float[2] y) \
             { y = com.microsoft.FastGelu(x) }",
        ),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        for (id, operator) in view.operators() {
            if subject.functions.called_by(view.graph, id).is_some() {
                continue;
            }
            let domain = operator.imported_domain();
            let message = if operator.is_opaque() {
                let version = crate::ir::opset_version(subject.model.opsets(&view.path), domain).unwrap_or(1);
                format!("opset {version} has no operator {}", operator_name(operator))
            } else if !KNOWN.contains(&domain) {
                format!("no function defines {}", operator_name(operator))
            } else {
                continue;
            };
            found.add(view.node(id), message);
        }
    }
}
