//! Normalisation layers, recurrent layers and attention.

use secateur::ir::{AttributeValue, Tensor};

use super::{Case, Generator, Random, count};
use crate::autodiff::check::unsigned;

fn epsilon(r: &Random, case: Case) -> Case {
    if r.bool() {
        case.with("epsilon", r.pick(&[1e-3f32, 0.1]))
    } else {
        case
    }
}

pub(in crate::autodiff) const NORMALISATION: &[(&str, Generator)] = &[
    ("BatchNormalization", |r| {
        let rank = r.int(2, 4) as usize;
        let dims = r.dims(rank, 1, 3);
        let c = [dims[1]];
        let case = Case::new("BatchNormalization", r.pick(&[9, 14, 15])).random(r, &dims);
        let case = epsilon(r, case);
        case.random(r, &c)
            .random(r, &c)
            .random(r, &c)
            .within(r, &c, 0.3, 2.0)
    }),
    ("GroupNormalization", |r| {
        let opset = r.pick(&[18, 21]);
        let groups = r.int(1, 3);
        let channels = groups * r.int(1, 2);
        let dims = [&[r.int(1, 2), channels], r.dims(r.pick(&[1, 2]), 2, 3).as_slice()].concat();
        let c = [if opset == 18 { groups } else { channels }];
        let case = Case::new("GroupNormalization", opset)
            .random(r, &dims)
            .random(r, &c)
            .random(r, &c);
        epsilon(r, case.with("num_groups", groups))
    }),
    ("InstanceNormalization", |r| {
        let dims = [r.dims(2, 1, 3), r.dims(r.pick(&[1, 2]), 2, 3)].concat();
        let c = [dims[1]];
        let case = Case::new("InstanceNormalization", r.pick(&[9, 22]))
            .random(r, &dims)
            .random(r, &c)
            .random(r, &c);
        epsilon(r, case)
    }),
    ("LayerNormalization", |r| {
        trailing(r, "LayerNormalization", 17, true)
    }),
    ("RMSNormalization", |r| trailing(r, "RMSNormalization", 23, false)),
    ("LRN", |r| {
        let dims = [
            &[r.int(1, 2), r.int(1, 6)],
            r.dims(r.pick(&[1, 2]), 1, 2).as_slice(),
        ]
        .concat();
        let mut case = Case::new("LRN", r.pick(&[9, 13]))
            .random(r, &dims)
            .with("size", r.pick(&[1i64, 2, 3, 5]));
        if r.bool() {
            case = case
                .with("alpha", r.uniform(0.1, 0.5) as f32)
                .with("beta", r.uniform(0.4, 1.0) as f32);
        }
        if r.bool() {
            case.with("bias", r.uniform(0.8, 2.0) as f32)
        } else {
            case
        }
    }),
    ("LpNormalization", |r| {
        let rank = r.int(1, 3) as usize;
        let dims = r.dims(rank, 2, 3);
        let case = Case::new("LpNormalization", r.pick(&[9, 22])).random(r, &dims);
        let axis = r.int(-(rank as i64), rank as i64 - 1);
        let case = if r.bool() { case.with("axis", axis) } else { case };
        if r.bool() {
            case.with("p", r.int(1, 2))
        } else {
            case
        }
    }),
    ("MeanVarianceNormalization", |r| {
        let dims = r.dims(4, 2, 3);
        let case = Case::new("MeanVarianceNormalization", r.pick(&[9, 13])).random(r, &dims);
        match r.int(0, 2) {
            0 => case,
            1 => case.with("axes", vec![0i64, 1, 2, 3]),
            _ => case.with("axes", vec![1i64, 3]),
        }
    }),
];

fn trailing(r: &Random, operator: &str, opset: i64, bias: bool) -> Case {
    let rank = r.int(1, 3) as usize;
    let dims = r.dims(rank, 2, 4);
    let axis = r.int(0, rank as i64 - 1) as usize;
    let tail = dims[axis..].to_vec();
    let mut case = Case::new(operator, opset).random(r, &dims).random(r, &tail);
    if bias && r.bool() {
        case = case.random(r, &tail);
    }
    let written = if r.bool() {
        axis as i64
    } else {
        axis as i64 - rank as i64
    };
    if written != -1 || r.bool() {
        case = case.with("axis", written);
    }
    epsilon(r, case)
}

/// A recurrent layer with `gates` gates.
fn recurrent(r: &Random, operator: &str, gates: i64, defaults: usize) -> Case {
    let (length, batch, inputs, size) = (r.int(1, 3), r.int(1, 2), r.int(1, 3), r.int(1, 2));
    let opset = r.pick(&[9, 14, 22]);
    let direction = r.pick(&["forward", "forward", "reverse", "bidirectional"]);
    let directions = if direction == "bidirectional" { 2 } else { 1 };
    let batch_first = opset >= 14 && r.bool();
    let swap = |a: i64, b: i64, c: i64| if batch_first { [b, a, c] } else { [a, b, c] };
    let mut case = Case::new(operator, opset)
        .random(r, &swap(length, batch, inputs))
        .random(r, &[directions, gates * size, inputs])
        .random(r, &[directions, gates * size, size])
        .with("hidden_size", size);
    if direction != "forward" || r.bool() {
        case = case.with("direction", direction);
    }
    if batch_first {
        case = case.with("layout", 1i64);
    }
    case = if r.bool() {
        case.random(r, &[directions, 2 * gates * size])
    } else {
        case.none()
    };
    case = if r.int(0, 2) == 0 {
        let lengths: Vec<i32> = (0..batch).map(|_| r.int(1, length) as i32).collect();
        let lengths = Tensor::from_slice(&[batch as u64], &lengths).unwrap();
        if r.bool() {
            case.constant(lengths)
        } else {
            case.fed(lengths)
        }
    } else {
        case.none()
    };
    let states = if operator == "LSTM" { 2 } else { 1 };
    if r.bool() {
        for _ in 0..states {
            case = case.random(r, &swap(directions, batch, size));
        }
        if operator == "LSTM" && r.bool() {
            case = case.random(r, &[directions, 3 * size]);
        }
    }
    if operator == "GRU" && r.bool() {
        case = case.with("linear_before_reset", 1i64);
    }
    if operator == "LSTM" && r.int(0, 3) == 0 {
        case = case.with("input_forget", 1i64);
    }
    if r.int(0, 3) == 0 {
        case = case.with("clip", 0.8f32);
    }
    if r.int(0, 2) == 0 {
        let names: Vec<&str> = (0..directions as usize * defaults)
            .map(|_| {
                r.pick(&[
                    "Sigmoid",
                    "Tanh",
                    "Softsign",
                    "Softplus",
                    "HardSigmoid",
                    "Affine",
                    "ScaledTanh",
                    "Elu",
                ])
            })
            .collect();
        let parameters = vec![0.7f32; names.len()];
        let names = names
            .iter()
            .map(|name| (*name).to_owned().into_bytes().into())
            .collect();
        case = case.with("activations", AttributeValue::Strings(names));
        case = case
            .with("activation_alpha", parameters.clone())
            .with("activation_beta", parameters);
    }
    let outputs = if operator == "LSTM" { 3 } else { 2 };
    case.outputs(outputs, r.int(0, outputs as i64 - 1) as usize)
}

fn attention(r: &Random) -> Case {
    let (batch, kv_heads, groups) = (r.int(1, 2), r.int(1, 2), r.int(1, 2));
    let heads = kv_heads * groups;
    let (queries, keys, size, value_size) = (r.int(1, 3), r.int(1, 3), r.int(1, 3), r.int(1, 3));
    let three = r.bool();
    let dims = |heads: i64, length: i64, size: i64| match three {
        true => vec![batch, length, heads * size],
        false => vec![batch, heads, length, size],
    };
    let mut case = Case::new("Attention", r.pick(&[23, 24]))
        .random(r, &dims(heads, queries, size))
        .random(r, &dims(kv_heads, keys, size))
        .random(r, &dims(kv_heads, keys, value_size));
    if three {
        case = case.with("q_num_heads", heads).with("kv_num_heads", kv_heads);
    }
    let past = if r.int(0, 2) == 0 { r.int(1, 2) } else { 0 };
    let total = keys + past;
    let mask = r.pick(&[
        vec![queries, total],
        vec![1, 1, queries, total],
        vec![batch, heads, queries, total],
    ]);
    case = match r.int(0, 3) {
        0 => case.random(r, &mask),
        1 => {
            let flags: Vec<bool> = (0..count(&mask)).map(|_| r.int(0, 3) > 0).collect();
            case.constant(Tensor::from_bools(&unsigned(&mask), &flags).unwrap())
        }
        _ if past > 0 => case.none(),
        _ => case,
    };
    if past > 0 {
        case = case
            .random(r, &[batch, kv_heads, past, size])
            .random(r, &[batch, kv_heads, past, value_size]);
    }
    if r.bool() {
        case = case.with("is_causal", 1i64);
    }
    if r.bool() {
        case = case.with("scale", r.uniform(0.3, 1.0) as f32);
    }
    if r.int(0, 2) == 0 {
        case = case.with("softcap", r.uniform(0.5, 2.0) as f32);
    }
    // Without a past there is no present to speak of.
    let output = if past > 0 { r.pick(&[0, 0, 1, 2]) } else { 0 };
    case.outputs(if past > 0 { 3 } else { 1 }, output)
}

pub(in crate::autodiff) const WRITTEN_OUT: &[(&str, Generator)] = &[
    ("LSTM", |r| recurrent(r, "LSTM", 4, 3)),
    ("GRU", |r| recurrent(r, "GRU", 3, 2)),
    ("RNN", |r| recurrent(r, "RNN", 1, 1)),
    ("Attention", attention),
];
