//! `bind`, `inline-functions` and `convert-opset`.

use std::collections::BTreeMap;

use secateur::ir::ValueId;
use secateur::passes::{Bind, ConvertOpset, InlineFunctions, PassError};

use super::{Setting, check, check_untouched, lines, model, run_pass};

fn bind(sizes: &[(&str, u64)]) -> Bind {
    Bind {
        sizes: sizes
            .iter()
            .map(|(name, size)| ((*name).to_owned(), (*size).into()))
            .collect::<BTreeMap<_, _>>(),
    }
}

const BATCHED: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 3] x, float[N, L] z, float[?, 2] u) => (float[N, 3] y, float[N, M] w, float[K, 2] v) {
      y = Relu (x)  w = Concat <axis = 1> (x, z)  v = Neg (u) }"#;

fn types(model: &secateur::ir::Model) -> Vec<String> {
    let graph = &model.graph;
    let inputs = graph
        .inputs()
        .iter()
        .map(|id| graph.ty(ValueId::new(*id, 0)).to_string());
    inputs
        .chain(graph.outputs().iter().map(|output| output.ty.to_string()))
        .collect()
}

#[test]
fn symbols_are_bound_wherever_they_stand() {
    let mut bound = model(BATCHED);
    let report = run_pass(
        &bind(&[("N", 4), ("L", 5), ("u[0]", 7)]),
        &mut bound,
        &Setting::default(),
    )
    .unwrap();
    assert!(report.changed);
    assert_eq!(
        types(&bound),
        [
            "float[4, 3]",
            "float[4, 5]",
            "float[7, 2]",
            "float[4, 3]",
            "float[4, 8]",
            "float[7, 2]"
        ]
    );
    // The file says so too.
    let message =
        secateur::format::model_to_proto(&bound, &secateur::format::ExternalFiles::default()).unwrap();
    let again = secateur::format::lift(message, &secateur::format::ExternalFiles::default()).unwrap();
    assert_eq!(types(&again), types(&bound));
}

#[test]
fn an_axis_with_a_symbol_binds_the_symbol() {
    let mut bound = model(BATCHED);
    run_pass(
        &bind(&[("x[0]", 4), ("x[1]", 3)]),
        &mut bound,
        &Setting::default(),
    )
    .unwrap();
    assert_eq!(types(&bound)[..2], ["float[4, 3]", "float[4, L]"]);
}

#[test]
fn wrong_sizes_are_refused_and_leave_the_model_alone() {
    for (sizes, words) in [
        (
            &[("batch", 1)][..],
            "the symbols L, N and the unnamed dimensions u[0]",
        ),
        (&[("x[1]", 4)], "x[1] is 3 in the model"),
        (&[("N", 1), ("z[0]", 2)], "N cannot be 1 and 2"),
    ] {
        let mut refused = model(BATCHED);
        let error = run_pass(&bind(sizes), &mut refused, &Setting::default()).unwrap_err();
        assert!(
            matches!(error, PassError::Option { .. }) && error.to_string().contains(words),
            "{error}"
        );
        assert_eq!(types(&refused), types(&model(BATCHED)));
    }
    let text =
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x) => (float[2, 3] y) { y = Relu (x) }"#;
    let mut refused = model(text);
    let error = run_pass(&bind(&[("N", 5)]), &mut refused, &Setting::default()).unwrap_err();
    assert!(
        matches!(&error, PassError::Model { node, .. } if node == "y"),
        "{error}"
    );
    assert_eq!(types(&refused), types(&model(text)));
}

#[test]
fn functions_are_inlined_with_attributes_defaults_and_nested_calls() {
    check(
        &InlineFunctions::default(),
        r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
           g (float[2, 3] x) => (float[2, 3] y) { [first] p = f.Outer <alpha = 0.5> (x)  [second] y = f.Outer (p) }
           <domain: "f", opset_import: ["" : 17, "f" : 1]> Outer <alpha: float = 0.25> (a) => (b) {
             h = LeakyRelu <alpha: float = @alpha> (a)  b = f.Inner <axis = 0> (h) }
           <domain: "f", opset_import: ["" : 17]> Inner <axis, keep> (a) => (b) {
             c = Constant <value_int: int = @axis> ()  d = Cast <to = 1> (c)  e = Softmax <axis: int = @axis> (a)
             b = Add (d, e) }"#,
        &Setting::default(),
        &[
            "p/c: int64 = 0",
            "y/c: int64 = 0",
            "\"first/h\" = LeakyRelu <alpha = 0.5> (x)",
            "\"p/d\" = Cast <to = 1> (\"p/c\")",
            "\"p/e\" = Softmax <axis = 0> (\"first/h\")",
            "p = Add (\"p/d\", \"p/e\")",
            "\"second/h\" = LeakyRelu <alpha = 0.25> (p)",
            "\"y/d\" = Cast <to = 1> (\"y/c\")",
            "\"y/e\" = Softmax <axis = 0> (\"second/h\")",
            "y = Add (\"y/d\", \"y/e\")",
        ],
    );
}

#[test]
fn a_model_that_needs_no_conversion_is_left_alone() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2, 3] x) => (float[2, 3] y) { y = Softmax (x) }"#;
    check_untouched(&ConvertOpset::to(17), text, &Setting::default());
    check_untouched(&ConvertOpset::at_least(13), text, &Setting::default());
    let mut converted = model(text);
    run_pass(&ConvertOpset::to(18), &mut converted, &Setting::default()).unwrap();
    assert_eq!(converted.opset(), Some(18));
    assert_eq!(lines(&converted), ["y = Softmax (x)"]);
}

#[test]
fn functions_that_cannot_be_inlined_stay_or_are_refused() {
    let report = check_untouched(
        &InlineFunctions::default(),
        r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
           g (float[2, 3] x) => (float[2, 3] y) { y = f.Old (x) }
           <domain: "f", opset_import: ["" : 11]> Old (a) => (b) { b = Softmax (a) }"#,
        &Setting::default(),
    );
    assert!(
        report.notes[0].contains("Softmax has another form in opset 11"),
        "{:?}",
        report.notes
    );
    // Relu is the same in both.
    check(
        &InlineFunctions::default(),
        r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
           g (float[2, 3] x) => (float[2, 3] y) { y = f.Old (x) }
           <domain: "f", opset_import: ["" : 14]> Old (a) => (b) { b = Relu (a) }"#,
        &Setting::default(),
        &["y = Relu (x)"],
    );
    // An attribute that the call leaves out is as if it stood nowhere.
    check(
        &InlineFunctions::default(),
        r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
           g (float[2, 3] x) => (float[2, 3] y) { t = f.Leak <slope = 0.5> (x)  y = f.Leak (t) }
           <domain: "f", opset_import: ["" : 17]> Leak <slope> (a) => (b) { b = LeakyRelu <alpha: float = @slope> (a) }"#,
        &Setting::default(),
        &["t = LeakyRelu <alpha = 0.5> (x)", "y = LeakyRelu (t)"],
    );
    let text = r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
           g (float[2] x) => (float[2] y) { y = f.A (x) }
           <domain: "f", opset_import: ["" : 17, "f" : 1]> A (a) => (b) { b = f.B (a) }
           <domain: "f", opset_import: ["" : 17, "f" : 1]> B (a) => (b) { b = f.A (a) }"#;
    let error = run_pass(&InlineFunctions::default(), &mut model(text), &Setting::default()).unwrap_err();
    assert!(error.to_string().contains("calls itself"), "{error}");
    check_untouched(
        &InlineFunctions {
            functions: vec!["Other".to_owned()],
        },
        r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
           g (float[2, 3] x) => (float[2, 3] y) { y = f.A (x) }
           <domain: "f", opset_import: ["" : 17]> A (a) => (b) { b = Relu (a) }"#,
        &Setting::default(),
    );
}

#[test]
fn calls_that_multiply_without_end_are_refused() {
    let mut text = String::from(
        r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]> g (float[2] x) => (float[2] y) { y = f.F0 (x) }"#,
    );
    for level in 0..40 {
        let next = level + 1;
        text += &format!(
            r#" <domain: "f", opset_import: ["" : 17, "f" : 1]> F{level} (a) => (c) {{ b = f.F{next} (a) c = f.F{next} (b) }}"#
        );
    }
    text += r#" <domain: "f", opset_import: ["" : 17]> F40 (a) => (b) { b = Neg (a) }"#;
    let message = secateur::format::text::parse_model(&text).unwrap();
    let mut lifted = secateur::format::lift(message, &secateur::format::ExternalFiles::default()).unwrap();
    let error = run_pass(&InlineFunctions::default(), &mut lifted, &Setting::default()).unwrap_err();
    assert!(error.to_string().contains("operators"), "{error}");
}

#[test]
fn bodies_in_functions_keep_their_names_apart() {
    check(
        &InlineFunctions::default(),
        r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
           g (float[2] x, bool c) => (float[2] y) { t = f.A (c, x)  y = f.A (c, t) }
           <domain: "f", opset_import: ["" : 17]> A (c, a) => (b) {
             d = Neg (a)
             b = If (c) <then_branch = p () => (float[2] t) { t = Abs (d) }, else_branch = q () => (float[2] u) { u = Relu (d) }> }"#,
        &Setting::default(),
        &[
            "\"t/d\" = Neg (x)",
            "t = If (c) < then_branch = p () => (float[2] \"t/t\") { \"t/t\" = Abs (\"t/d\") }, \
             else_branch = q () => (float[2] \"t/u\") { \"t/u\" = Relu (\"t/d\") } >",
            "\"y/d\" = Neg (t)",
            "y = If (c) < then_branch = p () => (float[2] \"y/t\") { \"y/t\" = Abs (\"y/d\") }, \
             else_branch = q () => (float[2] \"y/u\") { \"y/u\" = Relu (\"y/d\") } >",
        ],
    );
}
