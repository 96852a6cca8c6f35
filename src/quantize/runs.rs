//! Elements of a quantized tensor that lie side by side, and where their parameters are.

use std::ops::Range;

use super::kind::Granularity;
use super::parameters::QuantizeError;

/// The parameters of a run of elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One for all of them.
    Shared(usize),
    /// One for each.
    Each(Range<usize>),
}

/// How parameters lie along the elements of a tensor, in row-major order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs {
    total: usize,
    /// Elements of one index of the axis.
    inner: usize,
    /// Indices of the axis.
    length: usize,
    /// Indices that share parameters.
    size: usize,
    /// Whether parameters differ between what lies around the axis and along it.
    blocked: bool,
}

impl Runs {
    /// For a tensor of shape `dims` with `count` parameters: one, one an index of the axis, or one a block in row-major order of the
    /// blocked shape.
    pub(super) fn of(dims: &[u64], granularity: Granularity, count: usize) -> Result<Self, QuantizeError> {
        let wrong = || QuantizeError::Shape {
            scales: count,
            dims: dims.to_vec(),
            granularity: format!("{granularity:?}"),
        };
        let product = |dims: &[u64]| dims.iter().product::<u64>() as usize;
        let total = product(dims);
        let (axis, size) = match granularity {
            Granularity::PerTensor if count == 1 => {
                return Ok(Self {
                    total,
                    inner: total,
                    length: 1,
                    size: 1,
                    blocked: false,
                });
            }
            Granularity::PerTensor => return Err(wrong()),
            Granularity::PerChannel(axis) => (axis, 1),
            Granularity::Blocked { axis, size } => (axis, size),
        };
        let length = *dims.get(axis).ok_or_else(wrong)? as usize;
        let inner = product(dims.get(axis + 1..).unwrap_or_default());
        let outer = product(dims.get(..axis).unwrap_or_default());
        let blocked = matches!(granularity, Granularity::Blocked { .. });
        if size == 0 {
            return Err(wrong());
        }
        let expected = match blocked {
            true => outer * length.div_ceil(size) * inner,
            false => length,
        };
        if count != expected {
            return Err(wrong());
        }
        Ok(Self {
            total,
            inner,
            length,
            size,
            blocked,
        })
    }

    /// The runs, in the order of elements.
    pub(super) fn each(self) -> impl Iterator<Item = (Range<usize>, Place)> {
        let Self {
            total,
            inner,
            length,
            size,
            blocked,
        } = self;
        // Along the last axis parameters of channels change with each element, and those of blocks with each block.
        let (run, along) = match (inner, blocked) {
            (1, false) => (length, 1),
            (1, true) => (size, length.div_ceil(size)),
            _ => (inner, length),
        };
        let blocks = length.div_ceil(size);
        let rows = match total {
            0 => 0,
            total => total / (inner * length).max(1),
        };
        (0..rows).flat_map(move |row| {
            let start = row * inner * length;
            (0..along).map(move |at| {
                let from = start + at * run;
                let elements = from..(from + run).min(start + inner * length);
                let place = match (inner, blocked) {
                    (1, false) => Place::Each(0..length),
                    (_, false) => Place::Shared(at),
                    (1, true) => Place::Shared(row * blocks + at),
                    (_, true) => {
                        let first = (row * blocks + at / size) * inner;
                        Place::Each(first..first + inner)
                    }
                };
                (elements, place)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parameter of each element by its coordinates.
    fn by_coordinates(dims: [usize; 3], granularity: Granularity) -> Vec<usize> {
        let [a, b, c] = dims;
        let mut found = Vec::new();
        for flat in 0..a * b * c {
            let place = [flat / (b * c), flat / c % b, flat % c];
            found.push(match granularity {
                Granularity::PerTensor => 0,
                Granularity::PerChannel(axis) => place[axis],
                Granularity::Blocked { axis, size } => {
                    let (mut dims, mut place) = (dims, place);
                    dims[axis] = dims[axis].div_ceil(size);
                    place[axis] /= size;
                    (place[0] * dims[1] + place[1]) * dims[2] + place[2]
                }
            });
        }
        found
    }

    #[test]
    fn every_element_finds_its_parameter() {
        for dims in [[3usize, 4, 5], [1, 7, 1], [2, 1, 6], [1, 1, 1], [2, 3, 1]] {
            let mut all = vec![Granularity::PerTensor];
            for axis in 0..3 {
                all.push(Granularity::PerChannel(axis));
                all.extend([1, 2, 3, 8].map(|size| Granularity::Blocked { axis, size }));
            }
            for granularity in all {
                let expected = by_coordinates(dims, granularity);
                let count = expected.iter().max().unwrap() + 1;
                let shape = dims.map(|dim| dim as u64);
                let runs = Runs::of(&shape, granularity, count).unwrap();
                let mut found = Vec::new();
                for (elements, place) in runs.each() {
                    assert_eq!(elements.start, found.len(), "{dims:?} {granularity:?}");
                    match place {
                        Place::Shared(at) => found.extend(elements.map(|_| at)),
                        Place::Each(range) => {
                            assert_eq!(range.len(), elements.len());
                            found.extend(range);
                        }
                    }
                }
                assert_eq!(found, expected, "{dims:?} {granularity:?}");
            }
        }
    }

    #[test]
    fn counts_that_do_not_fit_are_refused_and_nothing_has_no_runs() {
        assert!(Runs::of(&[2, 3], Granularity::PerTensor, 2).is_err());
        assert!(Runs::of(&[2, 3], Granularity::PerChannel(1), 2).is_err());
        assert!(Runs::of(&[2, 3], Granularity::PerChannel(2), 1).is_err());
        assert!(Runs::of(&[2, 3], Granularity::Blocked { axis: 1, size: 2 }, 3).is_err());
        assert!(Runs::of(&[2, 3], Granularity::Blocked { axis: 1, size: 0 }, 3).is_err());
        for (granularity, count) in [
            (Granularity::PerTensor, 1),
            (Granularity::PerChannel(0), 0),
            (Granularity::PerChannel(1), 3),
            (Granularity::Blocked { axis: 1, size: 2 }, 0),
        ] {
            assert_eq!(Runs::of(&[0, 3], granularity, count).unwrap().each().count(), 0);
        }
    }
}
