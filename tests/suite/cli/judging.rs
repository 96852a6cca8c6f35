//! Models that cannot run, outputs under other names, and what `verify` says about parts of outputs.

use super::Bench;

/// `invalid_add_hangs`: a residual block without padding, so that its Add joins 8 with 6.
fn broken_blocks(bench: &Bench, name: &str, size: &str) {
    let weights = vec!["0.1"; 36].join(", ");
    let mut text = format!(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N, 2, {size}, {size}] x) => (float[a, b, c, d] y) \
         <float[2, 2, 3, 3] w = {{{weights}}}> {{ v0 = Relu(x) "
    );
    for at in 0..6 {
        let pads = if at == 1 { "0, 0, 0, 0" } else { "1, 1, 1, 1" };
        let next = at + 1;
        text.push_str(&format!(
            "c{at} = Conv <pads = [{pads}]> (v{at}, w) v{next} = Add(c{at}, v{at}) "
        ));
    }
    text.push_str("y = Relu(v6) }");
    bench.model(name, &text);
}

#[test]
fn invalid_add_hangs_is_refused_with_its_node_and_shapes() {
    let bench = Bench::new();
    broken_blocks(&bench, "broken-add", "8");
    let before = bench.names();
    for arguments in [
        "verify broken-add.onnx broken-add.onnx --json",
        "verify broken-add.onnx broken-add.onnx --localize --json",
        "simplify broken-add.onnx -o out.onnx --json",
        "bisect broken-add.onnx --json",
        "run clean.yaml broken-add.onnx -o out.onnx --json",
    ] {
        let called = bench.call(arguments);
        assert_eq!(called.code, 2, "{arguments}: {}{}", called.text(), called.stderr);
        assert_eq!(called.error_code(), "contradictory-shapes", "{arguments}");
        let error = &called.json()["error"];
        assert_eq!(error["node"], "v2", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("[N, 2, 6, 6] and [N, 2, 8, 8] do not broadcast"),
            "{message}"
        );
    }
    assert_eq!(bench.names(), before, "nothing is written");
    // Looking at the model shows what is wrong.
    let shown = bench.call("inspect broken-add.onnx");
    assert_eq!(shown.code, 0);
    assert!(shown.text().contains("cannot run: v2 (Add)"), "{}", shown.text());
    assert_eq!(
        bench.call("inspect broken-add.onnx --json").json()["conflicts"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    assert!(
        bench
            .call("inspect relu.onnx --json")
            .json()
            .get("conflicts")
            .is_none()
    );
}

#[test]
fn shapes_that_only_a_run_fixes_are_found_before_the_engine() {
    let bench = Bench::new();
    broken_blocks(&bench, "broken-later", "S");
    let called = bench.call("verify broken-later.onnx broken-later.onnx --json");
    assert_eq!(called.code, 1, "{}{}", called.text(), called.stderr);
    let document = called.json();
    assert_eq!(document["verdict"], "not-checked");
    let reason = document["not_checked"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("do not broadcast"), "{reason}");
}

#[test]
fn outputs_under_other_names_are_paired() {
    let bench = Bench::new();
    let header = "<ir_version: 8, opset_import: [\"\" : 17]> g";
    bench.model(
        "two",
        &format!("{header} (float[N,3] x) => (float[N,3] y, float[N,3] z) {{ y = Relu(x) z = Abs(x) }}"),
    );
    bench.model(
        "other",
        &format!("{header} (float[N,3] i) => (float[N,3] a, float[N,3] b) {{ a = Relu(i) b = Abs(i) }}"),
    );
    bench.model(
        "swapped",
        &format!("{header} (float[N,3] x) => (float[N,3] z, float[N,3] y) {{ y = Relu(x) z = Abs(x) }}"),
    );
    for (arguments, code) in [
        ("verify two.onnx other.onnx", 1),
        ("verify two.onnx other.onnx --map y=a --map z=b", 0),
        ("verify two.onnx other.onnx --map 0=0 --map 1=1", 0),
        ("verify two.onnx other.onnx --map y=b --map z=a", 1),
        ("verify two.onnx other.onnx --map y=nothing --map z=b", 1),
        ("verify two.onnx other.onnx --map y", 2),
        ("verify two.onnx swapped.onnx", 1),
    ] {
        let called = bench.call(arguments);
        assert_eq!(
            called.code,
            code,
            "{arguments}: {}{}",
            called.text(),
            called.stderr
        );
    }
    let swapped = bench.call("verify two.onnx swapped.onnx");
    assert!(
        swapped
            .text()
            .contains("the outputs are in another order: z, y instead of y, z"),
        "{}",
        swapped.text()
    );
    // One output of each is a pair; a batch that is no longer free is said.
    bench.model(
        "fixed",
        &format!("{header} (float[1,3] i) => (float[1,3] o) {{ o = Relu(i) }}"),
    );
    let fixed = bench.call("verify relu.onnx fixed.onnx");
    assert_eq!(fixed.code, 0);
    assert!(fixed.text().contains("verdict: within"), "{}", fixed.text());
    assert!(fixed.text().contains("fixed to 1"), "{}", fixed.text());
    let asked = bench.call("verify relu.onnx fixed.onnx --size batch=1");
    assert!(asked.text().contains("verdict: equal"), "{}", asked.text());
}

#[test]
fn verify_small_scores_names_the_part_that_is_off() {
    let bench = Bench::new();
    for (name, weight) in [("a", "1.0"), ("b", "1.02")] {
        bench.model(
            name,
            &format!(
                "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,4,100] x) => (float[N,8,100] y) \
                 <float k = {{640.0}}, float w = {{{weight}}}> \
                 {{ b = Mul(x, k) v = Mul(x, w) s = Sigmoid(v) y = Concat <axis = 1> (b, s) }}"
            ),
        );
    }
    let called = bench.call("verify a.onnx b.onnx");
    assert_eq!(called.code, 1);
    assert!(
        called.text().contains("y: axis 1, indices 4 to 7: off by up to"),
        "{}",
        called.text()
    );
    let part = &bench.call("verify a.onnx b.onnx --json").json()["outputs"][0]["parts"][0];
    assert_eq!(
        (part["axis"].as_u64(), part["from"].as_u64(), part["to"].as_u64()),
        (Some(1), Some(4), Some(7))
    );
    assert_eq!(bench.call("verify a.onnx a.onnx").code, 0);
}
