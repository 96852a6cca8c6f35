//! Graphs of thousands of nodes around one node, value or name: what costs a step for each pair there shows as a test that does
//! not end. `benches/growth` measures the exponents.

use std::fmt::Write as _;

use secateur::engine::{CompileOptions, Engine, EngineError, TractEngine};
use secateur::ir::{CheckError, Model};
use secateur::passes::{EliminateCommonSubexpressions, Pass, Simplify};

use super::{Setting, lines, model, run_pass};

/// The model with these nodes between `x` and `y`.
fn around(nodes: &str) -> Model {
    model(&format!(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2,3] x) => (float[?,?] y) {{ {nodes} }}"
    ))
}

fn after(pass: &dyn Pass, mut model: Model) -> Vec<String> {
    run_pass(pass, &mut model, &Setting::default()).unwrap();
    // Long lists are broken into lines.
    let plain = |line: String| line.replace("( ", "(").replace(" )", ")");
    lines(&model).into_iter().map(plain).collect()
}

fn simplified(nodes: &str) -> Vec<String> {
    after(&Simplify::default(), around(nodes))
}

fn repeated(what: &str, count: usize) -> String {
    vec![what; count].join(", ")
}

#[test]
fn a_chain_of_joins_becomes_one_join_of_the_same_parts_in_order() {
    let mut nodes = String::from("c0 = Concat <axis = 1> (x, x) r = Relu (x)");
    let count = 500;
    for link in 1..count {
        let part = if link % 3 == 0 { "r" } else { "x" };
        let output = if link + 1 == count {
            "y".to_owned()
        } else {
            format!("c{link}")
        };
        write!(nodes, " {output} = Concat <axis = 1> (c{}, {part})", link - 1).unwrap();
    }
    let parts: Vec<&str> = (0..count)
        .map(|link| if link > 0 && link % 3 == 0 { "r" } else { "x" })
        .collect();
    let joined = format!("y = Concat <axis = 1> (x, {})", parts.join(", "));
    assert_eq!(simplified(&nodes), ["r = Relu (x)", joined.as_str()]);
}

#[test]
fn joins_that_lie_in_each_other_at_either_end_become_one() {
    let mut nodes = String::from("a0 = Relu (x) b0 = Sigmoid (x)");
    for link in 1..40 {
        let before = link - 1;
        write!(nodes, " a{link} = Concat <axis = 1> (x, a{before})").unwrap();
        write!(nodes, " b{link} = Concat <axis = 1> (b{before}, x)").unwrap();
    }
    nodes.push_str(" y = Concat <axis = 1> (a39, x, b39)");
    let x = repeated("x", 39);
    let joined = format!("y = Concat <axis = 1> ({x}, a0, x, b0, {x})");
    assert_eq!(
        simplified(&nodes),
        ["a0 = Relu (x)", "b0 = Sigmoid (x)", joined.as_str()]
    );
}

#[test]
fn equal_nodes_under_one_reader_are_computed_once() {
    let count = 1500;
    let mut nodes = String::new();
    for index in 0..count {
        write!(nodes, "s{index} = Sigmoid (x) ").unwrap();
    }
    let parts: Vec<String> = (0..count).map(|index| format!("s{index}")).collect();
    write!(nodes, "y = Concat <axis = 1> ({})", parts.join(", ")).unwrap();
    let joined = format!("y = Concat <axis = 1> ({})", repeated("s0", count));
    assert_eq!(
        after(&EliminateCommonSubexpressions::default(), around(&nodes)),
        ["s0 = Sigmoid (x)", joined.as_str()]
    );
}

#[test]
fn a_node_behind_each_part_of_a_split_is_rewritten_on_its_own() {
    let count = 600;
    let parts: Vec<String> = (0..count).map(|index| format!("p{index}")).collect();
    let mut text = format!(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2,{count}] x) => (float[2,{count}] y) {{ {} = Split <axis = 1> (x)",
        parts.join(", ")
    );
    for index in 0..count {
        write!(text, " a{index} = Relu (p{index}) b{index} = Relu (a{index})").unwrap();
    }
    let joined: Vec<String> = (0..count).map(|index| format!("b{index}")).collect();
    write!(text, " y = Concat <axis = 1> ({}) }}", joined.join(", ")).unwrap();
    let found = after(&Simplify::default(), model(&text));
    assert_eq!(found.len(), count + 2);
    assert!(
        found[1..=count].iter().all(|line| line.contains("Relu (p")),
        "{found:?}"
    );
}

#[test]
fn a_chain_of_calls_is_no_circle() {
    let calls = |last: &str| {
        let mut text = String::from(
            "<ir_version: 8, opset_import: [\"\" : 17, \"local\" : 1]> g (float[2,3] x) => (float[2,3] y) { y = local.F0 (x) }",
        );
        for index in 0..600 {
            let inner = if index + 1 < 600 {
                format!("local.F{}", index + 1)
            } else {
                last.to_owned()
            };
            write!(
                text,
                " <domain: \"local\", opset_import: [\"\" : 17, \"local\" : 1]> F{index} (a) => (r) {{ r = {inner} (a) }}"
            )
            .unwrap();
        }
        secateur::ir::check(&model(&text))
    };
    assert_eq!(calls("Relu"), Ok(()));
    let circle: Vec<CheckError> = calls("local.F599").unwrap_err();
    assert_eq!(circle.len(), 600, "each of them calls one that calls itself");
}

#[test]
fn calls_that_multiply_are_refused_before_they_are_run() {
    let mut text = String::from(
        "<ir_version: 8, opset_import: [\"\" : 17, \"local\" : 1]> g (float[2] x) => (float[2] y) { y = local.F0 (x) }",
    );
    for index in 0..40 {
        let inner = if index + 1 < 40 {
            format!("local.F{}", index + 1)
        } else {
            "Relu".to_owned()
        };
        write!(
            text,
            " <domain: \"local\", opset_import: [\"\" : 17, \"local\" : 1]> F{index} (a) => (r) {{ t = {inner} (a) r = {inner} (t) }}"
        )
        .unwrap();
    }
    match TractEngine.compile(&model(&text), &CompileOptions::default()) {
        Err(EngineError::Unsupported { operator, reason, .. }) => {
            assert_eq!(operator, "calls of functions");
            assert!(reason.contains("100000 operators"), "{reason}");
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
}
