//! ONNX Runtime's product with a weight in blocks of a few bits (MatMulNBits), as a dequantized weight and a product, where tract has no
//! such form or rounds its scales away, and its lookup in such a table (GatherBlockQuantized).

use half::f16;

use super::Rule;
use super::site::{ENGINE_DOMAIN, Site};
use crate::ir::{DType, EditError, Operator, Tensor, ValueId};

pub(super) const RULES: &[Rule] = &[
    ("com.microsoft", "MatMulNBits", matmul),
    ("com.microsoft", "GatherBlockQuantized", gather),
];

/// How the weight lies: `[n, blocks, block * bits / 8]` bytes of codes, scales and zero points `[n, blocks]`.
#[derive(Clone, Copy)]
struct Layout {
    bits: u32,
    k: i64,
    n: i64,
    block: i64,
    blocks: i64,
}

impl Layout {
    /// `None` for what the operator does not have.
    fn of(operator: &Operator) -> Option<Self> {
        let bits = operator.int("bits").unwrap_or(4);
        let [k, n, block] = [
            operator.int("K")?,
            operator.int("N")?,
            operator.int("block_size")?,
        ];
        if !matches!(bits, 2 | 4 | 8) || k < 1 || n < 1 || block < 1 {
            return None;
        }
        Some(Self {
            bits: bits as u32,
            k,
            n,
            block,
            blocks: (k as u64).div_ceil(block as u64) as i64,
        })
    }

    /// The shape of the codes, one an element.
    fn codes(&self) -> [i64; 3] {
        [self.n, self.blocks, self.block]
    }

    /// The shape of scales and zero points, for blocks along the last axis of the codes.
    fn parameters(&self) -> [i64; 3] {
        [self.n, self.blocks, 1]
    }
}

/// Products are computed in float and rounded once. An accuracy level allows ONNX Runtime to round the first operand to codes, too; what
/// the operator means is the product without.
fn matmul(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(a), Some(codes), Some(scales)) = (site.input(0), site.input(1), site.input(2)) else {
        return Ok(false);
    };
    let (dtype, zeros, bias) = (site.dtype(a), site.input(3), site.input(5));
    let is_code = |value: ValueId| site.dtype(value) == Some(DType::U8);
    if !matches!(dtype, Some(DType::F32 | DType::F16))
        || site.dtype(scales) != dtype
        || !is_code(codes)
        || !zeros.is_none_or(is_code)
        || site.input(4).is_some()
        || site.int("weight_prepacked", 0) != 0
    {
        return Ok(false);
    }
    let Some(layout) = Layout::of(&site.operator) else {
        return Ok(false);
    };
    if layout.bits < 8 && !beyond_float16(site, scales) {
        return Ok(false);
    }
    let Some(weight) = dequantized(site, layout, [Some(codes), Some(scales), zeros])? else {
        return Ok(false);
    };
    let half = dtype == Some(DType::F16);
    let a = if half { site.cast(a, DType::F32)? } else { a };
    let mut y = site.op("MatMul", &[a, weight])?;
    if let Some(bias) = bias {
        let bias = if half { site.cast(bias, DType::F32)? } else { bias };
        y = site.op("Add", &[y, bias])?;
    }
    if half {
        y = site.cast(y, DType::F16)?;
    }
    site.replace(0, y)?;
    Ok(true)
}

/// Rows of a constant table in bytes are gathered as codes, with their scales and zero points, and dequantized then; tract rounds the scales.
fn gather(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(table), Some(indices), Some(scales)) = (site.input(0), site.input(1), site.input(2)) else {
        return Ok(false);
    };
    let (bits, block) = (site.int("bits", 4), site.int("block_size", 128));
    let along_rows = site.int("gather_axis", 0) == 0 && matches!(site.int("quantize_axis", 1), 1 | -1);
    let halves = matches!(site.dtype(scales), Some(DType::F32 | DType::F16));
    if !along_rows || !halves || block < 1 || !matches!(bits, 2 | 4 | 8) {
        return Ok(false);
    }
    let bits = bits as u32;
    let known = |value: ValueId| site.constant(value).filter(|tensor| tensor.dtype() == DType::U8);
    let dims = |value: ValueId| match site.constant(value).map(Tensor::dims) {
        Some([rows, columns]) => Some((*rows, *columns)),
        _ => None,
    };
    let (Some((rows, width)), Some((_, blocks))) = (dims(table), dims(scales)) else {
        return Ok(false);
    };
    let columns = width * u64::from(8 / bits);
    let unpack = |value: ValueId, columns: u64| {
        let codes = unpacked(known(value)?, usize::try_from(columns).ok()?, bits)?;
        Tensor::from_slice(&[rows, columns], &codes).ok()
    };
    let codes = unpack(table, columns);
    let zeros = match site.input(3) {
        Some(zeros) => unpack(zeros, blocks),
        None => {
            let middle = vec![1_u8 << (bits - 1); (rows * blocks) as usize];
            Tensor::from_slice(&[rows, blocks], &middle).ok()
        }
    };
    let (Some(codes), Some(zeros)) = (codes, zeros) else {
        return Ok(false);
    };
    let (codes, zeros) = (site.tensor(codes), site.tensor(zeros));
    let mut gathered = [codes, scales, zeros];
    for value in &mut gathered {
        *value = site.op("Gather", &[*value, indices])?;
    }
    let operator = Operator::new("EngineDequantizeLinear")
        .in_domain(ENGINE_DOMAIN)
        .with("axis", -1)
        .with("block_size", block);
    let y = site.node(operator, &gathered)?;
    site.replace(0, y)?;
    Ok(true)
}

/// Whether a constant scale lies where float16 loses more than the last of its bits: tract stores scales of 2 and 4 bits in it.
fn beyond_float16(site: &Site<'_>, scales: ValueId) -> bool {
    let held = f16::MIN_POSITIVE.to_f32()..=f16::MAX.to_f32();
    let lost = |scale: &f32| *scale != 0.0 && !held.contains(&scale.abs());
    let Some(tensor) = site.constant(scales) else {
        return false;
    };
    // Scales of type float16 are what they are.
    let numbers = tensor.view::<f32>();
    numbers.is_ok_and(|all| all.iter().any(lost))
}

/// The weight `[K, N]` in float, from codes, scales and zero points. `None` where they do not fit together.
fn dequantized(
    site: &mut Site<'_>,
    layout: Layout,
    slots: [Option<ValueId>; 3],
) -> Result<Option<ValueId>, EditError> {
    let [Some(codes), Some(scales), zeros] = slots else {
        return Ok(None);
    };
    let Some(codes) = spread(site, layout, codes, layout.codes())? else {
        return Ok(None);
    };
    let known = site.constant(scales).map_or(0, Tensor::elements);
    let Some(scales) = shaped(site, scales, layout.parameters())? else {
        return Ok(None);
    };
    let scales = match site.dtype(scales) {
        Some(DType::F32) => scales,
        _ => site.cast(scales, DType::F32)?,
    };
    let zeros = match zeros {
        Some(zeros) => spread(site, layout, zeros, layout.parameters())?,
        None => middles(layout, known).map(|tensor| site.tensor(tensor)),
    };
    let Some(zeros) = zeros else { return Ok(None) };
    let operator = Operator::new("EngineDequantizeLinear")
        .in_domain(ENGINE_DOMAIN)
        .with("axis", 2)
        .with("block_size", layout.block);
    let weight = site.node(operator, &[codes, scales, zeros])?;
    let Some(whole) = layout.blocks.checked_mul(layout.block) else {
        return Ok(None);
    };
    let rows = site.ints(&[layout.n, whole]);
    let mut weight = site.op("Reshape", &[weight, rows])?;
    // The last block is filled up.
    if whole != layout.k {
        weight = site.slice(weight, &[0], &[layout.k], &[1], &[1])?;
    }
    let turned = Operator::new("Transpose").with("perm", vec![1_i64, 0]);
    site.node(turned, &[weight]).map(Some)
}

/// The zero points of an operator that has none, the middle of the codes, for as many scales as there are.
fn middles(layout: Layout, scales: u64) -> Option<Tensor> {
    let zero = 1_u8 << (layout.bits - 1);
    let zeros = vec![zero; usize::try_from(scales).ok()?];
    let dims = layout.parameters().map(|dim| dim as u64);
    Tensor::from_slice(&dims, &zeros).ok()
}

/// Codes one an element, in this shape. Fewer than 8 bits have to be constants; rows of the last two axes start at a byte.
fn spread(
    site: &mut Site<'_>,
    layout: Layout,
    value: ValueId,
    dims: [i64; 3],
) -> Result<Option<ValueId>, EditError> {
    if layout.bits == 8 {
        return shaped(site, value, dims);
    }
    let [n, blocks, block] = dims.map(|dim| dim as u64);
    let row = if block == 1 { blocks } else { block };
    let packed = site.constant(value);
    let codes = packed.and_then(|packed| unpacked(packed, row as usize, layout.bits));
    let tensor = codes.and_then(|codes| Tensor::from_slice(&[n, blocks, block], &codes).ok());
    Ok(tensor.map(|tensor| site.tensor(tensor)))
}

/// Rows of `row` codes, each of which starts at a byte, the first code in its low bits.
fn unpacked(packed: &Tensor, row: usize, bits: u32) -> Option<Vec<u8>> {
    let bytes = packed.view::<u8>().ok()?;
    let mask = u8::MAX >> (8 - bits);
    let places = 8 / bits;
    let width = row.div_ceil(places as usize).max(1);
    let mut codes = Vec::with_capacity(bytes.len() * places as usize);
    for line in bytes.chunks(width) {
        let each = line
            .iter()
            .flat_map(|byte| (0..places).map(move |place| (*byte >> (bits * place)) & mask));
        codes.extend(each.take(row));
    }
    Some(codes)
}

/// The same elements in another shape; a constant stays one. `None` for a constant of another size.
fn shaped(site: &mut Site<'_>, value: ValueId, dims: [i64; 3]) -> Result<Option<ValueId>, EditError> {
    let Some(tensor) = site.constant(value) else {
        let dims = site.ints(&dims);
        return site.op("Reshape", &[value, dims]).map(Some);
    };
    let tensor = tensor.reshaped(&dims.map(|dim| dim as u64)).ok();
    Ok(tensor.map(|tensor| site.tensor(tensor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_packed_codes_start_at_a_byte() {
        let packed = Tensor::from_slice(&[4], &[0x21_u8, 0xf3, 0x54, 0xf6]).unwrap();
        assert_eq!(unpacked(&packed, 3, 4).unwrap(), [1, 2, 3, 4, 5, 6]);
        let packed = Tensor::from_slice(&[2], &[0b1110_0100_u8, 0b0000_0001]).unwrap();
        assert_eq!(unpacked(&packed, 5, 2).unwrap(), [0, 1, 2, 3, 1]);
        assert_eq!(unpacked(&packed, 2, 8).unwrap(), [0b1110_0100, 0b0000_0001]);
    }
}
