//! Arithmetic that tract lacks or computes wrongly.

use super::Rule;
use super::site::{ENGINE_DOMAIN, Site};
use crate::ir::{DType, EditError, Operator, Tensor, ValueId};

pub(super) const RULES: &[Rule] = &[
    ("", "Celu", celu),
    ("", "Softplus", softplus),
    ("", "Swish", swish),
    ("", "SwiGLU", swiglu),
    ("", "BitShift", bit_shift),
    ("", "CastLike", cast_like),
    ("ai.onnx.ml", "Scaler", scaler),
];

fn float_input(site: &Site<'_>, index: usize) -> Option<(ValueId, DType)> {
    let value = site.input(index)?;
    let dtype = site.dtype(value)?;
    dtype.is_float().then_some((value, dtype))
}

/// max(0, x) + min(0, alpha * (exp(x / alpha) - 1)), in float for the types of 16 bits.
fn celu(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some((x, dtype)) = float_input(site, 0) else {
        return Ok(false);
    };
    let alpha = site.float("alpha", 1.0);
    if !matches!(dtype, DType::F16 | DType::BF16 | DType::F32) {
        return Ok(false);
    }
    let wide = if dtype == DType::F32 {
        x
    } else {
        site.cast(x, DType::F32)?
    };
    let (alpha, one, zero) = (
        site.number(DType::F32, alpha)?,
        site.number(DType::F32, 1.0)?,
        site.number(DType::F32, 0.0)?,
    );
    let scaled = site.op("Div", &[wide, alpha])?;
    let exp = site.op("Exp", &[scaled])?;
    let less = site.op("Sub", &[exp, one])?;
    let tail = site.op("Mul", &[less, alpha])?;
    let low = site.op("Min", &[tail, zero])?;
    let high = site.op("Max", &[wide, zero])?;
    let y = site.op("Add", &[high, low])?;
    let y = if dtype == DType::F32 {
        y
    } else {
        site.cast(y, dtype)?
    };
    site.replace(0, y)?;
    Ok(true)
}

/// max(0, x) + log(1 + exp(-|x|)): tract's own overflows where exp(x) does. In float for the types of 16 bits.
fn softplus(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some((x, dtype)) = float_input(site, 0) else {
        return Ok(false);
    };
    let inner = if dtype == DType::F64 {
        DType::F64
    } else {
        DType::F32
    };
    let wide = if dtype == inner { x } else { site.cast(x, inner)? };
    let (one, zero) = (site.number(inner, 1.0)?, site.number(inner, 0.0)?);
    let size = site.op("Abs", &[wide])?;
    let less = site.op("Neg", &[size])?;
    let exp = site.op("Exp", &[less])?;
    let sum = site.op("Add", &[exp, one])?;
    let tail = site.op("Log", &[sum])?;
    let high = site.op("Max", &[wide, zero])?;
    let y = site.op("Add", &[high, tail])?;
    let y = if dtype == inner { y } else { site.cast(y, dtype)? };
    site.replace(0, y)?;
    Ok(true)
}

/// x * sigmoid(alpha * x).
fn swish_of(site: &mut Site<'_>, x: ValueId, dtype: DType, alpha: f64) -> Result<ValueId, EditError> {
    let inner = if alpha == 1.0 {
        x
    } else {
        let alpha = site.number(dtype, alpha)?;
        site.op("Mul", &[x, alpha])?
    };
    let gate = site.op("Sigmoid", &[inner])?;
    site.op("Mul", &[x, gate])
}

fn swish(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some((x, dtype)) = float_input(site, 0) else {
        return Ok(false);
    };
    let alpha = site.float("alpha", 1.0);
    let y = swish_of(site, x, dtype, alpha)?;
    site.replace(0, y)?;
    Ok(true)
}

/// swish(a) * b.
fn swiglu(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some((a, dtype)), Some(b)) = (float_input(site, 0), site.input(1)) else {
        return Ok(false);
    };
    let alpha = site.float("alpha", 1.0);
    let gate = swish_of(site, a, dtype, alpha)?;
    let y = site.op("Mul", &[gate, b])?;
    site.replace(0, y)?;
    Ok(true)
}

/// Shifts by the width or more, or by less than 0: 0, or -1 for a negative number that is shifted right.
fn bit_shift(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(shift), Some(dtype)) = (site.input(0), site.input(1), site.input_dtype(0)) else {
        return Ok(false);
    };
    if !dtype.is_integer() || dtype.is_packed() {
        return Ok(false);
    }
    let right = site.operator.string("direction") == Some("RIGHT");
    let width = site.number(dtype, dtype.bits() as f64)?;
    let zero = site.number(dtype, 0.0)?;
    let large = site.op("Less", &[shift, width])?;
    let mut bad = site.op("Not", &[large])?;
    if dtype.is_signed_integer() {
        let negative = site.op("Less", &[shift, zero])?;
        bad = site.op("Or", &[bad, negative])?;
    }
    let safe = site.op("Where", &[bad, zero, shift])?;
    let shifted = site.with_attributes(Operator::new("BitShift").in_domain(ENGINE_DOMAIN), &[]);
    let shifted = site.node(shifted, &[x, safe])?;
    let rest = if right && dtype.is_signed_integer() {
        let (minus, negative) = (site.number(dtype, -1.0)?, site.op("Less", &[x, zero])?);
        site.op("Where", &[negative, minus, zero])?
    } else {
        zero
    };
    let y = site.op("Where", &[bad, rest, shifted])?;
    site.replace(0, y)?;
    Ok(true)
}

/// A Cast to the type that the second input has.
fn cast_like(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(dtype)) = (site.input(0), site.input_dtype(1)) else {
        return Ok(false);
    };
    let cast = site
        .with_attributes(Operator::new("Cast"), &[])
        .with("to", i64::from(dtype.onnx()));
    let y = site.node(cast, &[x])?;
    site.replace(0, y)?;
    Ok(true)
}

/// (x - offset) * scale, as float.
fn scaler(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(dtype)) = (site.input(0), site.input_dtype(0)) else {
        return Ok(false);
    };
    let mut y = if dtype == DType::F32 {
        x
    } else {
        site.cast(x, DType::F32)?
    };
    for (name, op_type) in [("offset", "Sub"), ("scale", "Mul")] {
        let Some(values) = site.operator.floats(name).filter(|values| !values.is_empty()) else {
            continue;
        };
        let dims = if values.len() == 1 {
            Vec::new()
        } else {
            vec![values.len() as u64]
        };
        let Ok(tensor) = Tensor::from_slice(&dims, values) else {
            return Ok(false);
        };
        let operand = site.tensor(tensor);
        y = site.op(op_type, &[y, operand])?;
    }
    site.replace(0, y)?;
    Ok(true)
}
