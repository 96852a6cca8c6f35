//! Attention: softmax(cap(QKᵀ·scale) + mask)·V, with grouped heads, a past, causal order and windows.

use super::super::emit::Var;
use super::super::vjp::{Call, Grads};
use crate::ir::{DType, Dim, Operator, Shape};

/// `[B, S, heads·d]` as `[B, heads, S, d]`; four axes stay.
fn with_heads<'e>(c: &Call<'e>, x: Var<'e>, attribute: &str) -> Var<'e> {
    if x.rank() != 3 {
        return x;
    }
    let heads = c.int(attribute, 0);
    if heads < 1 {
        c.refuse("it has three axes and does not say how many heads");
        return x;
    }
    let size = x.fixed(2) / heads;
    x.reshape(&[x.dim(0), x.dim(1), Dim::Fixed(heads), Dim::Fixed(size)])
        .transpose(&[0, 2, 1, 3])
}

/// Each head `times` times in a row.
fn repeated<'e>(x: &Var<'e>, times: i64) -> Var<'e> {
    if times == 1 {
        return x.clone();
    }
    let heads = x.fixed(1);
    let mut wide: Shape = x.shape.clone();
    wide.insert(2, Dim::Fixed(times));
    let mut flat = x.shape.clone();
    if let Some(dim) = flat.get_mut(1) {
        *dim = Dim::Fixed(heads * times);
    }
    x.unsqueeze(&[2]).expand(&wide).reshape(&flat)
}

pub(in crate::autodiff) fn attention<'e>(c: &Call<'e>) -> Grads<'e> {
    let three = c.input(0).rank() == 3;
    let q = with_heads(c, c.input(0), "q_num_heads");
    let (new_key, new_value) = (
        with_heads(c, c.input(1), "kv_num_heads"),
        with_heads(c, c.input(2), "kv_num_heads"),
    );
    if q.rank() != 4 || new_key.rank() != 4 || new_value.rank() != 4 {
        return c.refuse("its operands have neither three nor four axes");
    }
    let with_past = |slot: usize, new: Var<'e>| match c.optional(slot) {
        Some(past) => c.e.concat(&[past.clone(), new.clone()], 2).unwrap_or(new),
        None => new,
    };
    let (present_key, present_value) = (with_past(4, new_key), with_past(5, new_value));
    let (heads, kv_heads) = (q.fixed(1), present_key.fixed(1));
    if kv_heads < 1 || heads % kv_heads != 0 {
        return c.refuse("its key heads do not divide its query heads");
    }
    let key = repeated(&present_key, heads / kv_heads);
    let value = repeated(&present_value, heads / kv_heads);
    let scale = c
        .operator
        .float("scale")
        .map_or_else(|| 1.0 / (q.fixed(3).max(1) as f64).sqrt(), f64::from);
    let raw = q.matmul(&key.transposed()) * scale;
    let softcap = c.float("softcap", 0.0);
    let capped = if softcap > 0.0 {
        (&raw / softcap).tanh() * softcap
    } else {
        raw.clone()
    };
    let (biased, allowed) = masked(c, &capped, &key, structure(c, &q, &present_key));
    let precision = match c
        .operator
        .int("softmax_precision")
        .and_then(|n| DType::from_onnx(n as i32))
    {
        Some(dtype) if dtype.is_float() => dtype,
        _ => q.dtype,
    };
    let weights = shares(c, &biased.cast(precision), allowed.as_ref()).cast(q.dtype);
    let mut y = weights.matmul(&value);
    if three {
        let merged = [y.dim(0), y.dim(2), Dim::Fixed(y.fixed(1) * y.fixed(3))];
        y = y.transpose(&[0, 2, 1, 3]).reshape(&merged);
    }
    let shown = match c.int("qk_matmul_output_mode", 0) {
        0 => Some(raw),
        1 => Some(capped),
        3 => Some(weights),
        // Masked scores are the constant -∞, which has no gradient.
        _ => Some(match &allowed {
            Some(allowed) => allowed
                .choose(&biased, &biased.number(f64::NEG_INFINITY))
                .shaped_like(&biased),
            None => biased,
        }),
    };
    vec![Some(y), Some(present_key), Some(present_value), shown]
}

/// The scores with the mask added, where it is one of numbers, and which of them count.
fn masked<'e>(
    c: &Call<'e>,
    scores: &Var<'e>,
    key: &Var<'e>,
    structure: Option<Var<'e>>,
) -> (Var<'e>, Option<Var<'e>>) {
    let Some(mask) = c.optional(3) else {
        return (scores.clone(), structure);
    };
    let mut mask = mask.clone();
    let and = |open: Var<'e>| match &structure {
        Some(structure) => structure.and(&open),
        None => open,
    };
    let last = mask.rank().saturating_sub(1);
    let missing = (!mask.dim(last).same(&key.dim(2))).then(|| key.fixed(2) - mask.fixed(last));
    if mask.dtype == DType::Bool {
        if let Some(missing) = missing {
            mask = mask
                .cast(DType::F32)
                .pad_axis(last, 0, missing)
                .above(0.5)
                .cast(DType::Bool);
        }
        return (scores.clone(), Some(and(mask)));
    }
    if let Some(missing) = missing {
        let mut after = vec![0; mask.rank()];
        if let Some(pad) = after.last_mut() {
            *pad = missing;
        }
        mask = mask.pad(&vec![0; mask.rank()], &after, f64::NEG_INFINITY);
    }
    let open = mask.greater(&mask.number(f64::from(f32::MIN)));
    let biased = scores.clone() + mask.cast(scores.dtype);
    (biased, Some(and(open)))
}

/// The weight of each key. Masked scores become a low number and their weights 0, so that a row without any key is 0 and not NaN.
fn shares<'e>(c: &Call<'e>, scores: &Var<'e>, allowed: Option<&Var<'e>>) -> Var<'e> {
    let softmax = |scores: &Var<'e>| {
        let shape = scores.shape.clone();
        let axis = if c.e.opset >= 13 {
            -1i64
        } else {
            scores.rank() as i64 - 1
        };
        c.e.one(
            Operator::new("Softmax").with("axis", axis),
            &[scores],
            scores.dtype,
            shape,
        )
    };
    match allowed {
        None => softmax(scores),
        Some(allowed) => {
            let low = scores.number(if scores.dtype == DType::F16 { -6e4 } else { -1e30 });
            let weights = softmax(&allowed.choose(scores, &low).shaped_like(scores));
            allowed.choose(&weights, &weights.number(0.0)).shaped_like(scores)
        }
    }
}

/// Which keys each query may attend to by causal order, windows and sequence lengths.
fn structure<'e>(c: &Call<'e>, q: &Var<'e>, key: &Var<'e>) -> Option<Var<'e>> {
    let causal = c.int("is_causal", 0) != 0;
    let (left, right) = (c.int("left_window_size", -1), c.int("right_window_size", -1));
    let lengths = c.optional(6).map(|lengths| {
        lengths
            .cast(DType::I64)
            .reshape(&[lengths.dim(0), Dim::Fixed(1), Dim::Fixed(1), Dim::Fixed(1)])
    });
    let mut allowed: Option<Var<'e>> = None;
    let mut restrict = |mask: Var<'e>| {
        allowed = Some(match allowed.take() {
            Some(known) => known.and(&mask),
            None => mask,
        });
    };
    if !causal && left < 0 && right < 0 && lengths.is_none() {
        return None;
    }
    let (queries, keys) = (q.fixed(2), key.fixed(2));
    let columns =
        c.e.ints(&(0..keys).collect::<Vec<_>>())
            .reshape(&[Dim::Fixed(1), Dim::Fixed(keys)]);
    if causal || left >= 0 || right >= 0 {
        let rows =
            c.e.ints(&(0..queries).collect::<Vec<_>>())
                .reshape(&[Dim::Fixed(queries), Dim::Fixed(1)]);
        // The place of the first query among the keys.
        let offset = match (c.optional(4), &lengths) {
            (Some(past), _) => c.e.ints(&[past.fixed(2)]),
            (None, Some(lengths)) => lengths - c.e.ints(&[queries]),
            (None, None) => c.e.ints(&[0]),
        };
        let places = rows + offset;
        if causal {
            restrict(columns.at_most(&places));
        }
        if left >= 0 {
            restrict((&columns + c.e.ints(&[left])).at_least(&places));
        }
        if right >= 0 {
            restrict(columns.at_most(&(&places + c.e.ints(&[right]))));
        }
    }
    if let Some(lengths) = &lengths {
        restrict(columns.less(lengths));
    }
    allowed
}
