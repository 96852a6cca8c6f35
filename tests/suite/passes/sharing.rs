//! `eliminate-dead-code`, `eliminate-common-subexpressions` and `deduplicate-initializers`.

use secateur::passes::{DeduplicateInitializers, EliminateCommonSubexpressions, EliminateDeadCode};

use super::{Setting, check, check_untouched, keep};

const HEAD: &str = r#"<ir_version: 8, opset_import: ["" : 17, "my" : 1]>"#;

fn dead(body: &str, setting: &Setting, expected: &[&str]) {
    check(
        &EliminateDeadCode::default(),
        &format!("{HEAD} {body}"),
        setting,
        expected,
    );
}

fn common(body: &str, setting: &Setting, expected: &[&str]) {
    check(
        &EliminateCommonSubexpressions::default(),
        &format!("{HEAD} {body}"),
        setting,
        expected,
    );
}

fn distinct(body: &str) {
    check_untouched(
        &EliminateCommonSubexpressions::default(),
        &format!("{HEAD} {body}"),
        &Setting::default(),
    );
}

#[test]
fn what_no_output_depends_on_goes_and_unused_inputs_stay() {
    dead(
        "g (float[2] x, float[2] unused) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {3, 4}> {
           k = Constant <value = float {3}> ()  p = Add (x, a)  q = my.Op (p, k)  y = Mul (x, b) }",
        &Setting::default(),
        &["b: float[2] = 3 4", "y = Mul (x, b)"],
    );
    dead(
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { p = Add (x, a)  q = Neg (p)  y = Abs (x) }",
        &keep(&["^p$"]),
        &["a: float[2] = 1 2", "p = Add (x, a)", "y = Abs (x)"],
    );
}

#[test]
fn unused_captures_of_bodies_free_what_they_captured() {
    dead(
        "g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
           p = Neg (x)  q = Abs (w)
           y = If (c) <then_branch = t () => (float[2] a) { d = Add (p, q)  a = Relu (x) },
                       else_branch = e () => (float[2] b) { b = Neg (x) }> }",
        &Setting::default(),
        &[
            "y = If (c) < then_branch = t () => (float[2] a) { a = Relu (x) }, \
           else_branch = e () => (float[2] b) { b = Neg (x) } >",
        ],
    );
}

#[test]
fn optional_outputs_that_nothing_reads_are_left_out() {
    dead(
        "g (float[1, 2, 4, 4] x) => (float[1, 2, 2, 2] y) {
           y, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) }",
        &Setting::default(),
        &["y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)"],
    );
    // Which of the outputs there are says something about these.
    let body = "g (float[1, 2] x) => (float[1, 1] v) <int64[1] k = {1}> { v, i = TopK (x, k) }";
    check_untouched(
        &EliminateDeadCode::default(),
        &format!("{HEAD} {body}"),
        &Setting::default(),
    );
    let body = r#"<ir_version: 8, opset_import: ["" : 9]>
        g (float[1, 2] x) => (float[1, 2] y) <float[2] s = {1, 1}, float[2] b = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 1}> {
          y, m1, v1, sm, sv = BatchNormalization (x, s, b, m, v) }"#;
    check_untouched(&EliminateDeadCode::default(), body, &Setting::default());
}

#[test]
fn functions_that_nothing_calls_go() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
        g (float[2] x) => (float[2] y) { y = f.A (x) }
        <domain: "f", opset_import: ["" : 17, "f" : 1]> A (a) => (b) { b = f.B (a) }
        <domain: "f", opset_import: ["" : 17]> B (a) => (b) { b = Neg (a) }
        <domain: "f", opset_import: ["" : 17, "f" : 1]> C (a) => (b) { b = f.B (a) }"#;
    let mut model = super::model(text);
    let report = super::run_pass(&EliminateDeadCode::default(), &mut model, &Setting::default()).unwrap();
    let names: Vec<_> = model
        .functions
        .iter()
        .map(|f| f.header.name.clone().unwrap())
        .collect();
    assert_eq!(names, ["A", "B"]);
    assert!(report.changed);
    let mut kept = super::model(text);
    super::run_pass(&EliminateDeadCode::default(), &mut kept, &keep(&["^C$"])).unwrap();
    assert_eq!(kept.functions.len(), 3);
}

#[test]
fn the_same_computation_is_done_once() {
    common(
        "g (float[2] x, float[2] z) => (float[2] y) {
           a = Add (x, z)  b = Add (z, x)  c = Neg (a)  d = Neg (b)  y = Sub (c, d) }",
        &Setting::default(),
        &["a = Add (x, z)", "c = Neg (a)", "y = Sub (c, c)"],
    );
    common(
        "g (float[2, 3] x) => (float[3, 2] y, float[3, 2] z) {
           a = Transpose <perm = [1, 0]> (x)  y = Transpose <perm = [1, 0]> (x)  z = Neg (a) }",
        &Setting::default(),
        &["y = Transpose <perm = [1, 0]> (x)", "z = Neg (y)"],
    );
}

#[test]
fn different_computations_stay() {
    distinct("g (float[2] x, float[2] z) => (float[2] y) { a = Sub (x, z)  b = Sub (z, x)  y = Mul (a, b) }");
    distinct(
        "g (float[2, 3] x) => (float[2, 3] y) { a = Softmax <axis = 0> (x)  b = Softmax <axis = 1> (x)  y = Mul (a, b) }",
    );
    distinct("g (float[2] x) => (float[2] a, float[2] b) { a = Neg (x)  b = Neg (x) }");
    distinct(
        "g (float[2] x) => (float[2] y) { a = RandomNormalLike (x)  b = RandomNormalLike (x)  y = Mul (a, b) }",
    );
    distinct(
        "g (float[2] x) => (float[2] y) { a = Bernoulli <seed = 1.0> (x)  b = Bernoulli <seed = 1.0> (x)  y = Mul (a, b) }",
    );
    distinct("g (float[2] x) => (float[2] y) { a = my.Op (x)  b = my.Op (x)  y = Mul (a, b) }");
    distinct(
        "g (float[2] x) => (float[2] y) <float r = {0.5}, bool t = {1}> {
           a = Dropout (x, r, t)  b = Dropout (x, r, t)  y = Mul (a, b) }",
    );
    distinct(
        "g (float[2] x, bool c) => (float[2] y) {
           a = If (c) <then_branch = t () => (float[2] p) { p = Neg (x) }, else_branch = e () => (float[2] q) { q = Abs (x) }>
           b = If (c) <then_branch = t2 () => (float[2] r) { r = Neg (x) }, else_branch = e2 () => (float[2] s) { s = Abs (x) }>
           y = Mul (a, b) }",
    );
}

#[test]
fn kept_names_are_not_merged() {
    common(
        "g (float[2] x) => (float[2] y) { a = Neg (x)  b = Neg (x)  y = Mul (a, b) }",
        &keep(&["^b$"]),
        &["a = Neg (x)", "b = Neg (x)", "y = Mul (a, b)"],
    );
    common(
        "g (float[2] x) => (float[2] y, float[2] b) { a = Neg (x)  b = Neg (x)  y = Mul (a, b) }",
        &keep(&["^a$"]),
        &["a = Neg (x)", "b = Neg (x)", "y = Mul (a, b)"],
    );
}

#[test]
fn bodies_compute_once_too_and_capture_a_value_once() {
    common(
        "g (float[2] x, bool c) => (float[2] y) {
           p = Neg (x)  q = Neg (x)
           y = If (c) <then_branch = t () => (float[2] a) { d = Abs (p)  f = Abs (q)  a = Mul (d, f) },
                       else_branch = e () => (float[2] b) { b = Relu (x) }> }",
        &Setting::default(),
        &[
            "p = Neg (x)",
            "y = If (c) < then_branch = t () => (float[2] a) { d = Abs (p) a = Mul (d, d) }, \
             else_branch = e () => (float[2] b) { b = Relu (x) } >",
        ],
    );
}

#[test]
fn equal_initializers_become_one() {
    let dedupe = DeduplicateInitializers::default();
    let text = |body: &str| format!("{HEAD} {body}");
    check(
        &dedupe,
        &text(
            "g (float[2] x, bool c) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {1, 2}, float[2] d = {2, 1}, int64[2] i = {1, 2}> {
               k = Constant <value = float[2] {1, 2}> ()
               p = Add (x, a)  q = Mul (p, b)  r = Sub (q, d)  s = Add (r, k)
               y = If (c) <then_branch = t () => (float[2] u) { u = Mul (s, b) }, else_branch = e () => (float[2] v) { v = Neg (s) }> }",
        ),
        &Setting::default(),
        &[
            "a: float[2] = 1 2",
            "d: float[2] = 2 1",
            "i: int64[2] = 1 2",
            "p = Add (x, a)",
            "q = Mul (p, a)",
            "r = Sub (q, d)",
            "s = Add (r, a)",
            "y = If (c) < then_branch = t () => (float[2] u) { u = Mul (s, a) }, else_branch = e () => (float[2] v) { v = Neg (s) } >",
        ],
    );
    // Zeros of both signs, and undefined numbers of other bits, are different constants.
    check_untouched(
        &dedupe,
        &text(
            "g (float[1] x) => (float[1] y) <float[1] a = {0}, float[1] b = {-0}> { p = Div (x, a)  q = Div (x, b)  y = Add (p, q) }",
        ),
        &Setting::default(),
    );
    check_untouched(
        &dedupe,
        &text(
            "g (float[2] x, float[2] a = {1, 2}) => (float[2] y) <float[2] b = {1, 2}> { p = Add (x, a)  y = Mul (p, b) }",
        ),
        &Setting::default(),
    );
    check_untouched(
        &dedupe,
        &text(
            "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {1, 2}> { p = Add (x, a)  y = Mul (p, b) }",
        ),
        &keep(&["^b$"]),
    );
}
