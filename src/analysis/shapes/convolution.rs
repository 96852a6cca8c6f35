//! Convolutions: `[N, C, spatial...]` with weights `[M, C / group, kernel...]`.

use super::super::call::{Call, Facts, Rule};
use crate::ir::{Dim, Operator};

pub(super) const RULES: &[(&str, Rule)] = &[
    ("CausalConvWithState", causal),
    ("Col2Im", col2im),
    ("Conv", conv),
    ("ConvInteger", conv),
    ("ConvTranspose", transposed),
    ("DeformConv", conv),
    ("QLinearConv", |call, facts| convolution(call, facts, 3)),
];

/// Kernel placement along the spatial axes, from attributes.
pub(in super::super) struct Window<'a> {
    operator: &'a Operator,
    pub(super) kernel: Vec<Dim>,
    pub(super) auto_pad: &'a str,
}

impl<'a> Window<'a> {
    pub(in super::super) fn new(call: &Call<'a>, kernel: Vec<Dim>) -> Self {
        Self {
            operator: call.operator,
            kernel,
            auto_pad: call.operator.string("auto_pad").unwrap_or("NOTSET"),
        }
    }

    pub(super) fn stride(&self, axis: usize) -> Dim {
        Dim::Fixed(
            self.operator
                .ints("strides")
                .and_then(|s| s.get(axis))
                .copied()
                .unwrap_or(1),
        )
    }

    /// Elements that the kernel spans along an axis, holes included.
    pub(in super::super) fn extent(&self, axis: usize) -> Dim {
        let dilation = self
            .operator
            .ints("dilations")
            .and_then(|d| d.get(axis))
            .copied()
            .unwrap_or(1);
        let kernel = self.kernel.get(axis).unwrap_or(&Dim::Unknown);
        kernel
            .sub(&Dim::Fixed(1))
            .mul(&Dim::Fixed(dilation))
            .add(&Dim::Fixed(1))
    }

    /// Padding before and after an axis, when it is explicit.
    pub(in super::super) fn pads(&self, axis: usize) -> (i64, i64) {
        let pads = if self.auto_pad == "NOTSET" || self.auto_pad.is_empty() {
            self.operator.ints("pads")
        } else {
            None
        };
        let at = |index: usize| pads.and_then(|p| p.get(index)).copied().unwrap_or(0);
        (at(axis), at(axis + self.kernel.len()))
    }

    pub(in super::super) fn is_same(&self) -> bool {
        matches!(self.auto_pad, "SAME_UPPER" | "SAME_LOWER")
    }

    /// Positions of the kernel along an axis of this size, counting whole steps only.
    pub(super) fn positions(&self, axis: usize, input: &Dim) -> Dim {
        let stride = self.stride(axis);
        if self.is_same() {
            return input.ceil_div(&stride);
        }
        let (before, after) = self.pads(axis);
        let Some(padding) = before.checked_add(after) else {
            return Dim::Unknown;
        };
        let room = input.add(&Dim::Fixed(padding)).sub(&self.extent(axis));
        room.floor_div(&stride).add(&Dim::Fixed(1))
    }
}

pub(super) fn conv(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    convolution(call, facts, 1)
}

fn convolution(call: &Call<'_>, facts: &mut Facts, weights: usize) -> Option<()> {
    let input = call.shape(0)?;
    let rank = input.len();
    let kernel: Vec<Dim> = match (call.ints("kernel_shape"), call.shape(weights)) {
        (_, Some(shape)) if shape.len() == rank => shape.iter().skip(2).cloned().collect(),
        (Some(kernel), _) => kernel.iter().copied().map(Dim::Fixed).collect(),
        _ => vec![Dim::Unknown; rank.checked_sub(2)?],
    };
    if kernel.len() + 2 != rank {
        return None;
    }
    let window = Window::new(call, kernel);
    let mut shape = vec![input.first()?.clone(), call.dim(weights, 0)];
    shape.extend(
        input
            .iter()
            .skip(2)
            .enumerate()
            .map(|(axis, dim)| window.positions(axis, dim)),
    );
    facts.shape(0, shape);
    Some(())
}

fn transposed(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let input = call.shape(0)?;
    let spatial = input.len().checked_sub(2)?;
    let kernel: Vec<Dim> = match (call.ints("kernel_shape"), call.shape(1)) {
        (_, Some(shape)) if shape.len() == input.len() => shape.iter().skip(2).cloned().collect(),
        (Some(kernel), _) => kernel.iter().copied().map(Dim::Fixed).collect(),
        _ => vec![Dim::Unknown; spatial],
    };
    let window = Window::new(call, kernel);
    let group = Dim::Fixed(call.int_or("group", 1));
    let mut shape = vec![input.first()?.clone(), call.dim(1, 1).mul(&group)];
    let asked = call
        .ints("output_shape")
        .map(|asked| &asked[asked.len().saturating_sub(spatial)..]);
    let extra = call.ints("output_padding");
    for (axis, dim) in input.iter().skip(2).enumerate() {
        let stride = window.stride(axis);
        let (before, after) = window.pads(axis);
        shape.push(match asked.and_then(|asked| asked.get(axis)) {
            Some(size) => Dim::Fixed(*size),
            None if window.is_same() => dim.mul(&stride),
            None => dim
                .sub(&Dim::Fixed(1))
                .mul(&stride)
                .add(&window.extent(axis))
                .add(&Dim::Fixed(
                    extra.and_then(|extra| extra.get(axis)).copied().unwrap_or(0),
                ))
                .sub(&Dim::Fixed(before))
                .sub(&Dim::Fixed(after)),
        });
    }
    facts.shape(0, shape);
    Some(())
}

/// `[N, C * kernel, L]` to `[N, C, image...]`.
fn col2im(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let image = call.sizes(1)?;
    let block = call.sizes(2).map_or(Dim::Unknown, |block| {
        super::super::call::product(block.elements.iter())
    });
    let channels = call
        .dim(0, 1)
        .exact_div(&block)
        .unwrap_or_else(|| call.dim(0, 1).floor_div(&block));
    let mut shape = vec![call.dim(0, 0), channels];
    shape.extend(image.elements.iter().cloned());
    facts.shape(0, shape);
    Some(())
}

/// `[N, C, L]`, and the last k - 1 positions as state.
fn causal(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let input = call.shape(0)?;
    facts.shape(0, input.iter().cloned());
    facts.shape(
        1,
        [call.dim(0, 0), call.dim(0, 1), call.dim(1, 2).sub(&Dim::Fixed(1))],
    );
    Some(())
}
