//! `index-through-float`

use crate::ir::{DType, NodeId, Operator};
use crate::lint::check::{Check, Cure, Example, Found, Severity, onnx};
use crate::lint::subject::{GraphView, Subject};

pub(super) const CHECK: Check = Check {
    code: "index-through-float",
    severity: Severity::Note,
    summary: "Whole numbers are cast to float and back.",
    about: "float32 holds whole numbers up to 16,777,216 and float16 up to 2,048; larger ones are rounded to a neighbour. As sizes of images \
            they are safe; as token ids, flat indices or time stamps they are not, and in half precision ids of a vocabulary already break.",
    cure: Cure::advice("leave the arithmetic in int64: Div of integers rounds towards zero, as `//` does for positive numbers"),
    examples: &[
        Example::found(
            onnx!(17, "g (int64[N] x) => (int64[N] y) { a = Cast <to = 1> (x) b = Floor(a) [back] y = Cast <to = 7> (b) }"),
            &["back"],
        ),
        Example::silent(onnx!(17, "g (int64[N] x) => (int64[N] y) { a = Cast <to = 11> (x) y = Cast <to = 7> (a) }")),
        Example::silent(onnx!(17, "g (float[N] x) => (int64[N] y) { a = Floor(x) y = Cast <to = 7> (a) }")),
        // Booleans and small types are whole numbers that float holds.
        Example::silent(onnx!(17, "g (uint8[N] x) => (int64[N] y) { a = Cast <to = 1> (x) y = Cast <to = 7> (a) }")),
    ],
    run,
};

fn run(subject: &Subject<'_>, found: &mut Found<'_>) {
    for view in &subject.graphs {
        for (id, operator) in view.operators().filter(|(_, operator)| to_integer(operator)) {
            let Some((from, float)) = origin(view, id) else { continue };
            let exact = if float == DType::F16 { "2,048" } else { "16,777,216" };
            let message = format!("{from} went through {float}, which is exact up to {exact}");
            debug_assert!(operator.is("Cast"));
            found.add(view.node(id), message);
        }
    }
}

fn to_integer(operator: &Operator) -> bool {
    let wide = [DType::I64, DType::I32].map(|dtype| i64::from(dtype.onnx()));
    operator.is("Cast") && operator.int("to").is_some_and(|to| wide.contains(&to))
}

/// The integer type that a float which is cast to an integer comes from, through roundings at most, and the float type.
fn origin(view: &GraphView<'_>, id: NodeId) -> Option<(DType, DType)> {
    let mut at = id;
    loop {
        let (producer, operator) = view.producer(at, 0)?;
        if operator.is("Cast") {
            let from = view.input_type(producer, 0)?.dtype()?;
            let float = view.input_type(at, 0)?.dtype()?;
            let whole = matches!(from, DType::I64 | DType::I32 | DType::U64 | DType::U32);
            return (whole && matches!(float, DType::F32 | DType::F16)).then_some((from, float));
        }
        ["Ceil", "Floor", "Round"].iter().find(|name| operator.is(name))?;
        at = producer;
    }
}
