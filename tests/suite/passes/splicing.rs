//! One model in another.

use secateur::engine::{RunValue, RunValues};
use secateur::ir::{Model, Tensor};
use secateur::passes::{PassReport, TransferStructure, align_models};
use secateur::transfer::region::extract;
use secateur::transfer::splice::{SpliceError, replace_region, splice};

use super::transferring::{bits, values};
use super::*;

const TARGET: &str = r#"<ir_version: 8, opset_import: ["": 17, "d": 1], metadata_props: ["who": "target"]>
g (float[2,4] x) => (float[2,4] y, float[2,4] z)
<float[4] b = {1, 2, 3, 4}> {
  h = Add (x, b)
  m = d.twice (h)
  y = Relu (m)
  z = Neg (m)
}
<domain: "d", opset_import: ["": 17]> twice (v) => (w) { w = Add (v, v) }
"#;

/// The names of the target, other content; a function of the same name with another body, a body that captures, opset 13.
const SOURCE: &str = r#"<ir_version: 7, opset_import: ["": 13, "d": 2], metadata_props: ["who": "source", "how": "text"]>
g (float[2,4] x) => (float[2,4] z)
<float[4] b = {-1, 5, -3, 2}, bool[1] c = {1}> {
  h = Mul (x, b)
  m = d.twice (h)
  y = If (c) <
    then_branch = then () => (float[2,4] u) { u = Sub (m, b) },
    else_branch = other () => (float[2,4] v) { v = Neg (m) }
  >
  s = Softmax (y)
  z = Add (s, m)
}
<domain: "d", opset_import: ["": 13]> twice (v) => (w) { t = Mul (v, v)  w = Sub (t, v) }
"#;

fn feeds(name: &str) -> RunValues {
    let numbers: Vec<f32> = (0..8).map(|at| (at as f32 * 0.7).sin() * 3.0).collect();
    RunValues::from([(
        name.to_owned(),
        RunValue::Tensor(Tensor::from_slice(&[2, 4], &numbers).unwrap()),
    )])
}

fn aligned(target: &mut Model, part: &mut Model) -> Result<PassReport, PassError> {
    let mut report = PassReport::default();
    let context = Context {
        evaluator: &TractEvaluator,
        limits: Limits::default(),
        keep: RegexSet::empty(),
        seed: 0,
        base: PathBuf::new(),
        progress: &|_, _, _| {},
        resources: None,
    };
    align_models("test", target, part, &context, &mut report)?;
    Ok(report)
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn sound(model: &Model) {
    secateur::analysis::check(model).unwrap_or_else(|errors| panic!("{errors:?}"));
    lines(model);
}

#[test]
fn a_part_in_the_place_of_another_computes_what_it_computes_alone() {
    let (mut target, mut source) = (model(TARGET), model(SOURCE));
    let report = aligned(&mut target, &mut source).unwrap();
    assert!(
        report
            .changes
            .iter()
            .any(|change| change.rule.starts_with("source converted"))
    );
    assert_eq!((target.ir_version(), source.ir_version()), (8, 8));
    let before = target.clone();
    let spliced = replace_region(&mut target, &source, &named(&["h"]), &named(&["m"]), "s").unwrap();
    sound(&target);
    assert_eq!(spliced.functions, ["s_twice"]);
    assert!(
        spliced.renamed.contains(&("b".to_owned(), "s/b".to_owned())),
        "{:?}",
        spliced.renamed
    );
    assert_eq!(target.functions.len(), 2);
    let metadata: Vec<_> = target
        .metadata
        .iter()
        .map(|entry| entry.key.as_deref().unwrap())
        .collect();
    assert_eq!(metadata, ["who", "s/who", "how"]);
    let whole = values(&target, &feeds("x"), &["h"]);
    let alone = match &whole["h"] {
        RunValue::Tensor(h) => values(
            &source,
            &RunValues::from([("x".to_owned(), RunValue::Tensor(h.clone()))]),
            &[],
        ),
        other => panic!("{other:?}"),
    };
    let tail = extract(&before, &named(&["m"]), &named(&["y", "z"])).unwrap();
    let tail = values(
        &tail,
        &RunValues::from([("m".to_owned(), alone["z"].clone())]),
        &[],
    );
    assert_eq!(bits(&whole, "y"), bits(&tail, "y"));
    assert_eq!(bits(&whole, "z"), bits(&tail, "z"));
}

#[test]
fn a_value_on_both_sides_gets_the_part_behind_it_and_outputs_keep_their_names() {
    let mut target = model(TARGET);
    let part = model(
        r#"<ir_version: 8, opset_import: ["": 17]> p (float[2,4] a) => (float[2,4] y) { q = Abs (a)  y = Add (q, a) }"#,
    );
    let before = values(&target, &feeds("x"), &["z"]);
    replace_region(&mut target, &part, &named(&["z"]), &named(&["z"]), "p").unwrap();
    sound(&target);
    let after = values(&target, &feeds("x"), &[]);
    let RunValue::Tensor(old) = &before["z"] else {
        panic!()
    };
    let RunValue::Tensor(new) = &after["z"] else {
        panic!()
    };
    let expected: Vec<f64> = old.to_f64().unwrap().iter().map(|v| v.abs() + v).collect();
    assert_eq!(new.to_f64().unwrap(), expected);
    assert_eq!(bits(&before, "y"), bits(&after, "y"));
}

#[test]
fn a_function_and_metadata_that_are_the_same_are_kept_once() {
    let mut target = model(TARGET);
    let part = extract(&target, &named(&["h"]), &named(&["m"])).unwrap();
    let y = target.graph.find_value("y").unwrap();
    let spliced = splice(&mut target, &part, &[Some(y)], "again").unwrap();
    assert!(spliced.functions.is_empty());
    assert_eq!(
        (
            target.functions.len(),
            target.metadata.len(),
            spliced.operators.len()
        ),
        (1, 1, 1)
    );
}

#[test]
fn what_does_not_fit_is_refused_with_both_sides() {
    let refuse = |source: &str, inputs: &[&str], outputs: &[&str]| -> SpliceError {
        let mut target = model(TARGET);
        let kept = lines(&target);
        let error =
            replace_region(&mut target, &model(source), &named(inputs), &named(outputs), "s").unwrap_err();
        assert_eq!(lines(&target), kept);
        error
    };
    let part = |body: &str| format!(r#"<ir_version: 8, opset_import: ["": 17, "q": 1]> p {body}"#);
    let narrow = part("(float[2,3] a) => (float[2,3] b) { b = Neg (a) }");
    let said = refuse(&narrow, &["h"], &["m"]).to_string();
    assert!(
        said.contains("[2, 3]") && said.contains("[2, 4]") && said.contains("\"h\""),
        "{said}"
    );
    let plain = part("(float[2,4] a) => (float[2,4] b) { b = Neg (a) }");
    assert!(matches!(
        refuse(&plain, &["y"], &["h"]),
        SpliceError::Cycle { .. }
    ));
    assert!(matches!(
        refuse(&plain, &["x", "h"], &["m"]),
        SpliceError::Arity { .. }
    ));
    assert!(matches!(
        refuse(&plain, &["h"], &["y", "z"]),
        SpliceError::Outputs { .. }
    ));
    assert!(matches!(refuse(&plain, &["hh"], &["m"]), SpliceError::Region(_)));
    let whole = part("(float[2,4] a) => (int64[2] b) { b = Shape (a) }");
    assert!(matches!(
        refuse(&whole, &["h"], &["m"]),
        SpliceError::OutputType { .. }
    ));
    let older =
        r#"<ir_version: 8, opset_import: ["": 12]> p (float[2,4] a) => (float[2,4] b) { b = Softmax (a) }"#;
    match refuse(older, &["h"], &["m"]) {
        SpliceError::Version {
            operator,
            part,
            target,
            ..
        } => {
            assert_eq!((operator.as_str(), part, target), ("Softmax", 12, 17));
        }
        other => panic!("{other}"),
    }
    let foreign = r#"<ir_version: 8, opset_import: ["": 17, "d": 1]> p (float[2,4] a) => (float[2,4] b) { b = d.twice (a) }"#;
    assert!(matches!(
        refuse(foreign, &["h"], &["m"]),
        SpliceError::Function { .. }
    ));
}

#[test]
fn an_operator_that_cannot_be_converted_stands_in_the_way_by_name() {
    let mut target = model(TARGET);
    let mut part = model(
        r#"<ir_version: 7, opset_import: ["": 13]> p (float[2,4] a, float[4] s, float[4] t, float[4] m, float[4] v) => (float[2,4] b) {
  b, i, j, k, l = BatchNormalization (a, s, t, m, v)
}"#,
    );
    let error = aligned(&mut target, &mut part).unwrap_err().to_string();
    assert!(
        error.contains("source") && error.contains("BatchNormalization"),
        "{error}"
    );
}

#[test]
fn initializers_that_an_old_file_lists_as_inputs_stay_constants() {
    let mut target = model(
        r#"<ir_version: 3, opset_import: ["": 17]>
g (float[2,4] x, float[4] b) => (float[2,4] y) <float[4] b = {1, 2, 3, 4}> { h = Add (x, b)  y = Relu (h) }"#,
    );
    let mut part = model(
        r#"<ir_version: 8, opset_import: ["": 17]> p (float[2,4] a) => (float[2,4] h) <float[4] b = {2, 2, 2, 2}> { h = Mul (a, b) }"#,
    );
    aligned(&mut target, &mut part).unwrap();
    replace_region(&mut target, &part, &named(&["h"]), &named(&["y"]), "p").unwrap();
    sound(&target);
    assert_eq!((target.ir_version(), target.graph.inputs().len()), (8, 1));
    let shown = lines(&target);
    assert!(
        shown.iter().any(|line| line.starts_with("b: "))
            && shown.iter().any(|line| line.starts_with("p/b: ")),
        "{shown:?}"
    );
}

/// Takes the structure of a model, with fresh weights.
fn restarted(text: &str, setting: &Setting) -> (Model, PassReport) {
    let mut after = model(text);
    let report = run_pass(&TransferStructure::default(), &mut after, setting).unwrap();
    lines(&after);
    (after, report)
}

/// The numbers of a constant of the main graph or, where it has none of this name, of another one.
fn stored(model: &Model, name: &str) -> Vec<f64> {
    let found = model.graph_paths().into_iter().find_map(|path| {
        let graph = model.graph_at(&path)?;
        graph.constant(graph.find_value(name)?)?.to_f64().ok()
    });
    found.unwrap_or_else(|| panic!("no {name}"))
}

/// Why a weight stays.
fn stays(report: &PassReport, name: &str) -> String {
    let left = report.left.iter().find(|left| left.what == name);
    left.unwrap_or_else(|| panic!("{name} is not named: {report:#?}"))
        .why
        .clone()
}

#[test]
fn fresh_weights_reach_bodies_and_what_they_capture() {
    let text = r#"<ir_version: 8, opset_import: ["": 17]>
g (bool p, float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}, float[2] b = {5, 6}> {
  h = MatMul (x, w)
  y = If (p) <
    then_branch = t () => (float[2,2] u) { q = MatMul (h, w) u = Add (q, b) },
    else_branch = e () => (float[2,2] v) <float[2,2] own = {1, 2, 3, 4}> { v = MatMul (h, own) }
  >
}"#;
    let (after, report) = restarted(text, &Setting::default());
    sound(&after);
    assert_eq!(report.changes[0].count, 3, "{report:#?}");
    assert!(report.left.is_empty(), "{report:#?}");
    let trained = [1.0, 2.0, 3.0, 4.0];
    assert_ne!(stored(&after, "w"), trained);
    assert_ne!(stored(&after, "own"), trained);
    assert_eq!(stored(&after, "b"), [0.0, 0.0]);
    // One weight for the product before the branch and the one in it.
    let shown = lines(&after);
    assert_eq!(after.graph.initializers().len(), 2, "{shown:?}");
    assert!(shown.join(" ").contains("MatMul (h, w)"), "{shown:?}");
    // What one reader keeps, the others leave to it.
    let (after, _) = restarted(text, &keep(&["^q$"]));
    sound(&after);
    assert_eq!(stored(&after, "w"), trained);
    assert_eq!(after.graph.initializers().len(), 3);
}

#[test]
fn weights_without_a_fresh_form_are_named() {
    let text = r#"<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1, "my": 1]>
g (float[2,2] x) => (float[2,2] y, float[2,2] v, float[2,2] z)
<float[2,2] v = {1, 2, 3, 4}, float[2] s = {1.5, 0.5}, int8[2,2] c = {1, 2, 3, 4}, float scale = {0.5}, float[2,2] a = {1, 2, 3, 4}> {
  h = MatMul (x, v)
  d = DequantizeLinear (c, scale)
  k = MatMul (h, d)
  z = com.microsoft.SkipSimplifiedLayerNormalization (k, x, s)
  y = my.Product (k, a)
}
<domain: "my", opset_import: ["": 17]> Product (l, r) => (o) { o = MatMul (l, r) }
"#;
    let (after, report) = restarted(text, &Setting::default());
    assert_eq!(report.changes[0].count, 1, "{report:#?}");
    assert_eq!(stored(&after, "v"), [1.0, 2.0, 3.0, 4.0]);
    assert!(
        stays(&report, "v").contains("an output of the graph"),
        "{report:#?}"
    );
    assert!(stays(&report, "c").contains("codes"), "{report:#?}");
    assert!(stays(&report, "s").contains("of another domain"), "{report:#?}");
    assert!(
        stays(&report, "a").contains("argument of a function"),
        "{report:#?}"
    );
    assert_eq!(report.left.len(), 4, "{report:#?}");
    // What a pattern keeps was asked for.
    let (_, report) = restarted(text, &keep(&["^v$", "^c$", "^s$", "^a$"]));
    assert!(report.left.is_empty(), "{report:#?}");
}
