//! `unfused-batch-norm`

use crate::ir::NodeId;
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{GraphView, Subject};

pub(super) const CHECK: Check = Check {
    code: "unfused-batch-norm",
    severity: Severity::Warning,
    summary: "A BatchNormalization stands behind a layer that it could be folded into.",
    about: "Scale and shift of each channel are factors of the weights before them. ONNX Runtime folds some of these when it loads a model, \
            other runtimes and every quantizer take the node as it is: weights are then quantized without the factor that they are \
            multiplied with. Only constants of which nothing else is read are counted.",
    cure: Cure::step(
        "`secateur simplify` folds it into the weights",
        "simplify",
        r#"{"only": ["conv-batch-norm", "conv-transpose-batch-norm", "gemm-batch-norm"]}"#,
    ),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <float[1, 1, 1, 1] w = {2}, float[1] s = {1}, float[1] b = {0}, \
                 float[1] m = {0}, float[1] v = {1}> { c = Conv(x, w) [norm] y = BatchNormalization(c, s, b, m, v) }"
            ),
            &["norm"],
        ),
        // Something else reads what the convolution puts out.
        Example::silent(onnx!(
            17,
            "g (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y, float[1, 1, 4, 4] z) <float[1, 1, 1, 1] w = {2}, float[1] s = {1}, \
             float[1] b = {0}, float[1] m = {0}, float[1] v = {1}> { c = Conv(x, w) y = BatchNormalization(c, s, b, m, v) z = Relu(c) }"
        )),
        Example::silent(onnx!(
            17,
            "g (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <float[1] s = {1}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1}> \
             { c = Relu(x) y = BatchNormalization(c, s, b, m, v) }"
        )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        for (id, operator) in view.operators().filter(|(_, operator)| operator.is("BatchNormalization")) {
            let outputs = view.graph.get(id).map_or(0, |node| node.outputs().len());
            let constant = (1..5).all(|slot| view.constant(id, slot).is_some());
            if outputs != 1 || operator.int("training_mode").unwrap_or(0) != 0 || !constant {
                continue;
            }
            if let Some((layer, name)) = layer_before(view, id) {
                let channels = view.constant(id, 1).map_or(0, |scale| scale.elements());
                let message = format!(
                    "the weights of {name} {} could take it in, with {channels} {}",
                    view.graph.label(layer),
                    if channels == 1 { "channel" } else { "channels" }
                );
                found.add(view.node(id), message);
            }
        }
    }
}

/// The layer that only this node reads, with a constant weight and at most a constant bias.
fn layer_before<'m>(view: &GraphView<'m>, norm: NodeId) -> Option<(NodeId, &'m str)> {
    let (layer, operator) = view.producer(norm, 0)?;
    let kind = ["Conv", "ConvTranspose", "Gemm"].iter().any(|name| operator.is(name));
    let bias = view.graph.input(layer, 2).is_none() || view.constant(layer, 2).is_some();
    let alone = view.only_reader(layer) == Some(norm);
    (kind && bias && alone && view.constant(layer, 1).is_some()).then_some((layer, operator.op_type.as_str()))
}
