//! Rows of one input tensor, at positions chosen so that every machine chooses the same.

use ndarray::Array2;

use super::Layer;
use super::layer::{Geometry, Same};
use crate::data::Batch;
use crate::engine::stream::Sampled;

/// The rows `[R, groups * columns]` of `input`: all positions of each sample that counts, or `limit` of them; where the samples
/// cannot be told apart, that many for each of them from all positions. `None` if the shape does not fit the layer.
pub(super) fn gather(layer: &Layer, input: &Sampled<'_>, batch: &Batch, limit: usize) -> Option<Array2<f32>> {
    let dims: Vec<usize> = input.dims().iter().map(|dim| *dim as usize).collect();
    if input.elements().len() != dims.iter().product::<usize>() {
        return None;
    }
    match &layer.geometry {
        Geometry::LastAxis => last_axis(layer, input, &dims, batch, limit),
        Geometry::Windows { .. } => windows(layer, input, &dims, batch, limit),
    }
}

/// Positions of each sample that are taken.
fn limit_of(input: &Sampled<'_>, batch: &Batch, limit: usize) -> usize {
    match input.samples() == batch.count {
        true => limit,
        false => limit * batch.count.max(1),
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
    input: &Sampled<'_>,
    dims: &[usize],
    batch: &Batch,
    limit: usize,
) -> Option<Array2<f32>> {
    let columns = *dims.last()?;
    if columns != layer.columns {
        return None;
    }
    let input = input.in_units(columns);
    let limit = limit_of(&input, batch, limit);
    let each = input.sample_size() / columns.max(1);
    let mut rows = Vec::new();
    for sample in 0..input.samples() {
        for position in positions(each, limit, batch.first + sample as u64) {
            let start = input.index(sample, position * columns);
            rows.extend_from_slice(input.elements().get(start..start + columns)?);
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
    input: &Sampled<'_>,
    dims: &[usize],
    batch: &Batch,
    limit: usize,
) -> Option<Array2<f32>> {
    let [_, channels, sizes @ ..] = dims else {
        return None;
    };
    if *channels != layer.channels * layer.groups {
        return None;
    }
    let axes = along(&layer.geometry, sizes).filter(|axes| axes.len() == sizes.len())?;
    let each: usize = axes.iter().map(|axis| axis.outputs).product();
    let place: usize = sizes.iter().product();
    // Inputs may be cut into several tiles a sample.
    let tile = channels * place;
    let input = input.in_units(tile);
    let limit = limit_of(&input, batch, limit);
    let tiles = input.sample_size() / tile.max(1);
    let mut rows = Vec::new();
    for sample in 0..input.samples() {
        for position in positions(tiles * each, limit, batch.first + sample as u64) {
            let first = input.index(sample, position / each * tile);
            let reads = offsets(&axes, position % each);
            for channel in 0..*channels {
                let start = first + channel * place;
                let values = input.elements().get(start..start + place)?;
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
