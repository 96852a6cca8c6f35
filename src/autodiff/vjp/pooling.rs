//! Pooling.

use super::super::emit::{Var, dims};
use super::spread::Windows;
use super::{Call, Grads, Rule, first};
use crate::ir::{DType, Dim, Operator, Shape};

pub(super) const RULES: &[Rule] = &[
    first("AveragePool", average_pool),
    first("GlobalAveragePool", |c| {
        let x = c.x();
        let axes: Vec<usize> = (2..x.rank()).collect();
        let sizes: Vec<Dim> = axes.iter().map(|axis| x.dim(*axis)).collect();
        c.answer((c.g() / c.e.count(x.dtype, &sizes)).expand_like(&x))
    }),
    first("GlobalMaxPool", |c| {
        let (x, y) = (c.x(), c.y());
        let axes: Vec<usize> = (2..x.rank()).collect();
        let hit = x.equal(&y).cast(x.dtype);
        c.answer(c.g() * (&hit / hit.total(&axes)))
    }),
    first("LpPool", lp_pool),
    first("GlobalLpPool", |c| {
        let (x, y) = (c.x(), c.y());
        c.answer(norm_slope(&x, &y, c.int("p", 2), &c.g()))
    }),
    first("MaxPool", max_pool),
];

/// ∂‖x‖ₚ/∂x · g = sign(x)·|x|^(p−1)·y^(1−p)·g, and 0 where the norm is.
fn norm_slope<'e>(x: &Var<'e>, y: &Var<'e>, p: i64, g: &Var<'e>) -> Var<'e> {
    match p {
        1 => g * x.sign(),
        _ => {
            let zero = y.equal(&y.number(0.0));
            let safe = zero.choose(&y.number(1.0), y);
            let scaled = zero.choose(&y.number(0.0), &(g / safe.pow(&y.number((p - 1) as f64))));
            power_slope(x, p) * scaled
        }
    }
}

/// sign(x)·|x|^(p−1)
fn power_slope<'e>(x: &Var<'e>, p: i64) -> Var<'e> {
    match p {
        1 => x.sign(),
        2 => x.clone(),
        _ => x.sign() * x.abs().pow(&x.number((p - 1) as f64)),
    }
}

/// A kernel of ones for each channel: `[C, 1, k...]`.
fn ones<'e>(x: &Var<'e>, windows: &Windows) -> Var<'e> {
    let sizes: Vec<i64> = [x.fixed(1), 1]
        .into_iter()
        .chain(windows.kernel.iter().copied())
        .collect();
    let count = sizes.iter().product::<i64>().max(0) as usize;
    x.e.floats(x.dtype, &sizes, &vec![1.0; count])
}

/// The size of the windows and their number of taps that count.
fn average_pool<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, y) = (c.x(), c.y());
    let Some(kernel) = c.ints("kernel_shape") else {
        return c.refuse("it has no kernel_shape");
    };
    let windows = Windows::of(c, kernel, &x, &y);
    let padding_counts = c.int("count_include_pad", 0) != 0;
    let mut counts = vec![1.0];
    for axis in 0..windows.rank() {
        let at = |list: &[i64]| list.get(axis).copied().unwrap_or(1);
        let (low, high) = match padding_counts {
            true => (-at(&windows.before), at(&windows.input) + at(&windows.after)),
            false => (0, at(&windows.input)),
        };
        let taps = |window: i64| {
            let start = window * at(&windows.strides) - at(&windows.before);
            (0..at(&windows.kernel))
                .filter(|tap| (low..high).contains(&(start + tap * at(&windows.dilations))))
                .count()
        };
        let axis_counts: Vec<f64> = (0..at(&windows.output))
            .map(|window| taps(window).max(1) as f64)
            .collect();
        counts = counts
            .iter()
            .flat_map(|count| axis_counts.iter().map(move |taps| count * taps))
            .collect();
    }
    let sizes: Vec<i64> = [1, 1].into_iter().chain(windows.output.iter().copied()).collect();
    let counts = c.e.floats(x.dtype, &sizes, &counts);
    let channels = x.fixed(1);
    c.answer(windows.spread(&(c.g() / counts), &ones(&x, &windows), channels))
}

fn lp_pool<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, y, p) = (c.x(), c.y(), c.int("p", 2));
    let Some(kernel) = c.ints("kernel_shape") else {
        return c.refuse("it has no kernel_shape");
    };
    let windows = Windows::of(c, kernel, &x, &y);
    let zero = y.equal(&y.number(0.0));
    let safe = zero.choose(&y.number(1.0), &y);
    let scaled = zero.choose(&y.number(0.0), &(c.g() / safe.pow(&y.number((p - 1) as f64))));
    c.answer(power_slope(&x, p) * windows.spread(&scaled, &ones(&x, &windows), x.fixed(1)))
}

/// Each window's gradient goes to the first of its largest elements.
fn max_pool<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, y, g) = (c.x(), c.y(), c.g());
    let Some(kernel) = c.ints("kernel_shape") else {
        return c.refuse("it has no kernel_shape");
    };
    if c.has_side_gradients() {
        return c.refuse("a gradient arrives at its indices");
    }
    let windows = Windows::of(c, kernel, &x, &y);
    let apart = windows.kernel.iter().zip(&windows.strides).all(|(k, s)| k <= s)
        && windows.dilations.iter().all(|d| *d == 1);
    match (apart, c.e.opset) {
        (true, 10..) => c.answer(gathered(c, &windows, &x, &g)),
        (false, 16..) => c.answer(scattered(c, &windows, &x, &g)),
        _ => c.answer(masked(&windows, &x, &y, &g)),
    }
}

/// For each window the flat place of its largest element in its own image: `[N, C, windows]` as one axis, int64.
fn places<'e>(c: &Call<'e>, windows: &Windows, x: &Var<'e>) -> Var<'e> {
    let count: i64 = windows.output.iter().product();
    let area: i64 = windows.input.iter().product();
    let mut operator = c.operator.clone();
    if operator.int("storage_order").unwrap_or(0) != 0 {
        let kept = operator
            .attributes()
            .iter()
            .filter(|a| a.name != "storage_order")
            .cloned()
            .collect();
        operator = operator.with_attributes(kept);
    }
    let shape = c.y().shape;
    let outputs = c.e.emit(
        operator,
        &[Some(x)],
        vec![(x.dtype, shape.clone()), (DType::I64, shape)],
    );
    let Some(indices) = outputs.into_iter().nth(1) else {
        return c.e.ints(&[]);
    };
    // Indices count over the whole tensor.
    let flat = [x.dim(0), x.dim(1), Dim::Fixed(count)];
    let local = c.e.one(
        Operator::new("Mod"),
        &[&indices, &c.e.ints(&[area])],
        DType::I64,
        indices.shape.clone(),
    );
    local.reshape(&flat)
}

/// Windows that do not overlap: every input element belongs to at most one, so its gradient is gathered from there.
fn gathered<'e>(c: &Call<'e>, windows: &Windows, x: &Var<'e>, g: &Var<'e>) -> Var<'e> {
    let count: i64 = windows.output.iter().product();
    let (mut owner, mut here) = (Vec::new(), Vec::new());
    for place in 0..windows.input.iter().product::<i64>() {
        owner.push(window_of(windows, place).unwrap_or(0));
        here.push(place);
    }
    let area = here.len();
    let places = places(c, windows, x).take(2, &owner);
    let g = g
        .reshape(&[x.dim(0), x.dim(1), Dim::Fixed(count)])
        .take(2, &owner);
    // An element outside of every window is nobody's largest, so the window asked for does not matter.
    let here = c.e.ints(&here).reshape(&dims(&[1, 1, area as i64]));
    (g * places.equal(&here).cast(x.dtype)).reshape_like(x)
}

/// The window that covers a place of the input.
fn window_of(windows: &Windows, mut place: i64) -> Option<i64> {
    let mut window = 0;
    let mut scale = 1;
    for axis in (0..windows.rank()).rev() {
        let at = |list: &[i64]| list.get(axis).copied().unwrap_or(1);
        let along = place % at(&windows.input) + at(&windows.before);
        place /= at(&windows.input);
        let index = along / at(&windows.strides);
        if along % at(&windows.strides) >= at(&windows.kernel) || index >= at(&windows.output) {
            return None;
        }
        window += index * scale;
        scale *= at(&windows.output);
    }
    Some(window)
}

/// Overlapping windows: gradients are added up at the places of the largest elements.
fn scattered<'e>(c: &Call<'e>, windows: &Windows, x: &Var<'e>, g: &Var<'e>) -> Var<'e> {
    let (count, area): (i64, i64) = (windows.output.iter().product(), windows.input.iter().product());
    let flat = |size: i64| [x.dim(0), x.dim(1), Dim::Fixed(size)];
    let zeros = x.number(0.0).expand(&flat(area));
    let updates = g.reshape(&flat(count));
    let operator = Operator::new("ScatterElements")
        .with("axis", 2i64)
        .with("reduction", "add");
    c.e.one(
        operator,
        &[&zeros, &places(c, windows, x), &updates],
        x.dtype,
        flat(area),
    )
    .reshape_like(x)
}

/// Without indices: the taps of all windows side by side, the first that equals the result marked, and the marked
/// gradients spread with a kernel that has a 1 for each tap.
fn masked<'e>(windows: &Windows, x: &Var<'e>, y: &Var<'e>, g: &Var<'e>) -> Var<'e> {
    let e = x.e;
    let rank = windows.rank();
    let lead = |list: &[i64]| {
        [0, 0]
            .into_iter()
            .chain(list.iter().copied())
            .collect::<Vec<i64>>()
    };
    // In ceil mode the last window may reach further than the padding.
    let missing: Vec<i64> = windows
        .reach()
        .iter()
        .enumerate()
        .map(|(axis, reach)| {
            let at = |list: &[i64]| list.get(axis).copied().unwrap_or(0);
            (reach - at(&windows.before) - at(&windows.input)).max(0)
        })
        .collect();
    let padded = x.pad(&lead(&windows.before), &lead(&missing), f64::NEG_INFINITY);
    let taps: i64 = windows.kernel.iter().product();
    let mut left: Option<Var<'e>> = None;
    let mut marks = Vec::new();
    for tap in 0..taps {
        let mut rest = tap;
        let mut values = padded.clone();
        for axis in (0..rank).rev() {
            let at = |list: &[i64]| list.get(axis).copied().unwrap_or(1);
            let start = rest % at(&windows.kernel) * at(&windows.dilations);
            rest /= at(&windows.kernel);
            let end = start + (at(&windows.output) - 1) * at(&windows.strides) + 1;
            values = values.slice(axis + 2, start, end, at(&windows.strides));
        }
        let hit = values.equal(y).cast(x.dtype);
        let first = match &left {
            None => hit,
            Some(left) => hit * left,
        };
        left = Some(match left {
            None => 1.0 - &first,
            Some(left) => left - &first,
        });
        marks.push((&first * g).unsqueeze(&[2]));
    }
    let channels = x.fixed(1);
    let Some(stacked) = e.concat(&marks, 2) else {
        return x.zeros_like();
    };
    let flat: Shape = [x.dim(0), Dim::Fixed(channels * taps)]
        .into_iter()
        .chain(dims(&windows.output))
        .collect();
    let mut kernel = vec![0.0; (channels * taps * taps).max(0) as usize];
    for row in 0..channels * taps {
        if let Some(one) = kernel.get_mut((row * taps + row % taps) as usize) {
            *one = 1.0;
        }
    }
    let sizes: Vec<i64> = [channels * taps, 1]
        .into_iter()
        .chain(windows.kernel.iter().copied())
        .collect();
    let kernel = e.floats(x.dtype, &sizes, &kernel);
    windows.spread(&stacked.reshape(&flat), &kernel, channels)
}
