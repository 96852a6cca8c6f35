//! Reductions.

use super::super::emit::Var;
use super::{Call, Grads, Rule, first};
use crate::ir::Dim;

pub(super) const RULES: &[Rule] = &[
    first("ReduceL1", |c| along(c, |r| &r.g * r.x.sign())),
    // x/y, and 0 where the norm is 0
    first("ReduceL2", |c| {
        along(c, |r| {
            let zero = r.y.equal(&r.y.number(0.0));
            let safe = zero.choose(&r.y.number(1.0), &r.y);
            &r.g / safe * &r.x
        })
    }),
    first("ReduceLogSum", |c| along(c, |r| &r.g * (-&r.y).exp())),
    first("ReduceLogSumExp", |c| along(c, |r| &r.g * (&r.x - &r.y).exp())),
    first("ReduceMax", |c| along(c, shared)),
    first("ReduceMean", |c| {
        along(c, |r| {
            let sizes: Vec<Dim> = r.axes.iter().map(|axis| r.x.dim(*axis)).collect();
            &r.g / r.x.e.count(r.x.dtype, &sizes)
        })
    }),
    first("ReduceMin", |c| along(c, shared)),
    first("ReduceProd", |c| along(c, product)),
    first("ReduceSum", |c| along(c, |r| r.g.clone())),
    first("ReduceSumSquare", |c| along(c, |r| &r.g * &r.x * 2.0)),
];

/// A reduction, with the reduced axes kept as axes of size 1.
struct Reduction<'e> {
    x: Var<'e>,
    y: Var<'e>,
    g: Var<'e>,
    axes: Vec<usize>,
}

fn along<'e>(c: &Call<'e>, product: impl Fn(&Reduction<'e>) -> Var<'e>) -> Grads<'e> {
    let x = c.x();
    let axes = c.axes(1, x.rank()).filter(|axes| !axes.is_empty());
    let mut axes = match axes {
        Some(axes) => axes,
        None if c.int("noop_with_empty_axes", 0) != 0 => Vec::new(),
        None => (0..x.rank()).collect(),
    };
    axes.sort_unstable();
    axes.dedup();
    let kept = |var: Var<'e>| {
        if c.int("keepdims", 1) != 0 {
            var
        } else {
            var.unsqueeze(&axes)
        }
    };
    let reduction = Reduction {
        y: kept(c.y()),
        g: kept(c.g()),
        axes: axes.clone(),
        x: x.clone(),
    };
    c.answer(product(&reduction).expand_like(&x))
}

/// In equal shares to the elements that equal the result.
fn shared<'e>(r: &Reduction<'e>) -> Var<'e> {
    let hit = r.x.equal(&r.y).cast(r.x.dtype);
    &hit / hit.total(&r.axes) * &r.g
}

/// The product of the other elements, which is y/x unless an element is 0.
fn product<'e>(r: &Reduction<'e>) -> Var<'e> {
    let zero = r.x.equal(&r.x.number(0.0));
    let one = r.x.number(1.0);
    let zeros = zero.cast(r.x.dtype);
    let safe = zero.choose(&one, &r.x);
    // With one zero only that element has a product of others that is not 0; with two all are 0.
    let nonzero = safe.reduce("ReduceProd", &r.axes);
    let count = zeros.total(&r.axes);
    let none = count.equal(&r.x.number(0.0)).cast(r.x.dtype);
    let single = count.equal(&one).cast(r.x.dtype);
    &r.g * nonzero * (none / safe + single * zeros)
}
