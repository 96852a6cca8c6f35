//! MatMulNBits, ONNX Runtime's matrix product with blocked weights of 4 or 8 bits (`com.microsoft`, version 1).
//!
//! The weight of `A [.., K] x B [K, N]` is stored as `[N, ceil(K / block), block * bits / 8]` unsigned bytes, the first of two
//! codes in the low bits; scales as `[N * ceil(K / block)]`; zero points packed like codes, a row of bytes for each of the N
//! columns, and `2^(bits - 1)` when they are left out.

use super::{Coded, Target, WeightError, suffixed};
use crate::ir::{DType, Editor, Operator, Tensor, ValueId};

/// The domain of the operator.
pub(super) const DOMAIN: &str = "com.microsoft";

/// The accuracy level at which products are computed on 8-bit codes of the other operand, as ONNX Runtime does for a DequantizeLinear
/// that it fuses into a product. In float its kernels are slower than those of float weights, for 8 bits by far.
const INT8_PRODUCTS: i64 = 4;

/// Codes packed `8 / bits` a byte, the last byte of a row filled up with zeros.
fn packed(codes: &[u8], bits: usize) -> Vec<u8> {
    if bits == 8 {
        return codes.to_vec();
    }
    codes
        .chunks(2)
        .map(|pair| pair.first().copied().unwrap_or(0) & 15 | pair.get(1).copied().unwrap_or(0) << 4)
        .collect()
}

/// Replaces every MatMul and plain Gemm that reads the weight, whose codes are `[K, N]` and whose parameters are laid out as `[blocks, N]`.
pub(super) fn replace(editor: &mut Editor<'_>, target: &Target, coded: &Coded) -> Result<(), WeightError> {
    let [k, n] = match coded.codes.dims() {
        [k, n] => [*k as usize, *n as usize],
        _ => return Ok(()),
    };
    let (kind, block) = (target.coding.kind, target.coding.block);
    let bits = kind.bits() as usize;
    let values = coded.codes.to_i64()?;
    let blocks = k.div_ceil(block);
    let middle = 1i32 << (bits - 1);
    let shift = if kind.is_signed() { middle } else { 0 };
    let mut bytes = Vec::with_capacity(n * blocks * block * bits / 8);
    let mut scales = Vec::with_capacity(n * blocks);
    let mut zeros: Vec<u8> = Vec::new();
    let mut plain = true;
    for column in 0..n {
        let mut row_zeros = Vec::with_capacity(blocks);
        for index in 0..blocks {
            // Blocked parameters are laid out as [blocks, N].
            let Some(parameters) = coded.parameters.get(index * n + column).copied() else {
                return Ok(());
            };
            let zero = parameters.zero_point + shift;
            plain &= zero == middle;
            row_zeros.push(zero as u8);
            scales.push(f64::from(parameters.scale));
            let codes: Vec<u8> = (0..block)
                .map(|at| {
                    let row = index * block + at;
                    let value = values.get(row * n + column).filter(|_| row < k);
                    value.map_or(zero, |code| *code as i32 + shift) as u8
                })
                .collect();
            bytes.extend(packed(&codes, bits));
        }
        zeros.extend(packed(&row_zeros, bits));
    }
    let name = editor
        .graph()
        .value(target.weight)
        .map(|value| value.name.to_string())
        .unwrap_or_default();
    let dims = [n as u64, blocks as u64, (block * bits / 8) as u64];
    let codes = editor.add_constant(
        suffixed(&name, "quantized"),
        Tensor::from_raw(DType::U8, dims, bytes)?,
    );
    let zeros = match plain {
        true => None,
        false => {
            let zeros = Tensor::from_slice(&[zeros.len() as u64], &zeros)?;
            Some(editor.add_constant(suffixed(&name, "zero_point"), zeros))
        }
    };
    let mut known: Vec<(DType, ValueId)> = Vec::new();
    for reader in &target.readers {
        let node = reader.node;
        let scale = match known.iter().find(|(dtype, _)| *dtype == reader.dtype) {
            Some((_, scale)) => *scale,
            None => {
                let tensor = Tensor::from_f64(reader.dtype, &[scales.len() as u64], &scales)?;
                let scale = editor.add_constant(suffixed(&name, "scale"), tensor);
                known.push((reader.dtype, scale));
                scale
            }
        };
        let Some(value) = editor
            .graph()
            .get(node)
            .and_then(|node| node.outputs().first().cloned())
        else {
            continue;
        };
        let mut inputs = vec![editor.graph().input(node, 0), Some(codes), Some(scale)];
        inputs.extend(zeros.map(Some));
        // Gemm has been made plain: one number for each column, and no factors.
        let bias = editor.graph().input(node, 2);
        let operator = Operator::new("MatMulNBits")
            .in_domain(DOMAIN)
            .with("K", k as i64)
            .with("N", n as i64)
            .with("bits", bits as i64)
            .with("block_size", block as i64)
            .with("accuracy_level", INT8_PRODUCTS);
        let mut fresh = value;
        fresh.name = suffixed(&fresh.name, "blocked");
        fresh.declared = None;
        let mut biased = fresh.clone();
        let mut new = editor.add_operator(node, operator, &inputs, vec![fresh])?;
        if let Some(bias) = bias {
            biased.name = suffixed(&biased.name, "biased");
            let inputs = [Some(ValueId::new(new, 0)), Some(bias)];
            new = editor.add_operator(node, Operator::new("Add"), &inputs, vec![biased])?;
        }
        editor.replace(ValueId::new(node, 0), ValueId::new(new, 0))?;
        editor.remove_unused(node);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_codes_share_a_byte_the_first_in_the_low_bits() {
        assert_eq!(packed(&[1, 2, 3], 4), [0x21, 0x03]);
        assert_eq!(packed(&[1, 2, 3], 8), [1, 2, 3]);
    }
}
