//! Evaluation through the binary: figures, shards, resumed runs, gates, and an error of its own for each defect.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
        .display()
        .to_string()
}

fn secateur(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_secateur"))
        .args(arguments)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Figures that do not depend on the clock.
fn figures(output: &Output) -> Value {
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let mut document = json(output);
    let fields = document.as_object_mut().unwrap();
    for timed in [
        "latency_ms",
        "samples_per_second",
        "peak_memory_bytes",
        "bytes",
        "parameters",
        "macs",
    ] {
        fields.remove(timed);
    }
    document
}

fn model() -> String {
    fixture("digits_cnn.onnx")
}

fn data() -> String {
    fixture("data/digits_test.npz")
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn the_digits_model_has_its_published_accuracy() {
    let output = secateur(&["evaluate", &model(), "--data", &data(), "--json"]);
    let figures = json(&output);
    assert_eq!(figures["samples"], 600);
    assert!((figures["accuracy"].as_f64().unwrap() - 592.0 / 600.0).abs() < 1e-12);
    assert_eq!(figures["confusion"].as_array().unwrap().len(), 10);
    assert!(figures["latency_ms"]["p50"].as_f64().unwrap() > 0.0);
}

#[test]
fn four_shards_merged_give_the_figures_of_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let common = ["--data", &data(), "--latency-runs", "0", "--batch", "7", "--json"];
    let whole = figures(&secateur(&[&["evaluate", &model()], &common[..]].concat()));
    let parts: Vec<String> = (0..4)
        .map(|index| {
            let state = folder
                .path()
                .join(format!("part{index}.json"))
                .display()
                .to_string();
            let shard = format!("{index}/4");
            let run = secateur(
                &[
                    &["evaluate", &model(), "--shard", &shard, "--state", &state],
                    &common[..],
                ]
                .concat(),
            );
            assert_eq!(run.status.code(), Some(0));
            state
        })
        .collect();
    let mut arguments = vec!["evaluate", "merge", "--json"];
    arguments.extend(parts.iter().rev().map(String::as_str));
    assert_eq!(figures(&secateur(&arguments)), whole);
    // A part that is there twice is refused.
    let twice = secateur(&["evaluate", "merge", "--json", &parts[0], &parts[0]]);
    assert_eq!(
        (twice.status.code(), json(&twice)["error"]["code"].clone()),
        (Some(2), "merge".into())
    );
}

#[test]
fn a_run_goes_on_from_its_state() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json").display().to_string();
    let common = [
        "--data",
        &data(),
        "--latency-runs",
        "0",
        "--batch",
        "10",
        "--json",
    ];
    let whole = figures(&secateur(&[&["evaluate", &model()], &common[..]].concat()));
    // What a killed run leaves behind: the counts of the first batches.
    let half = secateur(
        &[
            &["evaluate", &model(), "--shard", "0/2", "--state", &state],
            &common[..],
        ]
        .concat(),
    );
    assert_eq!(json(&half)["samples"], 300);
    let resumed = secateur(&[&["evaluate", &model(), "--state", &state], &common[..]].concat());
    assert_eq!(figures(&resumed), whole);
    // The state of another data set is not gone on with.
    let other = secateur(&[
        "evaluate",
        &model(),
        "--state",
        &state,
        "--data",
        &fixture("data/digits_calib.npz"),
        "--json",
    ]);
    assert_eq!(
        (other.status.code(), json(&other)["error"]["code"].clone()),
        (Some(2), "merge".into())
    );
}

#[test]
fn figures_do_not_depend_on_the_number_of_threads() {
    let run = |jobs: &str| {
        figures(&secateur(&[
            "evaluate",
            &model(),
            "--data",
            &data(),
            "--latency-runs",
            "0",
            "--jobs",
            jobs,
            "--json",
        ]))
    };
    assert_eq!(run("1"), run("5"));
}

#[test]
fn a_model_agrees_with_itself_and_gates_decide_the_exit_status() {
    let against = |gates: &[&str]| {
        let mut arguments = vec![
            "evaluate".to_owned(),
            model(),
            "--data".into(),
            data(),
            "--against".into(),
            model(),
            "--json".into(),
        ];
        arguments.extend(
            gates
                .iter()
                .flat_map(|gate| ["--gate".to_owned(), (*gate).to_owned()]),
        );
        secateur(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let fine = against(&[
        "accuracy.drop=0",
        "accuracy.at-least=0.98",
        "f1.drop=0",
        "size.at-most=1",
    ]);
    let document = json(&fine);
    assert_eq!(fine.status.code(), Some(0), "{document:#}");
    assert_eq!(
        (
            document["against"]["agreement"].as_f64(),
            document["against"]["mcnemar_p"].as_f64()
        ),
        (Some(1.0), Some(1.0))
    );
    let broken = against(&["accuracy.at-least=0.99"]);
    assert_eq!(
        (broken.status.code(), json(&broken)["gates"][0]["passed"].clone()),
        (Some(1), false.into())
    );
}

#[test]
fn reports_are_written_in_each_form() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("r.md", "accuracy"),
        ("r.json", "\"accuracy\""),
        ("r.xml", "testcase name=\"accuracy\""),
    ] {
        let path = folder.path().join(name).display().to_string();
        let gate = ["--gate", "accuracy.at-least=0.5", "--latency-runs", "0"];
        let run = secateur(
            &[
                &["evaluate", &model(), "--data", &data(), "--report", &path],
                &gate[..],
            ]
            .concat(),
        );
        assert_eq!(run.status.code(), Some(0));
        assert!(
            std::fs::read_to_string(&path).unwrap().contains(content),
            "{name}"
        );
        let again = secateur(
            &[
                &[
                    "evaluate",
                    &model(),
                    "--data",
                    &data(),
                    "--report",
                    &path,
                    "--json",
                ],
                &gate[..],
            ]
            .concat(),
        );
        assert_eq!(again.status.code(), Some(2));
    }
}

#[test]
fn each_defect_of_the_data_has_its_own_error() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let broken = folder.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join("a.jpg"), b"\xff\xd8\xff no image").unwrap();
    std::fs::write(broken.join("labels.tsv"), "file\tlabel\na.jpg\t1\n").unwrap();
    let absolute = |path: PathBuf| path.display().to_string();
    let npz = data();
    let wrong_shape = write(
        folder.path(),
        "shape.yaml",
        &format!("npz: {npz}\ninputs: {{ input: y }}\nlabels: y\n"),
    );
    let no_labels = write(folder.path(), "labels.yaml", &format!("npz: {npz}\n"));
    for (data, code) in [
        (absolute(empty), "data-empty"),
        (absolute(broken), "data-image"),
        (wrong_shape, "data-shape"),
        (no_labels, "data-labels"),
        (absolute(folder.path().join("missing.npz")), "data-read"),
    ] {
        let output = secateur(&[
            "evaluate",
            &model(),
            "--data",
            &data,
            "--preprocess",
            "mnist",
            "--json",
        ]);
        assert_eq!(output.status.code(), Some(2), "{data}");
        assert_eq!(json(&output)["error"]["code"], code, "{data}");
    }
}
