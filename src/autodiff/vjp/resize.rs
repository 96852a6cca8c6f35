//! Resize and Upsample: linear in x, separable over axes, so the gradient is a product with a constant matrix an axis.

use super::super::emit::Var;
use super::super::layout::axis_of;
use super::{Call, Grads, Rule, first};

pub(super) const RULES: &[Rule] = &[first("Resize", resize), first("Upsample", resize)];

/// How one axis is resized.
struct Axis {
    input: i64,
    output: i64,
    scale: f64,
    /// Start and end of the region, for `tf_crop_and_resize`.
    region: (f64, f64),
}

/// How samples are taken.
struct Sampling {
    mode: String,
    coordinates: String,
    nearest: String,
    cubic: f64,
    exclude_outside: bool,
}

fn resize<'e>(c: &Call<'e>) -> Grads<'e> {
    let (x, y) = (c.x(), c.y());
    if c.int("antialias", 0) != 0 {
        return c.refuse("it filters against aliasing");
    }
    let old = c.e.opset < 11 || c.operator.is("Upsample");
    let text = |name: &str, default: &str| c.operator.string(name).unwrap_or(default).to_owned();
    let sampling = Sampling {
        mode: text("mode", "nearest"),
        coordinates: text(
            "coordinate_transformation_mode",
            if old { "asymmetric" } else { "half_pixel" },
        ),
        nearest: text("nearest_mode", if old { "floor" } else { "round_prefer_floor" }),
        cubic: c.float("cubic_coeff_a", -0.75),
        exclude_outside: c.int("exclude_outside", 0) != 0,
    };
    let floats = |slot: usize| {
        let values = c.e.tensor(c.optional(slot)?.id)?.to_f64().ok()?;
        (!values.is_empty()).then_some(values)
    };
    let (scales, sizes) = if old {
        (floats(1).or_else(|| attribute_scales(c)), None)
    } else {
        (floats(2), c.numbers(3))
    };
    let present = |slot: usize| {
        c.optional(slot)
            .is_some_and(|var| var.dim(0) != crate::ir::Dim::Fixed(0))
    };
    if scales.is_none() && sizes.is_none() && (old || present(2) || !present(3)) {
        return c.refuse("its scales are computed at run time");
    }
    let region = floats(1).filter(|_| !old);
    let axes: Vec<usize> = match c.ints("axes") {
        Some(axes) => axes.iter().filter_map(|axis| axis_of(*axis, x.rank())).collect(),
        None => (0..x.rank()).collect(),
    };
    // One scale for all axes where the aspect ratio is kept.
    let policy = text("keep_aspect_ratio_policy", "stretch");
    let ratios = sizes.iter().flat_map(|sizes| {
        axes.iter()
            .zip(sizes)
            .map(|(axis, size)| *size as f64 / x.fixed(*axis) as f64)
    });
    let common = match policy.as_str() {
        "not_larger" => ratios.reduce(f64::min),
        "not_smaller" => ratios.reduce(f64::max),
        _ => None,
    };
    let mut g = c.g();
    for (at, axis) in axes.iter().enumerate() {
        if scales.as_ref().and_then(|scales| scales.get(at)) == Some(&1.0) && region.is_none() {
            continue;
        }
        if scales.is_none() && x.dim(*axis).same(&y.dim(*axis)) && region.is_none() && common.is_none() {
            continue;
        }
        let (input, output) = (x.fixed(*axis), y.fixed(*axis));
        let stretched = output as f64 / input.max(1) as f64;
        let scale = scales
            .as_ref()
            .and_then(|scales| scales.get(at).copied())
            .or(common)
            .unwrap_or(stretched);
        let bound = |index: usize, default: f64| {
            region
                .as_ref()
                .and_then(|all| all.get(index).copied())
                .unwrap_or(default)
        };
        let region = (bound(at, 0.0), bound(at + axes.len(), 1.0));
        match matrix(
            &Axis {
                input,
                output,
                scale,
                region,
            },
            &sampling,
        ) {
            Some(matrix) => g = g.contract(*axis, output, input, &matrix),
            None => return c.refuse("its mode is not known"),
        }
    }
    c.answer(g)
}

fn attribute_scales(c: &Call<'_>) -> Option<Vec<f64>> {
    Some(
        c.operator
            .floats("scales")?
            .iter()
            .map(|scale| f64::from(*scale))
            .collect(),
    )
}

/// Output by input, row-major.
fn matrix(axis: &Axis, sampling: &Sampling) -> Option<Vec<f64>> {
    let size = axis.input;
    let mut matrix = vec![0.0; (axis.output * size).max(0) as usize];
    for row in 0..axis.output {
        let at = coordinate(axis, sampling, row)?;
        if sampling.coordinates == "tf_crop_and_resize" && !(0.0..=(size - 1) as f64).contains(&at) {
            // The extrapolation value, which is constant.
            continue;
        }
        for (tap, weight) in taps(at, size, sampling)? {
            let column = tap.clamp(0, size - 1);
            if let Some(entry) = matrix.get_mut((row * size + column).max(0) as usize) {
                *entry += weight;
            }
        }
    }
    Some(matrix)
}

/// The place in the input that an output element samples.
fn coordinate(axis: &Axis, sampling: &Sampling, row: i64) -> Option<f64> {
    let (row, scale) = (row as f64, axis.scale);
    let (input, output) = (axis.input as f64, axis.output as f64);
    Some(match sampling.coordinates.as_str() {
        "half_pixel" => (row + 0.5) / scale - 0.5,
        "half_pixel_symmetric" => {
            let adjustment = output / (scale * input);
            input / 2.0 * (1.0 - adjustment) + (row + 0.5) / scale - 0.5
        }
        "pytorch_half_pixel" if axis.output > 1 => (row + 0.5) / scale - 0.5,
        "pytorch_half_pixel" => 0.0,
        "align_corners" if axis.output > 1 => row * (input - 1.0) / (output - 1.0),
        "align_corners" => 0.0,
        "asymmetric" => row / scale,
        "tf_half_pixel_for_nn" => (row + 0.5) / scale,
        "tf_crop_and_resize" => {
            let (start, end) = axis.region;
            if axis.output > 1 {
                start * (input - 1.0) + row * (end - start) * (input - 1.0) / (output - 1.0)
            } else {
                0.5 * (start + end) * (input - 1.0)
            }
        }
        _ => return None,
    })
}

/// Input elements and weights for a sample at a place between them.
fn taps(at: f64, size: i64, sampling: &Sampling) -> Option<Vec<(i64, f64)>> {
    let low = at.floor();
    let (index, rest) = (low as i64, at - low);
    Some(match sampling.mode.as_str() {
        "nearest" => {
            let nearest = match sampling.nearest.as_str() {
                "round_prefer_floor" => (at - 0.5).ceil(),
                "round_prefer_ceil" => (at + 0.5).floor(),
                "floor" => low,
                "ceil" => at.ceil(),
                _ => return None,
            };
            vec![(nearest as i64, 1.0)]
        }
        "linear" | "bilinear" | "trilinear" => vec![(index, 1.0 - rest), (index + 1, rest)],
        "cubic" => {
            let a = sampling.cubic;
            let near = |d: f64| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
            let far = |d: f64| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
            let weights = [far(rest + 1.0), near(rest), near(1.0 - rest), far(2.0 - rest)];
            let mut taps: Vec<(i64, f64)> = (index - 1..).zip(weights).collect();
            if sampling.exclude_outside {
                taps.retain(|(tap, _)| (0..size).contains(tap));
                let sum: f64 = taps.iter().map(|(_, weight)| weight).sum();
                taps.iter_mut().for_each(|(_, weight)| *weight /= sum);
            }
            taps
        }
        _ => return None,
    })
}

impl<'e> Var<'e> {
    /// Multiplies one axis of size `rows` with a constant matrix `[rows, columns]`, so that it gets the size `columns`.
    pub(super) fn contract(&self, axis: usize, rows: i64, columns: i64, matrix: &[f64]) -> Var<'e> {
        let rank = self.rank();
        let place = |row: i64, column: i64| {
            matrix
                .get((row * columns + column) as usize)
                .copied()
                .unwrap_or(0.0)
        };
        if rank >= 2 && axis == rank - 2 {
            let turned: Vec<f64> = (0..columns)
                .flat_map(|column| (0..rows).map(move |row| (row, column)))
                .map(|(r, c)| place(r, c))
                .collect();
            return self.e.floats(self.dtype, &[columns, rows], &turned).matmul(self);
        }
        let matrix = self.e.floats(self.dtype, &[rows, columns], matrix);
        if rank == 1 {
            return self.unsqueeze(&[0]).matmul(&matrix).squeeze(&[0]);
        }
        self.swap(axis, rank - 1).matmul(&matrix).swap(axis, rank - 1)
    }
}
