//! `float64-island`

use crate::ir::{DType, NodeId, ValueId};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{GraphView, Subject, joined};

/// Tensors up to this many elements are arithmetic on sizes, which costs nothing.
const SMALL: i64 = 16;

pub(super) const CHECK: Check = Check {
    code: "float64-island",
    severity: Severity::Warning,
    summary: "Operators compute in float64 in a model that is float32 around them.",
    about: "A number of Python or NumPy that met a tensor while the model was traced. The operators behind the Cast run at half the speed or \
            less, few runtimes have kernels for them (TensorRT casts down, WebGPU and QNN have none), and the Cast at the end rounds the \
            result anyway. Shape arithmetic on up to 16 numbers is left out.",
    cure: Cure::advice("make the constant or the `.double()` float32 in the source, and export again"),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[N, 64] x) => (float[N, 64] y) <double k = {0.5}> { a = Cast <to = 11> (x) [halved] b = Mul(a, k) c = Exp(b) \
                 y = Cast <to = 1> (c) }"
            ),
            &["halved"],
        ),
        // A model in double from its input on is meant so.
        Example::silent(onnx!(17, "g (double[N, 64] x) => (double[N, 64] y) { y = Exp(x) }")),
        Example::silent(onnx!(
            17,
            "g (float[4] x) => (float[4] y) <double k = {0.5}> { a = Cast <to = 11> (x) b = Mul(a, k) y = Cast <to = 1> (b) }"
        )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        for island in islands(view) {
            let inner = island.iter().filter(|id| !is_cast(view, **id));
            let inner: Vec<NodeId> = inner.copied().collect();
            let entered = island.iter().any(|id| is_entry(view, *id));
            let large = island.iter().any(|id| is_large(view, *id));
            if let ([first, ..], Some(last), true, true) = (inner.as_slice(), inner.last(), entered, large) {
                let message = match inner.len() {
                    1 => "computes in float64 between casts from and to float32".to_owned(),
                    count => format!(
                        "{count} operators compute in float64 between casts, from here to {}",
                        view.graph.label(*last)
                    ),
                };
                found.add(view.node(*first), message);
            }
        }
    }
}

fn is_double(view: &GraphView<'_>, id: NodeId) -> bool {
    view.graph.operator(id).is_some() && view.graph.ty(ValueId::new(id, 0)).dtype() == Some(DType::F64)
}

fn is_cast(view: &GraphView<'_>, id: NodeId) -> bool {
    view.graph.operator(id).is_some_and(|operator| operator.is("Cast"))
}

/// Whether the node turns floats that are computed into doubles.
fn is_entry(view: &GraphView<'_>, id: NodeId) -> bool {
    let source = view.graph.input(id, 0);
    let narrow = source.and_then(|value| view.graph.ty(value).dtype());
    is_cast(view, id)
        && source.is_some_and(|value| view.graph.constant(value).is_none())
        && matches!(narrow, Some(DType::F32 | DType::F16 | DType::BF16))
}

fn is_large(view: &GraphView<'_>, id: NodeId) -> bool {
    let shape = view.graph.ty(ValueId::new(id, 0)).fixed_shape();
    shape.is_none_or(|dims| dims.iter().product::<i64>() > SMALL)
}

/// Nodes whose results are doubles, joined where one reads another, each in the order of the graph.
fn islands(view: &GraphView<'_>) -> Vec<Vec<NodeId>> {
    let ordered = || view.order.iter().copied().filter(|id| is_double(view, *id));
    let sources = |id: NodeId| view.graph.inputs_of(id).into_iter().flatten().map(|value| value.node);
    let edges = ordered().flat_map(|id| {
        sources(id)
            .filter(|source| is_double(view, *source))
            .map(move |source| (id, source))
    });
    joined(view, edges, ordered())
}
