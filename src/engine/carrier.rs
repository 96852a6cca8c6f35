//! Element types that an engine lacks, carried by wider ones that hold each of their values.
//!
//! bfloat16 and the floats of 8 bits and fewer travel as `float`, the integers of 2 and 4 bits as those of 8 bits. The way there
//! is exact, and so is the way back for a value that is one of the narrow type; [`round`] makes it one.

use half::bf16;

use crate::ir::{DType, Tensor, TensorError, decode_minifloat, round_minifloat};

/// The type that carries another one; `None` for a type that needs no carrier.
pub(crate) fn carrier(dtype: DType) -> Option<DType> {
    Some(match dtype {
        DType::I4 | DType::I2 => DType::I8,
        DType::U4 | DType::U2 => DType::U8,
        DType::BF16
        | DType::F8E4M3FN
        | DType::F8E4M3FNUZ
        | DType::F8E5M2
        | DType::F8E5M2FNUZ
        | DType::F4E2M1
        | DType::F6E2M3
        | DType::F6E3M2
        | DType::F8E8M0 => DType::F32,
        _ => return None,
    })
}

/// The same values in the carrying type.
pub(crate) fn widen(tensor: &Tensor) -> Result<Tensor, TensorError> {
    match carrier(tensor.dtype()) {
        Some(DType::I8) => {
            let values: Vec<i8> = tensor.to_i64()?.into_iter().map(|value| value as i8).collect();
            Tensor::from_slice(tensor.dims(), &values)
        }
        Some(DType::U8) => {
            let values: Vec<u8> = tensor.to_i64()?.into_iter().map(|value| value as u8).collect();
            Tensor::from_slice(tensor.dims(), &values)
        }
        Some(_) => Tensor::from_slice(tensor.dims(), &tensor.to_f32()?),
        None => Ok(tensor.clone()),
    }
}

/// The same values in the narrow type; an error if one is not of that type.
pub(crate) fn narrow(dtype: DType, tensor: &Tensor) -> Result<Tensor, TensorError> {
    let wrong = TensorError::Type {
        expected: dtype.name(),
        found: tensor.dtype(),
    };
    if carrier(dtype) != Some(tensor.dtype()) {
        return Err(wrong);
    }
    let bits = dtype.bits();
    if dtype == DType::BF16 {
        let values = tensor.view::<f32>()?;
        if values
            .iter()
            .any(|value| !value.is_nan() && bf16::from_f32(*value).to_f32() != *value)
        {
            return Err(wrong);
        }
        let raw: Vec<u8> = values
            .iter()
            .flat_map(|value| bf16::from_f32(*value).to_le_bytes())
            .collect();
        return Tensor::from_raw(dtype, tensor.dims().iter().copied(), raw);
    }
    let codes: Vec<u32> = if dtype.is_float() {
        let key = |value: f32| {
            if value.is_nan() {
                f32::NAN.to_bits()
            } else {
                value.to_bits()
            }
        };
        let mut table: Vec<(u32, u32)> = (0..1u32 << bits)
            .map(|code| (key(decode_minifloat(dtype, code) as f32), code))
            .collect();
        table.sort_unstable();
        table.dedup_by_key(|entry| entry.0);
        let code = |value: &f32| {
            let at = table.binary_search_by_key(&key(*value), |entry| entry.0).ok()?;
            table.get(at).map(|entry| entry.1)
        };
        tensor
            .view::<f32>()?
            .iter()
            .map(code)
            .collect::<Option<_>>()
            .ok_or(wrong)?
    } else {
        let range = dtype.integer_range().unwrap_or((0, 0));
        let values = tensor.to_i64()?;
        if values
            .iter()
            .any(|value| !(range.0..=range.1).contains(&i128::from(*value)))
        {
            return Err(wrong);
        }
        values
            .into_iter()
            .map(|value| value as u32 & ((1 << bits) - 1))
            .collect()
    };
    let mut raw = vec![0u8; (codes.len() * bits).div_ceil(8)];
    for (index, code) in codes.iter().enumerate() {
        let at = index * bits;
        let window = code << (at % 8);
        for (offset, byte) in window.to_le_bytes().into_iter().take(2).enumerate() {
            if let Some(slot) = raw.get_mut(at / 8 + offset) {
                *slot |= byte;
            }
        }
    }
    Tensor::from_raw(dtype, tensor.dims().iter().copied(), raw)
}

/// A number rounded to a narrow float type, to nearest and to even on ties. What is too large becomes the largest value if
/// `saturate` (always for the types without infinity and NaN), else infinity or, where there is none, NaN. `None` for types
/// that are no such float, and for NaN where the type has none.
pub(crate) fn round(dtype: DType, value: f32, saturate: bool) -> Option<f32> {
    if dtype == DType::BF16 {
        return Some(bf16::from_f32(value).to_f32());
    }
    round_minifloat(dtype, value, saturate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOATS: [DType; 7] = [
        DType::F8E4M3FN,
        DType::F8E4M3FNUZ,
        DType::F8E5M2,
        DType::F8E5M2FNUZ,
        DType::F4E2M1,
        DType::F6E2M3,
        DType::F6E3M2,
    ];

    fn all_codes(dtype: DType) -> Tensor {
        let bits = dtype.bits();
        let count = 1usize << bits;
        let mut raw = vec![0u8; (count * bits).div_ceil(8)];
        for at in 0..count * bits {
            let (code, bit) = (at / bits, at % bits);
            raw[at / 8] |= ((code >> bit & 1) << (at % 8)) as u8;
        }
        Tensor::from_raw(dtype, [count as u64], raw).unwrap()
    }

    #[test]
    fn every_code_survives_the_way_there_and_back() {
        for dtype in FLOATS
            .into_iter()
            .chain([DType::I4, DType::U4, DType::I2, DType::U2, DType::F8E8M0])
        {
            let tensor = all_codes(dtype);
            let back = narrow(dtype, &widen(&tensor).unwrap()).unwrap();
            // Types with several NaNs keep one of them.
            let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(
                tensor
                    .to_f64()
                    .unwrap()
                    .iter()
                    .zip(&back.to_f64().unwrap())
                    .all(same),
                "{dtype}"
            );
        }
        let wide = Tensor::from_slice(&[1], &[0.3f32]).unwrap();
        assert!(narrow(DType::F8E5M2, &wide).is_err() && narrow(DType::BF16, &wide).is_err());
        assert!(narrow(DType::I4, &Tensor::from_slice(&[1], &[8i8]).unwrap()).is_err());
    }

    #[test]
    fn rounding_goes_to_the_nearest_code_and_to_even_on_ties() {
        for dtype in FLOATS {
            let mut codes: Vec<f64> = all_codes(dtype).to_f64().unwrap();
            codes.retain(|value| value.is_finite() && *value >= 0.0);
            codes.sort_by(f64::total_cmp);
            codes.dedup();
            for pair in codes.windows(2) {
                let (low, high) = (pair[0], pair[1]);
                for (value, expected) in [
                    (low, low),
                    (high, high),
                    (low * 0.75 + high * 0.25, low),
                    (low * 0.25 + high * 0.75, high),
                ] {
                    assert_eq!(
                        round(dtype, value as f32, false),
                        Some(expected as f32),
                        "{dtype} {value}"
                    );
                }
                let tie = round(dtype, ((low + high) / 2.0) as f32, false)
                    .map(f64::from)
                    .unwrap();
                let even = if codes.iter().position(|code| *code == low).unwrap() % 2 == 0 {
                    low
                } else {
                    high
                };
                assert_eq!(tie, even, "{dtype}");
            }
            let largest = *codes.last().unwrap() as f32;
            assert_eq!(round(dtype, f32::INFINITY, true), Some(largest), "{dtype}");
            assert_eq!(round(dtype, -4.0 * largest, true), Some(-largest), "{dtype}");
        }
        assert_eq!(round(DType::F8E5M2, 1e9, false), Some(f32::INFINITY));
        assert!(round(DType::F8E4M3FN, 1e9, false).unwrap().is_nan());
    }
}
