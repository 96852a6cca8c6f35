//! What the emitted model looks like from outside, and what is refused.

use secateur::analysis;
use secateur::autodiff::{AutodiffError, GradientOptions, InputIs, Loss, Wrt, coverage, gradients};
use secateur::engine::{RunValue, RunValues};
use secateur::format::text::parse_model;
use secateur::format::{ExternalFiles, lift};
use secateur::ir::{Model, NodeKind, Tensor, ValueId};

use super::check::{compile, tensor};

const LOSS: Loss = Loss::CrossEntropy {
    input: InputIs::Auto,
    axis: None,
};

fn model(text: &str) -> Model {
    let message = parse_model(text).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    lift(message, &ExternalFiles::default()).unwrap()
}

/// A perceptron with a symbolic batch, a BatchNormalization and a weight behind an Identity.
fn perceptron() -> Model {
    model(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        perceptron (float[N, 2] x) => (float[N, 3] y)
        <float[2, 3] w = {0.1, -0.2, 0.3, 0.4, 0.5, -0.6}, float[3] b = {0.0, 0.1, -0.1}, float[3] scale = {1, 2, 0.5},
         float[3] mean = {0.1, 0.2, 0.3}, float[3] var = {1, 0.5, 2}, float[3] unused = {1, 1, 1}>
        {
            alias = Identity (b)
            h = MatMul (x, w)
            s = Add (h, alias)
            n = BatchNormalization (s, scale, b, mean, var)
            y = Softmax <axis = -1> (n)
        }"#,
    )
}

fn output_names(model: &Model) -> Vec<String> {
    model
        .graph
        .outputs()
        .iter()
        .map(|output| output.name.to_string())
        .collect()
}

fn input_names(model: &Model) -> Vec<String> {
    let name = |id| model.graph.value(ValueId::new(id, 0)).unwrap().name.to_string();
    model.graph.inputs().iter().map(|id| name(*id)).collect()
}

fn gradient(model: &Model, options: &GradientOptions) -> Model {
    let result = gradients(model, &LOSS, &Wrt::Parameters, options).unwrap();
    analysis::check(&result).unwrap_or_else(|errors| panic!("{errors:?}"));
    result
}

fn run(model: &Model, feeds: &[(&str, Tensor)]) -> RunValues {
    let feeds = feeds
        .iter()
        .map(|(name, x)| ((*name).to_owned(), RunValue::Tensor(x.clone())))
        .collect();
    compile(model).unwrap().run(&feeds).unwrap()
}

fn batch() -> [(&'static str, Tensor); 2] {
    let x = Tensor::from_slice(&[2, 2], &[0.5f32, -1.0, 2.0, 0.3]).unwrap();
    [("x", x), ("labels", Tensor::vector_i64(&[2, 0]))]
}

#[test]
fn parameters_are_initializers_that_the_loss_depends_on_but_no_statistics() {
    let result = gradient(&perceptron(), &GradientOptions::default());
    assert_eq!(output_names(&result), ["loss", "grad/w", "grad/b", "grad/scale"]);
    assert_eq!(input_names(&result), ["x", "labels"]);
    let names = ["mean".to_owned(), "x".to_owned(), "h".to_owned()];
    let named = gradients(
        &perceptron(),
        &LOSS,
        &Wrt::Named(names.to_vec()),
        &GradientOptions::default(),
    )
    .unwrap();
    assert_eq!(output_names(&named), ["loss", "grad/mean", "grad/x", "grad/h"]);
}

#[test]
fn a_shared_weight_gets_the_sum_of_its_uses() {
    let result = run(&gradient(&perceptron(), &GradientOptions::default()), &batch());
    let at = |step: f32| {
        let mut moved = perceptron();
        let b = moved.graph.find_value("b").unwrap();
        moved
            .graph
            .edit("test")
            .set_constant(
                b.node,
                Tensor::from_slice(&[3], &[0.0, 0.1 + step, -0.1]).unwrap(),
            )
            .unwrap();
        tensor(
            &run(&gradient(&moved, &GradientOptions::default()), &batch()),
            "loss",
        )
        .single_f64()
        .unwrap()
    };
    let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
    let exact = tensor(&result, "grad/b").to_f64().unwrap()[1];
    assert!((numeric - exact).abs() < 1e-3, "{numeric} and {exact}");
}

#[test]
fn weights_as_inputs_have_no_defaults_and_give_the_same_gradients() {
    let options = GradientOptions {
        weights_as_inputs: true,
        keep_output: true,
        ..GradientOptions::default()
    };
    let step = gradient(&perceptron(), &options);
    assert_eq!(input_names(&step), ["x", "w", "b", "scale", "labels"]);
    assert_eq!(
        output_names(&step),
        ["loss", "y", "grad/w", "grad/b", "grad/scale"]
    );
    let is_plain =
        |id| matches!(&step.graph.get(id).unwrap().kind, NodeKind::Input(input) if input.default.is_none());
    assert!(step.graph.inputs().iter().all(|id| is_plain(*id)));
    let expected = run(&gradient(&perceptron(), &GradientOptions::default()), &batch());
    let mut feeds = batch().to_vec();
    for name in ["w", "b", "scale"] {
        let original = perceptron();
        let value = original.graph.find_value(name).unwrap();
        feeds.push((name, original.graph.constant(value).unwrap().clone()));
    }
    let found = run(&step, &feeds);
    for name in ["loss", "grad/w", "grad/b", "grad/scale"] {
        let (a, b) = (
            tensor(&found, name).to_f64().unwrap(),
            tensor(&expected, name).to_f64().unwrap(),
        );
        assert!(
            a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6),
            "{name}: {a:?} {b:?}"
        );
    }
}

#[test]
fn bound_sizes_show_in_the_result_and_unknown_ones_are_refused() {
    let sizes = |name: &str| GradientOptions {
        sizes: [(name.to_owned(), 2)].into(),
        ..GradientOptions::default()
    };
    let bound = gradient(&perceptron(), &sizes("N"));
    let x = bound.graph.find_value("x").unwrap();
    assert_eq!(bound.graph.ty(x).fixed_shape(), Some(vec![2, 2]));
    let error = gradients(&perceptron(), &LOSS, &Wrt::Parameters, &sizes("M")).unwrap_err();
    assert_eq!(error.code(), "autodiff-no-symbol");
}

#[test]
fn the_same_model_gives_the_same_bytes() {
    let bytes = || {
        let result = gradient(&perceptron(), &GradientOptions::default());
        let message =
            secateur::format::model_to_proto(&result, &secateur::format::ExternalFiles::default()).unwrap();
        secateur::format::encode_to_bytes(&message)
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn values_with_the_names_of_the_interface_give_way() {
    let clash = model(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        clash (float[N, 2] x) => (float[N, 2] y) <float[2] w = {1, 2}> { loss = Mul (x, w)  labels = Exp (loss)  y = Neg (labels) }"#,
    );
    let result = gradient(&clash, &GradientOptions::default());
    assert_eq!(output_names(&result), ["loss", "grad/w"]);
    let feeds = [batch()[0].clone(), ("labels", Tensor::vector_i64(&[1, 0]))];
    assert!(
        tensor(&run(&result, &feeds), "loss")
            .single_f64()
            .unwrap()
            .is_finite()
    );
    let taken = model(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        taken (float[N, 2] labels) => (float[N, 2] y) <float[2] w = {1, 2}> { y = Mul (labels, w) }"#,
    );
    assert_eq!(refusal(&taken, &Wrt::Parameters).code(), "autodiff-name-taken");
}

fn refusal(model: &Model, wrt: &Wrt) -> AutodiffError {
    gradients(model, &LOSS, wrt, &GradientOptions::default()).expect_err("a refusal")
}

fn chain(body: &str, outputs: &str) -> Model {
    model(&format!(
        r#"<ir_version: 8, opset_import: ["" : 17, "com.example" : 1]>
        chain (float[2, 3] x, bool flag) => ({outputs}) <float[2, 3] w = {{1, 2, 3, 4, 5, 6}}> {{ {body} }}"#
    ))
}

#[test]
fn an_operator_without_a_rule_is_named_with_its_node() {
    let unknown = chain(
        "a = Mul (x, w)  b = com.example.Twist (a)  y = Neg (b)",
        "float[2, 3] y",
    );
    let error = refusal(&unknown, &Wrt::Parameters);
    let AutodiffError::Operator {
        node,
        operator,
        wanted,
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (node.as_str(), operator.as_str(), wanted.as_str()),
        ("b", "com.example.Twist", "w")
    );
    assert_eq!((error.code(), error.node()), ("autodiff-operator", Some("b")));
    let det = chain("a = Mul (x, w)  b = Det (a)  y = Mul (x, b)", "float[2, 3] y");
    assert!(
        matches!(refusal(&det, &Wrt::Parameters), AutodiffError::Operator { operator, .. } if operator == "Det")
    );
    // Beside the path it does not matter.
    let beside = model(
        r#"<ir_version: 8, opset_import: ["" : 17, "com.example" : 1]>
        beside (float[2, 3] x) => (float[2, 3] y) <float[2, 3] w = {1, 2, 3, 4, 5, 6}, float[2, 3] b>
        { a = Mul (x, w)  b = com.example.Twist (x)  y = Add (a, b) }"#,
    );
    assert_eq!(
        output_names(&gradient(&beside, &GradientOptions::default())),
        ["loss", "grad/w"]
    );
}

#[test]
fn bodies_on_the_path_are_refused_by_name() {
    let branches = chain(
        "a = Mul (x, w)  y = If (flag) <then_branch = t () => (float[2, 3] p) { p = Neg (a) }, \
         else_branch = e () => (float[2, 3] q) { q = Exp (a) }>",
        "float[2, 3] y",
    );
    let error = refusal(&branches, &Wrt::Parameters);
    assert!(
        matches!(&error, AutodiffError::Body { node, operator, .. } if node == "y" && operator == "If"),
        "{error}"
    );
}

#[test]
fn what_cannot_be_differentiated_is_refused_with_a_reason() {
    let named = |names: &[&str]| Wrt::Named(names.iter().map(|name| (*name).to_owned()).collect());
    let plain = chain("y = Mul (x, w)", "float[2, 3] y");
    assert_eq!(refusal(&plain, &named(&["nothing"])).code(), "autodiff-no-value");
    assert_eq!(refusal(&plain, &named(&["flag"])).code(), "autodiff-not-float");
    let rounded = chain("r = Round (w)  y = Mul (x, r)", "float[2, 3] y");
    assert_eq!(refusal(&rounded, &named(&["w"])).code(), "autodiff-unreachable");
    assert_eq!(
        refusal(&rounded, &Wrt::Parameters).code(),
        "autodiff-nothing-wanted"
    );
    let options = GradientOptions {
        output: Some("z".into()),
        ..GradientOptions::default()
    };
    assert_eq!(
        gradients(&plain, &LOSS, &Wrt::Parameters, &options)
            .unwrap_err()
            .code(),
        "autodiff-no-output"
    );
    let training = chain(
        "k = Constant <value_float = 0.5> ()  m = Constant <value = bool {1}> ()  a = Mul (x, w)  y = Dropout (a, k, m)",
        "float[2, 3] y",
    );
    let error = refusal(&training, &Wrt::Parameters);
    assert!(
        matches!(&error, AutodiffError::Form { operator, reason, .. } if operator == "Dropout" && reason.contains("training")),
        "{error}"
    );
    let mut old = plain;
    old.opset_imports[0].version = Some(8);
    assert_eq!(refusal(&old, &Wrt::Parameters).code(), "autodiff-opset");
}

/// The list of operators in `docs/autodiff.md` is made from the table: `UPDATE=1 cargo test` renews it.
#[test]
fn the_documented_coverage_is_that_of_the_table() {
    let mut list = String::new();
    let mut family = "";
    for row in coverage() {
        if row.family != family {
            family = row.family;
            list.push_str(&format!(
                "\n### {family}\n\n| operator | gradients of |\n|---|---|\n"
            ));
        }
        let inputs = if row.inputs.is_empty() {
            "-".to_owned()
        } else {
            row.inputs.join(", ")
        };
        list.push_str(&format!("| {} | {inputs} |\n", row.operator));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/autodiff.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (start, end) = ("<!-- coverage -->\n", "\n<!-- end of coverage -->");
    let (head, rest) = page.split_once(start).unwrap();
    let (old, tail) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(path, format!("{head}{start}{list}{end}{tail}")).unwrap();
    }
    assert_eq!(
        old, list,
        "docs/autodiff.md is stale: UPDATE=1 cargo test renews it"
    );
}
