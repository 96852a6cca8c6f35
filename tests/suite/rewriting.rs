//! The rule driver: where rules fire, what they leave alone, what the loader refuses.

use secateur::analysis::infer;
use secateur::fold::TractEvaluator;
use secateur::format::text::{PrintOptions, parse_model, print_node};
use secateur::format::{ExternalFiles, lift, model_to_proto};
use secateur::ir::{
    GraphBuilder, GraphOutput, GraphPath, Input, Model, Operator, OpsetImport, Value, ValueId, ValueType,
};
use secateur::rewrite::{Options, RewriteReport, RuleError, RuleSet, Safety, WhyNot, apply, why_not};

fn model(text: &str) -> Model {
    let message = parse_model(text).unwrap_or_else(|error| panic!("{error}"));
    let mut model = lift(message, &ExternalFiles::default()).unwrap();
    infer(&mut model);
    model
}

/// A model of one graph in opset 17.
fn graph(signature: &str, body: &str) -> Model {
    model(&format!(
        "<ir_version: 8, opset_import: [\"\" : 17]>\ng {signature} {{\n{body}\n}}"
    ))
}

fn run(model: &mut Model) -> RewriteReport {
    apply(
        model,
        RuleSet::embedded().unwrap(),
        &Options::new(&TractEvaluator),
    )
    .unwrap()
}

/// The operators of the main graph in order, bodies included as they print.
fn nodes(model: &Model) -> Vec<String> {
    let mut model = model.clone();
    model.name_values();
    let message = model_to_proto(&model, &ExternalFiles::default()).unwrap();
    message
        .graph
        .unwrap()
        .node
        .iter()
        .map(|node| print_node(node, &PrintOptions::default()).trim().to_owned())
        .collect()
}

fn operators(model: &Model) -> Vec<String> {
    let graph = &model.graph;
    graph
        .topological_order()
        .into_iter()
        .filter_map(|id| graph.operator(id).map(|o| o.op_type.to_string()))
        .collect()
}

#[test]
fn rewrites_reach_bodies_and_functions_with_their_own_opsets() {
    let mut found = model(
        r#"<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (bool b, float[2,3] x) => (float[2,3] y) {
          z = If (b) <then_branch = t () => (float[2,3] p) { i = Identity(x)
            p = Relu(i) }, else_branch = e () => (float[2,3] q) { j = Identity(x)
            q = Sigmoid(j) }>
          y = local.twice(z)
        }
        <domain: "local", opset_import: ["" : 17]>
        twice (a) => (b) { t = Relu(a)
          u = Relu(t)
          b = Add(u, u) }"#,
    );
    let report = run(&mut found);
    let counts = report.counts();
    assert_eq!(counts.get("identity"), Some(&2), "{counts:?}");
    assert_eq!(counts.get("idempotent-twice"), Some(&1), "{counts:?}");
    assert!(!nodes(&found).join(" ").contains("Identity"));
}

#[test]
fn a_constant_that_a_body_captures_is_one_there() {
    let mut found = graph(
        "(bool b, float[2,3] x) => (float[2,3] y)",
        "one = Constant <value: tensor = float {1}> ()
         y = If (b) <then_branch = t () => (float[2,3] p) { i = Mul(x, one)
           p = Relu(i) }, else_branch = e () => (float[2,3] q) { q = Mul(x, one) }>",
    );
    let counts = run(&mut found);
    assert_eq!(
        counts.counts().get("mul-one"),
        Some(&1),
        "the other product is an output of its body"
    );
}

#[test]
fn an_initializer_that_the_caller_may_override_is_no_constant() {
    let mut found = model(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,3] x, float[1] c = {1}) => (float[2,3] y) { i = Mul(x, c)
          y = Relu(i) }"#,
    );
    assert!(run(&mut found).fired.is_empty());
}

#[test]
fn protected_names_stay() {
    let text = "t = Identity(x)\n y = Relu(t)";
    let mut found = graph("(float[2,3] x) => (float[2,3] y)", text);
    let options = Options {
        keep: &|name| name == "t",
        ..Options::new(&TractEvaluator)
    };
    let report = apply(&mut found, RuleSet::embedded().unwrap(), &options).unwrap();
    assert!(report.fired.is_empty());
    assert!(
        report
            .refused
            .iter()
            .any(|refused| refused.reason.contains("protected")),
        "{report:?}"
    );
}

#[test]
fn outputs_keep_their_names_even_where_that_costs_a_node() {
    let mut found = graph(
        "(float[2,3] x) => (float[2,3] y, float[2,3] z)",
        "r = Relu(x)\n y = Identity(r)\n z = Identity(x)",
    );
    run(&mut found);
    assert_eq!(nodes(&found), ["y = Relu (x)", "z = Identity (x)"]);
}

#[test]
fn opset_forms_are_written_as_the_model_has_them() {
    let text = |opset: i64, first: &str, second: &str| {
        model(&format!(
            "<ir_version: 8, opset_import: [\"\" : {opset}]>\ng (float[2,3] x) => (float[1,2,3,1] y) <int64[1] a = {{0}}, int64[1] b = {{3}}> {{\n i = Unsqueeze {first}\n y = Unsqueeze {second}\n}}"
        ))
    };
    let mut old = text(11, "<axes = [0]> (x)", "<axes = [3]> (i)");
    run(&mut old);
    assert_eq!(nodes(&old), ["y = Unsqueeze <axes = [0, 3]> (x)"]);
    let mut new = text(17, "(x, a)", "(i, b)");
    run(&mut new);
    assert_eq!(operators(&new), ["Unsqueeze"]);
    let axes = new
        .graph
        .input(new.graph.output_values()[0].unwrap().node, 1)
        .unwrap();
    assert_eq!(new.graph.constant(axes).unwrap().to_i64().unwrap(), [0, 3]);
}

#[test]
fn fuel_stops_the_driver_and_the_report_says_so() {
    let mut found = graph(
        "(float[2,3] x) => (float[2,3] y)",
        "a = Neg(x)\n b = Neg(a)\n c = Neg(b)\n d = Neg(c)\n y = Relu(d)",
    );
    let options = Options {
        fuel: Some(1),
        ..Options::new(&TractEvaluator)
    };
    let report = apply(&mut found, RuleSet::embedded().unwrap(), &options).unwrap();
    assert_eq!((report.fired.len(), report.exhausted), (1, true));
    assert_eq!(operators(&found), ["Neg", "Neg", "Relu"]);
}

#[test]
fn approximate_rules_wait_to_be_asked_for() {
    let text = "n = ReduceL2 <axes = [1], keepdims = 1> (x)\n y = Div(x, n)";
    let mut found = graph("(float[2,8] x) => (float[2,8] y)", text);
    assert!(run(&mut found).fired.is_empty());
    let options = Options {
        safety: Safety::Approximate,
        ..Options::new(&TractEvaluator)
    };
    apply(&mut found, RuleSet::embedded().unwrap(), &options).unwrap();
    assert_eq!(operators(&found), ["LpNormalization"]);
}

#[test]
fn a_failed_clause_is_named() {
    let found = graph(
        "(float[2,3,8,8] x, float[4,3,3,3] w) => (float[2,4,6,6] y, float[2,4,6,6] c)",
        "c = Conv(x, w)\n s = Constant <value: tensor = float[4] {1,1,1,1}> ()\n y = BatchNormalization(c, s, s, s, s)",
    );
    let rules = RuleSet::embedded().unwrap();
    let node = found.graph.find_value("y").unwrap().node;
    let answer = why_not(
        &found,
        rules.get("conv-batch-norm").unwrap(),
        &GraphPath::MAIN,
        node,
        &Options::new(&TractEvaluator),
    );
    assert!(
        matches!(&answer, WhyNot::CheckFailed { clause, .. } if clause.starts_with("constant(W")),
        "{answer}"
    );
    let answer = why_not(
        &found,
        rules.get("identity").unwrap(),
        &GraphPath::MAIN,
        node,
        &Options::new(&TractEvaluator),
    );
    assert_eq!(
        answer.to_string(),
        "no match: y: BatchNormalization, wanted Identity"
    );
}

/// A chain of `count` operators.
fn chain(count: usize, op_type: &str) -> Model {
    let mut builder = GraphBuilder::new();
    let ty = ValueType::tensor(
        secateur::ir::DType::F32,
        secateur::ir::Shape::from_elem(secateur::ir::Dim::Fixed(4), 1),
    );
    let mut last = builder.input(Value::typed("x", ty.clone()), Input::default());
    for index in 0..count {
        let node = builder.node(
            Operator::new(op_type),
            &[Some(last)],
            vec![Value::typed(format!("v{index}"), ty.clone())],
        );
        last = ValueId::new(node, 0);
    }
    builder.output(
        GraphOutput {
            name: format!("v{}", count - 1).into(),
            declared: None,
            ty,
        },
        Some(last),
    );
    Model {
        header: Box::default(),
        opset_imports: vec![OpsetImport {
            domain: None,
            version: Some(17),
        }]
        .into(),
        metadata: Vec::new(),
        graph: builder.finish(),
        functions: Vec::new(),
    }
}

#[test]
fn long_chains_take_time_in_proportion() {
    let time = |count: usize| {
        let mut found = chain(count, "Relu");
        let start = std::time::Instant::now();
        let report = run(&mut found);
        assert_eq!(report.fired.len(), count - 1);
        start.elapsed().as_secs_f64()
    };
    time(100);
    let (short, long) = (time(2_000), time(32_000));
    println!("32,000 nodes: {long:.3} s");
    assert!(
        long < 16.0 * short * 4.0 + 0.5,
        "{short} s for 2,000 nodes, {long} s for 32,000"
    );
}

#[test]
fn the_same_model_gives_the_same_result() {
    let build = || {
        let mut found = graph(
            "(float[2,3] x) => (float[2,3] y)",
            "a = Neg(x)\n b = Neg(a)\n r = Relu(b)\n s = Relu(r)\n n = Identity(s)\n y = Mul(n, n)",
        );
        let report = run(&mut found);
        (nodes(&found), report)
    };
    assert_eq!(build(), build());
}

/// A rule file around some lines.
fn rule(lines: &str) -> String {
    format!("rule: r\nsummary: A test.\nsafety: exact\n{lines}\nexamples:\n  - {{ x: \"float[2]\" }}\n")
}

#[test]
fn the_loader_names_the_place_of_each_error() {
    let cases = [
        (
            "opset: 7..\nmatch: |\n  y = Rellu (x)\nreplace: |\n  y = x",
            "rule-unknown",
            "f/r.yaml:6:7",
            "did you mean Relu?",
        ),
        (
            "opset: 7..\nmatch: |\n  y = Neg (Neg (x))\nreplace: |\n  y = z",
            "rule-unbound",
            "f/r.yaml:8:7",
            "z is not bound",
        ),
        (
            "opset: 7..\nmatch: |\n  y = Neg (Neg (x))\nreplace: |\n  z = x",
            "rule-undefined",
            "f/r.yaml:8:7",
            "does not define y",
        ),
        (
            "opset: 7..\nmatch: |\n  y = Neg (x)\nreplace: |\n  y = Abs (Neg (x))",
            "rule-cost",
            "f/r.yaml:8:7",
            "must lower the cost",
        ),
        (
            "opset: 9..7\nmatch: |\n  y = Neg (x)\nreplace: |\n  y = x",
            "rule-opset",
            "f/r.yaml:4:8",
            "no range of opsets",
        ),
        (
            "opset: 7..\nmatch: |\n  y = Gelu (x)\nreplace: |\n  y = x",
            "rule-opset",
            "f/r.yaml:6:7",
            "from opset 20 on",
        ),
        (
            "opset: 7..\nmatch: |\n  y = Elu <alfa = 1> (x)\nreplace: |\n  y = x",
            "rule-unknown",
            "f/r.yaml:6:19",
            "did you mean alpha?",
        ),
        (
            "opset: 7..\nmatch: |\n  y = Neg (x\nreplace: |\n  y = x",
            "rule-syntax",
            "f/r.yaml:7:3",
            "expected",
        ),
        (
            "opset: 7..\nmatch: |\n  y = Neg (x)\nwhere:\n  - rank(x) == 2\n  - skalar(x)\nreplace: |\n  y = x",
            "rule-unknown",
            "f/r.yaml:9:5",
            "did you mean scalar?",
        ),
        (
            "opset: 7..\nmatch: |\n  y = Neg (x)\nwhere:\n  - rank(1)\nreplace: |\n  y = x",
            "rule-misuse",
            "f/r.yaml:8:10",
            "argument 1",
        ),
        (
            "opset: 7..\nmatch: |\n  a = Neg (x)\n  y = Abs (z)\nreplace: |\n  a = x\n  y = z",
            "rule-misuse",
            "f/r.yaml:7:7",
            "a value that both read",
        ),
        (
            "opset: 7..\nmatch: |\n  a = MatMul (x, v)\n  y = MatMul (x, w)\nwhere:\n  - constant(v)\nreplace: |\n  a = x\n  y = x",
            "rule-misuse",
            "f/r.yaml:7:7",
            "w must be a `constant`",
        ),
        (
            "opset: 7..\nfoo: 1\nmatch: |\n  y = Neg (x)\nreplace: |\n  y = x",
            "rule-yaml",
            "f/r.yaml:5",
            "foo",
        ),
    ];
    for (lines, code, place, words) in cases {
        let error = RuleSet::from_files(vec![("f/r.yaml".to_owned(), rule(lines))]).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        let text = error.to_string();
        assert!(
            text.contains(place) && text.contains(words),
            "{text}\nwanted {place} and {words}"
        );
    }
}

#[test]
fn rules_that_match_the_same_operators_need_a_priority() {
    let file = |name: &str, more: &str| {
        let text = format!(
            "rule: {name}\nsummary: A test.\nsafety: exact\nopset: 7..\n{more}match: |\n  {name} = Neg (Neg (a_{name}))\nreplace: |\n  {name} = a_{name}\nexamples:\n  - {{ }}\n"
        );
        (format!("f/{name}.yaml"), text)
    };
    let error = RuleSet::from_files(vec![file("p", ""), file("q", "")]).unwrap_err();
    assert!(
        matches!(&error, RuleError::Overlap { other, .. } if other == "p"),
        "{error}"
    );
    assert!(RuleSet::from_files(vec![file("p", ""), file("q", "priority: 1\n")]).is_ok());
    let error =
        RuleSet::from_files(vec![file("p", ""), ("g/p.yaml".to_owned(), file("p", "").1)]).unwrap_err();
    assert_eq!(error.code(), "rule-duplicate");
}
