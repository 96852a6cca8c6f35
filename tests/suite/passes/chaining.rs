//! One model behind another.

use std::collections::BTreeMap;
use std::path::Path;

use secateur::data::Dataset;
use secateur::format::{ReadOptions, read};
use secateur::ir::{Graph, Model, Tensor};
use secateur::passes::{Chain, ResourceError, TransferStructure};

use super::transferring::{bits, values};
use super::*;

/// Models by file name.
struct Others(BTreeMap<PathBuf, Model>);

impl Resources for Others {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, _: &str, _: &Graph) -> Result<Dataset, ResourceError> {
        Err("no data".into())
    }

    fn model(&self, path: &Path) -> Result<Model, ResourceError> {
        self.0.get(path).cloned().ok_or_else(|| "no model".into())
    }

    fn jobs(&self) -> usize {
        1
    }
}

fn behind(names: &[&str], map: &[&str]) -> Chain {
    Chain {
        with: names.iter().map(PathBuf::from).collect(),
        map: map.iter().map(|pair| (*pair).to_owned()).collect(),
        before: false,
    }
}

fn run(
    pass: &dyn Pass,
    first: &Model,
    others: &[(&str, Model)],
    setting: &Setting,
) -> Result<(Model, PassReport), PassError> {
    let others = others
        .iter()
        .map(|(name, model)| (PathBuf::from(name), model.clone()));
    let others = Others(others.collect());
    let mut result = first.clone();
    let report = run_with(pass, &mut result, setting, Some(&others))?;
    secateur::analysis::check(&result).unwrap_or_else(|errors| panic!("{errors:?}"));
    lines(&result);
    Ok((result, report))
}

fn interface(model: &Model) -> (Vec<String>, Vec<String>) {
    let graph = &model.graph;
    let input = |id: &secateur::ir::NodeId| {
        let value = ValueId::new(*id, 0);
        format!("{}: {}", graph.value(value).unwrap().name, graph.ty(value))
    };
    let output = |output: &secateur::ir::GraphOutput| format!("{}: {}", output.name, output.ty);
    (
        graph.inputs().iter().map(input).collect(),
        graph.outputs().iter().map(output).collect(),
    )
}

fn feed(name: &str, tensor: Tensor) -> RunValues {
    RunValues::from([(name.to_owned(), RunValue::Tensor(tensor))])
}

fn case(name: &str) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/chain")
        .join(name);
    let mut model = read(&path, &ReadOptions::default()).unwrap().model;
    infer(&mut model);
    model
}

fn image() -> Tensor {
    let bytes: Vec<u8> = (0..2 * 16 * 16 * 3).map(|at| (at * 37 % 251) as u8).collect();
    Tensor::from_slice(&[2, 16, 16, 3], &bytes).unwrap()
}

/// What the network gives for what the preprocessing gives.
fn in_a_row() -> Vec<u8> {
    let between = values(&case("pre.onnx"), &feed("x", image()), &[]);
    let RunValue::Tensor(between) = &between["y"] else {
        panic!()
    };
    bits(&values(&case("net.onnx"), &feed("x", between.clone()), &[]), "y")
}

/// The case prepend_pre: both inputs are named x, both outputs y, and the opsets are 18 and 11.
#[test]
fn preprocessing_stands_before_a_network_whatever_names_both_use() {
    let (net, pre) = (case("net.onnx"), case("pre.onnx"));
    let before = Chain {
        before: true,
        ..behind(&["pre.onnx"], &[])
    };
    for (pass, first, other) in [
        (behind(&["net.onnx"], &[]), &pre, ("net.onnx", net.clone())),
        (behind(&["net.onnx"], &["y=x"]), &pre, ("net.onnx", net.clone())),
        (before, &net, ("pre.onnx", pre.clone())),
    ] {
        let (chained, _) = run(&pass, first, &[other], &Setting::default()).unwrap();
        let (inputs, outputs) = interface(&chained);
        assert_eq!(inputs, ["x: uint8[b, 16, 16, 3]"]);
        assert_eq!(outputs, ["y: float[b, 6, 16, 16]"]);
        assert_eq!(bits(&values(&chained, &feed("x", image()), &[]), "y"), in_a_row());
    }
}

/// The same through the verb that replaces regions: the part's input has no place in the model, as what it replaces is its input.
#[test]
fn a_part_before_an_input_brings_an_input_of_its_own() {
    let pass = TransferStructure {
        from: Some("pre.onnx".into()),
        outputs: vec!["y".to_owned()],
        into_outputs: vec!["x".to_owned()],
        ..TransferStructure::default()
    };
    let (result, report) = run(
        &pass,
        &case("net.onnx"),
        &[("pre.onnx", case("pre.onnx"))],
        &Setting::default(),
    )
    .unwrap();
    assert_eq!(interface(&result).0, ["x: uint8[b, 16, 16, 3]"]);
    assert_eq!(bits(&values(&result, &feed("x", image()), &[]), "y"), in_a_row());
    assert!(
        report
            .changes
            .iter()
            .any(|change| change.rule.contains("input x of the part")),
        "{report:?}"
    );
}

const TWO: &str = r#"<ir_version: 8, opset_import: ["": 17], metadata_props: ["who": "first"]>
g (float[n,4] x) => (float[n,4] a, float[n,2] b) <float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}> { a = Neg (x)  b = MatMul (x, w) }"#;

#[test]
fn outputs_and_inputs_go_together_by_name_by_place_or_as_the_map_says() {
    let first = model(TWO);
    let swapped = model(
        r#"<ir_version: 8, opset_import: ["": 17]>
        h (float[n,2] b, float[n,4] a) => (float[n,6] z) { z = Concat <axis = 1> (b, a) }"#,
    );
    let placed = model(
        r#"<ir_version: 8, opset_import: ["": 17]>
        h (float[m,4] p, float[m,2] q) => (float[m,6] z) { z = Concat <axis = 1> (q, p) }"#,
    );
    let feeds = feed("x", Tensor::from_slice(&[1, 4], &[1f32, 2.0, 3.0, 4.0]).unwrap());
    let expected = [50f32, 60.0, -1.0, -2.0, -3.0, -4.0];
    for (second, map) in [
        (&swapped, &[][..]),
        (&placed, &[][..]),
        (&placed, &["a=p", "b=q"][..]),
    ] {
        let (chained, _) = run(
            &behind(&["h"], map),
            &first,
            &[("h", second.clone())],
            &Setting::default(),
        )
        .unwrap();
        let found = values(&chained, &feeds, &[]);
        let RunValue::Tensor(z) = &found["z"] else {
            panic!()
        };
        assert_eq!(z.view::<f32>().unwrap().as_ref(), expected);
        assert_eq!(interface(&chained).1, ["z: float[n, 6]"]);
    }
    // One input, two outputs: what is left out is said, and kept where that is asked for.
    let one = model(
        r#"<ir_version: 8, opset_import: ["": 17]> h (float[m,2] q) => (float[m,2] z) { z = Relu (q) }"#,
    );
    let error = run(
        &behind(&["h"], &[]),
        &first,
        &[("h", one.clone())],
        &Setting::default(),
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("OUTPUT=INPUT") && error.to_string().contains("b: float[n, 2]"),
        "{error}"
    );
    let (chained, report) = run(
        &behind(&["h"], &["b=q"]),
        &first,
        &[("h", one.clone())],
        &Setting::default(),
    )
    .unwrap();
    assert_eq!(interface(&chained).1, ["z: float[n, 2]"]);
    assert!(
        report.notes.iter().any(|note| note.starts_with("a is no output")),
        "{report:?}"
    );
    let (chained, _) = run(
        &behind(&["h"], &["b=q"]),
        &first,
        &[("h", one)],
        &keep(&["^[ab]$"]),
    )
    .unwrap();
    assert_eq!(
        interface(&chained).1,
        ["z: float[n, 2]", "a: float[n, 4]", "b: float[n, 2]"]
    );
}

#[test]
fn an_input_that_nothing_gives_is_one_of_the_result_and_symbols_follow() {
    let first = model(
        r#"<ir_version: 8, opset_import: ["": 17]> g (float[b,4] x, float[b,4] "mask") => (float[b,4] y) { y = Mul (x, "mask") }"#,
    );
    let second = model(
        r#"<ir_version: 8, opset_import: ["": 17]>
        h (float[n,k] x, float[n,b] "mask") => (float[n,c] z) { s = Concat <axis = 1> (x, "mask")  z = Relu (s) }"#,
    );
    let (chained, report) = run(
        &behind(&["h.onnx"], &["y=x"]),
        &first,
        &[("h.onnx", second)],
        &Setting::default(),
    )
    .unwrap();
    let (inputs, _) = interface(&chained);
    // n is b there, and the second model's own b is another size.
    assert_eq!(
        inputs,
        ["x: float[b, 4]", "mask: float[b, 4]", "h/mask: float[b, h_b]"]
    );
    assert!(
        report
            .changes
            .iter()
            .any(|change| change.rule == "input added" && change.details == ["h/mask"])
    );
}

#[test]
fn sizes_that_the_next_model_needs_are_bound_and_contradictions_name_both() {
    let first = model(
        r#"<ir_version: 8, opset_import: ["": 17]> g (float[b,4] x) => (float[b,4] y) { y = Neg (x) }"#,
    );
    let next = |ty: &str| {
        model(&format!(
            r#"<ir_version: 8, opset_import: ["": 17]> h ({ty} x) => ({ty} y) {{ y = Relu (x) }}"#
        ))
    };
    let (chained, report) = run(
        &behind(&["h"], &[]),
        &first,
        &[("h", next("float[1,4]"))],
        &Setting::default(),
    )
    .unwrap();
    assert_eq!(interface(&chained).0, ["x: float[1, 4]"]);
    assert!(
        report.changes.iter().any(|change| change.rule.contains("bound")),
        "{report:?}"
    );
    for (ty, part) in [
        ("float[n,5]", "float[n, 5]"),
        ("double[n,4]", "double[n, 4]"),
        ("float[4]", "float[4]"),
    ] {
        let error = run(
            &behind(&["h"], &[]),
            &first,
            &[("h", next(ty))],
            &Setting::default(),
        )
        .unwrap_err()
        .to_string();
        assert!(
            error.contains(part)
                && error.contains("float[b, 4]")
                && error.contains("\"y\"")
                && error.contains("\"x\""),
            "{error}"
        );
    }
    let both = model(
        r#"<ir_version: 8, opset_import: ["": 17]> g (float[2] x, float[3] v) => (float[2] p, float[3] q) { p = Neg (x) q = Neg (v) }"#,
    );
    let square = model(
        r#"<ir_version: 8, opset_import: ["": 17]> h (float[n] p, float[n] q) => (float[n] z) { z = Add (p, q) }"#,
    );
    let error = run(&behind(&["h"], &[]), &both, &[("h", square)], &Setting::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("n of the second model is 2") && error.contains("\"q\""),
        "{error}"
    );
}

#[test]
fn several_models_functions_and_names_that_clash_chain() {
    let step = |body: &str| {
        model(&format!(
            r#"<ir_version: 8, opset_import: ["": 17, "d": 1], metadata_props: ["who": "{body}"]>
            g (float[n,2] x) => (float[n,2] y) <float[2] k = {{1, 2}}> {{ h = d.f (x)  y = Add (h, k) }}
            <domain: "d", opset_import: ["": 17]> f (v) => (w) {{ w = {body} }}"#
        ))
    };
    let models = [step("Neg (v)"), step("Exp (v)"), step("Neg (v)")];
    let others = [("a.onnx", models[1].clone()), ("b.onnx", models[2].clone())];
    let (chained, _) = run(
        &behind(&["a.onnx", "b.onnx"], &[]),
        &models[0],
        &others,
        &Setting::default(),
    )
    .unwrap();
    let mut x = Tensor::from_slice(&[2, 2], &[0.5f32, -1.0, 2.0, 0.25]).unwrap();
    let all = values(&chained, &feed("x", x.clone()), &[]);
    for model in &models {
        let found = values(model, &feed("x", x), &[]);
        let RunValue::Tensor(y) = &found["y"] else {
            panic!()
        };
        x = y.clone();
    }
    assert_eq!(bits(&all, "y"), bits(&feed("y", x), "y"));
    assert_eq!(
        interface(&chained),
        (
            vec!["x: float[n, 2]".to_owned()],
            vec!["y: float[n, 2]".to_owned()]
        )
    );
    assert_eq!(chained.functions.len(), 2);
}

#[test]
fn an_output_that_is_an_input_or_a_constant_chains() {
    let through = model(
        r#"<ir_version: 8, opset_import: ["": 17]>
        h (float[n,4] p) => (float[n,4] p, float[2] c) <float[2] c = {5, 6}> { r = Relu (p) }"#,
    );
    let first = model(
        r#"<ir_version: 8, opset_import: ["": 17]> g (float[n,4] x) => (float[n,4] y) { y = Neg (x) }"#,
    );
    let (chained, _) = run(
        &behind(&["h"], &[]),
        &first,
        &[("h", through)],
        &Setting::default(),
    )
    .unwrap();
    let found = values(
        &chained,
        &feed("x", Tensor::from_slice(&[1, 4], &[1f32, 2.0, 3.0, 4.0]).unwrap()),
        &[],
    );
    let of = |name: &str| match &found[name] {
        RunValue::Tensor(tensor) => tensor.to_f64().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!((of("p"), of("c")), (vec![-1.0, -2.0, -3.0, -4.0], vec![5.0, 6.0]));
}

#[test]
fn pairs_that_are_not_there_or_not_pairs_are_refused() {
    let first = model(TWO);
    let second = model(
        r#"<ir_version: 8, opset_import: ["": 17]> h (float[m,2] q) => (float[m,2] z) { z = Relu (q) }"#,
    );
    for (map, message) in [
        (&["b"][..], "OUTPUT=INPUT"),
        (&["b=r"], "\"r\""),
        (&["bb=q"], "\"bb\""),
        (&["b=q", "a=q"], "\"q\""),
    ] {
        let error = run(
            &behind(&["h"], map),
            &first,
            &[("h", second.clone())],
            &Setting::default(),
        )
        .unwrap_err();
        assert!(error.to_string().contains(message), "{error}\n{message}");
    }
    let error = run(&behind(&[], &[]), &first, &[], &Setting::default()).unwrap_err();
    assert!(error.to_string().contains("second model"), "{error}");
}
