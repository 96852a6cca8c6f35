//! `contradicting-declaration`

use crate::analysis::graph_name;
use crate::lint::check::{Check, Cure, Example, FindingPlace, Found, Severity, onnx};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "contradicting-declaration",
    severity: Severity::Warning,
    summary: "The file declares a type for a value that the value cannot have.",
    about: "A `value_info` entry or a graph output whose declared shape or element type contradicts what follows from the operators. ONNX \
            Runtime warns and goes on with one of the two, other runtimes plan memory for the wrong one, and callers allocate outputs by it.",
    cure: Cure::advice("export again, or remove the declaration: runtimes infer the type; the size of an output is for its exporter to mend"),
    examples: &[
        Example::found(onnx!(17, "g (float[2, 3] x) => (float[3, 3] y) { y = Relu(x) }"), &["y"]),
        Example::found(
            onnx!(17, "g (float[2, 3] x) => (float[2, 3] y) <float[2, 3, 1] z> { z = Exp(x) y = Relu(z) }"),
            &["z"],
        ),
        Example::silent(onnx!(17, "g (float[N, 3] x) => (float[M, 3] y) { y = Relu(x) }")),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for one in &subject.contradictions {
        let place = FindingPlace {
            graph: graph_name(subject.model, &one.path),
            node: None,
            operator: None,
            value: Some(one.value.clone()),
        };
        let message = format!("declared as {}, but {} gives {}", one.declared, one.node, one.inferred);
        found.add(place, message);
    }
}
