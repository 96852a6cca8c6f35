//! What is written and what is left alone.

use super::{Bench, call, call_with};

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

/// The keys of a model's metadata.
fn metadata(bench: &Bench, name: &str) -> Vec<String> {
    let decoded = secateur::format::read_proto(bench.path(name), &Default::default()).unwrap();
    let entries = decoded.model.metadata_props.iter();
    entries.map(|entry| entry.key.clone().unwrap()).collect()
}

#[test]
fn provenance_is_recorded_in_a_changed_model_unless_declined() {
    let bench = Bench::new();
    let numbers = vec!["1"; 100].join(", ");
    bench.model(
        "heavy",
        &format!(
            r#"<ir_version: 8, opset_import: ["" : 17]>
            g (float[batch, 3] x) => (float[batch, 3] y) <float[100] k = {{{numbers}}}> {{ y = Relu (x)  unused = Exp (k) }}"#
        ),
    );
    assert_eq!(bench.call("run clean.yaml heavy.onnx -o with.onnx").code, 0);
    assert_eq!(
        bench
            .call("run clean.yaml heavy.onnx -o without.onnx --no-provenance")
            .code,
        0
    );
    assert_eq!(
        metadata(&bench, "with.onnx"),
        ["secateur.version", "secateur.pipeline", "secateur.input"]
    );
    assert!(metadata(&bench, "without.onnx").is_empty());
}

#[test]
fn provenance_is_left_out_where_it_alone_makes_a_file_larger() {
    let bench = Bench::new();
    assert_eq!(bench.call("run clean.yaml dead.onnx -o small.onnx").code, 0);
    assert!(metadata(&bench, "small.onnx").is_empty());
    assert!(bench.read("small.onnx").len() <= bench.read("dead.onnx").len());
    // What grows for another reason says where it comes from.
    let renamed = bench.call("rename relu.onnx --inputs x=a-much-longer-name -o longer.onnx");
    assert_eq!(renamed.code, 0, "{}", renamed.stderr);
    assert!(bench.read("longer.onnx").len() > bench.read("relu.onnx").len());
    assert_eq!(metadata(&bench, "longer.onnx").len(), 3);
}

#[test]
fn what_fixing_sizes_saves_may_be_spent_by_the_step_after_it() {
    let bench = Bench::new();
    let symbol = "a_symbol_whose_name_takes_more_bytes_than_the_constant";
    bench.model(
        "sized",
        &format!(
            r#"<ir_version: 8, opset_import: ["" : 17]>
            g (float[{symbol}, 3] x, float[6] z) => (float[{symbol}, 3] y, float[{symbol}, 3] w) {{ s = Shape (x)  y = Reshape (z, s)  w = Relu (x) }}"#
        ),
    );
    let operators = |name: &str| -> Vec<String> {
        let decoded = secateur::format::read_proto(bench.path(name), &Default::default()).unwrap();
        let nodes = decoded.model.graph.as_ref().unwrap().node.iter();
        nodes.map(|node| node.op_type().to_owned()).collect()
    };
    let bound = bench.call(&format!("simplify sized.onnx --bind {symbol}=2 -o bound.onnx"));
    assert_eq!(bound.code, 0, "{}", bound.stderr);
    assert!(
        !operators("bound.onnx").contains(&"Shape".to_owned()),
        "{:?}",
        operators("bound.onnx")
    );
    assert!(bench.read("bound.onnx").len() <= bench.read("sized.onnx").len());
    // Of a file in which the sizes are fixed already nothing is left to spend.
    assert_eq!(
        bench
            .call(&format!("bind sized.onnx --sizes {symbol}=2 -o fixed.onnx"))
            .code,
        0
    );
    let fixed = bench.call("simplify fixed.onnx -o small.onnx --allow-unchanged");
    assert_eq!(fixed.code, 0, "{}", fixed.stderr);
    assert!(
        operators("small.onnx").contains(&"Shape".to_owned()),
        "{:?}",
        operators("small.onnx")
    );
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

/// A network of one hidden layer of eight units.
const HIDDEN: &str = "<ir_version: 8, opset_import: [\"\" : 17]>
    g (float[2, 2] x) => (float[2, 2] y)
    <float[2, 8] W = {1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1}, float[8, 2] V = {1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1}> {
        a = MatMul (x, W)
        r = Relu (a)
        y = MatMul (r, V)
    }";

#[test]
fn a_history_of_pruning_is_written_with_the_result_and_never_without_it() {
    let bench = Bench::new();
    bench.model("hidden", HIDDEN);
    let pipeline = |gate: &str| {
        format!(
            "version: 1\nsteps:\n  - prune-channels: {{ ratio: 0.5, history: h.json }}\ngates:\n  - size: {{ at-most: {gate} }}\n"
        )
    };
    std::fs::write(bench.path("refused.yaml"), pipeline("0.1")).unwrap();
    std::fs::write(bench.path("accepted.yaml"), pipeline("10")).unwrap();
    assert_eq!(bench.call("run refused.yaml hidden.onnx -o out.onnx").code, 1);
    assert_eq!(bench.call("run accepted.yaml hidden.onnx --dry-run").code, 0);
    assert!(!bench.path("h.json").exists() && !bench.path("out.onnx").exists());
    let accepted = bench.call("run accepted.yaml hidden.onnx -o out.onnx");
    assert_eq!(accepted.code, 0, "{}", accepted.stderr);
    let history = bench.read("h.json");
    let document: serde_json::Value = serde_json::from_slice(&history).unwrap();
    assert_eq!(document["groups"][0]["removed"].as_array().unwrap().len(), 4);
    // An existing history needs --force like any output.
    let again = bench.call("run accepted.yaml hidden.onnx -o other.onnx --json");
    assert_eq!((again.code, again.error_code().as_str()), (2, "output-exists"));
    assert!(!bench.path("other.onnx").exists());
    assert_eq!(
        bench
            .call("run accepted.yaml hidden.onnx -o other.onnx --force")
            .code,
        0
    );
}

#[test]
fn explaining_classes_of_units_writes_nothing() {
    let bench = Bench::new();
    bench.model("hidden", HIDDEN);
    let json = bench.call("prune channels hidden.onnx --explain --ratio 0.25 --json");
    assert_eq!(json.code, 0, "{}", json.stderr);
    let classes = json.json()["classes"].as_array().unwrap().clone();
    let free: Vec<_> = classes
        .iter()
        .filter(|class| class["pinned_by"].is_null())
        .collect();
    assert_eq!(free.len(), 1);
    // A unit is a column of W and a row of V: two floats each, one product for each of two samples.
    assert_eq!(
        (
            &free[0]["units"],
            &free[0]["removed"],
            &free[0]["bytes_per_unit"],
            &free[0]["macs_per_unit"]
        ),
        (&8.into(), &2.into(), &16.into(), &8.into())
    );
    let pins: Vec<&str> = classes
        .iter()
        .filter_map(|class| class["pinned_by"].as_str())
        .collect();
    assert!(
        pins.contains(&"graph output y pins axis 1 of y: outputs keep their shape"),
        "{pins:?}"
    );
    let table = bench.call("prune channels hidden.onnx --explain");
    assert_eq!(table.code, 0);
    assert!(
        table.text().contains("W[1], V[0]") && table.text().contains("what stays:"),
        "{}",
        table.text()
    );
    assert_eq!(
        bench.call("prune-channels hidden.onnx --explain --ratio 7").code,
        2
    );
}

/// The preset of the README's first command, without its last step, which takes long in a debug build; `.ci/run` runs all of it.
#[test]
fn the_preset_for_edge_devices_keeps_the_accuracy_of_the_fixtures_and_refuses_a_harder_cut() {
    let bench = Bench::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = bench.path("edge.onnx");
    let preset = secateur::pipeline::presets::text("edge-int8").unwrap();
    let pruned = preset
        .replace("  - quantize\n", "")
        .replace("at-most: 0.45", "at-most: 0.9");
    let harder = pruned.replace("macs: 0.7", "macs: 0.05");
    assert!(preset.len() > pruned.len() && harder != pruned);
    let run = |text: &str| {
        std::fs::write(bench.path("pipeline.yaml"), text).unwrap();
        call(
            root,
            &format!(
                "run {} fixtures/digits_cnn_bn.onnx --data calibration=fixtures/data/digits_calib.npz --data evaluation=fixtures/data/digits_test.yaml -o {} --json",
                bench.path("pipeline.yaml").display(),
                output.display()
            ),
        )
    };
    let refused = run(&harder);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    let gate = |called: &super::Called, name: &str| -> bool {
        let document = called.json();
        let gates = document["gates"].as_array().unwrap().clone();
        gates
            .iter()
            .any(|gate| gate["name"] == name && gate["passed"] == true)
    };
    assert!(!gate(&refused, "accuracy") && gate(&refused, "size") && !output.exists());
    let accepted = run(&pruned);
    assert_eq!(accepted.code, 0, "{}{}", accepted.text(), accepted.stderr);
    assert!(gate(&accepted, "accuracy") && gate(&accepted, "size") && output.exists());
}

/// Passes that run the model get data and an engine as verbs, too, and say so when there is none.
#[test]
fn verbs_that_fit_weights_to_data_take_it_from_the_command_line() {
    let bench = Bench::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for verb in [
        "prune-channels fixtures/digits_cnn.onnx --ratio 0.1 --refit --criterion reconstruction",
        "quantize-weights fixtures/digits_mlp.onnx --type int4 --rounding gptq",
    ] {
        let output = bench.path("fitted.onnx");
        let without = call(root, &format!("{verb} -o {}", output.display()));
        assert_eq!(without.code, 2, "{verb}: {}", without.stderr);
        assert!(!output.exists());
        let with = call(
            root,
            &format!(
                "{verb} -o {} --force --data calibration=fixtures/data/digits_calib.npz",
                output.display()
            ),
        );
        assert_eq!(with.code, 0, "{verb}: {}{}", with.text(), with.stderr);
        assert!(output.exists());
        std::fs::remove_file(&output).unwrap();
    }
}
