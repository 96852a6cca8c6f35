//! Sweeps: what is computed, what is kept, what is said, and what a second run does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use secateur::{Data, Options, Sweep};
use serde_json::Value;

use super::{Called, call};

const SWEEP: &str = "models: [digits_cnn_bn.onnx, digits_mlp.onnx]
pipeline: pipeline.yaml
vars:
  type: [null, int8, float16]
data:
  evaluation: { npz: data/digits_test.npz, labels: y, samples: 64 }
measure: [accuracy, bytes]
";

const PIPELINE: &str = "vars: { type: null }
data: { calibration: { npz: data/digits_calib.npz, samples: 32 } }
steps:
- quantize:
  when: { type: int8 }
- convert-float: { to: \"${type}\" }
  when: { type: float16 }
";

/// A folder with models, data and a sweep.
fn bench() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    folder
}

fn fill(folder: &Path) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    std::fs::create_dir_all(folder.join("data")).unwrap();
    for name in [
        "digits_cnn_bn.onnx",
        "digits_mlp.onnx",
        "data/digits_calib.npz",
        "data/digits_test.npz",
    ] {
        std::fs::copy(fixtures.join(name), folder.join(name)).unwrap();
    }
    std::fs::write(folder.join("sweep.yaml"), SWEEP).unwrap();
    std::fs::write(folder.join("pipeline.yaml"), PIPELINE).unwrap();
}

fn json(called: &Called) -> Value {
    assert!(called.code <= 1, "{}\n{}", called.text(), called.stderr);
    called.json()
}

/// A document without what is measured in seconds and without paths of the folder.
fn steady(mut document: Value) -> Value {
    fn drop(value: &mut Value) {
        match value {
            Value::Object(entries) => {
                entries
                    .retain(|name, _| !name.contains("latency") && name != "seconds" && name != "computed");
                entries.values_mut().for_each(drop);
            }
            Value::Array(items) => items.iter_mut().for_each(drop),
            _ => {}
        }
    }
    drop(&mut document);
    document
}

fn names(folder: &Path) -> Vec<String> {
    let entries = folder
        .read_dir()
        .map(|entries| entries.flatten().collect::<Vec<_>>());
    let mut names: Vec<String> = entries
        .unwrap_or_default()
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn points(report: &Value) -> BTreeMap<String, Value> {
    let points = report["points"].as_array().unwrap();
    points
        .iter()
        .map(|point| (point["name"].as_str().unwrap().to_owned(), point.clone()))
        .collect()
}

#[test]
fn a_sweep_is_computed_once_and_its_front_can_be_replayed() {
    let bench = bench();
    let folder = bench.path();
    let called = call(
        folder,
        "sweep sweep.yaml -o out --json --report page.html --report page.md --report page.json",
    );
    let report = json(&called);
    assert_eq!(
        (called.code, &report["computed"], &report["missing"]),
        (0, &6.into(), &0.into())
    );
    assert_eq!(
        called
            .stderr
            .lines()
            .filter(|line| line.contains(": accuracy "))
            .count(),
        6,
        "{}",
        called.stderr
    );
    let found = points(&report);
    assert_eq!(found.len(), 6);
    assert!(found.values().all(|point| point["status"] == "done"), "{report}");
    let bytes = |name: &str| found[name]["figures"]["bytes"].as_f64().unwrap();
    assert!(bytes("digits_mlp,type=int8") < 0.6 * bytes("digits_mlp,type=nothing"));
    assert!(found["digits_mlp,type=int8"]["best"] == true, "{report}");
    assert!(
        found["digits_cnn_bn,type=nothing"]["best"] == false
            || found["digits_cnn_bn,type=float16"]["best"] == false
    );

    // Nothing is computed twice, and the answer is the same.
    let again = json(&call(folder, "sweep sweep.yaml -o out --json"));
    assert_eq!(again["computed"], 0);
    assert_eq!(steady(again.clone()), steady(report.clone()));
    assert_eq!(names(&folder.join("out/points")).len(), 6);
    let stored: Value =
        serde_json::from_slice(&std::fs::read(folder.join("out/result.json")).unwrap()).unwrap();
    assert_eq!(steady(stored), steady(report.clone()));

    // The front alone keeps its models, and each of its pipelines makes the model again.
    let front: Vec<&str> = report["front"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(names(&folder.join("out/models")).len(), front.len());
    for name in &front {
        let point = &found[*name];
        let model = folder
            .join("out/models")
            .join(format!("{}.onnx", point["id"].as_str().unwrap()));
        let pipeline = format!("out/front/{name}.yaml");
        let line = std::fs::read_to_string(folder.join(&pipeline)).unwrap();
        let more = if line.lines().next().unwrap().contains("--allow-unchanged") {
            "--allow-unchanged"
        } else {
            ""
        };
        let input = point["model"].as_str().unwrap();
        let replayed = call(
            folder,
            &format!("run {pipeline} {input} -o again.onnx --force {more}"),
        );
        assert_eq!(replayed.code, 0, "{}", replayed.stderr);
        assert_eq!(
            std::fs::read(folder.join("again.onnx")).unwrap(),
            std::fs::read(&model).unwrap(),
            "{name}"
        );
    }
    // A model that is gone is made again, with the same bytes.
    let gone = folder
        .join("out/models")
        .join(&names(&folder.join("out/models"))[0]);
    let bytes = std::fs::read(&gone).unwrap();
    std::fs::remove_file(&gone).unwrap();
    assert_eq!(
        json(&call(folder, "sweep sweep.yaml -o out --json"))["computed"],
        0
    );
    assert_eq!(std::fs::read(&gone).unwrap(), bytes);

    let page = std::fs::read_to_string(folder.join("page.html")).unwrap();
    assert!(
        page.contains("<svg") && page.contains("digits_mlp,type=int8"),
        "{page}"
    );
    let table = std::fs::read_to_string(folder.join("page.md")).unwrap();
    assert!(
        table.contains("| digits_mlp.onnx") && table.contains("front"),
        "{table}"
    );
    let shown = call(folder, "sweep sweep.yaml -o out");
    assert!(shown.text().contains("6 points, 6 done"), "{}", shown.text());
    let markdown = call(folder, "sweep sweep.yaml -o out --format markdown");
    assert!(
        markdown.text().starts_with("# secateur: sweep"),
        "{}",
        markdown.text()
    );
}

#[test]
fn points_do_not_depend_on_threads_folders_or_who_computes_them() {
    let (bench, other) = (bench(), bench());
    let folder = bench.path();
    let first = json(&call(folder, "sweep sweep.yaml -o one --json --jobs 1"));
    let second = json(&call(
        folder,
        "sweep sweep.yaml -o two --json --jobs 2 --keep-models",
    ));
    assert_eq!(steady(first.clone()), steady(second));
    assert_eq!(
        names(&folder.join("one/points")),
        names(&folder.join("two/points"))
    );
    assert_eq!(names(&folder.join("two/models")).len(), 6);
    // The same files elsewhere are the same points.
    let elsewhere = call(other.path(), "sweep sweep.yaml --dry-run --json").json();
    let ids = |value: &Value| -> Vec<Value> {
        value["points"]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| point["id"].clone())
            .collect()
    };
    assert_eq!(ids(&elsewhere), ids(&first));
    // Points by themselves, the last one first, through the library.
    let sweep = Sweep::open(folder.join("sweep.yaml")).unwrap();
    let plan = sweep.plan(&Options::new()).unwrap();
    let three = folder.join("three");
    for point in plan.points(&three).unwrap().iter().rev() {
        assert!(!point.done);
        plan.run_point(&point.id, &three).unwrap();
    }
    assert!(plan.points(&three).unwrap().iter().all(|point| point.done));
    let gathered = serde_json::to_value(plan.gather(&three, false).unwrap()).unwrap();
    assert_eq!(steady(gathered)["front"], steady(first.clone())["front"]);
    assert_eq!(
        plan.run_point("nowhere", &three).unwrap_err().code(),
        "unknown-name"
    );
    // Other data, another seed, another engine's figures: other points.
    for change in [
        "--seed 1",
        "--data evaluation={npz: data/digits_test.npz, labels: y, samples: 65}",
    ] {
        let mut words = vec!["sweep", "sweep.yaml", "--dry-run", "--json"];
        words.extend(change.splitn(2, ' '));
        let changed = super::call_words(folder, &words).json();
        assert!(
            ids(&changed).iter().all(|id| !ids(&first).contains(id)),
            "{change}"
        );
    }
}

#[test]
fn a_point_that_fails_or_is_refused_says_why_and_stops_nothing() {
    let bench = bench();
    let folder = bench.path();
    let pipeline = "steps:
- convert-float: { to: float16 }
  when: { kind: [half, small] }
- prune-channels: { ratio: \"${ratio}\", criterion: magnitude }
  when: { kind: prune }
- quantize-weights: { type: int8 }
  when: { kind: weights }
gates: [{ size: { at-most: 0.6 } }]
";
    std::fs::write(folder.join("pipeline.yaml"), pipeline).unwrap();
    let sweep = "model: digits_mlp.onnx
pipeline: pipeline.yaml
vars: { kind: [half, prune, weights, none, small], ratio: [7] }
data: { evaluation: data/digits_test.npz }
measure: [accuracy, size]
";
    std::fs::write(folder.join("sweep.yaml"), sweep).unwrap();
    let called = call(folder, "sweep sweep.yaml -o out --json");
    let report = json(&called);
    assert_eq!(called.code, 0);
    let found = points(&report);
    let state = |kind: &str| found[&format!("digits_mlp,kind={kind},ratio=7")].clone();
    assert_eq!(state("half")["status"], "done", "{report}");
    assert_eq!(state("prune")["status"], "failed", "{report}");
    assert!(!state("prune")["code"].as_str().unwrap().is_empty());
    assert_eq!(state("none")["status"], "refused");
    assert!(
        state("none")["reasons"][0].as_str().unwrap().contains("0.6"),
        "{report}"
    );
    // Two settings that give one pipeline are one point.
    assert_eq!(report["computed"], 4);
    assert_eq!(state("half")["also"][0]["kind"], "small");
    assert_eq!(
        json(&call(folder, "sweep sweep.yaml -o out --json"))["computed"],
        0
    );
    assert_eq!(
        json(&call(folder, "sweep sweep.yaml -o out --json --retry-failed"))["computed"],
        1
    );
    let text = call(folder, "sweep sweep.yaml -o out");
    assert!(
        text.stderr.contains("refused") && text.stderr.contains("failed"),
        "{}",
        text.stderr
    );
    // Nothing accepted at all is a no.
    std::fs::write(
        folder.join("sweep.yaml"),
        sweep.replace("half, prune, weights, none, small", "none"),
    )
    .unwrap();
    assert_eq!(call(folder, "sweep sweep.yaml -o none").code, 1);
}

#[test]
fn a_sweep_that_is_killed_goes_on_where_it_was() {
    let bench = bench();
    let folder = bench.path();
    let mut child = Command::new(env!("CARGO_BIN_EXE_secateur"))
        .args(["sweep", "sweep.yaml", "-o", "out"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let records = || {
        let all = names(&folder.join("out/points"));
        all.iter().filter(|name| name.ends_with(".json")).count()
    };
    while records() < 2 && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let there = records();
    assert!((2..6).contains(&there), "{there} records");
    let report = json(&call(folder, "sweep sweep.yaml -o out --json"));
    assert_eq!(report["computed"], 6 - there);
    let whole = json(&call(folder, "sweep sweep.yaml -o whole --json"));
    assert_eq!(steady(report), steady(whole));
}

#[test]
fn halving_gives_more_samples_to_fewer_points() {
    let bench = bench();
    let folder = bench.path();
    let sweep = SWEEP.replace(
        "measure:",
        "search: { halving: { rungs: [16, 32, all], eta: 2 } }\nmeasure:",
    );
    std::fs::write(folder.join("sweep.yaml"), &sweep).unwrap();
    let report = json(&call(folder, "sweep sweep.yaml -o out --json"));
    // 6 on 16 samples, 3 on 32, 2 on all.
    assert_eq!(report["computed"], 11);
    let found = points(&report);
    let on = |samples: Value| found.values().filter(|point| point["samples"] == samples).count();
    assert_eq!((on(16.into()), on(32.into()), on(Value::Null)), (3, 1, 2));
    assert_eq!(
        found.values().filter(|point| point["finished"] == true).count(),
        2
    );
    assert!(
        found
            .values()
            .all(|point| point["best"] == false || point["finished"] == true)
    );
    let again = json(&call(folder, "sweep sweep.yaml -o out --json"));
    assert_eq!(again["computed"], 0);
    assert_eq!(steady(again), steady(report));
    // The next rung is known once the one before is there.
    let sweep = Sweep::open(folder.join("sweep.yaml")).unwrap();
    let plan = sweep.plan(&Options::new()).unwrap();
    let other = folder.join("other");
    assert_eq!(plan.points(&other).unwrap().len(), 6);
    for point in plan.points(&other).unwrap() {
        plan.run_point(&point.id, &other).unwrap();
    }
    let known = plan.points(&other).unwrap();
    assert_eq!(
        (known.len(), known.iter().filter(|point| !point.done).count()),
        (9, 3)
    );
    assert!(
        known
            .iter()
            .filter(|point| !point.done)
            .all(|point| point.rung == 1 && point.samples == Some(32))
    );
}

#[test]
fn rungs_may_spend_more_of_a_variable() {
    let bench = bench();
    let folder = bench.path();
    let sweep = "model: digits_mlp.onnx
pipeline: { steps: [{ prune-weights: { sparsity: \"${share}\" } }, { finetune: { epochs: \"${epochs}\", learning-rate: 0.05 } }] }
vars: { share: [0.5, 0.9] }
search: { halving: { rungs: [{ epochs: 1, samples: 64 }, { epochs: 3 }], eta: 2 } }
data:
  training: { npz: data/digits_calib.npz, labels: y, samples: 64 }
  evaluation: { npz: data/digits_test.npz, labels: y }
measure: [accuracy]
";
    std::fs::write(folder.join("sweep.yaml"), sweep).unwrap();
    let report = json(&call(folder, "sweep sweep.yaml -o out --json"));
    assert_eq!(report["computed"], 3, "{report}");
    let epochs = |point: &Value| point["vars"]["epochs"].as_i64().unwrap();
    let found = report["points"].as_array().unwrap();
    assert_eq!(found.iter().map(epochs).max(), Some(3));
    assert_eq!(found.iter().map(epochs).min(), Some(1));
    let best = found.iter().find(|point| point["best"] == true).unwrap();
    assert_eq!(
        (epochs(best), &best["finished"], &best["samples"]),
        (3, &Value::Bool(true), &Value::Null)
    );
    let name = best["name"].as_str().unwrap();
    let replay = std::fs::read_to_string(folder.join(format!("out/front/{name}.yaml"))).unwrap();
    assert!(replay.contains("epochs: 3"), "{replay}");
    // A variable that the pipeline does not have is one in a rung, too.
    std::fs::write(
        folder.join("sweep.yaml"),
        sweep
            .replace("epochs: 1, ", "epoch: 1, ")
            .replace("{ epochs: 3 }", "{ epoch: 3 }"),
    )
    .unwrap();
    let called = call(folder, "sweep sweep.yaml -o other");
    assert_eq!(called.code, 2);
    assert!(called.stderr.contains("epoch"), "{}", called.stderr);
}

#[test]
fn a_search_for_a_structure_is_a_sweep_of_blocks_widths_and_types() {
    let bench = bench();
    let folder = bench.path();
    let vit = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/digits_vit.onnx");
    std::fs::copy(vit, folder.join("digits_vit.onnx")).unwrap();
    std::fs::write(
        folder.join("eval.yaml"),
        "npz: data/digits_test.npz\nlabels: y\nsamples: 50\n",
    )
    .unwrap();
    let words = "--macs 0.9,0.8 --blocks 0,1 --precision float --epochs 3 --no-verify --json \
                 --data calibration=data/digits_calib.npz --data evaluation=eval.yaml";
    let report = json(&call(
        folder,
        &format!("search-structure digits_vit.onnx -o out {words}"),
    ));
    assert!(report["computed"].as_u64().unwrap() > 4, "{report}");
    let best: Vec<&Value> = report["points"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|point| point["best"] == true)
        .collect();
    assert!(
        !best.is_empty() && best.iter().all(|point| point["vars"]["epochs"] == 3),
        "{best:?}"
    );
    let name = best[0]["name"].as_str().unwrap();
    let replayed = call(
        folder,
        &format!("run out/front/{name}.yaml digits_vit.onnx -o again.onnx -qq --allow-unchanged"),
    );
    assert_eq!(replayed.code, 0, "{}", replayed.stderr);
    let id = best[0]["id"].as_str().unwrap();
    let made = std::fs::read(folder.join(format!("out/models/{id}.onnx"))).unwrap();
    assert_eq!(std::fs::read(folder.join("again.onnx")).unwrap(), made);
    let written = call(
        folder,
        "search-structure digits_vit.onnx --write search.yaml --macs 0.9",
    );
    assert_eq!(written.code, 0, "{}", written.stderr);
    let text = std::fs::read_to_string(folder.join("search.yaml")).unwrap();
    assert!(text.contains("halving") && Sweep::parse(&text).is_ok(), "{text}");
    for (words, reason) in [
        ("--macs 1.5", "no share"),
        ("--precision int3", "int3"),
        ("--epochs 0", "an epoch"),
    ] {
        let called = call(
            folder,
            &format!("search-structure digits_vit.onnx -o bad {words}"),
        );
        assert_eq!(called.code, 2, "{words}");
        assert!(called.stderr.contains(reason), "{}", called.stderr);
    }
}

#[test]
fn a_random_search_is_the_same_for_the_same_seed() {
    let bench = bench();
    let folder = bench.path();
    let listed = |seed: u64| {
        let text = format!(
            "model: digits_mlp.onnx\npipeline: {{ steps: [{{ prune-weights: {{ sparsity: \"${{share}}\" }} }}] }}\nvars: {{ share: {{ from: 0.1, to: 0.9 }} }}\nsearch: {{ random: {{ samples: 5, seed: {seed} }} }}\ndata: {{ evaluation: data/digits_test.npz }}\n"
        );
        std::fs::write(folder.join("sweep.yaml"), text).unwrap();
        call(folder, "sweep sweep.yaml --dry-run --json").json()
    };
    assert_eq!(listed(1)["points"].as_array().unwrap().len(), 5);
    assert_eq!(listed(1), listed(1));
    assert_ne!(listed(1), listed(2));
    assert!(!folder.join("out").exists());
}

#[test]
fn mistakes_end_with_2_and_a_place_and_write_nothing() {
    let bench = bench();
    let folder = bench.path();
    std::fs::create_dir(folder.join("other")).unwrap();
    std::fs::write(folder.join("other/own.txt"), "mine").unwrap();
    let before = names(folder);
    let all = |from: &str, to: &str| SWEEP.replace(from, to);
    for (text, code, file, line, hint) in [
        (
            all("vars:", "var:"),
            "unknown-key",
            "sweep.yaml",
            Some(3),
            "did you mean `vars`?",
        ),
        (
            all("  type:", "  typ:"),
            "unknown-variable",
            "sweep.yaml",
            Some(4),
            "did you mean `type`?",
        ),
        (
            all("  type:", "  convert-float.two: [x]\n  type:"),
            "unknown-variable",
            "",
            None,
            "STEP.OPTION",
        ),
        (
            all("[null, int8, float16]", "[]"),
            "sweep-shape",
            "sweep.yaml",
            Some(4),
            "write a list",
        ),
        (
            all("[null, int8, float16]", "{ from: 0, to: 1 }"),
            "sweep-shape",
            "sweep.yaml",
            Some(3),
            "",
        ),
        (
            all("pipeline.yaml", "edge-int9"),
            "unknown-preset",
            "",
            None,
            "did you mean `edge-int8`?",
        ),
        (
            all("pipeline.yaml", "nowhere.yaml"),
            "read-failed",
            "nowhere.yaml",
            None,
            "",
        ),
        (
            all("digits_mlp.onnx", "absent.onnx"),
            "read-failed",
            "absent.onnx",
            None,
            "",
        ),
        (
            all("  evaluation:", "  training:"),
            "data-missing",
            "",
            None,
            "--data evaluation=DATA",
        ),
        (all("digits_test.npz", "absent.npz"), "data-read", "", None, ""),
        (
            all(
                "measure: [accuracy, bytes]",
                "measure: [accuracy, bytes]\nexclude: [{ tpe: int8 }]",
            ),
            "unknown-variable",
            "sweep.yaml",
            Some(8),
            "did you mean `type`?",
        ),
        (
            all(
                "measure: [accuracy, bytes]",
                "measure: [accuracy, bytes]\nonly: [{ type: int4 }]",
            ),
            "sweep-shape",
            "sweep.yaml",
            None,
            "",
        ),
        (
            all(
                "pipeline: pipeline.yaml",
                "pipeline: { steps: [simplfy, \"${type}\"] }",
            ),
            "unknown-pass",
            "sweep.yaml",
            Some(2),
            "",
        ),
        (
            all(
                "pipeline: pipeline.yaml",
                "pipeline: { steps: [\"${type}\", { convert-float: { to: half } }] }",
            ),
            "option-value",
            "sweep.yaml",
            Some(2),
            "",
        ),
    ] {
        std::fs::write(folder.join("sweep.yaml"), &text).unwrap();
        let called = call(folder, "sweep sweep.yaml -o out --json");
        assert_eq!(called.code, 2, "{text}\n{}", called.text());
        let error = called.json()["error"].clone();
        assert_eq!(error["code"], code, "{text}\n{error}");
        assert!(
            error["file"].as_str().unwrap_or_default().ends_with(file),
            "{text}\n{error}"
        );
        if let Some(line) = line {
            assert_eq!(error["line"], line, "{text}\n{error}");
        }
        assert!(
            error["hint"].as_str().unwrap_or_default().contains(hint),
            "{text}\n{error}"
        );
        assert_eq!(names(folder), before, "{text}");
    }
    std::fs::write(folder.join("sweep.yaml"), SWEEP).unwrap();
    for (call_it, words) in [
        ("sweep sweep.yaml", "required"),
        (
            "sweep sweep.yaml -o out --report sweep.yaml --force",
            "sweep.yaml",
        ),
        ("sweep sweep.yaml -o out --report page.xml", ".html, .json or .md"),
        ("sweep sweep.yaml -o out --format junit", "text, JSON or Markdown"),
        ("sweep sweep.yaml -o .", "lies in the folder of the results"),
        ("sweep sweep.yaml -o data", "lies in the folder of the results"),
        ("sweep sweep.yaml -o out --in-place", "--in-place"),
        ("sweep sweep.yaml -o other", "something else than a sweep"),
        ("sweep nowhere.yaml -o out", "nowhere.yaml"),
    ] {
        let called = call(folder, call_it);
        assert_eq!(called.code, 2, "{call_it}\n{}", called.text());
        let said = called.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(words), "{call_it}\n{said}");
        assert_eq!(names(folder), before, "{call_it}");
    }
}

#[test]
fn a_file_that_is_no_record_is_named_and_a_figure_that_no_point_has_is_refused() {
    let bench = bench();
    let folder = bench.path();
    let sweep = "{ model: digits_mlp.onnx, pipeline: simplify, data: { evaluation: data/digits_test.npz }, measure: [accurcy, bytes] }\n";
    std::fs::write(folder.join("sweep.yaml"), sweep).unwrap();
    let called = call(folder, "sweep sweep.yaml -o out --json");
    assert_eq!((called.code, called.error_code().as_str()), (2, "unknown-name"));
    assert_eq!(called.json()["error"]["hint"], "did you mean `accuracy`?");
    std::fs::write(folder.join("sweep.yaml"), sweep.replace("accurcy", "accuracy")).unwrap();
    // What was computed for the wrong name is there for the right one.
    assert_eq!(
        json(&call(folder, "sweep sweep.yaml -o out --json"))["computed"],
        0
    );
    let record = folder
        .join("out/points")
        .join(&names(&folder.join("out/points"))[0]);
    std::fs::write(&record, "{").unwrap();
    let called = call(folder, "sweep sweep.yaml -o out --json");
    assert_eq!((called.code, called.error_code().as_str()), (2, "sweep-record"));
    assert!(
        called.json()["error"]["file"]
            .as_str()
            .unwrap()
            .ends_with(".json")
    );
}

#[test]
fn a_sweep_in_memory_takes_arrays_and_presets() {
    let folder = tempfile::tempdir().unwrap();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let model = root.join("fixtures/digits_mlp.onnx");
    let text = format!(
        "{{ model: {model:?}, pipeline: edge-int8, vars: {{ prune-channels.target-macs: [0.9] }}, measure: [accuracy, bytes, macs] }}"
    );
    let data = |name: &str| {
        Data::npz(root.join("fixtures/data").join(name))
            .unwrap()
            .labels("y")
            .samples(64)
    };
    let options = Options::new()
        .data("calibration", data("digits_calib.npz"))
        .data("evaluation", data("digits_test.npz"));
    let report = Sweep::parse(&text)
        .unwrap()
        .run(folder.path(), &options, false)
        .unwrap();
    assert_eq!(report.points.len(), 1);
    let point = &report.points[0];
    assert!(point.status.is_some(), "{point:?}");
    assert_eq!(point.vars["prune-channels.target-macs"], 0.9);
}
