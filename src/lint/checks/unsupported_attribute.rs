//! `unsupported-attribute`

use crate::ir::AttributeValue;
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;
use crate::lint::tables::restrictions;

pub(super) const CHECK: Check = Check {
    code: "unsupported-attribute",
    severity: Severity::Error,
    summary: "The runtime has the operator, but not with this attribute.",
    about: "Ways of reading coordinates in Resize, recurrent layers with the batch first, reductions of ScatterND: forms that ONNX has and a \
            parser refuses by name. From the restrictions that the documentation of TensorRT lists and from what ONNX Runtime answers.",
    cure: Cure::advice("export with another form: `half_pixel` or `asymmetric` for Resize, sequences first for recurrent layers"),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[1, 1, 2, 2] x) => (float[1, 1, 4, 4] y) <float[4] s = {1, 1, 2, 2}> \
                 { [grow] y = Resize <mode = \"cubic\"> (x, , s) }"
            ),
            &["grow"],
        )
        .on("tensorrt"),
        Example::found(
            onnx!(
                17,
                "g (float[1, 3, 2] x, float[1, 8, 2] w, float[1, 8, 2] r) => (float[1, 3, 1, 2] y) \
                 { [lstm] y = LSTM <hidden_size = 2, layout = 1> (x, w, r) }"
            ),
            &["lstm"],
        )
        .on("ort"),
        Example::silent(onnx!(
            17,
            "g (float[1, 1, 2, 2] x) => (float[1, 1, 4, 4] y) <float[4] s = {1, 1, 2, 2}> { y = Resize <mode = \"linear\"> (x, , s) }"
        ))
        .on("tensorrt"),
        Example::silent(onnx!(17, "g (float[1, 1, 4, 4] x) => (float[1, 1, 3, 3] y) { y = MaxPool <kernel_shape = [2, 2], dilations = [1, 1]> (x) }"))
            .on("tensorrt"),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for target in found.targets {
        for row in restrictions().iter().filter(|row| row.target == target.name) {
            for view in &subject.graphs {
                let those = view.operators().filter(|(_, operator)| row.operators.iter().any(|op| operator.is(op)));
                for (id, operator) in those {
                    let values = operator.attribute(row.attribute).map(words).unwrap_or_default();
                    let Some(other) = values.iter().find(|word| !row.taken.contains(&word.as_str())) else {
                        continue;
                    };
                    let message = format!("{} = {other}: {}", row.attribute, row.why);
                    found.add_for(target, Severity::Error, view.node(id), message);
                }
            }
        }
    }
}

/// The values of an attribute as the table writes them.
fn words(value: &AttributeValue) -> Vec<String> {
    match value {
        AttributeValue::Int(one) => vec![one.to_string()],
        AttributeValue::Ints(all) => all.iter().map(i64::to_string).collect(),
        AttributeValue::String(text) => vec![String::from_utf8_lossy(text).into_owned()],
        _ => Vec::new(),
    }
}
