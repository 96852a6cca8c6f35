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
}
