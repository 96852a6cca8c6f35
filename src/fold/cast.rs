//! Cast between numbers. A value that the target type does not hold is refused: the specification leaves it open.

use half::{bf16, f16};

use super::integer::from_i64;
use super::{Answer, EvaluateError, operand, single};
use crate::ir::{DType, Operator, Tensor, to_little_endian};

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
    let integer = |dtype: DType| dtype.is_integer() && dtype != DType::U64;
    let wide = |dtype: DType| matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16);
    if integer(from) || from == DType::Bool {
        let values = data.to_i64().ok()?;
        if to == DType::Bool {
            return single(
                operator,
                Tensor::from_bools(data.dims(), &values.iter().map(|v| *v != 0).collect::<Vec<_>>()),
            );
        }
        if integer(to) && !to.is_packed() {
            return match from_i64(to, data.dims(), &values) {
                Some(tensor) => Some(Ok(vec![tensor])),
                None => refused(operator),
            };
        }
        return match to {
            DType::F64 => single(
                operator,
                Tensor::from_slice(data.dims(), &values.iter().map(|v| *v as f64).collect::<Vec<_>>()),
            ),
            DType::F32 => single(
                operator,
                Tensor::from_slice(data.dims(), &values.iter().map(|v| *v as f32).collect::<Vec<_>>()),
            ),
            _ => None,
        };
    }
    if !wide(from) {
        return None;
    }
    if to == DType::Bool {
        let values: Vec<bool> = data.to_f64().ok()?.iter().map(|v| *v != 0.0).collect();
        return single(operator, Tensor::from_bools(data.dims(), &values));
    }
    if integer(to) && !to.is_packed() {
        // Towards zero. Every integer type that is left fits i64, and bounds of i64 are no floats but for the lower one.
        let whole = |v: f64| {
            (v.is_finite() && v.trunc() >= -(2f64.powi(63)) && v.trunc() < 2f64.powi(63)).then_some(v as i64)
        };
        let values: Option<Vec<i64>> = data.to_f64().ok()?.into_iter().map(whole).collect();
        return match values.and_then(|values| from_i64(to, data.dims(), &values)) {
            Some(tensor) => Some(Ok(vec![tensor])),
            None => refused(operator),
        };
    }
    // Rounding from f64 to 16 bits is direct in some engines and by way of f32 in others: left to nobody.
    let raw = match (from, to) {
        (DType::F16 | DType::BF16, DType::F32) | (DType::F64, DType::F32) => to_little_endian(
            &data
                .to_f64()
                .ok()?
                .iter()
                .map(|v| *v as f32)
                .collect::<Vec<f32>>(),
        ),
        (DType::F32 | DType::F16 | DType::BF16, DType::F64) => to_little_endian(&data.to_f64().ok()?),
        (DType::F32 | DType::BF16, DType::F16) => to_little_endian(
            &data
                .to_f32()
                .ok()?
                .iter()
                .map(|v| f16::from_f32(*v).to_bits())
                .collect::<Vec<u16>>(),
        ),
        (DType::F32 | DType::F16, DType::BF16) => to_little_endian(
            &data
                .to_f32()
                .ok()?
                .iter()
                .map(|v| bf16::from_f32(*v).to_bits())
                .collect::<Vec<u16>>(),
        ),
        _ => return None,
    };
    single(operator, Tensor::from_raw(to, data.dims().iter().copied(), raw))
}

fn refused(operator: &Operator) -> Answer {
    Some(Err(EvaluateError::Unsupported {
        operator: operator.op_type.to_string(),
        reason: "a value is not in the range of the target type".to_owned(),
    }))
}
