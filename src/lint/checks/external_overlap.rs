//! `external-overlap`

use crate::lint::check::{Check, Cure, Example, Found, Severity, elements256, onnx, sixteen};
use crate::lint::subject::Subject;

pub(super) const CHECK: Check = Check {
    code: "external-overlap",
    severity: Severity::Error,
    summary: "Two tensors share a part of a file of external data.",
    about: "One tensor begins within another. Two names for exactly one range are a weight that is shared; a part in common is an offset that \
            was computed wrongly, and one of the two reads the elements of the other.",
    cure: Cure::advice("save the model again from where it came from; the offsets in this file do not belong to it"),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[256] x) => (float[256] y) <float[256] a = {",
                elements256!("1,", "2"),
                "}, float[256] b = {",
                elements256!("1,", "2"),
                "}> { z = Mul(x, a) y = Mul(z, b) }"
            ),
            &["b"],
        )
        .beside(2048, &[("a", 0), ("b", 512)]),
        Example::silent(onnx!(
            17,
            "g (float[256] x) => (float[256] y) <float[256] a = {",
            elements256!("1,", "2"),
            "}, float[256] b = {",
            elements256!("1,", "2"),
            "}> { z = Mul(x, a) y = Mul(z, b) }"
        ))
        .beside(2048, &[("a", 0), ("b", 1024)]),
        // One range under two names.
        Example::silent(onnx!(
            17,
            "g (float[256] x) => (float[256] y) <float[256] a = {",
            elements256!("1,", "2"),
            "}, float[256] b = {",
            elements256!("1,", "2"),
            "}> { z = Mul(x, a) y = Mul(z, b) }"
        ))
        .beside(1024, &[("a", 0), ("b", 0)]),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    let mut ranges = subject.external_ranges();
    ranges.retain(|range| range.end > range.start);
    ranges.sort_by(|a, b| (a.location, a.start, a.end).cmp(&(b.location, b.start, b.end)));
    let mut longest = match ranges.first() {
        Some(first) => first.clone(),
        None => return,
    };
    for range in ranges.into_iter().skip(1) {
        let same = range.location == longest.location;
        let identical = same && (range.start, range.end) == (longest.start, longest.end);
        if same && range.start < longest.end && !identical
            && let Some(view) = subject.graphs.get(range.graph)
        {
            let message = format!(
                "bytes {} to {} of {} belong to {} as well",
                range.start,
                longest.end.min(range.end),
                range.location,
                longest.name
            );
            found.add(view.value(&range.name), message);
        }
        if !same || range.end > longest.end {
            longest = range;
        }
    }
}
