//! The axis solver and the pass `prune-channels`: small graphs in ONNX text, one or more an operator family; random choices over
//! `fixtures/` and the corpus. Every cut model is compared with the masked original in tract.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use regex::RegexSet;
use secateur::analysis::{cost, infer};
use secateur::axes::rewrite::masked::masked;
use secateur::axes::rewrite::remove;
use secateur::axes::{Solution, solve};
use secateur::engine::TractEngine;
use secateur::fold::TractEvaluator;
use secateur::format::text::parse_model;
use secateur::format::{ExternalFiles, ReadOptions, lift, read_proto};
use secateur::ir::{Model, NodeKind, Tensor, ValueId};
use secateur::passes::prune::channels::{
    AttentionUnits, Criterion, Measured, OracleVerdict, PruneChannels, Pruned, Scope, explain, oracle, plan,
    prune,
};
use secateur::passes::{Context, EliminateDeadCode, FoldConstants, InlineFunctions, Limits, Pass};

use super::corpus;

/// Inlined, folded and inferred: the form that the solver asks for.
fn normalise(model: &mut Model) {
    let context = Context {
        evaluator: &TractEvaluator,
        limits: Limits {
            max_growth: 1.0,
            ..Limits::default()
        },
        keep: RegexSet::empty(),
        seed: 0,
        base: PathBuf::new(),
        progress: &|_, _, _| {},
        resources: None,
    };
    infer(model);
    InlineFunctions::default().run(model, &context).unwrap();
    infer(model);
    for _ in 0..8 {
        let changed = FoldConstants::default().run(model, &context).unwrap().changed;
        EliminateDeadCode::default().run(model, &context).unwrap();
        infer(model);
        if !changed {
            break;
        }
    }
}

/// A model in ONNX text, every declared initializer without elements filled with seeded numbers.
fn model(text: &str) -> Model {
    let text = format!("<ir_version: 10, opset_import: [\"\" : 21, \"com.microsoft\" : 1]>\n{text}");
    let mut proto = parse_model(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let graph = proto.graph.as_mut().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    // Inputs whose names begin with a capital are weights.
    let weights: Vec<_> = graph
        .input
        .extract_if(.., |input| input.name().starts_with(char::is_uppercase))
        .collect();
    for weight in weights {
        use secateur::proto::{
            TensorProto, tensor_shape_proto::dimension::Value as DimValue, type_proto::Value,
        };
        let Some(Value::TensorType(ty)) = weight.r#type.as_ref().and_then(|ty| ty.value.as_ref()) else {
            panic!()
        };
        let dims: Vec<i64> = ty
            .shape
            .as_ref()
            .unwrap()
            .dim
            .iter()
            .map(|dim| match dim.value {
                Some(DimValue::DimValue(size)) => size,
                _ => panic!("{} has a symbol", weight.name()),
            })
            .collect();
        let count = dims.iter().product::<i64>();
        // Variances must be positive.
        let low = if weight.name().starts_with("Var") {
            0.5
        } else {
            -1.0
        };
        let unit = |rng: &mut ChaCha8Rng| (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut tensor = TensorProto {
            name: weight.name.clone(),
            dims,
            data_type: ty.elem_type,
            ..TensorProto::default()
        };
        match ty.elem_type() {
            1 => {
                tensor.float_data = (0..count)
                    .map(|_| (low + (1.0 - low) * unit(&mut rng)) as f32)
                    .collect()
            }
            2 | 3 => tensor.int32_data = (0..count).map(|_| (unit(&mut rng) * 100.0) as i32).collect(),
            other => panic!("weights of type {other}"),
        }
        graph.initializer.push(tensor);
    }
    let mut model = lift(proto, &ExternalFiles::default()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    normalise(&mut model);
    model
}

/// Sizes of the units of every group that can be cut, by the first weight, and the reasons that pin weights.
struct Found {
    solution: Solution,
    model: Model,
}

impl Found {
    fn of(text: &str) -> Self {
        let model = model(text);
        Self {
            solution: solve(&model),
            model,
        }
    }

    /// `weight.axis` -> number of units that cut it and elements that each takes, for groups that are not pinned.
    fn units(&self) -> Vec<(String, usize, u32)> {
        let mut found = Vec::new();
        for group in self.solution.groups().iter().filter(|group| group.pin.is_none()) {
            for member in &group.members {
                found.push((
                    format!("{}.{}", member.name, member.axis),
                    group.units.len(),
                    member.per_unit,
                ));
            }
        }
        found.sort();
        found
    }

    fn pins(&self, weight: &str, axis: usize) -> String {
        let group = self.solution.groups().iter().find(|group| {
            group.pin.is_some()
                && group
                    .members
                    .iter()
                    .any(|member| member.name == weight && member.axis == axis)
        });
        group
            .and_then(|group| group.pin.as_ref())
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// Whether integer operators quantize sums anew. Masking does not reach their zero points everywhere, so the oracle may refuse a
    /// cut there; the pass then writes nothing.
    fn requantizes(&self) -> bool {
        self.model.graph.node_ids().any(|id| {
            let operator = self.model.graph.operator(id);
            operator.is_some_and(|operator| {
                operator.op_type.starts_with("QLinear") || operator.op_type.starts_with("QGemm")
            })
        })
    }

    /// Removes every unit that can go by itself, and random choices of several; each must pass the oracle.
    fn fuzz(&self, rounds: u64, label: &str) -> usize {
        let mut checked = 0;
        let units: Vec<(usize, usize)> = self
            .solution
            .groups()
            .iter()
            .enumerate()
            .filter(|(_, group)| group.pin.is_none())
            .flat_map(|(at, group)| (0..group.units.len()).map(move |unit| (at, unit)))
            .collect();
        for round in 0..rounds {
            let mut rng = ChaCha8Rng::seed_from_u64(round);
            let share = 1 + rng.next_u64() % 6;
            let chosen: Vec<(usize, usize)> = units
                .iter()
                .copied()
                .filter(|_| rng.next_u64() % 8 < share)
                .collect();
            let removal = self.solution.removal(chosen.iter().copied()).unwrap();
            if self
                .solution
                .check_not_empty(&self.model.graph, &removal)
                .is_err()
            {
                continue;
            }
            let cut = remove(&self.model, &self.solution, &removal)
                .unwrap_or_else(|error| panic!("{label}, round {round}: {error}"));
            let report = oracle(&self.model, &cut, &self.solution, &removal, &TractEngine, round);
            assert!(
                report.verdict != OracleVerdict::Different || self.requantizes(),
                "{label}, round {round}: {report:?}"
            );
            checked += usize::from(report.verdict == OracleVerdict::Equal && !chosen.is_empty());
        }
        checked
    }
}

/// Expects exactly these groups of `weight.axis: units x elements`, and 12 random choices that pass the oracle.
#[track_caller]
fn check(text: &str, expected: &[(&str, usize, u32)]) {
    let found = Found::of(text);
    let expected: Vec<(String, usize, u32)> = expected
        .iter()
        .map(|(name, n, k)| ((*name).to_owned(), *n, *k))
        .collect();
    let pins: Vec<String> = found
        .solution
        .groups()
        .iter()
        .filter_map(|group| group.pin.as_ref())
        .map(ToString::to_string)
        .collect();
    assert_eq!(found.units(), expected, "pins: {pins:#?}");
    if !expected.is_empty() {
        assert!(found.fuzz(12, text) > 0, "no choice was checked: {text}");
    }
}

#[test]
fn plain_convolutions_cut_rows_biases_and_columns() {
    check(
        "g (float[1, 3, 8, 8] x, float[6, 3, 3, 3] W, float[6] B, float[2, 6, 1, 1] V) => (float[1, 2, 6, 6] y) {
            c = Conv (x, W, B)
            r = Relu (c)
            y = Conv (r, V)
        }",
        &[("B.0", 6, 1), ("V.1", 6, 1), ("W.0", 6, 1)],
    );
}

#[test]
fn depthwise_convolutions_follow_their_data() {
    check(
        "g (float[1, 3, 8, 8] x, float[6, 3, 1, 1] W, float[12, 1, 3, 3] D, float[12] B, float[2, 12, 1, 1] V) => (float[1, 2, 6, 6] y) {
            c = Conv (x, W)
            d = Conv <group = 6> (c, D, B)
            y = Conv (d, V)
        }",
        // Either a channel with both of its results, or the same result of every channel.
        &[("B.0", 2, 6), ("B.0", 6, 2), ("D.0", 2, 6), ("D.0", 6, 2), ("V.1", 2, 6), ("V.1", 6, 2), ("W.0", 6, 1)],
    );
}

#[test]
fn grouped_convolutions_lose_groups_or_a_channel_of_each() {
    check(
        "g (float[1, 3, 8, 8] x, float[6, 3, 1, 1] W, float[9, 2, 3, 3] D, float[2, 9, 1, 1] V) => (float[1, 2, 6, 6] y) {
            c = Conv (x, W)
            d = Conv <group = 3> (c, D)
            y = Conv (d, V)
        }",
        &[
            ("D.0", 3, 3),
            ("D.0", 3, 3),
            ("D.1", 2, 1),
            ("V.1", 3, 3),
            ("V.1", 3, 3),
            ("W.0", 2, 3),
            ("W.0", 3, 2),
        ],
    );
}

#[test]
fn transposed_convolutions() {
    check(
        "g (float[1, 3, 4, 4] x, float[6, 3, 1, 1] W, float[6, 5, 2, 2] T, float[5] B, float[2, 5, 1, 1] V) => (float[1, 2, 5, 5] y) {
            c = Conv (x, W)
            t = ConvTranspose (c, T, B)
            y = Conv (t, V)
        }",
        &[("B.0", 5, 1), ("T.0", 6, 1), ("T.1", 5, 1), ("V.1", 5, 1), ("W.0", 6, 1)],
    );
    check(
        "g (float[1, 3, 4, 4] x, float[6, 3, 1, 1] W, float[6, 1, 2, 2] T, float[2, 6, 1, 1] V) => (float[1, 2, 5, 5] y) {
            c = Conv (x, W)
            t = ConvTranspose <group = 6> (c, T)
            y = Conv (t, V)
        }",
        &[("T.0", 6, 1), ("V.1", 6, 1), ("W.0", 6, 1)],
    );
}

#[test]
fn norms_pools_and_squeeze_excite_follow_the_channel() {
    check(
        "g (float[1, 3, 8, 8] x, float[4, 3, 3, 3] W, float[4] S, float[4] B, float[4] M, float[4] Var, float[3, 4, 1, 1] F, float[4, 3, 1, 1] H, float[2, 4, 1, 1] V) => (float[1, 2, 3, 3] y) {
            c = Conv (x, W)
            n = BatchNormalization (c, S, B, M, Var)
            r = Relu (n)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
            a = GlobalAveragePool (p)
            f = Conv (a, F)
            fr = Relu (f)
            h = Conv (fr, H)
            s = Sigmoid (h)
            g = Mul (p, s)
            i = InstanceNormalization (g, S, B)
            y = Conv (i, V)
        }",
        &[
            ("B.0", 4, 1),
            ("F.0", 3, 1),
            ("F.1", 4, 1),
            ("H.0", 4, 1),
            ("H.1", 3, 1),
            ("M.0", 4, 1),
            ("S.0", 4, 1),
            ("V.1", 4, 1),
            ("Var.0", 4, 1),
            ("W.0", 4, 1),
        ],
    );
}

#[test]
fn group_normalisation_loses_whole_groups() {
    check(
        "g (float[1, 3, 4, 4] x, float[6, 3, 1, 1] W, float[6] S, float[6] B, float[2, 6, 1, 1] V) => (float[1, 2, 4, 4] y) {
            c = Conv (x, W)
            n = GroupNormalization <num_groups = 3> (c, S, B)
            y = Conv (n, V)
        }",
        &[("B.0", 3, 2), ("S.0", 3, 2), ("V.1", 3, 2), ("W.0", 3, 2)],
    );
}

#[test]
fn residual_branches_and_tied_weights_go_together() {
    check(
        "g (float[1, 4] x, float[4, 6] W, float[6, 6] T, float[6, 2] V) => (float[1, 2] y) {
            a = MatMul (x, W)
            b = MatMul (a, T)
            c = Relu (b)
            d = MatMul (c, T)
            e = Add (a, d)
            y = MatMul (e, V)
        }",
        &[("T.0", 6, 1), ("T.1", 6, 1), ("V.0", 6, 1), ("W.1", 6, 1)],
    );
}

#[test]
fn gemm_and_einsum() {
    check(
        "g (float[2, 4] x, float[6, 4] W, float[6] B, float[6, 3] V, float[3, 2] U) => (float[2, 2] y) {
            a = Gemm <transB = 1> (x, W, B)
            r = Relu (a)
            b = Einsum <equation = \"bi,io->bo\"> (r, V)
            y = Gemm (b, U)
        }",
        &[
            ("B.0", 6, 1),
            ("U.0", 3, 1),
            ("V.0", 6, 1),
            ("V.1", 3, 1),
            ("W.0", 6, 1),
        ],
    );
}

#[test]
fn attention_loses_heads_or_dimensions_of_every_head() {
    check(
        "g (float[1, 5, 4] x, float[4, 6] Q, float[4, 6] K, float[4, 6] V, float[6] B, float[6, 3] O) => (float[1, 5, 3] y)
        <int64[4] s = {0, 0, 2, 3}, int64[3] t = {0, 0, 6}> {
            q0 = MatMul (x, Q)
            q1 = Add (q0, B)
            q2 = Reshape (q1, s)
            q = Transpose <perm = [0, 2, 1, 3]> (q2)
            k0 = MatMul (x, K)
            k1 = Reshape (k0, s)
            k = Transpose <perm = [0, 2, 3, 1]> (k1)
            v0 = MatMul (x, V)
            v1 = Reshape (v0, s)
            v = Transpose <perm = [0, 2, 1, 3]> (v1)
            w0 = MatMul (q, k)
            w = Softmax (w0)
            a0 = MatMul (w, v)
            a1 = Transpose <perm = [0, 2, 1, 3]> (a0)
            a = Reshape (a1, t)
            y = MatMul (a, O)
        }",
        &[
            ("B.0", 2, 3),
            ("B.0", 3, 2),
            ("K.1", 2, 3),
            ("K.1", 3, 2),
            ("O.0", 2, 3),
            ("O.0", 3, 2),
            ("Q.1", 2, 3),
            ("Q.1", 3, 2),
            ("V.1", 2, 3),
            ("V.1", 3, 2),
        ],
    );
}

#[test]
fn layer_normalisation_in_both_forms_is_taken_over_what_stays() {
    check(
        "g (float[2, 4] x, float[4, 6] W, float[6] S, float[6] B, float[6, 2] V) => (float[2, 2] y) {
            a = MatMul (x, W)
            n = LayerNormalization (a, S, B)
            m = LayerNormalization (n, S, B)
            y = MatMul (m, V)
        }",
        &[("B.0", 6, 1), ("S.0", 6, 1), ("V.0", 6, 1), ("W.1", 6, 1)],
    );
    check(
        "g (float[2, 4] x, float[4, 6] W, float[6] S, float[6, 2] V) => (float[2, 2] y)
        <int64[1] last = {-1}, float two = {2.0}, float e = {0.001}> {
            a = MatMul (x, W)
            m = ReduceMean (a, last)
            c = Sub (a, m)
            q = Pow (c, two)
            v = ReduceMean (q, last)
            ve = Add (v, e)
            d = Sqrt (ve)
            n = Div (c, d)
            s = Mul (n, S)
            y = MatMul (s, V)
        }",
        &[("S.0", 6, 1), ("V.0", 6, 1), ("W.1", 6, 1)],
    );
}

#[test]
fn concat_split_slice_and_gather_map_elements() {
    check(
        "g (float[1, 4] x, float[4, 4] W, float[4, 6] U, float[10, 3] V, float[4, 3] T, float[2, 3] R) => (float[1, 3] y)
        <int64[2] sizes = {4, 6}, int64[1] one = {1}, int64[1] from = {2}, int64[1] to = {6}, int64[2] pick = {5, 1}> {
            a = MatMul (x, W)
            b = MatMul (x, U)
            c = Concat <axis = 1> (a, b)
            r = Relu (c)
            y0 = MatMul (r, V)
            p, q = Split <axis = 1> (r, sizes)
            s = Slice (q, from, to, one)
            y1 = MatMul (s, T)
            g = Gather <axis = 1> (q, pick)
            y2 = MatMul (g, R)
            y = Sum (y0, y1, y2)
        }",
        &[
            ("R.0", 1, 1),
            ("R.0", 1, 1),
            ("T.0", 1, 1),
            ("T.0", 3, 1),
            ("U.1", 1, 1),
            ("U.1", 1, 1),
            ("U.1", 1, 1),
            ("U.1", 3, 1),
            ("V.0", 1, 1),
            ("V.0", 1, 1),
            ("V.0", 1, 1),
            ("V.0", 3, 1),
            ("V.0", 4, 1),
            ("W.1", 4, 1),
        ],
    );
}

#[test]
fn flatten_gives_each_channel_its_pixels_and_shuffles_tie_halves() {
    check(
        "g (float[1, 3, 4, 4] x, float[5, 3, 3, 3] W, float[20, 2] V) => (float[1, 2] y) {
            c = Conv (x, W)
            f = Flatten (c)
            y = MatMul (f, V)
        }",
        &[("V.0", 5, 4), ("W.0", 5, 1)],
    );
    let shuffle = Found::of(
        "g (float[1, 3, 2, 2] x, float[6, 3, 1, 1] W, float[2, 6, 1, 1] V) => (float[1, 2, 2, 2] y)
        <int64[5] s = {1, 2, 3, 2, 2}, int64[4] t = {1, 6, 2, 2}> {
            c = Conv (x, W)
            a = Reshape (c, s)
            b = Transpose <perm = [0, 2, 1, 3, 4]> (a)
            d = Reshape (b, t)
            y = Conv (d, V)
        }",
    );
    assert_eq!(
        shuffle.units(),
        [
            ("V.1".to_owned(), 2, 3),
            ("V.1".to_owned(), 3, 2),
            ("W.0".to_owned(), 2, 3),
            ("W.0".to_owned(), 3, 2)
        ]
    );
    assert!(shuffle.fuzz(12, "shuffle") > 0);
}

#[test]
fn expand_tile_squeeze_and_symbolic_targets() {
    check(
        "g (float[N, 4] x, float[4, 6] W, float[1, 6] C, float[12, 2] V) => (float[N, 2] y)
        <int64[1] zero = {0}, int64[1] one = {1}, int64[2] twice = {1, 2}, int64[1] six = {6}> {
            a = MatMul (x, W)
            n = Shape <start = 0, end = 1> (x)
            target = Concat <axis = 0> (n, six)
            e = Expand (C, target)
            s = Add (a, e)
            u = Unsqueeze (s, one)
            q = Squeeze (u, one)
            t = Tile (q, twice)
            y = MatMul (t, V)
        }",
        &[("C.1", 6, 1), ("V.0", 6, 2), ("W.1", 6, 1)],
    );
}

#[test]
fn pixel_shuffles_pads_and_resizes() {
    for mode in ["DCR", "CRD"] {
        check(
            &format!(
                "g (float[1, 3, 4, 4] x, float[12, 3, 1, 1] W, float[2, 3, 1, 1] V) => (float[1, 2, 20, 20] y)
                <int64[8] pads = {{0, 0, 1, 1, 0, 0, 1, 1}}, int64[4] sizes = {{1, 3, 20, 20}}> {{
                    c = Conv (x, W)
                    d = DepthToSpace <blocksize = 2, mode = \"{mode}\"> (c)
                    p = Pad (d, pads)
                    r = Resize <mode = \"nearest\"> (p, , , sizes)
                    y = Conv (r, V)
                }}"
            ),
            &[("V.1", 3, 1), ("W.0", 3, 4)],
        );
    }
    check(
        "g (float[1, 3, 4, 4] x, float[3, 3, 1, 1] W, float[2, 12, 1, 1] V) => (float[1, 2, 2, 2] y) {
            c = Conv (x, W)
            d = SpaceToDepth <blocksize = 2> (c)
            y = Conv (d, V)
        }",
        &[("V.1", 3, 4), ("W.0", 3, 1)],
    );
}

#[test]
fn recurrent_layers_cut_every_gate() {
    for (op, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        let rows = 5 * gates;
        check(
            &format!(
                "g (float[3, 1, 4] x, float[4, 6] E, float[1, {rows}, 6] W, float[1, {rows}, 5] R, float[1, {}] B, float[5, 2] V) => (float[3, 1, 1, 2] y) {{
                    e = MatMul (x, E)
                    h = {op} <hidden_size = 5> (e, W, R, B)
                    y = MatMul (h, V)
                }}",
                2 * rows
            ),
            &[
                ("B.1", 5, 2 * gates),
                ("E.1", 6, 1),
                ("R.1", 5, gates),
                ("R.2", 5, 1),
                ("V.0", 5, 1),
                ("W.1", 5, gates),
                ("W.2", 6, 1),
            ],
        );
    }
}

#[test]
fn quantized_weights_keep_scales_and_zero_points_beside_them() {
    check(
        "g (float[1, 4] x, int8[4, 6] W, float[6] VarS, int8[6] Z, float[6, 2] V) => (float[1, 2] y) {
            w = DequantizeLinear <axis = 1> (W, VarS, Z)
            a = MatMul (x, w)
            y = MatMul (a, V)
        }",
        &[("V.0", 6, 1), ("VarS.0", 6, 1), ("W.1", 6, 1), ("Z.0", 6, 1)],
    );
}

#[test]
fn embeddings_lose_dimensions_and_no_rows() {
    let found = Found::of(
        "g (int64[1, 3] x, float[9, 6] E, float[6, 2] V) => (float[1, 3, 2] y) {
            e = Gather (E, x)
            y = MatMul (e, V)
        }",
    );
    assert_eq!(
        found.units(),
        [("E.1".to_owned(), 6, 1), ("V.0".to_owned(), 6, 1)]
    );
    assert_eq!(
        found.pins("E", 0),
        "Gather e pins axis 0 of E: it is indexed at run time"
    );
    assert!(found.fuzz(6, "embedding") > 0);
}

#[test]
fn pins_name_the_operator_the_value_and_the_axis() {
    for (middle, pin) in [
        (
            "r = Softmax <axis = 1> (a)",
            "Softmax r pins axis 1 of a: it normalises over the whole axis",
        ),
        (
            "r = com.microsoft.Unknown (a)",
            "Unknown r pins axis 1 of a: no rule says what this operator does to it",
        ),
        (
            "m = ReduceMax (a)\nr = Mul (a, m)",
            "ReduceMax m pins axis 0 of a: every element of the axis counts for the result",
        ),
        ("r = Identity (a)", ""),
    ] {
        let found = Found::of(&format!(
            "g (float[2, 4] x, float[4, 6] W, float[6, 2] V) => (float[2, 2] y) {{
                a = MatMul (x, W)
                {middle}
                y = MatMul (r, V)
            }}"
        ));
        let expected = pin.replace("axis 0 of a", "axis 1 of a");
        assert_eq!(found.pins("W", 1), expected);
    }
    let found = Found::of("g (float[2, 4] x, float[4, 6] W) => (float[2, 6] y) { y = MatMul (x, W) }");
    assert_eq!(
        found.pins("W", 1),
        "graph output y pins axis 1 of y: outputs keep their shape"
    );
    assert_eq!(
        found.pins("W", 0),
        "MatMul y pins axis 0 of W: what it is combined with keeps its size"
    );
}

#[test]
fn the_oracle_sees_a_wrong_cut() {
    let found = Found::of(
        "g (float[2, 4] x, float[4, 6] W, float[6, 2] V) => (float[2, 2] y) {
            a = MatMul (x, W)
            r = Relu (a)
            y = MatMul (r, V)
        }",
    );
    let free = found
        .solution
        .groups()
        .iter()
        .position(|group| group.pin.is_none())
        .unwrap();
    let removal = |unit| found.solution.removal([(free, unit)]).unwrap();
    let (one, other) = (removal(0), removal(1));
    let cut = remove(&found.model, &found.solution, &other).unwrap();
    let right = oracle(&found.model, &cut, &found.solution, &other, &TractEngine, 1);
    assert_eq!(right.verdict, OracleVerdict::Equal);
    let wrong = oracle(&found.model, &cut, &found.solution, &one, &TractEngine, 1);
    assert_eq!(wrong.verdict, OracleVerdict::Different);
    // The reference itself differs from the original, or the comparison would say nothing.
    let reference = masked(&found.model, &found.solution, &one).unwrap();
    let weight = found.model.graph.find_value("W").unwrap();
    assert!(
        !reference
            .graph
            .constant(weight)
            .unwrap()
            .same_as(found.model.graph.constant(weight).unwrap())
    );
}

fn pruned(model: &Model, options: &PruneChannels) -> Pruned {
    prune(
        model,
        options,
        &RegexSet::empty(),
        None,
        Measured::default(),
        &TractEngine,
        5,
    )
    .unwrap()
}

const CHAIN: &str = "g (float[1, 3, 8, 8] x, float[16, 3, 3, 3] A, float[16] S, float[16] B, float[16] M, float[16] Var, float[32, 16, 3, 3] C, float[2, 32, 1, 1] D) => (float[1, 2, 4, 4] y) {
        a = Conv (x, A)
        n = BatchNormalization (a, S, B, M, Var)
        r = Relu (n)
        c = Conv (r, C)
        y = Conv (c, D)
    }";

#[test]
fn options_bound_what_goes() {
    let model = model(CHAIN);
    let kept = |options: PruneChannels| {
        let cut = pruned(&model, &options).model;
        let size = |name: &str| {
            cut.graph
                .constant(cut.graph.find_value(name).unwrap())
                .unwrap()
                .dims()[0]
        };
        (size("A"), size("C"))
    };
    let base = || PruneChannels {
        ratio: 0.5,
        ..PruneChannels::default()
    };
    for criterion in [
        Criterion::Magnitude,
        Criterion::BatchNorm,
        Criterion::Lamp,
        Criterion::Fpgm,
        Criterion::Random,
    ] {
        assert_eq!(kept(PruneChannels { criterion, ..base() }), (8, 16));
    }
    assert_eq!(
        kept(PruneChannels {
            ratio: 0.3,
            round_to: 8,
            ..base()
        }),
        (16, 24)
    );
    assert_eq!(
        kept(PruneChannels {
            min_keep: 12,
            ..base()
        }),
        (12, 16)
    );
    assert_eq!(
        kept(PruneChannels {
            ratio: 1.0,
            max_ratio: 0.25,
            ..base()
        }),
        (12, 24)
    );
    assert_eq!(
        kept(PruneChannels {
            keep: vec!["^A$".to_owned()],
            ..base()
        }),
        (16, 16)
    );
    assert_eq!(
        kept(PruneChannels {
            keep: vec!["^c$".to_owned()],
            ..base()
        }),
        (16, 32)
    );
    let (a, c) = kept(PruneChannels {
        scope: Scope::Global,
        ..base()
    });
    assert_eq!(a + c, 24);
}

#[test]
fn targets_are_met_and_the_least_is_taken() {
    let model = model(CHAIN);
    let before = cost(&model, &|_| None);
    for (macs, bytes) in [(Some(0.5), None), (None, Some(0.4)), (Some(0.7), Some(0.6))] {
        let options = PruneChannels {
            target_macs: macs,
            target_bytes: bytes,
            ..PruneChannels::default()
        };
        let after = cost(&pruned(&model, &options).model, &|_| None);
        let macs_left = after.macs.unwrap() as f64 / before.macs.unwrap() as f64;
        let bytes_left = after.constant_bytes as f64 / before.constant_bytes as f64;
        assert!(
            macs_left <= macs.unwrap_or(1.0) && bytes_left <= bytes.unwrap_or(1.0),
            "{macs_left} {bytes_left}"
        );
        assert!(macs_left > macs.unwrap_or(0.0) - 0.1 || bytes_left > bytes.unwrap_or(0.0) - 0.1);
    }
    let impossible = PruneChannels {
        target_bytes: Some(0.0001),
        ..PruneChannels::default()
    };
    assert!(
        prune(
            &model,
            &impossible,
            &RegexSet::empty(),
            None,
            Measured::default(),
            &TractEngine,
            5
        )
        .is_err()
    );
}

#[test]
fn a_history_replays_on_another_copy_and_refuses_another_model() {
    let options = PruneChannels {
        ratio: 0.4,
        criterion: Criterion::Random,
        ..PruneChannels::default()
    };
    let first = pruned(&model(CHAIN), &options);
    let text = serde_json::to_string(&first.history).unwrap();
    let history = serde_json::from_str(&text).unwrap();
    let again = prune(
        &model(CHAIN),
        &PruneChannels::default(),
        &RegexSet::empty(),
        Some(&history),
        Measured::default(),
        &TractEngine,
        9,
    )
    .unwrap();
    let weight = |pruned: &Pruned| {
        let graph = &pruned.model.graph;
        graph.constant(graph.find_value("C").unwrap()).unwrap().clone()
    };
    assert!(weight(&first).same_as(&weight(&again)));
    let other = model("g (float[1, 4] x, float[4, 2] W) => (float[1, 2] y) { y = MatMul (x, W) }");
    assert!(
        prune(
            &other,
            &PruneChannels::default(),
            &RegexSet::empty(),
            Some(&history),
            Measured::default(),
            &TractEngine,
            9
        )
        .is_err()
    );
}

#[test]
fn heads_go_whole_on_request() {
    let text = "g (float[1, 5, 4] x, float[4, 12] Q, float[4, 12] K, float[12, 3] O) => (float[1, 5, 3] y)
        <int64[4] s = {0, 0, 2, 6}, int64[3] t = {0, 0, 12}> {
            q0 = MatMul (x, Q)
            q = Reshape (q0, s)
            k0 = MatMul (x, K)
            k = Reshape (k0, s)
            m = Mul (q, k)
            a = Reshape (m, t)
            y = MatMul (a, O)
        }";
    let model = model(text);
    let shape = |attention| {
        let options = PruneChannels {
            ratio: 0.5,
            attention,
            ..PruneChannels::default()
        };
        let cut = pruned(&model, &options).model;
        let reshape = cut
            .graph
            .node_ids()
            .find(|id| cut.graph.operator(*id).is_some_and(|op| op.is("Reshape")))
            .unwrap();
        cut.graph.ty(ValueId::new(reshape, 0)).fixed_shape().unwrap()
    };
    assert_eq!(shape(AttentionUnits::Finest), [1, 5, 2, 3]);
    assert_eq!(shape(AttentionUnits::Heads), [1, 5, 1, 6]);
}

fn read(path: &Path) -> Option<Model> {
    let read = read_proto(path, &ReadOptions::default()).ok()?;
    let mut model = lift(read.model, &read.origin.external).ok()?;
    normalise(&mut model);
    Some(model)
}

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    found.sort();
    found
}

/// Random choices of units over models below a size; each is checked.
fn fuzz_files(paths: &[PathBuf], largest: u64, rounds: u64) -> (usize, usize) {
    let (mut checked, mut skipped) = (0, 0);
    for path in paths {
        let small = std::fs::metadata(path).is_ok_and(|file| file.len() <= largest);
        let Some(model) = Some(path).filter(|_| small).and_then(|path| read(path)) else {
            skipped += 1;
            continue;
        };
        let found = Found {
            solution: solve(&model),
            model,
        };
        checked += found.fuzz(rounds, &path.display().to_string());
    }
    (checked, skipped)
}

#[test]
fn random_choices_over_the_fixtures_pass_the_oracle() {
    let (checked, _) = fuzz_files(&fixtures(), 1 << 20, 6);
    assert!(checked >= 50, "only {checked} choices were checked");
}

#[test]
fn random_choices_over_the_corpus_pass_the_oracle() {
    let rounds = std::env::var("SECATEUR_FUZZ")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(3);
    let (checked, skipped) = fuzz_files(&corpus::models(), 1 << 20, rounds);
    println!("{skipped} models too large or unreadable");
    corpus::ran(checked, 20 * rounds as usize);
}

/// A row of docs/prune-table.md.
fn row(path: &Path) -> Option<String> {
    let model = read(path)?;
    let name = path.file_stem()?.to_string_lossy().into_owned();
    let before = cost(&model, &|_| None);
    if before.parameters == 0 {
        return None;
    }
    let options = PruneChannels {
        ratio: 0.5,
        ..PruneChannels::default()
    };
    let pruned = prune(
        &model,
        &options,
        &RegexSet::empty(),
        None,
        Measured::default(),
        &TractEngine,
        5,
    )
    .unwrap_or_else(|error| panic!("{name}: {error}"));
    let after = cost(&pruned.model, &|_| None);
    let left = 100.0 * after.parameters as f64 / before.parameters as f64;
    let verdict = match pruned.oracle.verdict {
        OracleVerdict::Equal => "equal",
        OracleVerdict::Different => "different",
        OracleVerdict::NotChecked => "not checked",
    };
    let reason = if left > 45.0 {
        main_reason(&pruned)
    } else {
        String::new()
    };
    Some(format!(
        "| {name} | {} | {left:.1} | {verdict} | {reason} |\n",
        before.parameters
    ))
}

/// What keeps the most bytes: a pin, or a place that the solver does not reach.
fn main_reason(pruned: &Pruned) -> String {
    let pinned = pruned.groups.iter().filter_map(|group| {
        let reason = group.pinned_by.clone()?;
        Some((group.bytes_per_unit * group.units as u64, reason))
    });
    let mut unreached: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in &pruned.unreached {
        *unreached.entry(&entry.reason).or_default() += entry.parameters;
    }
    let unreached = unreached
        .into_iter()
        .map(|(reason, parameters)| (4 * parameters, reason.to_owned()));
    unreached
        .chain(pinned)
        .max_by_key(|(bytes, _)| *bytes)
        .map(|(_, reason)| reason)
        .unwrap_or_default()
        .replace('|', "/")
}

/// Names of float constants of the main graph, and of defaults of its inputs.
fn weights(model: &Model) -> Vec<String> {
    let graph = &model.graph;
    let holds = |tensor: &Tensor| tensor.dtype().is_float() && tensor.elements() > 0;
    let float = |id: &secateur::ir::NodeId| match graph.get(*id).map(|node| &node.kind) {
        Some(NodeKind::Constant(_)) => graph.constant(ValueId::new(*id, 0)).is_some_and(holds),
        Some(NodeKind::Input(input)) => input.default.as_ref().is_some_and(|(tensor, _)| holds(tensor)),
        _ => false,
    };
    graph
        .node_ids()
        .filter(float)
        .filter_map(|id| Some(graph.value(ValueId::new(id, 0))?.name.to_string()))
        .collect()
}

#[test]
fn every_weight_is_in_a_class_or_has_a_reason() {
    let mut models = 0;
    for path in fixtures().into_iter().chain(corpus::models()) {
        if std::fs::metadata(&path).is_ok_and(|file| file.len() > 2 << 20) {
            continue;
        }
        let Some(model) = read(&path) else { continue };
        let planned = plan(
            &model,
            &PruneChannels::default(),
            &RegexSet::empty(),
            None,
            Measured::default(),
            5,
        )
        .unwrap()
        .0;
        let mut named: BTreeSet<String> = planned
            .unreached
            .iter()
            .map(|entry| entry.place.clone())
            .collect();
        named.extend(
            planned
                .classes
                .iter()
                .flat_map(|class| class.members.iter().map(|m| m.constant.clone())),
        );
        for weight in weights(&model) {
            assert!(named.contains(&weight), "{}: {weight}", path.display());
        }
        let removed: usize = planned.classes.iter().map(|class| class.removed).sum();
        let reasons = planned
            .classes
            .iter()
            .filter(|class| class.pinned_by.is_some())
            .count()
            + planned.unreached.len();
        let parameters = cost(&model, &|_| None).parameters;
        assert!(
            removed > 0 || reasons > 0 || parameters == 0,
            "{}: no reason",
            path.display()
        );
        models += 1;
    }
    corpus::ran(models, 50);
}

#[test]
fn defaults_of_inputs_and_weights_in_bodies_say_why_they_stay() {
    let reasons = |text: &str| -> Vec<(String, u64)> {
        let model = model(text);
        let planned = plan(
            &model,
            &PruneChannels::default(),
            &RegexSet::empty(),
            None,
            Measured::default(),
            5,
        )
        .unwrap()
        .0;
        planned
            .unreached
            .into_iter()
            .map(|entry| (entry.reason, entry.parameters))
            .collect()
    };
    assert_eq!(
        reasons("g (bool c, float[1, 2] x) => (float[1, 2] y) {
            y = If (c) <then_branch = t () => (float[1, 2] a) <float[2, 2] W = {1, 2, 3, 4}> { a = MatMul (x, W) },
                        else_branch = e () => (float[1, 2] b) { b = Identity (x) }>
        }"),
        [("it stands in a body of If y, and only the main graph is pruned".to_owned(), 4)]
    );
    assert_eq!(
        reasons("g (float[1, 2] x, float[2, 2] w = {1, 2, 3, 4}) => (float[1, 2] y) { y = MatMul (x, w) }"),
        [(
            "it is the default of a graph input, which a caller may replace by another value of the same shape".to_owned(),
            4
        )]
    );
}

#[test]
fn explanations_cover_every_weight_of_the_fixtures() {
    for path in fixtures() {
        let Some(model) = read(&path) else { continue };
        let solution = solve(&model);
        for group in explain(&model, &solution) {
            assert!(group.units > 0 && !group.members.is_empty());
            assert_eq!(group.removed, 0);
            assert!(group.bytes_per_unit > 0 || group.pinned_by.is_some(), "{group:?}");
        }
    }
}

/// The committed table holds for the corpus; `UPDATE=1` renews it.
#[test]
fn half_of_the_units_leaves_what_the_table_says() {
    let paths: Vec<PathBuf> = corpus::models()
        .into_iter()
        .chain(corpus::architectures())
        .collect();
    if std::env::var_os("SECATEUR_PRUNE_TABLE").is_none() || paths.is_empty() {
        return corpus::skip("SECATEUR_PRUNE_TABLE is not set, or there is no corpus");
    }
    let mut text = String::from(
        "# What is left at ratio 0.5\n\nParameters left when `prune-channels` removes half of the units of every layer, whether the result \
         was compared with the masked original in tract, and where more than 45 % are left, what pins the largest part.\n\n\
         | model | parameters | left, % | checked | pinned by |\n|---|---:|---:|---|---|\n",
    );
    paths
        .iter()
        .filter_map(|path| row(path))
        .for_each(|row| text.push_str(&row));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/prune-table.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), text);
}
