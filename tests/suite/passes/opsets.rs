//! `convert-opset`: an operator a line, before and after.

use secateur::passes::{ConvertOpset, PassError};

use super::{Setting, lines, model, run_pass, same_outputs};

/// Converts `graph` and compares nodes and constants; what tract runs has to give the same bits.
fn convert(from: i64, to: i64, graph: &str, expected: &[&str]) {
    let text = format!(r#"<ir_version: 7, opset_import: ["" : {from}]> g {graph}"#);
    let before = model(&text);
    let mut after = before.clone();
    run_pass(&ConvertOpset::to(to), &mut after, &Setting::default())
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(lines(&after), expected, "{text}");
    assert_eq!(after.opset(), Some(to), "{text}");
    same_outputs(&before, &after, &text);
}

/// Checks that `op_type` stands in the way of a conversion, for a reason with these words.
fn refuse(from: i64, to: i64, graph: &str, words: &str) {
    let text = format!(r#"<ir_version: 7, opset_import: ["" : {from}]> g {graph}"#);
    let mut refused = model(&text);
    let before = lines(&refused);
    let error = run_pass(&ConvertOpset::to(to), &mut refused, &Setting::default()).unwrap_err();
    assert!(
        matches!(error, PassError::Model { .. }) && error.to_string().contains(words),
        "{error}"
    );
    assert_eq!(
        lines(&refused),
        before,
        "a refused conversion leaves the model alone"
    );
    assert_eq!(refused.opset(), Some(from));
}

#[test]
fn attributes_become_inputs() {
    convert(
        11,
        13,
        "(float[1, 3] x) => (float[3] y) { y = Squeeze <axes = [0]> (x) }",
        &["constant_1: int64[1] = 0", "y = Squeeze (x, constant_1)"],
    );
    convert(
        11,
        13,
        "(float[1, 3] x) => (float[3] y) { y = Squeeze (x) }",
        &["y = Squeeze (x)"],
    );
    convert(
        11,
        13,
        "(float[3] x) => (float[1, 3] y) { y = Unsqueeze <axes = [0]> (x) }",
        &["constant_1: int64[1] = 0", "y = Unsqueeze (x, constant_1)"],
    );
    convert(
        11,
        13,
        "(float[2, 3] x) => (float[2, 1] y) { y = ReduceSum <axes = [1]> (x) }",
        &["constant_1: int64[1] = 1", "y = ReduceSum (x, constant_1)"],
    );
    convert(
        13,
        18,
        "(float[2, 3] x) => (float[2] y) { y = ReduceMean <axes = [1], keepdims = 0> (x) }",
        &[
            "constant_1: int64[1] = 1",
            "y = ReduceMean <keepdims = 0> (x, constant_1)",
        ],
    );
    convert(
        9,
        10,
        "(float[4] x) => (float[2] y) { y = Slice <starts = [1], ends = [3]> (x) }",
        &[
            "constant_1: int64[1] = 1",
            "constant_2: int64[1] = 3",
            "y = Slice (x, constant_1, constant_2)",
        ],
    );
    convert(
        10,
        11,
        "(float[2] x) => (float[4] y) { y = Pad <pads = [1, 1], value = 0.5> (x) }",
        &[
            "constant_1: int64[2] = 1 1",
            "constant_2: float = 0.5",
            "y = Pad (x, constant_1, constant_2)",
        ],
    );
    convert(
        10,
        11,
        "(float[4] x) => (float[4] y) { y = Clip <min = -1.0, max = 1.0> (x) }",
        &[
            "constant_1: float = -1",
            "constant_2: float = 1",
            "y = Clip (x, constant_1, constant_2)",
        ],
    );
    convert(
        11,
        13,
        "(float[4] x) => (float[1] a, float[3] b) { a, b = Split <split = [1, 3]> (x) }",
        &["constant_1: int64[2] = 1 3", "a, b = Split (x, constant_1)"],
    );
    convert(
        13,
        18,
        "(float[4] x) => (float[2] a, float[2] b) { a, b = Split (x) }",
        &["a, b = Split <num_outputs = 2> (x)"],
    );
    convert(
        9,
        10,
        "(float[2, 4] x) => (float[2, 2] v, int64[2, 2] i) { v, i = TopK <k = 2> (x) }",
        &["constant_1: int64[1] = 2", "v, i = TopK (x, constant_1)"],
    );
}

#[test]
fn what_goes_up_several_versions_takes_every_step() {
    convert(
        9,
        21,
        "(float[1, 1, 2, 2] x) => (float[1, 1, 4, 4] y) <float[4] s = {1, 1, 2, 2}> { y = Upsample <mode = \"nearest\"> (x, s) }",
        &[
            "s: float[4] = 1 1 2 2",
            "constant_1: float[0] = ",
            "y = Resize <mode = \"nearest\", coordinate_transformation_mode = \"asymmetric\", nearest_mode = \"floor\"> ( x, constant_1, s )",
        ],
    );
    convert(
        7,
        13,
        "(float[2, 3] x) => (float[1, 3] y) { a = ReduceMax <axes = [0]> (x)  b = Squeeze <axes = [0]> (a)  y = Unsqueeze <axes = [0]> (b) }",
        &[
            "constant_1: int64[1] = 0",
            "constant_2: int64[1] = 0",
            "a = ReduceMax <axes = [0]> (x)",
            "b = Squeeze (a, constant_1)",
            "y = Unsqueeze (b, constant_2)",
        ],
    );
}

#[test]
fn softmax_of_flattened_dimensions_stays_what_it_was() {
    convert(
        11,
        13,
        "(float[2, 3] x) => (float[2, 3] y) { y = Softmax (x) }",
        &["y = Softmax <axis = -1> (x)"],
    );
    convert(
        11,
        13,
        "(float[2, 3, 2] x) => (float[2, 3, 2] y) { z = Softmax (x)  y = Neg (z) }",
        &[
            "flatten_1 = Flatten <axis = 1> (x)",
            "softmax_2 = Softmax <axis = -1> (flatten_1)",
            "shape_3 = Shape (x)",
            "z = Reshape (softmax_2, shape_3)",
            "y = Neg (z)",
        ],
    );
    for axis in [0, -3] {
        convert(
            11,
            13,
            &format!(
                "(float[2, 3, 2] x) => (float[2, 3, 2] y) {{ z = Softmax <axis = {axis}> (x)  y = Neg (z) }}"
            ),
            &[
                "constant_2: int64[1] = -1",
                "shape_1 = Shape (x)",
                "reshape_3 = Reshape (x, constant_2)",
                "softmax_4 = Softmax <axis = -1> (reshape_3)",
                "z = Reshape (softmax_4, shape_1)",
                "y = Neg (z)",
            ],
        );
    }
}

#[test]
fn legacy_broadcasting_becomes_that_of_numpy() {
    convert(
        6,
        7,
        "(float[2, 3] x, float[3] b) => (float[2, 3] y) { y = Add <broadcast = 1> (x, b) }",
        &["y = Add (x, b)"],
    );
    convert(
        6,
        7,
        "(float[2, 3] x, float[2] b) => (float[2, 3] y) { y = Mul <axis = 0, broadcast = 1> (x, b) }",
        &[
            "unsqueeze_1 = Unsqueeze <axes = [1]> (b)",
            "y = Mul (x, unsqueeze_1)",
        ],
    );
    convert(
        6,
        13,
        "(float[2, 3] x, float[2] b) => (float[2, 3] y) { y = Mul <axis = 0, broadcast = 1> (x, b) }",
        &[
            "constant_1: int64[1] = 1",
            "unsqueeze_2 = Unsqueeze (b, constant_1)",
            "y = Mul (x, unsqueeze_2)",
        ],
    );
    convert(
        6,
        7,
        "(float[1, 3, 2] x, float[3] s) => (float[1, 3, 2] y) { y = PRelu (x, s) }",
        &[
            "unsqueeze_1 = Unsqueeze <axes = [1]> (s)",
            "y = PRelu (x, unsqueeze_1)",
        ],
    );
}

#[test]
fn bodies_and_functions_are_converted() {
    let text = r#"<ir_version: 8, opset_import: ["" : 11, "f" : 1]>
        g (float[1, 3] x, bool c) => (float[3] y) {
          z = f.F (x)
          y = If (c) <then_branch = t () => (float[3] a) { a = Squeeze <axes = [0]> (z) },
                      else_branch = e () => (float[3] b) { b = ReduceSum <axes = [0], keepdims = 0> (z) }> }
        <domain: "f", opset_import: ["" : 11]> F (p) => (q) { q = Softmax <axis = -1> (p) }"#;
    let before = model(text);
    let mut after = before.clone();
    run_pass(&ConvertOpset::to(13), &mut after, &Setting::default()).unwrap();
    let found = lines(&after);
    assert!(
        found[1].contains("a = Squeeze (z, ") && found[1].contains("b = ReduceSum <keepdims = 0> (z, "),
        "{found:#?}"
    );
    assert_eq!(after.functions[0].opset_imports[0].version, Some(13));
    same_outputs(&before, &after, text);
}

#[test]
fn operators_that_stand_in_the_way_are_named() {
    refuse(9, 14,
        "(float[1, 2] x) => (float[1, 2] y) <float[2] s = {1, 1}, float[2] b = {0, 0}, float[2] m = {0, 0}, float[2] v = {1, 1}> {
           y, m1, v1, sm, sv = BatchNormalization (x, s, b, m, v) }",
        "BatchNormalization cannot be converted from opset 13 to 14: it is in training mode");
    refuse(
        6,
        7,
        "(float[1, 2] x) => (float[1, 2] y) { y = Dropout (x) }",
        "training mode",
    );
    refuse(
        10,
        11,
        "(float[2, 2] x, int64[2] i) => (float[2, 3] y) <int64 d = {3}, float[2] v = {0, 1}> { y = OneHot (i, d, v) }",
        "indices may be negative",
    );
    refuse(
        10,
        11,
        "(float[1, 1, 4, 2] x) => (float[1, 1, 2, 4] y) <float[4] s = {1, 1, 0.5, 2}> { y = Resize (x, s) }",
        "two ways of rounding",
    );
}
