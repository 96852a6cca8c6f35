//! What is compared, for how long, and what is said of it: verbs compare as `run` does.

use super::Bench;

/// A product with batch norm's kind of weights, and calibration data.
fn bench() -> Bench {
    let bench = Bench::new();
    let weights: Vec<String> = (0..64)
        .map(|index| format!("{:.3}", ((index * 37 % 64) as f32 / 32.0 - 1.0) * 0.5))
        .collect();
    bench.model(
        "net",
        &format!(
            "<ir_version: 8, opset_import: [\"\" : 17]> g (float[batch, 8] x) => (float[batch, 8] y)
             <float[8, 8] w = {{{}}}> {{ [first] h = MatMul(x, w) [second] y = Relu(h) }}",
            weights.join(", ")
        ),
    );
    let values: Vec<f32> = (0..800).map(|index| (index as f32 * 0.7).sin()).collect();
    let tensor = secateur::ir::Tensor::from_slice::<f32>(&[100, 8], &values).unwrap();
    secateur::data::write_npz(&bench.path("x.npz"), [("x", &tensor)]).unwrap();
    bench
}

#[test]
fn verbs_compare_by_default_on_the_data_they_hold_or_on_synthetic_inputs() {
    let bench = bench();
    for (arguments, inputs) in [
        ("quantize net.onnx --data x.npz", "calibration data"),
        ("quantize-weights net.onnx --minimum-elements 1", "synthetic"),
        ("quantize-dynamic net.onnx --minimum-elements 1", "synthetic"),
        ("convert-float net.onnx", "synthetic"),
        ("prune weights net.onnx --sparsity 0.1", "synthetic"),
        (
            "prune weights net.onnx --sparsity 0.1 --data x.npz",
            "evaluation data",
        ),
        (
            "convert-float net.onnx --data evaluation=x.npz",
            "evaluation data",
        ),
    ] {
        let called = bench.call(&format!("{arguments} -o out.onnx --force --json"));
        assert_eq!(called.code, 0, "{arguments}\n{}", called.text());
        let document = called.json();
        let output = &document["verify"]["outputs"][0];
        assert_eq!(document["verify"]["inputs"], inputs, "{arguments}");
        assert!(document["verify"]["samples"].as_u64() > Some(0), "{arguments}");
        for figure in ["cosine", "sqnr_db", "top1_agreement"] {
            assert!(output[figure].is_number(), "{arguments}: no {figure} in {output}");
        }
        let called = bench.call(&format!("{arguments} -o out.onnx --force"));
        for word in ["cosine", "SQNR dB", "top-1", "verdict: "] {
            assert!(
                called.text().contains(word),
                "{arguments}: no {word} in\n{}",
                called.text()
            );
        }
        let called = bench.call(&format!("{arguments} -o out.onnx --force --no-verify"));
        assert!(
            called.text().contains("as --no-verify asks"),
            "{arguments}\n{}",
            called.text()
        );
    }
    for verb in [
        "eliminate-dead-code dead.onnx",
        "simplify dead.onnx",
        "eliminate-dead-code dead.onnx --verify",
    ] {
        let called = bench.call(&format!("{verb} -o out.onnx --force --json"));
        assert_eq!(called.json()["verdict"], "equal", "{verb}");
        assert!(called.json()["verify"]["samples"].as_u64() > Some(1), "{verb}");
    }
    let called = bench.call("simplify dead.onnx -o never.onnx --verify --no-verify");
    assert_eq!(called.code, 2, "{}", called.stderr);
    assert!(called.stderr.contains("--no-verify"), "{}", called.stderr);
}

#[test]
fn a_result_that_is_far_off_is_warned_of_with_the_worst_node() {
    let bench = bench();
    let called = bench.call("prune weights net.onnx --sparsity 0.9 --data calibration=x.npz -o out.onnx");
    assert_eq!(called.code, 0, "{}", called.stderr);
    assert!(
        called
            .stderr
            .contains("warning: output y is far from the input model's")
            && called.stderr.contains("dB of SQNR")
            && called
                .stderr
                .contains("the worst node by itself is first (MatMul)"),
        "{}",
        called.stderr
    );
    // One that is near is not.
    let called = bench.call("quantize-weights net.onnx --minimum-elements 1 -o near.onnx");
    assert!(!called.stderr.contains("far from"), "{}", called.stderr);
}

#[test]
fn results_that_are_not_numbers_are_warned_of() {
    let bench = bench();
    bench.model(
        "large",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[batch, 2] x) => (float[batch, 2] y)
         <float[2] k = {50000, 50000}, float[2] l = {0.0001, 0.0001}> { [up] a = Mul(x, k) [square] b = Mul(a, k) y = Mul(b, l) }",
    );
    let called = bench.call("convert-float large.onnx --set check-ranges=false -o out.onnx");
    assert_eq!(called.code, 0, "{}", called.stderr);
    assert!(
        called.stderr.contains("warning: output y has") && called.stderr.contains("NaN or infinite"),
        "{}\n{}",
        called.text(),
        called.stderr
    );
}

#[test]
fn the_time_for_comparing_is_bounded_and_the_report_says_what_was_covered() {
    let bench = bench();
    // No time at all: one sample at each of the two sizes.
    let called = bench.call("verify net.onnx net.onnx --rounds 50 --verify-time 0 --json");
    let report = called.json();
    assert_eq!(called.code, 0, "{report}");
    assert_eq!(report["samples"], 2, "{report}");
    assert!(report["planned"].as_u64() >= Some(600), "{report}");
    assert_eq!(report["cut_short"], true, "{report}");
    assert_eq!(report["sizes"].as_array().map(Vec::len), Some(2), "{report}");
    let called = bench.call("verify net.onnx net.onnx --rounds 50 --verify-time 0");
    assert!(
        called.text().contains("(tract, 2 of ") && called.text().contains(" planned synthetic samples"),
        "{}",
        called.text()
    );
    assert!(called.text().contains("--verify-time"), "{}", called.text());
    let called = bench.call("verify net.onnx net.onnx --data x.npz --verify-time 0 --jobs 1 --json");
    assert_eq!(
        (
            called.json()["samples"].as_u64(),
            called.json()["planned"].as_u64()
        ),
        (Some(1), Some(100)),
        "{}",
        called.text()
    );
    // Without a bound, everything.
    let called = bench.call("verify net.onnx net.onnx --data x.npz --json");
    assert_eq!(called.json()["samples"], 100);
    assert_eq!(called.json()["cut_short"], false);
    // A difference is found in what is covered.
    let called = bench.call("verify relu.onnx scaled.onnx --verify-time 0");
    assert_eq!(called.code, 1, "{}", called.text());
}

#[test]
fn pruning_reports_operations_before_and_after() {
    let bench = bench();
    bench.model(
        "deep",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[batch, 3] x) => (float[batch, 2] y)
         <float[3, 4] v = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> {
           h = MatMul(x, v) r = Relu(h) y = MatMul(r, w)
         }",
    );
    let called = bench.call("prune channels deep.onnx --ratio 0.5 -o out.onnx --json");
    let report = called.json();
    assert_eq!(called.code, 0, "{report}");
    assert_eq!(report["before"]["macs"], 20, "{report}");
    assert_eq!(report["after"]["macs"], 10, "{report}");
    let called = bench.call("prune channels deep.onnx --ratio 0.5 -o out.onnx --force");
    let row = called
        .text()
        .lines()
        .find(|line| line.contains("MACs"))
        .map(str::to_owned);
    assert!(
        row.as_ref()
            .is_some_and(|row| row.contains("20") && row.contains("10")),
        "{}",
        called.text()
    );
}

#[test]
fn quiet_is_quiet() {
    let bench = bench();
    for arguments in [
        "simplify dead.onnx -o out.onnx --force -q",
        "quantize net.onnx --data x.npz -o out.onnx --force -q",
        "run clean.yaml dead.onnx -o out.onnx --force -q",
        "verify net.onnx net.onnx -q",
        "verify relu.onnx scaled.onnx -q",
        "quantize-dynamic relu.onnx -o never.onnx -qq",
    ] {
        let called = bench.call(arguments);
        assert!(
            called.text().is_empty() && called.stderr.is_empty(),
            "{arguments}\n{}\n{}",
            called.text(),
            called.stderr
        );
    }
    let called = bench.call("quantize-dynamic relu.onnx -o never.onnx -q");
    assert_eq!(called.code, 1);
    assert!(
        called.text().is_empty() && called.stderr.contains("changed nothing"),
        "{}",
        called.stderr
    );
    let called = bench.call("simplify missing.onnx -o never.onnx -qq");
    assert!(called.stderr.contains("missing.onnx"), "{}", called.stderr);
}
