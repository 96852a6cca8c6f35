//! `duplicate-node-name`

use std::collections::BTreeMap;

use crate::ir::NodeId;
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "duplicate-node-name",
    severity: Severity::Note,
    summary: "Several nodes of a graph have one name.",
    about: "A list of nodes to exclude, to keep in float or to profile means all of them, and TensorRT's layers are told apart by numbers. \
            ONNX does not forbid it.",
    cure: Cure::advice("rename one in the exporter, or clear the names: tools fall back on the names of outputs, which are unique"),
    examples: &[
        Example::found(
            onnx!(17, "g (float[2] x) => (float[2] y) { [act] a = Relu(x) [act] y = Exp(a) }"),
            &["act"],
        ),
        Example::silent(onnx!(17, "g (float[2] x) => (float[2] y) { [a] a = Relu(x) [b] y = Exp(a) }")),
        Example::silent(onnx!(17, "g (float[2] x) => (float[2] y) { a = Relu(x) y = Exp(a) }")),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        let mut named: BTreeMap<&str, Vec<NodeId>> = BTreeMap::new();
        for (id, _) in view.operators() {
            let name = view.graph.get(id).and_then(|node| node.name.as_ref());
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                named.entry(name.as_str()).or_default().push(id);
            }
        }
        for nodes in named.values().filter(|nodes| nodes.len() > 1) {
            let Some(first) = nodes.first() else { continue };
            let mut place = view.node(*first);
            place.operator = None;
            found.add(place, format!("{} nodes have this name", nodes.len()));
        }
    }
}
