//! `fold-constants`.

use secateur::passes::FoldConstants;

use super::{Setting, check, check_untouched, growth, keep, lines, model, run_pass};

const HEAD: &str = r#"<ir_version: 8, opset_import: ["" : 17]>"#;

fn fold(body: &str, setting: &Setting, expected: &[&str]) -> secateur::passes::PassReport {
    check(
        &FoldConstants::default(),
        &format!("{HEAD} {body}"),
        setting,
        expected,
    )
}

fn untouched(body: &str) -> secateur::passes::PassReport {
    check_untouched(
        &FoldConstants::default(),
        &format!("{HEAD} {body}"),
        &Setting::default(),
    )
}

#[test]
fn only_what_something_unknown_reads_becomes_a_constant() {
    fold(
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {3, 4}> {
           s = Add (a, b)  t = Mul (s, s)  u = Sub (t, a)  y = Add (x, u) }",
        &Setting::default(),
        &["u: float[2] = 15 34", "y = Add (x, u)"],
    );
}

#[test]
fn shapes_and_sizes_of_known_dimensions_are_constants() {
    fold(
        "g (float[N, 3, 4] x) => (int64[2] y, int64 n) <float[2, 5] w = {1,2,3,4,5,6,7,8,9,10}> {
           y = Shape <start = 1> (x)  n = Size (w) }",
        &Setting::default(),
        &["n: int64 = 10", "y: int64[2] = 3 4"],
    );
    fold(
        "g (float[N, 3, 4] x) => (float[M, 12] y) <int64[1] one = {1}, int64[1] m = {-1}> {
           s = Shape <start = 1> (x)  p = ReduceProd <keepdims = 1> (s)  t = Concat <axis = 0> (m, p)  y = Reshape (x, t) }",
        &Setting::default(),
        &["one: int64[1] = 1", "t: int64[2] = -1 12", "y = Reshape (x, t)"],
    );
}

#[test]
fn types_that_nothing_has_inferred_yet_are_inferred_first() {
    let text = format!(
        "{HEAD} g (float[2, 3] x) => (float[2, 3] y, int64[2] n) <float[3] a = {{-1, 2, 3}}> {{
           r = Relu (a)  y = Add (x, r)  d = Add (x, a)  n = Shape (d) }}"
    );
    let message = secateur::format::text::parse_model(&text).unwrap();
    let files = secateur::format::ExternalFiles::default();
    let mut folded = secateur::format::lift(message, &files).unwrap();
    let report = run_pass(&FoldConstants::default(), &mut folded, &Setting::default()).unwrap();
    assert!(report.changed, "{report:#?}");
    let mut found = lines(&folded);
    found.sort();
    assert_eq!(
        found,
        ["n: int64[2] = 2 3", "r: float[3] = 0 2 3", "y = Add (x, r)"]
    );
}

#[test]
fn unknown_dimensions_stay() {
    untouched("g (float[N, 3] x) => (int64[2] y) { y = Shape (x) }");
    untouched("g (float[N, 3] x) => (int64 y) { y = Size (x) }");
}

#[test]
fn random_operators_are_never_folded() {
    untouched("g () => (float[2] y) <float[2] a = {1, 2}> { y = RandomNormalLike (a) }");
    untouched("g () => (float[2] y) <float[2] a = {1, 2}> { y = RandomUniformLike <seed = 1.0> (a) }");
    untouched("g () => (float[2] y) <float[2] a = {0.5, 0.5}> { y = Bernoulli (a) }");
    untouched(
        "g () => (float[2] y) <float[2] a = {1, 2}, float r = {0.5}, bool t = {1}> { y = Dropout (a, r, t) }",
    );
    untouched("g (bool t) => (float[2] y) <float[2] a = {1, 2}, float r = {0.5}> { y = Dropout (a, r, t) }");
}

#[test]
fn an_initializer_that_the_caller_may_override_is_no_constant() {
    untouched("g (float[2] x, float[2] w = {1, 2}) => (float[2] y) { s = Add (w, w)  y = Add (x, s) }");
}

#[test]
fn quantized_weights_stay_quantized() {
    untouched(
        "g (float[2] x) => (float[2] y) <int8[2] w = {1, 2}, float s = {0.5}, int8 z = {0}> {
           d = DequantizeLinear (w, s, z)  y = Add (x, d) }",
    );
}

#[test]
fn operators_of_other_domains_and_functions_stay() {
    check_untouched(
        &FoldConstants::default(),
        r#"<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
           g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { s = my.Op (w)  t = Relu (w)  y = my.Op (x) }"#,
        &Setting {
            keep: vec!["^t$"],
            ..Setting::default()
        },
    );
    check_untouched(
        &FoldConstants::default(),
        r#"<ir_version: 8, opset_import: ["" : 17]>
           g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { s = Relu (w)  y = Add (x, s) }
           <domain: "", opset_import: ["" : 17]> Relu (a) => (b) { b = Neg (a) }"#,
        &Setting::default(),
    );
}

#[test]
fn a_weight_behind_an_identity_is_shared_and_never_copied() {
    let weight = (0..256).map(|v| v.to_string()).collect::<Vec<_>>().join(", ");
    fold(
        &format!(
            "g (float[1, 16] x) => (float[1, 16] y) <float[16, 16] w = {{{weight}}}> {{
               v = Identity (w)  a = MatMul (x, w)  y = MatMul (a, v) }}"
        ),
        &Setting::default(),
        &[
            "w: float[16, 16] = 0 1 2 3 4 5 6 7 ...",
            "a = MatMul (x, w)",
            "y = MatMul (a, w)",
        ],
    );
    // A transposed copy would be a second weight in the file.
    let report = untouched(&format!(
        "g (float[1, 16] x) => (float[1, 16] y) <float[16, 16] w = {{{weight}}}> {{
           v = Transpose (w)  a = MatMul (x, w)  y = MatMul (a, v) }}"
    ));
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("the file would grow")),
        "{:?}",
        report.notes
    );
    // Nothing else reads the original here: the copy takes its place.
    fold(
        &format!(
            "g (float[1, 16] x) => (float[1, 16] y) <float[16, 16] w = {{{weight}}}> {{
               v = Transpose (w)  y = MatMul (x, v) }}"
        ),
        &Setting::default(),
        &[
            "v: float[16, 16] = 0 16 32 48 64 80 96 112 ...",
            "y = MatMul (x, v)",
        ],
    );
    // So may it where the file is allowed to grow.
    fold(
        &format!(
            "g (float[1, 16] x) => (float[1, 16] y) <float[16, 16] w = {{{weight}}}> {{
               v = Transpose (w)  a = MatMul (x, w)  y = MatMul (a, v) }}"
        ),
        &growth(1.5),
        &[
            "w: float[16, 16] = 0 1 2 3 4 5 6 7 ...",
            "v: float[16, 16] = 0 16 32 48 64 80 96 112 ...",
            "a = MatMul (x, w)",
            "y = MatMul (a, v)",
        ],
    );
}

#[test]
fn a_view_of_a_weight_that_stays_in_use_is_not_written_twice() {
    let weight = (0..256).map(|v| v.to_string()).collect::<Vec<_>>().join(", ");
    untouched(&format!(
        "g (float[1, 16] x) => (float[1, 16] y) <float[16, 16] w = {{{weight}}}, int64[2] s = {{16, 16}}> {{
           v = Reshape (w, s)  a = MatMul (x, w)  y = MatMul (a, v) }}"
    ));
}

#[test]
fn constants_do_not_explode() {
    // 64 MB out of 8 bytes; allowed growth does not help.
    for body in [
        "g (float[1] x) => (float[16777216] y) <int64[1] n = {16777216}> { c = ConstantOfShape <value = float[1] {1}> (n)  y = Add (x, c) }",
        "g (float[1] x) => (float[4096, 4096] y) <float[1, 1] w = {1}, int64[2] n = {4096, 4096}> {
           c = Tile (w, n)  y = Add (x, c) }",
        "g (float[1] x) => (float[4096, 4096] y) <float[1, 1] w = {1}, int64[2] n = {4096, 4096}> {
           c = Expand (w, n)  y = Add (x, c) }",
        "g (int64[1] x) => (int64[N] y) <int64 a = {0}, int64 b = {100000000}, int64 d = {1}> {
           c = Range (a, b, d)  y = Add (x, c) }",
    ] {
        for setting in [Setting::default(), growth(1e9)] {
            let before = model(&format!("{HEAD} {body}"));
            let mut after = before.clone();
            let report = run_pass(&FoldConstants::default(), &mut after, &setting).unwrap();
            assert_eq!(lines(&before), lines(&after));
            assert!(
                report.notes.iter().any(|note| note.contains("not folded: c")),
                "{:?}",
                report.notes
            );
        }
    }
    // A megabyte is below the limit of one constant, yet the file may not grow.
    let report = untouched(
        "g (float[1] x) => (float[262144] y) <int64[1] n = {262144}> { c = ConstantOfShape <value = float[1] {1}> (n)  y = Add (x, c) }",
    );
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("the file would grow")),
        "{:?}",
        report.notes
    );
}

#[test]
fn kept_names_stay() {
    let body = "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}, float[2] b = {3, 4}> {
        s = Add (a, b)  t = Mul (s, s)  y = Add (x, t) }";
    fold(
        body,
        &keep(&["^s$"]),
        &[
            "a: float[2] = 1 2",
            "b: float[2] = 3 4",
            "s = Add (a, b)",
            "t = Mul (s, s)",
            "y = Add (x, t)",
        ],
    );
    fold(
        body,
        &keep(&["^a$"]),
        &["a: float[2] = 1 2", "t: float[2] = 16 36", "y = Add (x, t)"],
    );
}

#[test]
fn an_if_with_a_known_condition_becomes_its_branch() {
    let body = "g (float[2] x) => (float[2] y) <bool c = {1}, float[2] w = {1, 2}> {
        p = Neg (x)
        z = If (c) <then_branch = t () => (float[2] a) { q = Add (p, w)  a = Abs (q) },
                    else_branch = e () => (float[2] b) { q = Sub (p, w)  b = Relu (q) }>
        y = Neg (z) }";
    fold(
        body,
        &Setting::default(),
        &[
            "w: float[2] = 1 2",
            "p = Neg (x)",
            "\"z/q\" = Add (p, w)",
            "z = Abs (\"z/q\")",
            "y = Neg (z)",
        ],
    );
    check_untouched(
        &FoldConstants {
            keep_control_flow: true,
            ..FoldConstants::default()
        },
        &format!("{HEAD} {body}"),
        &Setting::default(),
    );
    check_untouched(
        &FoldConstants::default(),
        &format!("{HEAD} {body}"),
        &keep(&["^b$"]),
    );
}

#[test]
fn a_branch_that_gives_an_outer_value_keeps_the_names_of_graph_outputs() {
    fold(
        "g (float[2] x) => (float[2] y, float[2] z) <bool c = {0}> {
           y = Neg (x)
           z = If (c) <then_branch = t () => (float[2] a) { a = Abs (x) },
                       else_branch = e () => (float[2] b) { b = Identity (y) }> }",
        &Setting::default(),
        &["y = Neg (x)", "z = Identity (y)"],
    );
}

#[test]
fn nested_conditions_are_resolved_with_what_the_branch_computes() {
    fold(
        "g (float[2] x) => (float[2] y) <int64 k = {3}, int64 m = {4}> {
           c = Less (k, m)
           y = If (c) <
             then_branch = t () => (float[2] a) {
               d = Not (c)
               a = If (d) <then_branch = tt () => (float[2] aa) { aa = Abs (x) },
                           else_branch = ee () => (float[2] bb) { bb = Neg (x) }>
             },
             else_branch = e () => (float[2] b) { b = Relu (x) }> }",
        &Setting::default(),
        &["y = Neg (x)"],
    );
}

#[test]
fn loops_that_never_run_or_run_once_are_resolved() {
    let text = |trips: i64, condition: i64| {
        format!(
            "g (float[2] x) => (float[2] y) <int64 n = {{{trips}}}, bool c = {{{condition}}}> {{
               i = Neg (x)
               r = Loop (n, c, i) <body = b (int64 k, bool d, float[2] v) => (bool e, float[2] w) {{
                 e = Identity (d)  f = Cast <to = 1> (k)  s = Add (v, x)  w = Add (s, f) }}>
               y = Abs (r) }}"
        )
    };
    fold(&text(0, 1), &Setting::default(), &["i = Neg (x)", "y = Abs (i)"]);
    fold(&text(5, 0), &Setting::default(), &["i = Neg (x)", "y = Abs (i)"]);
    fold(
        &text(1, 1),
        &Setting::default(),
        &[
            "f: float = 0",
            "i = Neg (x)",
            "s = Add (i, x)",
            "r = Add (s, f)",
            "y = Abs (r)",
        ],
    );
    untouched(&text(2, 1));
}

#[test]
fn a_loop_with_few_trips_is_written_out_on_request() {
    let text = |trips: i64, body: &str| {
        format!(
            "{HEAD} g (float[2] x) => (float[2] y, float[S,2] z) <int64 n = {{{trips}}}, float[2] w = {{1, -2}}> {{
               y, z = Loop (n, , x) <body = b (int64 k, bool d, float[2] v) => (bool e, float[2] r, float[2] s) {{ {body} }}> }}"
        )
    };
    let plain = "e = Identity (d)  a = Add (v, w)  r = Relu (a)  s = Mul (r, v)";
    let pass = |unroll: u64| FoldConstants {
        unroll,
        ..FoldConstants::default()
    };
    let written_out = |trips: i64, body: &str, unroll: u64| {
        let mut model = model(&text(trips, body));
        run_pass(&pass(unroll), &mut model, &Setting::default()).unwrap();
        secateur::analysis::check(&model).unwrap();
        !lines(&model).iter().any(|line| line.contains("Loop"))
    };
    assert!(!written_out(3, plain, 0));
    assert!(!written_out(3, plain, 11));
    assert!(written_out(3, plain, 12));
    // A condition that may become false, and one that is known not to.
    assert!(!written_out(3, "e = Not (d)  r = Add (v, w)  s = Mul (r, v)", 64));
    assert!(!written_out(
        3,
        "m = ReduceSum <keepdims = 0> (v)  e = Greater (m, m)  r = Add (v, w)  s = Mul (r, v)",
        64
    ));
    assert!(written_out(
        3,
        "e = Constant <value = bool {1}> ()  r = Add (v, w)  s = Mul (r, v)",
        64
    ));
    // Constants of the body would be there three times.
    let large = format!("float[1024] {{{}}}", vec!["1"; 1024].join(","));
    let large =
        format!("e = Identity (d)  c = Constant <value = {large}> ()  m = ReduceSum <keepdims = 0> (c)");
    assert!(!written_out(
        3,
        &format!("{large}  r = Add (v, m)  s = Mul (r, v)"),
        64
    ));

    let why = |body: &str, unroll: u64| {
        let report = check_untouched(&pass(unroll), &text(3, body), &Setting::default());
        report
            .left
            .iter()
            .map(|left| left.why.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        why(plain, 11),
        ["it would become 12 operators, and `unroll` is 11"]
    );
    let ends = "e = Not (d)  r = Add (v, w)  s = Mul (r, v)";
    assert_eq!(why(ends, 64), ["its body may end it before its counter does"]);
    assert!(why(plain, 0).is_empty());

    let mut after = model(&text(2, plain));
    run_pass(&pass(64), &mut after, &Setting::default()).unwrap();
    let found = lines(&after).join("\n");
    assert_eq!(found.matches("Relu").count(), 2, "{found}");
    assert!(found.contains("z = Concat <axis = 0>"), "{found}");
}

#[test]
fn bodies_and_functions_are_folded_with_what_they_capture() {
    fold(
        "g (float[2] x, bool c) => (float[2] y) <float[2] w = {1, 2}> {
           y = If (c) <then_branch = t () => (float[2] a) { p = Add (w, w)  q = Mul (p, p)  a = Add (x, q) },
                       else_branch = e () => (float[2] b) { b = Sub (x, w) }> }",
        &growth(1.0),
        &[
            "w: float[2] = 1 2",
            "y = If (c) < then_branch = t () => (float[2] a) < float[2] q = {4.0, 16.0} > { a = Add (x, q) }, \
             else_branch = e () => (float[2] b) { b = Sub (x, w) } >",
        ],
    );
}

#[test]
fn codes_become_floats_on_request_alone() {
    let text = "g (float[2, 2] x) => (float[2, 2] y, float[2, 2] z) <int8[2, 2] w = {1, -2, 3, 4}, float[2] s = {0.5, 2}, float[4] b = {0, 1, 2, 5},
                  uint8[2, 2] k = {3, 0, 1, 2}> {
           d = DequantizeLinear <axis = 1> (w, s) y = MatMul (x, d) i = Cast <to = 6> (k) v = Gather (b, i) z = MatMul (x, v) }";
    let mut model = model(&format!("{HEAD} {text}"));
    let before = model.clone();
    run_pass(&FoldConstants::default(), &mut model, &Setting::default()).unwrap();
    assert_eq!(operators(&model), operators(&before), "codes are the point of it");
    let decode = FoldConstants {
        decode: true,
        ..FoldConstants::default()
    };
    run_pass(&decode, &mut model, &Setting::default()).unwrap();
    assert_eq!(operators(&model), ["MatMul", "MatMul"]);
    let values = |name: &str| {
        let value = model.graph.find_value(name).unwrap();
        model.graph.constant(value).unwrap().to_f64().unwrap()
    };
    assert_eq!(values("d"), [0.5, -4.0, 1.5, 8.0]);
    assert_eq!(values("v"), [5.0, 0.0, 1.0, 2.0]);
}

fn operators(model: &secateur::ir::Model) -> Vec<String> {
    let order = model.graph.topological_order();
    let names = order.iter().filter_map(|id| model.graph.operator(*id));
    names.map(|operator| operator.op_type.to_string()).collect()
}

/// Numbers beyond what a dimension holds are no sizes, so nothing is decided from them as if they had wrapped.
#[test]
fn comparisons_of_large_unsigned_numbers_are_those_of_the_numbers() {
    let mut folded = model(&format!(
        "{HEAD} g (float[1] x) => (float[1] z, bool[2] less, bool[2] greater)
         <uint64[2] a = {{18446744073709551615, 1}}, uint64[2] b = {{1, 18446744073709551614}}> {{
           z = Relu (x)  less = Less (a, b)  greater = GreaterOrEqual (a, b) }}"
    ));
    run_pass(&FoldConstants::default(), &mut folded, &Setting::default()).unwrap();
    let truths = |name: &str| {
        let value = folded.graph.find_value(name).unwrap();
        folded.graph.constant(value).unwrap().to_i64().unwrap()
    };
    assert_eq!((truths("less"), truths("greater")), (vec![0, 1], vec![1, 0]));
}
