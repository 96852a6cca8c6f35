//! No output is an input or another output, whatever --force says, and all outputs are checked before the work.

use std::collections::BTreeSet;

use clap::{Arg, Command};
use secateur::data::write_npz;
use secateur::ir::Tensor;
use secateur::passes::registry;

use super::Bench;

/// Options of verbs that are no passes which name a file that is written.
const WRITTEN: [&str; 5] = ["baseline", "output", "output_file", "report", "state"];

/// What help says first of an option that names an output, and of others that begin so.
const BEGINNINGS: [&str; 4] = [
    "Where the ",
    "Where to write",
    "Write a report",
    "Write the merged",
];

/// Options that take an output, by the verb's words: `(words, options)`.
fn writing_verbs() -> Vec<(String, Vec<String>)> {
    let entries = registry::entries();
    fn walk(command: &Command, before: &str, found: &mut Vec<(String, Vec<Arg>)>) {
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            let words = format!("{before}{}", verb.get_name());
            walk(verb, &format!("{words} "), found);
            let arguments = verb
                .get_arguments()
                .filter(|argument| argument.get_long().is_some());
            found.push((words, arguments.cloned().collect()));
        }
    }
    let mut all = Vec::new();
    walk(&secateur::cli::command(), "", &mut all);
    let mut found = Vec::new();
    for (words, arguments) in all {
        let pass = entries.iter().find(|entry| entry.name == words.replace(' ', "-"));
        let mut options = Vec::new();
        for argument in &arguments {
            let id = argument.get_id().as_str();
            let property = pass.and_then(|pass| pass.schema.as_value()["properties"].get(id));
            let written = property.is_some_and(|property| property["x-file"] == "write")
                || argument.get_action().takes_values() && WRITTEN.contains(&id);
            // `gradients --output` names an output of the model.
            let written = written && !(words == "gradients" && id == "output");
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            if BEGINNINGS.iter().any(|beginning| help.starts_with(beginning)) {
                assert!(written, "{words} --{id}: {help}");
            }
            if written {
                options.push(argument.get_long().unwrap().to_owned());
            }
        }
        if !options.is_empty() {
            found.push((words, options));
        }
    }
    found
}

/// Further words that a verb needs to get as far as its files.
fn needed(words: &str) -> &'static str {
    match words {
        "run" => "clean.yaml m.json",
        "verify" | "diff" => "m.json relu.onnx",
        "ci" => "m.json --update",
        "share" => "m.json relu.onnx --data common.data",
        "gradients" => "m.json --loss mean-squared-error",
        "stats" | "evaluate" | "features" => "m.json --data x.npz",
        "stats merge" | "evaluate merge" => "m.json",
        "chain" | "transfer-merge" | "transfer merge" => "m.json relu.onnx",
        "transfer-parameters" | "transfer parameters" => "relu.onnx m.json",
        _ => "m.json",
    }
}

/// Files are made in `src/files` alone: complete, or not at all.
#[test]
fn no_other_code_makes_files() {
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("src/files") {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") || path.ends_with("tests.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap();
            let code = product
                .lines()
                .filter(|line| !line.trim_start().starts_with("///"));
            let product: String = code.collect();
            for call in [
                "fs::write(",
                "File::create",
                "OpenOptions",
                "NamedTempFile",
                "fs::copy(",
            ] {
                assert!(!product.contains(call), "{}: {call}", path.display());
            }
            looked_at += 1;
        }
    }
    assert!(looked_at > 300);
}

fn bench() -> Bench {
    let bench = Bench::new();
    std::fs::copy(bench.path("dead.onnx"), bench.path("m.json")).unwrap();
    let x = Tensor::from_slice::<f32>(&[2, 3], &[1.; 6]).unwrap();
    let y = Tensor::from_slice::<i64>(&[2], &[0, 1]).unwrap();
    write_npz(&bench.path("x.npz"), [("x", &x), ("y", &y)]).unwrap();
    bench
}

#[test]
fn no_verb_writes_over_its_model_by_any_of_its_options() {
    let bench = bench();
    let before = bench.read("m.json");
    let mut tried = BTreeSet::new();
    let mut calls = 0;
    for (words, options) in writing_verbs() {
        for option in &options {
            let mut arguments = format!("{words} {} --{option} m.json --force --json", needed(&words));
            if options.iter().any(|other| other == "output") && option != "output" {
                arguments.push_str(" -o new.json");
            }
            let called = bench.call(&arguments);
            called.is_refused("output-is-input", &arguments);
            assert_eq!(bench.read("m.json"), before, "{arguments}");
            tried.insert(option.clone());
            calls += 1;
        }
    }
    println!("{calls} options of verbs that write: {tried:?}");
    let expected = [
        "baseline",
        "history",
        "masks",
        "output",
        "output-file",
        "pipeline",
        "report",
        "state",
        "write-pipeline",
    ];
    assert!(tried.iter().eq(expected.iter()), "{tried:?}");
    assert!(calls > 60 && !bench.path("new.json").exists());
}

#[test]
fn whatever_a_command_reads_is_no_output_of_it() {
    let bench = bench();
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for name in ["digits_mlp_external.onnx", "digits_mlp_external.data"] {
        std::fs::copy(fixtures.join(name), bench.path(name)).unwrap();
    }
    std::fs::create_dir(bench.path("rules")).unwrap();
    std::fs::write(bench.path("rules/r.yaml"), "").unwrap();
    std::fs::create_dir(bench.path("images")).unwrap();
    std::fs::write(bench.path("images/a.png"), "").unwrap();
    std::fs::write(bench.path("labels.tsv"), "a.png\t1\n").unwrap();
    std::fs::write(
        bench.path("data.yaml"),
        "images: { folder: images, labels: labels.tsv }\n",
    )
    .unwrap();
    std::fs::hard_link(bench.path("relu.onnx"), bench.path("hard.onnx")).unwrap();
    let pipeline = "version: 1\ndata:\n  evaluation: data.yaml\nsteps:\n  - transfer-parameters: { from: sigmoid.onnx }\n";
    std::fs::write(bench.path("transfer.yaml"), pipeline).unwrap();
    let mut cases = vec![
        ("run clean.yaml relu.onnx -o clean.yaml", "output-is-input"),
        (
            "run clean.yaml relu.onnx --in-place --report clean.yaml",
            "output-is-input",
        ),
        (
            "run clean.yaml relu.onnx --in-place --report relu.onnx",
            "output-is-input",
        ),
        ("run clean.yaml relu.onnx -o hard.onnx", "output-is-input"),
        ("run transfer.yaml relu.onnx -o sigmoid.onnx", "output-is-input"),
        (
            "run transfer.yaml relu.onnx -o out.onnx --report data.yaml",
            "output-is-input",
        ),
        (
            "run transfer.yaml relu.onnx -o out.onnx --report labels.tsv",
            "output-is-input",
        ),
        ("run transfer.yaml relu.onnx -o images/a.png", "output-is-input"),
        ("run transfer.yaml sigmoid.onnx --in-place", "output-is-input"),
        (
            "transfer parameters sigmoid.onnx relu.onnx -o sigmoid.onnx",
            "output-is-input",
        ),
        ("merge-lora relu.onnx --adapter x.npz -o x.npz", "output-is-input"),
        (
            "simplify relu.onnx --rules rules -o rules/r.yaml",
            "output-is-input",
        ),
        (
            "simplify digits_mlp_external.onnx -o digits_mlp_external.data",
            "output-is-input-data",
        ),
        (
            "simplify digits_mlp_external.onnx -o out.onnx --report digits_mlp_external.data",
            "output-is-input-data",
        ),
        (
            "transfer parameters digits_mlp_external.onnx relu.onnx -o digits_mlp_external.data",
            "output-is-input-data",
        ),
        ("stats relu.onnx --data x.npz -o x.npz", "output-is-input"),
        ("features relu.onnx --data x.npz -o ./x.npz", "output-is-input"),
        ("evaluate relu.onnx --data x.npz --state x.npz", "output-is-input"),
        (
            "evaluate relu.onnx --data x.npz --against m.json --report m.json",
            "output-is-input",
        ),
        (
            "run clean.yaml relu.onnx -o out.onnx --report out.onnx",
            "output-is-output",
        ),
        (
            "run clean.yaml relu.onnx -o out.onnx --report images/../out.onnx",
            "output-is-output",
        ),
        (
            "prune channels relu.onnx --ratio 0.5 -o out.onnx --history out.onnx",
            "output-is-output",
        ),
        (
            "evaluate relu.onnx --data x.npz --state s.json --report s.json",
            "output-is-output",
        ),
        ("run clean.yaml relu.onnx -o images", "not-a-file"),
        (
            "run clean.yaml relu.onnx -o out.onnx --report images",
            "not-a-file",
        ),
        ("run clean.yaml relu.onnx -o no/such/out.onnx", "write-failed"),
        (
            "run clean.yaml relu.onnx -o out.onnx --report no/such/r.json",
            "write-failed",
        ),
        ("run clean.yaml relu.onnx -o relu.onnx/out.onnx", "write-failed"),
        ("features relu.onnx --data x.npz -o -", "usage"),
        ("run clean.yaml relu.onnx -o out.onnx --report -", "usage"),
        ("verify - -", "usage"),
        ("diff - -", "usage"),
        ("evaluate - --data x.npz --against -", "usage"),
    ];
    if cfg!(unix) {
        std::os::unix::fs::symlink("relu.onnx", bench.path("soft.onnx")).unwrap();
        std::os::unix::fs::symlink(".", bench.path("here")).unwrap();
        cases.extend([
            ("run clean.yaml relu.onnx -o soft.onnx", "output-is-input"),
            ("run clean.yaml soft.onnx -o relu.onnx", "output-is-input"),
            ("run clean.yaml here/relu.onnx -o relu.onnx", "output-is-input"),
            (
                "run clean.yaml relu.onnx -o out.onnx --report here/out.onnx",
                "output-is-output",
            ),
            ("run clean.yaml relu.onnx -o /dev/null", "not-a-file"),
            (
                "run clean.yaml relu.onnx -o out.onnx --report /dev/full",
                "not-a-file",
            ),
        ]);
    }
    let (names, count) = (bench.names(), cases.len());
    for (arguments, code) in cases {
        bench
            .call(&format!("{arguments} --force --json"))
            .is_refused(code, arguments);
        assert_eq!(bench.names(), names, "{arguments}");
    }
    println!("{count} commands refused");
    // What is neither read nor written twice is replaced as --force says.
    std::fs::write(bench.path("sigmoid.json"), "").unwrap();
    for arguments in [
        "run clean.yaml dead.onnx -o relu.onnx --report sigmoid.json --force",
        "run clean.yaml dead.onnx --in-place --report m.json --force",
    ] {
        assert_eq!(bench.call(arguments).code, 0, "{arguments}");
    }
}

#[test]
fn every_output_is_checked_before_the_work() {
    let bench = bench();
    for arguments in [
        "run clean.yaml broken.onnx -o out.onnx --report relu.onnx",
        "stats broken.onnx --data x.npz -o relu.onnx",
        "features broken.onnx --data x.npz -o relu.onnx",
        "evaluate broken.onnx --data x.npz --report m.json",
        "prune channels broken.onnx --ratio 0.5 -o out.onnx --history relu.onnx",
        "prune weights broken.onnx -o out.onnx --masks relu.onnx",
    ] {
        bench
            .call(&format!("{arguments} --json"))
            .is_refused("output-exists", arguments);
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_to_is_refused_before_the_work() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = bench();
    std::fs::create_dir(bench.path("closed")).unwrap();
    std::fs::set_permissions(bench.path("closed"), std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(bench.path("closed/probe"), "").is_ok() {
        crate::corpus::skip("this user writes to every folder");
        return;
    }
    let called = bench.call("run clean.yaml broken.onnx -o closed/out.onnx --json");
    called.is_refused("write-failed", "closed");
}
