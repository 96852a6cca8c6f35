//! Functions of one element.

use super::{Call, Grads, Rule, first};
use crate::ir::DType;

pub(super) const RULES: &[Rule] = &[
    first("Abs", |c| c.answer(c.g() * c.x().sign())),
    first("Acos", |c| c.answer(-(c.g() / (1.0 - c.x().square()).sqrt()))),
    first("Acosh", |c| c.answer(c.g() / (c.x().square() - 1.0).sqrt())),
    first("Asin", |c| c.answer(c.g() / (1.0 - c.x().square()).sqrt())),
    first("Asinh", |c| c.answer(c.g() / (c.x().square() + 1.0).sqrt())),
    first("Atan", |c| c.answer(c.g() / (c.x().square() + 1.0))),
    first("Atanh", |c| c.answer(c.g() / (1.0 - c.x().square()))),
    first("Cast", cast),
    first("CastLike", cast),
    first("Cos", |c| c.answer(-(c.g() * c.x().unary("Sin")))),
    first("Cosh", |c| c.answer(c.g() * c.x().unary("Sinh"))),
    first("Dropout", dropout),
    // 2/√π · e^(−x²)
    first("Erf", |c| {
        c.answer(c.g() * (-c.x().square()).exp() * std::f64::consts::FRAC_2_SQRT_PI)
    }),
    first("Exp", |c| c.answer(c.g() * c.y())),
    first("Identity", |c| c.answer(c.g())),
    first("Log", |c| c.answer(c.g() / c.x())),
    first("Neg", |c| c.answer(-c.g())),
    first("Reciprocal", |c| c.answer(-(c.g() * c.y().square()))),
    first("Sin", |c| c.answer(c.g() * c.x().unary("Cos"))),
    first("Sinh", |c| c.answer(c.g() * c.x().unary("Cosh"))),
    first("Sqrt", |c| c.answer(c.g() * 0.5 / c.y())),
    first("Tan", |c| c.answer(c.g() * (c.y().square() + 1.0))),
    first("Tanh", |c| c.answer(c.g() * (1.0 - c.y().square()))),
];

fn cast<'e>(c: &Call<'e>) -> Grads<'e> {
    c.answer(c.g().cast(c.x().dtype))
}

/// In inference Dropout is the identity.
fn dropout<'e>(c: &Call<'e>) -> Grads<'e> {
    let training = match c.optional(2) {
        None => false,
        Some(mode) => match c.e.tensor(mode.id) {
            Some(mode) if mode.dtype() == DType::Bool => mode.single_i64() != Some(0),
            _ => return c.refuse("whether it is in training mode is not known"),
        },
    };
    if training {
        return c.refuse("it is in training mode, where its output is random");
    }
    c.answer(c.g())
}
