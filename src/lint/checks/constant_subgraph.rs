//! `constant-subgraph`

use std::collections::HashSet;

use crate::analysis::is_pure;
use crate::ir::{NodeId, ValueId};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{GraphView, Subject};

pub(super) const CHECK: Check = Check {
    code: "constant-subgraph",
    severity: Severity::Warning,
    summary: "Operators that compute the same in every run.",
    about: "All that they read are constants. ONNX Runtime folds them each time it loads the model; tract, TensorRT's parser and converters \
            may need the result while they read the next node, and refuse a Reshape whose sizes are computed. What would be larger than what \
            it is computed from is left out, and so is a DequantizeLinear, whose codes are the point of it.",
    cure: Cure::step("`secateur fold-constants` computes them once", "fold-constants", "{}"),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { [first] a = Neg(w) [last] b = Exp(a) y = Mul(x, b) }"
            ),
            &["last"],
        ),
        Example::silent(onnx!(17, "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Mul(x, w) }")),
        Example::silent(onnx!(
            17,
            "g (float[2] x) => (float[2] y) <int8[2] w = {1, 2}, float s = {0.5}> { a = DequantizeLinear(w, s) y = Mul(x, a) }"
        )),
        // Larger than what it is made of.
        Example::silent(onnx!(
            17,
            "g (float[64] x) => (float[64] y) <int64[1] n = {64}> { a = ConstantOfShape(n) y = Mul(x, a) }"
        )),
    ],
    run,
};

/// Results up to this many bytes may be larger than what they are computed from.
const FREE: u64 = 64;

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        let known = known(view);
        for id in view.order.iter().filter(|id| known.contains(id)) {
            let value = ValueId::new(*id, 0);
            let read = view.graph.is_graph_output(value)
                || view.graph.readers(*id).any(|(_, reader)| !known.contains(&reader.node));
            if !read {
                continue;
            }
            let part = behind(view, *id, &known);
            let bytes: u64 = part.iter().map(|one| constant_bytes(view, *one)).sum();
            let Some(own) = bytes_of(view, value).filter(|own| *own <= bytes.max(FREE)) else {
                continue;
            };
            let message = match part.len() {
                1 => format!("{own} bytes are computed from {bytes} bytes of constants in every run"),
                count => format!("{own} bytes are computed from {bytes} bytes of constants by {count} nodes in every run"),
            };
            found.add(view.node(*id), message);
        }
    }
}

/// Operators that read constants alone, directly or through others.
fn known(view: &GraphView<'_>) -> HashSet<NodeId> {
    let mut known: HashSet<NodeId> = HashSet::new();
    for (id, operator) in view.operators() {
        let stays = ["DequantizeLinear", "QuantizeLinear", "Identity"].iter().any(|name| operator.is(name));
        let inputs = view.graph.inputs_of(id);
        let mut values = inputs.iter().flatten().peekable();
        if stays || operator.has_bodies() || !operator.domain().is_empty() || values.peek().is_none() {
            continue;
        }
        let all = values.all(|value| known.contains(&value.node) || view.graph.constant(*value).is_some());
        if all && is_pure(view.graph, id) {
            known.insert(id);
        }
    }
    known
}

/// The known operators that one is computed from, itself included.
fn behind(view: &GraphView<'_>, id: NodeId, known: &HashSet<NodeId>) -> HashSet<NodeId> {
    let (mut found, mut pending) = (HashSet::from([id]), vec![id]);
    while let Some(at) = pending.pop() {
        for value in view.graph.inputs_of(at).into_iter().flatten() {
            if known.contains(&value.node) && found.insert(value.node) {
                pending.push(value.node);
            }
        }
    }
    found
}

/// Bytes of the constants that a node reads.
fn constant_bytes(view: &GraphView<'_>, id: NodeId) -> u64 {
    let inputs = view.graph.inputs_of(id).into_iter().flatten();
    let constants = inputs.filter_map(|value| view.graph.constant(value));
    constants.map(|tensor| tensor.byte_len()).sum()
}

fn bytes_of(view: &GraphView<'_>, value: ValueId) -> Option<u64> {
    let ty = view.graph.ty(value);
    let dims = ty.fixed_shape()?;
    let elements = dims
        .into_iter()
        .try_fold(1u64, |product, dim| product.checked_mul(u64::try_from(dim).ok()?))?;
    ty.dtype()?.byte_len(elements)
}
