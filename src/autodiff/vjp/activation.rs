//! Activation functions. At a kink the derivative is the one that PyTorch takes.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::super::emit::Var;
use super::{Call, Grads, Rule, all, first};

pub(super) const RULES: &[Rule] = &[
    first("Celu", celu),
    all("Clip", clip),
    first("Elu", elu),
    first("Gelu", gelu),
    first("HardSigmoid", |c| {
        let (alpha, beta) = (c.float("alpha", f64::from(0.2f32)), c.float("beta", 0.5));
        let inner = c.x() * alpha + beta;
        c.answer(c.g() * alpha * inner.above(0.0) * inner.below(1.0))
    }),
    // y = x·h with h = clip(x/6 + 1/2, 0, 1)
    first("HardSwish", |c| {
        let x = c.x();
        let (zero, one) = (x.number(0.0), x.number(1.0));
        let h = (&x * (1.0 / 6.0) + 0.5).max(&zero).min(&one);
        let slope = &x * (1.0 / 6.0) * x.above(-3.0) * x.below(3.0);
        c.answer(c.g() * (h + slope))
    }),
    first("LeakyRelu", |c| {
        let x = c.x();
        let slope = x
            .greater(&x.number(0.0))
            .choose(&x.number(1.0), &x.number(c.float("alpha", f64::from(0.01f32))));
        c.answer(c.g() * slope)
    }),
    // t + x(1 − t²)σ(x) with t = tanh(softplus(x))
    first("Mish", |c| {
        let x = c.x();
        let t = softplus(&x).tanh();
        let slope = &x * (1.0 - t.square()) * x.sigmoid();
        c.answer(c.g() * (t + slope))
    }),
    all("PRelu", prelu),
    first("Relu", |c| c.answer(c.g() * c.y().sign())),
    first("Selu", selu),
    first("Shrink", |c| {
        let (x, lambda) = (c.x(), c.float("lambd", 0.5));
        c.answer(c.g() * (x.below(-lambda) + x.above(lambda)))
    }),
    first("Sigmoid", |c| {
        let y = c.y();
        c.answer(c.g() * &y * (1.0 - &y))
    }),
    first("Softplus", |c| c.answer(c.g() * c.x().sigmoid())),
    first("Softsign", |c| c.answer(c.g() / (c.x().abs() + 1.0).square())),
    // y = x·σ(αx)
    first("Swish", |c| {
        let (x, alpha) = (c.x(), c.float("alpha", 1.0));
        let s = (&x * alpha).sigmoid();
        let slope = &x * &s * (1.0 - &s) * alpha;
        c.answer(c.g() * (s + slope))
    }),
    first("ThresholdedRelu", |c| {
        c.answer(c.g() * c.x().above(c.float("alpha", 1.0)))
    }),
];

/// ln(1 + e^x), without overflow.
fn softplus<'e>(x: &Var<'e>) -> Var<'e> {
    x.max(&x.number(0.0)) + ((-x.abs()).exp() + 1.0).ln()
}

/// e^min(x, 0): the exponential where only negative x count, without overflow elsewhere.
fn exp_of_negative<'e>(x: &Var<'e>) -> Var<'e> {
    x.min(&x.number(0.0)).exp()
}

/// max(0, x) + min(0, α(e^(x/α) − 1)); the slope below 0 is e^(x/α).
fn celu<'e>(c: &Call<'e>) -> Grads<'e> {
    c.answer(c.g() * exp_of_negative(&(c.x() / c.float("alpha", 1.0))))
}

/// x above 0, α(e^x − 1) below; α may be of either sign.
fn elu<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, alpha) = (c.x(), c.float("alpha", 1.0));
    let below = exp_of_negative(&x) * alpha;
    c.answer(c.g() * x.greater(&x.number(0.0)).choose(&x.number(1.0), &below))
}

fn selu<'e>(c: &Call<'e>) -> Grads<'e> {
    let x = c.x();
    let alpha = c.float("alpha", f64::from(1.673_263_2_f32));
    let below = exp_of_negative(&x) * alpha;
    let slope = x.greater(&x.number(0.0)).choose(&x.number(1.0), &below);
    c.answer(c.g() * slope * c.float("gamma", f64::from(1.050_701_f32)))
}

/// Between the bounds the gradient passes, outside it belongs to the bound that holds.
///
/// Whether a value lies between them is read off the output, as for Relu: a forward pass whose activations are fused into the layers
/// before then need not keep what they read.
fn clip<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, y, g) = (c.x(), c.y(), c.g());
    let (low, high) = if c.e.opset >= 11 {
        (c.optional(1).cloned(), c.optional(2).cloned())
    } else {
        let bound = |name: &str| c.operator.float(name).map(|value| x.number(f64::from(value)));
        (bound("min"), bound("max"))
    };
    let above_low = low.as_ref().map(|low| y.greater(low));
    let below_high = high.as_ref().map(|high| y.less(high));
    let between = match (above_low, below_high) {
        (Some(above), Some(below)) => Some(above.and(&below)),
        (one, other) => one.or(other),
    };
    let inside = match between {
        // Not a choice: ONNX Runtime takes twice as long for a Where.
        Some(between) => &g * between.cast(x.dtype),
        None => g.clone(),
    };
    let axes: Vec<usize> = (0..x.rank()).collect();
    let beyond = |slot: usize, outside: &dyn Fn() -> Option<Var<'e>>| {
        let bound = c.optional(slot).filter(|_| c.needs(slot))?;
        Some(
            (&g * outside()?.cast(x.dtype))
                .total_dropped(&axes)
                .reshape_like(bound),
        )
    };
    // Where the bounds cross, the upper one holds.
    let above = || high.as_ref().map(|high| x.greater(high));
    let below = || {
        low.as_ref().map(|low| match &high {
            Some(high) => x.less(low).and(&low.at_most(high)),
            None => x.less(low),
        })
    };
    vec![Some(inside), beyond(1, &below), beyond(2, &above)]
}

fn gelu<'e>(c: &Call<'e>) -> Grads<'e> {
    let x = c.x();
    if c.operator.string("approximate") == Some("tanh") {
        let scale = (2.0 / PI).sqrt();
        let square = x.square();
        let t = (&x * scale * (&square * 0.044715 + 1.0)).tanh();
        let slope = &x * (1.0 - t.square()) * (square * (3.0 * 0.044715) + 1.0) * (0.5 * scale);
        return c.answer(c.g() * ((t + 1.0) * 0.5 + slope));
    }
    let distribution = ((&x * FRAC_1_SQRT_2).unary("Erf") + 1.0) * 0.5;
    let density = (x.square() * -0.5).exp() * (1.0 / (2.0 * PI).sqrt());
    c.answer(c.g() * (distribution + x * density))
}

fn prelu<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, slope, g) = (c.x(), c.input(1), c.g());
    let zero = x.number(0.0);
    let dx = c
        .needs(0)
        .then(|| &g * x.greater(&zero).choose(&x.number(1.0), &slope));
    let dslope = c.needs(1).then(|| (&g * x.min(&zero)).unbroadcast(&slope, &[&x]));
    vec![dx, dslope]
}
