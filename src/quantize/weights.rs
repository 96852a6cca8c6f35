//! Scales of a constant tensor from its own values: one, one a channel, or one a block.

use super::kind::Granularity;
use super::parameters::{Parameters, QuantizeError, Scheme, parameters};
use super::runs::{Place, Runs};
use crate::ir::Tensor;

/// Parameters from the extremes of each group of elements, in row-major order of the groups.
pub fn tensor_parameters(
    tensor: &Tensor,
    granularity: Granularity,
    scheme: &Scheme,
) -> Result<Vec<Parameters>, QuantizeError> {
    let values = tensor.to_f32()?;
    let groups = scale_dims(tensor.dims(), granularity).iter().product::<u64>() as usize;
    let runs = Runs::of(tensor.dims(), granularity, groups)?;
    let mut extremes = vec![(0f32, 0f32); groups];
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(QuantizeError::Range {
            low: *value,
            high: *value,
        });
    }
    // All values are finite: a comparison is enough.
    let widen = |range: &mut (f32, f32), value: f32| {
        range.0 = if value < range.0 { value } else { range.0 };
        range.1 = if value > range.1 { value } else { range.1 };
    };
    for (elements, place) in runs.each() {
        let values = values.get(elements).unwrap_or_default();
        match place {
            Place::Shared(at) => {
                let Some(range) = extremes.get_mut(at) else {
                    continue;
                };
                let mut own = *range;
                values.iter().for_each(|value| widen(&mut own, *value));
                *range = own;
            }
            Place::Each(places) => {
                let ranges = extremes.get_mut(places).unwrap_or_default();
                values
                    .iter()
                    .zip(ranges)
                    .for_each(|(value, range)| widen(range, *value));
            }
        }
    }
    extremes
        .into_iter()
        .map(|(low, high)| parameters(low, high, scheme))
        .collect()
}

/// The shape of the scales of a tensor of shape `dims`: none, `[channels]`, or `dims` with blocks along the axis.
pub fn scale_dims(dims: &[u64], granularity: Granularity) -> Vec<u64> {
    match granularity {
        Granularity::PerTensor => Vec::new(),
        Granularity::PerChannel(axis) => vec![dims.get(axis).copied().unwrap_or(1)],
        Granularity::Blocked { axis, size } => {
            let mut blocked = dims.to_vec();
            if let Some(length) = blocked.get_mut(axis) {
                *length = length.div_ceil(size.max(1) as u64);
            }
            blocked
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::Kind;

    #[test]
    fn every_group_has_its_own_scale() {
        let x = Tensor::from_slice::<f32>(&[2, 3], &[1.27, 0.5, -2.54, 0.1, 0.254, 0.0]).unwrap();
        let scheme = Scheme::new(Kind::Int8, true);
        let scales = |granularity| -> Vec<f32> {
            let found = tensor_parameters(&x, granularity, &scheme).unwrap();
            found
                .iter()
                .map(|p| (p.scale * 1000.0).round() / 1000.0)
                .collect()
        };
        assert_eq!(scales(Granularity::PerTensor), [0.02]);
        assert_eq!(scales(Granularity::PerChannel(0)), [0.02, 0.002]);
        let blocked = Granularity::Blocked { axis: 1, size: 2 };
        assert_eq!(scale_dims(x.dims(), blocked), [2, 2]);
        assert_eq!(scales(blocked), [0.01, 0.02, 0.002, 1.0]);
    }

    #[test]
    fn values_that_are_not_finite_are_refused() {
        let x = Tensor::from_slice::<f32>(&[2], &[1.0, f32::NAN]).unwrap();
        assert!(tensor_parameters(&x, Granularity::PerTensor, &Scheme::new(Kind::Int8, true)).is_err());
    }
}
