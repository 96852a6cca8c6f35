//! Matrix products.

use super::super::call::Call;
use super::elementwise::{broadcast, broadcast_to};
use super::{Family, apart, fixed, shown};
use crate::ir::{Dim, Shape};

pub(super) const CHECKS: Family = &[
    ("Attention", attention),
    ("Einsum", einsum),
    ("Gemm", gemm),
    ("MatMul", |call| matmul(call, 1)),
    ("MatMulInteger", |call| matmul(call, 1)),
    ("QLinearMatMul", |call| matmul(call, 3)),
];

fn matmul(call: &Call<'_>, right: usize) -> Option<String> {
    let (a, b) = (call.shape(0)?, call.shape(right)?);
    let inner = match b.as_slice() {
        [] => return None,
        [only] => only,
        [.., rows, _] => rows,
    };
    if apart(a.last()?, inner) {
        return Some(format!(
            "{} and {} have no product: the inner sizes are {} and {inner}",
            shown(a),
            shown(b),
            a.last()?
        ));
    }
    let batch = |shape: &Shape| -> Shape {
        let count = shape.len().saturating_sub(2);
        shape.iter().take(count).cloned().collect()
    };
    broadcast(&[&batch(a), &batch(b)])
        .map(|_| format!("the batches of {} and {} do not broadcast", shown(a), shown(b)))
}

fn gemm(call: &Call<'_>) -> Option<String> {
    let (a, b) = (call.shape(0)?, call.shape(1)?);
    let side = |shape: &Shape, name: &str, axis: usize| {
        let axis = if call.int_or(name, 0) != 0 { 1 - axis } else { axis };
        shape.get(axis).cloned().unwrap_or(Dim::Unknown)
    };
    if a.len() != 2 || b.len() != 2 {
        // Old models feed more axes and rely on flattening.
        return (call.version >= 11).then(|| format!("{} and {} are no matrices", shown(a), shown(b)));
    }
    let (left, right) = (side(a, "transA", 1), side(b, "transB", 0));
    if apart(&left, &right) {
        return Some(format!(
            "{} and {} have no product: the inner sizes are {left} and {right}",
            shown(a),
            shown(b)
        ));
    }
    if call.schema?.attribute("broadcast").is_some() {
        return None;
    }
    let result = [side(a, "transA", 0), side(b, "transB", 1)];
    broadcast_to(call.shape(2)?, &result)
}

/// Queries, keys and values have one batch: nothing broadcasts there.
fn attention(call: &Call<'_>) -> Option<String> {
    let mut known: Option<Dim> = None;
    for input in 0..3 {
        let dim = call.dim(input, 0);
        match &known {
            Some(known) if apart(known, &dim) => {
                return Some(format!(
                    "query {}, key {} and value {} have other batches",
                    shown(call.shape(0)?),
                    shown(call.shape(1)?),
                    shown(call.shape(2)?)
                ));
            }
            None if fixed(&dim).is_some() => known = Some(dim),
            _ => {}
        }
    }
    None
}

fn einsum(call: &Call<'_>) -> Option<String> {
    let text = call.operator.string("equation")?;
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let operands = text.split("->").next()?;
    let mut sizes: std::collections::BTreeMap<char, i64> = std::collections::BTreeMap::new();
    for (input, term) in operands.split(',').enumerate() {
        let Some(shape) = call.shape(input).filter(|_| !term.contains('.')) else {
            continue;
        };
        if term.chars().count() != shape.len() {
            return Some(format!("`{term}` does not name the axes of {}", shown(shape)));
        }
        for (letter, dim) in term.chars().zip(shape) {
            let Some(size) = fixed(dim).filter(|size| *size > 1) else {
                continue;
            };
            let known = *sizes.entry(letter).or_insert(size);
            if known != size {
                return Some(format!("`{letter}` of `{text}` is {known} and {size}"));
            }
        }
    }
    None
}
