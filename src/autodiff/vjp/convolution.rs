//! Conv and ConvTranspose: any group, stride, dilation and padding, in one to three dimensions.

use super::super::emit::{Var, dims};
use super::super::layout::others;
use super::spread::{Windows, with_windows};
use super::{Call, Grads, Rule, all};
use crate::ir::{Dim, Shape};

pub(super) const RULES: &[Rule] = &[all("Conv", conv), all("ConvTranspose", conv_transpose)];

fn conv<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, w, g) = (c.x(), c.input(1), c.g());
    let group = c.int("group", 1);
    let windows = Windows::of(c, w.fixed_from(2), &x, &c.y());
    let dx = c.needs(0).then(|| windows.spread(&g, &w, group));
    let dw = c.needs(1).then(|| weight_gradient(&windows, &x, &g, group));
    vec![dx, dw, c.needs(2).then(|| bias_gradient(&g))]
}

/// g over everything but the channels.
fn bias_gradient<'e>(g: &Var<'e>) -> Var<'e> {
    g.total_dropped(&others(g.rank(), &[1]))
}

/// ∂/∂W of the convolution of `x` (`[N, C, input...]`) into `g` (`[N, M, windows...]`): itself a convolution with batch and
/// channels exchanged, strides and dilations exchanged, and g as the kernel. The result is `[M, C/group, k...]`.
fn weight_gradient<'e>(windows: &Windows, x: &Var<'e>, g: &Var<'e>, group: i64) -> Var<'e> {
    let rank = windows.rank();
    let pointwise = windows
        .kernel
        .iter()
        .chain(&windows.strides)
        .all(|size| *size == 1)
        && windows.before.iter().chain(&windows.after).all(|pad| *pad == 0);
    if pointwise && group == 1 {
        return pointwise_gradient(windows, x, g);
    }
    let (n, channels) = (x.dim(0), x.fixed(1));
    let per_group = channels / group.max(1);
    let spatial: Shape = dims(&windows.input);
    let image = if group == 1 {
        x.swap(0, 1)
    } else {
        // [N, G, C/G, ...] to [C/G, G·N, ...]
        let split: Shape = [n.clone(), Dim::Fixed(group), Dim::Fixed(per_group)]
            .into_iter()
            .chain(spatial.clone())
            .collect();
        let order: Vec<usize> = [2, 1, 0].into_iter().chain(3..rank + 3).collect();
        let merged: Shape = [Dim::Fixed(per_group), n.mul(&Dim::Fixed(group))]
            .into_iter()
            .chain(spatial)
            .collect();
        x.reshape(&split).transpose(&order).reshape(&merged)
    };
    let kernel = g.swap(0, 1);
    let pads = windows.before.iter().chain(&windows.after).copied().collect();
    let operator = with_windows("Conv", &windows.dilations, &windows.strides, pads, group);
    // How many steps of the kernel's dilation fit: at least the kernel's size, more where windows leave a rest.
    let taps = (0..rank).map(|axis| {
        let at = |list: &[i64]| list.get(axis).copied().unwrap_or(1);
        let extent = (at(&windows.output) - 1) * at(&windows.strides) + 1;
        let padded = at(&windows.input) + at(&windows.before) + at(&windows.after);
        Dim::Fixed((padded - extent).div_euclid(at(&windows.dilations)) + 1)
    });
    let shape: Shape = [Dim::Fixed(per_group), kernel.dim(0)]
        .into_iter()
        .chain(taps)
        .collect();
    let correlated = x.e.one(operator, &[&image, &kernel], x.dtype, shape);
    correlated.fit(2, &windows.kernel).swap(0, 1)
}

/// The same for a kernel of one element: a matrix product over all positions.
///
/// Large maps are multiplied sample by sample and the products added up, so that no map is laid out anew; where the products would be
/// larger than the maps, all samples are laid out as one matrix.
fn pointwise_gradient<'e>(windows: &Windows, x: &Var<'e>, g: &Var<'e>) -> Var<'e> {
    let rank = windows.rank();
    let (m, channels) = (g.fixed(1), x.fixed(1));
    let positions: i64 = windows.output.iter().product();
    let product = if m * channels <= positions * (m + channels) {
        let rows = |var: &Var<'e>| var.reshape(&[var.dim(0), var.dim(1), Dim::Fixed(positions)]);
        rows(g).matmul(&rows(x).transposed()).total_dropped(&[0])
    } else {
        let flat = |var: &Var<'e>| {
            let rows = var.swap(0, 1);
            let positions = others(rank + 2, &[0])
                .iter()
                .fold(Dim::Fixed(1), |size, axis| size.mul(&rows.dim(*axis)));
            let channels = rows.dim(0);
            rows.reshape(&[channels, positions])
        };
        flat(g).matmul(&flat(x).transposed())
    };
    let shape: Shape = dims(&[&[m, channels], windows.kernel.as_slice()].concat());
    product.reshape(&shape)
}

/// The transpose of a convolution: x plays the part of g there, y that of the input.
fn conv_transpose<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, w, g) = (c.x(), c.input(1), c.g());
    let group = c.int("group", 1);
    let mut windows = Windows::of(c, w.fixed_from(2), &g, &x);
    // The pads follow from the output's size: automatic ones, and those that `output_shape` implies.
    let (reach, shape) = (windows.reach(), c.ints("output_shape"));
    let padding = c.ints("output_padding").unwrap_or_default();
    let automatic = matches!(c.operator.string("auto_pad"), Some("SAME_UPPER" | "SAME_LOWER"));
    if automatic || shape.is_some() {
        let lower = c.operator.string("auto_pad") == Some("SAME_LOWER");
        for axis in 0..windows.rank() {
            let at = |list: &[i64], default: i64| list.get(axis).copied().unwrap_or(default);
            let total = at(&reach, 1) + at(&padding, 0) - at(&windows.input, 1);
            let (small, large) = (total.div_euclid(2), total - total.div_euclid(2));
            let before = match (c.operator.string("auto_pad"), lower) {
                (Some("SAME_UPPER"), _) => small,
                (_, true) => large,
                // Without SAME_UPPER the larger half comes first.
                _ => large,
            };
            if let Some(pad) = windows.before.get_mut(axis) {
                *pad = before;
            }
        }
    }
    // Seen from y the convolution reads what lies between the first pad and the end of the last window.
    for axis in 0..windows.rank() {
        let at = |list: &[i64]| list.get(axis).copied().unwrap_or(0);
        let after = at(&reach) - at(&windows.before) - at(&windows.input);
        if at(&windows.before) < 0 {
            return c.refuse("its output is larger than the windows reach at the start");
        }
        if let Some(pad) = windows.after.get_mut(axis) {
            *pad = after;
        }
    }
    let mut trimmed = g.clone();
    for axis in 0..windows.rank() {
        // Output that no window reaches (output padding) has no gradient.
        let after = windows.after.get(axis).copied().unwrap_or(0);
        if after < 0 {
            let size = trimmed.fixed(axis + 2) + after;
            trimmed = trimmed.slice(axis + 2, 0, size, 1);
            if let (Some(pad), Some(input)) = (windows.after.get_mut(axis), windows.input.get_mut(axis)) {
                *pad = 0;
                *input = size;
            }
        }
    }
    let dx = c.needs(0).then(|| {
        let mut shape: Shape = x.shape.iter().take(2).cloned().collect();
        shape.extend(dims(&windows.output));
        c.e.one(
            windows.convolution("Conv", group),
            &[&trimmed, &w],
            x.dtype,
            shape,
        )
    });
    let dw = c.needs(1).then(|| weight_gradient(&windows, &trimmed, &x, group));
    vec![dx, dw, c.needs(2).then(|| bias_gradient(&g))]
}
