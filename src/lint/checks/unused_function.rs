//! `unused-function`

use std::collections::BTreeSet;

use crate::analysis::graph_name;
use crate::ir::GraphPath;
use crate::lint::check::{Check, Cure, Example, FindingPlace, Found, Severity};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "unused-function",
    severity: Severity::Note,
    summary: "A model-local function that nothing calls.",
    about: "What an exporter writes for every module stays when the calls are inlined. Readers have to know each opset that such a function \
            imports, and refuse the model for one that it does not need.",
    cure: Cure::step("`secateur eliminate-dead-code` removes it", "eliminate-dead-code", "{}"),
    examples: &[
        Example::found(
            "<ir_version: 8, opset_import: [\"\" : 17, \"f\" : 1]> g (float[2] x) => (float[2] y) { y = Relu(x) } \
             <domain: \"f\", opset_import: [\"\" : 17]> spare (a) => (b) { b = Neg(a) }",
            &["function f.spare"],
        ),
        Example::silent(
            "<ir_version: 8, opset_import: [\"\" : 17, \"f\" : 1]> g (float[2] x) => (float[2] y) { y = f.used(x) } \
             <domain: \"f\", opset_import: [\"\" : 17]> used (a) => (b) { b = Neg(a) }",
        ),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    let called: BTreeSet<usize> = subject
        .graphs
        .iter()
        .flat_map(|view| view.order.iter().map(move |id| (view.graph, *id)))
        .filter_map(|(graph, id)| subject.functions.place_called_by(graph, id))
        .collect();
    for index in (0..subject.model.functions.len()).filter(|index| !called.contains(index)) {
        let place = FindingPlace {
            graph: graph_name(subject.model, &GraphPath::function(index)),
            ..FindingPlace::default()
        };
        found.add(place, "no node calls this function");
    }
}
