//! Cutting and blanking constant tensors.

use bytes::Bytes;

use crate::ir::{Tensor, TensorError};

/// The elements of `tensor` at the kept indices of each axis; `None` keeps all of an axis.
pub(super) fn select(tensor: &Tensor, kept: &[Option<Vec<u32>>]) -> Result<Tensor, TensorError> {
    let width = tensor.dtype().bits() / 8;
    let mut dims: Vec<usize> = tensor.dims().iter().map(|dim| *dim as usize).collect();
    let mut data = tensor.raw_bytes()?;
    // From the front: the first cut leaves the least to copy.
    for (axis, indices) in kept.iter().enumerate() {
        let (Some(indices), Some(size)) = (indices, dims.get(axis).copied()) else {
            continue;
        };
        let outer: usize = dims.iter().take(axis).product();
        let run = dims.iter().skip(axis + 1).product::<usize>() * width;
        let mut selected = Vec::with_capacity(outer * indices.len() * run);
        for block in 0..outer {
            for index in indices {
                let start = (block * size + *index as usize) * run;
                selected.extend_from_slice(data.get(start..start + run).unwrap_or_default());
            }
        }
        data = Bytes::from(selected);
        if let Some(dim) = dims.get_mut(axis) {
            *dim = indices.len();
        }
    }
    Tensor::from_raw(tensor.dtype(), dims.iter().map(|dim| *dim as u64), data)
}

/// The tensor with elements at removed indices of any axis set to the bytes that `blank` gives for the index along its axis.
pub(super) fn blank(
    tensor: &Tensor,
    removed: &[Vec<bool>],
    blank: &dyn Fn(&[usize]) -> Vec<u8>,
) -> Result<Tensor, TensorError> {
    let width = tensor.dtype().bits() / 8;
    let dims: Vec<usize> = tensor.dims().iter().map(|dim| *dim as usize).collect();
    let mut data = tensor.raw()?.into_owned();
    let mut index = vec![0usize; dims.len()];
    for at in 0..tensor.elements() as usize {
        let mut rest = at;
        for (axis, dim) in dims.iter().enumerate().rev() {
            if let Some(slot) = index.get_mut(axis) {
                *slot = rest % dim;
            }
            rest /= dim;
        }
        let gone = index
            .iter()
            .zip(removed)
            .any(|(at, flags)| flags.get(*at).copied().unwrap_or(false));
        if gone && let Some(target) = data.get_mut(at * width..(at + 1) * width) {
            let value = blank(&index);
            target.iter_mut().zip(value).for_each(|(byte, new)| *byte = new);
        }
    }
    Tensor::from_raw(tensor.dtype(), tensor.dims().iter().copied(), data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_several_axes_and_blanks_the_same_elements() {
        let tensor = Tensor::from_slice(&[2, 3], &[1i32, 2, 3, 4, 5, 6]).unwrap();
        let kept = [Some(vec![1]), Some(vec![0, 2])];
        assert_eq!(
            select(&tensor, &kept).unwrap().view::<i32>().unwrap().as_ref(),
            [4, 6]
        );
        let removed = [vec![true, false], vec![false, true, false]];
        let blanked = blank(&tensor, &removed, &|_| 9i32.to_le_bytes().to_vec()).unwrap();
        assert_eq!(blanked.view::<i32>().unwrap().as_ref(), [9, 9, 9, 4, 9, 6]);
    }
}
