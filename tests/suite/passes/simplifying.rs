//! `simplify`: all parts in turns.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use secateur::passes::Simplify;
use secateur::rewrite::Safety;

use super::{Setting, check, check_untouched, model, run_pass};

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
