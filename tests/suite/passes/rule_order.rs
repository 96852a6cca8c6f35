//! What simplification leaves does not depend on the order in which rules of one priority are tried.

use std::collections::BTreeMap;
use std::path::Path;

use secateur::analysis::infer;
use secateur::fold::TractEvaluator;
use secateur::format::{ReadOptions, lift, read_proto};
use secateur::ir::Model;
use secateur::passes::{
    DeduplicateInitializers, EliminateCommonSubexpressions, EliminateDeadCode, FoldConstants, Pass,
};
use secateur::rewrite::{Options, RuleSet, apply};

use super::{Setting, model, run_pass};

/// Orders that are tried.
const ORDERS: u64 = 50;
/// Rounds after which a model has settled.
const MOST_ROUNDS: usize = 24;

/// Models in which several rules fit the same operators.
const OVERLAPPING: [(&str, &str); 10] = [
    (
        "transposes",
        r#"<ir_version: 10, opset_import: ["" : 20]>
        g (float[2,3,4,5] x) => (float[A,B,C,D] y, float[E,F,G] z) <int64[1] ax = {3}> {
          a = Transpose <perm = [0, 2, 3, 1]> (x)   r = Relu (a)
          b = Transpose <perm = [0, 3, 1, 2]> (r)   c = Transpose <perm = [3, 2, 1, 0]> (b)
          s = Sigmoid (c)                           d = Transpose <perm = [3, 2, 1, 0]> (s)
          e = Transpose <perm = [0, 1, 3, 2]> (d)   f = Neg (e)
          k = Neg (f)                               y = Transpose <perm = [0, 1, 3, 2]> (k)
          h = Transpose <perm = [1, 0, 2, 3]> (r)   i = Transpose <perm = [1, 0, 2, 3]> (h)
          n = ReduceMean <keepdims = 1> (i, ax)     z = Squeeze (n, ax) }"#,
    ),
    (
        "reshapes",
        r#"<ir_version: 10, opset_import: ["" : 20]>
        g (float[N,3,4,5] x) => (float[A,B] y, float[C,D,E] z)
          <int64[3] s1 = {0, 12, 5}, int64[2] s2 = {-1, 60}, int64[2] s3 = {0, -1}, int64[1] ax = {1}, int64[4] s4 = {0, 3, 4, 5},
           int64[3] s5 = {-1, 4, 15}> {
          a = Reshape (x, s1)   b = Unsqueeze (a, ax)   c = Squeeze (b, ax)
          d = Flatten <axis = 1> (c)   e = Reshape (d, s4)   f = Relu (e)
          k = Reshape (f, s2)   y = Reshape (k, s3)
          h = Unsqueeze (f, ax)   i = Flatten <axis = 2> (h)   z = Reshape (i, s5) }"#,
    ),
    (
        "convolutions",
        r#"<ir_version: 10, opset_import: ["" : 17]>
        g (float[2,2,6,6] x) => (float[A,B,C,D] y)
          <float[1] one = {1}, float[1,2,1,1] pre = {2, 3}, float[2] sc = {1, 2}, float[2] bi = {0.1, 0.2}, float[2] me = {0, 0.5},
           float[2] va = {1, 2}, float[1,2,1,1] k = {2, 3}, float[2,1,1] b = {1, 0.5}, int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1},
           float[2,2,2,2] W = {1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1}, float[2,2,1,1] K = {1, 2, 3, 5}, float zero = {0}, float six = {6}> {
          p = Pad (x, pads, zero)   q = Mul (p, pre)   c = Conv (q, W)
          n = BatchNormalization (c, sc, bi, me, va)   m = Mul (n, k)   a = Add (m, b)
          r = Relu (a)   s = Relu (r)   c2 = Conv (s, K)   a2 = Add (c2, b)   c3 = Conv (a2, K)
          m3 = Mul (c3, k)   n3 = BatchNormalization (m3, sc, bi, me, va)
          t = Mul (n3, one)   u = Clip (t, zero, six)   y = Relu (u) }"#,
    ),
    (
        "activations",
        r#"<ir_version: 10, opset_import: ["" : 20]>
        g (float[2,3,2] x) => (float[A,B,C] y)
          <float[2,2] W = {1, 2, 3, 4}, float[2] b = {1, 2}, float r = {1.4142135}, float h = {0.5}, float one = {1}, float i = {0.70710677},
           float six = {6}, float three = {3}, float zero = {0}> {
          m = MatMul (x, W)   a = Add (m, b)
          d = Div (a, r)   e = Erf (d)   p = Add (e, one)   q = Mul (a, p)   k = Mul (q, h)
          d2 = Mul (k, i)   e2 = Erf (d2)   p2 = Add (e2, one)   q2 = Mul (k, h)   k2 = Mul (q2, p2)
          t3 = Add (k2, three)   c3 = Clip (t3, zero, six)   f3 = Div (c3, six)   k3 = Mul (k2, f3)
          s = Sigmoid (k3)   w = Mul (k3, s)
          n = Neg (w)   v = Exp (n)   u = Add (v, one)   o = Div (one, u)   f = Mul (o, h)   y = Mul (f, six) }"#,
    ),
    (
        "normalizations",
        r#"<ir_version: 10, opset_import: ["" : 23]>
        g (float[2,5,4] x) => (float[A,B,C] y)
          <float two = {2}, float e = {0.00001}, float[4] g1 = {1, 2, 3, 4}, float[4] b1 = {0, 1, 0, 1}, int64[1] ax = {-1}, float[4] zero = {0, 0, 0, 0}> {
          m = ReduceMean <keepdims = 1> (x, ax)   d = Sub (x, m)   p = Pow (d, two)
          v = ReduceMean <keepdims = 1> (p, ax)   w = Add (v, e)   s = Sqrt (w)   n = Div (d, s)
          a = Mul (n, g1)   l = Add (a, b1)
          q = Mul (l, l)   v2 = ReduceMean <keepdims = 1> (q, ax)   w2 = Add (v2, e)   s2 = Sqrt (w2)   n2 = Div (l, s2)
          a2 = Mul (n2, g1)   l2 = Add (a2, zero)
          q3 = Mul (l2, l2)   u3 = ReduceSum <keepdims = 1> (q3, ax)   t3 = Sqrt (u3)   n3 = Div (l2, t3)
          x4 = Exp (n3)   u4 = ReduceSum <keepdims = 1> (x4, ax)   f4 = Div (x4, u4)   y = Log (f4) }"#,
    ),
    (
        "slices",
        r#"<ir_version: 10, opset_import: ["" : 17]>
        g (float[2,4] a, float[2,3] b, float[2,5] c) => (float[A,B] y, float[C,D] z, float[E,F] w)
          <int64[1] s0 = {0}, int64[1] s4 = {4}, int64[1] s7 = {7}, int64[1] s12 = {12}, int64[1] ax = {1}, int64[1] one = {1},
           int64[1] big = {9223372036854775807}> {
          p = Concat <axis = 1> (a, b)   q = Concat <axis = -1> (p, c)
          r = Slice (q, s4, s7, ax)   t = Slice (q, s0, s7, ax)   u = Slice (t, s0, s4, ax)
          v = Concat <axis = 1> (u, r)   y = Relu (v)
          h = Slice (q, s0, big, ax)   i = Slice (h, s0, one, s0)   j = Slice (i, s7, s12, ax)
          k = Identity (j)   z = Sigmoid (k)
          l = Concat <axis = 1> (q)   m = Concat <axis = 1> (l, a)   n = Concat <axis = 1> (b, m, b)   w = Neg (n) }"#,
    ),
    (
        "products",
        r#"<ir_version: 10, opset_import: ["" : 17]>
        g (float[2,3] x) => (float[A,B] y)
          <float[2,3] W = {1, 2, 3, 4, 5, 6}, float[3] b = {1, 2, 3}, float[3] k = {2, 3, 4}, float[2,3] V = {6, 5, 4, 3, 2, 1}, float h = {0.5},
           float[2] sc = {1, 2}, float[2] bi = {0, 1}, float[2] me = {0, 1}, float[2] va = {1, 2}, float[2] c = {1, 3}, float[2,2] U = {1, 2, 3, 4}> {
          t = Transpose <perm = [1, 0]> (x)   m = MatMul (t, W)   s = Mul (m, k)
          a = Add (s, b)   a2 = Add (a, b)   r = Relu (a2)   u = Mul (r, h)
          vt = Transpose <perm = [1, 0]> (V)   m2 = MatMul (u, vt)   n2 = BatchNormalization (m2, sc, bi, me, va)
          d2 = Div (n2, h)   e2 = Add (d2, c)
          xt = Transpose (e2)   f = Transpose (xt)   k1 = Gemm <transB = 1> (f, U)   y = Add (k1, c) }"#,
    ),
    (
        "casts and constants",
        r#"<ir_version: 10, opset_import: ["" : 17]>
        g (float[2,3] x, bool[2,3] c, int32[2,3] n) => (float[A,B] y, int32[C,D] z, bool[E,F] w)
          <float one = {1}, float zero = {0}, float two = {2}, float[3] ones = {1, 1, 1}, bool t = {1}> {
          a = Cast <to = 11> (x)   b = Cast <to = 1> (a)   d = Mul (b, one)   e = Add (d, zero)
          f = Div (e, ones)   k1 = Pow (f, two)
          nc = Not (c)   h = Where (nc, k1, f)   i = Where (t, h, f)   j = Neg (i)   k = Add (x, j)
          l = Abs (k)   m = Relu (l)   o = Abs (m)   p = Reciprocal (o)   q = Mul (m, p)   y = Mul (q, two)
          r = Cast <to = 7> (n)   s = Cast <to = 6> (r)   z = Cast <to = 6> (s)
          u = And (c, t)   v = Not (u)   w = Not (v) }"#,
    ),
    (
        "reductions",
        r#"<ir_version: 10, opset_import: ["" : 18]>
        g (float[2,1,6] x) => (float[A,B] y, float[C,D] z, float[E,F,G] w)
          <int64[1] a1 = {1}, int64[1] a2 = {2}, int64[3] r = {1, 1, 1}, int64[3] s = {2, 1, 6}> {
          m = ReduceMean <keepdims = 1> (x, a1)   q = Squeeze (m, a1)   y = Relu (q)
          e = Exp (x)   u = ReduceSum <keepdims = 1> (e, a2)   l = Log (u)
          n = ReduceSum <keepdims = 0> (l, a1)   z = Sigmoid (n)
          t = Transpose <perm = [1, 0, 2]> (x)   t2 = Transpose <perm = [1, 0, 2]> (t)
          ti = Tile (t2, r)   ex = Expand (ti, s)   ad = Add (ex, u)   mx = Max (ad)
          rs = Reshape (mx, s)   sq = Squeeze (rs, a1)   us = Unsqueeze (sq, a1)   w = Tanh (us) }"#,
    ),
    (
        "computed shapes",
        r#"<ir_version: 10, opset_import: ["" : 17]>
        g (float[N,S,8] x) => (float[A,B] y, float[C,D,E] z)
          <int64[1] eight = {8}, int64 zero = {0}, int64 one = {1}, int64[1] ax = {0}> {
          s = Shape (x)   n = Gather <axis = 0> (s, zero)   t = Gather <axis = 0> (s, one)
          nt = Mul (n, t)   u = Unsqueeze (nt, ax)   q = Concat <axis = 0> (u, eight)   y1 = Reshape (x, q)   y = Relu (y1)
          r = Sigmoid (x)   sr = Shape (r)   b = Reshape (r, sr)   e = Expand (b, s)
          nu = Unsqueeze (n, ax)   tu = Unsqueeze (t, ax)   qq = Concat <axis = 0> (nu, tu, eight)
          f = Reshape (y, qq)   z = Add (e, f) }"#,
    ),
];

/// Fixtures that take little time.
const FIXTURES: [&str; 2] = ["digits_vit", "digits_cnn_bn"];

fn models() -> Vec<(String, Model)> {
    let mut found: Vec<(String, Model)> = OVERLAPPING
        .iter()
        .map(|(name, text)| ((*name).to_owned(), model(text)))
        .collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for name in FIXTURES {
        let read = read_proto(folder.join(format!("{name}.onnx")), &ReadOptions::default()).unwrap();
        found.push((name.to_owned(), lift(read.model, &read.origin.external).unwrap()));
    }
    found
}

/// All parts of `simplify` in turns, with these rules.
fn simplified(model: &Model, rules: &RuleSet) -> Model {
    let parts: [&dyn Pass; 3] = [
        &EliminateCommonSubexpressions::default(),
        &DeduplicateInitializers::default(),
        &EliminateDeadCode::default(),
    ];
    let mut model = model.clone();
    for _ in 0..MOST_ROUNDS {
        infer(&mut model);
        let mut changed = changes(&FoldConstants::default(), &mut model);
        let report = apply(&mut model, rules, &Options::new(&TractEvaluator)).unwrap();
        assert!(!report.exhausted);
        changed |= !report.fired.is_empty();
        for part in parts {
            changed |= changes(part, &mut model);
        }
        if !changed {
            return model;
        }
    }
    panic!("something changes after {MOST_ROUNDS} rounds");
}

fn changes(pass: &dyn Pass, model: &mut Model) -> bool {
    run_pass(pass, model, &Setting::default()).unwrap().changed
}

/// How often each operator stands in a model, bodies and functions included.
fn operators(model: &Model) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for path in model.graph_paths() {
        let graph = model.graph_at(&path).unwrap();
        for operator in graph.node_ids().filter_map(|id| graph.operator(id)) {
            *counts.entry(operator.op_type.to_string()).or_default() += 1;
        }
    }
    counts
}

fn total(counts: &BTreeMap<String, usize>) -> usize {
    counts.values().sum()
}

#[test]
fn the_order_of_rules_does_not_change_how_many_nodes_are_left() {
    let rules = RuleSet::embedded().unwrap();
    let models = models();
    let expected: Vec<BTreeMap<String, usize>> = models
        .iter()
        .map(|(_, model)| operators(&simplified(model, rules)))
        .collect();
    for ((name, model), left) in models.iter().zip(&expected) {
        assert!(
            total(left) < total(&operators(model)),
            "{name}: nothing is simplified"
        );
    }
    let mut different = Vec::new();
    for seed in 0..ORDERS {
        let rules = rules.shuffled(seed);
        for ((name, model), expected) in models.iter().zip(&expected) {
            let found = operators(&simplified(model, &rules));
            if total(&found) != total(expected) {
                different.push(format!("{name}, order {seed}: {found:?} instead of {expected:?}"));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn an_order_of_rules_decides_which_of_two_is_tried_first() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,3] x) => (float[2,3] y) <float[1] k = {1}> { a = Mul (x, k)  y = Relu (a) }"#;
    let rules = RuleSet::embedded().unwrap();
    let mut first = BTreeMap::new();
    for seed in 0..ORDERS {
        let mut found = model(text);
        let report = apply(&mut found, &rules.shuffled(seed), &Options::new(&TractEvaluator)).unwrap();
        *first
            .entry(report.fired.first().unwrap().rule.clone())
            .or_insert(0) += 1;
    }
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    assert_eq!(names, ["mul-one", "mul-one-of-shape"]);
}
