//! Pooling over windows, over regions and over whole feature maps.

use super::super::call::{Call, Facts, Rule};
use super::convolution::Window;
use crate::ir::Dim;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("AveragePool", pool),
    ("GlobalAveragePool", global),
    ("GlobalLpPool", global),
    ("GlobalMaxPool", global),
    ("LpPool", pool),
    ("MaxPool", pool),
    ("MaxRoiPool", max_roi),
    ("MaxUnpool", unpool),
    ("RoiAlign", roi_align),
];

pub(super) fn pool(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let input = call.shape(0)?;
    let kernel: Vec<Dim> = call
        .ints("kernel_shape")?
        .iter()
        .copied()
        .map(Dim::Fixed)
        .collect();
    if kernel.len() + 2 != input.len() {
        return None;
    }
    let window = Window::new(call, kernel);
    let round_up = call.int_or("ceil_mode", 0) != 0;
    let mut shape = vec![input.first()?.clone(), call.dim(0, 1)];
    for (axis, dim) in input.iter().skip(2).enumerate() {
        shape.push(if round_up {
            rounded_up(&window, axis, dim)
        } else {
            window.positions(axis, dim)
        });
    }
    facts.shape(1, shape.clone());
    facts.shape(0, shape);
    Some(())
}

/// Positions of the window with `ceil_mode`: a last partial step counts, unless it starts behind the input and its left
/// padding.
fn rounded_up(window: &Window<'_>, axis: usize, input: &Dim) -> Dim {
    let stride = window.stride(axis);
    if window.is_same() || window.auto_pad == "VALID" || stride == Dim::Fixed(1) {
        return window.positions(axis, input);
    }
    let (before, after) = window.pads(axis);
    let Some(padding) = before.checked_add(after) else {
        return Dim::Unknown;
    };
    let room = input.add(&Dim::Fixed(padding)).sub(&window.extent(axis));
    let positions = room.ceil_div(&stride).add(&Dim::Fixed(1));
    match (positions.fixed(), stride.fixed(), input.fixed()) {
        (Some(count), Some(stride), Some(input)) => {
            let starts_outside = count
                .saturating_sub(1)
                .checked_mul(stride)
                .is_none_or(|start| start >= input.saturating_add(before));
            Dim::Fixed(if starts_outside {
                count.saturating_sub(1)
            } else {
                count
            })
        }
        // Whether the last window starts outside depends on the size.
        _ => Dim::Unknown,
    }
}

fn global(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let input = call.shape(0)?;
    facts.shape(
        0,
        input
            .iter()
            .enumerate()
            .map(|(axis, dim)| if axis < 2 { dim.clone() } else { Dim::Fixed(1) }),
    );
    Some(())
}

fn unpool(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    if call.has(2) {
        facts.shape(0, call.sizes(2)?.elements.iter().cloned());
        return Some(());
    }
    let input = call.shape(0)?;
    let kernel: Vec<Dim> = call
        .ints("kernel_shape")?
        .iter()
        .copied()
        .map(Dim::Fixed)
        .collect();
    let window = Window::new(call, kernel);
    let mut shape = vec![input.first()?.clone(), call.dim(0, 1)];
    for (axis, dim) in input.iter().skip(2).enumerate() {
        let (before, after) = window.pads(axis);
        let size = dim
            .sub(&Dim::Fixed(1))
            .mul(&window.stride(axis))
            .add(&window.extent(axis));
        shape.push(size.sub(&Dim::Fixed(before)).sub(&Dim::Fixed(after)));
    }
    facts.shape(0, shape);
    Some(())
}

/// `[regions, C, pooled height, pooled width]`.
fn max_roi(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let mut shape = vec![call.dim(1, 0), call.dim(0, 1)];
    shape.extend(call.ints("pooled_shape")?.iter().copied().map(Dim::Fixed));
    facts.shape(0, shape);
    Some(())
}

/// `[regions, C, output height, output width]`.
fn roi_align(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let regions = if call.dim(1, 0).is_known() {
        call.dim(1, 0)
    } else {
        call.dim(2, 0)
    };
    let size = |name: &str| Dim::Fixed(call.int_or(name, 1));
    facts.shape(
        0,
        [
            regions,
            call.dim(0, 1),
            size("output_height"),
            size("output_width"),
        ],
    );
    Some(())
}
