//! An output as classes or scores of pixels, and how a mask's pixels are found in it.
//!
//! Pixels are compared at the size of the mask. A mask's pixel is found in the input through the image's [`Frame`] and from there
//! in the output by the ratio of their sizes, centres of pixels being at halves. Scores are interpolated bilinearly before the
//! highest is taken, as PyTorch's `interpolate(mode="bilinear", align_corners=False)` does, class numbers are those of the pixel
//! around the point. Pixels of the image that a crop left out of the input do not count, nor do those of the padding where the
//! reference's answer is the truth.

use std::collections::BTreeMap;

use super::super::super::EvaluateError;
use super::super::super::classification::argmax;
use super::super::Output;
use super::pixels::Confusion;
use crate::data::{Frame, SegmentationOptions};

/// The class of a pixel that does not count.
pub(super) const IGNORED: i64 = i64::MIN;

/// What is true, a class a pixel.
pub(super) struct TrueClasses {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) classes: Vec<i64>,
}

/// An output as classes or scores of pixels.
pub(super) struct Grid<'a> {
    output: &'a Output,
    /// Channels of scores; `None` for class numbers.
    channels: Option<usize>,
    width: usize,
    height: usize,
    channel_stride: usize,
    pixel_stride: usize,
    threshold: f64,
}

/// Where a pixel of the target is along one axis of the output.
#[derive(Clone, Copy)]
struct Place {
    low: usize,
    high: usize,
    /// What `high` counts for, from 0 to 1.
    share: f64,
    nearest: usize,
}

impl<'a> Grid<'a> {
    pub(super) fn read(output: &'a Output, options: &SegmentationOptions) -> Result<Self, EvaluateError> {
        let wrong = |problem: String| EvaluateError::Output {
            output: output.name.clone(),
            problem,
        };
        let (channels, height, width) = match (output.dims.as_slice(), options.channels_last) {
            ([height, width], _) => (1, *height, *width),
            ([channels, height, width], false) | ([height, width, channels], true) => {
                (*channels, *height, *width)
            }
            (dims, _) => {
                return Err(wrong(format!(
                    "has shape {dims:?} a sample; masks are read from [C, H, W], [1, H, W] or [H, W]"
                )));
            }
        };
        if output.integer && channels != 1 {
            return Err(wrong(format!(
                "holds integers of shape {:?} a sample; class numbers are [1, H, W] or [H, W]",
                output.dims
            )));
        }
        let pixels = height.saturating_mul(width);
        if pixels == 0 || channels == 0 || pixels.checked_mul(channels) != Some(output.values.len()) {
            return Err(wrong(format!(
                "has shape {:?} a sample and {} values",
                output.dims,
                output.values.len()
            )));
        }
        let (channel_stride, pixel_stride) = match options.channels_last {
            true => (1, channels),
            false => (pixels, 1),
        };
        Ok(Self {
            output,
            channels: (!output.integer).then_some(channels),
            width,
            height,
            channel_stride,
            pixel_stride,
            threshold: options.threshold,
        })
    }

    /// This answer as the truth of a model whose output has the size of `model`.
    pub(super) fn as_target(&self, model: &Grid<'_>, frame: Option<&Frame>) -> (TrueClasses, Frame) {
        let (width, height) = (model.width, model.height);
        let identity = Frame::identity(width as u32, height as u32);
        let (columns, rows) = (
            places(width, 0, &identity, self.width),
            places(height, 1, &identity, self.height),
        );
        let inside = |pixel: usize, axis: usize, size: usize| {
            let Some(frame) = frame else { return true };
            let ratio = f64::from(along(frame.input, axis)) / size as f64;
            let input = (pixel as f64 + 0.5) * ratio;
            let (x, y) = frame.to_image(input, input);
            let at = if axis == 0 { x } else { y };
            (0.0..f64::from(along(frame.image, axis))).contains(&at)
        };
        let mut scores = Vec::new();
        let mut classes = Vec::with_capacity(width * height);
        for (y, row) in rows.iter().enumerate() {
            for (x, column) in columns.iter().enumerate() {
                let class = match (column, row) {
                    (Some(column), Some(row)) if inside(x, 0, width) && inside(y, 1, height) => {
                        self.class(column, row, &mut scores)
                    }
                    _ => IGNORED,
                };
                classes.push(class);
            }
        }
        let target = TrueClasses {
            width,
            height,
            classes,
        };
        (target, identity)
    }

    pub(super) fn confusion(&self, target: &TrueClasses, frame: &Frame) -> Confusion {
        let columns = places(target.width, 0, frame, self.width);
        let rows = places(target.height, 1, frame, self.height);
        let mut scores = Vec::new();
        let mut counts: BTreeMap<(i64, i64), u64> = BTreeMap::new();
        // Neighbours are mostly alike: runs are counted, not pixels.
        let (mut run, mut length) = ((0, 0), 0u64);
        for (row, classes) in rows.iter().zip(target.classes.chunks(target.width.max(1))) {
            for (column, truth) in columns.iter().zip(classes) {
                let (Some(column), Some(row), false) = (column, row, *truth == IGNORED) else {
                    continue;
                };
                let pair = (*truth, self.class(column, row, &mut scores));
                if pair != run {
                    *counts.entry(run).or_default() += length;
                    (run, length) = (pair, 0);
                }
                length += 1;
            }
        }
        *counts.entry(run).or_default() += length;
        Confusion(
            counts
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|((truth, predicted), count)| (truth, predicted, count))
                .collect(),
        )
    }

    /// The class at a place; `scores` is room for those of one pixel.
    fn class(&self, column: &Place, row: &Place, scores: &mut Vec<f64>) -> i64 {
        let value = |y: usize, x: usize, channel: usize| {
            let at = channel * self.channel_stride + (y * self.width + x) * self.pixel_stride;
            self.output.values.get(at).copied().unwrap_or(f64::NAN)
        };
        let Some(channels) = self.channels else {
            return value(row.nearest, column.nearest, 0) as i64;
        };
        let between = |channel: usize| {
            let along = |y: usize| {
                mixed(
                    value(y, column.low, channel),
                    || value(y, column.high, channel),
                    column.share,
                )
            };
            mixed(along(row.low), || along(row.high), row.share)
        };
        if channels == 1 {
            return i64::from(between(0) > self.threshold);
        }
        scores.clear();
        scores.extend((0..channels).map(between));
        argmax(scores)
    }
}

/// Between two values; the first as it is where the second has no share, so that infinities stay what they are.
fn mixed(low: f64, high: impl Fn() -> f64, share: f64) -> f64 {
    if share == 0.0 {
        low
    } else {
        low * (1.0 - share) + high() * share
    }
}

fn along<T: Copy>(pair: [T; 2], axis: usize) -> T {
    let [x, y] = pair;
    if axis == 0 { x } else { y }
}

/// Where the pixels of a target are along one axis (0: x, 1: y) of an output of `size`; `None` where the input has no such pixel.
fn places(pixels: usize, axis: usize, frame: &Frame, size: usize) -> Vec<Option<Place>> {
    let (scale, offset) = (along(frame.scale, axis), along(frame.offset, axis));
    let input = f64::from(along(frame.input, axis));
    let ratio = size as f64 / input;
    let last = size.saturating_sub(1);
    (0..pixels)
        .map(|pixel| {
            let at = (pixel as f64 + 0.5) * scale + offset;
            if !(0.0..input).contains(&at) {
                return None;
            }
            let at = at * ratio;
            let centre = (at - 0.5).max(0.0);
            let low = (centre.floor() as usize).min(last);
            let high = (low + 1).min(last);
            let share = if high == low { 0.0 } else { centre - low as f64 };
            Some(Place {
                low,
                high,
                share,
                nearest: (at.floor() as usize).min(last),
            })
        })
        .collect()
}
