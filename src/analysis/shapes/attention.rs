//! Attention and what goes with it.

use super::super::call::{Call, Facts, Rule};
use super::elementwise::same_shape;
use crate::ir::Dim;

pub(super) const RULES: &[(&str, Rule)] = &[
    ("Attention", attention),
    ("LinearAttention", linear),
    ("RotaryEmbedding", same_shape),
];

/// Batch, heads, length and head size of `[N, heads, L, size]` or `[N, L, heads * size]`.
fn heads(call: &Call<'_>, input: usize, count: Option<i64>) -> Option<[Dim; 4]> {
    match call.shape(input)?.as_slice() {
        [n, heads, length, size] => Some([n.clone(), heads.clone(), length.clone(), size.clone()]),
        [n, length, width] => {
            let heads = count.filter(|count| *count > 0).map_or(Dim::Unknown, Dim::Fixed);
            let size = width.exact_div(&heads).unwrap_or_else(|| width.floor_div(&heads));
            Some([n.clone(), heads, length.clone(), size])
        }
        _ => None,
    }
}

fn attention(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let packed = call.rank(0)? == 3;
    let [n, q_heads, q_length, _] = heads(call, 0, call.int("q_num_heads"))?;
    let value = heads(call, 2, call.int("kv_num_heads"));
    let value_size = value.as_ref().map_or(Dim::Unknown, |[.., size]| size.clone());
    if packed {
        facts.shape(0, [n.clone(), q_length.clone(), q_heads.mul(&value_size)]);
    } else {
        facts.shape(
            0,
            [n.clone(), q_heads.clone(), q_length.clone(), value_size.clone()],
        );
    }
    let [_, kv_heads, kv_length, key_size] = heads(call, 1, call.int("kv_num_heads"))?;
    let past = if call.has(4) {
        call.dim(4, 2)
    } else {
        Dim::Fixed(0)
    };
    let total = past.add(&kv_length);
    facts.shape(1, [n.clone(), kv_heads.clone(), total.clone(), key_size]);
    facts.shape(2, [n.clone(), kv_heads, total.clone(), value_size]);
    facts.shape(3, [n, q_heads, q_length, total]);
    Some(())
}

/// Output `[N, T, heads * d_v]`, state `[N, heads, d_k, d_v]`.
fn linear(call: &Call<'_>, facts: &mut Facts) -> Option<()> {
    let (q_heads, kv_heads) = (call.int("q_num_heads")?, call.int("kv_num_heads")?);
    let per_head = |input: usize| call.dim(input, 2).floor_div(&Dim::Fixed(kv_heads));
    let value = per_head(2);
    facts.shape(
        0,
        [call.dim(0, 0), call.dim(0, 1), value.mul(&Dim::Fixed(q_heads))],
    );
    facts.shape(1, [call.dim(0, 0), Dim::Fixed(kv_heads), per_head(1), value]);
    if call.has(3) {
        facts.dtype(1, call.dtype(3));
    } else {
        facts.dtype(1, call.dtype(0));
    }
    Some(())
}
