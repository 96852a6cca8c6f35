//! Reductions whose tract kernels start from the largest finite number instead of infinity, and pass over what is no number.

use super::Rule;
use super::site::{ENGINE_DOMAIN, Site};
use crate::ir::{DType, EditError, Operator, ValueId};

pub(super) const RULES: &[Rule] = &[
    ("", "ReduceLogSumExp", log_sum_exp),
    ("", "ReduceMax", maximum),
    ("", "ReduceMin", minimum),
];

/// The logarithm of the sum of exponentials relative to the largest element, unless that is infinite. tract's own overflows.
fn log_sum_exp(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(dtype)) = (site.input(0), site.input_dtype(0)) else {
        return Ok(false);
    };
    if !matches!(dtype, DType::F32 | DType::F64) || site.int("noop_with_empty_axes", 0) != 0 {
        return Ok(false);
    }
    let axes = match site.input(1) {
        Some(axes) => site.constant(axes).and_then(|tensor| tensor.to_i64().ok()),
        None => Some(
            site.operator
                .ints("axes")
                .map(<[i64]>::to_vec)
                .unwrap_or_default(),
        ),
    };
    let Some(axes) = axes else { return Ok(false) };
    let keep = site.int("keepdims", 1) != 0;
    let most = finite_maximum(site, x, dtype, &axes, true)?;
    let less = site.op("Sub", &[x, most])?;
    let exp = site.op("Exp", &[less])?;
    let sum = site.reduce("ReduceSum", exp, &axes, keep)?;
    let log = site.op("Log", &[sum])?;
    let most = if keep {
        most
    } else {
        finite_maximum(site, x, dtype, &axes, false)?
    };
    let y = site.op("Add", &[log, most])?;
    site.replace(0, y)?;
    Ok(true)
}

/// The largest element, and 0 where it is infinite.
fn finite_maximum(
    site: &mut Site<'_>,
    x: ValueId,
    dtype: DType,
    axes: &[i64],
    keep: bool,
) -> Result<ValueId, EditError> {
    let most = site.reduce("ReduceMax", x, axes, keep)?;
    let (infinity, zero) = (site.number(dtype, f64::INFINITY)?, site.number(dtype, 0.0)?);
    let size = site.op("Abs", &[most])?;
    let infinite = site.op("Equal", &[size, infinity])?;
    site.op("Where", &[infinite, zero, most])
}

fn maximum(site: &mut Site<'_>) -> Result<bool, EditError> {
    extreme(site, f64::NEG_INFINITY)
}

fn minimum(site: &mut Site<'_>) -> Result<bool, EditError> {
    extreme(site, f64::INFINITY)
}

/// The reduction; its neutral element where every element is the neutral one, and no number where one element is none.
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
    let Some(y) = made.first().copied() else {
        return Ok(false);
    };
    let (neutral, none) = (site.number(dtype, neutral)?, site.number(dtype, f64::NAN)?);
    let (is_neutral, is_number) = (site.op("Equal", &[x, neutral])?, site.op("Equal", &[x, x])?);
    let (Some(neutrals), Some(numbers)) = (every(site, &slots, is_neutral)?, every(site, &slots, is_number)?)
    else {
        return Ok(false);
    };
    let y = site.op("Where", &[neutrals, neutral, y])?;
    let y = site.op("Where", &[numbers, y, none])?;
    site.replace(0, y)?;
    Ok(true)
}

/// Whether a flag holds for every element that is reduced; `slots` are the inputs of the reduction.
fn every(
    site: &mut Site<'_>,
    slots: &[Option<ValueId>],
    flags: ValueId,
) -> Result<Option<ValueId>, EditError> {
    let flags = site.cast(flags, DType::I32)?;
    let all = site.with_attributes(Operator::new("ReduceMin"), &[]);
    let mut slots = slots.to_vec();
    if let Some(first) = slots.first_mut() {
        *first = Some(flags);
    }
    match site.nodes(all, &slots, 1)?.first() {
        Some(all) => site.cast(*all, DType::Bool).map(Some),
        None => Ok(None),
    }
}
