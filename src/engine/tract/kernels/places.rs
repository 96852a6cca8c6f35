//! Where the scale and zero point of an element of a quantized tensor stand, run by run.

use std::ops::Range;

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// How scales and zero points lie along the data: the attributes of `QuantizeLinear` and `DequantizeLinear`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    axis: i64,
    block: i64,
}

/// Elements that lie side by side, and where their parameters are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) elements: Range<usize>,
    pub(super) parameters: Parameters,
}

/// The parameters of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameters {
    /// One for all of its elements.
    Shared(usize),
    /// One for each of its elements, from here on.
    Each(usize),
}

impl Layout {
    pub(super) fn of(node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            axis: node.get_attr_opt::<i64>("axis")?.unwrap_or(1),
            block: node.get_attr_opt::<i64>("block_size")?.unwrap_or(0),
        })
    }

    /// The runs of data of this shape, in row-major order, with parameters of that shape.
    pub(super) fn runs(&self, data: &[usize], parameters: &[usize]) -> TractResult<Runs> {
        let rank = data.len();
        let total = data.iter().product();
        let count: usize = parameters.iter().product();
        if count == 1 && self.block == 0 {
            return Ok(Runs {
                total,
                run: total.max(1),
                next: 0,
                kind: Kind::Tensor,
            });
        }
        let axis = if self.axis < 0 {
            self.axis + rank as i64
        } else {
            self.axis
        };
        let axis = usize::try_from(axis)
            .ok()
            .filter(|axis| *axis < rank)
            .context("the axis is out of range")?;
        let (length, inner): (usize, usize) = (data[axis], data[axis + 1..].iter().product());
        if self.block == 0 {
            ensure!(count == length, "{count} scales for an axis of {length}");
            let last = inner == 1;
            return Ok(Runs {
                total,
                run: if last { length } else { inner }.max(1),
                next: 0,
                kind: if last {
                    Kind::LastAxis
                } else {
                    Kind::Axis { length }
                },
            });
        }
        let block = usize::try_from(self.block)
            .ok()
            .filter(|block| *block > 0)
            .context("a block size below 1")?;
        let blocks = length.div_ceil(block);
        let mut expected = data.to_vec();
        expected[axis] = blocks;
        ensure!(
            parameters == &expected[..],
            "scales of shape {parameters:?} instead of {expected:?}"
        );
        Ok(Runs {
            total,
            run: inner.max(1),
            next: 0,
            kind: Kind::Blocks {
                length,
                block,
                blocks,
                inner,
            },
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// One parameter.
    Tensor,
    /// One for each index of an axis that is not the last with more than one element.
    Axis { length: usize },
    /// One for each index of the last axis.
    LastAxis,
    /// One for each block of an axis, for each index of the others.
    Blocks {
        length: usize,
        block: usize,
        blocks: usize,
        inner: usize,
    },
}

/// See [`Layout::runs`].
#[derive(Clone, Debug)]
pub(super) struct Runs {
    total: usize,
    run: usize,
    next: usize,
    kind: Kind,
}

impl Iterator for Runs {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        if self.next >= self.total {
            return None;
        }
        let (start, row) = (self.next, self.next / self.run);
        let mut length = self.run;
        let parameters = match self.kind {
            Kind::Tensor => Parameters::Shared(0),
            Kind::Axis { length } => Parameters::Shared(row % length),
            Kind::LastAxis => Parameters::Each(0),
            Kind::Blocks {
                length: rows,
                block,
                blocks,
                inner,
            } => {
                let (outer, index) = (row / rows, row % rows);
                let place = (outer * blocks + index / block) * inner;
                if inner == 1 {
                    length = block.min(rows - index);
                    Parameters::Shared(place)
                } else {
                    Parameters::Each(place)
                }
            }
        };
        self.next += length;
        Some(Run {
            elements: start..self.next,
            parameters,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place of every element's parameters by the definition of the operator.
    fn by_definition(layout: &Layout, data: &[usize], parameters: &[usize]) -> Vec<usize> {
        let count: usize = parameters.iter().product();
        let axis = if layout.axis < 0 {
            (layout.axis + data.len() as i64) as usize
        } else {
            layout.axis as usize
        };
        (0..data.iter().product())
            .map(|element| {
                let mut rest = element;
                let mut index = vec![0; data.len()];
                for at in (0..data.len()).rev() {
                    index[at] = rest % data[at];
                    rest /= data[at];
                }
                if layout.block > 0 {
                    index[axis] /= layout.block as usize;
                    let mut place = 0;
                    for (at, size) in parameters.iter().enumerate() {
                        place = place * size + index[at];
                    }
                    place
                } else if count == 1 {
                    0
                } else {
                    index[axis]
                }
            })
            .collect()
    }

    #[test]
    fn runs_cover_every_element_once_and_name_its_parameters() {
        let cases: &[(i64, i64, &[usize], &[usize])] = &[
            (1, 0, &[2, 3, 4], &[]),
            (1, 0, &[2, 3, 4], &[1]),
            (0, 0, &[2, 3, 4], &[2]),
            (1, 0, &[2, 3, 4], &[3]),
            (-1, 0, &[2, 3, 4], &[4]),
            (1, 0, &[2, 3, 1, 1], &[3]),
            (1, 2, &[2, 5, 4], &[2, 3, 4]),
            (2, 3, &[2, 2, 7], &[2, 2, 3]),
            (0, 2, &[5, 3], &[3, 3]),
            (0, 2, &[4], &[2]),
            (1, 0, &[0, 3], &[3]),
            (1, 0, &[3, 0], &[0]),
            (0, 0, &[], &[]),
        ];
        for (axis, block, data, parameters) in cases {
            let layout = Layout {
                axis: *axis,
                block: *block,
            };
            let mut found = Vec::new();
            for run in layout.runs(data, parameters).unwrap() {
                assert_eq!(run.elements.start, found.len(), "{data:?} {parameters:?}");
                for offset in 0..run.elements.len() {
                    found.push(match run.parameters {
                        Parameters::Shared(place) => place,
                        Parameters::Each(base) => base + offset,
                    });
                }
            }
            assert_eq!(
                found,
                by_definition(&layout, data, parameters),
                "{data:?} {parameters:?} axis {axis} block {block}"
            );
        }
    }
}
