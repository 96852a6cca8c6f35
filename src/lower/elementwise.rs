//! Arithmetic that tract lacks or computes wrongly.

use super::Rule;
use super::site::{ENGINE_DOMAIN, Site};
use crate::ir::{DType, EditError, Operator, Tensor, ValueId};

pub(super) const RULES: &[Rule] = &[
    ("", "Equal", equal),
    ("", "IsInf", is_inf),
    ("", "IsNaN", is_nan),
    ("", "Mod", remainder),
    ("", "PRelu", prelu),
    ("", "ReverseSequence", reverse_sequence),
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

/// A slope that stretches the other operand, which tract takes the shape of the result from.
fn prelu(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some((x, dtype)), Some(slope)) = (float_input(site, 0), site.input(1)) else {
        return Ok(false);
    };
    let (Some(own), Some(wide)) = (site.shape(x), site.shape(slope)) else {
        return Ok(false);
    };
    let mut aligned = own.iter().rev().zip(wide.iter().rev());
    if wide.len() <= own.len() && !aligned.any(|(a, b)| a.fixed() == Some(1) && b.fixed() != Some(1)) {
        return Ok(false);
    }
    let zero = site.number(dtype, 0.0)?;
    let negative = site.op("Less", &[x, zero])?;
    let scaled = site.op("Mul", &[x, slope])?;
    let y = site.op("Where", &[negative, scaled, x])?;
    site.replace(0, y)?;
    Ok(true)
}

/// tract has no such operator.
fn reverse_sequence(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(lengths)) = (site.input(0), site.input(1)) else {
        return Ok(false);
    };
    let of_engine = site.with_attributes(
        Operator::new("EngineReverseSequence").in_domain(ENGINE_DOMAIN),
        &[],
    );
    let y = site.node(of_engine, &[x, lengths])?;
    site.replace(0, y)?;
    Ok(true)
}

/// Truth values are equal where they do not differ.
fn equal(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(a), Some(b), Some(DType::Bool)) = (site.input(0), site.input(1), site.input_dtype(0)) else {
        return Ok(false);
    };
    let differ = site.op("Xor", &[a, b])?;
    let y = site.op("Not", &[differ])?;
    site.replace(0, y)?;
    Ok(true)
}

/// What is not equal to itself. tract has the operator in float and float16 alone.
fn is_nan(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some((x, DType::F64)) = float_input(site, 0) else {
        return Ok(false);
    };
    let same = site.op("Equal", &[x, x])?;
    let y = site.op("Not", &[same])?;
    site.replace(0, y)?;
    Ok(true)
}

/// What is equal to one of the infinities that are asked for.
fn is_inf(site: &mut Site<'_>) -> Result<bool, EditError> {
    let Some((x, dtype @ DType::F64)) = float_input(site, 0) else {
        return Ok(false);
    };
    let mut found = None;
    for (name, infinity) in [
        ("detect_positive", f64::INFINITY),
        ("detect_negative", f64::NEG_INFINITY),
    ] {
        if site.int(name, 1) == 0 {
            continue;
        }
        let infinity = site.number(dtype, infinity)?;
        let equal = site.op("Equal", &[x, infinity])?;
        found = Some(match found {
            Some(other) => site.op("Or", &[other, equal])?,
            None => equal,
        });
    }
    let Some(y) = found else { return Ok(false) };
    site.replace(0, y)?;
    Ok(true)
}

/// The remainder with the sign of the dividend, or of the divisor. tract ignores the first where it broadcasts, and overflows in the
/// second.
fn remainder(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(a), Some(b), Some(dtype)) = (site.input(0), site.input(1), site.input_dtype(0)) else {
        return Ok(false);
    };
    let name = match site.int("fmod", 0) {
        0 if dtype.is_integer() => "EngineModulo",
        0 => return Ok(false),
        _ => "EngineRemainder",
    };
    let y = site.node(Operator::new(name).in_domain(ENGINE_DOMAIN), &[a, b])?;
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
