//! The loss operators, by their definitions.

use super::Rule;
use super::site::Site;
use crate::ir::{DType, EditError, Operator, ValueId};

pub(super) const RULES: &[Rule] = &[
    ("", "NegativeLogLikelihoodLoss", likelihood),
    ("", "SoftmaxCrossEntropyLoss", cross_entropy),
];

fn likelihood(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(target), Some(dtype)) = (site.input(0), site.input(1), site.input_dtype(0)) else {
        return Ok(false);
    };
    let Some(loss) = loss(site, x, target, dtype)? else {
        return Ok(false);
    };
    site.replace(0, loss)?;
    Ok(true)
}

/// log softmax over axis 1, then the negative log likelihood.
fn cross_entropy(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(target), Some(dtype)) = (site.input(0), site.input(1), site.input_dtype(0)) else {
        return Ok(false);
    };
    let largest = site.reduce("ReduceMax", x, &[1], true)?;
    let shifted = site.op("Sub", &[x, largest])?;
    let exp = site.op("Exp", &[shifted])?;
    let sum = site.reduce("ReduceSum", exp, &[1], true)?;
    let log = site.op("Log", &[sum])?;
    let probability = site.op("Sub", &[shifted, log])?;
    let Some(loss) = loss(site, probability, target, dtype)? else {
        return Ok(false);
    };
    site.replace(0, loss)?;
    site.replace(1, probability)?;
    Ok(true)
}

/// `x` is [N, C, d...], `target` [N, d...]. Targets that are `ignore_index` have weight 0; the mean is over the weights.
fn loss(
    site: &mut Site<'_>,
    x: ValueId,
    target: ValueId,
    dtype: DType,
) -> Result<Option<ValueId>, EditError> {
    let Some(target_type) = site.dtype(target) else {
        return Ok(None);
    };
    if !matches!(dtype, DType::F32 | DType::F64 | DType::F16) || !target_type.is_integer() {
        return Ok(None);
    }
    let ignored = match site.operator.int("ignore_index") {
        None => None,
        Some(index) => {
            let index = site.number(target_type, index as f64)?;
            Some(site.op("Equal", &[target, index])?)
        }
    };
    let zero = site.number(dtype, 0.0)?;
    let safe = match ignored {
        None => target,
        Some(ignored) => {
            let first = site.number(target_type, 0.0)?;
            site.op("Where", &[ignored, first, target])?
        }
    };
    let column = site.fold_axes("Unsqueeze", safe, &[1])?;
    let picked = site.node(Operator::new("GatherElements").with("axis", 1), &[x, column])?;
    let picked = site.fold_axes("Squeeze", picked, &[1])?;
    let mut losses = site.op("Neg", &[picked])?;
    let mut weights = match site.input(2) {
        Some(weights) => Some(site.node(Operator::new("Gather").with("axis", 0), &[weights, safe])?),
        None => None,
    };
    if let Some(ignored) = ignored {
        let one = site.number(dtype, 1.0)?;
        let held = weights.unwrap_or(one);
        weights = Some(site.op("Where", &[ignored, zero, held])?);
    }
    if let Some(weights) = weights {
        losses = site.op("Mul", &[losses, weights])?;
    }
    Ok(Some(
        match (site.operator.string("reduction").unwrap_or("mean"), weights) {
            ("none", _) => losses,
            ("sum", _) => site.reduce("ReduceSum", losses, &[], false)?,
            ("mean", None) => site.reduce("ReduceMean", losses, &[], false)?,
            ("mean", Some(weights)) => {
                let sum = site.reduce("ReduceSum", losses, &[], false)?;
                let total = site.reduce("ReduceSum", weights, &[], false)?;
                site.op("Div", &[sum, total])?
            }
            _ => return Ok(None),
        },
    ))
}
