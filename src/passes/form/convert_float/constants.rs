//! What becomes of constants in 16 bits.

use crate::ir::{DType, Graph, NodeKind, Tensor, ValueId};

/// Largest finite half-precision value.
pub(super) const LARGEST_HALF: f64 = 65504.0;
/// Constants from here on stand for infinity: bounds, and what masks add.
const LIKE_INFINITE: f64 = 1e30;
/// What stands for infinity in half precision where it is computed with: a sum with ordinary numbers, or of two of them with
/// opposite signs, stays finite.
const MASK_HALF: f64 = 32768.0;
/// The share by which a number that the result hangs on may change.
const PRECISION: f64 = 1.0 / 32.0;

/// How a constant is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Usage {
    /// As a bound that values are cut to.
    Bound,
    /// Otherwise.
    Number,
}

/// A constant in the narrow type.
pub(super) struct Lowered {
    pub(super) tensor: Tensor,
    /// Finite values beyond the range of the type.
    pub(super) beyond: u64,
    /// Values that became zero or lost their precision.
    pub(super) vanished: u64,
}

/// Whether the narrow type does not hold a small number to a few percent.
pub(super) fn vanishes(value: f64, dtype: DType) -> bool {
    let lowered = match dtype {
        DType::F16 => half::f16::from_f64(value).to_f64(),
        DType::BF16 => half::bf16::from_f64(value).to_f64(),
        _ => return false,
    };
    value.abs() < 1.0 && value != 0.0 && ((lowered - value) / value).abs() > PRECISION
}

/// Whether a finite number leaves the range of the narrow type and does not stand for infinity.
pub(super) fn leaves(value: f64, dtype: DType) -> bool {
    dtype == DType::F16 && value.is_finite() && value.abs() > LARGEST_HALF && value.abs() < LIKE_INFINITE
}

/// The tensor in type `dtype`; what stands for infinity is made a finite number of half precision.
pub(super) fn lower_constant(tensor: &Tensor, dtype: DType, usage: Usage) -> Lowered {
    let unchanged = || Lowered {
        tensor: tensor.clone(),
        beyond: 0,
        vanished: 0,
    };
    let Ok(mut values) = tensor.to_f64() else {
        return unchanged();
    };
    let (mut beyond, mut vanished) = (0, 0);
    for value in &mut values {
        if leaves(*value, dtype) {
            beyond += 1;
        } else if vanishes(*value, dtype) {
            vanished += 1;
        } else if dtype == DType::F16 && value.is_finite() && value.abs() >= LIKE_INFINITE {
            let cut = match usage {
                Usage::Bound => LARGEST_HALF,
                Usage::Number => MASK_HALF,
            };
            *value = cut.copysign(*value);
        }
    }
    match Tensor::from_f64(dtype, tensor.dims(), &values) {
        Ok(tensor) => Lowered {
            tensor,
            beyond,
            vanished,
        },
        Err(_) => unchanged(),
    }
}

/// How an operator uses the constant in an input slot.
pub(super) fn usage(op_type: &str, slot: usize) -> Usage {
    match op_type {
        "Clip" if slot > 0 => Usage::Bound,
        "Max" | "Min" => Usage::Bound,
        _ => Usage::Number,
    }
}

/// The elements that a value has unless the caller gives others: those of a constant, or the default of an input.
pub(super) fn known(graph: &Graph, value: ValueId) -> Option<&Tensor> {
    match graph.get(value.node).map(|node| &node.kind) {
        Some(NodeKind::Input(input)) => input.default.as_ref().map(|(tensor, _)| tensor),
        _ => graph.constant(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_beyond_the_range_and_vanishing_ones_are_counted() {
        let x = Tensor::from_slice::<f32>(&[4], &[1.0, 7e4, 1e-12, -3.4e38]).unwrap();
        let lowered = lower_constant(&x, DType::F16, Usage::Bound);
        assert_eq!((lowered.beyond, lowered.vanished), (1, 1));
        assert_eq!(lowered.tensor.dtype(), DType::F16);
        assert_eq!(lowered.tensor.to_f64().unwrap()[3], -65504.0);
        let lowered = lower_constant(&x, DType::F16, Usage::Number);
        assert_eq!(lowered.tensor.to_f64().unwrap()[3], -32768.0);
        let lowered = lower_constant(&x, DType::BF16, Usage::Number);
        assert_eq!((lowered.beyond, lowered.vanished), (0, 0));
    }

    #[test]
    fn small_numbers_count_once_half_precision_changes_them_much() {
        for kept in [1e-5, 6e-6, 1e-6, 1.0, -2e-5, 0.0, f64::INFINITY, f64::NAN] {
            assert!(!vanishes(kept, DType::F16), "{kept}");
        }
        for lost in [2e-7, 1e-7, 1e-8, 1e-12, -1e-30] {
            assert!(vanishes(lost, DType::F16), "{lost}");
            assert!(!vanishes(lost, DType::BF16), "{lost}");
        }
        assert!(leaves(1e9, DType::F16) && !leaves(1e9, DType::BF16) && !leaves(3e38, DType::F16));
    }
}
