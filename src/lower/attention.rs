//! Scaled dot-product attention (opset 23 on), by its definition.
//!
//! Q is [B, Hq, S, D], K and V are [B, Hkv, T, D]; inputs of rank 3 hold their heads side by side in the last axis. A key is out
//! of reach of a query by the mask, by causality, by the window or as padding; a query that reaches no key answers zeros.

use super::Rule;
use super::site::Site;
use crate::ir::{DType, EditError, Operator, ValueId};

pub(super) const RULES: &[Rule] = &[
    ("", "Attention", attention),
    ("com.microsoft", "MultiHeadAttention", multi_head),
];

fn attention(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(q), Some(k), Some(v)) = (site.input(0), site.input(1), site.input(2)) else {
        return Ok(false);
    };
    let (Some(dtype), Some(rank)) = (site.dtype(q), site.rank(q)) else {
        return Ok(false);
    };
    if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::F64) || site.dtype(v) != Some(dtype) {
        return Ok(false);
    }
    let flat = rank == 3;
    let mask = site.input(3);
    if mask.is_some_and(|mask| site.dtype(mask).is_none() || site.rank(mask).is_none()) {
        return Ok(false);
    }
    let (q, k, v) = if flat {
        let (Some(query_heads), Some(key_heads)) = (
            site.operator.int("q_num_heads"),
            site.operator.int("kv_num_heads"),
        ) else {
            return Ok(false);
        };
        (
            heads(site, q, query_heads)?,
            heads(site, k, key_heads)?,
            heads(site, v, key_heads)?,
        )
    } else {
        (q, k, v)
    };
    let past = site.input(4);
    let key = join_past(site, past, k)?;
    let past_value = site.input(5);
    let value = join_past(site, past_value, v)?;
    site.replace(1, key)?;
    site.replace(2, value)?;

    let (queries, keys) = (site.dim(q, 2)?, site.dim(key, 2)?);
    let (query_heads, batch) = (site.dim(q, 1)?, site.dim(q, 0)?);
    let shared_key = share(site, key, batch, query_heads)?;
    let shared_value = share(site, value, batch, query_heads)?;
    let scores = scores(site, q, shared_key, dtype)?;
    let capped = match site.float("softcap", 0.0) {
        cap if cap > 0.0 => {
            let cap = site.number(dtype, cap)?;
            let inner = site.op("Div", &[scores, cap])?;
            let tanh = site.op("Tanh", &[inner])?;
            site.op("Mul", &[tanh, cap])?
        }
        _ => scores,
    };
    let bias = bias(site, mask, queries, keys, dtype)?;
    let biased = match bias {
        Some(bias) => site.op("Add", &[capped, bias])?,
        None => capped,
    };
    let mut weights = softmax(site, biased, dtype)?;
    if let Some(bias) = bias {
        let (none, zero) = (site.number(dtype, f64::NEG_INFINITY)?, site.number(dtype, 0.0)?);
        let reached = site.op("Greater", &[bias, none])?;
        let flags = site.cast(reached, DType::I32)?;
        let any = site.reduce("ReduceMax", flags, &[-1], true)?;
        let any = site.cast(any, DType::Bool)?;
        weights = site.op("Where", &[any, weights, zero])?;
    }
    let matrix = match site.int("qk_matmul_output_mode", 0) {
        0 => scores,
        1 => capped,
        2 => biased,
        3 => weights,
        _ => return Ok(false),
    };
    site.replace(3, matrix)?;
    let mut y = site.op("MatMul", &[weights, shared_value])?;
    if flat {
        y = rows(site, y, -1)?;
    }
    site.replace(0, y)?;
    Ok(true)
}

/// ONNX Runtime's operator of query, key and value of rank 3, with a bias of the scores or without; other forms are left to the engine.
fn multi_head(site: &mut Site<'_>) -> Result<bool, EditError> {
    let (Some(q), Some(k), Some(v)) = (site.input(0), site.input(1), site.input(2)) else {
        return Ok(false);
    };
    let flat = [q, k, v].iter().all(|value| site.rank(*value) == Some(3));
    let others = [3, 4, 6, 7, 8, 9]
        .iter()
        .any(|index| site.input(*index).is_some());
    let read = (1..site.output_count()).any(|output| site.is_read(output));
    let count = site.int("num_heads", 0);
    let causal = site.int("unidirectional", 0) != 0;
    if !flat || others || read || causal || count < 1 || site.dtype(q) != Some(DType::F32) {
        return Ok(false);
    }
    // Sizes that are inferred beside an empty sequence are refused.
    let width = |value: ValueId| site.shape(value).and_then(|shape| shape.last()?.fixed());
    let (Some(query_width), Some(value_width)) = (width(q), width(v)) else {
        return Ok(false);
    };
    let (size, value_size) = (query_width / count, value_width / count);
    let q = heads_of(site, q, count, size)?;
    let k = heads_of(site, k, count, size)?;
    let v = heads_of(site, v, count, value_size)?;
    let mut scores = scores(site, q, k, DType::F32)?;
    if let Some(bias) = site.input(5) {
        scores = site.op("Add", &[scores, bias])?;
    }
    let weights = softmax(site, scores, DType::F32)?;
    let y = site.op("MatMul", &[weights, v])?;
    let y = rows(site, y, value_width)?;
    site.replace(0, y)?;
    Ok(true)
}

/// [B, H, S, D] -> [B, S, H * D]; the width may be -1.
fn rows(site: &mut Site<'_>, x: ValueId, width: i64) -> Result<ValueId, EditError> {
    let turned = site.node(Operator::new("Transpose").with("perm", vec![0, 2, 1, 3]), &[x])?;
    let shape = site.ints(&[0, 0, width]);
    site.op("Reshape", &[turned, shape])
}

/// [B, S, H * D] -> [B, H, S, D].
fn heads(site: &mut Site<'_>, x: ValueId, count: i64) -> Result<ValueId, EditError> {
    heads_of(site, x, count, -1)
}

/// The same with heads of this size; -1 infers it.
fn heads_of(site: &mut Site<'_>, x: ValueId, count: i64, size: i64) -> Result<ValueId, EditError> {
    let shape = site.ints(&[0, 0, count, size]);
    let split = site.op("Reshape", &[x, shape])?;
    site.node(
        Operator::new("Transpose").with("perm", vec![0, 2, 1, 3]),
        &[split],
    )
}

fn join_past(site: &mut Site<'_>, past: Option<ValueId>, now: ValueId) -> Result<ValueId, EditError> {
    match past {
        Some(past) => site.node(Operator::new("Concat").with("axis", 2), &[past, now]),
        None => Ok(now),
    }
}

/// Each head of keys or values repeated for the queries that share it: [B, Hkv, T, D] -> [B, Hq, T, D].
fn share(
    site: &mut Site<'_>,
    x: ValueId,
    batch: ValueId,
    query_heads: ValueId,
) -> Result<ValueId, EditError> {
    let (own, length, size) = (site.dim(x, 1)?, site.dim(x, 2)?, site.dim(x, 3)?);
    let times = site.op("Div", &[query_heads, own])?;
    let apart = site.fold_axes("Unsqueeze", x, &[2])?;
    let wide = site.join(&[batch, own, times, length, size])?;
    let repeated = site.op("Expand", &[apart, wide])?;
    let shape = site.join(&[batch, query_heads, length, size])?;
    site.op("Reshape", &[repeated, shape])
}

/// Q K^T, each side scaled by the root of the scale.
fn scores(site: &mut Site<'_>, q: ValueId, k: ValueId, dtype: DType) -> Result<ValueId, EditError> {
    let root = match site.operator.float("scale").filter(|scale| *scale != 0.0) {
        Some(scale) => site.number(dtype, f64::from(scale).sqrt())?,
        None => {
            let size = site.dim(q, 3)?;
            let size = site.cast(size, DType::F32)?;
            let (one, root) = (site.number(DType::F32, 1.0)?, site.op("Sqrt", &[size])?);
            let scale = site.op("Div", &[one, root])?;
            let root = site.op("Sqrt", &[scale])?;
            if dtype == DType::F32 {
                root
            } else {
                site.cast(root, dtype)?
            }
        }
    };
    let turned = site.node(Operator::new("Transpose").with("perm", vec![0, 1, 3, 2]), &[k])?;
    let (q, k) = (site.op("Mul", &[q, root])?, site.op("Mul", &[turned, root])?);
    site.op("MatMul", &[q, k])
}

/// Softmax over the keys, in the precision that the operator asks for.
fn softmax(site: &mut Site<'_>, x: ValueId, dtype: DType) -> Result<ValueId, EditError> {
    let precision = i32::try_from(site.int("softmax_precision", 0))
        .ok()
        .and_then(DType::from_onnx);
    let operator = Operator::new("Softmax").with("axis", -1);
    match precision
        .filter(|precision| *precision != dtype && matches!(precision, DType::F32 | DType::F64 | DType::F16))
    {
        Some(precision) => {
            let wide = site.cast(x, precision)?;
            let y = site.node(operator, &[wide])?;
            site.cast(y, dtype)
        }
        None => site.node(operator, &[x]),
    }
}

/// 0 or the float mask where a query reaches a key, minus infinity elsewhere; `None` if every query reaches every key.
fn bias(
    site: &mut Site<'_>,
    mask: Option<ValueId>,
    queries: ValueId,
    keys: ValueId,
    dtype: DType,
) -> Result<Option<ValueId>, EditError> {
    let (zero, none) = (site.number(dtype, 0.0)?, site.number(dtype, f64::NEG_INFINITY)?);
    let mut bias = None;
    if let Some(mask) = mask {
        let additive = if site.dtype(mask) == Some(DType::Bool) {
            site.op("Where", &[mask, zero, none])?
        } else {
            mask
        };
        bias = Some(pad(site, additive, keys, none)?);
    }
    let Some(reach) = reach(site, queries, keys)? else {
        return Ok(bias);
    };
    let held = bias.unwrap_or(zero);
    site.op("Where", &[reach, held, none]).map(Some)
}

/// A mask that is shorter than the keys masks the rest.
fn pad(site: &mut Site<'_>, mask: ValueId, keys: ValueId, none: ValueId) -> Result<ValueId, EditError> {
    let Some(rank) = site.rank(mask) else {
        return Ok(mask);
    };
    let length = site.dim(mask, -1)?;
    // A mask of one column is broadcast, not padded, unless there is but one key.
    let one = site.ints(&[1]);
    let broadcast = site.op("Equal", &[length, one])?;
    let missing = site.op("Sub", &[keys, length])?;
    let nothing = site.ints(&[0]);
    let missing = site.op("Where", &[broadcast, nothing, missing])?;
    let before = site.ints(&vec![0; 2 * rank - 1]);
    let pads = site.join(&[before, missing])?;
    site.op("Pad", &[mask, pads, none])
}

/// Which keys a query reaches by its place, [B or 1, 1, S, T] or [S, T].
fn reach(site: &mut Site<'_>, queries: ValueId, keys: ValueId) -> Result<Option<ValueId>, EditError> {
    let causal = site.int("is_causal", 0) != 0;
    let (left, right) = (
        site.int("left_window_size", -1),
        site.int("right_window_size", -1),
    );
    let filled = site.input(6);
    let rows = range(site, queries)?;
    let columns = range(site, keys)?;
    let row = site.fold_axes("Unsqueeze", rows, &[1])?;
    // The place of the first query among the keys: after the past, or so that the last query is at the last key in use.
    let place = match (filled, site.input(4)) {
        (Some(filled), _) => {
            let first = site.op("Sub", &[filled, queries])?;
            let first = site.fold_axes("Unsqueeze", first, &[1, 2, 3])?;
            site.op("Add", &[row, first])?
        }
        (None, Some(past)) => {
            let past = site.dim(past, 2)?;
            site.op("Add", &[row, past])?
        }
        (None, None) => row,
    };
    let mut tests = Vec::new();
    if causal {
        let beyond = site.op("Less", &[place, columns])?;
        tests.push(site.op("Not", &[beyond])?);
    }
    if left >= 0 {
        let left = site.number(DType::I64, left as f64)?;
        let distance = site.op("Sub", &[place, columns])?;
        let beyond = site.op("Less", &[left, distance])?;
        tests.push(site.op("Not", &[beyond])?);
    }
    if right >= 0 {
        let right = site.number(DType::I64, right as f64)?;
        let distance = site.op("Sub", &[columns, place])?;
        let beyond = site.op("Less", &[right, distance])?;
        tests.push(site.op("Not", &[beyond])?);
    }
    if let Some(filled) = filled {
        let count = site.fold_axes("Unsqueeze", filled, &[1, 2, 3])?;
        tests.push(site.op("Less", &[columns, count])?);
    }
    let mut tests = tests.into_iter();
    let Some(mut reach) = tests.next() else {
        return Ok(None);
    };
    for test in tests {
        reach = site.op("And", &[reach, test])?;
    }
    Ok(Some(reach))
}

/// 0, 1, ... below the one element of `count`.
fn range(site: &mut Site<'_>, count: ValueId) -> Result<ValueId, EditError> {
    let limit = site.fold_axes("Squeeze", count, &[0])?;
    let (start, step) = (site.number(DType::I64, 0.0)?, site.number(DType::I64, 1.0)?);
    site.op("Range", &[start, limit, step])
}
