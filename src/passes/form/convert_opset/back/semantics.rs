//! Adapters for operators that mean something else in the older version.

use super::super::obstacle::Obstacle;
use super::super::semantics;
use super::super::site::{Outcome, Site};
use super::images::is_plain_float;
use crate::ir::{DType, Operator, Tensor};

pub(super) use semantics::{
    attention_24, batch_normalization_14, conv_transpose_11, dropout_10, one_hot_11, scan_9,
};

/// Softmax, LogSoftmax and Hardmax worked on everything from `axis` on; that is one axis if it is the last.
pub(super) fn softmax_13(site: &mut Site<'_>) -> Outcome {
    let axis = site.int("axis")?.unwrap_or(-1);
    if axis == -1 {
        return site.set("axis", -1);
    }
    let rank = site.rank(0)?;
    let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis })
        .ok()
        .filter(|axis| *axis < rank)
        .ok_or("its axis is out of range")?;
    site.set("axis", -1)?;
    if axis + 1 == rank {
        return Ok(());
    }
    let mut order: Vec<i64> = (0..rank as i64).collect();
    order.swap(axis, rank - 1);
    let moved = site.derive(
        Operator::new("Transpose").with("perm", order.clone()),
        0,
        Vec::new(),
    )?;
    site.read(0, moved)?;
    site.append_with(Operator::new("Transpose").with("perm", order), Vec::new())
}

/// Indices counted from the front. Computed ones are taken for such, as every producer of the older version does.
pub(super) fn indices_from_the_front(site: &mut Site<'_>) -> Outcome {
    let Some(indices) = site.constant(1) else {
        return Ok(());
    };
    let Ok(values) = indices.to_i64() else {
        return Ok(());
    };
    if values.iter().all(|index| *index >= 0) {
        return Ok(());
    }
    let rank = site.rank(0)? as i64;
    let axis = site.int("axis")?.unwrap_or(0);
    let size = usize::try_from(if axis < 0 { axis + rank } else { axis })
        .ok()
        .and_then(|axis| site.input_type(0).shape()?.get(axis)?.fixed())
        .ok_or("it has negative indices, and the size of its axis is not known")?;
    let values: Vec<i64> = values
        .iter()
        .map(|index| if *index < 0 { index + size } else { *index })
        .collect();
    let tensor = match indices.dtype() {
        DType::I32 => {
            let narrow: Vec<i32> = values
                .iter()
                .map(|index| i32::try_from(*index).map_err(|error| Obstacle::from(error.to_string())))
                .collect::<Result<_, _>>()?;
            Tensor::from_slice(indices.dims(), &narrow)
        }
        _ => Tensor::from_slice(indices.dims(), &values),
    };
    site.set_input(1, tensor?)
}

/// There was no broadcasting.
pub(super) fn equal_shapes(site: &mut Site<'_>) -> Outcome {
    let first = site.input_type(0);
    let known = first
        .shape()
        .is_some_and(|shape| shape.iter().all(|dim| dim.is_known()));
    let equal = (1..site.inputs()).all(|slot| site.input_type(slot).shape() == first.shape());
    if site.inputs() < 2 || known && equal {
        return Ok(());
    }
    Err("its operands may be broadcast".into())
}

/// Broadcasting had to be said, and worked on the second operand only.
pub(super) fn broadcast_7(site: &mut Site<'_>) -> Outcome {
    let (a, b) = (site.input_type(0), site.input_type(1));
    let (Some(a), Some(b)) = (a.shape(), b.shape()) else {
        return Err("the shapes of its operands are not known".into());
    };
    let known = a.iter().chain(b.iter()).all(|dim| dim.is_known());
    if known && a == b {
        return Ok(());
    }
    let trailing = a.len().checked_sub(b.len()).and_then(|start| a.get(start..));
    if known && trailing.is_some_and(|trailing| trailing == &b[..]) {
        return site.set("broadcast", 1);
    }
    Err("its operands are broadcast in a way that is new".into())
}

/// A slope for the whole tensor, or for each element.
pub(super) fn prelu_7(site: &mut Site<'_>) -> Outcome {
    let (value, slope) = (site.input_type(0), site.input_type(1));
    let single = slope.fixed_shape().is_some_and(|shape| shape == [1]);
    if single || slope.fixed_shape().is_some() && slope.fixed_shape() == value.fixed_shape() {
        return Ok(());
    }
    Err("its slopes are broadcast in a way that is new".into())
}

/// Two reductions are new.
pub(super) fn reduction_18(site: &mut Site<'_>) -> Outcome {
    match site.text("reduction")?.as_deref().unwrap_or("none") {
        "none" | "add" | "mul" => Ok(()),
        other => Err(format!("its reduction, {other}, is new").into()),
    }
}

/// Had another name.
pub(super) fn scatter_elements_11(site: &mut Site<'_>) -> Outcome {
    site.become_operator("Scatter")
}

/// x * max(0, min(1, x / 6 + 1 / 2)).
pub(super) fn hard_swish_14(site: &mut Site<'_>) -> Outcome {
    if !site.dtype(0).is_ok_and(is_plain_float) {
        return Err("its type is new".into());
    }
    let gate = Operator::new("HardSigmoid")
        .with("alpha", 1.0f32 / 6.0)
        .with("beta", 0.5f32);
    let gate = site.derive(gate, 0, Vec::new())?;
    site.become_operator("Mul")?;
    site.read(1, gate)
}

/// Greater, or equal: false where an operand is not a number.
pub(super) fn greater_or_equal_12(site: &mut Site<'_>) -> Outcome {
    or_equal(site, "Greater")
}

/// Less, or equal.
pub(super) fn less_or_equal_12(site: &mut Site<'_>) -> Outcome {
    or_equal(site, "Less")
}

fn or_equal(site: &mut Site<'_>, strict: &str) -> Outcome {
    let strict = site.derive_pair(Operator::new(strict))?;
    let equal = site.derive_pair(Operator::new("Equal"))?;
    site.become_operator("Or")?;
    site.read(0, strict)?;
    site.read(1, equal)
}

/// The type had to be written.
pub(super) fn cast_like_15(site: &mut Site<'_>) -> Outcome {
    let dtype = site.dtype(1)?;
    site.clear_input(1)?;
    site.set("to", i64::from(dtype.onnx()))?;
    site.become_operator("Cast")
}
