//! Batch normalization whose parameters are no constants, as while they are trained: tract knows the form with constants only.

use super::Rule;
use super::site::Site;
use crate::ir::{DType, EditError, ValueId};

pub(super) const RULES: &[Rule] = &[("", "BatchNormalization", batch_norm)];

/// x·k + (b − μ·k) with k = γ/√(σ² + ε), as tract and ONNX Runtime compute it, in float for the types of 16 bits.
fn batch_norm(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(x_dtype), 5) = (site.input(0), site.input_dtype(0), site.inputs().len()) else {
        return Ok(false);
    };
    let Some(rank) = site.rank(x) else {
        return Ok(false);
    };
    let parameters: Vec<ValueId> = (1..5).filter_map(|index| site.input(index)).collect();
    let constant = parameters.iter().all(|value| site.is_constant(*value));
    let inference = site.version() >= 7
        && site.int("spatial", 1) != 0
        && site.int("training_mode", 0) == 0
        && !(1..site.output_count()).any(|output| site.is_read(output));
    if parameters.len() != 4 || constant || !inference || rank < 2 || !x_dtype.is_float() {
        return Ok(false);
    }
    let wide = match x_dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    };
    let mut vectors = Vec::with_capacity(4);
    for value in parameters {
        vectors.push(to(site, value, wide)?);
    }
    let [scale, bias, mean, variance] = vectors.as_slice() else {
        return Ok(false);
    };
    let epsilon = site.float("epsilon", 1e-5);
    let epsilon = site.number(wide, epsilon)?;
    let shifted = site.op("Add", &[*variance, epsilon])?;
    let deviation = site.op("Sqrt", &[shifted])?;
    let slope = site.op("Div", &[*scale, deviation])?;
    let moved = site.op("Mul", &[*mean, slope])?;
    let offset = site.op("Sub", &[*bias, moved])?;
    let axes: Vec<i64> = (1..rank as i64 - 1).collect();
    let (slope, offset) = match axes.is_empty() {
        true => (slope, offset),
        false => (
            site.fold_axes("Unsqueeze", slope, &axes)?,
            site.fold_axes("Unsqueeze", offset, &axes)?,
        ),
    };
    let x = to(site, x, wide)?;
    let product = site.op("Mul", &[x, slope])?;
    let y = site.op("Add", &[product, offset])?;
    let y = to(site, y, x_dtype)?;
    site.replace(0, y)?;
    Ok(true)
}

fn to(site: &mut Site<'_>, value: ValueId, dtype: DType) -> Result<ValueId, EditError> {
    match site.dtype(value) {
        Some(known) if known == dtype => Ok(value),
        _ => site.cast(value, dtype),
    }
}
