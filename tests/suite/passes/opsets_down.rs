//! `convert-opset` to an older version: an operator a line, before and after; what has no older form is named. The case
//! `downgrade_19_to_18` and its kin.

use secateur::engine::RunValue;
use secateur::ir::Model;
use secateur::passes::{ConvertOpset, PassError};

use super::{Setting, lines, model, outputs, run_pass, same_outputs};

fn lowered(from: i64, to: i64, graph: &str) -> (Model, Model) {
    let text = format!(r#"<ir_version: 9, opset_import: ["" : {from}]> g {graph}"#);
    let before = model(&text);
    let mut after = before.clone();
    run_pass(&ConvertOpset::to(to), &mut after, &Setting::default())
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(after.opset(), Some(to), "{text}");
    secateur::analysis::check(&after).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    (before, after)
}

/// Converts `graph` and compares nodes and constants; what tract runs has to give the same bits.
#[track_caller]
fn lower(from: i64, to: i64, graph: &str, expected: &[&str]) {
    let (before, after) = lowered(from, to, graph);
    let found: Vec<String> = lines(&after)
        .into_iter()
        // Constants that an attribute has taken over stay for a later pass.
        .filter(|line| !expected.is_empty() && (expected.contains(&line.as_str()) || line.contains('(')))
        .collect();
    assert_eq!(found, expected, "{graph}");
    same_outputs(&before, &after, graph);
}

/// Checks that the conversion fails, names `node`, and leaves the model alone.
#[track_caller]
fn refuse(from: i64, to: i64, graph: &str, node: &str, words: &str) {
    let text = format!(r#"<ir_version: 9, opset_import: ["" : {from}]> g {graph}"#);
    let mut refused = model(&text);
    let before = lines(&refused);
    let error = run_pass(&ConvertOpset::to(to), &mut refused, &Setting::default())
        .map(|report| panic!("{report:?}\n{text}"))
        .unwrap_err();
    assert!(
        matches!(&error, PassError::Model { node: at, .. } if at == node)
            && error.to_string().contains(words),
        "{error}"
    );
    assert_eq!(lines(&refused), before);
    assert_eq!(refused.opset(), Some(from));
}

#[test]
fn the_version_alone_changes_where_forms_are_the_same() {
    let (before, after) = lowered(
        19,
        18,
        "(float[2, 3] x, float[3, 4] w) => (float[2, 4] y) { a = MatMul (x, w) y = Relu (a) }",
    );
    assert_eq!(lines(&before), lines(&after));
    assert_eq!(after.ir_version(), 8);
    lower(
        21,
        7,
        "(float[2, 3] x) => (y) { y = Sigmoid (x) }",
        &["y = Sigmoid (x)"],
    );
}

#[test]
fn inputs_become_attributes() {
    lower(
        13,
        11,
        "(float[1, 3] x) => (y) <int64[1] a = {0}> { y = Squeeze (x, a) }",
        &["y = Squeeze <axes = [0]> (x)"],
    );
    lower(
        13,
        10,
        "(float[2, 3] x) => (y) <int64[1] a = {-1}> { y = Unsqueeze (x, a) }",
        &["y = Unsqueeze <axes = [2]> (x)"],
    );
    lower(
        18,
        10,
        "(float[2, 3] x) => (y) <int64[1] a = {-1}> { y = ReduceMean <keepdims = 0> (x, a) }",
        &["y = ReduceMean <keepdims = 0, axes = [1]> (x)"],
    );
    lower(
        13,
        12,
        "(float[2, 3] x) => (y) { y = ReduceSum <noop_with_empty_axes = 1> (x) }",
        &["y = Identity (x)"],
    );
    lower(
        18,
        12,
        "(float[2, 6] x) => (a, b) { a, b = Split <axis = 1, num_outputs = 2> (x) }",
        &["a, b = Split <axis = 1> (x)"],
    );
    lower(
        18,
        12,
        "(float[2, 5] x) => (a, b) { a, b = Split <axis = -1, num_outputs = 2> (x) }",
        &["a, b = Split <axis = -1, split = [3, 2]> (x)"],
    );
    lower(
        13,
        9,
        "(float[4, 4] x) => (y) <int64[1] s = {1}, int64[1] e = {3}, int64[1] a = {-1}> { y = Slice (x, s, e, a) }",
        &["y = Slice <axes = [1], ends = [3], starts = [1]> (x)"],
    );
    lower(
        18,
        10,
        "(float[2, 3] x) => (y) <int64[2] p = {1, 2}, int64[1] a = {-1}, float v = {0.5}> { y = Pad (x, p, v, a) }",
        &["y = Pad <value = 0.5, pads = [0, 1, 0, 2]> (x)"],
    );
    // tract does not run this form.
    let (_, after) = lowered(
        11,
        9,
        "(float[2, 3] x) => (v, i) <int64[1] k = {2}> { v, i = TopK <axis = 1> (x, k) }",
    );
    assert!(lines(&after).contains(&"v, i = TopK <axis = 1, k = 2> (x)".to_owned()));
    lower(
        12,
        11,
        "(float[2, 3] x) => (y) <float r = {0.25}> { y = Dropout (x, r) }",
        &["y = Dropout <ratio = 0.25> (x)"],
    );
}

#[test]
fn open_bounds_stay_open() {
    let (_, after) = lowered(13, 10, "(float[3] x) => (y) <float m = {0}> { y = Clip (x, m) }");
    let clip = after
        .graph
        .node_ids()
        .find_map(|id| after.graph.operator(id))
        .unwrap();
    assert_eq!(
        (clip.float("min"), clip.float("max")),
        (Some(0.0), Some(f32::INFINITY))
    );
}

#[test]
fn softmax_over_one_axis_is_that_over_the_last() {
    lower(
        13,
        12,
        "(float[2, 3] x) => (y) { y = Softmax (x) }",
        &["y = Softmax <axis = -1> (x)"],
    );
    let (before, after) = lowered(13, 10, "(float[2, 3, 4] x) => (y) { y = Softmax <axis = 1> (x) }");
    assert_eq!(
        lines(&after),
        [
            "transpose_1 = Transpose <perm = [0, 2, 1]> (x)",
            "softmax_2 = Softmax <axis = 2> (transpose_1)",
            "y = Transpose <perm = [0, 2, 1]> (softmax_2)",
        ]
    );
    // The engine sums along another axis in another order.
    let (expected, found) = (outputs(&before).unwrap(), outputs(&after).unwrap());
    let (RunValue::Tensor(a), RunValue::Tensor(b)) = (&expected["y"], &found["y"]) else {
        panic!("y is a tensor");
    };
    for (a, b) in a.to_f32().unwrap().iter().zip(b.to_f32().unwrap().iter()) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
}

#[test]
fn what_means_the_same_left_out_is_left_out() {
    lower(
        19,
        10,
        "(float[1, 1, 4, 4] x) => (y) { y = AveragePool <kernel_shape = [2, 2], dilations = [1, 1]> (x) }",
        &["y = AveragePool <kernel_shape = [2, 2]> (x)"],
    );
    lower(
        19,
        13,
        "(float[3] x) => (int64[3] y) { y = Cast <to = 7, saturate = 1> (x) }",
        &["y = Cast <to = 7> (x)"],
    );
    lower(
        14,
        13,
        "(float[2, 3] x) => (y) <int64[1] s = {6}> { y = Reshape <allowzero = 1> (x, s) }",
        &["y = Reshape (x, s)"],
    );
    lower(
        15,
        13,
        "(float[2, 3, 4] x) => (y) { y = Shape <start = 1, end = 2> (x) }",
        &[
            "shape_1 = Shape (x)",
            "y = Slice (shape_1, constant_2, constant_3)",
        ],
    );
}

#[test]
fn bodies_functions_and_constants_go_down_too() {
    let text = r#"<ir_version: 9, opset_import: ["" : 18, "f" : 1]> g (float[2, 3] x, bool c) => (y) {
        y = If (c) <then_branch = t () => (p) { a = Constant <value_ints = [1]> () p = ReduceMax (x, a) },
                    else_branch = e () => (q) { q = f.least (x) }> }
        <domain: "f", opset_import: ["" : 18]> least (v) => (w) { a = Constant <value_ints = [1]> () w = ReduceMin (v, a) }"#;
    let before = model(text);
    let mut after = before.clone();
    run_pass(&ConvertOpset::to(11), &mut after, &Setting::default()).unwrap();
    secateur::analysis::check(&after).unwrap();
    let printed = secateur::format::text::print_model(
        &secateur::format::model_to_proto(&after, &secateur::format::ExternalFiles::default()).unwrap(),
        &secateur::format::text::PrintOptions::default(),
    );
    assert!(
        printed.contains("ReduceMax <axes = [1]>") && printed.contains("ReduceMin <axes = [1]>"),
        "{printed}"
    );
    assert!(!printed.contains("value_ints"), "{printed}");
    same_outputs(&before, &after, text);
}

#[test]
fn a_loop_may_leave_out_its_count_and_its_condition_in_every_version() {
    let counted = r#"(float[4] x, int64 m) => (float[4] y) {
        y = Loop (m, "", x) <body = b (int64 i, bool d, float[4] v) => (bool e, float[4] w) { e = Identity (d)  w = Relu (v) }> }"#;
    let conditional = r#"(float[4] x, bool c) => (float[4] y) {
        y = Loop ("", c, x) <body = b (int64 i, bool d, float[4] v) => (bool e, float[4] w) { e = Not (d)  w = Neg (v) }> }"#;
    // Empty slots at the end stay where there have to be two.
    let stateless = r#"(float[4] x, int64 m) => (y) {
        y = Loop (m, "") <body = b (int64 i, bool d) => (bool e, float[4] w) { e = Identity (d)  w = Relu (x) }> }"#;
    for (to, graph) in [(15, counted), (10, counted), (10, conditional), (13, stateless)] {
        let (before, after) = lowered(16, to, graph);
        assert_eq!(lines(&before), lines(&after), "{graph}");
    }
    // The first version needs a value that is carried along.
    refuse(16, 10, stateless, "y", "its input v_initial is left out");
}

#[test]
fn what_has_no_older_form_is_named() {
    let cases = [
        (
            17,
            16,
            "(float[2, 4] x, float[4] s) => (y) { y = LayerNormalization (x, s) }",
            "introduces",
        ),
        (20, 19, "(float[2, 4] x) => (y) { y = Gelu (x) }", "introduces"),
        (
            13,
            12,
            "(float[2, 4] x, int64[1] a) => (y) { y = ReduceSum (x, a) }",
            "computed",
        ),
        (
            18,
            17,
            "(float[2, n] x) => (y, z) { y, z = Split <axis = 1, num_outputs = 2> (x) }",
            "unevenly",
        ),
        (
            19,
            18,
            "(float[2, 4] x) => (y) <int64[4] p = {1, 1, 1, 1}> { y = Pad <mode = \"wrap\"> (x, p) }",
            "wrap",
        ),
        (
            14,
            13,
            "(float[0, 4] x, int64[2] s) => (y) { y = Reshape <allowzero = 1> (x, s) }",
            "computed",
        ),
        (14, 13, "(int32[2] x) => (y) { y = Relu (x) }", "int32"),
        (
            11,
            10,
            "(float[2] x, float[2] z) => (y) { y = Equal (x, z) }",
            "float",
        ),
        (
            19,
            11,
            "(float[1, 1, 4, 4] x) => (y) { y = AveragePool <kernel_shape = [2, 2], dilations = [2, 2]> (x) }",
            "dilations",
        ),
        (
            16,
            15,
            "(float[2, 2] x, int64[1, 2] i, float[1, 2] u) => (y) { y = ScatterElements <reduction = \"add\"> (x, i, u) }",
            "reduction is add",
        ),
        (
            8,
            7,
            "(float[2] x, float[1] z) => (y) { y = Max (x, z) }",
            "broadcast",
        ),
    ];
    for (from, to, graph, words) in cases {
        refuse(from, to, graph, "y", words);
    }
}

#[test]
fn nothing_is_done_in_silence() {
    let text = r#"<ir_version: 9, opset_import: ["" : 18]> g (float[2] x) => (y) { y = Relu (x) }"#;
    let mut own = model(text);
    let report = run_pass(&ConvertOpset::to(18), &mut own, &Setting::default()).unwrap();
    assert!(
        !report.changed
            && report
                .reasons()
                .iter()
                .any(|one| one.why == "the model has opset 18 already"),
        "{report:?}"
    );
    let report = run_pass(&ConvertOpset::to(17), &mut own, &Setting::default()).unwrap();
    assert!(
        report
            .changes
            .iter()
            .any(|change| change.rule == "opset 18 -> 17"),
        "{report:?}"
    );
    let text = r#"<ir_version: 9, opset_import: ["" : 22]> g (float[2] x) => (y) { y = Relu (x) }"#;
    let mut newer = model(text);
    let error = run_pass(&ConvertOpset::default(), &mut newer, &Setting::default()).unwrap_err();
    assert!(error.to_string().contains("--to"), "{error}");
}

#[test]
fn upsample7_ir3_keeps_its_inputs() {
    use secateur::format::{ExternalFiles, model_to_proto};
    let text = r#"<ir_version: 3, opset_import: ["" : 7]> g (float[1, 1, 2, 2] x, float[1] k) => (float[1, 1, 4, 4] y)
        <float[1] k = {2}> { a = Mul (x, k) y = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]> (a) }"#;
    let before = model(text);
    let mut after = before.clone();
    run_pass(&ConvertOpset::to(11), &mut after, &Setting::default()).unwrap();
    let message = model_to_proto(&after, &ExternalFiles::default()).unwrap();
    let graph = message.graph.unwrap();
    let names: Vec<_> = graph
        .input
        .iter()
        .filter_map(|input| input.name.as_deref())
        .collect();
    assert_eq!(names, ["x", "k"]);
    assert_eq!(graph.initializer.len(), 1);
    let ops: Vec<_> = graph
        .node
        .iter()
        .filter_map(|node| node.op_type.as_deref())
        .collect();
    assert_eq!(ops, ["Mul", "Constant", "Constant", "Resize"]);
    same_outputs(&before, &after, text);
}
