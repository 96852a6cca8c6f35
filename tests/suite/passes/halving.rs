//! `convert-float` where half precision does not hold what a result hangs on, in bodies and functions, and between quantized values.

use std::collections::HashSet;

use secateur::engine::OrtEngine;
use secateur::ir::{Graph, GraphPath};
use secateur::passes::{ConvertFloat, Half, QuantizeWeights};

use super::*;

fn graphs(model: &Model) -> Vec<(GraphPath, &Graph)> {
    let paths = model.graph_paths();
    paths
        .into_iter()
        .map(|path| (path.clone(), model.graph_at(&path).unwrap()))
        .collect()
}

/// Bytes of the constants of a type, bodies included.
fn bytes(model: &Model, dtype: DType) -> u64 {
    graphs(model)
        .iter()
        .flat_map(|(_, graph)| graph.node_ids().filter_map(|id| graph.get(id)?.constant()))
        .filter(|tensor| tensor.dtype() == dtype)
        .map(Tensor::byte_len)
        .sum()
}

/// Operators of an operator type that give or read float, bodies included.
fn float_operators(model: &Model) -> Vec<String> {
    let mut found = Vec::new();
    for (_, graph) in graphs(model) {
        for id in graph.topological_order() {
            let Some(operator) = graph.operator(id) else {
                continue;
            };
            if !operator.is("Cast")
                && !operator.has_bodies()
                && graph.ty(ValueId::new(id, 0)).dtype() == Some(DType::F32)
            {
                found.push(operator.op_type.to_string());
            }
        }
    }
    found
}

fn run(model: &Model, inputs: &[(&str, Tensor)]) -> Vec<f64> {
    run_in(&TractEngine, model, inputs)
}

/// An engine that runs every control flow, where the user has one.
fn onnxruntime() -> Option<OrtEngine> {
    OrtEngine::load().ok()
}

fn run_in(engine: &dyn Engine, model: &Model, inputs: &[(&str, Tensor)]) -> Vec<f64> {
    let model = secateur::lower::for_engine(model, engine).unwrap();
    let session = engine.compile(&model, &CompileOptions::default()).unwrap();
    let inputs = inputs
        .iter()
        .map(|(name, tensor)| ((*name).to_owned(), RunValue::Tensor(tensor.clone())))
        .collect();
    let outputs = session.run(&inputs).unwrap();
    outputs
        .values()
        .flat_map(|value| match value {
            RunValue::Tensor(tensor) => tensor.to_f64().unwrap(),
            _ => panic!("no tensor"),
        })
        .collect()
}

fn converted(pass: &ConvertFloat, text: &str) -> (Model, Model, PassReport) {
    let before = model(text);
    let mut after = before.clone();
    let report =
        run_pass(pass, &mut after, &Setting::default()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    secateur::analysis::check(&after).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    lines(&after);
    (before, after, report)
}

fn near(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!(
            (a - b).abs() <= tolerance * (1.0 + b.abs()),
            "{what}: {found:?} instead of {expected:?}"
        );
    }
}

fn tensor(dims: &[u64], values: &[f32]) -> Tensor {
    Tensor::from_slice(dims, values).unwrap()
}

/// Rows of equal numbers, tiny rows, a usual one.
fn rows() -> Tensor {
    let mut values = vec![0.5f32; 8];
    values.extend([0.0; 8]);
    values.extend((0..8).map(|i| (i as f32 - 3.0) * 1e-4));
    values.extend((0..8).map(|i| (i as f32 * 0.7).sin()));
    tensor(&[4, 8], &values)
}

/// fp16_layernorm_eps: normalizations written out with an epsilon that float16 does not hold.
#[test]
fn an_epsilon_below_half_precision_keeps_its_division_float() {
    let weights: String = (0..64)
        .map(|i| format!("{}, ", ((i * 29) % 17) as f32 / 17.0 - 0.5))
        .collect();
    let around = |opset: i64, constants: &str, nodes: &str| {
        format!(
            "<ir_version: 8, opset_import: [\"\" : {opset}]>\n g (float[4,8] x) => (float[4,8] y) \
             <float[8,8] w = {{{}}}, {constants}> {{ {nodes} y = MatMul(n, w) }}",
            weights.trim_end_matches(", ")
        )
    };
    let moments =
        "mu = ReduceMean<axes = [-1]>(x) d = Sub(x, mu) d2 = Mul(d, d) v = ReduceMean<axes = [-1]>(d2)";
    let cases = [
        around(
            13,
            "float eps = {1e-12}",
            &format!("{moments} ve = Add(v, eps) s = Sqrt(ve) n = Div(d, s)"),
        ),
        around(
            13,
            "float eps = {1e-12}",
            &format!("{moments} ve = Add(eps, v) s = Sqrt(ve) r = Reciprocal(s) n = Mul(d, r)"),
        ),
        around(
            13,
            "float eps = {1e-12}, float half = {-0.5}, float[8] g = {1, 2, 1, 2, 1, 2, 1, 2}, float[8] b = {0, 1, 0, 1, 0, 1, 0, 1}",
            &format!(
                "{moments} ve = Add(v, eps) r = Pow(ve, half) k = Mul(r, g) a = Mul(x, k) m = Mul(mu, k) o = Sub(b, m) n = Add(a, o)"
            ),
        ),
        // An epsilon for each element, one behind a Cast, one beside the root.
        around(
            13,
            "float[8] eps = {1e-12, 1e-12, 1e-12, 1e-12, 1e-12, 1e-12, 1e-12, 1e-12}",
            &format!("{moments} ve = Add(v, eps) s = Sqrt(ve) n = Div(d, s)"),
        ),
        around(
            13,
            "double deps = {1e-12}",
            &format!("{moments} eps = Cast<to = 1>(deps) ve = Add(v, eps) s = Sqrt(ve) n = Div(d, s)"),
        ),
        around(
            13,
            "float eps = {1e-9}",
            &format!("{moments} s = Sqrt(v) se = Add(s, eps) n = Div(d, se)"),
        ),
        // Norms.
        around(
            13,
            "float eps = {1e-12}, int64[2] s = {4, 8}",
            "l = ReduceL2<axes = [-1]>(x) c = Clip(l, eps) e = Expand(c, s) n = Div(x, e)",
        ),
        around(
            10,
            "float unused = {1}",
            "l = ReduceL2<axes = [-1]>(x) c = Clip<min = 1e-12>(l) n = Div(x, c)",
        ),
        around(
            13,
            "float eps = {1e-8}, float two = {2}",
            "q = Pow(x, two) m = ReduceMean<axes = [-1]>(q) e = Max(m, eps) s = Sqrt(e) n = Div(x, s)",
        ),
        // float16 holds the epsilon, but not its inverse.
        around(
            13,
            "float eps = {1e-5}",
            "l = ReduceL2<axes = [-1]>(x) e = Add(l, eps) r = Reciprocal(e) n = Mul(x, r)",
        ),
        around(
            13,
            "float eps = {1e-5}, float one = {1}",
            "l = ReduceL2<axes = [-1]>(x) e = Add(l, eps) r = Div(one, e) n = Mul(x, r)",
        ),
        // Logarithms.
        around(
            13,
            "float eps = {1e-10}, float scale = {0.01}",
            "a = Relu(x) e = Add(a, eps) l = Log(e) n = Mul(l, scale)",
        ),
        // An epsilon from a shape, and through If.
        around(
            13,
            "int64[1] one = {1}",
            &format!(
                "{moments} eps = ConstantOfShape<value = float[1] {{1e-12}}>(one) ve = Add(v, eps) s = Sqrt(ve) n = Div(d, s)"
            ),
        ),
        around(
            13,
            "float eps = {1e-12}, bool yes = {1}",
            &format!(
                "{moments} ve = Add(v, eps) n = If(yes) <then_branch = a () => (float[4,8] p) {{ s = Sqrt(ve) p = Div(d, s) }}, \
                 else_branch = b () => (float[4,8] q) {{ q = Identity(d) }}>"
            ),
        ),
    ];
    for text in &cases {
        let (before, after, report) = converted(&ConvertFloat::default(), text);
        let inputs = [("x", rows())];
        let expected = run(&before, &inputs);
        assert!(expected.iter().all(|value| value.is_finite()), "{text}");
        near(
            &run(&after, &inputs),
            &expected,
            0.02,
            &format!("{text}\n{:#?}", report.notes),
        );
        assert!(
            bytes(&after, DType::F16) >= 128,
            "the weights are float16\n{text}\n{report:#?}"
        );
        assert!(
            report.left.iter().any(|left| left.why.contains("float16")),
            "{report:#?}"
        );
        // bfloat16 has the range of float: the whole model is converted.
        let wide = ConvertFloat {
            to: Half::Bfloat16,
            convert_io: true,
            ..ConvertFloat::default()
        };
        let (_, after, _) = converted(&wide, text);
        // ConstantOfShape takes bfloat16 from opset 20 on.
        let mut float = float_operators(&after);
        float.retain(|op_type| op_type != "ConstantOfShape");
        assert!(float.is_empty(), "{text}\n{float:?}");
    }
}

/// Epsilons among attributes: operators that engines compute in half precision.
#[test]
fn epsilons_of_normalization_operators_keep_them_float() {
    let text = |opset: i64, node: &str| {
        format!(
            r#"<ir_version: 10, opset_import: ["" : {opset}]>
            g (float[2,4,3] x) => (float[2,4,3] y) <float[4] s = {{1, 2, 3, 4}}, float[4] b = {{0, 1, 0, 1}}, float[3] t = {{1, 2, 3}},
             float[3] o = {{0, 1, 0}}, float[4] m = {{0, 0, 0, 0}}, float[4] v = {{1, 1, 1, 1}}> {{ a = Neg(x) y = {node} }}"#
        )
    };
    let kept = [
        (17, "LayerNormalization<epsilon = 1e-12>(a, t, o)"),
        (17, "InstanceNormalization<epsilon = 1e-9>(a, s, b)"),
        (17, "BatchNormalization<epsilon = 1e-8>(a, s, b, m, v)"),
        (21, "GroupNormalization<epsilon = 1e-12, num_groups = 2>(a, s, b)"),
        (17, "MeanVarianceNormalization<axes = [2]>(a)"),
    ];
    for (opset, node) in kept {
        let (_, after, _) = converted(&ConvertFloat::default(), &text(opset, node));
        let op_type = node.split(['<', '(']).next().unwrap();
        assert!(float_operators(&after).contains(&op_type.to_owned()), "{node}");
    }
    let (_, after, _) = converted(
        &ConvertFloat::default(),
        &text(17, "LayerNormalization<epsilon = 1e-5>(a, t, o)"),
    );
    assert_eq!(float_operators(&after), Vec::<String>::new());
}

/// Masks: rows that are masked entirely give the same for each element, not NaN.
#[test]
fn masked_rows_stay_numbers() {
    let cases = [
        (
            "float low = {-3.4028235e38}, float zero = {0}",
            "b = Where(m, zero, low) a = Add(s, b)",
        ),
        (
            "float low = {-1e9}, float zero = {0}",
            "b = Where(m, zero, low) a = Add(s, b)",
        ),
        (
            "float low = {-1e9}, float one = {1}",
            "f = Cast<to = 1>(m) i = Sub(one, f) b = Mul(i, low) a = Add(s, b)",
        ),
        ("float low = {-3.4028235e38}", "a = Where(m, s, low)"),
    ];
    for (constants, nodes) in cases {
        let text = format!(
            r#"<ir_version: 8, opset_import: ["" : 13]>
            g (float[2,4] x, bool[2,4] m) => (float[2,4] y) <float[4,4] w = {{9, 8, 7, 6, 5, 4, 3, 2, 1, 2, 3, 4, 5, 6, 7, 8}}, {constants}> {{
              q = MatMul(x, w) s = Neg(q) {nodes} y = Softmax<axis = -1>(a)
            }}"#
        );
        let (before, after, _) = converted(&ConvertFloat::default(), &text);
        let inputs = [
            ("x", tensor(&[2, 4], &[1.0, 2.0, 3.0, 4.0, 0.5, 1.5, 2.5, 0.25])),
            (
                "m",
                Tensor::from_bools(&[2, 4], &[false, false, false, false, true, true, false, true]).unwrap(),
            ),
        ];
        let (expected, found) = (run(&before, &inputs), run(&after, &inputs));
        assert!(found.iter().all(|value| value.is_finite()), "{text}: {found:?}");
        near(&found[4..], &expected[4..], 0.01, &text);
        assert!(bytes(&after, DType::F16) >= 32, "{text}");
    }
}

fn listed(count: usize, seed: usize) -> String {
    let numbers: Vec<String> = (0..count)
        .map(|i| (((i * 37 + seed * 11) % 23) as f32 / 46.0 - 0.25).to_string())
        .collect();
    numbers.join(", ")
}

/// A table that a body gathers rows of, or multiplies with, and that its graph or another body reads, too.
#[test]
fn weights_that_several_graphs_read_are_stored_once() {
    let table = listed(64 * 32, 1);
    let head = r#"<ir_version: 8, opset_import: ["" : 17]>"#;
    let gathered = format!(
        "{head} g (int64[4] i, bool c) => (float[4,64] y) <float[64,32] w = {{{table}}}> {{
           e = If (c) <then_branch = a () => (float[4,32] p) {{ p = Gather (w, i) }},
                       else_branch = b () => (float[4,32] q) {{ r = Gather (w, i) q = Neg (r) }}>
           t = Transpose <perm = [1, 0]> (w)
           y = MatMul (e, t) }}"
    );
    let multiplied = format!(
        "{head} g (int64[4] i, bool c) => (float[4,64] y) <float[64,32] w = {{{table}}}> {{
           e = Gather (w, i)
           y = If (c) <then_branch = a () => (float[4,64] p) {{ t = Transpose <perm = [1, 0]> (w) p = MatMul (e, t) }},
                       else_branch = b () => (float[4,64] q) {{ u = Transpose <perm = [1, 0]> (w) r = MatMul (e, u) q = Neg (r) }}> }}"
    );
    let excluded = ConvertFloat {
        exclude: vec!["^[ty]$".to_owned()],
        ..ConvertFloat::default()
    };
    for (text, pass, half) in [
        (&gathered, ConvertFloat::default(), true),
        (&multiplied, ConvertFloat::default(), true),
        // What stays float keeps its floats, and so do those who share them.
        (&gathered, excluded, false),
    ] {
        let mut after = model(text);
        run_pass(&pass, &mut after, &Setting::default()).unwrap();
        secateur::analysis::check(&after).unwrap();
        let stored = (bytes(&after, DType::F32), bytes(&after, DType::F16));
        assert_eq!(
            stored,
            if half { (0, 4096) } else { (8192, 0) },
            "{:#?}",
            lines(&after)
        );
    }
}

/// fp16_loop_body: weights in bodies, and outside of those that use them.
#[test]
fn bodies_are_converted_with_the_weights_that_they_capture() {
    let (w, v, u) = (listed(64, 1), listed(64, 2), listed(64, 3));
    let cases = [
        format!(
            r#"<ir_version: 8, opset_import: ["" : 13]>
            g (float[4,8] x, int64 n) => (float[4,8] y) <bool t = {{1}}, float[8,8] w = {{{w}}}> {{
              r = Loop(n, t, x) <body = b (int64 i, bool c, float[4,8] s) => (bool c2, float[4,8] s2) {{
                c2 = Identity(c) p = MatMul(s, w) s2 = Tanh(p) }}>
              y = Relu(r)
            }}"#
        ),
        format!(
            r#"<ir_version: 8, opset_import: ["" : 13]>
            g (float[4,8] x, int64 n) => (float[4,8] y) <int64 zero = {{0}}, float[8,8] w = {{{w}}}> {{
              c = Greater(n, zero)
              y = If(c) <then_branch = a () => (float[4,8] p) <float[8,8] v = {{{v}}}> {{ h = MatMul(x, v) p = MatMul(h, w) }},
                else_branch = b () => (float[4,8] q) <float[8,8] v2 = {{{u}}}> {{ k = MatMul(x, w) q = MatMul(k, v2) }}>
            }}"#
        ),
        // A body in a body, and names that repeat what a suffix makes of others.
        format!(
            r#"<ir_version: 8, opset_import: ["" : 13]>
            g (float[4,8] x, int64 n) => (float[4,8] y) <bool t = {{1}}, float[8,8] w = {{{w}}}, int64 w_float16 = {{0}}> {{
              c = Greater(n, w_float16)
              y = If(c) <then_branch = a () => (float[4,8] p) {{
                 r = Loop(n, t, x) <body = b (int64 i, bool k, float[4,8] s) => (bool k2, float[4,8] s2) <float[8,8] x_float16 = {{{v}}}> {{
                   k2 = Identity(k) m = MatMul(s, w) s2 = MatMul(m, x_float16) }}>
                 p = MatMul(r, w) }},
                else_branch = e () => (float[4,8] q) {{ q = MatMul(x, w) }}>
            }}"#
        ),
        format!(
            r#"<ir_version: 8, opset_import: ["" : 13]>
            g (float[4,8] x, int64 n) => (float[8] last, float[4,8] y) <float[8] start = {{0, 0, 0, 0, 0, 0, 0, 0}}, float[8,8] w = {{{w}}}, int64[2] row = {{1, 8}}, int64[1] flat = {{8}}> {{
              unused = Identity(n)
              last, y = Scan<num_scan_inputs = 1, body = b (float[8] s, float[8] e) => (float[8] s2, float[8] o) {{
                z = Add(s, e) z2 = Reshape(z, row) p = MatMul(z2, w) p1 = Reshape(p, flat) s2 = Tanh(p1) o = Identity(s2) }}>(start, x)
            }}"#
        ),
    ];
    for text in &cases {
        for to in [Half::Float16, Half::Bfloat16] {
            let pass = ConvertFloat {
                to,
                ..ConvertFloat::default()
            };
            let (before, after, report) = converted(&pass, text);
            let narrow = if to == Half::Float16 {
                DType::F16
            } else {
                DType::BF16
            };
            let all = bytes(&before, DType::F32);
            assert!(
                bytes(&after, DType::F32) <= 32,
                "weights stay float\n{text}\n{report:#?}"
            );
            assert_eq!(
                2 * bytes(&after, narrow) + 2 * bytes(&after, DType::F32),
                all + bytes(&after, DType::F32),
                "{text}"
            );
            // No name stands twice in what a body sees.
            let mut names = HashSet::new();
            for (_, graph) in graphs(&after) {
                for id in graph.node_ids() {
                    let node = graph.get(id).unwrap();
                    if matches!(node.kind, NodeKind::Capture(_)) {
                        continue;
                    }
                    for value in node.outputs().iter().filter(|value| !value.name.is_empty()) {
                        assert!(
                            names.insert(value.name.to_string()),
                            "{} stands twice\n{text}",
                            value.name
                        );
                    }
                }
            }
            let inputs = [("x", rows()), ("n", Tensor::scalar(3i64))];
            if let Some(engine) = onnxruntime().filter(|_| to == Half::Float16) {
                near(
                    &run_in(&engine, &after, &inputs),
                    &run_in(&engine, &before, &inputs),
                    0.03,
                    text,
                );
            }
        }
    }
}

#[test]
fn functions_are_inlined_and_converted() {
    let w = listed(64, 4);
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 13, "local" : 1]>
        g (float[4,8] x) => (float[4,8] y) <float[8,8] w = {{{w}}}> {{ a = local.twice(x, w) y = local.twice(a, w) }}
        <domain: "local", opset_import: ["" : 13]>
        twice (x, w) => (y) {{ h = MatMul(x, w) y = Tanh(h) }}"#
    );
    let (before, after, report) = converted(&ConvertFloat::default(), &text);
    assert!(
        after.functions.is_empty() && float_operators(&after).is_empty(),
        "{report:#?}"
    );
    assert_eq!((bytes(&after, DType::F32), bytes(&after, DType::F16)), (0, 128));
    near(
        &run(&after, &[("x", rows())]),
        &run(&before, &[("x", rows())]),
        0.01,
        &text,
    );
}

#[test]
fn quantized_models_do_not_grow() {
    let (w, v) = (listed(8 * 512, 5), listed(512 * 8, 6));
    let products = |opset: i64| {
        format!(
            r#"<ir_version: 10, opset_import: ["" : {opset}]>
            g (float[4,8] x) => (float[4,8] y) <float[8,512] w = {{{w}}}, float[512,8] v = {{{v}}}> {{ a = MatMul(x, w) b = Tanh(a) y = MatMul(b, v) }}"#
        )
    };
    // Weights alone: from opset 19 on the scales can be float16, too.
    for (opset, changes) in [(21, true), (18, false)] {
        let mut stored = model(&products(opset));
        let pass = QuantizeWeights {
            minimum_elements: 1,
            prepare: false,
            ..QuantizeWeights::default()
        };
        run_pass(&pass, &mut stored, &Setting::default()).unwrap();
        let mut after = stored.clone();
        let report = run_pass(&ConvertFloat::default(), &mut after, &Setting::default()).unwrap();
        assert_eq!(report.changed, changes, "{report:#?}");
        if changes {
            assert!(float_operators(&after).is_empty(), "{report:#?}");
            assert_eq!(bytes(&after, DType::F32), 0);
            let inputs = [("x", rows())];
            near(&run(&after, &inputs), &run(&stored, &inputs), 0.01, "weights");
        }
    }
    let w = listed(64, 5);
    // Data and weights: nothing is changed, and the report says why.
    let text = format!(
        r#"<ir_version: 10, opset_import: ["" : 21]>
        g (float[4,8] x) => (float[4,8] y) <float[8,8] w = {{{w}}}, float s = {{0.01}}, int8 z = {{0}}> {{
          xq = QuantizeLinear(x, s, z) xd = DequantizeLinear(xq, s, z) wq = QuantizeLinear(w, s, z) wd = DequantizeLinear(wq, s, z)
          p = MatMul(xd, wd) r = Relu(p) pq = QuantizeLinear(r, s, z) pd = DequantizeLinear(pq, s, z) y = Softmax(pd)
        }}"#
    );
    let mut after = model(&text);
    let report = run_pass(&ConvertFloat::default(), &mut after, &Setting::default()).unwrap();
    assert!(!report.changed, "{report:#?}");
    assert!(
        report
            .left
            .iter()
            .any(|left| left.why.contains("between quantized values")),
        "{report:#?}"
    );
}

/// Sums of integers are too large for float16 before they are scaled.
#[test]
fn sums_of_integers_stay_float() {
    let text = r#"<ir_version: 8, opset_import: ["" : 13]>
    g (uint8[2,8] x) => (float[2,2] y) <int8[8,2] w = {100, -100, 100, -100, 100, -100, 100, -100, 100, -100, 100, -100, 100, -100, 100, -100},
      float s = {0.0001}, float[2] b = {1, 2}> { i = MatMulInteger(x, w) f = Cast<to = 1>(i) m = Mul(f, s) y = Add(m, b) }"#;
    let (before, after, _) = converted(&ConvertFloat::default(), text);
    let inputs = [("x", Tensor::from_slice::<u8>(&[2, 8], &[200; 16]).unwrap())];
    near(&run(&after, &inputs), &run(&before, &inputs), 0.01, text);
}

/// Positions times frequencies: the cosine of an angle that float16 rounds is another number.
#[test]
fn angles_of_positions_stay_float() {
    let text = r#"<ir_version: 8, opset_import: ["" : 13]>
    g (int64[1,3] p, float[3,4] x) => (float[3,4] y) <float[4,1] f = {1, 0.31, 0.1, 0.031}, int64[2] s = {3, 4}> {
      q = Cast<to = 1>(p) a = MatMul(f, q) t = Transpose(a) c = Cos(t) y = Mul(x, c)
    }"#;
    let (before, after, _) = converted(&ConvertFloat::default(), text);
    let inputs = [
        (
            "p",
            Tensor::from_slice::<i64>(&[1, 3], &[4095, 3001, 12345]).unwrap(),
        ),
        ("x", tensor(&[3, 4], &[1.0; 12])),
    ];
    near(&run(&after, &inputs), &run(&before, &inputs), 0.01, text);
}

/// A table that is read row by row and as the weight of the head.
#[test]
fn a_table_that_is_also_the_weight_of_a_product_stays_one_tensor() {
    let table = listed(64 * 8, 7);
    for head in [
        "y = Gemm<transB = 1>(r, table)",
        "t = Transpose<perm = [1, 0]>(table) y = MatMul(r, t)",
    ] {
        let text = format!(
            r#"<ir_version: 8, opset_import: ["" : 17]>
            g (int64[4] i) => (float[4,64] y) <float[64,8] table = {{{table}}}> {{ e = Gather(table, i) r = Tanh(e) {head} }}"#
        );
        for to in [Half::Float16, Half::Bfloat16] {
            let pass = ConvertFloat {
                to,
                ..ConvertFloat::default()
            };
            let (_, after, report) = converted(&pass, &text);
            let constants: Vec<(DType, u64)> = graphs(&after)
                .iter()
                .flat_map(|(_, graph)| graph.node_ids().filter_map(|id| graph.get(id)?.constant()))
                .map(|tensor| (tensor.dtype(), tensor.byte_len()))
                .collect();
            assert_eq!(constants, [(pass_type(to), 64 * 8 * 2)], "{text}\n{report:#?}");
        }
    }
}

fn pass_type(to: Half) -> DType {
    match to {
        Half::Float16 => DType::F16,
        Half::Bfloat16 => DType::BF16,
    }
}

/// Nothing would become smaller: only Casts would be added.
#[test]
fn a_model_without_float_constants_stays_as_it_is() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2,3] x) => (float[2,3] y) { a = Relu(x) y = Sigmoid(a) }"#;
    let (before, after, report) = converted(&ConvertFloat::default(), text);
    assert!(!report.changed, "{report:#?}");
    assert_eq!(lines(&after), lines(&before));
    assert!(
        said(&report).contains("Casts would be all that is added"),
        "{report:#?}"
    );
    // With narrow inputs and outputs there are no Casts.
    let inside = ConvertFloat {
        convert_io: true,
        ..ConvertFloat::default()
    };
    let (_, after, report) = converted(&inside, text);
    assert!(
        report.changed && float_operators(&after).is_empty(),
        "{report:#?}"
    );
    assert!(!lines(&after).iter().any(|line| line.contains("Cast")));
}

/// A pattern means every node of the name.
#[test]
fn a_name_that_several_nodes_have_excludes_all_of_them() {
    let (w, v) = (listed(64, 1), listed(64, 2));
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[4,8] x) => (float[4,8] y) <float[8,8] w = {{{w}}}, float[8,8] v = {{{v}}}, float[8,8] u = {{{w}}}> {{
          [fc] a = MatMul(x, w) [fc] b = MatMul(a, v) [head] y = MatMul(b, u) }}"#
    );
    let pass = ConvertFloat {
        exclude: vec!["^fc$".to_owned()],
        ..ConvertFloat::default()
    };
    let (_, after, report) = converted(&pass, &text);
    assert_eq!(float_operators(&after), ["MatMul", "MatMul"], "{report:#?}");
    assert_eq!((bytes(&after, DType::F32), bytes(&after, DType::F16)), (512, 128));
}

#[test]
fn a_weight_that_is_also_an_output_is_stored_once() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2, 4] x) => (float[4, 3] w, float[2, 3] y)
        <float[4, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> { y = MatMul (x, w) }"#;
    let pass = ConvertFloat {
        convert_io: true,
        ..ConvertFloat::default()
    };
    let (_, after, _) = converted(&pass, text);
    let text = lines(&after).join("\n");
    assert_eq!(text.matches("[4, 3] = ").count(), 1, "{text}");
    assert!(!text.contains("Cast"), "{text}");
    let types: Vec<_> = after
        .graph
        .outputs()
        .iter()
        .map(|output| output.ty.dtype())
        .collect();
    assert_eq!(types, [Some(DType::F16), Some(DType::F16)]);
}

#[test]
fn single_numbers_are_no_weights_to_save_on() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x, bool c) => (float[N, 4] y)
        <float low = {-1}, float high = {6}> {
          y = If (c) <then_branch = t () => (u) { u = Clip (x, low, high) }, else_branch = e () => (v) { v = Clip (x, low) }>
        }"#;
    let (before, after, report) = converted(&ConvertFloat::default(), text);
    assert_eq!(lines(&after), lines(&before));
    assert!(!report.changed, "{report:#?}");
    assert!(!said(&report).is_empty(), "{report:#?}");
}

#[test]
fn reductions_of_scatter_stay_float() {
    // ONNX Runtime has no kernels for them in 16 bits, and finds that out when it runs the model.
    let text = |reduction: &str| {
        format!(
            r#"<ir_version: 8, opset_import: ["" : 18]> g (float[2, 8] x, int64[2, 2] i) => (float[2, 8] z)
               <float[8, 8] w = {{{}}}, float[2, 2] u = {{1, 2, 3, 4}}> {{
                 y = MatMul (x, w)  z = ScatterElements <axis = 1, reduction = "{reduction}"> (y, i, u) }}"#,
            vec!["0.5"; 64].join(", ")
        )
    };
    for (reduction, narrow) in [("none", true), ("add", false), ("mul", false)] {
        let (_, after, _) = converted(&ConvertFloat::default(), &text(reduction));
        let scatter = after
            .graph
            .node_ids()
            .find(|id| {
                let operator = after.graph.operator(*id);
                operator.is_some_and(|operator| operator.is("ScatterElements"))
            })
            .unwrap();
        let data = after.graph.input(scatter, 0).unwrap();
        let wanted = if narrow { DType::F16 } else { DType::F32 };
        assert_eq!(after.graph.ty(data).dtype(), Some(wanted), "{reduction}");
    }
}
