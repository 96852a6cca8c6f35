//! Multidirectional broadcasting: which element of an operand stands at each place of the result.

/// The common shape of operands, by ONNX's (NumPy's) rule; `None` when they do not fit.
pub(super) fn shape(operands: &[&[u64]]) -> Option<Vec<u64>> {
    let rank = operands.iter().map(|dims| dims.len()).max()?;
    let mut result = vec![1u64; rank];
    for dims in operands {
        for (slot, dim) in result.iter_mut().rev().zip(dims.iter().rev()) {
            match (*slot, *dim) {
                (a, b) if a == b => {}
                (1, b) => *slot = b,
                (_, 1) => {}
                _ => return None,
            }
        }
    }
    Some(result)
}

/// For each place of `result` in row-major order, the index of the element of an operand of shape `dims`.
pub(super) fn indices(dims: &[u64], result: &[u64]) -> Vec<usize> {
    walk(result, &strides(dims, result.len()), 0)
}

/// How far apart the elements of an operand of shape `dims` stand along each of the `rank` axes of a result; 0 where one is repeated.
fn strides(dims: &[u64], rank: usize) -> Vec<usize> {
    let mut strides = vec![0usize; rank];
    let mut stride = 1usize;
    for (slot, dim) in strides.iter_mut().rev().zip(dims.iter().rev()) {
        *slot = if *dim == 1 { 0 } else { stride };
        stride *= *dim as usize;
    }
    strides
}

/// Offsets of the places of a box of shape `dims` in row-major order, with these strides, from `start`.
pub(super) fn walk(dims: &[u64], strides: &[usize], start: usize) -> Vec<usize> {
    let total: u64 = dims.iter().product();
    let mut offsets = Vec::with_capacity(total as usize);
    if total == 0 {
        return offsets;
    }
    offsets.push(start);
    for (dim, stride) in dims.iter().zip(strides) {
        let outer = std::mem::replace(&mut offsets, Vec::with_capacity(total as usize));
        for base in outer {
            offsets.extend((0..*dim as usize).map(|index| base + index * stride));
        }
    }
    offsets
}

/// Walks the places of a result in row-major order and gives, for each operand, the index of its element there.
pub(super) struct Odometer<const N: usize> {
    dims: Vec<usize>,
    strides: [Vec<usize>; N],
    place: Vec<usize>,
    offsets: [usize; N],
    left: usize,
}

impl<const N: usize> Odometer<N> {
    /// Operands of these shapes, broadcast to the shape `result`.
    pub(super) fn new(result: &[u64], operands: [&[u64]; N]) -> Self {
        let strides = operands.map(|dims| strides(dims, result.len()));
        Self::over(result.iter().map(|dim| *dim as usize).collect(), strides)
    }

    fn over(dims: Vec<usize>, strides: [Vec<usize>; N]) -> Self {
        Self {
            place: vec![0; dims.len()],
            offsets: [0; N],
            left: dims.iter().product(),
            dims,
            strides,
        }
    }
}

impl<const N: usize> Iterator for Odometer<N> {
    type Item = [usize; N];

    fn next(&mut self) -> Option<[usize; N]> {
        self.left = self.left.checked_sub(1)?;
        let found = self.offsets;
        for (axis, (at, dim)) in self.place.iter_mut().zip(&self.dims).enumerate().rev() {
            *at += 1;
            let back = if *at == *dim { std::mem::take(at) } else { 0 };
            for (offset, strides) in self.offsets.iter_mut().zip(&self.strides) {
                let stride = strides.get(axis).copied().unwrap_or(0);
                *offset = *offset + stride - back * stride;
            }
            if back == 0 {
                break;
            }
        }
        Some(found)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// A result as runs of places that follow each other, in each of which an operand is read element by element or is one element.
pub(super) struct Runs {
    /// Places of a run.
    pub(super) length: usize,
    /// Whether an operand moves on from place to place.
    pub(super) moves: [bool; 2],
    /// The indices of the operands' elements at the first place of each run, in row-major order.
    pub(super) starts: Vec<[usize; 2]>,
}

impl Runs {
    /// The longest runs of two operands that are broadcast to `result`.
    pub(super) fn new(result: &[u64], operands: [&[u64]; 2]) -> Self {
        let mut strides = operands.map(|dims| strides(dims, result.len()));
        let mut dims: Vec<usize> = result.iter().map(|dim| *dim as usize).collect();
        let (mut length, mut steps) = (1, None);
        while let Some(dim) = dims.last().copied() {
            let [a, b] = &strides;
            let step = [a[dims.len() - 1], b[dims.len() - 1]];
            let follows = steps.is_none_or(|steps: [usize; 2]| step == steps.map(|step| step * length));
            if dim != 1 && !follows {
                break;
            }
            if dim != 1 {
                steps.get_or_insert(step);
                length *= dim;
            }
            dims.pop();
            strides.iter_mut().for_each(|strides| {
                strides.pop();
            });
        }
        Self {
            length,
            moves: steps.unwrap_or_default().map(|step| step != 0),
            starts: Odometer::over(dims, strides).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_align_at_the_last_axis() {
        assert_eq!(shape(&[&[2, 1], &[3]]), Some(vec![2, 3]));
        assert_eq!(shape(&[&[], &[0, 2]]), Some(vec![0, 2]));
        assert_eq!(shape(&[&[2], &[3]]), None);
    }

    #[test]
    fn repeated_axes_read_one_element() {
        assert_eq!(indices(&[2, 1], &[2, 3]), [0, 0, 0, 1, 1, 1]);
        assert_eq!(indices(&[3], &[2, 3]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(indices(&[], &[2]), [0, 0]);
    }

    #[test]
    fn an_odometer_gives_the_same_places() {
        for (a, b) in [
            (vec![2u64, 1, 3], vec![4u64, 1]),
            (vec![], vec![2, 2]),
            (vec![3], vec![2, 3]),
            (vec![0, 2], vec![2]),
        ] {
            let dims = shape(&[&a, &b]).unwrap();
            let found: Vec<[usize; 2]> = Odometer::new(&dims, [&a, &b]).collect();
            let (i, j) = (indices(&a, &dims), indices(&b, &dims));
            let wanted: Vec<[usize; 2]> = i.into_iter().zip(j).map(|(i, j)| [i, j]).collect();
            assert_eq!(found, wanted, "{a:?} {b:?}");
        }
    }

    #[test]
    fn runs_are_as_long_as_they_can_be_and_cover_the_same_places() {
        for (a, b, length) in [
            (vec![8u64, 3, 2, 2], vec![8u64, 1, 1, 1], 12),
            (vec![8, 3, 2, 2], vec![1, 3, 1, 1], 4),
            (vec![4, 5], vec![5], 5),
            (vec![4, 5], vec![4, 5], 20),
            (vec![4, 5], vec![], 20),
            (vec![4, 1], vec![1, 5], 5),
            (vec![2, 1, 3, 1], vec![3, 4], 4),
            (vec![], vec![], 1),
            (vec![0, 2], vec![2], 2),
            (vec![2, 0], vec![1], 0),
        ] {
            let dims = shape(&[&a, &b]).unwrap();
            let runs = Runs::new(&dims, [&a, &b]);
            assert_eq!(runs.length, length, "{a:?} {b:?}");
            let step = runs.moves.map(usize::from);
            let found: Vec<[usize; 2]> = runs
                .starts
                .iter()
                .flat_map(|[i, j]| (0..runs.length).map(move |at| [i + at * step[0], j + at * step[1]]))
                .collect();
            let wanted: Vec<[usize; 2]> = Odometer::new(&dims, [&a, &b]).collect();
            assert_eq!(found, wanted, "{a:?} {b:?}");
        }
    }
}
