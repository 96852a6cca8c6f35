//! `check`: its forms, what it mends, and what it answers to files that are no models.

use std::path::Path;

use serde_json::{Value, json};

use super::{Bench, call};

/// A bench with a model that has an error, warnings and notes, some of which a step mends.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.model(
        "faulty",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[batch, 1, 4, 4] x, int64[1] idle) => (float[batch, 1, 4, 4] y)
         <float[1, 1, 1, 1] w = {2}, float[1] s = {1}, float[1] b = {0}, float[1] m = {0}, float[1] v = {1}, float[1] k = {nan}>
         { [conv] c = Conv(x, w) [norm] n = BatchNormalization(c, s, b, m, v) [spare] e = Exp(n) [drop] d = Dropout(n) y = Add(d, k) }",
    );
    bench
}

fn codes(document: &Value) -> Vec<String> {
    let findings = document["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| finding["code"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_form_has_every_finding() {
    let bench = bench();
    let document = bench.call("check faulty.onnx --json");
    assert_eq!(document.code, 1, "{}", document.stderr);
    let document = document.json();
    let found = [
        "weight-not-finite",
        "dead-node",
        "unfused-batch-norm",
        "inference-dropout",
        "unused-input",
    ];
    assert_eq!(codes(&document)[0], "weight-not-finite");
    assert_eq!(
        document["counts"],
        json!({ "errors": 1, "warnings": 2, "notes": 2 })
    );
    assert_eq!(bench.call("check faulty.onnx --format json").json(), document);

    let text = bench.call("check faulty.onnx").text();
    let markdown = bench.call("check faulty.onnx --format markdown").text();
    let github = bench.call("check faulty.onnx --format github").text();
    let junit = bench.call("check faulty.onnx --format junit --deny note").text();
    let sarif = bench.call("check faulty.onnx --format sarif").json();
    let rules: Vec<&str> = sarif["runs"][0]["tool"]["driver"]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["id"].as_str().unwrap())
        .collect();
    for code in found
        .iter()
        .filter(|code| codes(&document).contains(&(**code).to_owned()))
    {
        for (form, said) in [
            ("text", &text),
            ("markdown", &markdown),
            ("github", &github),
            ("junit", &junit),
        ] {
            assert!(said.contains(code), "{form} lacks {code}:\n{said}");
        }
        assert!(rules.contains(code), "{rules:?}");
    }
    assert!(
        github.starts_with("::error file=faulty.onnx,title=secateur%3A weight-not-finite (1)::k: "),
        "{github}"
    );
    assert_eq!(junit.matches("<failure").count(), 5, "{junit}");
    let place = &sarif["runs"][0]["results"][0]["locations"][0];
    assert_eq!(
        place["physicalLocation"]["artifactLocation"]["uri"],
        "faulty.onnx"
    );
    assert_eq!(place["logicalLocations"][0]["name"], "k");
}

#[test]
fn what_is_mended_and_what_remains_is_said_and_written() {
    let bench = bench();
    let document = bench.call("check faulty.onnx --fix -o mended.onnx --json").json();
    let mended: Vec<&str> = document["fix"]["mended"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["code"].as_str().unwrap())
        .collect();
    assert_eq!(
        mended,
        ["dead-node", "unfused-batch-norm", "inference-dropout"],
        "{document}"
    );
    // An error that no step mends.
    assert_eq!(codes(&document), ["weight-not-finite", "unused-input"]);
    assert_eq!(document["fix"]["report"]["output"], "mended.onnx");
    let again = bench.call("check mended.onnx --json").json();
    assert_eq!(codes(&again), ["weight-not-finite", "unused-input"]);
    // The input is as it was, and nothing is written over what exists.
    assert_eq!(codes(&bench.call("check faulty.onnx --json").json()).len(), 5);
    assert_eq!(
        bench
            .call("check faulty.onnx --fix -o mended.onnx --json")
            .error_code(),
        "output-exists"
    );

    let said = bench.call("check dead.onnx --fix -o - --deny note");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(
        said.stderr
            .contains("mended 1 finding (eliminate-dead-code); 0 with a step remain"),
        "{}",
        said.stderr
    );
    std::fs::write(bench.path("streamed.onnx"), &said.stdout).unwrap();
    assert_eq!(bench.call("check streamed.onnx --deny note").code, 0);

    assert_eq!(bench.call("check dead.onnx --fix --in-place --deny note").code, 0);
    assert_eq!(bench.read("dead.onnx"), bench.read("streamed.onnx"));
}

#[test]
fn nothing_that_loses_is_run_and_nothing_is_written_for_nothing() {
    let bench = Bench::new();
    bench.model(
        "zeros",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[batch, 2] x) => (float[batch, 3] y)
         <float[2, 3] w = {1, 0, 2, 3, 0, 4}> { y = MatMul(x, w) }",
    );
    let called = bench.call("check zeros.onnx --fix -o never.onnx");
    assert_eq!(called.code, 1);
    assert!(called.stderr.contains("--allow-unchanged"), "{}", called.stderr);
    assert!(
        called.text().contains("secateur prune channels"),
        "{}",
        called.text()
    );
    assert!(!bench.path("never.onnx").exists());
    let allowed = bench.call("check zeros.onnx --fix -o same.onnx --allow-unchanged");
    assert_eq!(allowed.code, 0, "{}", allowed.stderr);
    assert_eq!(bench.read("same.onnx"), bench.read("zeros.onnx"));
}

#[test]
fn a_step_that_cannot_be_done_is_left_out_with_its_reason() {
    let bench = Bench::new();
    bench.model(
        "new",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2, 3] x) => (float[2, 3] y) <float[3] s = {1, 1, 1}>
         { a = LayerNormalization(x, s) [spare] b = Exp(a) y = Relu(a) }",
    );
    let called = bench.call("check new.onnx --target ort@1.10 --fix -o out.onnx --json");
    let document = called.json();
    let failed = document["fix"]["failed"].to_string();
    assert!(
        failed.contains("convert-opset") && failed.contains("LayerNormalization"),
        "{document}"
    );
    assert_eq!(document["fix"]["mended"][0]["code"], "dead-node", "{document}");
    assert_eq!(
        (called.code, &document["fix"]["remaining"]),
        (1, &json!(1)),
        "{document}"
    );
    assert!(bench.path("out.onnx").exists());
}

#[test]
fn a_listing_has_every_check_and_a_selection_takes_them_by_name() {
    let bench = Bench::new();
    let listed = bench.call("check --list --json").json();
    let listed = listed["checks"].as_array().unwrap();
    assert_eq!(listed.len(), secateur::lint::checks().len());
    assert!(bench.call("check --list").text().contains("duplicate-weights"));
    for check in listed {
        let code = check["code"].as_str().unwrap();
        let called = bench.call(&format!("check dead.onnx --only {code} --deny note"));
        assert_eq!(
            called.code,
            i32::from(code == "dead-node"),
            "{code}\n{}",
            called.text()
        );
    }
    let mistaken = bench.call("check dead.onnx --only dead-nodes --json").json();
    assert_eq!(mistaken["error"]["hint"], "did you mean `dead-node`?");
}

#[test]
fn hostile_files_are_answered_and_names_in_them_steer_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/malice");
    let (mut findings, mut refused) = (0, 0);
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".onnx"))
        .collect();
    names.sort();
    for name in names {
        let called = call(&folder, &format!("check {name} --json"));
        assert!(!called.stderr.contains("panicked"), "{name}: {}", called.stderr);
        match called.code {
            0 | 1 => findings += called.json()["findings"].as_array().unwrap().len(),
            2 => refused += usize::from(!called.error_code().is_empty()),
            code => panic!("{name} ends with {code}\n{}", called.stderr),
        }
    }
    assert!(
        findings > 30 && refused > 5,
        "{findings} findings, {refused} refused"
    );
    for format in ["text", "github", "markdown", "junit"] {
        let called = call(
            &folder,
            &format!("check terminal-escape-name.onnx --target qnn --format {format}"),
        );
        let all = format!("{}{}", called.text(), called.stderr);
        assert!(
            !all.contains('\u{1b}') && !all.contains('\u{7}'),
            "{format}: {all:?}"
        );
    }
}
