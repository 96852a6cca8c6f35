//! Codes of one weight matrix.

use super::QuantizeDynamic;
use super::error::ProductError;
use crate::ir::{DType, Tensor, TensorError};
use crate::passes::quantize::calibrated::Saturation;
use crate::quantize::{
    Granularity, Kind, Scheme, fit_pairs, pack, quantize_tensor, tensor_parameters, worst_pair,
};

/// A weight as codes, with what dequantizes products of it.
pub(super) struct Coded {
    /// `[K, N]`; of a left operand `[M, K]`.
    pub(super) codes: Tensor,
    /// `[N]`; of a left operand `[M, 1]`; `[]` if there is one for all.
    pub(super) scales: Tensor,
    /// As MatMulInteger takes it.
    pub(super) zeros: Tensor,
    /// Columns that were kept from saturating.
    pub(super) trimmed: u64,
}

impl QuantizeDynamic {
    /// Codes of a stored matrix whose outputs lie on `output_axis`, for the side that it multiplies from.
    pub(super) fn weight(
        &self,
        tensor: &Tensor,
        output_axis: usize,
        left: bool,
    ) -> Result<Coded, ProductError> {
        let turned = output_axis == 0;
        let tensor = match (turned, tensor.dtype() == DType::F32) {
            (true, _) => transpose(tensor)?,
            (false, true) => tensor.clone(),
            (false, false) => Tensor::from_slice(tensor.dims(), &tensor.to_f32()?)?,
        };
        // Engines multiply two unsigned matrices without saturation, and fast; a signed left one they do not.
        let saturation = if left { Saturation::Ignore } else { self.saturation };
        let (codes, scales, trimmed) = self.columns(&tensor, saturation)?;
        if !left {
            let zeros = pack(scales.dims(), &vec![0; scales.elements() as usize], Kind::Int8)?;
            return Ok(Coded {
                codes,
                scales,
                zeros,
                trimmed,
            });
        }
        let [rows, columns] = matrix_dims(&codes);
        let values = codes.to_i64()?;
        let unsigned: Vec<i32> = (0..columns)
            .flat_map(|column| (0..rows).map(move |row| row * columns + column))
            .map(|at| values.get(at).copied().unwrap_or(0) as i32 + 128)
            .collect();
        let scales = match scales.rank() {
            0 => scales,
            _ => scales.reshaped(&[columns as u64, 1])?,
        };
        Ok(Coded {
            codes: pack(&[columns as u64, rows as u64], &unsigned, Kind::Uint8)?,
            scales,
            zeros: pack(&[], &[128], Kind::Uint8)?,
            trimmed,
        })
    }

    /// Codes of a `[K, N]` weight, their scales, and the columns that were kept from saturating.
    fn columns(
        &self,
        tensor: &Tensor,
        saturation: Saturation,
    ) -> Result<(Tensor, Tensor, u64), ProductError> {
        let granularity = if self.per_channel {
            Granularity::PerChannel(1)
        } else {
            Granularity::PerTensor
        };
        let mut found = tensor_parameters(tensor, granularity, &Scheme::new(Kind::Int8, true))?;
        let columns = tensor.dims().get(1).copied().unwrap_or(1) as usize;
        let rows = tensor.dims().first().copied().unwrap_or(1) as usize;
        let values = tensor.to_f32()?;
        let mut trimmed: Vec<(usize, i32)> = Vec::new();
        let mut changed = 0;
        if saturation == Saturation::Avoid {
            for (group, parameters) in found.iter_mut().enumerate() {
                let members = if self.per_channel {
                    group..group + 1
                } else {
                    0..columns
                };
                let order: Vec<usize> = members
                    .flat_map(|column| (0..rows).map(move |row| row * columns + column))
                    .collect();
                let gathered: Vec<f32> = order
                    .iter()
                    .map(|at| values.get(*at).copied().unwrap_or(0.0))
                    .collect();
                if worst_pair(&gathered, rows, parameters.scale) <= 1.0 {
                    continue;
                }
                if let Some(fitted) = fit_pairs(&gathered, rows, parameters.scale) {
                    parameters.scale = fitted.scale;
                    trimmed.extend(order.into_iter().zip(fitted.codes));
                    changed += 1;
                }
            }
        }
        let mut codes = quantize_tensor(tensor, &found, granularity, Kind::Int8)?;
        if !trimmed.is_empty() {
            let mut whole: Vec<i32> = codes.to_i64()?.into_iter().map(|code| code as i32).collect();
            for (at, code) in trimmed {
                whole[at] = code;
            }
            codes = pack(tensor.dims(), &whole, Kind::Int8)?;
        }
        let scales: Vec<f32> = found.iter().map(|p| p.scale).collect();
        let dims: &[u64] = if self.per_channel { &[columns as u64] } else { &[] };
        Ok((codes, Tensor::from_slice(dims, &scales)?, changed))
    }
}

fn matrix_dims(tensor: &Tensor) -> [usize; 2] {
    match tensor.dims() {
        [rows, columns] => [*rows as usize, *columns as usize],
        _ => [tensor.elements() as usize, 1],
    }
}

fn transpose(tensor: &Tensor) -> Result<Tensor, TensorError> {
    let [rows, columns] = matrix_dims(tensor);
    let values = tensor.to_f32()?;
    let turned: Vec<f32> = (0..columns)
        .flat_map(|column| (0..rows).map(move |row| row * columns + column))
        .map(|at| values.get(at).copied().unwrap_or(0.0))
        .collect();
    Tensor::from_slice(&[columns as u64, rows as u64], &turned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_turned() {
        let x = Tensor::from_slice::<f32>(&[2, 3], &[1., 2., 3., 4., 5., 6.]).unwrap();
        let turned = transpose(&x).unwrap();
        assert_eq!(turned.dims(), [3, 2]);
        assert_eq!(&*turned.to_f32().unwrap(), [1., 4., 2., 5., 3., 6.]);
    }

    #[test]
    fn columns_that_would_saturate_get_other_codes() {
        let x = Tensor::from_slice::<f32>(&[2, 2], &[1.0, 1.0, 1.0, -1.0]).unwrap();
        let pass = QuantizeDynamic::default();
        let (codes, scales, changed) = pass.columns(&x, Saturation::Avoid).unwrap();
        assert_eq!(changed, 1);
        assert_eq!(codes.to_i64().unwrap(), [64, 127, 64, -127]);
        let scales = scales.to_f32().unwrap().into_owned();
        assert!((scales[0] * 64.0 - 1.0).abs() < 0.02 && (scales[1] * 127.0 - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_left_matrix_has_unsigned_codes_and_a_scale_for_each_row() {
        let x = Tensor::from_slice::<f32>(&[2, 3], &[1.27, 0.0, -1.27, 0.1, 2.54, 0.0]).unwrap();
        let coded = QuantizeDynamic::default().weight(&x, 0, true).unwrap();
        assert_eq!(coded.codes.dims(), [2, 3]);
        assert_eq!(coded.codes.to_i64().unwrap(), [255, 128, 1, 133, 255, 128]);
        assert_eq!(coded.scales.dims(), [2, 1]);
    }
}
