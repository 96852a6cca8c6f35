//! `constant-subgraph`

use std::collections::{BTreeSet, HashSet};

use crate::analysis::{is_pure, linear};
use crate::ir::{NodeId, ValueId};
use crate::lint::check::{Check, Cure, Example, Found, Severity, elements256, onnx, sixteen};
use crate::lint::subject::{GraphView, Subject, joined};

pub(super) const CHECK: Check = Check {
    code: "constant-subgraph",
    severity: Severity::Warning,
    summary: "Operators that compute the same in every run.",
    about: "All that they read are constants. ONNX Runtime folds them each time it loads the model; tract, TensorRT's parser and converters \
            may need the result while they read the next node, and refuse a Reshape whose sizes are computed. What would be larger than what \
            it is computed from is left out, and so are a DequantizeLinear and the Gather of a codebook, whose codes are the point of them.",
    cure: Cure::step(
        "`secateur simplify` computes them once",
        "simplify",
        r#"{"only": ["fold-constants"]}"#,
    ),
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
        Example::silent(onnx!(
            17,
            "g (float[2] x) => (float[2] y) <uint8[2] c = {1, 0}, float[2] b = {0.5, 1}> { i = Cast <to = 6> (c) a = Gather(b, i) y = Mul(x, a) }"
        )),
        // Something else reads the constant, so that it would stand twice.
        Example::silent(onnx!(
            17,
            "g (float[1, 16] x, int64[1] i) => (float[1, 16] y, float[1, 16] z) <float[16, 16] w = {",
            elements256!("1,", "2"),
            "}> { t = Transpose(w) y = MatMul(x, t) z = Gather(w, i) }"
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
        for part in parts(view, &known) {
            // What the part puts out, and the constants that go when it does.
            let results: Vec<NodeId> = part.iter().copied().filter(|id| is_read(view, *id, &known)).collect();
            let sizes: Option<Vec<u64>> = results.iter().map(|id| bytes_of(view, ValueId::new(*id, 0))).collect();
            let Some(sizes) = sizes else { continue };
            let freed: u64 = constants(view, &part).filter(|id| goes(view, *id, &known)).map(|id| size_of(view, id)).sum();
            let pays = sizes.iter().sum::<u64>() <= freed;
            let read: u64 = constants(view, &part).map(|id| size_of(view, id)).sum();
            for (id, own) in results.iter().zip(sizes).filter(|(_, own)| pays || *own <= FREE) {
                let nodes = match part.len() {
                    1 => String::new(),
                    count => format!(" by {count} nodes"),
                };
                let unit = if own == 1 { "byte is" } else { "bytes are" };
                let message = format!("{own} {unit} computed from {read} bytes of constants{nodes} in every run");
                found.add(view.node(*id), message);
            }
        }
    }
}

/// Whether something that is not known reads the result of a node.
fn is_read(view: &GraphView<'_>, id: NodeId, known: &HashSet<NodeId>) -> bool {
    view.graph.is_graph_output(ValueId::new(id, 0))
        || view.graph.readers(id).any(|(_, reader)| !known.contains(&reader.node))
}

/// Whether nothing but known operators reads a constant, so that it goes with them.
fn goes(view: &GraphView<'_>, constant: NodeId, known: &HashSet<NodeId>) -> bool {
    view.graph.readers(constant).all(|(_, reader)| known.contains(&reader.node))
}

/// The constants that some nodes read, each once.
fn constants<'v>(view: &'v GraphView<'_>, nodes: &[NodeId]) -> impl Iterator<Item = NodeId> + use<'v> {
    let inputs = nodes.iter().flat_map(|id| view.graph.inputs_of(*id)).flatten();
    let found: BTreeSet<NodeId> = inputs
        .filter(|value| view.graph.constant(*value).is_some())
        .map(|value| value.node)
        .collect();
    found.into_iter()
}

fn size_of(view: &GraphView<'_>, constant: NodeId) -> u64 {
    view.graph.constant(ValueId::new(constant, 0)).map_or(0, |tensor| tensor.byte_len())
}

/// The known operators, those together that read one another or one constant, each part in the order of the graph.
fn parts(view: &GraphView<'_>, known: &HashSet<NodeId>) -> Vec<Vec<NodeId>> {
    let ordered = || view.order.iter().copied().filter(|id| known.contains(id));
    let sources = |id: NodeId| view.graph.inputs_of(id).into_iter().flatten().map(|value| value.node);
    joined(view, ordered().flat_map(|id| sources(id).map(move |source| (id, source))), ordered())
}

/// Operators that read constants alone, directly or through others.
fn known(view: &GraphView<'_>) -> HashSet<NodeId> {
    let mut known: HashSet<NodeId> = HashSet::new();
    for (id, operator) in view.operators() {
        let stays = ["DequantizeLinear", "QuantizeLinear", "Identity"].iter().any(|name| operator.is(name));
        let inputs = view.graph.inputs_of(id);
        let mut values = inputs.iter().flatten().peekable();
        if stays || linear::reads_codes(view.graph, id) || operator.has_bodies() || !operator.domain().is_empty() || values.peek().is_none() {
            continue;
        }
        let all = values.all(|value| known.contains(&value.node) || view.graph.constant(*value).is_some());
        if all && is_pure(view.graph, id) {
            known.insert(id);
        }
    }
    known
}

fn bytes_of(view: &GraphView<'_>, value: ValueId) -> Option<u64> {
    let ty = view.graph.ty(value);
    let dims = ty.fixed_shape()?;
    let elements = dims
        .into_iter()
        .try_fold(1u64, |product, dim| product.checked_mul(u64::try_from(dim).ok()?))?;
    ty.dtype()?.byte_len(elements)
}
