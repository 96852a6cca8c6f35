//! Pixels at the places of two axes, as the images of data sets are resized: `double [N, 3, height, width]` of whole numbers.

use super::axis::Axis;
use super::range;
use crate::data::{Interpolation, Preprocess};
use crate::ir::{DType, ValueId};
use crate::passes::form::bake::ops::Ops;

/// The pixels of `planes` (`uint8 [N, 3, H, W]`).
pub(super) fn resample(
    ops: &mut Ops,
    preprocess: &Preprocess,
    planes: ValueId,
    [rows, columns]: [&Axis; 2],
) -> ValueId {
    let is_resized = preprocess.resize.is_some() || preprocess.letterbox.is_some();
    match preprocess.interpolation {
        _ if !is_resized && preprocess.crop.is_none() => ops.cast(planes, DType::F64),
        _ if !is_resized => picked(ops, planes, rows.at, columns.at),
        Interpolation::Nearest => {
            let [down, across] = [rows, columns].map(|axis| nearest(ops, axis));
            picked(ops, planes, down, across)
        }
        Interpolation::Bilinear => bilinear(ops, planes, rows, columns),
        Interpolation::Antialias => antialias(ops, planes, rows, columns),
    }
}

/// Halves up, which is away from zero for what is not negative: what images are rounded by.
pub(super) fn rounded(ops: &mut Ops, value: ValueId, dtype: DType) -> ValueId {
    let half = match dtype {
        DType::F32 => ops.float(0.5),
        _ => ops.double(0.5),
    };
    let raised = ops.op("Add", &[value, half]);
    ops.op("Floor", &[raised])
}

/// One pixel for each pair of places in the image.
fn picked(ops: &mut Ops, planes: ValueId, down: ValueId, across: ValueId) -> ValueId {
    let pixels = corner(ops, planes, down, across);
    ops.cast(pixels, DType::F64)
}

fn corner(ops: &mut Ops, planes: ValueId, down: ValueId, across: ValueId) -> ValueId {
    let lines = ops.gather(planes, down, 2);
    ops.gather(lines, across, 3)
}

/// The place in the image under the middle of each new pixel, in `float`.
fn nearest(ops: &mut Ops, axis: &Axis) -> ValueId {
    let [old, new] = axis.float_lengths(ops, DType::F32);
    let ratio = ops.op("Div", &[old, new]);
    let (half, zero, one) = (ops.float(0.5), ops.float(0.0), ops.float(1.0));
    let at = axis.floats(ops, DType::F32);
    let at = ops.op("Add", &[at, half]);
    let at = ops.op("Mul", &[at, ratio]);
    let at = ops.op("Floor", &[at]);
    let last = ops.op("Sub", &[old, one]);
    let at = ops.op("Max", &[at, zero]);
    let at = ops.op("Min", &[at, last]);
    ops.cast(at, DType::I64)
}

/// Where each new pixel's centre falls between two old ones.
struct Taps {
    low: ValueId,
    high: ValueId,
    /// Shares of both, in doubles.
    of_low: ValueId,
    of_high: ValueId,
}

fn taps(ops: &mut Ops, axis: &Axis) -> Taps {
    let [old, new] = axis.float_lengths(ops, DType::F64);
    let step = ops.op("Div", &[old, new]);
    let (half, zero, one) = (ops.double(0.5), ops.double(0.0), ops.double(1.0));
    let at = axis.floats(ops, DType::F64);
    let at = ops.op("Add", &[at, half]);
    let at = ops.op("Mul", &[at, step]);
    let at = ops.op("Sub", &[at, half]);
    let last = ops.op("Sub", &[old, one]);
    let at = ops.op("Max", &[at, zero]);
    let at = ops.op("Min", &[at, last]);
    let low = ops.op("Floor", &[at]);
    let high = ops.op("Add", &[low, one]);
    let high = ops.op("Min", &[high, last]);
    let of_high = ops.op("Sub", &[at, low]);
    Taps {
        low: ops.cast(low, DType::I64),
        high: ops.cast(high, DType::I64),
        of_low: ops.op("Sub", &[one, of_high]),
        of_high,
    }
}

/// Between the four nearest pixels. The sum has the order of the evaluator's, so that it has its bits.
fn bilinear(ops: &mut Ops, planes: ValueId, rows: &Axis, columns: &Axis) -> ValueId {
    let (down, across) = (taps(ops, rows), taps(ops, columns));
    let [top, bottom] = [down.of_low, down.of_high].map(|share| ops.unsqueeze(share, 1));
    let corners = [
        (down.low, across.low, across.of_low, top),
        (down.low, across.high, across.of_high, top),
        (down.high, across.low, across.of_low, bottom),
        (down.high, across.high, across.of_high, bottom),
    ];
    let mut sum = None;
    for (line, place, share_across, share_down) in corners {
        let weight = ops.op("Mul", &[share_across, share_down]);
        let pixels = corner(ops, planes, line, place);
        let pixels = ops.cast(pixels, DType::F64);
        let part = ops.op("Mul", &[weight, pixels]);
        sum = Some(match sum {
            None => part,
            Some(sum) => ops.op("Add", &[sum, part]),
        });
    }
    let sum = sum.unwrap_or(planes);
    rounded(ops, sum, DType::F64)
}

/// Over all pixels that a new one covers: products with matrices of a triangle's weights, in `float`, rows first.
fn antialias(ops: &mut Ops, planes: ValueId, rows: &Axis, columns: &Axis) -> ValueId {
    let pixels = ops.cast(planes, DType::F32);
    let down = weights(ops, rows, 1);
    let across = weights(ops, columns, 0);
    let lines = ops.op("MatMul", &[down, pixels]);
    let mean = ops.op("MatMul", &[lines, across]);
    let (least, most) = (ops.float(0.0), ops.float(255.0));
    let bounded = ops.op("Max", &[mean, least]);
    let bounded = ops.op("Min", &[bounded, most]);
    let rounded = rounded(ops, bounded, DType::F32);
    ops.cast(rounded, DType::F64)
}

/// The weight of each old pixel in each new one, with the old ones along axis `old_axis` of two.
fn weights(ops: &mut Ops, axis: &Axis, old_axis: i64) -> ValueId {
    let [old, new] = axis.float_lengths(ops, DType::F32);
    let ratio = ops.op("Div", &[old, new]);
    let (zero, half, one) = (ops.float(0.0), ops.float(0.5), ops.float(1.0));
    let reach = ops.op("Max", &[ratio, one]);
    let at = axis.floats(ops, DType::F32);
    let at = ops.op("Add", &[at, half]);
    let at = ops.op("Mul", &[at, ratio]);
    let centre = ops.op("Sub", &[at, half]);
    let centre = ops.unsqueeze(centre, old_axis);
    let places = range(ops, axis.lengths.old);
    let places = ops.cast(places, DType::F32);
    let places = ops.unsqueeze(places, 1 - old_axis);
    let distance = ops.op("Sub", &[places, centre]);
    let distance = ops.op("Div", &[distance, reach]);
    let distance = ops.op("Abs", &[distance]);
    let weight = ops.op("Sub", &[one, distance]);
    let weight = ops.op("Max", &[weight, zero]);
    let all = ops.sum(weight, old_axis, true);
    ops.op("Div", &[weight, all])
}
