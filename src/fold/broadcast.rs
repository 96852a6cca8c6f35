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
    let mut strides = vec![0usize; result.len()];
    let mut stride = 1usize;
    for (slot, dim) in strides.iter_mut().rev().zip(dims.iter().rev()) {
        *slot = if *dim == 1 { 0 } else { stride };
        stride *= *dim as usize;
    }
    walk(result, &strides, 0)
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
        let strides = operands.map(|dims| {
            let mut strides = vec![0usize; result.len()];
            let mut stride = 1usize;
            for (slot, dim) in strides.iter_mut().rev().zip(dims.iter().rev()) {
                *slot = if *dim == 1 { 0 } else { stride };
                stride *= *dim as usize;
            }
            strides
        });
        Self {
            dims: result.iter().map(|dim| *dim as usize).collect(),
            strides,
            place: vec![0; result.len()],
            offsets: [0; N],
            left: result.iter().product::<u64>() as usize,
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
}
