//! What is written and what is left alone.

use super::{Bench, call_with};

#[test]
fn the_input_and_existing_outputs_are_only_replaced_when_asked() {
    let bench = Bench::new();
    let before = bench.read("dead.onnx");
    assert_eq!(bench.call("eliminate-dead-code dead.onnx -o dead.onnx").code, 2);
    assert_eq!(
        bench
            .call("eliminate-dead-code dead.onnx -o dead.onnx --force")
            .code,
        2
    );
    assert_eq!(bench.call("eliminate-dead-code dead.onnx -o relu.onnx").code, 2);
    assert_eq!(bench.read("dead.onnx"), before);
    assert_eq!(bench.call("eliminate-dead-code dead.onnx -o out.onnx").code, 0);
    assert_ne!(bench.read("out.onnx"), before);
    assert_eq!(bench.call("eliminate-dead-code dead.onnx --in-place").code, 0);
    assert_eq!(bench.read("dead.onnx"), bench.read("out.onnx"));
}

#[test]
fn what_nothing_changed_keeps_its_bytes() {
    let bench = Bench::new();
    let bytes = bench.read("relu.onnx");
    let run = bench.call("run clean.yaml relu.onnx -o same.onnx --json");
    assert_eq!(
        (run.code, run.json()["changed"].as_bool()),
        (0, Some(false)),
        "{}",
        run.text()
    );
    assert_eq!(bench.read("same.onnx"), bytes);
    let piped = call_with(bench.folder(), "run clean.yaml - -o -", &bytes);
    assert_eq!((piped.code, piped.stdout == bytes), (0, true), "{}", piped.stderr);
    let place = bench.call("run clean.yaml relu.onnx --in-place");
    assert_eq!(
        (place.code, bench.read("relu.onnx") == bytes),
        (0, true),
        "{}",
        place.stderr
    );
}

#[test]
fn external_data_stays_beside_a_model_that_nothing_changed() {
    let bench = Bench::new();
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for name in ["digits_mlp_external.onnx", "digits_mlp_external.data"] {
        std::fs::copy(fixtures.join(name), bench.path(name)).unwrap();
    }
    std::fs::create_dir(bench.path("out")).unwrap();
    let run = bench.call("eliminate-dead-code digits_mlp_external.onnx -o out/digits_mlp_external.onnx");
    assert_eq!(run.code, 0, "{}", run.stderr);
    for name in ["digits_mlp_external.onnx", "digits_mlp_external.data"] {
        assert_eq!(bench.read(name), bench.read(&format!("out/{name}")), "{name}");
    }
}

#[test]
fn a_model_goes_through_stdin_and_stdout_and_tables_do_not_mix_in() {
    let bench = Bench::new();
    let piped = call_with(
        bench.folder(),
        "eliminate-dead-code - -o - --no-provenance",
        &bench.read("dead.onnx"),
    );
    assert_eq!(piped.code, 0, "{}", piped.stderr);
    assert_eq!(
        bench
            .call("eliminate-dead-code dead.onnx -o out.onnx --no-provenance")
            .code,
        0
    );
    assert_eq!(piped.stdout, bench.read("out.onnx"));
    assert!(piped.stderr.contains("nodes"), "{}", piped.stderr);
}

#[test]
fn a_broken_gate_writes_nothing_and_says_which() {
    let bench = Bench::new();
    let gate = "version: 1\nsteps:\n  - eliminate-dead-code\ngates:\n  - nodes: { at-most: 0.2 }\n";
    std::fs::write(bench.path("gate.yaml"), gate).unwrap();
    let names = bench.names();
    let run = bench.call("run gate.yaml dead.onnx -o out.onnx --json");
    assert_eq!(run.code, 1, "{}", run.stderr);
    let document = run.json();
    assert!(
        document["output"].is_null() && document["gates"][0]["passed"] == false,
        "{document}"
    );
    assert_eq!(bench.names(), names);
    let outputs = gate.replace("nodes: { at-most: 0.2 }", "outputs: { cosine: 0.99 }");
    std::fs::write(bench.path("outputs.yaml"), outputs).unwrap();
    assert_eq!(bench.call("run outputs.yaml dead.onnx -o out.onnx").code, 0);
    // What was not compared breaks an outputs gate, and so does what cannot be run.
    assert_eq!(
        bench
            .call("run outputs.yaml dead.onnx -o never.onnx --no-verify")
            .code,
        1
    );
    assert_eq!(bench.call("run outputs.yaml unknown.onnx -o never.onnx").code, 1);
    assert!(!bench.path("never.onnx").exists());
}

#[test]
fn a_result_that_cannot_be_checked_is_written_with_a_warning() {
    let bench = Bench::new();
    let text = "<ir_version: 8, opset_import: [\"\" : 17, \"acme\" : 1]> g (float[3] x) => (float[3] y) { y = acme.Magic(x) unused = Exp(x) }";
    bench.model("half", text);
    let run = bench.call("run clean.yaml half.onnx -o out.onnx");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("not checked") && run.stderr.contains("Magic"),
        "{}",
        run.stderr
    );
    assert!(run.text().contains("not-checked"), "{}", run.text());
    assert!(bench.path("out.onnx").exists());
}

#[test]
fn the_same_call_gives_the_same_bytes_with_any_number_of_threads() {
    let bench = Bench::new();
    for (jobs, name) in [(1, "one.onnx"), (8, "eight.onnx")] {
        let run = bench.call(&format!("run clean.yaml dead.onnx -o {name} --jobs {jobs}"));
        assert_eq!(run.code, 0, "{}", run.stderr);
    }
    assert_eq!(bench.read("one.onnx"), bench.read("eight.onnx"));
    let verify = |jobs| {
        bench
            .call(&format!("verify relu.onnx sigmoid.onnx --json --jobs {jobs}"))
            .text()
    };
    assert_eq!(verify(1), verify(8));
}

#[test]
fn provenance_is_recorded_in_a_changed_model_unless_declined() {
    let bench = Bench::new();
    assert_eq!(bench.call("run clean.yaml dead.onnx -o with.onnx").code, 0);
    assert_eq!(
        bench
            .call("run clean.yaml dead.onnx -o without.onnx --no-provenance")
            .code,
        0
    );
    let keys = |name: &str| -> Vec<String> {
        let decoded = secateur::format::read_proto(bench.path(name), &Default::default()).unwrap();
        decoded
            .model
            .metadata_props
            .iter()
            .map(|entry| entry.key.clone().unwrap())
            .collect()
    };
    assert_eq!(
        keys("with.onnx"),
        ["secateur.version", "secateur.pipeline", "secateur.input"]
    );
    assert!(keys("without.onnx").is_empty());
}

#[test]
fn reports_are_written_as_json_or_markdown_and_never_over_a_file() {
    let bench = Bench::new();
    assert_eq!(
        bench
            .call("run clean.yaml dead.onnx -o a.onnx --report report.json")
            .code,
        0
    );
    let report: serde_json::Value = serde_json::from_slice(&bench.read("report.json")).unwrap();
    assert_eq!(report["verdict"], "equal");
    assert_eq!(
        bench
            .call("run clean.yaml dead.onnx -o b.onnx --report report.md")
            .code,
        0
    );
    let text = String::from_utf8(bench.read("report.md")).unwrap();
    assert!(
        text.starts_with("# secateur") && text.contains("Verdict **equal**"),
        "{text}"
    );
    assert_eq!(
        bench
            .call("run clean.yaml dead.onnx -o c.onnx --report report.md")
            .code,
        2
    );
    assert!(!bench.path("c.onnx").exists());
}
