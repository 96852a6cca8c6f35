//! Jobs of several processes: their results have the bytes of one process, whatever the parts, and what does not belong is refused.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Called, call, call_words, fixtures};

/// Data of the fixtures, as a description in place.
fn digits(file: &str, more: &str) -> String {
    format!("{{npz: {}/data/{file}.npz{more}}}", fixtures().display())
}

/// Writes a job: its own lines, with the model, and the parts.
fn job(folder: &Path, model: &str, own: &str, parts: usize) {
    let text = format!(
        "model: {}\nparts: {parts}\n{own}",
        fixtures().join(model).display()
    );
    std::fs::write(folder.join("job.yaml"), text).unwrap();
}

fn done(called: &Called) -> &Called {
    assert_eq!(called.code, 0, "{}{}", called.text(), called.stderr);
    called
}

/// Works on a plan with two processes in turn until it is merged, and answers how many stages that took.
fn finish(folder: &Path, plan: &str) -> usize {
    for stage in 1..40 {
        for part in ["1/2", "0/2"] {
            done(&call(folder, &format!("work {plan} --part {part}")));
        }
        let merged = call(folder, &format!("merge {plan} --json"));
        if merged.code == 0 {
            return stage;
        }
        assert_eq!(merged.code, 1, "{}{}", merged.text(), merged.stderr);
        assert_eq!(merged.json()["finished"], false, "{}", merged.text());
    }
    panic!("{plan} does not come to an end");
}

fn tasks(folder: &Path, plan: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(plan).join("tasks.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn same(folder: &Path, a: &str, b: &str, what: &str) {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    assert!(read(a) == read(b), "{what}: {a} and {b} differ");
}

#[test]
fn statistics_of_1_2_4_and_7_parts_have_the_bytes_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = fixtures().join("digits_cnn_bn.onnx").display().to_string();
    for (kind, role, data) in [
        ("quantize", "calibration", digits("digits_calib", ", samples: 45")),
        ("gram", "calibration", digits("digits_calib", ", samples: 45")),
        (
            "gradients",
            "training",
            digits("digits_test", ", labels: y, samples: 45"),
        ),
    ] {
        let words = [
            "stats", &model, "--for", kind, "--data", &data, "-o", "whole", "--force",
        ];
        done(&call_words(folder, &words));
        for parts in [1, 2, 4, 7] {
            let own = format!("job: stats\nfor: {kind}\ndata: {{{role}: {data}}}\noutput: merged\n");
            job(folder, "digits_cnn_bn.onnx", &own, parts);
            let plan = format!("{kind}-{parts}");
            done(&call(folder, &format!("plan job.yaml -o {plan}")));
            assert_eq!(tasks(folder, &plan).len(), parts);
            assert_eq!(finish(folder, &plan), 1);
            same(folder, "whole", "merged", &plan);
            std::fs::remove_file(folder.join("merged")).unwrap();
        }
        // By hand, in any order.
        for part in 0..3 {
            let shard = format!("{part}/3");
            let output = format!("{kind}.{part}");
            let words = [
                "stats", &model, "--for", kind, "--data", &data, "--shard", &shard, "-o", &output,
            ];
            done(&call_words(folder, &words));
        }
        done(&call(
            folder,
            &format!("stats merge {kind}.2 {kind}.0 {kind}.1 -o merged --force"),
        ));
        same(folder, "whole", "merged", kind);
        std::fs::remove_file(folder.join("merged")).unwrap();
    }
}

#[test]
fn evaluations_in_parts_have_the_counts_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = digits("digits_test", ", labels: y, samples: 100");
    let model = fixtures()
        .join("digits_cnn_qdq_pc_s8s8.onnx")
        .display()
        .to_string();
    let against = fixtures().join("digits_cnn.onnx").display().to_string();
    let words = [
        "evaluate",
        &model,
        "--against",
        &against,
        "--data",
        &data,
        "--state",
        "whole",
        "--latency-runs",
        "0",
    ];
    done(&call_words(folder, &words));
    for parts in [1, 2, 4, 7] {
        let own = format!(
            "job: evaluate\nagainst: {against}\ndata: {{evaluation: {data}}}\nlatency-runs: 0\noutput: figures.json\nstate: merged\n\
             gates: [accuracy.drop=0.05]\n"
        );
        job(folder, "digits_cnn_qdq_pc_s8s8.onnx", &own, parts);
        let plan = format!("plan-{parts}");
        done(&call(folder, &format!("plan job.yaml -o {plan}")));
        finish(folder, &plan);
        same(folder, "whole", "merged", &plan);
        let figures: Value =
            serde_json::from_slice(&std::fs::read(folder.join("figures.json")).unwrap()).unwrap();
        assert_eq!(figures["samples"], 100);
        assert_eq!(figures["gates"][0]["passed"], true);
        for file in ["merged", "figures.json"] {
            std::fs::remove_file(folder.join(file)).unwrap();
        }
    }
}

#[test]
fn pipelines_by_several_processes_write_the_bytes_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let calibration = digits("digits_calib", ", samples: 40");
    let evaluation = digits("digits_test", ", labels: y, samples: 60");
    // The pipeline, and the works that are cut into tasks, in the order of its stages.
    for (name, pipeline, works) in [
        (
            "gptq",
            "steps: [{quantize-weights: {type: int8, rounding: gptq, minimum-elements: 0}}]",
            "gram codes",
        ),
        (
            "wanda",
            "steps: [{prune-weights: {criterion: wanda, sparsity: 0.5}}]",
            "second-moments",
        ),
        (
            "precision",
            "steps: [{search-precision: {bits: 6}}]",
            "gram sensitivity codes",
        ),
        (
            "gated",
            "{steps: [{quantize: {calibrate: entropy}}], gates: [{accuracy: {drop: 0.1}}]}",
            "ranges evaluate",
        ),
        (
            "until",
            "steps: [{quantize: {until: accuracy.drop<=0.0}}]",
            "ranges ranking candidate",
        ),
        (
            "precision-until",
            "steps: [{search-precision: {until: accuracy.drop<=0.02}}]",
            "gram sensitivity candidate codes",
        ),
    ] {
        std::fs::write(folder.join("pipeline.yaml"), pipeline).unwrap();
        let model = fixtures().join("digits_cnn_bn.onnx").display().to_string();
        let (one, several) = (format!("{name}.one.onnx"), format!("{name}.onnx"));
        let (own_calibration, own_evaluation) = (
            format!("calibration={calibration}"),
            format!("evaluation={evaluation}"),
        );
        let words = [
            "run",
            "pipeline.yaml",
            &model,
            "-o",
            &one,
            "--data",
            &own_calibration,
            "--data",
            &own_evaluation,
        ];
        done(&call_words(folder, &words));
        let own = format!(
            "job: run\npipeline: pipeline.yaml\noutput: {several}\ndata: {{calibration: {calibration}, evaluation: {evaluation}}}\n"
        );
        job(folder, "digits_cnn_bn.onnx", &own, 3);
        let plan = format!("plan-{name}");
        done(&call(folder, &format!("plan job.yaml -o {plan}")));
        finish(folder, &plan);
        same(folder, &one, &several, name);
        let all = tasks(folder, &plan);
        let mut seen: Vec<&str> = Vec::new();
        for work in all.iter().filter_map(|task| task["work"].as_str()) {
            if !seen.contains(&work) {
                seen.push(work);
            }
        }
        assert_eq!(seen.join(" "), works, "{name}");
    }
}

/// A plan of four tasks for second moments, of which nothing is done.
fn planned() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(
        fixtures().join("digits_mlp.onnx"),
        folder.path().join("model.onnx"),
    )
    .unwrap();
    std::fs::copy(
        fixtures().join("data/digits_calib.npz"),
        folder.path().join("data.npz"),
    )
    .unwrap();
    let text = "{job: stats, for: gram, model: model.onnx, data: {calibration: {npz: data.npz, samples: 64}}, parts: 4, output: out}";
    std::fs::write(folder.path().join("job.yaml"), text).unwrap();
    done(&call(folder.path(), "plan job.yaml -o plan"));
    folder
}

#[test]
fn work_that_is_done_is_not_done_again_and_plans_are_gone_on_with() {
    let folder = planned();
    let folder = folder.path();
    let called = call(folder, "work plan --task 1-gram-2-of-4 --json");
    assert_eq!(done(&called).json()["done"][0], "1-gram-2-of-4");
    let again = call(
        folder,
        "work plan --task 1-gram-2-of-4 --task 1-gram-1-of-4 --json",
    );
    assert_eq!(done(&again).json()["done"], serde_json::json!(["1-gram-1-of-4"]));
    assert_eq!(again.json()["known"], serde_json::json!(["1-gram-2-of-4"]));
    let early = call(folder, "merge plan --json");
    assert_eq!(early.code, 1);
    assert_eq!(
        early.json()["missing"],
        serde_json::json!(["1-gram-3-of-4", "1-gram-4-of-4"])
    );
    assert!(!folder.join("out").exists());
    let planned = call(folder, "plan job.yaml -o plan --json");
    assert_eq!(done(&planned).json()["pending"].as_array().unwrap().len(), 2);
    // The command of a task does it.
    let task = tasks(folder, "plan").pop().unwrap();
    let command: Vec<&str> = task["command"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(command[0], "secateur");
    done(&call_words(folder, &command[1..]));
    assert!(
        folder
            .join("plan")
            .join(task["output"].as_str().unwrap())
            .is_file()
    );
    done(&call(folder, "work plan"));
    done(&call(folder, "merge plan"));
    assert!(folder.join("out").is_file());
    let replaced = call(folder, "merge plan --json");
    assert_eq!(
        (replaced.code, replaced.error_code().as_str()),
        (2, "output-exists")
    );
}

#[test]
fn a_plan_can_be_moved_with_its_files() {
    let folder = planned();
    let moved = tempfile::tempdir().unwrap();
    let there = moved.path().join("there");
    std::fs::rename(folder.path(), &there).unwrap();
    assert_eq!(call(&there, "work plan").code, 2);
    done(&call(&there, "work plan --base ."));
    done(&call(&there, "merge plan --base ."));
    assert!(there.join("out").is_file());
}

fn refused(folder: &Path, call_: &str, code: &str, words: &str) {
    let called = call(folder, &format!("{call_} --json"));
    assert_eq!(called.code, 2, "{call_}: {}{}", called.text(), called.stderr);
    let message = called.text();
    assert_eq!(called.error_code(), code, "{call_}: {message}");
    assert!(message.contains(words), "{call_}: {message}");
}

#[test]
fn parts_that_are_stale_foreign_or_damaged_are_refused_by_name() {
    // Another model under the name.
    let folder = planned();
    let stale = folder.path();
    std::fs::copy(fixtures().join("digits_cnn.onnx"), stale.join("model.onnx")).unwrap();
    refused(
        stale,
        "work plan --task 1-gram-1-of-4",
        "part-stale",
        "another model",
    );
    refused(stale, "merge plan", "part-stale", "another model");
    refused(stale, "plan job.yaml -o plan", "part-stale", "another model");
    // Other data under the name.
    let folder = planned();
    let other = folder.path();
    std::fs::copy(fixtures().join("data/digits_test.npz"), other.join("data.npz")).unwrap();
    refused(other, "work plan --part 0/2", "part-stale", "another data");
    // Another job in the folder.
    let text = std::fs::read_to_string(other.join("job.yaml")).unwrap();
    std::fs::write(other.join("job.yaml"), text.replace("parts: 4", "parts: 5")).unwrap();
    refused(other, "plan job.yaml -o plan", "plan-other", "another job");
    // Tasks and plans that there are none of.
    refused(
        other,
        "work plan --task 1-gram-9-of-4",
        "plan-task",
        "1-gram-9-of-4",
    );
    refused(other, "work nowhere", "plan", "there is no plan");

    let folder = planned();
    let foreign = folder.path();
    done(&call(foreign, "work plan"));
    let all = tasks(foreign, "plan");
    let part = |at: usize| foreign.join("plan").join(all[at]["output"].as_str().unwrap());
    let own = std::fs::read(part(0)).unwrap();
    std::fs::copy(part(1), part(0)).unwrap();
    refused(foreign, "merge plan", "part-foreign", "another task");
    let mut broken = own.clone();
    *broken.last_mut().unwrap() ^= 1;
    std::fs::write(part(0), &broken).unwrap();
    refused(foreign, "merge plan", "part-foreign", "damaged");
    let released = String::from_utf8_lossy(&own[..40]).replace(env!("CARGO_PKG_VERSION"), "0.0.9");
    std::fs::write(part(0), [released.as_bytes(), &own[40..]].concat()).unwrap();
    refused(foreign, "merge plan", "part-foreign", "release 0.0.9");
    assert!(!foreign.join("out").exists());
    std::fs::write(part(0), own).unwrap();
    done(&call(foreign, "merge plan"));
}

#[test]
fn a_file_that_a_pipeline_reads_counts_among_what_tasks_depend_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let calibration = digits("digits_calib", ", samples: 16");
    let model = fixtures().join("digits_mlp.onnx").display().to_string();
    let collect = |samples: &str| {
        let data = digits("digits_calib", samples);
        let words = [
            "stats", &model, "--for", "gram", "--data", &data, "-o", "gram", "--force",
        ];
        done(&call_words(folder, &words));
    };
    collect(", samples: 16");
    let own = format!(
        "job: run\npipeline: {{steps: [{{quantize-weights: {{type: int8, rounding: gptq, stats: gram, minimum-elements: 0}}}}]}}\n\
         output: out.onnx\ndata: {{calibration: {calibration}}}\n"
    );
    job(folder, "digits_mlp.onnx", &own, 2);
    done(&call(folder, "plan job.yaml -o plan"));
    collect(", samples: 24");
    refused(folder, "work plan", "part-stale", "another pipeline");
}

#[test]
fn jobs_that_are_none_are_refused_at_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (text, place, words) in [
        ("job: stat\nmodel: a\noutput: b\n", 1, "stats"),
        ("job: stats\nmodel: a\n", 1, "output"),
        ("job: stats\nmodel: a\noutput: b\npart: 3\n", 4, "parts"),
        ("job: stats\nmodel: a\noutput: b\nparts: none\n", 4, "number"),
        ("job: run\nmodel: a\noutput: b\n", 1, "pipeline"),
        (
            "job: stats\nmodel: a\noutput: b\npipeline: simplify\n",
            4,
            "means nothing",
        ),
        ("- job\n", 1, "map"),
        (
            "job: stats\nmodel: a\noutput: b\ndata: {calibrate: x}\n",
            4,
            "calibration",
        ),
    ] {
        std::fs::write(folder.join("job.yaml"), text).unwrap();
        let called = call(folder, "plan job.yaml -o plan --json");
        assert_eq!(called.code, 2, "{text}{}", called.text());
        let error = called.json()["error"].clone();
        assert_eq!(error["line"], place, "{text}{error}");
        assert!(error.to_string().contains(words), "{text}{error}");
        assert!(!folder.join("plan").exists(), "{text}");
    }
}

#[test]
fn a_plan_that_cannot_be_made_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = digits("digits_calib", ", samples: 8");
    job(
        folder,
        "nowhere.onnx",
        &format!("job: stats\ndata: {{calibration: {data}}}\noutput: out\n"),
        2,
    );
    refused(folder, "plan job.yaml -o plan", "read-failed", "nowhere.onnx");
    job(
        folder,
        "digits_mlp.onnx",
        "job: stats\ndata: {calibration: nowhere.npz}\noutput: out\n",
        2,
    );
    assert_eq!(call(folder, "plan job.yaml -o plan").code, 2);
    job(folder, "digits_mlp.onnx", "job: stats\noutput: out\n", 2);
    refused(folder, "plan job.yaml -o plan", "data-missing", "calibration");
    assert!(!folder.join("plan").exists());
}

#[test]
fn data_that_are_zero_everywhere_are_refused_in_parts_as_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for kind in ["quantize", "gram"] {
        let own = format!(
            "job: stats\nfor: {kind}\ndata: {{calibration: {{synthetic: {{range: [0, 0]}}, samples: 32}}}}\noutput: out\n"
        );
        job(folder, "digits_mlp.onnx", &own, 3);
        let plan = format!("plan-{kind}");
        done(&call(folder, &format!("plan job.yaml -o {plan}")));
        done(&call(folder, &format!("work {plan}")));
        refused(folder, &format!("merge {plan}"), "statistics", "0 everywhere");
        assert!(!folder.join("out").exists());
    }
}

#[test]
#[cfg(unix)]
fn a_killed_worker_changes_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let data = digits("digits_test", ", labels: y");
    let own = format!("job: stats\nfor: gradients\ndata: {{training: {data}}}\noutput: merged\n");
    job(folder, "digits_cnn_bn.onnx", &own, 6);
    done(&call(folder, "plan job.yaml -o plan"));
    let parts = folder.join("plan/parts");
    let results = || {
        let names = parts.read_dir().unwrap().flatten();
        names.filter(|entry| entry.file_name().len() == 64).count()
    };
    let mut worker = Command::new(env!("CARGO_BIN_EXE_secateur"))
        .args(["work", "plan", "--jobs", "1"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = std::time::Instant::now();
    while results() == 0 && began.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    worker.kill().unwrap();
    worker.wait().unwrap();
    let before = results();
    assert!(before > 0);
    done(&call(folder, "work plan"));
    done(&call(folder, "merge plan"));
    let model = fixtures().join("digits_cnn_bn.onnx").display().to_string();
    let words = [
        "stats",
        &model,
        "--for",
        "gradients",
        "--data",
        &data,
        "-o",
        "whole",
    ];
    done(&call_words(folder, &words));
    same(folder, "whole", "merged", "after a kill");
    let left: Vec<_> = parts
        .read_dir()
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(left.len(), 6, "{left:?}");
}
