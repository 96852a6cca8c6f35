//! What `simplify` promises where rules are easily wrong: sizes of 0 and 1, broadcasts, ties, saturation, NaN. The names of tests
//! and comments are those of the reported cases.

use secateur::passes::{FoldConstants, Safety, Simplify};

use super::{Setting, lines, model, run_pass};

/// The nodes and constants that `simplify` leaves.
fn simplified(text: &str) -> Vec<String> {
    let mut found = model(text);
    run_pass(&Simplify::default(), &mut found, &Setting::default()).unwrap();
    lines(&found)
}

/// Whether an operator stands in the result.
fn has(lines: &[String], operator: &str) -> bool {
    lines.iter().any(|line| line.contains(&format!("= {operator} ")))
}

fn scores(queries: &str, keys: &str, values: &str) -> Vec<String> {
    simplified(&format!(
        r#"<ir_version: 11, opset_import: ["" : 23]>
        g (float[{queries}] q, float[{keys}] k, float[{values}] v) => (float[Y,2,S,5] y) <float s = {{0.5}}> {{
          kt = Transpose <perm = [0, 1, 3, 2]> (k)
          a = MatMul (q, kt)
          b = Mul (a, s)
          p = Softmax <axis = -1> (b)
          y = MatMul (p, v) }}"#
    ))
}

#[test]
fn attention_query_batch1_is_no_attention() {
    assert!(has(&scores("3,2,6,4", "3,2,7,4", "3,2,7,5"), "Attention"));
    for (queries, keys, values) in [
        // Attention takes no batch of 0, which MatMul does.
        ("B,2,S,4", "B,2,T,4", "B,2,T,5"),
        ("1,2,S,4", "B,2,T,4", "B,2,T,5"),
        ("B,2,S,4", "1,2,T,4", "1,2,T,5"),
        ("B,2,S,4", "B,2,T,4", "1,2,T,5"),
        ("A,2,S,4", "B,2,T,4", "B,2,T,5"),
        ("B,1,S,4", "B,2,T,4", "B,2,T,5"),
    ] {
        assert!(!has(&scores(queries, keys, values), "Attention"), "{queries}");
    }
}

#[test]
fn empty_batch_hw_keeps_its_computed_shape() {
    let found = simplified(
        r#"<ir_version: 8, opset_import: ["" : 18]>
        g (float[N,3,H,W] x) => (float[N,L,3] y) {
          s = Shape (x)
          n, c, h, w = Split <axis = 0, num_outputs = 4> (s)
          hw = Mul (h, w)
          q = Concat <axis = 0> (n, c, hw)
          f = Reshape (x, q)
          y = Transpose <perm = [0, 2, 1]> (f) }"#,
    );
    assert!(!found.iter().any(|line| line.contains("-1")), "{found:?}");
    // One free dimension beside numbers can be inferred, and so can what the file itself infers.
    let found = simplified(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,S,8] x) => (float[A,8] y) <int64[1] eight = {8}> {
          n = Shape <start = 0, end = 1> (x)
          s = Shape <start = 1, end = 2> (x)
          ns = Mul (n, s)
          q = Concat <axis = 0> (ns, eight)
          y = Reshape (x, q) }"#,
    );
    assert!(found.iter().any(|line| line.contains("= -1 8")), "{found:?}");
    let found = simplified(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,3,H,W] x) => (float[N,3,L] y) <int64[2] rest = {3, -1}> {
          n = Shape <start = 0, end = 1> (x)
          q = Concat <axis = 0> (n, rest)
          y = Reshape (x, q) }"#,
    );
    assert!(found.iter().any(|line| line.contains("= 0 3 -1")), "{found:?}");
}

#[test]
fn argmax_sigmoid_saturated_and_argmax_exp_keep_their_ties() {
    for (function, best, opset) in [
        ("Sigmoid", "ArgMax", 17),
        ("Exp", "ArgMax", 21),
        ("Tanh", "ArgMax", 13),
        ("Softmax <axis = -1>", "ArgMin", 17),
        ("Softmax <axis = -1>", "ArgMax", 13),
        ("LogSoftmax <axis = -1>", "ArgMin", 18),
    ] {
        let text = format!(
            r#"<ir_version: 8, opset_import: ["" : {opset}]>
            g (float[N,3] x) => (int64[N] y) {{ s = {function} (x)  y = {best} <axis = -1, keepdims = 0> (s) }}"#
        );
        let found = simplified(&text);
        let name = function.split(' ').next().unwrap_or_default();
        assert!(has(&found, name), "{function}: {found:?}");
        let mut approximate = model(&text);
        let options = Simplify {
            safety: Safety::Approximate,
            ..Simplify::default()
        };
        run_pass(&options, &mut approximate, &Setting::default()).unwrap();
        assert!(!has(&lines(&approximate), name), "{function}");
    }
}

/// A BatchNormalization behind another operator, in an opset.
fn normalized(opset: i64, layer: &str, weights: &str, extra: &str) -> Vec<String> {
    simplified(&format!(
        r#"<ir_version: 4, opset_import: ["" : {opset}]>
        g ({weights}) => (float[A,2,B,C] y)
           <float[2,2,1,1] w = {{1, 2, 3, 4}}, float[2] s = {{1.5, -0.5}}, float[2] b = {{0.1, 0.2}}, float[2] m = {{0.3, 0.1}}, float[2] v = {{1, 2}}> {{
          c = {layer}
          y = BatchNormalization {extra} (c, s, b, m, v) }}"#
    ))
}

#[test]
fn conv_bn_opset8_becomes_one_conv() {
    for opset in [7, 8, 9, 15] {
        for layer in ["Conv (x, w)", "ConvTranspose (x, w)"] {
            let found = normalized(opset, layer, "float[1,2,5,5] x", "");
            assert!(!has(&found, "BatchNormalization"), "{opset} {layer}: {found:?}");
        }
    }
    for opset in [7, 8] {
        let found = normalized(opset, "Conv (x, w)", "float[1,2,5,5] x", "<spatial = 0>");
        assert!(has(&found, "BatchNormalization"), "{opset}: {found:?}");
    }
    let found = simplified(
        r#"<ir_version: 4, opset_import: ["" : 8]>
        g (float[N,3] x) => (float[N,2] y)
           <float[3,2] w = {1, 2, 3, 4, 5, 6}, float[2] z = {0, 1}, float[2] s = {1.5, -0.5}, float[2] b = {0.1, 0.2}, float[2] m = {0.3, 0.1}, float[2] v = {1, 2}> {
          c = Gemm (x, w, z)
          y = BatchNormalization (c, s, b, m, v) }"#,
    );
    assert!(!has(&found, "BatchNormalization"), "{found:?}");
}

/// The elements of the constant that an operator of constants becomes.
fn folded(expression: &str, constant: &str, safety: Safety) -> Vec<f64> {
    let mut found = model(&format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,4] x) => (float[N,4] y) <float[4] c = {{{constant}}}> {{ {expression}  y = Add (x, a) }}"#
    ));
    let pass = FoldConstants {
        safety,
        ..FoldConstants::default()
    };
    run_pass(&pass, &mut found, &Setting::default()).unwrap();
    let graph = &found.graph;
    let add = graph
        .node_ids()
        .find(|id| graph.operator(*id).is_some_and(|operator| operator.is("Add")))
        .unwrap();
    graph
        .input(add, 1)
        .and_then(|value| graph.constant(value))
        .map(|tensor| tensor.to_f64().unwrap())
        .unwrap_or_default()
}

#[test]
fn fold_softplus_100_fold_log_sigmoid_and_fold_relu_nan_follow_onnx() {
    let close = |found: Vec<f64>, wanted: [f64; 4]| {
        for (a, b) in found.iter().zip(wanted) {
            let same = a.is_nan() && b.is_nan() || a == &b || (a - b).abs() <= 1.2e-7 * b.abs();
            assert!(same, "{found:?}, not {wanted:?}");
        }
        assert_eq!(found.len(), 4);
    };
    let rounding = Safety::Rounding;
    close(
        folded("a = Softplus (c)", "1, 20, 90, 100", rounding),
        [1.313_261_687_518_222_8, 20.000_000_002_061_153, 90.0, 100.0],
    );
    close(
        folded("s = Sigmoid (c)  a = Log (s)", "1, -15, -17, -40", rounding),
        [-0.313_261_687, -15.000_000_305_9, -17.000_000_041_4, -40.0],
    );
    close(
        folded("a = Relu (c)", "1, -2, nan, 0", rounding),
        [1.0, 0.0, f64::NAN, 0.0],
    );
    close(
        folded("a = Erf (c)", "0.5, 1, -2, 3", rounding),
        [
            0.520_499_877_813_046_5,
            0.842_700_792_949_714_9,
            -0.995_322_265_018_952_7,
            0.999_977_909_503_001_4,
        ],
    );
    close(
        folded("a = Selu (c)", "1, -1, 0, -20", rounding),
        [
            1.050_700_987_355_480_5,
            -1.111_330_737_812_562_8,
            0.0,
            -1.758_099_337_231_293_6,
        ],
    );
    close(
        folded("a = Max (c, c)", "1, -1, nan, -20", rounding),
        [1.0, -1.0, f64::NAN, -20.0],
    );
}

#[test]
fn exact_folding_leaves_what_engines_round_in_their_own_ways() {
    assert!(folded("a = Exp (c)", "1, 2, 3, 4", Safety::Exact).is_empty());
    assert!(folded("a = Erf (c)", "1, 2, 3, 4", Safety::Exact).is_empty());
    assert!(folded("a = Selu (c)", "1, 2, 3, 4", Safety::Exact).is_empty());
    assert_eq!(
        folded("a = Mul (c, c)", "1, 2, 3, 4", Safety::Exact),
        [1.0, 4.0, 9.0, 16.0]
    );
    assert_eq!(
        folded("a = Sqrt (c)", "1, 4, 9, 16", Safety::Exact),
        [1.0, 2.0, 3.0, 4.0]
    );
}

#[test]
fn a_constant_that_would_overflow_is_not_made() {
    let found = simplified(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1e30, 1, 2, 3}, float[2] k = {1e30, 1}> {
          m = MatMul (x, w)  y = Mul (m, k) }"#,
    );
    assert!(has(&found, "Mul"), "{found:?}");
}

#[test]
fn casts_of_numbers_out_of_range_keep_their_way() {
    let found = simplified(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (uint8[N] x) => (int8[N] y) { f = Cast <to = 1> (x)  y = Cast <to = 3> (f) }"#,
    );
    assert_eq!(
        found.iter().filter(|line| line.contains("Cast")).count(),
        2,
        "{found:?}"
    );
}

#[test]
fn slice_start_below_int64_takes_one_element() {
    // A start before the first element stands for the first one, backwards too.
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        g (int64[3] x) => (int64[Q] y, int64[1] n)
           <int64[1] s = {-4}, int64[1] e = {-9223372036854775808}, int64[1] a = {0}, int64[1] p = {-1}> {
          y = Slice (x, s, e, a, p)
          n = Shape (y) }"#;
    let found = simplified(text);
    assert!(has(&found, "Slice"), "{found:?}");
    let mut inferred = model(text);
    secateur::analysis::infer(&mut inferred);
    let slice = inferred.graph.node_ids().find(|id| {
        let operator = inferred.graph.operator(*id);
        operator.is_some_and(|operator| &*operator.op_type == "Slice")
    });
    let y = &inferred.graph.get(slice.unwrap()).unwrap().outputs()[0];
    assert_eq!(y.ty.to_string(), "int64[1]");
}
