//! A verb that is asked for a change and makes none says why and ends with status 1; what tidies may find nothing to do.

use super::Bench;

/// Each verb on a model that holds nothing for it, and words of the reason.
const IDLE: [(&str, &str); 9] = [
    ("quantize-dynamic relu.onnx", "no matrix product"),
    ("quantize-weights relu.onnx", "quantize-weights changed nothing"),
    ("quantize relu.onnx --data x.npz", "quantize changed nothing"),
    (
        "prune weights relu.onnx --sparsity 0.5",
        "prune-weights changed nothing",
    ),
    (
        "prune channels relu.onnx --ratio 0.5",
        "prune-channels changed nothing",
    ),
    ("equalize relu.onnx --data x.npz", "equalize changed nothing"),
    (
        "convert-opset relu.onnx --set version=17",
        "the model has opset 17",
    ),
    ("convert-float integers.onnx", "no operator can be converted"),
    (
        "convert-float relu.onnx",
        "no constant of it would become smaller, and Casts would be all that is added",
    ),
];

fn bench() -> Bench {
    let bench = Bench::new();
    let values: Vec<f32> = (0..24).map(|index| (index as f32 * 0.7).sin()).collect();
    let tensor = secateur::ir::Tensor::from_slice::<f32>(&[8, 3], &values).unwrap();
    secateur::data::write_npz(&bench.path("x.npz"), [("x", &tensor)]).unwrap();
    bench.model(
        "integers",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (int64[3] x) => (int64[3] y) { y = Add(x, x) }",
    );
    bench
}

#[test]
fn a_verb_that_changes_nothing_says_why_without_being_asked_and_writes_nothing() {
    let bench = bench();
    for (arguments, reason) in IDLE {
        let called = bench.call(&format!("{arguments} -o never.onnx"));
        let said = called.stderr.clone() + &called.text();
        assert_eq!(called.code, 1, "{arguments}\n{said}");
        assert!(
            called.stderr.contains("changed nothing") && called.stderr.contains(reason),
            "{arguments}: no `{reason}` in\n{said}"
        );
        assert!(said.contains("--allow-unchanged"), "{arguments}\n{said}");
        assert!(!bench.path("never.onnx").exists(), "{arguments}");
        let report = bench.call(&format!("{arguments} -o never.onnx --json"));
        let document = report.json();
        assert_eq!(report.code, 1, "{arguments}");
        assert_eq!(
            (
                &document["unchanged"],
                &document["accepted"],
                &document["changed"],
                &document["output"]
            ),
            (
                &true.into(),
                &false.into(),
                &false.into(),
                &serde_json::Value::Null
            ),
            "{arguments}: {document}"
        );
        assert!(
            document["warnings"][0]
                .as_str()
                .is_some_and(|warning| warning.contains("changed nothing")),
            "{arguments}: {document}"
        );
        // Where that is allowed, the result is the input, byte for byte.
        let model = arguments.split(' ').find(|word| word.ends_with(".onnx")).unwrap();
        let allowed = bench.call(&format!("{arguments} -o same.onnx --allow-unchanged --force"));
        assert_eq!(allowed.code, 0, "{arguments}\n{}", allowed.stderr);
        assert!(allowed.stderr.contains("changed nothing"), "{}", allowed.stderr);
        assert_eq!(bench.read("same.onnx"), bench.read(model), "{arguments}");
        // Nothing would change, which is what --check and --dry-run ask.
        for question in ["--check", "--dry-run"] {
            let asked = bench.call(&format!("{arguments} {question}"));
            assert_eq!(asked.code, 0, "{arguments} {question}\n{}", asked.stderr);
        }
    }
}

#[test]
fn verbs_that_tidy_say_that_there_is_nothing_to_do_and_write_the_model() {
    let bench = bench();
    for verb in [
        "simplify",
        "fold-constants",
        "eliminate-dead-code",
        "eliminate-common-subexpressions",
        "deduplicate-initializers",
        "inline-functions",
    ] {
        let called = bench.call(&format!("{verb} relu.onnx -o same.onnx --force"));
        assert_eq!(called.code, 0, "{verb}\n{}", called.stderr);
        assert!(
            called.text().contains("nothing to change"),
            "{verb}\n{}",
            called.text()
        );
        assert_eq!(bench.read("same.onnx"), bench.read("relu.onnx"), "{verb}");
    }
}

#[test]
fn reasons_are_grouped_with_counts() {
    let bench = Bench::new();
    bench.model(
        "small",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[batch, 2] x) => (float[batch, 2] y)
         <float[2, 2] v = {1, 2, 3, 4}, float[2, 2] w = {1, 0, 0, 1}> {
           [first] a = MatMul(x, v) [second] y = MatMul(a, w)
         }",
    );
    let called = bench.call("quantize-dynamic small.onnx -o never.onnx --minimum-elements 100");
    assert_eq!(called.code, 1, "{}", called.stderr);
    assert!(
        called.stderr.contains("2 x its weight has few elements") && called.stderr.contains("first, second"),
        "{}",
        called.stderr
    );
}

#[test]
fn a_pipeline_warns_of_a_step_that_changes_nothing_and_ends_with_1_only_if_nothing_changed_at_all() {
    let bench = bench();
    std::fs::write(
        bench.path("both.yaml"),
        "version: 1\nsteps:\n  - eliminate-dead-code\n  - quantize-weights\n",
    )
    .unwrap();
    let called = bench.call("run both.yaml dead.onnx -o out.onnx");
    assert_eq!(called.code, 0, "{}", called.stderr);
    assert!(
        called
            .stderr
            .contains("warning: step 2: quantize-weights changed nothing"),
        "{}",
        called.stderr
    );
    let called = bench.call("run both.yaml relu.onnx -o never.onnx");
    assert_eq!(called.code, 1, "{}", called.stderr);
    assert!(!bench.path("never.onnx").exists());
    let called = bench.call("run both.yaml relu.onnx -o same.onnx --allow-unchanged");
    assert_eq!(called.code, 0, "{}", called.stderr);
    assert_eq!(bench.read("same.onnx"), bench.read("relu.onnx"));
}
