//! Parts of models, and weights that move between models.

use secateur::engine::RunValues;
use secateur::format::{ReadOptions, Source, read};
use secateur::ir::Model;
use secateur::passes::{Extract, PassError};

use super::*;

/// Two cuts, a body that captures, and an operator with two outputs.
const WHOLE: &str = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[2,4] x, float[2,4] z) => (float[2,4] y, float[2,2] w)
<float[4] b = {1, 2, 3, 4}, bool[1] c = {1}> {
  h = Add (x, b)
  l, r = Split <axis = 1> (h)
  m = Mul (h, z)
  t = If (c) <
    then_branch = then () => (float[2,4] u) { u = Sub (m, b) },
    else_branch = other () => (float[2,4] v) { v = Neg (m) }
  >
  y = Relu (t)
  w = Add (l, r)
}"#;

fn part(inputs: &[&str], outputs: &[&str]) -> Extract {
    Extract {
        inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
        outputs: outputs.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn names(model: &Model) -> (Vec<String>, Vec<String>) {
    let input = |id: &secateur::ir::NodeId| model.graph.get(*id).unwrap().outputs()[0].name.to_string();
    (
        model.graph.inputs().iter().map(input).collect(),
        model
            .graph
            .outputs()
            .iter()
            .map(|output| output.name.to_string())
            .collect(),
    )
}

pub(super) fn values(model: &Model, feeds: &RunValues, expose: &[&str]) -> RunValues {
    let options = CompileOptions {
        expose: expose.iter().map(|name| (*name).to_owned()).collect(),
        optimise: false,
        threads: 1,
        ..CompileOptions::default()
    };
    let lowered = secateur::lower::for_engine(model, &TractEngine).unwrap();
    TractEngine
        .compile(&lowered, &options)
        .unwrap()
        .run(feeds)
        .unwrap()
}

pub(super) fn bits(values: &RunValues, name: &str) -> Vec<u8> {
    match &values[name] {
        RunValue::Tensor(tensor) => tensor.raw().unwrap().into_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_part_computes_what_the_whole_computes_between_its_cuts() {
    let whole = model(WHOLE);
    let tensor = |seed: f32| {
        let numbers: Vec<f32> = (0..8).map(|at| (at as f32 * 0.7 + seed).sin() * 3.0).collect();
        RunValue::Tensor(Tensor::from_slice(&[2, 4], &numbers).unwrap())
    };
    let feeds = RunValues::from([("x".to_owned(), tensor(0.1)), ("z".to_owned(), tensor(2.0))]);
    let known = values(&whole, &feeds, &["h", "m"]);
    for (inputs, outputs) in [
        (vec![], vec!["m"]),
        (vec!["x", "z"], vec!["y", "w"]),
        (vec!["h", "z"], vec!["m", "w"]),
        (vec!["m"], vec!["y"]),
        (vec!["z", "h"], vec!["w", "y"]),
    ] {
        let mut cut = whole.clone();
        run_pass(&part(&inputs, &outputs), &mut cut, &Setting::default()).unwrap();
        secateur::analysis::check(&cut).unwrap();
        let (found_inputs, found_outputs) = names(&cut);
        if !inputs.is_empty() {
            assert_eq!(found_inputs, inputs);
        }
        assert_eq!(found_outputs, outputs);
        let own: RunValues = found_inputs
            .iter()
            .map(|name| {
                (
                    name.clone(),
                    feeds.get(name).or_else(|| known.get(name)).unwrap().clone(),
                )
            })
            .collect();
        let result = values(&cut, &own, &[]);
        for output in outputs {
            assert_eq!(bits(&result, output), bits(&known, output), "{inputs:?} {output}");
        }
        lines(&cut);
    }
}

#[test]
fn parts_that_cannot_be_are_refused_with_the_value() {
    for (inputs, outputs, message) in [
        (vec!["x"], vec!["y"], "depends on the graph input \"z\""),
        (vec!["x"], vec![], "at least one output"),
        (vec!["nothing"], vec!["y"], "no value \"nothing\""),
        (vec!["x", "x"], vec!["h"], "named twice"),
        (vec!["x", "z"], vec!["h"], "no output depends on the input \"z\""),
    ] {
        let mut cut = model(WHOLE);
        let before = lines(&cut);
        let error = run_pass(&part(&inputs, &outputs), &mut cut, &Setting::default()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert!(matches!(
            error,
            PassError::Model { .. } | PassError::Option { .. }
        ));
        assert_eq!(lines(&cut), before);
    }
}

#[test]
fn a_value_of_a_body_or_a_function_is_refused_with_its_place() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (bool c, float[2] x) => (float[2] y) {
          [branch] i = If (c) <then_branch = t () => (float[2] p) { inner = Relu(x) p = Neg(inner) }, else_branch = e () => (float[2] q) { q = Abs(x) }>
          y = local.twice (i)
        }
        <domain: "local", opset_import: ["" : 17]>
        twice (a) => (b) { half = Neg(a) b = Add(half, a) }"#;
    for (inputs, outputs, place) in [
        (vec![], vec!["inner"], "branch/then_branch"),
        (vec!["inner"], vec!["y"], "branch/then_branch"),
        (vec![], vec!["half"], "function local.twice"),
    ] {
        let error = run_pass(&part(&inputs, &outputs), &mut model(text), &Setting::default()).unwrap_err();
        let expected = format!("it stands in {place}");
        assert!(error.to_string().contains(&expected), "{error}\n{expected}");
    }
}

#[test]
fn parts_of_a_model_with_functions_and_of_one_with_external_data_are_whole() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/");
    for (file, output) in [
        ("local_functions.onnx", None),
        ("digits_mlp_external.onnx", None::<&str>),
    ] {
        let source = Source::Path(format!("{folder}{file}").into());
        let mut whole = read(source, &ReadOptions::default()).unwrap().model;
        infer(&mut whole);
        let last = whole
            .graph
            .topological_order()
            .into_iter()
            .rev()
            .filter(|id| whole.graph.operator(*id).is_some());
        let middle = last
            .map(|id| whole.graph.get(id).unwrap().outputs()[0].name.to_string())
            .nth(1)
            .unwrap();
        let output = output.unwrap_or(&middle);
        let mut cut = whole.clone();
        run_pass(&part(&[], &[output]), &mut cut, &Setting::default()).unwrap();
        secateur::analysis::check(&cut).unwrap();
        assert_eq!(cut.functions.len(), whole.functions.len());
    }
}

#[test]
fn a_part_keeps_what_the_file_says_about_outputs_and_names_what_it_does_not_say() {
    let text = r#"<ir_version: 8, opset_import: ["": 17, "made.up": 1]>
    g (float[2,4] x) => (float[2,4] y) {
      h = made.up.Something (x)
      y = made.up.Something (h)
    }"#;
    let mut cut = model(text);
    let report = run_pass(&part(&["x"], &["y"]), &mut cut, &Setting::default()).unwrap();
    assert_eq!(cut.graph.outputs()[0].ty.to_string(), "float[2, 4]");
    assert_eq!(report.notes, Vec::<String>::new());
    let mut cut = model(text);
    let report = run_pass(&part(&["h"], &["y"]), &mut cut, &Setting::default()).unwrap();
    assert_eq!(report.notes.len(), 1);
    assert!(
        report.notes[0].contains("the rank of \"h\" is not known"),
        "{report:?}"
    );
}
