//! Reductions whose tract kernels start from the largest finite number instead of infinity.

use super::Rule;
use super::site::{ENGINE_DOMAIN, Site};
use crate::ir::{DType, EditError, Operator};

pub(super) const RULES: &[Rule] = &[("", "ReduceMax", maximum), ("", "ReduceMin", minimum)];

fn maximum(site: &mut Site<'_>) -> Result<bool, EditError> {
    extreme(site, f64::NEG_INFINITY)
}

fn minimum(site: &mut Site<'_>) -> Result<bool, EditError> {
    extreme(site, f64::INFINITY)
}

/// The reduction, and its neutral element where every element is the neutral one.
fn extreme(site: &mut Site<'_>, neutral: f64) -> Result<bool, EditError> {
    let (Some(x), Some(dtype)) = (site.input(0), site.input_dtype(0)) else {
        return Ok(false);
    };
    if !matches!(dtype, DType::F32 | DType::F64 | DType::F16) {
        return Ok(false);
    }
    let slots = site.inputs().to_vec();
    let of_engine = site.with_attributes(
        Operator::new(site.operator.op_type.clone()).in_domain(ENGINE_DOMAIN),
        &[],
    );
    let made = site.nodes(of_engine, &slots, 1)?;
    let neutral = site.number(dtype, neutral)?;
    let equal = site.op("Equal", &[x, neutral])?;
    let flags = site.cast(equal, DType::I32)?;
    let all = site.with_attributes(Operator::new("ReduceMin"), &[]);
    let mut flag_slots = slots;
    if let Some(first) = flag_slots.first_mut() {
        *first = Some(flags);
    }
    let all = site.nodes(all, &flag_slots, 1)?;
    let (Some(y), Some(all)) = (made.first().copied(), all.first().copied()) else {
        return Ok(false);
    };
    let every = site.cast(all, DType::Bool)?;
    let y = site.op("Where", &[every, neutral, y])?;
    site.replace(0, y)?;
    Ok(true)
}
