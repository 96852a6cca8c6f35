//! Operators that broadcast their inputs.

use super::super::call::Call;
use super::{Family, apart, fixed, shown};
use crate::ir::{Dim, Shape};

pub(super) const CHECKS: Family = &[
    ("Add", binary),
    ("And", binary),
    ("BitShift", binary),
    ("BitwiseAnd", binary),
    ("BitwiseOr", binary),
    ("BitwiseXor", binary),
    ("Div", binary),
    ("Equal", binary),
    ("Expand", expand),
    ("Greater", binary),
    ("GreaterOrEqual", binary),
    ("Less", binary),
    ("LessOrEqual", binary),
    ("Max", variadic),
    ("Mean", variadic),
    ("Min", variadic),
    ("Mod", binary),
    ("Mul", binary),
    ("Or", binary),
    ("Pow", binary),
    ("PRelu", prelu),
    ("Sub", binary),
    ("Sum", variadic),
    ("Where", |call| broadcast(&shapes(call, 3))),
    ("Xor", binary),
];

fn shapes<'c>(call: &'c Call<'_>, count: usize) -> Vec<&'c Shape> {
    (0..count).filter_map(|input| call.shape(input)).collect()
}

/// Why shapes do not broadcast to one.
pub(super) fn broadcast(shapes: &[&Shape]) -> Option<String> {
    let rank = shapes.iter().map(|shape| shape.len()).max()?;
    for axis in 0..rank {
        let mut wide: Option<i64> = None;
        for shape in shapes {
            let at = (axis + shape.len()).checked_sub(rank);
            let size = at.and_then(|at| fixed(shape.get(at)?)).filter(|size| *size > 1);
            match (wide, size) {
                (Some(known), Some(size)) if known != size => {
                    return Some(format!(
                        "{} do not broadcast: axis {axis} is {known} and {size}",
                        list(shapes)
                    ));
                }
                (None, Some(size)) => wide = Some(size),
                _ => {}
            }
        }
    }
    None
}

/// Why `from` does not broadcast to `to`, which keeps its shape.
pub(super) fn broadcast_to(from: &[Dim], to: &[Dim]) -> Option<String> {
    let fits = |(a, b): (&Dim, &Dim)| a.fixed() == Some(1) || !apart(a, b);
    let mut aligned = from.iter().rev().zip(to.iter().rev());
    (from.len() > to.len() || !aligned.all(fits))
        .then(|| format!("{} does not broadcast to {}", shown(from), shown(to)))
}

fn list(shapes: &[&Shape]) -> String {
    let shapes: Vec<String> = shapes.iter().map(|shape| shown(shape)).collect();
    shapes.join(" and ")
}

fn binary(call: &Call<'_>) -> Option<String> {
    // Before opset 7 operands are stretched on request only, by another law.
    let schema = call.schema?;
    if schema.attribute("broadcast").is_some() {
        return None;
    }
    broadcast(&shapes(call, 2))
}

fn variadic(call: &Call<'_>) -> Option<String> {
    if call.schema?.since < 8 {
        return None;
    }
    broadcast(&shapes(call, call.inputs.len()))
}

fn expand(call: &Call<'_>) -> Option<String> {
    let wanted: Shape = call.sizes(1)?.elements.iter().cloned().collect();
    broadcast(&[call.shape(0)?, &wanted])
}

fn prelu(call: &Call<'_>) -> Option<String> {
    if call.schema?.since < 9 {
        return None;
    }
    // ONNX stretches the slope alone; ONNX Runtime stretches either operand, and models rely on it.
    broadcast(&shapes(call, 2))
}
