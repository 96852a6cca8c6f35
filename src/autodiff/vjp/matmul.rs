//! Matrix products.

use super::super::emit::Var;
use super::{Call, Grads, Rule, all};
use crate::ir::{Dim, Operator, Shape};

pub(super) const RULES: &[Rule] = &[all("Einsum", einsum), all("Gemm", gemm), all("MatMul", matmul)];

/// Y = αA'B' + βC.
fn gemm<'e>(c: &Call<'e>) -> Grads<'e> {
    let (a, b, g) = (c.input(0), c.input(1), c.g());
    let (alpha, beta) = (c.float("alpha", 1.0), c.float("beta", 1.0));
    let (ta, tb) = (c.int("transA", 0) != 0, c.int("transB", 0) != 0);
    let scaled = if alpha == 1.0 { g.clone() } else { &g * alpha };
    let da = c.needs(0).then(|| {
        let bt = if tb { b.clone() } else { b.transposed() };
        // dA' = g·B'ᵀ, and for A' = Aᵀ its transpose B'·gᵀ.
        if ta {
            bt.transposed().matmul(&scaled.transposed())
        } else {
            scaled.matmul(&bt)
        }
    });
    let db = c.needs(1).then(|| {
        let at = if ta { a.clone() } else { a.transposed() };
        if tb {
            scaled.transposed().matmul(&at.transposed())
        } else {
            at.matmul(&scaled)
        }
    });
    let dc = c.optional(2).filter(|_| c.needs(2)).map(|bias| {
        let g = if beta == 1.0 { g.clone() } else { &g * beta };
        g.unbroadcast(bias, &[&c.y()])
    });
    vec![da, db, dc]
}

/// Vectors count as a row on the left and as a column on the right.
fn matmul<'e>(c: &Call<'e>) -> Grads<'e> {
    let (a, b) = (c.input(0), c.input(1));
    let (row, column) = (a.rank() == 1, b.rank() == 1);
    let wide_a = if row { a.unsqueeze(&[0]) } else { a.clone() };
    let wide_b = if column { b.unsqueeze(&[1]) } else { b.clone() };
    let mut g = c.g();
    if column {
        g = g.unsqueeze(&[g.rank()]);
    }
    if row {
        g = g.unsqueeze(&[g.rank() - 1]);
    }
    let da = c.needs(0).then(|| {
        let full = g.matmul(&wide_b.transposed());
        let reduced = full.unbroadcast(&wide_a, &[&leading(&wide_b)]);
        if row { reduced.squeeze(&[0]) } else { reduced }
    });
    let db = c.needs(1).then(|| {
        let reduced = weight_gradient(&wide_a, &wide_b, &g);
        if column { reduced.squeeze(&[1]) } else { reduced }
    });
    vec![da, db]
}

/// Aᵀ·g. For a matrix B under a batch of As this is one product over the flattened batch instead of a batch of products
/// that are then summed.
fn weight_gradient<'e>(a: &Var<'e>, b: &Var<'e>, g: &Var<'e>) -> Var<'e> {
    if b.rank() == 2 && a.rank() > 2 {
        let (inner, columns) = (a.dim(a.rank() - 1), g.dim(g.rank() - 1));
        if inner.fixed().is_some() && columns.fixed().is_some() {
            let rows = (0..a.rank() - 1).fold(Dim::Fixed(1), |product, axis| product.mul(&a.dim(axis)));
            let a = a.reshape(&[rows.clone(), inner]);
            let g = g.reshape(&[rows, columns]);
            return a.transposed().matmul(&g);
        }
    }
    a.transposed().matmul(g).unbroadcast(b, &[&leading(a)])
}

/// The operand with only its leading axes able to broadcast: the last two belong to the product.
fn leading<'e>(operand: &Var<'e>) -> Var<'e> {
    let mut operand = operand.clone();
    let rank = operand.rank();
    for dim in operand.shape.iter_mut().skip(rank.saturating_sub(2)) {
        *dim = Dim::Fixed(1);
    }
    operand
}

/// The gradient of an operand is the Einsum of g and the other operands onto the operand's own labels; labels that only the
/// operand has are broadcast.
fn einsum<'e>(c: &Call<'e>) -> Grads<'e> {
    let equation: String = c
        .operator
        .string("equation")
        .unwrap_or_default()
        .chars()
        .filter(|ch| !ch.is_whitespace())
        .collect();
    if equation.contains('.') {
        return c.refuse("its equation has an ellipsis");
    }
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left.to_owned(), right.to_owned()),
        None => {
            let mut once: Vec<char> = equation.chars().filter(|ch| ch.is_ascii_alphabetic()).collect();
            once.sort();
            let single = once
                .iter()
                .filter(|ch| once.iter().filter(|other| other == ch).count() == 1);
            (equation.clone(), single.collect())
        }
    };
    let terms: Vec<&str> = left.split(',').collect();
    let repeats = |term: &str| term.chars().any(|ch| term.matches(ch).count() > 1);
    if terms.iter().any(|term| repeats(term)) || repeats(&right) {
        return c.refuse("a label occurs twice in one operand");
    }
    if terms.len() != c.inputs.len() {
        return c.refuse("its equation does not fit its inputs");
    }
    let sizes: Vec<Var<'e>> = (0..terms.len()).map(|slot| c.input(slot)).collect();
    // An axis of size 1 would broadcast against a larger one of the same label.
    for (term, var) in terms.iter().zip(&sizes) {
        for (axis, label) in term.chars().enumerate() {
            let spread = terms.iter().zip(&sizes).any(|(other, operand)| {
                other
                    .chars()
                    .position(|ch| ch == label)
                    .is_some_and(|at| operand.dim(at) != var.dim(axis))
            });
            if var.dim(axis) == Dim::Fixed(1) && spread {
                return c.refuse("an axis of size 1 is broadcast");
            }
        }
    }
    (0..terms.len())
        .map(|slot| {
            if !c.needs(slot) {
                return None;
            }
            let (term, input) = (terms.get(slot)?, sizes.get(slot)?);
            let others: Vec<usize> = (0..terms.len()).filter(|other| *other != slot).collect();
            let reached = |label: char| {
                right.contains(label)
                    || others
                        .iter()
                        .any(|o| terms.get(*o).is_some_and(|t| t.contains(label)))
            };
            let kept: String = term.chars().filter(|label| reached(*label)).collect();
            let mut parts = vec![right.as_str()];
            let mut operands = vec![c.g()];
            for other in others.iter().copied() {
                parts.push(terms.get(other)?);
                operands.push(sizes.get(other)?.clone());
            }
            let shape: Shape = term
                .chars()
                .enumerate()
                .filter(|(_, l)| reached(*l))
                .map(|(axis, _)| input.dim(axis))
                .collect();
            let equation = format!("{}->{kept}", parts.join(","));
            let operator = Operator::new("Einsum").with("equation", equation.as_str());
            let operands: Vec<&Var<'e>> = operands.iter().collect();
            let product = c.e.one(operator, &operands, input.dtype, shape);
            let missing: Vec<usize> = term
                .chars()
                .enumerate()
                .filter(|(_, l)| !reached(*l))
                .map(|(axis, _)| axis)
                .collect();
            Some(product.unsqueeze(&missing).expand_like(input))
        })
        .collect()
}
