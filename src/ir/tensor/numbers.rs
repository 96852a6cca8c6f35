//! The elements of any type as numbers, and tensors of any type from numbers.

use std::borrow::Cow;

use bytes::Bytes;
use half::{bf16, f16};

use super::{Tensor, TensorError, from_little_endian, packed_bits, to_little_endian};
use crate::ir::dtype::DType;
use crate::ir::minifloat;

impl Tensor {
    /// A tensor of float values converted to a float element type (`f32`, `f64`, `f16`, `bf16`), rounding to nearest even.
    pub fn from_f64(dtype: DType, dims: &[u64], values: &[f64]) -> Result<Self, TensorError> {
        let raw: Bytes = match dtype {
            DType::F64 => to_little_endian(values),
            DType::F32 => to_little_endian(&values.iter().map(|v| *v as f32).collect::<Vec<_>>()),
            DType::F16 => to_little_endian(
                &values
                    .iter()
                    .map(|v| f16::from_f32(to_odd(*v)).to_bits())
                    .collect::<Vec<_>>(),
            ),
            DType::BF16 => to_little_endian(
                &values
                    .iter()
                    .map(|v| bf16::from_f32(to_odd(*v)).to_bits())
                    .collect::<Vec<_>>(),
            ),
            found => {
                return Err(TensorError::Type {
                    expected: "a float type",
                    found,
                });
            }
        };
        Self::from_raw(dtype, dims.iter().copied(), raw)
    }

    /// Every element as `f64`, for any real float, integer or boolean type. 64-bit integers round.
    pub fn to_f64(&self) -> Result<Vec<f64>, TensorError> {
        let wrong = TensorError::Type {
            expected: "real numbers",
            found: self.dtype,
        };
        if matches!(self.dtype, DType::I64 | DType::I32) {
            return Ok(self.to_i64()?.into_iter().map(|v| v as f64).collect());
        }
        if let Some(integers) = self.integers()? {
            return Ok(integers.into_iter().map(|v| v as f64).collect());
        }
        let raw = self.raw()?;
        let bits16 = || from_little_endian::<u16>(&raw).into_owned();
        Ok(match self.dtype {
            DType::F32 => from_little_endian::<f32>(&raw)
                .iter()
                .map(|v| *v as f64)
                .collect(),
            DType::F64 => from_little_endian::<f64>(&raw).into_owned(),
            DType::F16 => bits16().into_iter().map(|v| f16::from_bits(v).to_f64()).collect(),
            DType::BF16 => bits16()
                .into_iter()
                .map(|v| bf16::from_bits(v).to_f64())
                .collect(),
            small if small.is_float() => {
                let count = self.elements() as usize;
                (0..count)
                    .map(|i| minifloat::decode(small, packed_bits(&raw, small.bits(), i)))
                    .collect()
            }
            _ => return Err(wrong),
        })
    }

    /// Every element as `f32`; see [`Tensor::to_f64`]. Borrowed for an aligned `float` tensor.
    pub fn to_f32(&self) -> Result<Cow<'_, [f32]>, TensorError> {
        if self.dtype == DType::F32 {
            return self.view::<f32>();
        }
        Ok(Cow::Owned(self.to_f64()?.into_iter().map(|v| v as f32).collect()))
    }

    /// Every element as `i64`, for integer and boolean tensors (`uint64` above `i64::MAX` wraps); an error for others.
    pub fn to_i64(&self) -> Result<Vec<i64>, TensorError> {
        match self.dtype {
            DType::I64 => return Ok(self.view::<i64>()?.into_owned()),
            DType::I32 => return Ok(self.view::<i32>()?.iter().map(|v| i64::from(*v)).collect()),
            _ => {}
        }
        match self.integers()? {
            Some(values) => Ok(values.into_iter().map(|v| v as i64).collect()),
            None => Err(TensorError::Type {
                expected: "integers",
                found: self.dtype,
            }),
        }
    }

    fn integers(&self) -> Result<Option<Vec<i128>>, TensorError> {
        use DType::*;
        if !(self.dtype.is_integer() || self.dtype == Bool) {
            return Ok(None);
        }
        let raw = self.raw()?;
        let values = match self.dtype {
            Bool | U8 => raw.iter().map(|v| *v as i128).collect(),
            I8 => raw.iter().map(|v| *v as i8 as i128).collect(),
            I16 => from_little_endian::<i16>(&raw)
                .iter()
                .map(|v| *v as i128)
                .collect(),
            U16 => from_little_endian::<u16>(&raw)
                .iter()
                .map(|v| *v as i128)
                .collect(),
            I32 => from_little_endian::<i32>(&raw)
                .iter()
                .map(|v| *v as i128)
                .collect(),
            U32 => from_little_endian::<u32>(&raw)
                .iter()
                .map(|v| *v as i128)
                .collect(),
            I64 => from_little_endian::<i64>(&raw)
                .iter()
                .map(|v| *v as i128)
                .collect(),
            U64 => from_little_endian::<u64>(&raw)
                .iter()
                .map(|v| *v as i128)
                .collect(),
            packed => {
                let bits = packed.bits();
                let signed = packed.is_signed_integer();
                (0..self.elements() as usize)
                    .map(|i| {
                        let value = packed_bits(&raw, bits, i) as i128;
                        if signed && value >= 1 << (bits - 1) {
                            value - (1 << bits)
                        } else {
                            value
                        }
                    })
                    .collect()
            }
        };
        Ok(Some(values))
    }

    /// The single element of a one-element tensor as `f64` (any rank).
    pub fn single_f64(&self) -> Option<f64> {
        if self.elements() != 1 {
            None
        } else {
            self.to_f64().ok()?.first().copied()
        }
    }

    /// The single element of a one-element integer tensor (any rank), if an `i64` holds it.
    pub fn single_i64(&self) -> Option<i64> {
        if self.elements() != 1 {
            None
        } else if self.dtype == DType::U64 {
            i64::try_from(*self.view::<u64>().ok()?.first()?).ok()
        } else {
            self.to_i64().ok()?.first().copied()
        }
    }
}

/// A number as `f32`, rounded to odd: what is then rounded to a type of 16 bits is rounded as if once.
pub fn to_odd(value: f64) -> f32 {
    let near = value as f32;
    if near.is_nan() || f64::from(near) == value {
        return near;
    }
    let bits = near.to_bits();
    let towards_zero = if f64::from(near).abs() > value.abs() {
        bits - 1
    } else {
        bits
    };
    f32::from_bits(towards_zero | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_16_bits_are_rounded_once() {
        let just = |tie: f64, step: f64| [tie - step, tie, tie + step];
        let rounded = |dtype, values: &[f64]| {
            Tensor::from_f64(dtype, &[values.len() as u64], values)
                .unwrap()
                .to_f64()
                .unwrap()
        };
        // Halfway between two numbers of the type, and a little to either side, which a float does not hold.
        let half = just(1.0 + 2f64.powi(-11), 2f64.powi(-50));
        assert_eq!(rounded(DType::F16, &half), [1.0, 1.0, 1.0 + 2f64.powi(-10)]);
        let odd = just(-(1.0 + 3.0 * 2f64.powi(-8)), 2f64.powi(-50));
        assert_eq!(
            rounded(DType::BF16, &odd),
            [
                -(1.0 + 2f64.powi(-6)),
                -(1.0 + 2f64.powi(-6)),
                -(1.0 + 2f64.powi(-7))
            ]
        );
        let ends = [
            65_519.999_999_999_99,
            65_520.0,
            1e300,
            f64::NEG_INFINITY,
            -0.0,
            2f64.powi(-25),
            1e-300,
        ];
        let (inf, zero) = (f64::INFINITY, 0.0);
        assert_eq!(
            rounded(DType::F16, &ends),
            [65_504.0, inf, inf, -inf, zero, zero, zero]
        );
        assert!(rounded(DType::BF16, &[f64::NAN])[0].is_nan());
    }
}
