//! Cast between numbers, rounded once. Integers that do not fit keep their lowest bits, as the specification says; of a float that an
//! integer type does not hold it leaves open what becomes, and such a cast is refused.

use half::{bf16, f16};

use super::numbers::{from_whole, is_float, whole};
use super::{Answer, EvaluateError, operand, single};
use crate::ir::{DType, Operator, Tensor, TensorError, to_little_endian};

pub(super) fn evaluate(operator: &Operator, inputs: &[Option<Tensor>]) -> Answer {
    let data = operand(inputs, 0)?;
    let to = match &*operator.op_type {
        "Cast" => DType::from_onnx(i32::try_from(operator.int("to")?).ok()?)?,
        "CastLike" => operand(inputs, 1)?.dtype(),
        _ => return None,
    };
    let from = data.dtype();
    if from == to {
        return Some(Ok(vec![data.clone()]));
    }
    if from.is_integer() || from == DType::Bool {
        let values = whole(data)?;
        return match to {
            DType::Bool => single(
                operator,
                Tensor::from_bools(data.dims(), &values.iter().map(|v| *v != 0).collect::<Vec<_>>()),
            ),
            _ if is_float(to) => single(operator, floats(to, data.dims(), &values)),
            _ if to.is_integer() && !to.is_packed() => {
                let (low, high) = to.integer_range()?;
                let kept: Vec<i128> = values
                    .iter()
                    .map(|v| (v - low).rem_euclid(high - low + 1) + low)
                    .collect();
                Some(Ok(vec![from_whole(to, data.dims(), &kept)?]))
            }
            _ => None,
        };
    }
    if !is_float(from) {
        return None;
    }
    if to == DType::Bool {
        let values: Vec<bool> = data.to_f64().ok()?.iter().map(|v| *v != 0.0).collect();
        return single(operator, Tensor::from_bools(data.dims(), &values));
    }
    if to.is_integer() && !to.is_packed() {
        // Towards zero.
        let whole = |v: f64| v.is_finite().then_some(v as i128);
        let values: Option<Vec<i128>> = data.to_f64().ok()?.into_iter().map(whole).collect();
        return match values.and_then(|values| from_whole(to, data.dims(), &values)) {
            Some(tensor) => Some(Ok(vec![tensor])),
            None => refused(operator),
        };
    }
    if !is_float(to) {
        return None;
    }
    if from == DType::F64 || to == DType::F64 {
        return single(operator, Tensor::from_f64(to, data.dims(), &data.to_f64().ok()?));
    }
    // Between the narrower types by way of float, which holds them all; large weights are not widened further.
    let numbers = data.to_f32().ok()?;
    let raw = match to {
        DType::F32 => to_little_endian(&numbers),
        DType::F16 => to_little_endian(
            &numbers
                .iter()
                .map(|v| f16::from_f32(*v).to_bits())
                .collect::<Vec<u16>>(),
        ),
        _ => to_little_endian(
            &numbers
                .iter()
                .map(|v| bf16::from_f32(*v).to_bits())
                .collect::<Vec<u16>>(),
        ),
    };
    single(operator, Tensor::from_raw(to, data.dims().iter().copied(), raw))
}

/// Integers as floats. What a double does not hold is rounded to odd first, so that it counts once.
fn floats(to: DType, dims: &[u64], values: &[i128]) -> Result<Tensor, TensorError> {
    match to {
        DType::F32 => Tensor::from_slice(dims, &values.iter().map(|v| *v as f32).collect::<Vec<_>>()),
        DType::F64 => Tensor::from_slice(dims, &values.iter().map(|v| *v as f64).collect::<Vec<_>>()),
        _ => {
            let odd = |v: &i128| {
                // The lowest bits are beyond every type of 16 bits.
                if v.unsigned_abs() >> 53 == 0 {
                    *v as f64
                } else {
                    ((v >> 16) | i128::from(v & 0xffff != 0)) as f64 * 65_536.0
                }
            };
            Tensor::from_f64(to, dims, &values.iter().map(odd).collect::<Vec<_>>())
        }
    }
}

fn refused(operator: &Operator) -> Answer {
    Some(Err(EvaluateError::Unsupported {
        operator: operator.op_type.to_string(),
        reason: "a value is not in the range of the target type".to_owned(),
    }))
}
