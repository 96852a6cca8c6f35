//! `rename`, `drop-outputs` and `clean-names`.

use std::collections::BTreeMap;

use secateur::engine::RunValue;
use secateur::format::{ExternalFiles, lift, model_to_proto};
use secateur::ir::Model;
use secateur::passes::{CleanNames, DropOutputs, InlineFunctions, NamePart, PassError, Rename};

use super::{Setting, check, check_untouched, keep, lines, model, outputs, run_pass};

/// `a` and `z` are read by bodies, `w` by nodes and bodies, `z` is an output that is read on.
const SHARED: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
    g (float[2,3] x, bool c) => (float[2,3] y, float[2,3] z) <float[3] w = {1, 2, 3}> {
      [first] a = Mul (x, w)  z = Add (a, w)
      y = If (c) <then_branch = t () => (float[2,3] p) { p = Add (a, w) },
                  else_branch = e () => (float[2,3] q) { [inner] s = Neg (z)  q = Abs (s) }> }"#;

const PLAIN: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
    g (float[2] x, float[2] u) => (float[2] y, float[2] z) {
      [one] a = Sub (x, u)  [two] b = Abs (a)  y = Neg (b)  z = Relu (a) }"#;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(old, new)| ((*old).to_owned(), (*new).to_owned()))
        .collect()
}

fn values(pairs: &[(&str, &str)]) -> Rename {
    Rename {
        values: map(pairs),
        ..Rename::default()
    }
}

fn drop_outputs(names: &[&str]) -> DropOutputs {
    DropOutputs {
        outputs: names.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// Names of inputs, then of outputs.
fn interface(model: &Model) -> Vec<String> {
    let graph = &model.graph;
    let inputs = graph.inputs().iter().map(|id| graph.label(*id));
    inputs
        .chain(graph.outputs().iter().map(|output| output.name.to_string()))
        .collect()
}

/// The model as it is read again.
fn reread(model: &Model) -> Model {
    let message = model_to_proto(model, &ExternalFiles::default()).unwrap();
    lift(message, &ExternalFiles::default()).unwrap()
}

/// Outputs under other names have the same bits.
fn same_under_new_names(before: &Model, after: &Model, pairs: &[(&str, &str)]) {
    let (expected, found) = (outputs(before).unwrap(), outputs(after).unwrap());
    for (old, new) in pairs {
        let (RunValue::Tensor(a), RunValue::Tensor(b)) = (&expected[*old], &found[*new]) else {
            panic!("{old} and {new} are no tensors");
        };
        assert!(a.same_as(b), "{old} differs from {new}");
    }
}

#[test]
fn whatever_reads_a_renamed_value_reads_it_under_its_new_name() {
    let pass = Rename {
        inputs: map(&[("x", "image")]),
        outputs: map(&[("y", "result"), ("z", "sum")]),
        nodes: map(&[("first", "scale"), ("inner", "flip")]),
        values: map(&[("w", "factor"), ("a", "scaled"), ("s", "flipped")]),
    };
    let report = check(
        &pass,
        SHARED,
        &Setting::default(),
        &[
            "factor: float[3] = 1 2 3",
            "[scale] scaled = Mul (image, factor)",
            "sum = Add (scaled, factor)",
            "result = If (c) < then_branch = t () => (float[2,3] p) { p = Add (scaled, factor) }, \
             else_branch = e () => (float[2,3] q) { [flip] flipped = Neg (sum) q = Abs (flipped) } >",
        ],
    );
    let counts: Vec<(&str, u64)> = report
        .changes
        .iter()
        .map(|change| (change.rule.as_str(), change.count))
        .collect();
    assert_eq!(counts, [("input", 1), ("output", 2), ("node", 2), ("value", 3)]);
    let told = report.interface.unwrap();
    assert_eq!(told.inputs, map(&[("x", "image")]));
    assert_eq!(told.outputs, map(&[("y", "result"), ("z", "sum")]));
    let before = model(SHARED);
    let mut after = before.clone();
    run_pass(&pass, &mut after, &Setting::default()).unwrap();
    assert_eq!(interface(&after), ["image", "c", "result", "sum"]);
    assert_eq!(interface(&reread(&after)), interface(&after));
    same_under_new_names(&before, &after, &[("y", "result"), ("z", "sum")]);
}

#[test]
fn names_can_be_swapped() {
    let pass = Rename {
        inputs: map(&[("x", "u"), ("u", "x")]),
        outputs: map(&[("y", "z"), ("z", "y")]),
        values: map(&[("a", "b"), ("b", "a")]),
        nodes: map(&[("one", "two"), ("two", "one")]),
    };
    let before = model(PLAIN);
    let mut after = before.clone();
    run_pass(&pass, &mut after, &Setting::default()).unwrap();
    assert_eq!(
        lines(&after),
        [
            "[two] b = Sub (u, x)",
            "[one] a = Abs (b)",
            "z = Neg (a)",
            "y = Relu (b)"
        ]
    );
    assert_eq!(interface(&after), ["u", "x", "z", "y"]);
    same_under_new_names(&before, &after, &[("y", "z"), ("z", "y")]);
}

#[test]
fn patterns_replace_what_they_match_and_know_their_groups() {
    check(
        &Rename {
            values: map(&[("^/(\\w+)/(.*)_output_0$", "${1}_$2"), ("b", "kept")]),
            nodes: map(&[("^/m/", "")]),
            ..Rename::default()
        },
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) {
           ["/m/Neg"] "/m/Neg_output_0" = Neg (x)  b = Abs ("/m/Neg_output_0")  y = Relu (b) }"#,
        &Setting::default(),
        &["[Neg] m_Neg = Neg (x)", "kept = Abs (m_Neg)", "y = Relu (kept)"],
    );
    // A pattern passes over what is kept; inputs and outputs are not among the values.
    check(
        &values(&[("^", "m_")]),
        PLAIN,
        &keep(&["^b$"]),
        &[
            "[one] m_a = Sub (x, u)",
            "[two] b = Abs (m_a)",
            "y = Neg (b)",
            "z = Relu (m_a)",
        ],
    );
}

#[test]
fn values_of_functions_are_renamed_where_calls_do_not_see_it() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
        g (float[2] x) => (float[2] y) { h = f.A (x)  y = f.A (h) }
        <domain: "f", opset_import: ["" : 17]> A (a) => (b) { [n] h = Neg (a)  b = Abs (h) }"#;
    let before = model(text);
    let mut after = before.clone();
    let pass = Rename {
        nodes: map(&[("n", "minus")]),
        ..values(&[("h", "hidden"), ("a", "taken")])
    };
    run_pass(&pass, &mut after, &Setting::default()).unwrap();
    assert_eq!(lines(&after), ["hidden = f.A (x)", "y = f.A (hidden)"]);
    let function = &reread(&after).functions[0].graph;
    assert!(function.find_value("hidden").is_some() && function.find_value("h").is_none());
    assert_eq!(function.label(function.inputs()[0]), "taken");
    let named = function.find_value("hidden").unwrap().node;
    assert_eq!(function.label(named), "minus");
    let inlined = |mut model: Model| {
        run_pass(&InlineFunctions::default(), &mut model, &Setting::default()).unwrap();
        model
    };
    same_under_new_names(&inlined(before), &inlined(after), &[("y", "y")]);
}

#[test]
fn an_input_that_is_an_output_keeps_one_name() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] x, float[2] y) { y = Neg (x) }"#;
    let one = Rename {
        inputs: map(&[("x", "z")]),
        ..Rename::default()
    };
    let error = run_pass(&one, &mut model(text), &Setting::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("an input and an output of the graph at once"),
        "{error}"
    );
    let both = Rename {
        outputs: map(&[("x", "z")]),
        ..one
    };
    let mut after = model(text);
    run_pass(&both, &mut after, &Setting::default()).unwrap();
    assert_eq!(interface(&reread(&after)), ["z", "z", "y"]);
    assert_eq!(lines(&after), ["y = Neg (z)"]);
}

#[test]
fn what_cannot_be_renamed_is_refused_by_name_and_leaves_the_model_alone() {
    let inputs = |pairs: &[(&str, &str)]| Rename {
        inputs: map(pairs),
        ..Rename::default()
    };
    let nodes = |pairs: &[(&str, &str)]| Rename {
        nodes: map(pairs),
        ..Rename::default()
    };
    let outputs = |pairs: &[(&str, &str)]| Rename {
        outputs: map(pairs),
        ..Rename::default()
    };
    for (pass, words) in [
        (Rename::default(), "say what gets another name"),
        (
            inputs(&[("xx", "image")]),
            "inputs: there is no input \"xx\"; did you mean \"x\"?",
        ),
        (
            outputs(&[("nothing-like-it", "o")]),
            "there is no output \"nothing-like-it\"",
        ),
        (values(&[("^zz", "o")]), "no value matches \"^zz\""),
        (
            values(&[("x", "o")]),
            "\"x\" is an input of the graph; give its new name under inputs",
        ),
        (
            values(&[("y", "o")]),
            "\"y\" is an output of the graph; give its new name under outputs",
        ),
        (
            inputs(&[("x", "a")]),
            "\"x\" cannot become \"a\": another value has that name",
        ),
        (values(&[("a", "y")]), "\"a\" cannot become \"y\""),
        (values(&[("a", "n"), ("b", "n")]), "cannot both become \"n\""),
        (
            nodes(&[("one", "two")]),
            "\"one\" cannot become \"two\": another node has that name",
        ),
        (values(&[("a", "")]), "needs a name that is not empty"),
        (values(&[("^a", "")]), "leaves nothing of \"a\""),
        (values(&[("^(", "n")]), "not a regular expression"),
        (values(&[("^(a)", "$1_n")]), "asks for the group \"1_n\""),
        (values(&[("^a", "n"), ("^.$", "m")]), "which give it the names"),
    ] {
        let mut refused = model(PLAIN);
        let error = run_pass(&pass, &mut refused, &Setting::default()).unwrap_err();
        assert!(
            matches!(error, PassError::Option { .. }) && error.to_string().contains(words),
            "{words}: {error}"
        );
        assert_eq!(lines(&refused), lines(&model(PLAIN)));
        assert_eq!(interface(&refused), interface(&model(PLAIN)));
    }
    let error = run_pass(&values(&[("a", "n")]), &mut model(PLAIN), &keep(&["^a$"])).unwrap_err();
    assert!(error.to_string().contains("`keep`"), "{error}");
    check_untouched(&values(&[("a", "a")]), PLAIN, &Setting::default());
}

#[test]
fn outputs_go_with_what_only_they_needed() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x, float[2] u) => (float[2] aux_1, float[2] y, float[2] aux_2)
        <float[2] w = {1, 2}, float[2] v = {3, 4}> {
          a = Mul (x, w)  t = Add (a, v)  aux_1 = Exp (t)  y = Neg (a)  aux_2 = Sub (y, u) }"#;
    let expected = ["w: float[2] = 1 2", "a = Mul (x, w)", "y = Neg (a)"];
    for names in [&["aux_1", "aux_2"][..], &["^aux"], &["aux_2", "^aux_1$", "aux_2"]] {
        let report = check(&drop_outputs(names), text, &Setting::default(), &expected);
        let counts: Vec<(&str, u64)> = report
            .changes
            .iter()
            .map(|change| (change.rule.as_str(), change.count))
            .collect();
        assert_eq!(
            counts,
            [("output", 2), ("unused operator", 3), ("unused constant", 1)],
            "{names:?}"
        );
        assert_eq!(report.interface.unwrap().dropped, ["aux_1", "aux_2"]);
        assert!(
            report.warnings[0].contains("nothing reads the input \"u\""),
            "{:?}",
            report.warnings
        );
    }
    // What is an output and is read on stays as a value.
    let mut middle = model(text);
    run_pass(&drop_outputs(&["y"]), &mut middle, &Setting::default()).unwrap();
    assert_eq!(
        lines(&middle),
        [
            "w: float[2] = 1 2",
            "v: float[2] = 3 4",
            "a = Mul (x, w)",
            "t = Add (a, v)",
            "aux_1 = Exp (t)",
            "y = Neg (a)",
            "aux_2 = Sub (y, u)",
        ]
    );
    assert_eq!(interface(&reread(&middle)), ["x", "u", "aux_1", "aux_2"]);
    same_under_new_names(&model(text), &middle, &[("aux_1", "aux_1"), ("aux_2", "aux_2")]);
}

#[test]
fn outputs_that_are_not_there_and_all_of_them_are_refused() {
    for (names, words) in [
        (&[][..], "say which outputs go"),
        (&["yy"][..], "the graph has no output \"yy\"; did you mean \"y\"?"),
        (
            &["^none"][..],
            "the graph has no output \"^none\"; the outputs are y, z",
        ),
        (&["y", "z"][..], "one has to stay"),
        (&["^"][..], "one has to stay"),
        (&["^("][..], "not a regular expression"),
    ] {
        let mut refused = model(PLAIN);
        let error = run_pass(&drop_outputs(names), &mut refused, &Setting::default()).unwrap_err();
        assert!(
            matches!(error, PassError::Option { .. }) && error.to_string().contains(words),
            "{words}: {error}"
        );
        assert_eq!(lines(&refused), lines(&model(PLAIN)));
        assert_eq!(interface(&refused), interface(&model(PLAIN)));
    }
    let error = run_pass(&drop_outputs(&["y"]), &mut model(PLAIN), &keep(&["^y$"])).unwrap_err();
    assert!(error.to_string().contains("`keep`"), "{error}");
}

/// Names as exporters give them.
const EXPORTED: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
    g (float[2,3] "in.put", bool c) => (float[2,3] y, float[2,3] z)
    <float[3] "w.0" = {1, 2, 3}, float[3,3] "onnx::MatMul_7" = {1, 0, 0, 0, 1, 0, 0, 0, 1}, float[3] "w.1" = {4, 5, 6}> {
      ["/a/MatMul"] "/a/MatMul_output_0" = MatMul ("in.put", "onnx::MatMul_7")
      a = Add ("/a/MatMul_output_0", "w.0")  z = Add (a, "w.0")
      y = If (c) <then_branch = t () => (float[2,3] p) { p = Add (a, "w.1") },
                  else_branch = e () => (float[2,3] q) { "s.1" = Neg (z)  q = Abs ("s.1") }> }"#;

/// The pass changes the model once, and neither then nor read from a file again.
fn settles(pass: &CleanNames, text: &str, setting: &Setting) -> Model {
    let mut cleaned = model(text);
    assert!(run_pass(pass, &mut cleaned, setting).unwrap().changed, "{text}");
    for mut again in [cleaned.clone(), reread(&cleaned)] {
        let before = lines(&again);
        let report = run_pass(pass, &mut again, setting).unwrap();
        assert!(!report.changed, "{text}\n{report:#?}");
        assert_eq!(lines(&again), before, "{text}");
    }
    cleaned
}

#[test]
fn names_follow_from_operators_numbers_and_readers() {
    let report = check(
        &CleanNames::default(),
        EXPORTED,
        &Setting::default(),
        &[
            "Add_0_b: float[3] = 1 2 3",
            "MatMul_0_weight: float[3, 3] = 1 0 0 0 1 0 0 0 ...",
            "Add_2_b: float[3] = 4 5 6",
            "[MatMul_0] MatMul_0_output = MatMul (\"in.put\", MatMul_0_weight)",
            "[Add_0] Add_0_output = Add (MatMul_0_output, Add_0_b)",
            "[Add_1] z = Add (Add_0_output, Add_0_b)",
            "[If_0] y = If (c) < then_branch = t () => (float[2,3] Add_2_output) \
             { [Add_2] Add_2_output = Add (Add_0_output, Add_2_b) }, \
             else_branch = e () => (float[2,3] Abs_0_output) \
             { [Neg_0] Neg_0_output = Neg (z) [Abs_0] Abs_0_output = Abs (Neg_0_output) } >",
        ],
    );
    assert_eq!(report.left.len(), 1, "{:?}", report.left);
    assert!(report.left[0].to_string().contains("in.put"), "{:?}", report.left);
    settles(&CleanNames::default(), EXPORTED, &Setting::default());
}

#[test]
fn parts_and_kept_names_stay_and_are_never_given_away() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x) => (float[2] y) <float[2] Neg_0_output = {1, 2}> {
          [first] "a.b" = Neg (x)  ["my.node"] "c.d" = Add ("a.b", Neg_0_output)  y = Abs ("c.d") }"#;
    let only = |part| CleanNames { parts: vec![part] };
    for (parts, kept, expected) in [
        (
            CleanNames::default(),
            &["^Neg_0_output$", "^my"][..],
            [
                "Neg_0_output: float[2] = 1 2",
                "[Neg_0] Neg_0_output_2 = Neg (x)",
                "[\"my.node\"] Add_0_output = Add (Neg_0_output_2, Neg_0_output)",
                "[Abs_0] y = Abs (Add_0_output)",
            ],
        ),
        (
            only(NamePart::Values),
            &[][..],
            [
                "Neg_0_output: float[2] = 1 2",
                "[first] Neg_0_output_2 = Neg (x)",
                "[\"my.node\"] Add_0_output = Add (Neg_0_output_2, Neg_0_output)",
                "y = Abs (Add_0_output)",
            ],
        ),
        (
            only(NamePart::Initializers),
            &[][..],
            [
                "Add_0_b: float[2] = 1 2",
                "[first] \"a.b\" = Neg (x)",
                "[\"my.node\"] \"c.d\" = Add (\"a.b\", Add_0_b)",
                "y = Abs (\"c.d\")",
            ],
        ),
        (
            only(NamePart::Nodes),
            &[][..],
            [
                "Neg_0_output: float[2] = 1 2",
                "[Neg_0] \"a.b\" = Neg (x)",
                "[Add_0] \"c.d\" = Add (\"a.b\", Neg_0_output)",
                "[Abs_0] y = Abs (\"c.d\")",
            ],
        ),
    ] {
        let setting = keep(kept);
        check(&parts, text, &setting, &expected);
        settles(&parts, text, &setting);
    }
}

#[test]
fn bodies_functions_and_constant_nodes_are_named_too() {
    let cleaned = settles(
        &CleanNames::default(),
        r#"<ir_version: 8, opset_import: ["" : 17]>
           g (float[2] x, bool c) => (float[2] y) <int64 "n.0" = {3}> {
             y = Loop ("n.0", c, x) <body = l (int64 i, bool k, float[2] v) => (bool k2, float[2] v2) {
               k2 = Identity (k)  "c.0" = Constant <value = float[2] {1, 2}> ()  v2 = Add (v, "c.0") }> }"#,
        &Setting::default(),
    );
    let text = lines(&cleaned).join("\n");
    for part in [
        "Loop_0_m: int64 = 3",
        "[Loop_0] y = Loop (Loop_0_m, c, x)",
        "int64 Loop_0_body_input_0, bool Loop_0_body_input_1, float[2] Loop_0_body_input_2",
        "[Identity_0] Identity_0_output = Identity (Loop_0_body_input_1)",
        "[Add_0_b] Add_0_b = Constant",
        "[Add_0] Add_0_output = Add (Loop_0_body_input_2, Add_0_b)",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let cleaned = settles(
        &CleanNames::default(),
        r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
           g (float[2] x) => (float[2] y) <float[2] "w.0" = {1, 2}> { y = f.A (x, "w.0") }
           <domain: "f", opset_import: ["" : 17]> A (a, factor) => (b) {
             "h.1" = Mul (a, factor)  b = Abs ("h.1") }"#,
        &Setting::default(),
    );
    assert_eq!(
        lines(&cleaned),
        ["A_0_factor: float[2] = 1 2", "[A_0] y = f.A (x, A_0_factor)"]
    );
    let function = &cleaned.functions[0].graph;
    assert!(function.find_value("Mul_0_output").is_some());
    for name in ["a", "factor", "b"] {
        assert!(function.find_value(name).is_some(), "{name}");
    }
}
