//! Softmax and LogSoftmax.

use super::super::emit::Var;
use super::{Call, Rule, first};

pub(super) const RULES: &[Rule] = &[
    // y·(g − Σ g·y)
    first("Softmax", |c| {
        let (g, y) = (c.g(), c.y());
        let axes = axes(c, &y);
        let weighted = (&g * &y).total(&axes);
        c.answer(y * (g - weighted))
    }),
    // g − e^y·Σ g
    first("LogSoftmax", |c| {
        let (g, y) = (c.g(), c.y());
        let total = g.total(&axes(c, &y));
        c.answer(g - y.exp() * total)
    }),
];

/// The axes that are normalised together: one, or before opset 13 all from the given one on.
fn axes<'e>(c: &Call<'e>, y: &Var<'e>) -> Vec<usize> {
    if c.e.opset >= 13 {
        return vec![c.axis(-1, y.rank())];
    }
    let first = c.int("axis", 1);
    let first = if first < 0 { first + y.rank() as i64 } else { first };
    (first.max(0) as usize..y.rank()).collect()
}
