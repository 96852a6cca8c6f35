//! Numbers as tensors of any numeric type.

use rand_chacha::ChaCha8Rng;

use super::draw::below;
use crate::ir::{DType, Tensor, TensorError};

/// Numbers as a tensor of any numeric type, rounded and clamped to what it holds.
pub(super) fn encode(
    dtype: DType,
    dims: &[u64],
    values: &[f64],
    rng: &mut ChaCha8Rng,
) -> Result<Tensor, TensorError> {
    if matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
        return Tensor::from_f64(dtype, dims, values);
    }
    let raw: Vec<u8> = match dtype {
        DType::Complex64 => values
            .iter()
            .flat_map(|v| [*v as f32, -*v as f32 * 0.5])
            .flat_map(f32::to_le_bytes)
            .collect(),
        DType::Complex128 => values
            .iter()
            .flat_map(|v| [*v, -*v * 0.5])
            .flat_map(f64::to_le_bytes)
            .collect(),
        DType::Bool => values.iter().map(|v| u8::from(*v != 0.0)).collect(),
        _ => {
            let bits = dtype.bits();
            let codes: Vec<u64> = match dtype.integer_range() {
                Some((low, high)) => values
                    .iter()
                    .map(|v| (*v as i128).clamp(low, high) as u64)
                    .collect(),
                None => values.iter().map(|_| small_float(dtype, rng)).collect(),
            };
            if dtype.is_packed() {
                pack(&codes, bits)
            } else {
                codes
                    .iter()
                    .flat_map(|code| code.to_le_bytes().into_iter().take(bits / 8))
                    .collect()
            }
        }
    };
    Tensor::from_raw(dtype, dims.iter().copied(), raw)
}

/// A code of a small float type that is a number of moderate size.
fn small_float(dtype: DType, rng: &mut ChaCha8Rng) -> u64 {
    for _ in 0..16 {
        let code = below(rng, 1 << dtype.bits());
        if crate::ir::decode_minifloat(dtype, code as u32).abs() <= 16.0 {
            return code;
        }
    }
    0
}

/// Codes of `bits` bits each, packed from the lowest bits up.
fn pack(codes: &[u64], bits: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; (codes.len() * bits).div_ceil(8)];
    for (index, code) in codes.iter().enumerate() {
        for bit in 0..bits {
            if code >> bit & 1 == 1
                && let Some(byte) = bytes.get_mut((index * bits + bit) / 8)
            {
                *byte |= 1 << ((index * bits + bit) % 8);
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::synthesize::generator;
    use super::*;

    #[test]
    fn numbers_are_packed_from_the_lowest_bits_up() {
        assert_eq!(pack(&[7, 15, 8], 4), [0xf7, 0x08]);
        let mut rng = generator(0, 0, "x");
        let tensor = encode(DType::I4, &[3], &[7.0, -1.0, -100.0], &mut rng).unwrap();
        assert_eq!(tensor.to_i64().unwrap(), [7, -1, -8]);
        assert_eq!(
            encode(DType::U64, &[1], &[3.7], &mut rng)
                .unwrap()
                .to_i64()
                .unwrap(),
            [3]
        );
    }
}
