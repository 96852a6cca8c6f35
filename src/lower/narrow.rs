//! Element types that tract lacks: bfloat16, the floats of 8 bits and fewer, the integers of 2 and 4 bits.
//!
//! The engine carries such a value in a wider type. Here each operator that makes one gets a rounding to the narrow type after
//! it, so that every value is one of its type, as if it had been computed in it and rounded once.

use super::Rule;
use super::site::{ENGINE_DOMAIN, Site};
use crate::ir::{DType, EditError, Operator};
use crate::ops::picks_elements;

pub(super) const RULES: &[Rule] = &[("", "Cast", cast), ("", "*", arithmetic)];

fn narrow(dtype: DType) -> bool {
    dtype == DType::BF16 || dtype.is_packed() || dtype.is_float() && dtype.bits() <= 8
}

/// Types that the engine rounds to.
fn rounded(dtype: DType) -> bool {
    narrow(dtype) && dtype != DType::F8E8M0
}

fn round(to: DType, saturate: bool) -> Operator {
    Operator::new("EngineRound")
        .in_domain(ENGINE_DOMAIN)
        .with("to", i64::from(to.onnx()))
        .with("saturate", i64::from(saturate))
}

fn cast(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(x), Some(from)) = (site.input(0), site.input_dtype(0)) else {
        return Ok(false);
    };
    let Some(to) = i32::try_from(site.int("to", 0)).ok().and_then(DType::from_onnx) else {
        return Ok(false);
    };
    if !rounded(to) || from == DType::String {
        return Ok(false);
    }
    let saturate = site.int("saturate", 1) != 0;
    let y = site.node(round(to, saturate), &[x])?;
    site.replace(0, y)?;
    Ok(true)
}

/// Operators that give elements of their inputs too, but that the engine has on no carried type.
const EXTREMES: &[&str] = &[
    "GlobalMaxPool",
    "MaxPool",
    "ReduceMax",
    "ReduceMin",
    "ReverseSequence",
];

/// Computes in the carrying type and rounds each narrow float output.
fn arithmetic(site: &mut Site<'_>) -> Result<bool, EditError> {
    let name = site.operator.op_type.to_string();
    let outputs = site.output_count();
    let narrow_output = |site: &Site<'_>, index| {
        site.output_dtype(index)
            .is_some_and(|dtype| rounded(dtype) && dtype.is_float())
    };
    if !site.operator.domain().is_empty()
        || picks_elements(&name)
        || EXTREMES.contains(&&*name)
        || matches!(
            &*name,
            "Cast" | "CastLike" | "Constant" | "ConstantOfShape" | "QuantizeLinear" | "DequantizeLinear"
        )
        || site.operator.has_bodies()
        || !(0..outputs).any(|index| narrow_output(site, index))
    {
        return Ok(false);
    }
    let inputs = site.inputs().to_vec();
    let operator = site.with_attributes(Operator::new(name.as_str()), &[]);
    let made = site.nodes(operator, &inputs, outputs)?;
    // What comes out is not of the narrow type yet.
    for value in &made {
        site.forget_type(*value)?;
    }
    for (index, value) in made.into_iter().enumerate() {
        let value = match site.output_dtype(index) {
            Some(dtype) if rounded(dtype) && dtype.is_float() => site.node(round(dtype, true), &[value])?,
            _ => value,
        };
        site.replace(index, value)?;
    }
    Ok(true)
}
