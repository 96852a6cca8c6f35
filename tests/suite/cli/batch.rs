//! `bind` on a fixed batch of 1: the case `static_batch` and its kin.

use super::Bench;

/// Converts, answers the input's and the output's shape.
fn shapes(bench: &Bench, name: &str, bind: &str) -> (serde_json::Value, serde_json::Value) {
    let called = bench.call(&format!(
        "bind {name}.onnx {bind} -o {name}_n.onnx --force --json"
    ));
    assert_eq!(called.code, 0, "{name}: {}\n{}", called.text(), called.stderr);
    let facts = bench
        .call(&format!("inspect {name}_n.onnx --json --values --strict"))
        .json();
    (
        facts["inputs"][0]["shape"].clone(),
        facts["outputs"][0]["shape"].clone(),
    )
}

fn header(body: &str) -> String {
    format!("<ir_version: 8, opset_import: [\"\" : 17]> g {body}")
}

const RESHAPED: &str = "(float[1, 3, 5, 5] x) => (float[1, 4] y)
    <int64[2] s = {1, 75}, float[75, 4] k>
    { r = Reshape (x, s) y = MatMul (r, k) }";

fn reshaped() -> String {
    let numbers: Vec<String> = (0..300)
        .map(|number| format!("{}", f64::from(number % 7) - 3.0))
        .collect();
    header(&RESHAPED.replace(
        "float[75, 4] k>",
        &format!("float[75, 4] k = {{{}}}>", numbers.join(", ")),
    ))
}

#[test]
fn static_batch_becomes_free_or_larger() {
    let bench = Bench::new();
    bench.model("fixed", &reshaped());
    let (input, output) = shapes(&bench, "fixed", "--bind x[0]=N");
    assert_eq!(
        (input, output),
        (serde_json::json!(["N", 3, 5, 5]), serde_json::json!(["N", 4]))
    );
    let (input, output) = shapes(&bench, "fixed", "--bind x[0]=4");
    assert_eq!(
        (input, output),
        (serde_json::json!([4, 3, 5, 5]), serde_json::json!([4, 4]))
    );
    let (input, _) = shapes(&bench, "fixed", "--bind x=8,3,5,5");
    assert_eq!(input, serde_json::json!([8, 3, 5, 5]));
    // As a step before others, compared: a larger batch is compared with itself before them.
    for bind in ["x[0]=N", "x[0]=4"] {
        let called = bench.call(&format!(
            "simplify fixed.onnx -o s.onnx --force --bind {bind} --verify --json"
        ));
        assert_eq!(called.code, 0, "{}\n{}", called.text(), called.stderr);
        assert_eq!(called.json()["verdict"], "equal", "{}", called.text());
    }
}

#[test]
fn static_batch_of_attention_states_and_tokens_becomes_free() {
    let bench = Bench::new();
    // Heads are merged with the batch and split off again; a token of one sample is put before each.
    let heads = header(
        "(float[1, 3, 4] x) => (float[1, 4, 4] y)
         <float[1, 1, 4] token = {1, 2, 3, 4}, int64[4] split = {1, 4, 2, 2}, int64[3] merged = {2, 4, 2},
          int64[4] apart = {1, 2, 4, 2}, int64[3] whole = {1, -1, 4}>
         { j = Concat <axis = 1> (token, x) a = Reshape (j, split) b = Transpose <perm = [0, 2, 1, 3]> (a)
           c = Reshape (b, merged) d = Softmax (c) e = Reshape (d, apart) f = Transpose <perm = [0, 2, 1, 3]> (e)
           y = Reshape (f, whole) }",
    );
    bench.model("heads", &heads);
    assert_eq!(
        shapes(&bench, "heads", "--bind x[0]=N").1,
        serde_json::json!(["N", 4, 4])
    );
    let state = header(
        "(float[3, 1, 2] x) => (float[3, 1, 1, 2] y)
         <float[1, 2, 2] w = {1, 2, 3, 4}, float[1, 2, 2] r = {0, 1, 1, 0}, float[1, 1, 2] h = {0.5, 0.25}>
         { y, = RNN <hidden_size = 2> (x, w, r, , , h) }",
    );
    bench.model("state", &state);
    assert_eq!(
        shapes(&bench, "state", "--bind x[1]=N").1,
        serde_json::json!([3, 1, "N", 2])
    );
    let resized = header(
        "(float[1, 1, 2, 2] x) => (float[1, 1, 4, 6] y)
         <int64[4] sizes = {1, 1, 4, 6}> { y = Resize <mode = \"nearest\"> (x, , , sizes) }",
    );
    bench.model("resized", &resized);
    assert_eq!(
        shapes(&bench, "resized", "--bind x[0]=N").1,
        serde_json::json!(["N", 1, 4, 6])
    );
}

#[test]
fn what_does_not_scale_with_the_batch_is_named() {
    let bench = Bench::new();
    let cases = [
        (
            "(float[1, 4] x) => (float[4] y) <int64[1] a = {0}> { y = Squeeze (x, a) }",
            "y",
        ),
        ("(float[1, 4] x) => (float[1, 1] y) { y = ReduceMean (x) }", "y"),
        (
            "(float[1, 4] x) => (float[4] y) <int64 i = {0}> { t = Relu (x) y = Gather (t, i) }",
            "y",
        ),
        // The shapes are right: only running it shows that the samples are mixed.
        (
            "(float[1, 4] x) => (float[1, 4] y) { t = Relu (x) y = Softmax <axis = 0> (t) }",
            "y",
        ),
        (
            "(float[1, 4] x) => (float[1, 4] y) <int64 a = {0}> { y = CumSum (x, a) }",
            "y",
        ),
    ];
    for (body, node) in cases {
        bench.model("mixed", &header(body));
        for bind in ["x[0]=N", "x[0]=3"] {
            let refused = bench.call(&format!("bind mixed.onnx --bind {bind} -o no.onnx --json"));
            assert_eq!(
                (refused.code, refused.error_code().as_str()),
                (2, "pass-model"),
                "{body}: {}",
                refused.text()
            );
            assert_eq!(
                refused.json()["error"]["node"],
                node,
                "{body}: {}",
                refused.text()
            );
        }
    }
    bench.model("two", &header("(float[1, 4] x, float[1, 4] z) => (float[1, 4] y) <float[1] k = {1}> { t = Concat <axis = 1> (x, z) s = Relu (t) y = Add (x, z) }"));
    // The other input is repeated for each sample by Add, but not by Concat, where it is named.
    assert_eq!(
        bench
            .call("bind two.onnx --bind x[0]=N --bind z[0]=N -o two_n.onnx")
            .code,
        0
    );
    bench.model(
        "large",
        &header("(float[2, 4] x) => (float[2, 4] y) { y = Relu (x) }"),
    );
    let refused = bench.call("bind large.onnx --bind x[0]=N -o no.onnx --json");
    assert_eq!((refused.code, refused.error_code().as_str()), (2, "pass-option"));
    assert!(!bench.path("no.onnx").exists());
}
