//! Plans whose large constants are not computed yet: most rewrites that would make such constants are refused for the size that they would
//! add, which their shapes tell.

use std::cell::Cell;

use bytes::Bytes;
use memmap2::MmapMut;

use crate::ir::{Operator, Tensor};

/// Results of as many bytes are zeros in a draft.
const LARGE: u64 = 1 << 16;

/// Answers zeros of the right shape for large constants that are computed element by element.
#[derive(Default)]
pub(crate) struct Draft {
    drawn: Cell<bool>,
}

impl Draft {
    /// Whether a constant was not computed.
    pub(crate) fn is_drawn(&self) -> bool {
        self.drawn.get()
    }

    /// What stands for the result of `operator`, where it is large.
    pub(crate) fn stand_in(&self, operator: &Operator, inputs: &[Option<Tensor>]) -> Option<Tensor> {
        let zeros = Self::zeros(operator, inputs)?;
        self.drawn.set(true);
        Some(zeros)
    }

    fn zeros(operator: &Operator, inputs: &[Option<Tensor>]) -> Option<Tensor> {
        let by_element = ["Add", "Div", "Mul", "Sub"].iter().any(|name| operator.is(name));
        let [Some(a), Some(b)] = inputs else { return None };
        if !by_element || a.dtype() != b.dtype() || !a.dtype().is_float() {
            return None;
        }
        let dims = broadcast(a.dims(), b.dims())?;
        let each = (a.byte_len().checked_div(a.elements())?).max(1);
        let bytes = dims.iter().try_fold(each, |size, dim| size.checked_mul(*dim))?;
        if bytes < LARGE {
            return None;
        }
        // Pages of which only the length is asked are never filled.
        let zeros = MmapMut::map_anon(usize::try_from(bytes).ok()?).ok()?;
        Tensor::from_raw(a.dtype(), dims, Bytes::from_owner(zeros)).ok()
    }
}

/// The dimensions of two operands together.
fn broadcast(a: &[u64], b: &[u64]) -> Option<Vec<u64>> {
    let (long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let ahead = long.len() - short.len();
    let joined = long.iter().enumerate().map(|(at, size)| {
        let other = at.checked_sub(ahead).map_or(1, |at| short[at]);
        match (*size, other) {
            (size, 1) => Some(size),
            (1, other) => Some(other),
            (size, other) => (size == other).then_some(size),
        }
    });
    joined.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_joined_from_the_last_axis() {
        assert_eq!(broadcast(&[2, 1, 4], &[3, 1]), Some(vec![2, 3, 4]));
        assert_eq!(broadcast(&[4], &[2, 3, 4]), Some(vec![2, 3, 4]));
        assert_eq!(broadcast(&[], &[0, 3]), Some(vec![0, 3]));
        assert_eq!(broadcast(&[2], &[3]), None);
    }
}
