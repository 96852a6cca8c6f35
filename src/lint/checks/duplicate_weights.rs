//! `duplicate-weights`

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::ir::{DType, Dims, tensor_type};
use crate::lint::check::{Check, Cure, Example, Found, Severity, elements256, onnx, sixteen};
use crate::lint::subject::Subject;
use crate::lint::weights::{Held, Weight};

/// Constants below this many bytes are not worth a word.
const LEAST: u64 = 1024;

pub(super) const CHECK: Check = Check {
    code: "duplicate-weights",
    severity: Severity::Warning,
    summary: "The same bytes are stored several times.",
    about: "Exporters write a weight that two layers share once for each of them, and a constant of a loop once for each round. The file is \
            larger for it, and so is what a runtime holds in memory. Constants of less than 1 KiB are not mentioned, and two names for one \
            range of an external file cost nothing.",
    cure: Cure::step(
        "`secateur deduplicate-initializers` keeps one of them",
        "deduplicate-initializers",
        "{}",
    ),
    examples: &[
        Example::found(
            onnx!(
                17,
                "g (float[256] x) => (float[256] y) <float[256] a = {",
                elements256!("1,", "2"),
                "}, float[256] b = {",
                elements256!("1,", "2"),
                "}, float[256] c = {",
                elements256!("1,", "3"),
                "}> { d = Add(x, a) e = Mul(d, b) y = Sub(e, c) }"
            ),
            &["b"],
        ),
        Example::silent(onnx!(
            17,
            "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {1, 2}> { c = Add(x, a) y = Add(c, b) }"
        )),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    type Key = (usize, DType, Dims, [u8; 32]);
    let mut groups: HashMap<Key, Vec<&Weight<'_>>> = HashMap::new();
    let mut order: Vec<Key> = Vec::new();
    let mut ranges = HashSet::new();
    for weight in &subject.weights.all {
        let (bytes, dtype) = (weight.tensor.byte_len(), weight.tensor.dtype());
        if weight.held == Held::Default || bytes < LEAST || dtype == DType::String {
            continue;
        }
        let dims = weight.tensor.dims().iter().copied().collect();
        let key = (weight.graph, dtype, dims, weight.scan.digest);
        // Two names for one range of a file.
        if let Ok(Cow::Borrowed(stored)) = weight.tensor.raw()
            && !ranges.insert((weight.graph, stored.as_ptr()))
        {
            continue;
        }
        let group = groups.entry(key.clone()).or_default();
        group.push(weight);
        if group.len() == 2 {
            order.push(key);
        }
    }
    for key in order {
        let Some([first, others @ ..]) = groups.get(&key).map(Vec::as_slice) else {
            continue;
        };
        let (Some(view), Some(second)) = (subject.graphs.get(key.0), others.first()) else {
            continue;
        };
        let more = match others.len() {
            1 => String::new(),
            count => format!(" and {} others", count - 1),
        };
        let message = format!(
            "{}{more}: the same {} as {}, {} bytes too many",
            second.name,
            tensor_type(first.tensor),
            first.name,
            first.tensor.byte_len() * others.len() as u64,
        );
        found.add(view.value(second.name), message);
    }
}
