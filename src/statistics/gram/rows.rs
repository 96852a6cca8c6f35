//! Rows of one input tensor, at positions chosen so that every machine chooses the same.

use ndarray::Array2;

use super::Layer;
use super::layer::{Geometry, Same};

/// How the leading axis of a value is shared by the samples of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Samples {
    /// Global index of the first sample.
    pub(super) first: u64,
    /// Samples that ran.
    pub(super) ran: usize,
    /// Those that count.
    pub(super) real: usize,
}

/// The rows `[R, groups * columns]` of `input`: all positions of each real sample, or `limit` of them. `None` if the shape does
/// not fit the layer.
pub(super) fn gather(
    layer: &Layer,
    input: &[f32],
    dims: &[u64],
    samples: Samples,
    limit: usize,
) -> Option<Array2<f32>> {
    let dims: Vec<usize> = dims.iter().map(|dim| *dim as usize).collect();
    match &layer.geometry {
        Geometry::LastAxis => last_axis(layer, input, &dims, samples, limit),
        Geometry::Windows { .. } => windows(layer, input, &dims, samples, limit),
    }
}

/// `limit` of `count` positions, spread over all of them and another choice for each sample; every one if they are few enough.
fn positions(count: usize, limit: usize, sample: u64) -> Vec<usize> {
    if count <= limit {
        return (0..count).collect();
    }
    // Multiples of a step near the golden section, coprime with the count, fill the range evenly and visit nothing twice.
    let mut step = ((count as f64 * 0.618_033_988_749_895) as usize).max(1);
    while gcd(step, count) != 1 {
        step += 1;
    }
    let start = ((u128::from(sample) * limit as u128 * step as u128) % count as u128) as usize;
    (0..limit).map(|at| (start + at * step) % count).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn last_axis(
    layer: &Layer,
    input: &[f32],
    dims: &[usize],
    samples: Samples,
    limit: usize,
) -> Option<Array2<f32>> {
    let columns = *dims.last()?;
    if columns != layer.columns || input.len() != dims.iter().product::<usize>() {
        return None;
    }
    let total = input.len() / columns.max(1);
    // An input whose first axis is not one of samples is one sample.
    let leading = if dims.len() > 1 { *dims.first()? } else { 1 };
    let by_sample = leading % samples.ran.max(1) == 0;
    let (ran, real) = if by_sample {
        (samples.ran.max(1), samples.real)
    } else {
        (1, 1)
    };
    let each = total / ran;
    let limit = if by_sample {
        limit
    } else {
        limit * samples.real.max(1)
    };
    let mut rows = Vec::new();
    for sample in 0..real.min(ran) {
        for position in positions(each, limit, samples.first + sample as u64) {
            let start = (sample * each + position) * columns;
            rows.extend_from_slice(input.get(start..start + columns)?);
        }
    }
    Array2::from_shape_vec((rows.len() / columns.max(1), columns), rows).ok()
}

/// Placement of the windows along one axis.
struct Along {
    size: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: i64,
    outputs: usize,
}

impl Along {
    /// The input index that a tap of the window at `output` reads; `None` in the padding.
    fn read(&self, output: usize, tap: usize) -> Option<usize> {
        let at = (output * self.stride + tap * self.dilation) as i64 - self.before;
        usize::try_from(at).ok().filter(|at| *at < self.size)
    }
}

fn along(geometry: &Geometry, sizes: &[usize]) -> Option<Vec<Along>> {
    let Geometry::Windows {
        kernel,
        strides,
        dilations,
        pads,
        same,
    } = geometry
    else {
        return None;
    };
    let rank = kernel.len();
    (0..rank)
        .map(|axis| {
            let (size, kernel, stride, dilation) = (
                *sizes.get(axis)?,
                *kernel.get(axis)?,
                *strides.get(axis)?,
                *dilations.get(axis)?,
            );
            let extent = (kernel - 1) * dilation + 1;
            let (before, outputs) = match same {
                Some(same) => {
                    let outputs = size.div_ceil(stride);
                    let padding = ((outputs.max(1) - 1) * stride + extent).saturating_sub(size);
                    let before = match same {
                        Same::Upper => padding / 2,
                        Same::Lower => padding - padding / 2,
                    };
                    (before as i64, outputs)
                }
                None => {
                    let (before, after) = (*pads.get(axis)?, *pads.get(axis + rank)?);
                    let room = size as i64 + before + after - extent as i64;
                    let outputs = if room < 0 { 0 } else { room as usize / stride + 1 };
                    (before, outputs)
                }
            };
            Some(Along {
                size,
                kernel,
                stride,
                dilation,
                before,
                outputs,
            })
        })
        .collect()
}

/// For every tap of the window at `position` the offset into one channel; `None` in the padding.
fn offsets(axes: &[Along], position: usize) -> Vec<Option<usize>> {
    let mut place = vec![0; axes.len()];
    let mut rest = position;
    for (slot, axis) in place.iter_mut().zip(axes).rev() {
        (*slot, rest) = (rest % axis.outputs.max(1), rest / axis.outputs.max(1));
    }
    let mut found: Vec<Option<usize>> = vec![Some(0)];
    for (axis, output) in axes.iter().zip(place) {
        let reads: Vec<Option<usize>> = (0..axis.kernel).map(|tap| axis.read(output, tap)).collect();
        found = found
            .iter()
            .flat_map(|before| {
                reads
                    .iter()
                    .map(move |read| Some((*before)? * axis.size + (*read)?))
            })
            .collect();
    }
    found
}

fn windows(
    layer: &Layer,
    input: &[f32],
    dims: &[usize],
    samples: Samples,
    limit: usize,
) -> Option<Array2<f32>> {
    let [batch, channels, sizes @ ..] = dims else {
        return None;
    };
    if *channels != layer.channels * layer.groups || input.len() != dims.iter().product::<usize>() {
        return None;
    }
    let axes = along(&layer.geometry, sizes).filter(|axes| axes.len() == sizes.len())?;
    let each: usize = axes.iter().map(|axis| axis.outputs).product();
    let place: usize = sizes.iter().product();
    // Inputs may be cut into several tiles a sample.
    let (ran, real) = match samples.ran {
        ran if ran > 0 && batch % ran == 0 => (ran, samples.real.min(ran)),
        _ => (1, 1),
    };
    let tiles = batch / ran;
    let mut rows = Vec::new();
    for sample in 0..real {
        for position in positions(tiles * each, limit, samples.first + sample as u64) {
            let (tile, position) = (sample * tiles + position / each, position % each);
            let reads = offsets(&axes, position);
            for channel in 0..*channels {
                let start = (tile * channels + channel) * place;
                let values = input.get(start..start + place)?;
                rows.extend(
                    reads
                        .iter()
                        .map(|read| read.and_then(|at| values.get(at)).copied().unwrap_or(0.0)),
                );
            }
        }
    }
    let columns = layer.groups * layer.columns;
    Array2::from_shape_vec((rows.len() / columns.max(1), columns), rows).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_positions_differ_from_each_other_and_between_samples() {
        assert_eq!(positions(5, 5, 3), [0, 1, 2, 3, 4]);
        for count in [6, 49, 196, 12544] {
            let chosen = positions(count, 5, 7);
            let distinct: std::collections::BTreeSet<_> = chosen.iter().collect();
            assert_eq!((distinct.len(), chosen.len()), (5, 5));
            assert!(chosen.iter().all(|at| *at < count));
            assert_ne!(chosen, positions(count, 5, 8), "{count}");
        }
    }

    #[test]
    fn taps_in_the_padding_read_nothing() {
        let axes = along(
            &Geometry::Windows {
                kernel: vec![3],
                strides: vec![2],
                dilations: vec![1],
                pads: vec![1, 1],
                same: None,
            },
            &[4],
        )
        .unwrap();
        assert_eq!(axes[0].outputs, 2);
        assert_eq!(offsets(&axes, 0), [None, Some(0), Some(1)]);
        assert_eq!(offsets(&axes, 1), [Some(1), Some(2), Some(3)]);
        let same = |same| {
            let geometry = Geometry::Windows {
                kernel: vec![2],
                strides: vec![1],
                dilations: vec![1],
                pads: vec![0, 0],
                same: Some(same),
            };
            offsets(&along(&geometry, &[3]).unwrap(), 0)
        };
        assert_eq!(same(Same::Upper), [Some(0), Some(1)]);
        assert_eq!(same(Same::Lower), [None, Some(0)]);
    }
}
