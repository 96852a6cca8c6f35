//! MatMulNBits, ONNX Runtime's matrix product with blocked weights of 4 or 8 bits (`com.microsoft`, version 1), and
//! GatherBlockQuantized, which gathers rows of the same codes.
//!
//! The weight of `A [.., K] x B [K, N]` is stored as `[N, ceil(K / block), block * bits / 8]` unsigned bytes, the first of two
//! codes in the low bits; scales as `[N * ceil(K / block)]`; zero points packed like codes, a row of bytes for each of the N
//! columns, and `2^(bits - 1)` when they are left out.

use super::target::Reader;
use super::{Coded, WeightError, WeightTarget, suffixed};
use crate::analysis::linear::{Family, Reading, product};
use crate::ir::{DType, Editor, Graph, NodeId, Operator, Tensor, Value, ValueId};

/// The domain of the operator.
pub(super) const DOMAIN: &str = "com.microsoft";

/// The accuracy level at which products are computed on 8-bit codes of the other operand, as ONNX Runtime does for a DequantizeLinear
/// that it fuses into a product. In float its kernels are slower than those of float weights, for 8 bits by far. Asked for in half precision,
/// where products follow each other, release 1.32 answers wrong numbers.
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

/// Why a weight has the form `qdq` in this form's place. A table in blocks has whole ones, and is written as one whatever it takes.
pub(super) fn obstacle(weight: Option<&Tensor>, target: &WeightTarget) -> Option<&'static str> {
    if target.is_block_table {
        return None;
    }
    if !target.is_matrix_product() {
        return Some(
            "it is no weight that only products read on their right, or a table in whole blocks that lookups and products read by rows",
        );
    }
    let larger = weight.is_some_and(|weight| !is_smaller(weight, target));
    larger.then_some("filled up to whole blocks it would become larger")
}

/// Whether the codes of a weight in whole blocks, and their scales, take less than the weight: blocks longer than its columns are filled up.
fn is_smaller(weight: &Tensor, target: &WeightTarget) -> bool {
    let block = target.coding.block.max(1) as u64;
    let (Some(sum), Some(k)) = (
        target.sum_axis,
        target.sum_axis.and_then(|axis| weight.dims().get(axis)),
    ) else {
        return true;
    };
    let outputs = weight.dims().iter().enumerate().filter(|(axis, _)| *axis != sum);
    let blocks = k.div_ceil(block) * outputs.map(|(_, size)| size).product::<u64>();
    let scale = target.scale_dtype().bits() as u64 / 8;
    blocks * (block * target.coding.kind.bits() as u64 / 8 + scale) < weight.byte_len()
}

/// Replaces every MatMul and plain Gemm that reads the weight, whose codes are `[K, N]` and whose parameters are laid out as `[blocks, N]`.
pub(super) fn replace(
    editor: &mut Editor<'_>,
    target: &WeightTarget,
    coded: &Coded,
) -> Result<(), WeightError> {
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
    let mut scales = Scales::new(&name, vec![scales.len() as u64], scales);
    let weight = Blocks {
        codes,
        zeros,
        k,
        n,
        bits,
        block,
    };
    for reader in &target.readers {
        let scale = scales.of(editor, reader.dtype)?;
        weight.multiply(editor, reader, scale)?;
    }
    Ok(())
}

/// Whether one table of codes, in blocks of `block` elements that rows consist of, serves everything that reads a weight: lookups of
/// its rows, and products on whose right it stands with the rows as outputs. ONNX Runtime has no kernels for bfloat16.
pub(super) fn serves(graph: &Graph, weight: &Tensor, readings: &[Reading], block: usize) -> bool {
    let [_, columns] = weight.dims() else {
        return false;
    };
    let halves = matches!(weight.dtype(), DType::F32 | DType::F16);
    let whole = halves && block >= 16 && block.is_power_of_two() && columns % block as u64 == 0;
    let by_rows = |reading: &Reading| {
        let operand = &reading.operand;
        let here = reading.bodies.is_empty() && !reading.cast && operand.output_axis == Some(0);
        here && match operand.family {
            Family::Lookup => !reading.transposed,
            Family::MatMul => operand.slot == 1,
            Family::Gemm => operand.slot == 1 && !reading.transposed && is_plain(graph, reading.node),
            _ => false,
        }
    };
    whole && !readings.is_empty() && readings.iter().all(by_rows)
}

/// Whether a Gemm is a product and a bias with one number for each column.
fn is_plain(graph: &Graph, node: NodeId) -> bool {
    let Some(gemm) = product(graph, node) else {
        return false;
    };
    let bias = match gemm.bias {
        None => true,
        Some(bias) => gemm.beta == 1.0 && graph.constant(bias).is_some_and(|tensor| tensor.rank() == 1),
    };
    gemm.alpha == 1.0 && !gemm.left_transposed && bias
}

/// Puts a table of codes in the place of a weight that [`serves`] holds for: rows are gathered from it, and products read it in blocks.
pub(super) fn replace_table(
    editor: &mut Editor<'_>,
    target: &WeightTarget,
    coded: &Coded,
) -> Result<(), WeightError> {
    let [n, k] = match coded.codes.dims() {
        [n, k] => [*n as usize, *k as usize],
        _ => return Ok(()),
    };
    let (kind, block) = (target.coding.kind, target.coding.block);
    let (bits, blocks) = (kind.bits() as usize, k / block.max(1));
    let middle = 1i32 << (bits - 1);
    let shift = if kind.is_signed() { middle } else { 0 };
    let codes: Vec<u8> = coded
        .codes
        .to_i64()?
        .iter()
        .map(|code| (*code as i32 + shift) as u8)
        .collect();
    let zeros: Vec<u8> = coded
        .parameters
        .iter()
        .map(|one| (one.zero_point + shift) as u8)
        .collect();
    let name = editor
        .graph()
        .value(target.weight)
        .map(|value| value.name.to_string())
        .unwrap_or_default();
    let width = (k * bits / 8) as u64;
    let table = Tensor::from_raw(DType::U8, [n as u64, width], packed(&codes, bits))?;
    let table = editor.add_constant(suffixed(&name, "quantized"), table);
    let plain = zeros.iter().all(|zero| i32::from(*zero) == middle);
    let zeros = match plain {
        true => None,
        false => {
            let rows: Vec<u8> = zeros
                .chunks(blocks.max(1))
                .flat_map(|row| packed(row, bits))
                .collect();
            let width = rows.len().checked_div(n).unwrap_or_default() as u64;
            let rows = Tensor::from_raw(DType::U8, [n as u64, width], rows)?;
            Some(editor.add_constant(suffixed(&name, "zero_point"), rows))
        }
    };
    let numbers = coded.parameters.iter().map(|one| f64::from(one.scale)).collect();
    let mut scales = Scales::new(&name, vec![n as u64, blocks as u64], numbers);
    let mut weight: Option<Blocks> = None;
    for reader in &target.readers {
        let scale = scales.of(editor, reader.dtype)?;
        if reader.is_lookup() {
            gather(
                editor,
                reader.node,
                [Some(table), Some(scale), zeros],
                (bits, block),
            )?;
            continue;
        }
        let weight = match weight {
            Some(known) => known,
            None => {
                let dims = [n as i64, blocks as i64, (block * bits / 8) as i64];
                let dims = editor.add_constant(suffixed(&name, "blocks"), Tensor::vector_i64(&dims));
                let value = Value::named(suffixed(&name, "blocked"));
                let inputs = [Some(table), Some(dims)];
                let view =
                    editor.add_operator(reader.node, Operator::new("Reshape"), &inputs, vec![value])?;
                *weight.insert(Blocks {
                    codes: ValueId::new(view, 0),
                    zeros,
                    k,
                    n,
                    bits,
                    block,
                })
            }
        };
        weight.multiply(editor, reader, scale)?;
    }
    editor.remove_unused(target.weight.node);
    Ok(())
}

/// In place of a Gather of rows: one that dequantizes what it gathers.
fn gather(
    editor: &mut Editor<'_>,
    node: NodeId,
    [table, scale, zeros]: [Option<ValueId>; 3],
    (bits, block): (usize, usize),
) -> Result<(), WeightError> {
    let Some(mut value) = first_output(editor, node) else {
        return Ok(());
    };
    value.name = suffixed(&value.name, "rows");
    value.declared = None;
    let mut inputs = vec![table, editor.graph().input(node, 1), scale];
    inputs.extend(zeros.map(Some));
    let operator = Operator::new("GatherBlockQuantized")
        .in_domain(DOMAIN)
        .with("bits", bits as i64)
        .with("block_size", block as i64)
        .with("gather_axis", 0)
        .with("quantize_axis", 1);
    let new = editor.add_operator(node, operator, &inputs, vec![value])?;
    editor.replace(ValueId::new(node, 0), ValueId::new(new, 0))?;
    editor.remove_unused(node);
    Ok(())
}

fn first_output(editor: &Editor<'_>, node: NodeId) -> Option<Value> {
    let node = editor.graph().get(node)?;
    node.outputs().first().cloned()
}

/// Scales, once for each type that they are read in.
struct Scales<'a> {
    name: &'a str,
    dims: Vec<u64>,
    numbers: Vec<f64>,
    known: Vec<(DType, ValueId)>,
}

impl<'a> Scales<'a> {
    fn new(name: &'a str, dims: Vec<u64>, numbers: Vec<f64>) -> Self {
        Self {
            name,
            dims,
            numbers,
            known: Vec::new(),
        }
    }

    fn of(&mut self, editor: &mut Editor<'_>, dtype: DType) -> Result<ValueId, WeightError> {
        if let Some((_, scale)) = self.known.iter().find(|(known, _)| *known == dtype) {
            return Ok(*scale);
        }
        let tensor = Tensor::from_f64(dtype, &self.dims, &self.numbers)?;
        let scale = editor.add_constant(suffixed(self.name, "scale"), tensor);
        self.known.push((dtype, scale));
        Ok(scale)
    }
}

/// A weight `[N, blocks, block * bits / 8]`.
#[derive(Clone, Copy)]
struct Blocks {
    codes: ValueId,
    zeros: Option<ValueId>,
    k: usize,
    n: usize,
    bits: usize,
    block: usize,
}

impl Blocks {
    /// In place of a MatMul or a plain Gemm: one on codes.
    fn multiply(&self, editor: &mut Editor<'_>, reader: &Reader, scale: ValueId) -> Result<(), WeightError> {
        let node = reader.node;
        let Some(mut fresh) = first_output(editor, node) else {
            return Ok(());
        };
        let mut inputs = vec![editor.graph().input(node, 0), Some(self.codes), Some(scale)];
        inputs.extend(self.zeros.map(Some));
        // Gemm has been made plain: one number for each column, and no factors.
        let bias = editor.graph().input(node, 2);
        let mut operator = Operator::new("MatMulNBits")
            .in_domain(DOMAIN)
            .with("K", self.k as i64)
            .with("N", self.n as i64)
            .with("bits", self.bits as i64)
            .with("block_size", self.block as i64);
        if reader.dtype == DType::F32 {
            operator = operator.with("accuracy_level", INT8_PRODUCTS);
        }
        fresh.name = suffixed(&fresh.name, "blocked");
        fresh.declared = None;
        let mut biased = fresh.clone();
        let mut new = editor.add_operator(node, operator, &inputs, vec![fresh])?;
        if let Some(bias) = bias {
            biased.name = suffixed(&biased.name, "biased");
            let inputs = [Some(ValueId::new(new, 0)), Some(bias)];
            new = editor.add_operator(node, Operator::new("Add"), &inputs, vec![biased])?;
        }
        let before = editor.graph().input(node, 1);
        editor.replace(ValueId::new(node, 0), ValueId::new(new, 0))?;
        editor.remove_unused(node);
        if let Some(before) = before {
            editor.remove_unused(before.node);
        }
        Ok(())
    }
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
