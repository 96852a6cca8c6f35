//! `simplify`: all parts in turns.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use secateur::ir::{Model, opset_version};
use secateur::passes::Simplify;
use secateur::rewrite::Safety;

use super::{Setting, check, check_untouched, growth, lines, model, run_pass};

#[test]
fn parts_work_on_what_other_parts_leave() {
    let report = check(
        &Simplify::default(),
        r#"<ir_version: 8, opset_import: ["" : 17]>
           g (float[2, 3] x) => (float[6] y) <int64[1] m = {-1}, float[2, 3] w = {1, 2, 3, 4, 5, 6}, float[2, 3] v = {1, 2, 3, 4, 5, 6}> {
             s = Shape (x)  p = ReduceProd <keepdims = 1> (s)  q = Identity (p)
             a = Add (x, w)  b = Add (v, x)  c = Mul (a, b)  dead = Neg (c)
             d = Identity (c)  y = Reshape (d, q) }"#,
        &Setting::default(),
        &[
            "w: float[2, 3] = 1 2 3 4 5 6",
            "p: int64[1] = 6",
            "a = Add (x, w)",
            "c = Mul (a, a)",
            "y = Reshape (c, p)",
        ],
    );
    assert!(
        report
            .changes
            .iter()
            .any(|change| change.rule == "deduplicate-initializers: repeated constant"),
        "{report:?}"
    );
}

#[test]
fn parts_can_be_left_out() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { a = Add (w, w)  b = Neg (x)  c = Neg (x)  d = Mul (b, c)  y = Add (a, d) }"#;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    check(
        &Simplify {
            except: names(&["eliminate-common-subexpressions"]),
            ..Simplify::default()
        },
        text,
        &Setting::default(),
        &[
            "a: float[2] = 2 4",
            "b = Neg (x)",
            "c = Neg (x)",
            "d = Mul (b, c)",
            "y = Add (a, d)",
        ],
    );
    check(
        &Simplify {
            only: names(&["eliminate-common-subexpressions"]),
            ..Simplify::default()
        },
        text,
        &Setting::default(),
        &[
            "w: float[2] = 1 2",
            "a = Add (w, w)",
            "b = Neg (x)",
            "d = Mul (b, b)",
            "y = Add (a, d)",
        ],
    );
    check_untouched(
        &Simplify {
            keep: names(&[".*"]),
            ..Simplify::default()
        },
        text,
        &Setting::default(),
    );
    let error = run_pass(
        &Simplify {
            only: names(&["no-such-rule"]),
            ..Simplify::default()
        },
        &mut model(text),
        &Setting::default(),
    );
    assert!(error.unwrap_err().to_string().contains("no-such-rule"));
    let error = run_pass(
        &Simplify {
            keep: names(&["("]),
            ..Simplify::default()
        },
        &mut model(text),
        &Setting::default(),
    );
    assert!(error.unwrap_err().to_string().contains("keep"));
}

/// `simplify` with the family `ort`, on files that are too small for the names of its operators.
fn for_onnx_runtime(text: &str) -> Model {
    let asked = Simplify {
        families: vec!["ort".to_owned()],
        ..Simplify::default()
    };
    let mut found = model(text);
    run_pass(&asked, &mut found, &growth(1.0)).unwrap();
    secateur::analysis::check(&found).unwrap_or_else(|errors| panic!("{errors:?}"));
    found
}

const GATE: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
    g (float[2, 3] x) => (float[2, 3] y) { s = Sigmoid (x)  y = Mul (x, s) }"#;

#[test]
fn operators_of_onnx_runtime_are_made_on_request_and_their_domain_is_imported() {
    check_untouched(&Simplify::default(), GATE, &growth(1.0));
    let found = for_onnx_runtime(GATE);
    let left = lines(&found);
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].starts_with("y = com.microsoft.QuickGelu"), "{left:?}");
    assert_eq!(opset_version(&found.opset_imports, "com.microsoft"), Some(1));
    let named = Simplify {
        only: vec!["ort-quick-gelu".to_owned()],
        ..Simplify::default()
    };
    let mut other = model(GATE);
    run_pass(&named, &mut other, &growth(1.0)).unwrap();
    assert_eq!(lines(&other), left, "a rule that is named needs no family");
}

#[test]
fn a_model_that_gets_no_operator_of_a_domain_imports_none() {
    let found = for_onnx_runtime(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y) { a = Identity (x)  y = Neg (a) }"#,
    );
    assert_eq!(lines(&found), ["y = Neg (x)"]);
    assert_eq!(opset_version(&found.opset_imports, "com.microsoft"), None);
}

#[test]
fn domains_are_imported_where_the_operators_stand() {
    let found = for_onnx_runtime(
        r#"<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[2,3] x) => (float[2,3] y) { y = local.gate (x) }
        <domain: "local", opset_import: ["" : 17]>
        gate (a) => (b) { c = Cast <to = 1> (a)  s = Sigmoid (c)  b = Mul (c, s) }"#,
    );
    let version = |imports| opset_version(imports, "com.microsoft");
    let own = &found.functions[0].opset_imports;
    assert_eq!((version(&found.opset_imports), version(own)), (None, Some(1)));
    let found = for_onnx_runtime(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (bool b, float[2,3] x) => (float[2,3] y) {
          y = If (b) <then_branch = t () => (float[2,3] p) { s = Sigmoid (x)  p = Mul (x, s) },
                      else_branch = e () => (float[2,3] q) { q = Neg (x) }> }"#,
    );
    assert_eq!(version(&found.opset_imports), Some(1));
}

#[test]
fn the_usual_rules_are_done_before_those_of_a_family_begin() {
    let found = for_onnx_runtime(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y)
           <float[1, 1, 1, 1] w = {2}, float[1] s = {1}, float[1] b = {0.5}, float[1] m = {0}, float[1] v = {1}> {
             i = Identity (x)  c = Conv (i, w)  n = BatchNormalization (c, s, b, m, v)  j = Identity (n)  y = Relu (j) }"#,
    );
    let nodes: Vec<String> = lines(&found)
        .into_iter()
        .filter(|line| line.contains('('))
        .collect();
    assert_eq!(nodes.len(), 1, "{nodes:?}");
    assert!(nodes[0].starts_with("y = com.microsoft.FusedConv"), "{nodes:?}");
}

/// The operators that `simplify` leaves.
fn left_of(text: &str) -> Vec<String> {
    let mut found = model(text);
    run_pass(&Simplify::default(), &mut found, &growth(1.0)).unwrap();
    secateur::analysis::check(&found).unwrap_or_else(|errors| panic!("{errors:?}"));
    let operators = found.graph.topological_order();
    let names = operators.into_iter().filter_map(|id| found.graph.operator(id));
    names.map(|operator| operator.op_type.to_string()).collect()
}

#[test]
fn branches_that_sizes_decide_are_taken() {
    let branch = |condition: &str| {
        left_of(&format!(
            r#"<ir_version: 8, opset_import: ["" : 17]>
            g (float[N, M] x, float[N, M] u) => (float[N, M] y) <int64 z = {{0}}, int64 o = {{1}}, int64 m = {{-1}}> {{
              s = Shape (x)  n = Gather (s, z)  k = Gather (s, o)  t = Shape (u)  p = Gather (t, z)  c = {condition}
              y = If (c) <then_branch = a () => (float[N, M] v) {{ v = Relu (x) }}, else_branch = b () => (float[N, M] w) {{ w = Abs (x) }}> }}"#
        ))
    };
    assert_eq!(branch("Equal (n, p)"), ["Relu"], "one symbol is one size");
    assert_eq!(branch("Less (n, z)"), ["Abs"], "no size is below 0");
    assert_eq!(branch("Equal (n, m)"), ["Abs"], "no size is -1");
    let open = branch("Equal (n, k)");
    assert!(
        open.contains(&"If".to_owned()),
        "two symbols may be one size or two: {open:?}"
    );
    let open = branch("Equal (n, o)");
    assert!(open.contains(&"If".to_owned()), "a size may be 1: {open:?}");
}

#[test]
fn positions_that_a_slice_takes_of_a_table_are_as_many_as_what_they_are_added_to() {
    let left = left_of(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[B, S, 4] x, float[1, 8, 4] table) => (float[B, S, 2, 2] y)
          <int64[1] z = {0}, int64[1] o = {1}, int64[1] two = {2}> {
            s = Shape (x)  n = Gather (s, o)  p = Slice (table, z, n, o)  a = Add (x, p)
            t = Shape (a)  h = Slice (t, z, two, z)  q = Concat <axis = 0> (h, two, two)  y = Reshape (a, q) }"#,
    );
    assert!(!left.contains(&"Concat".to_owned()), "{left:?}");
}

/// `simplify` with the family `parallel`.
fn in_parallel(text: &str) -> Vec<String> {
    let asked = Simplify {
        families: vec!["parallel".to_owned()],
        ..Simplify::default()
    };
    let mut found = model(text);
    run_pass(&asked, &mut found, &growth(1.0)).unwrap();
    secateur::analysis::check(&found).unwrap_or_else(|errors| panic!("{errors:?}"));
    lines(&found)
        .into_iter()
        .filter(|line| line.contains('('))
        .collect()
}

const PROJECTIONS: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 5, 2] x) => (float[N, 5, 2] q, float[N, 5, 3] k, float[N, 5, 1] v)
       <float[2, 2] a = {1, 2, 3, 4}, float[2, 3] b = {1, 2, 3, 4, 5, 6}, float[2, 1] c = {1, 2},
        float[2] d = {1, 2}, float[3] e = {1, 2, 3}, float[1] f = {7}> {
         h = MatMul (x, a)  q = Add (h, d)  i = MatMul (x, b)  k = Add (e, i)  j = MatMul (x, c)  v = Add (j, f) }"#;

#[test]
fn products_of_one_value_become_one_on_request_and_keep_their_outputs() {
    check_untouched(&Simplify::default(), PROJECTIONS, &growth(1.0));
    let left = in_parallel(PROJECTIONS);
    assert_eq!(left.len(), 3, "{left:?}");
    for (line, operator) in left.iter().zip(["MatMul", "Add", "Split"]) {
        assert!(line.contains(operator), "{left:?}");
    }
    let mut found = model(PROJECTIONS);
    let asked = Simplify {
        families: vec!["parallel".to_owned()],
        ..Simplify::default()
    };
    run_pass(&asked, &mut found, &growth(1.0)).unwrap();
    let outputs: Vec<&str> = found.graph.outputs().iter().map(|output| &*output.name).collect();
    assert_eq!(outputs, ["q", "k", "v"]);
    assert_eq!(
        in_parallel_again(&found),
        left.len(),
        "a second time changes nothing"
    );
}

/// How many operators are left after another run.
fn in_parallel_again(found: &Model) -> usize {
    let asked = Simplify {
        families: vec!["parallel".to_owned()],
        ..Simplify::default()
    };
    let mut again = found.clone();
    let report = run_pass(&asked, &mut again, &growth(1.0)).unwrap();
    assert!(!report.changed, "{report:?}");
    again.graph.operator_count()
}

#[test]
fn a_fourth_product_is_not_taken_into_three_that_are_split_already() {
    let left = in_parallel(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[5, 2] x) => (float[5, 2] p, float[5, 2] q, float[5, 2] r, float[5, 2] s)
           <float[2, 2] a = {1, 2, 3, 4}, float[2, 2] b = {5, 6, 7, 8}, float[2, 2] c = {9, 1, 2, 3}, float[2, 2] d = {4, 5, 6, 7}> {
             p = MatMul (x, a)  q = MatMul (x, b)  r = MatMul (x, c)  s = MatMul (x, d) }"#,
    );
    let count = |operator: &str| left.iter().filter(|line| line.contains(operator)).count();
    assert_eq!((count("MatMul"), count("Split")), (2, 1), "{left:?}");
}

#[test]
fn products_whose_weights_have_other_readers_stay_apart() {
    let left = in_parallel(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[5, 2] x, float[5, 2] z) => (float[5, 2] p, float[5, 2] q, float[5, 2] r)
           <float[2, 2] a = {1, 2, 3, 4}, float[2, 2] b = {5, 6, 7, 8}> {
             p = MatMul (x, a)  q = MatMul (z, b)  r = MatMul (q, a) }"#,
    );
    assert_eq!(left.len(), 3, "no two of one value: {left:?}");
}

#[test]
fn a_family_that_does_not_exist_is_refused_with_the_nearest() {
    let wrong = Simplify {
        families: vec!["orrt".to_owned()],
        ..Simplify::default()
    };
    let error = run_pass(&wrong, &mut model(GATE), &Setting::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("orrt") && text.contains("did you mean ort?"),
        "{text}"
    );
}

#[test]
fn layers_that_begin_with_zeros_need_no_sizes_for_them() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[3,N,5] x, float[1,16,5] w, float[1,16,4] r) => (float[3,1,N,4] y)
          <int64 one = {1}, int64[1] at = {0}, int64[1] layers = {1}, int64[1] hidden = {4}> {
            s = Shape (x)  n = Gather (s, one)  v = Unsqueeze (n, at)
            q = Concat <axis = 0> (layers, v, hidden)  z = ConstantOfShape (q)
            y = LSTM <hidden_size = 4> (x, w, r, , , z, z) }"#;
    let expected = ["y = LSTM <hidden_size = 4> (x, w, r)"];
    check(&Simplify::default(), text, &Setting::default(), &expected);
}

#[test]
fn without_fuel_no_rule_fires() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { a = Identity (x)  y = Neg (a) }"#;
    check_untouched(
        &Simplify {
            fuel: Some(0),
            ..Simplify::default()
        },
        text,
        &Setting::default(),
    );
    check(
        &Simplify {
            fuel: Some(1),
            ..Simplify::default()
        },
        text,
        &Setting::default(),
        &["y = Neg (x)"],
    );
}

/// A chain of `blocks` blocks of 8 nodes, all but 2 of which can go.
fn chain(blocks: usize) -> String {
    let mut text = String::from(
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2, 2] x0) => (float[2, 2] y) <float[2, 2] w = {1, 2, 3, 4}> {"#,
    );
    for block in 0..blocks {
        let (x, next) = (format!("x{block}"), format!("x{}", block + 1));
        writeln!(
            text,
            "a{block} = Identity ({x})  b{block} = Shape (a{block})  c{block} = Reshape (a{block}, b{block})
             d{block} = Add (c{block}, w)  e{block} = Add (w, c{block})  f{block} = Mul (d{block}, e{block})
             g{block} = Identity (f{block})  {next} = Relu (g{block})"
        )
        .unwrap();
    }
    write!(text, "y = Identity (x{blocks}) }}").unwrap();
    text
}

#[test]
fn time_grows_with_the_model_and_not_faster() {
    let mut times: Vec<Duration> = Vec::new();
    for blocks in [250, 1000, 4000] {
        let mut chain = model(&chain(blocks));
        let pass = Simplify {
            safety: Safety::Exact,
            ..Simplify::default()
        };
        let start = Instant::now();
        let report = run_pass(&pass, &mut chain, &Setting::default()).unwrap();
        times.push(start.elapsed());
        assert!(report.changed);
        println!(
            "{} nodes -> {}: {:?}",
            blocks * 8,
            chain.graph.operator_count(),
            times.last().unwrap()
        );
        // Add, Mul, Relu and at most the Reshape that needs a rule.
        assert!(chain.graph.operator_count() <= blocks * 4 + 1);
    }
    // Sixteen times the nodes; a quadratic step somewhere gives 256 times the time.
    assert!(times[2] < times[0] * 64, "{times:?}");
}
