//! The checks of `secateur check`: their examples hold, planted faults are found at their place, clean models stay silent, and what is said
//! of the corpus is what is known of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use secateur::lint::{self, Finding, checks, prove};
use secateur::{CheckOptions, Findings, Model, Options, Pipeline, Severity, check, check_file};

use super::corpus;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn model(text: &str) -> Model {
    let message = secateur::format::text::parse_model(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Model::from_bytes(secateur::format::encode_to_bytes(&message))
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// What is found in a file, which need be no model that can run.
fn found_in(text: &str, options: &CheckOptions) -> Findings {
    let message = secateur::format::text::parse_model(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, secateur::format::encode_to_bytes(&message)).unwrap();
    check_file(path, options).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Codes and places, as `code place`.
fn named(findings: &[Finding]) -> Vec<String> {
    findings
        .iter()
        .map(|finding| format!("{} {}", finding.code, finding.place.name()))
        .collect()
}

#[test]
fn every_check_finds_what_its_examples_plant_and_nothing_where_they_plant_nothing() {
    assert!(checks().len() >= 40, "{} checks", checks().len());
    let mut wrong = Vec::new();
    for check in checks() {
        let fires = check
            .examples
            .iter()
            .filter(|example| !example.finds.is_empty())
            .count();
        if fires == 0 || fires == check.examples.len() {
            wrong.push(format!(
                "{}: needs an example that it finds, and one that it does not",
                check.code
            ));
        }
        for proof in prove(check) {
            if let Some(fault) = &proof.fault {
                wrong.push(format!("{}, example {}: {fault}", check.code, proof.index));
            }
            for finding in &proof.findings {
                let figures = finding.message.len() > 8 && !finding.message.ends_with('.');
                if !figures || finding.cure.is_empty() {
                    wrong.push(format!(
                        "{}: {:?}, cure {:?}",
                        check.code, finding.message, finding.cure
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_page_of_checks_is_up_to_date() {
    super::committed("docs/check.md", &lint::page());
}

/// Steps that are named by a check mend what its first example plants; the result has no finding of it.
#[test]
fn steps_mend_what_they_are_named_for() {
    let mut mended = 0;
    for check in checks() {
        let Some((step, _)) = check.cure.step else {
            continue;
        };
        for example in check.examples.iter().filter(|example| !example.finds.is_empty()) {
            let before = model(example.model);
            let only = CheckOptions::new().only(check.code).unwrap();
            let found = secateur::check(&before, &only).unwrap();
            let fix = found.findings[0].fix.clone().unwrap();
            assert_eq!(fix.step, step);
            let pipeline = Pipeline::step(&fix.step, serde_json::Value::Object(fix.options)).unwrap();
            let outcome = pipeline.run(&before, &Options::new()).unwrap();
            assert!(outcome.accepted(), "{}: {:?}", check.code, outcome.warnings());
            let after = secateur::check(&outcome.model, &only).unwrap();
            assert!(
                after.findings.is_empty(),
                "{}: {:?}\n{}",
                check.code,
                named(&after.findings),
                example.model
            );
            mended += 1;
        }
    }
    assert!(mended >= 9, "{mended} examples");
}

/// Models that exporters and tools write of small networks: nothing in them costs or breaks.
const CLEAN: [&str; 10] = [
    "digits_cnn.onnx",
    "digits_cnn_dynamo.onnx",
    "digits_mlp.onnx",
    "digits_mlp_dynamo.onnx",
    "digits_mlp_external.onnx",
    "digits_gru_dynamo.onnx",
    "digits_vit_dynamo.onnx",
    "digits_cnn_qop_pc_u8u8.onnx",
    "sk_logreg_pipeline_iris.onnx",
    "sk_randomforest_cancer.onnx",
];

/// Small models as people write them. All are fine.
const FINE: [&str; 14] = [
    // A branch on an input.
    r#"<ir_version: 8, opset_import: ["" : 17]> g (bool c, float[N] x) => (float[N] y) { y = If (c) <then_branch = t () => (float[N] a)
       { a = Relu(x) }, else_branch = e () => (float[N] b) { b = Neg(x) }> }"#,
    // A mask before Softmax, in range of float16.
    r#"<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y) <float[4] m = {0, 0, -1e4, -1e4}> { a = Add(x, m) y = Softmax(a) }"#,
    // Shape arithmetic.
    r#"<ir_version: 8, opset_import: ["" : 17]> g (float[N, 2, 3] x) => (float[N, 6] y) <int64[1] six = {6}> { s = Shape <start = 0, end = 1> (x)
       d = Concat <axis = 0> (s, six) y = Reshape(x, d) }"#,
    // A convolution whose batch normalization was folded.
    r#"<ir_version: 8, opset_import: ["" : 17]> g (float[N, 1, 4, 4] x) => (float[N, 2, 4, 4] y) <float[2, 1, 1, 1] w = {1, 2}, float[2] b = {0.5, 0}>
       { c = Conv(x, w, b) y = Relu(c) }"#,
    // A function that is called.
    r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]> g (float[N] x) => (float[N] y) { y = f.twice(x) }
       <domain: "f", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }"#,
    // Quantized as ONNX Runtime fuses it.
    r#"<ir_version: 8, opset_import: ["" : 17]> g (float[N, 2] x) => (float[N, 2] y) <float s = {0.1}, uint8 z = {128}, int8[2, 2] w = {1, -127, 3, 4},
       float[2] t = {0.01, 0.02}, int8[2] u = {0, 0}> { q = QuantizeLinear(x, s, z) a = DequantizeLinear(q, s, z)
       v = DequantizeLinear <axis = 1> (w, t, u) y = MatMul(a, v) }"#,
    // A loop with a bound that is fed.
    r#"<ir_version: 8, opset_import: ["" : 17]> g (int64 n, float[2] x) => (float[2] y) <bool c = {1}> { y = Loop (n, c, x)
       <body = b (int64 i, bool k, float[2] a) => (bool l, float[2] r) { l = Identity(k) r = Relu(a) }> }"#,
    // Doubles from end to end.
    r#"<ir_version: 8, opset_import: ["" : 17]> g (double[N, 2] x) => (double[N, 2] y) <double[2, 2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }"#,
    // An operator of the runtime's own domain.
    r#"<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[N, 2] x) => (float[N, 2] y) { y = com.microsoft.FastGelu(x) }"#,
    // Ids through a table.
    r#"<ir_version: 8, opset_import: ["" : 17]> g (int64[N] x) => (float[N, 2] y) <float[3, 2] w = {0, 0, 1, 2, 3, 4}> { y = Gather(w, x) }"#,
    // An epsilon that float16 holds.
    r#"<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y) <float e = {1e-6}> { n = ReduceL2 <axes = [1]> (x) m = Max(n, e) y = Div(x, m) }"#,
    // Dropout that is not in the graph any more, and a residual.
    r#"<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] x) => (float[N, 4] y) { a = Relu(x) b = Sigmoid(a) y = Add(a, b) }"#,
    // Half precision.
    r#"<ir_version: 8, opset_import: ["" : 17]> g (float16[N, 2] x) => (float16[N, 2] y) <float16[2, 2] w = {1, 2, 3, 4}> { y = MatMul(x, w) }"#,
    // Slices to the end.
    r#"<ir_version: 8, opset_import: ["" : 17]> g (float[N, 8] x) => (float[N, 7] y) <int64[1] a = {1}, int64[1] b = {9223372036854775807}, int64[1] c = {1}>
       { y = Slice(x, a, b, c) }"#,
];

#[test]
fn clean_models_have_neither_errors_nor_warnings() {
    let mut wrong = Vec::new();
    let deny = CheckOptions::new().deny(Severity::Warning);
    for name in CLEAN {
        let found = check_file(fixture(name), &deny).unwrap();
        if !found.passed() {
            wrong.push(format!("{name}: {:?}", named(&found.findings)));
        }
    }
    let deny = CheckOptions::new().target("ort").unwrap();
    for text in FINE {
        let found = check(&model(text), &deny).unwrap();
        if !found.findings.is_empty() {
            wrong.push(format!("{text}: {:?}", named(&found.findings)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(CLEAN.len() + FINE.len() >= 20);
}

/// Models with faults, the runtime that they are meant for, and all that is found in them.
const PLANTED: &[(&str, Option<&str>, &[&str])] = &[
    // Two faults next to each other.
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[N, 2] x, float[2, 2] w = {1, 2, 3, nan}) => (float[N, 2] y)
           <float[2] spare = {1, 2}> { y = MatMul(x, w) }"#,
        None,
        &["overridable-initializer w", "unused-initializer spare"],
    ),
    // In a body of a body.
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (bool c, float[N] x) => (float[N] y) { y = If (c) <then_branch = t () => (float[N] a)
           { a = If (c) <then_branch = u () => (float[N] d) { [inner] s = Exp(x) d = Relu(x) },
           else_branch = v () => (float[N] e) { e = Neg(x) }> }, else_branch = w () => (float[N] b) { b = Neg(x) }> }"#,
        None,
        &["dead-node inner"],
    ),
    // In a function.
    (
        r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]> g (float[N] x) => (float[N] y) { y = f.one(x) }
           <domain: "f", opset_import: ["" : 17]> one (a) => (b) { [spare] c = Exp(a) b = Neg(a) }"#,
        None,
        &["dead-node spare"],
    ),
    // A constant condition in a body.
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (int64 n, bool k, float[2] x) => (float[2] y) { y = Loop (n, k, x)
           <body = b (int64 i, bool l, float[2] a) => (bool o, float[2] r) <bool t = {0}> { o = Identity(l) [never] r = If (t)
           <then_branch = p () => (float[2] d) { d = Relu(a) }, else_branch = q () => (float[2] e) { e = Neg(a) }> }> }"#,
        None,
        &["constant-condition never", "unsupported-operator y"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[1, 1, 4, 4] x) => (float[1, 1, 4, 4] y) <float[1, 1, 1, 1] w = {1}, float[1] s = {1},
           float[1] b = {0}, float[1] m = {0}, float[1] v = {-1}> { c = Conv(x, w) [norm] y = BatchNormalization(c, s, b, m, v) }"#,
        None,
        &["batch-norm-variance norm"],
    ),
    // A gap in a transposed convolution's channels is no gap of its rows.
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[1, 2, 2, 2] x) => (float[1, 3, 2, 2] y) <float[2, 3, 1, 1] w = {1, 0, 2, 3, 0, 4}>
           { y = ConvTranspose(x, w) }"#,
        None,
        &["zero-channels w"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[1, 4] x) => (float[1, 3] y) <float[3, 4] w = {1, 1, 1, 1, 0, 0, 0, 0, 2, 2, 2, 2}>
           { y = Gemm <transB = 1> (x, w) }"#,
        None,
        &["zero-channels w"],
    ),
    // A weight that is read transposed: the channels lie on the other axis.
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[1, 2] x) => (float[1, 3] y) <float[3, 2] w = {1, 2, 0, 0, 3, 4}>
           { t = Transpose <perm = [1, 0]> (w) y = MatMul(x, t) }"#,
        None,
        &["constant-subgraph t", "zero-channels w"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[N, 64] x) => (float[N, 64] y) <double k = {2}> { a = Cast <to = 11> (x)
           [p] b = Mul(a, k) [q] c = Sqrt(b) y = Cast <to = 1> (c) }"#,
        Some("qnn"),
        &["dynamic-shape x", "float64-island p"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2] x, float[2] x2) => (float[2] y) { [a] z = Relu(x) [a] y = Exp(z) }"#,
        None,
        &["duplicate-node-name a", "unused-input x2"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] x, float[2] y) { y = Relu(x) }"#,
        None,
        &["output-not-computed x"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[?, ?] x) => (float[?, ?] y) { y = Relu(x) }"#,
        None,
        &["unnamed-dimension x"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2, 3] x) => (float[3, 2] y) { y = Relu(x) }"#,
        None,
        &["contradicting-declaration y"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2, 3] x, float[4] b) => (float[2, 3] y) { [sum] y = Add(x, b) }"#,
        None,
        &["contradictory-shapes sum"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) <float k = {1e38}, float e = {1e-20}>
           { a = Mul(x, k) b = Add(a, e) [root] y = Sqrt(b) }"#,
        None,
        &["float16-overflow k", "float16-underflow e"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 11]> g (float[2, 3, 4] x) => (float[2, 3, 4] y) { [soft] y = LogSoftmax <axis = 1> (x) }"#,
        None,
        &["flattening-softmax soft"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 9]> g (float[2, 2] x, int64[1, 2] i, float[1, 2] u) => (float[2, 2] y) { [put] y = Scatter(x, i, u) }"#,
        None,
        &["superseded-operator put"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) <float r = {0.25}, bool t = {1}> { [drop] y = Dropout(x, r, t) }"#,
        None,
        &["training-mode drop"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { [drop] a = Dropout(x) y = Relu(a) }"#,
        None,
        &["inference-dropout drop"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17, "acme" : 1]> g (float[2] x) => (float[2] y) { [own] y = acme.Own(x) }"#,
        Some("ort"),
        &["unsupported-operator own", "opaque-operator own"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (int64[N] x) => (int64[N] y) { a = Cast <to = 10> (x) [back] y = Cast <to = 7> (a) }"#,
        None,
        &["index-through-float back"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) <float s = {-0.1}, int8 z = {0}>
           { [q] c = QuantizeLinear(x, s, z) [d] y = DequantizeLinear(c, s, z) }"#,
        None,
        &["invalid-scale q", "invalid-scale d"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (uint8[1, 4] x) => (uint8[1, 4] y) <float s = {0.1}, uint8 z = {0}>
           { a = DequantizeLinear(x, s, z) [act] b = Tanh(a) y = QuantizeLinear(b, s, z) }"#,
        Some("ort"),
        &["unfused-qdq act"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (uint8[1, 2] x) => (uint8[1, 2] y) <float s = {0.1}, uint8 z = {3}, int8[2, 2] w = {1, 2, 3, 4},
           float[2] t = {0.1, 0.2}, int8[2] u = {0, 0}> { a = DequantizeLinear(x, s, z) v = DequantizeLinear <axis = 0> (w, t, u)
           [product] b = MatMul(a, v) y = QuantizeLinear(b, s, z) }"#,
        None,
        &["qdq-axis product"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (uint8[1, 2] x) => (float[1, 1] y) <float s = {0.5}, uint8 z = {0}, int8[1, 2] w = {1, 2},
           int32[1] b = {7}, float t = {0.5}> { a = DequantizeLinear(x, s, z) v = DequantizeLinear(w, s) c = DequantizeLinear(b, t)
           [gemm] y = Gemm <transB = 1> (a, v, c) }"#,
        None,
        &["qdq-bias-scale gemm"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) <float s = {0.1}, uint8 z = {7}>
           { [q] c = QuantizeLinear(x, s, z) [d] y = DequantizeLinear(c, s, z) }"#,
        Some("tensorrt"),
        &["asymmetric-codes q", "asymmetric-codes d"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[1, 3, 2] x, float[1, 2, 2] w, float[1, 2, 2] r) => (float[1, 3, 1, 2] y)
           { [rnn] y = RNN <hidden_size = 2, layout = 1> (x, w, r) }"#,
        Some("ort"),
        &["unsupported-attribute rnn"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (double[2, 2] x) => (double[2, 2] y) { [act] y = Erf(x) }"#,
        Some("ort"),
        &["unsupported-operator act"],
    ),
    (
        r#"<ir_version: 11, opset_import: ["" : 22]> g (float[2] x) => (float[2] y) { y = Relu(x) }"#,
        Some("ort@1.16"),
        &["ir-version-too-new the model", "opset-too-new the model"],
    ),
    (
        r#"<ir_version: 3, opset_import: ["" : 6]> g (float[2] x) => (float[2] y) { y = Relu(x) }"#,
        Some("ort"),
        &["opset-too-old the model"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (int64[2] x) => (int64[2] y) <int64[2] k = {-3000000000, 1}> { y = Add(x, k) }"#,
        Some("webgpu"),
        &["int64-range k"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17, "f" : 1]> g (float[N] x) => (float[N] y) { y = Neg(x) }
           <domain: "f", opset_import: ["" : 17]> spare (a) => (b) { b = Neg(a) }"#,
        None,
        &["unused-function function f.spare"],
    ),
    (
        r#"<ir_version: 8, opset_import: ["" : 17]> g (float[1, 2] x) => (float[1, 2] y) <float[2, 2] w = {1, -inf, 0, 1}> { y = MatMul(x, w) }"#,
        None,
        &["weight-not-finite w"],
    ),
];

#[test]
fn planted_faults_are_found_at_their_place_and_nothing_else_is() {
    let mut wrong = Vec::new();
    let mut codes = BTreeSet::new();
    for (text, target, expected) in PLANTED {
        let mut options = CheckOptions::new();
        if let Some(target) = target {
            options = options.target(target).unwrap();
        }
        let found = found_in(text, &options);
        codes.extend(found.findings.iter().map(|finding| finding.code.clone()));
        if named(&found.findings) != *expected {
            wrong.push(format!(
                "{text}\n  found {:?}\n  planted {expected:?}",
                named(&found.findings)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        PLANTED.len(),
        wrong.join("\n")
    );
    assert!(
        PLANTED.len() >= 30 && codes.len() >= 30,
        "{} models, {} codes",
        PLANTED.len(),
        codes.len()
    );
}

#[test]
fn findings_do_not_depend_on_threads() {
    let path = fixture("resnet8_cifar10_qdq_pc_s8s8.onnx");
    let options = CheckOptions::new()
        .target("tensorrt")
        .unwrap()
        .target("qnn")
        .unwrap();
    let all = named(&check_file(&path, &options).unwrap().findings);
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(
        one.install(|| named(&check_file(&path, &options).unwrap().findings)),
        all
    );
    assert!(all.len() > 10, "{all:?}");
}

#[test]
fn a_file_that_is_no_valid_model_is_answered_with_all_that_is_wrong() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2] x, int64[2] i) => (float[2] y)
        { [first] a = Add(x, i) [second] b = Mul(a, i) y = Relu(b) }"#;
    let message = secateur::format::text::parse_model(text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.onnx");
    std::fs::write(&path, secateur::format::encode_to_bytes(&message)).unwrap();
    let found = check_file(&path, &CheckOptions::new()).unwrap();
    assert_eq!(
        named(&found.findings),
        ["type-mismatch first", "type-mismatch second"]
    );
    assert!(!found.passed());
    // The library refuses it with the first of these.
    assert_eq!(Model::open(&path).unwrap_err().code(), "type-mismatch");
    std::fs::write(&path, b"no model").unwrap();
    assert_eq!(
        check_file(&path, &CheckOptions::new()).unwrap_err().code(),
        "malformed-protobuf"
    );
}

#[test]
fn findings_about_runtimes_are_notes_until_one_is_asked_for() {
    let text = r#"<ir_version: 8, opset_import: ["" : 20]> g (uint8[N] x) => (uint8[H, W, C] y) { [decode] y = ImageDecoder(x) }"#;
    let of = |options: CheckOptions| -> Vec<(Option<String>, Severity)> {
        let found = check(&model(text), &options).unwrap().findings;
        found
            .into_iter()
            .map(|finding| (finding.target, finding.severity))
            .collect()
    };
    assert_eq!(
        of(CheckOptions::new()),
        [
            (Some("ort".to_owned()), Severity::Note),
            (Some("tract".to_owned()), Severity::Note)
        ]
    );
    assert_eq!(
        of(CheckOptions::new().target("ort").unwrap()),
        [(Some("ort".to_owned()), Severity::Error)]
    );
}

/// What is found in each model of the corpus, by code.
fn over_the_corpus() -> BTreeMap<String, Findings> {
    corpus::models()
        .into_iter()
        .map(|path| {
            let found = check_file(&path, &CheckOptions::new());
            (
                path.display().to_string(),
                found.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            )
        })
        .collect()
}

#[test]
fn what_is_known_of_the_corpus_is_found() {
    let found = over_the_corpus();
    corpus::ran(found.len(), 60);
    if found.is_empty() {
        return;
    }
    let count = |model: &str, code: &str| {
        let of = found.iter().find(|(path, _)| path.ends_with(model));
        let findings = &of.unwrap_or_else(|| panic!("no {model}")).1.findings;
        findings.iter().filter(|finding| finding.code == code).count()
    };
    // The corpus' page says of it: its weights are graph inputs, as older exporters wrote them.
    assert!(count("nanodet_m.onnx", "overridable-initializer") > 100);
    let with = |code: &str| {
        found
            .values()
            .filter(|one| one.findings.iter().any(|f| f.code == code))
            .count()
    };
    let mut by_code: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in found.values().flat_map(|one| &one.findings) {
        *by_code.entry(finding.code.as_str()).or_default() += 1;
    }
    println!("{} models: {by_code:?}", found.len());
    for code in [
        "overridable-initializer",
        "unfused-qdq",
        "duplicate-weights",
        "float16-overflow",
        "unfused-batch-norm",
    ] {
        assert!(with(code) > 0, "{code} is found nowhere: {by_code:?}");
    }
    // All of them load in ONNX Runtime, and are pretrained or exported from networks that work.
    for (name, one) in &found {
        assert_eq!(one.counts.errors, 0, "{name}: {:?}", named(&one.findings));
    }
}
