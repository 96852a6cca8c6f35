//! Normalisation layers. Statistics are computed anew; in half precision they are computed in single.

use super::super::emit::Var;
use super::super::layout::{axis_of, others};
use super::{Call, Grads, Rule, all, first};
use crate::ir::{DType, Dim};

pub(super) const RULES: &[Rule] = &[
    all("BatchNormalization", batch_norm),
    all("GroupNormalization", group_norm),
    all("InstanceNormalization", instance_norm),
    all("LayerNormalization", layer_norm),
    first("LRN", lrn),
    first("LpNormalization", lp_norm),
    first("MeanVarianceNormalization", mean_variance_norm),
    all("RMSNormalization", rms_norm),
];

/// The same numbers in a type that statistics can be computed in.
fn wide<'e>(var: &Var<'e>) -> Var<'e> {
    match var.dtype {
        DType::F16 | DType::BF16 => var.cast(DType::F32),
        _ => var.clone(),
    }
}

/// A vector over channels, shaped to broadcast over `[N, C, spatial...]`.
fn over_channels<'e>(vector: &Var<'e>, rank: usize, dtype: DType) -> Var<'e> {
    let axes: Vec<usize> = (1..rank.saturating_sub(1)).collect();
    vector.cast(dtype).unsqueeze(&axes)
}

/// Σ over everything but the channels.
fn per_channel<'e>(var: &Var<'e>, vector: &Var<'e>) -> Var<'e> {
    var.total_dropped(&others(var.rank(), &[1])).cast(vector.dtype)
}

/// In inference an affine function per channel: y = (x − μ)·γ/√(σ² + ε) + β.
fn batch_norm<'e>(c: &Call<'e>) -> Grads<'e> {
    if c.int("training_mode", 0) != 0 || c.outputs.iter().skip(1).any(Option::is_some) {
        return c.refuse("it is in training mode");
    }
    let (x, g) = (wide(&c.x()), wide(&c.g()));
    let (scale, mean, variance) = (c.input(1), c.input(3), c.input(4));
    let epsilon = c.float("epsilon", f64::from(1e-5f32));
    let (rank, dtype) = (x.rank(), x.dtype);
    if rank < 2 {
        return c.refuse("its input has no channel axis");
    }
    let inverse = 1.0 / (variance.cast(dtype) + epsilon).sqrt();
    let factor = scale.cast(dtype) * &inverse;
    let centred = || &x - over_channels(&mean, rank, dtype);
    let total = || g.total_dropped(&others(rank, &[1]));
    let weighted = || (&g * centred()).total_dropped(&others(rank, &[1]));
    vec![
        c.needs(0)
            .then(|| (&g * over_channels(&factor, rank, dtype)).cast(c.x().dtype)),
        c.needs(1).then(|| (weighted() * &inverse).cast(scale.dtype)),
        c.needs(2).then(|| total().cast(c.input(2).dtype)),
        c.needs(3).then(|| (-(total() * &factor)).cast(mean.dtype)),
        c.needs(4)
            .then(|| (weighted() * &factor * inverse.square() * -0.5).cast(variance.dtype)),
    ]
}

/// x̂ = (x − mean)·inv over `axes`, and inv = 1/√(variance + ε).
fn standardised<'e>(x: &Var<'e>, axes: &[usize], epsilon: f64, centre: bool) -> (Var<'e>, Var<'e>) {
    let centred = if centre { x - x.mean(axes) } else { x.clone() };
    let inverse = 1.0 / (centred.square().mean(axes) + epsilon).sqrt();
    (&centred * &inverse, inverse)
}

/// inv·(ĝ − mean ĝ − x̂·mean(ĝ·x̂)); without centring the first mean drops out.
fn through<'e>(g: &Var<'e>, hat: &Var<'e>, inverse: &Var<'e>, axes: &[usize], centre: bool) -> Var<'e> {
    let along = hat * (g * hat).mean(axes);
    let rest = if centre { g - g.mean(axes) } else { g.clone() };
    inverse * (rest - along)
}

fn layer_norm<'e>(c: &Call<'e>) -> Grads<'e> {
    trailing_norm(c, true)
}

fn rms_norm<'e>(c: &Call<'e>) -> Grads<'e> {
    trailing_norm(c, false)
}

/// Normalisation over the axes from `axis` on, then a scale (and a bias) that broadcasts.
fn trailing_norm<'e>(c: &Call<'e>, centre: bool) -> Grads<'e> {
    if c.has_side_gradients() {
        return c.refuse("a gradient arrives at its statistics");
    }
    let (x, g) = (wide(&c.x()), wide(&c.g()));
    let axes: Vec<usize> = (c.axis(-1, x.rank())..x.rank()).collect();
    let (hat, inverse) = standardised(&x, &axes, c.float("epsilon", f64::from(1e-5f32)), centre);
    let scale = c.input(1);
    let dx = c.needs(0).then(|| {
        let scaled = &g * scale.cast(x.dtype);
        through(&scaled, &hat, &inverse, &axes, centre).cast(c.x().dtype)
    });
    let dscale = c
        .needs(1)
        .then(|| (&g * &hat).unbroadcast(&scale, &[&x]).cast(scale.dtype));
    let dbias = c
        .optional(2)
        .filter(|_| c.needs(2))
        .map(|bias| g.unbroadcast(bias, &[&x]).cast(bias.dtype));
    vec![dx, dscale, dbias]
}

fn instance_norm<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, g) = (wide(&c.x()), wide(&c.g()));
    let axes: Vec<usize> = (2..x.rank()).collect();
    let (hat, inverse) = standardised(&x, &axes, c.float("epsilon", f64::from(1e-5f32)), true);
    let scale = c.input(1);
    let dx = c.needs(0).then(|| {
        let scaled = &g * over_channels(&scale, x.rank(), x.dtype);
        through(&scaled, &hat, &inverse, &axes, true).cast(c.x().dtype)
    });
    let dscale = c.needs(1).then(|| per_channel(&(&g * &hat), &scale));
    vec![dx, dscale, c.needs(2).then(|| per_channel(&g, &c.input(2)))]
}

/// Before opset 21 scale and bias are per group, from then on per channel.
fn group_norm<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, g, scale) = (wide(&c.x()), wide(&c.g()), c.input(1));
    let groups = c.int("num_groups", 1);
    let (rank, channels) = (x.rank(), x.fixed(1));
    if groups < 1 || channels % groups != 0 {
        return c.refuse("its groups do not divide its channels");
    }
    let mut split = x.shape.clone();
    if let Some(dim) = split.get_mut(1) {
        *dim = Dim::Fixed(channels / groups);
    }
    split.insert(1, Dim::Fixed(groups));
    let axes: Vec<usize> = (2..rank + 1).collect();
    let grouped = x.reshape(&split);
    let (hat, inverse) = standardised(&grouped, &axes, c.float("epsilon", f64::from(1e-5f32)), true);
    let per_group = c.e.opset < 21;
    let dx = c.needs(0).then(|| {
        let scaled = if per_group {
            g.reshape(&split) * over_channels(&scale, rank + 1, x.dtype)
        } else {
            (&g * over_channels(&scale, rank, x.dtype)).reshape(&split)
        };
        through(&scaled, &hat, &inverse, &axes, true)
            .reshape_like(&x)
            .cast(c.x().dtype)
    });
    let to_vector = |var: &Var<'e>, vector: &Var<'e>| {
        if per_group {
            per_channel(&var.reshape(&split), vector)
        } else {
            per_channel(&var.reshape_like(&x), vector)
        }
    };
    let dscale = c.needs(1).then(|| to_vector(&(g.reshape(&split) * &hat), &scale));
    vec![dx, dscale, c.needs(2).then(|| to_vector(&g, &c.input(2)))]
}

/// y = x / ‖x‖ₚ along one axis.
fn lp_norm<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, y, g) = (c.x(), c.y(), c.g());
    let axis = [c.axis(-1, x.rank())];
    let along = (&g * &y).total(&axis);
    match c.int("p", 2) {
        1 => c.answer((g - x.sign() * along) / x.abs().total(&axis)),
        2 => c.answer((g - y * along) / x.square().total(&axis).sqrt()),
        _ => c.refuse("p is neither 1 nor 2"),
    }
}

/// y = (x − mean) / (√variance + 1e-9).
fn mean_variance_norm<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, g) = (wide(&c.x()), wide(&c.g()));
    let axes: Vec<usize> = c
        .ints("axes")
        .unwrap_or_else(|| vec![0, 2, 3])
        .iter()
        .filter_map(|axis| axis_of(*axis, x.rank()))
        .collect();
    let centred = &x - x.mean(&axes);
    let deviation = centred.square().mean(&axes).sqrt();
    let divisor = &deviation + 1e-9;
    let along = &centred * (&g * &centred).mean(&axes) / (&divisor * &deviation);
    c.answer(((&g - g.mean(&axes) - along) / divisor).cast(c.x().dtype))
}

/// y = x·b^(−β) with b = bias + α/size · Σ x² over neighbouring channels.
fn lrn<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, g) = (c.x(), c.g());
    let (size, channels) = (c.int("size", 1), x.fixed(1));
    let (alpha, beta, bias) = (
        c.float("alpha", f64::from(1e-4f32)),
        c.float("beta", 0.75),
        c.float("bias", 1.0),
    );
    let (down, up) = ((size - 1) / 2, size / 2);
    let (rows, columns) = (0..channels, 0..channels);
    let band: Vec<f64> = rows
        .flat_map(|row| {
            columns
                .clone()
                .map(move |column| f64::from((-down..=up).contains(&(column - row))))
        })
        .collect();
    let band = c.e.floats(x.dtype, &[channels, channels], &band);
    let positions = (2..x.rank()).fold(Dim::Fixed(1), |product, axis| product.mul(&x.dim(axis)));
    let flat = [x.dim(0), Dim::Fixed(channels), positions];
    let (xs, gs) = (x.reshape(&flat), g.reshape(&flat));
    let base = band.matmul(&xs.square()) * (alpha / size as f64) + bias;
    let power = base.pow(&base.number(-beta));
    // Channel j counts in the sums of those channels i that have it in their window: the transposed band.
    let shared = band.transposed().matmul(&(&gs * &xs * &power / &base));
    let gradient = &gs * &power - &xs * shared * (2.0 * alpha * beta / size as f64);
    c.answer(gradient.reshape_like(&x))
}
