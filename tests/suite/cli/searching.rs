//! Steps with `until`: what is found, on which samples, what is written and what is not.

use std::path::Path;

use serde_json::Value;

use super::{Called, call, call_words, fixtures};

const MODEL: &str = "digits_cnn_bn.onnx";

/// Data of both roles.
const DATA: [&str; 4] = [
    "--data",
    "calibration=data/digits_calib.npz",
    "--data",
    "evaluation=data/digits_test.yaml",
];

/// A folder with the models and data of the fixtures that are used here.
fn bench() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    for name in [
        MODEL,
        "digits_mlp.onnx",
        "data/digits_calib.npz",
        "data/digits_test.npz",
        "data/digits_test.yaml",
    ] {
        std::fs::copy(fixtures().join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn searched(folder: &Path, verb: &str, until: &str, more: &[&str]) -> Called {
    let mut words: Vec<&str> = verb.split_whitespace().collect();
    words.extend([MODEL, "-o", "out.onnx", "--force", "--json", "--until", until]);
    words.extend(DATA);
    words.extend(more);
    call_words(folder, &words)
}

fn found(called: &Called) -> Value {
    let steps = called.json()["steps"].clone();
    steps[0]["until"].clone()
}

/// Candidates that were judged on samples of this kind.
fn judged<'v>(found: &'v Value, on: &str) -> Vec<&'v Value> {
    let all = found["candidates"].as_array().unwrap();
    all.iter().filter(|one| one["on"] == on).collect()
}

/// The pipeline that a search wrote gives the same file without any search.
fn replays(folder: &Path, pipeline: &str, data: bool) {
    let text = std::fs::read_to_string(folder.join(pipeline)).unwrap();
    assert!(!text.contains("until"), "{text}");
    let replayed = call(
        folder,
        &format!("run {pipeline} {MODEL} -o again.onnx --force --json"),
    );
    assert_eq!(replayed.code, 0, "{}\n{}", replayed.stderr, replayed.text());
    assert!(replayed.json()["steps"][0]["until"].is_null());
    let (first, again) = (folder.join("out.onnx"), folder.join("again.onnx"));
    assert!(
        std::fs::read(first).unwrap() == std::fs::read(again).unwrap(),
        "the replayed model has other bytes"
    );
    assert_eq!(text.contains("calibration"), data, "{text}");
}

#[test]
fn layers_go_back_until_the_bound_holds_and_the_pipeline_gives_the_same_bytes() {
    let folder = bench();
    let written = ["--write-pipeline", "replay.yaml"];
    let called = searched(folder.path(), "quantize", "outputs.sqnr-db>=38", &written);
    assert_eq!(called.code, 0, "{}\n{}", called.stderr, called.text());
    let found = found(&called);
    assert_eq!(found["held"], true);
    let layers = found["layers"].as_array().unwrap();
    assert!(!layers.is_empty(), "{found}");
    for layer in layers {
        assert_eq!(layer["kept_as"], "float");
        assert!(layer["why"].as_str().unwrap().contains("dB"), "{layer}");
        assert!(layer["macs"].as_u64().is_some() && layer["share"].as_f64().is_some());
    }
    let integer = found["integer_macs"].as_f64().unwrap();
    assert!(integer > 0.0 && integer < 1.0, "{integer}");
    // The plain result is tried first and breaks the bound; the result holds on samples that the search did not see.
    let search = judged(&found, "search");
    assert_eq!(search[0]["holds"], false);
    let confirmed = judged(&found, "held-out");
    let last = confirmed.last().unwrap();
    assert!(last["holds"] == true && last["chosen"] == true, "{last}");
    assert!(last["gates"][0]["message"].as_str().is_some());
    let samples = &found["samples"];
    let (search, held_out) = (
        samples["search"].as_u64().unwrap(),
        samples["held_out"].as_u64().unwrap(),
    );
    assert!(search - held_out <= 1 && held_out > 0, "{samples}");
    assert!(samples["ranking"].as_u64().unwrap() > 0);
    replays(folder.path(), "replay.yaml", true);
}

#[test]
fn what_holds_at_once_is_the_plain_result() {
    let folder = bench();
    let called = searched(folder.path(), "quantize", "accuracy.drop<=0.5", &[]);
    assert_eq!(called.code, 0, "{}", called.text());
    let found = found(&called);
    assert!(found.get("layers").is_none(), "{found}");
    assert_eq!(found["candidates"].as_array().unwrap().len(), 2);
    let gates = called.json()["gates"].clone();
    assert_eq!(
        (&gates[0]["name"], &gates[0]["passed"]),
        (&"until".into(), &true.into())
    );
    let plain = call(
        folder.path(),
        &format!(
            "quantize {MODEL} -o plain.onnx --no-provenance {}",
            DATA.join(" ")
        ),
    );
    assert_eq!(plain.code, 0, "{}", plain.stderr);
    searched(
        folder.path(),
        "quantize",
        "accuracy.drop<=0.5",
        &["--no-provenance"],
    );
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert!(bytes("plain.onnx") == bytes("out.onnx"));
}

#[test]
fn a_budget_alone_keeps_as_many_layers_as_it_allows() {
    let folder = bench();
    let called = searched(folder.path(), "quantize", "size<=0.5", &[]);
    assert_eq!(called.code, 0, "{}", called.text());
    let json = called.json();
    let share = json["after"]["bytes"].as_f64().unwrap() / json["before"]["bytes"].as_f64().unwrap();
    assert!(share <= 0.5, "{share}");
    let found = found(&called);
    assert_eq!(found["samples"]["held_out"], 0);
    assert_eq!(
        judged(&found, "model").len(),
        found["candidates"].as_array().unwrap().len()
    );
    // The largest layer alone makes most of the file: all others are put back.
    assert_eq!(found["layers"].as_array().unwrap().len(), 4, "{found}");
}

#[test]
fn a_bound_that_nothing_keeps_is_refused_with_the_nearest_candidate() {
    let folder = bench();
    let written = ["--write-pipeline", "replay.yaml"];
    let called = searched(folder.path(), "quantize", "outputs.sqnr-db>=300", &written);
    assert_eq!(called.code, 1, "{}", called.text());
    let found = found(&called);
    assert_eq!(found["held"], false);
    let message = found["message"].as_str().unwrap();
    assert!(
        message.contains("no candidate keeps") && message.contains("the nearest one"),
        "{message}"
    );
    for name in ["out.onnx", "replay.yaml"] {
        assert!(!folder.path().join(name).exists(), "{name}");
    }
    let called = searched(folder.path(), "quantize", "size<=0.01", &[]);
    assert_eq!(called.code, 1, "{}", called.text());
}

#[test]
fn bits_are_given_until_the_bound_holds() {
    let folder = bench();
    let more = ["--minimum-elements", "1", "--pipeline", "replay.yaml"];
    let called = searched(folder.path(), "search-precision", "outputs.sqnr-db>=25", &more);
    assert_eq!(called.code, 0, "{}\n{}", called.stderr, called.text());
    let found = found(&called);
    assert!(
        found["message"].as_str().unwrap().contains("bits a weight"),
        "{found}"
    );
    assert!(judged(&found, "search").len() > 1, "{found}");
    replays(folder.path(), "replay.yaml", true);
    let both = searched(
        folder.path(),
        "search-precision",
        "accuracy.drop<=0.1",
        &["--max-drop", "0.1"],
    );
    assert_eq!((both.code, both.error_code().as_str()), (2, "pass-option"));
}

#[test]
fn channels_go_as_long_as_the_bound_holds() {
    let folder = bench();
    let written = ["--write-pipeline", "replay.yaml"];
    let called = searched(folder.path(), "prune channels", "accuracy.drop<=0.05", &written);
    assert_eq!(called.code, 0, "{}\n{}", called.stderr, called.text());
    let json = called.json();
    let left =
        |json: &Value| json["after"]["macs"].as_f64().unwrap() / json["before"]["macs"].as_f64().unwrap();
    let share = left(&json);
    assert!(share < 1.0, "{share}");
    replays(folder.path(), "replay.yaml", true);
    let text = std::fs::read_to_string(folder.path().join("replay.yaml")).unwrap();
    assert!(text.contains("ratio:"), "{text}");
    // With a budget alone the least goes that the budget asks for.
    let called = searched(folder.path(), "prune channels", "macs<=0.8", &[]);
    assert_eq!(called.code, 0, "{}", called.text());
    let share = left(&called.json());
    assert!(share <= 0.8 && share > 0.6, "{share}");
    // What the step names is the most that goes.
    let called = searched(
        folder.path(),
        "prune channels",
        "accuracy.drop<=1",
        &["--target-macs", "0.7"],
    );
    assert_eq!(called.code, 0, "{}", called.text());
    let found = found(&called);
    assert!(
        found["message"].as_str().unwrap().contains("target-macs 0.7"),
        "{found}"
    );
}

#[test]
fn wrong_bounds_and_missing_data_are_said_before_anything_runs() {
    let folder = bench();
    let called = |until: &str| searched(folder.path(), "quantize", until, &[]);
    for (until, code, says, hint) in [
        (
            "mpa.drop<=0.01",
            "option-value",
            "no gate `mpa`",
            "did you mean `map`?",
        ),
        (
            "accuracy.dorp<=0.01",
            "option-value",
            "no `dorp`",
            "did you mean `drop`?",
        ),
        (
            "accuracy.drop>=0.01",
            "option-value",
            "bounded from above",
            "accuracy.drop<=0.01",
        ),
        ("accuracy", "option-value", "is no bound", "for example"),
    ] {
        let called = called(until);
        assert_eq!((called.code, called.error_code().as_str()), (2, code), "{until}");
        let error = called.json()["error"].clone();
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
        assert!(error["hint"].as_str().unwrap().contains(hint), "{error}");
    }
    let text = "steps:\n  - quantize:\n      until: accuracy.dorp<=0.01\n";
    std::fs::write(folder.path().join("wrong.yaml"), text).unwrap();
    let called = call(
        folder.path(),
        &format!("run wrong.yaml {MODEL} -o out.onnx --json"),
    );
    let error = called.json()["error"].clone();
    assert_eq!(
        (called.code, &error["line"], &error["column"]),
        (2, &3.into(), &14.into()),
        "{error}"
    );
    let called = call(
        folder.path(),
        &format!(
            "quantize {MODEL} -o out.onnx --json --until accuracy.drop<=0.1 --data calibration=data/digits_calib.npz"
        ),
    );
    assert_eq!((called.code, called.error_code().as_str()), (2, "data-missing"));
    let called = call(
        folder.path(),
        &format!(
            "quantize {MODEL} -o out.onnx --json --until accuracy.drop<=0.1 --data calibration=data/digits_calib.npz --data evaluation=data/digits_test.npz"
        ),
    );
    assert_eq!((called.code, called.error_code().as_str()), (2, "data-missing"));
    assert!(!folder.path().join("out.onnx").exists());
}

#[test]
fn the_commands_of_the_page_run() {
    let folder = bench();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/until.md");
    let text = std::fs::read_to_string(page).unwrap();
    let commands: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("$ secateur "))
        .collect();
    assert!(commands.len() > 3);
    for command in commands {
        let words: Vec<String> = command
            .split_whitespace()
            .map(|word| word.trim_matches('\'').to_owned())
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let called = call_words(folder.path(), &words);
        assert_eq!(called.code, 0, "{command}\n{}\n{}", called.stderr, called.text());
    }
}
