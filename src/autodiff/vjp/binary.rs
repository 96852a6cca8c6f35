//! Operators that broadcast several operands against each other.

use super::super::emit::Var;
use super::{Call, Grads, Rule, all, only};

pub(super) const RULES: &[Rule] = &[
    all("Add", |c| each(c, |_, g| g.clone())),
    all("Div", div),
    all("Max", extreme),
    all("Mean", |c| {
        let count = c.inputs.len().max(1) as f64;
        each(c, |_, g| g / count)
    }),
    all("Min", extreme),
    all("Mod", modulo),
    all("Mul", mul),
    all("Pow", pow),
    all("Sub", |c| {
        each(c, |slot, g| if slot == 0 { g.clone() } else { -g })
    }),
    all("Sum", |c| each(c, |_, g| g.clone())),
    only("Where", &[1, 2], |c| {
        let (condition, g) = (c.input(0), c.g());
        let zero = g.number(0.0);
        each(c, |slot, g| {
            if slot == 1 {
                condition.choose(g, &zero)
            } else {
                condition.choose(&zero, g)
            }
        })
    }),
];

/// The gradient of each operand from that of the broadcast result.
fn each<'e>(c: &Call<'e>, product: impl Fn(usize, &Var<'e>) -> Var<'e>) -> Grads<'e> {
    let g = c.g();
    (0..c.inputs.len())
        .map(|slot| {
            let input = c.optional(slot).filter(|_| c.needs(slot))?;
            let others: Vec<&Var<'e>> = (0..c.inputs.len())
                .filter(|other| *other != slot)
                .filter_map(|other| c.optional(other))
                .collect();
            Some(product(slot, &g).unbroadcast(input, &others))
        })
        .collect()
}

fn mul<'e>(c: &Call<'e>) -> Grads<'e> {
    let (a, b) = (c.input(0), c.input(1));
    each(c, |slot, g| g * if slot == 0 { &b } else { &a })
}

fn div<'e>(c: &Call<'e>) -> Grads<'e> {
    let (b, y) = (c.input(1), c.y());
    each(c, |slot, g| if slot == 0 { g / &b } else { -(g * &y / &b) })
}

/// x − y·trunc(x/y), which is what Mod means for floats.
fn modulo<'e>(c: &Call<'e>) -> Grads<'e> {
    let quotient = c.input(0) / c.input(1);
    each(c, |slot, g| {
        if slot == 0 {
            g.clone()
        } else {
            -(g * quotient.sign() * quotient.abs().unary("Floor"))
        }
    })
}

/// p·x^(p−1) and y·ln x. Where x is 0 or less the exponent gets no gradient, as in PyTorch.
fn pow<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, y) = (c.input(0), c.y());
    let p = c.input(1);
    let constant = c.e.tensor(p.id).and_then(|tensor| tensor.single_f64());
    let p = p.cast(x.dtype);
    each(c, |slot, g| {
        if slot == 0 {
            return match constant {
                Some(2.0) => g * &x * 2.0,
                Some(exponent) => g * x.pow(&x.number(exponent - 1.0)) * exponent,
                // At p = 0 the product is 0 even where x^(p−1) is infinite.
                None => {
                    let zero = p.equal(&p.number(0.0));
                    let slope = zero.choose(&x.number(0.0), &(&p * x.pow(&(&p - 1.0))));
                    g * slope
                }
            };
        }
        let positive = x.greater(&x.number(0.0));
        let log = positive.choose(&x, &x.number(1.0)).ln();
        (g * &y * log).cast(c.input(1).dtype)
    })
}

/// The gradient goes to the operands that equal the result, in equal shares.
fn extreme<'e>(c: &Call<'e>) -> Grads<'e> {
    let y = c.y();
    let hits: Vec<Option<Var<'e>>> = c
        .inputs
        .iter()
        .map(|input| input.as_ref().map(|x| x.equal(&y).cast(y.dtype)))
        .collect();
    let present: Vec<Var<'e>> = hits
        .iter()
        .flatten()
        .map(|hit| hit.clone().shaped_like(&y))
        .collect();
    let Some(count) = c.e.sum(&present) else {
        return Vec::new();
    };
    each(c, |slot, g| match hits.get(slot).cloned().flatten() {
        Some(hit) => g * hit / &count,
        None => g.clone(),
    })
}
