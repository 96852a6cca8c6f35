//! The JSON that other programs rely on, and text that reaches a terminal.

use serde_json::{Value, json};

use super::{Bench, call};

fn has(document: &Value, fields: &[&str]) {
    for field in fields {
        assert!(document.get(field).is_some(), "no {field} in {document}");
    }
}

#[test]
fn inspect_counts_and_describes_the_interface() {
    let bench = Bench::new();
    let document = bench.call("inspect dead.onnx --json").json();
    has(&document, &["parameters", "macs"]);
    assert_eq!(document["nodes"], 2);
    assert_eq!(document["bytes"], bench.read("dead.onnx").len());
    assert_eq!(document["ir_version"], 8);
    assert_eq!(document["opsets"], json!({"ai.onnx": 17, "acme": 1}));
    assert_eq!(document["ops"], json!({"Exp": 1, "Relu": 1}));
    assert_eq!(
        document["inputs"],
        json!([{"name": "x", "dtype": "float", "shape": ["batch", 3]}])
    );
    assert_eq!(
        document["outputs"],
        json!([{"name": "y", "dtype": "float", "shape": ["batch", 3]}])
    );
    let values = bench.call("inspect dead.onnx --values --json").json()["values"].clone();
    let unused = values
        .as_array()
        .unwrap()
        .iter()
        .find(|value| value["name"] == "unused")
        .unwrap();
    assert_eq!(
        (&unused["shape"], &unused["operator"]),
        (&json!(["batch", 3]), &json!("Exp"))
    );
}

#[test]
fn verify_gives_figures_for_each_output() {
    let bench = Bench::new();
    let document = bench.call("verify relu.onnx sigmoid.onnx --json").json();
    assert_eq!(
        (&document["verdict"], &document["engine"]),
        (&json!("different"), &json!("tract"))
    );
    assert!(document["samples"].as_u64().unwrap() >= 6, "{document}");
    assert_eq!(document["sizes"], json!([{"batch": 1}, {"batch": 2}]));
    let output = &document["outputs"][0];
    has(
        output,
        &[
            "name",
            "max_abs",
            "max_rel",
            "mean_abs",
            "cosine",
            "sqnr_db",
            "top1_agreement",
        ],
    );
    assert!(output["max_abs"].as_f64().unwrap() > 1.0, "{output}");
    let same = bench.call("verify relu.onnx dead.onnx --json").json();
    assert_eq!(
        (&same["verdict"], &same["outputs"][0]["max_abs"]),
        (&json!("equal"), &json!(0.0))
    );
    assert!(same["outputs"][0]["sqnr_db"].is_null(), "{same}");
}

#[test]
fn what_cannot_be_checked_is_listed_by_operator() {
    let bench = Bench::new();
    let unknown = bench.call("verify unknown.onnx unknown.onnx --json").json();
    assert_eq!(unknown["verdict"], "not-checked");
    assert!(unknown["not_checked"].to_string().contains("Magic"), "{unknown}");
    let random = bench.call("verify random.onnx random.onnx --json").json();
    assert_eq!(random["verdict"], "not-checked");
    assert_eq!(
        (
            &random["not_checked"][0]["what"],
            &random["not_checked"][0]["operator"]
        ),
        (&json!("y"), &json!("RandomNormalLike"))
    );
}

#[test]
fn localize_names_the_first_node_that_differs() {
    let bench = Bench::new();
    let document = bench.call("verify chain.onnx fork.onnx --localize --json").json();
    let divergence = &document["divergence"];
    assert_eq!(
        (
            &divergence["value"],
            &divergence["reference_operator"],
            &divergence["model_operator"]
        ),
        (&json!("b"), &json!("Abs"), &json!("Sqrt"))
    );
}

#[test]
fn a_run_reports_steps_verdict_and_output() {
    let bench = Bench::new();
    for arguments in [
        "run clean.yaml dead.onnx -o a.onnx --json",
        "eliminate-dead-code dead.onnx -o b.onnx --verify --json",
        "eliminate-dead-code dead.onnx -o d.onnx --json",
    ] {
        let document = bench.call(arguments).json();
        has(&document, &["steps", "verdict", "verify", "gates", "output"]);
        let step = &document["steps"][0];
        has(
            step,
            &[
                "name",
                "seconds",
                "nodes_before",
                "nodes_after",
                "bytes_before",
                "bytes_after",
                "changes",
            ],
        );
        assert_eq!(
            (&step["nodes_before"], &step["nodes_after"]),
            (&json!(2), &json!(1)),
            "{document}"
        );
        assert_eq!(document["verdict"], "equal");
    }
    // With --no-verify no engine runs, and the document says so.
    let document = bench
        .call("eliminate-dead-code dead.onnx -o c.onnx --no-verify --json")
        .json();
    assert_eq!(
        (&document["verdict"], &document["verify"]),
        (&json!("not-checked"), &Value::Null)
    );
}

#[test]
fn every_verb_prints_one_json_document() {
    let bench = Bench::new();
    for arguments in [
        "run clean.yaml dead.onnx --dry-run",
        "diff relu.onnx sigmoid.onnx",
        "print relu.onnx",
        "explain",
        "explain fold-constants",
        "rules list",
        "rules test --name no-rule-has-this-name",
        "bisect dead.onnx --pipeline clean.yaml",
        "schema",
        "completions bash",
        "man",
    ] {
        let called = bench.call(&format!("{arguments} --json"));
        assert!(called.json().is_object(), "{arguments}");
    }
    let diff = bench.call("diff relu.onnx sigmoid.onnx --json").json();
    assert_eq!(diff["ops"], json!({"Relu": [1, 0], "Sigmoid": [0, 1]}));
    assert_eq!(diff["same"], false);
}

#[test]
fn the_printed_pipeline_is_the_one_that_runs() {
    let bench = Bench::new();
    let printed = bench.call("eliminate-dead-code --keep-functions --print-pipeline");
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    std::fs::write(bench.path("printed.yaml"), &printed.stdout).unwrap();
    assert_eq!(bench.call("run printed.yaml dead.onnx -o a.onnx").code, 0);
    let again = bench.call("run printed.yaml --print-pipeline");
    assert_eq!(again.text(), printed.text());
    assert!(
        printed.text().contains("keep-functions: true"),
        "{}",
        printed.text()
    );
}

#[test]
fn names_from_a_model_cannot_steer_the_terminal() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/malice");
    for arguments in [
        "inspect terminal-escape-name.onnx --values",
        "print terminal-escape-name.onnx",
        "check terminal-escape-name.onnx --target qnn",
        "diff terminal-escape-name.onnx dim-zero.onnx",
        "verify terminal-escape-name.onnx terminal-escape-name.onnx",
        "bind terminal-escape-name.onnx --bind nothing=1 --dry-run",
    ] {
        let called = call(&fixtures, arguments);
        let all = format!("{}{}", called.text(), called.stderr);
        assert!(
            !all.contains('\u{1b}') && !all.contains('\u{7}'),
            "{arguments}: {all:?}"
        );
        assert!(!all.contains("panicked"), "{arguments}: {all}");
    }
}
