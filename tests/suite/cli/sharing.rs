//! Where weights lie: `share`, `convert-external` and `single-file`.

use std::path::Path;

use serde_json::Value;

use super::{Bench, call_with, fixtures};

/// A bench with `digits_mlp.onnx`, and the same with its weights in `digits_mlp_external.data`.
fn bench() -> Bench {
    let bench = Bench::new();
    // Every file that is called a model may be one that reads data.
    std::fs::remove_file(bench.path("broken.onnx")).unwrap();
    for name in [
        "digits_mlp.onnx",
        "digits_mlp_external.onnx",
        "digits_mlp_external.data",
        "digits_cnn.onnx",
    ] {
        std::fs::copy(fixtures().join(name), bench.path(name)).unwrap();
    }
    bench
}

fn names(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Calls what has to be done, and answers its JSON.
fn done(bench: &Bench, arguments: &str) -> Value {
    let called = bench.call(&format!("{arguments} --json"));
    assert_eq!(called.code, 0, "{arguments}\n{}{}", called.text(), called.stderr);
    called.json()
}

fn same(bench: &Bench, a: &str, b: &str) {
    let called = bench.call(&format!("verify {a} {b} --unoptimised --json"));
    assert_eq!(called.json()["verdict"], "equal", "{a} {b}: {}", called.text());
}

const SHARED: &str = "share digits_mlp.onnx digits_mlp_external.onnx --data common.data -o both";

#[test]
fn models_with_weights_in_common_share_one_file() {
    let bench = bench();
    let document = done(&bench, SHARED);
    let both = bench.path("both");
    assert_eq!(
        names(&both),
        ["common.data", "digits_mlp.onnx", "digits_mlp_external.onnx"]
    );
    let size = |path: &Path| path.metadata().unwrap().len();
    // Two weights of 64 x 32 and 32 x 10 floats; biases are small.
    assert_eq!(size(&both.join("common.data")), 4 * (64 * 32 + 32 * 10));
    let expected = serde_json::json!({
        "contents": 2, "tensors": 4, "bytes": 9472, "saved": 9472, "common": 2,
    });
    assert_eq!(document["shared"], expected, "{document}");
    assert_eq!(document["data"], "both/common.data");
    let before = [
        "digits_mlp.onnx",
        "digits_mlp_external.onnx",
        "digits_mlp_external.data",
    ]
    .map(|name| size(&bench.path(name)));
    assert_eq!(document["before"], before.iter().sum::<u64>());
    let after: u64 = names(&both).iter().map(|name| size(&both.join(name))).sum();
    assert_eq!(document["after"], after);
    let models = document["models"].as_array().unwrap();
    assert_eq!(models[0]["before"], before[0]);
    assert_eq!(models[1]["before"], before[1] + before[2]);
    for model in models {
        assert_eq!(model["data_bytes"], 9472);
        let output = model["output"].as_str().unwrap();
        assert_eq!(model["after"], size(&bench.path(output)));
        same(&bench, "digits_mlp.onnx", output);
        assert_eq!(bench.call(&format!("inspect {output} --strict")).code, 0);
    }
    // In words, with what was there replaced.
    let called = bench.call(&format!("{SHARED} --force"));
    assert_eq!(
        (called.code, called.stderr.as_str()),
        (0, ""),
        "{}",
        called.text()
    );
    for words in [
        "9472 of the data file: both/digits_mlp.onnx",
        "9472 bytes: both/common.data",
        "shared: 4 tensors are 2 contents, stored once: 9472 bytes less",
        "%: both",
    ] {
        assert!(called.text().contains(words), "{words}\n{}", called.text());
    }
}

#[test]
fn a_shared_model_that_is_rewritten_leaves_the_data_of_the_others() {
    let bench = bench();
    done(&bench, SHARED);
    let data = bench.read("both/common.data");
    let first = done(&bench, "bind both/digits_mlp.onnx --bind batch=1 --in-place");
    assert!(!first["warnings"].to_string().contains("common.data"), "{first}");
    assert_eq!(bench.read("both/common.data"), data);
    same(&bench, "digits_mlp.onnx", "both/digits_mlp_external.onnx");
    // It has data of its own now.
    assert_eq!(names(&bench.path("both")).len(), 4);
    assert_eq!(first["files"].as_array().unwrap().len(), 2, "{first}");
    // The last one that needs it: nobody knows who wrote a file of that name, so it is left, and that is said.
    let last = done(
        &bench,
        "bind both/digits_mlp_external.onnx --bind batch=1 --in-place",
    );
    let warnings = last["warnings"].to_string();
    assert!(
        warnings.contains("common.data") && warnings.contains("it is left"),
        "{warnings}"
    );
    assert_eq!(bench.read("both/common.data"), data);
}

#[test]
fn packed_models_are_shared_as_models() {
    let bench = bench();
    done(&bench, "pack digits_mlp.onnx -o packed.sct");
    let document = done(
        &bench,
        "share packed.sct digits_mlp.onnx --data common.data -o both",
    );
    assert_eq!(document["models"][0]["output"], "both/packed.onnx");
    assert_eq!(document["shared"]["common"], 2);
    assert_eq!(bench.read("both/packed.onnx"), bench.read("both/digits_mlp.onnx"));
    same(&bench, "digits_mlp.onnx", "both/packed.onnx");
}

#[test]
fn what_is_not_shared_is_said() {
    let bench = bench();
    let called = bench.call("share digits_mlp.onnx digits_cnn.onnx --data common.data -o both");
    assert_eq!(called.code, 0, "{}", called.stderr);
    assert!(called.stderr.contains("nothing is shared"), "{}", called.stderr);
    assert_eq!(names(&bench.path("both")).len(), 3);
    same(&bench, "digits_cnn.onnx", "both/digits_cnn.onnx");
    let called = bench.call("share relu.onnx dead.onnx --data common.data -o small");
    assert_eq!(called.code, 0, "{}", called.stderr);
    assert!(
        called.stderr.contains("there is no data file"),
        "{}",
        called.stderr
    );
    assert_eq!(names(&bench.path("small")), ["dead.onnx", "relu.onnx"]);
    assert_eq!(bench.read("small/relu.onnx"), bench.read("relu.onnx"));
    let quiet = bench.call("share relu.onnx dead.onnx --data common.data -o small --force --quiet");
    assert_eq!(
        (quiet.code, quiet.text().as_str(), quiet.stderr.as_str()),
        (0, "", "")
    );
}

#[test]
fn names_that_clash_and_files_that_exist_are_refused_and_nothing_is_written() {
    let bench = bench();
    for folder in ["a", "taken", "theirs"] {
        std::fs::create_dir(bench.path(folder)).unwrap();
    }
    std::fs::copy(bench.path("digits_mlp.onnx"), bench.path("a/digits_mlp.onnx")).unwrap();
    std::fs::write(bench.path("taken/common.data"), "theirs").unwrap();
    std::fs::write(bench.path("file"), "").unwrap();
    done(&bench, "share digits_mlp.onnx --data common.data -o theirs");
    let data = bench.read("theirs/common.data");
    let all = || ["", "a", "taken", "theirs"].map(|folder| names(&bench.path(folder)));
    let before = all();
    for (arguments, code) in [
        (
            "digits_mlp.onnx a/digits_mlp.onnx --data d -o out",
            "output-is-output",
        ),
        (
            "digits_mlp.onnx digits_mlp.onnx --data d -o out",
            "output-is-output",
        ),
        (
            "digits_mlp.onnx --data digits_mlp.onnx -o out --force",
            "output-is-output",
        ),
        ("digits_mlp.onnx --data sub/d -o out", "usage"),
        ("digits_mlp.onnx --data .. -o out", "usage"),
        ("digits_mlp.onnx --data c:d -o out", "usage"),
        ("- --data d -o out", "usage"),
        ("digits_mlp.onnx --data d -o . --force", "output-is-input"),
        (
            "a/digits_mlp.onnx --data digits_mlp_external.data -o . --force",
            "external-output-exists",
        ),
        (
            "digits_mlp_external.onnx --data digits_mlp_external.data -o . --force",
            "output-is-input",
        ),
        ("digits_cnn.onnx --data common.data -o taken", "output-exists"),
        ("digits_mlp.onnx --data d -o a", "output-exists"),
        // Another model there reads it.
        ("digits_cnn.onnx --data common.data -o theirs", "output-exists"),
        (
            "digits_cnn.onnx --data common.data -o theirs --force",
            "external-output-exists",
        ),
        ("digits_mlp.onnx --data d -o file", "output-exists"),
        ("digits_mlp.onnx --data d -o file --force", "write-failed"),
        ("digits_mlp.onnx --data d -o no/such", "write-failed"),
        ("digits_mlp.onnx missing.onnx --data d -o out", "read-failed"),
        ("digits_mlp.onnx clean.yaml --data d -o out", "malformed-protobuf"),
    ] {
        let called = bench.call(&format!("share {arguments} --json"));
        called.is_refused(code, arguments);
        assert_eq!(all(), before, "{arguments}");
    }
    assert_eq!(bench.read("theirs/common.data"), data);
    same(&bench, "digits_mlp.onnx", "theirs/digits_mlp.onnx");
    // What nobody there reads is replaced where that is allowed.
    done(
        &bench,
        "share digits_mlp.onnx --data common.data -o taken --force",
    );
    assert_eq!(bench.read("taken/common.data"), data);
    // Data that an input reads are no output, whatever they are called.
    std::fs::create_dir(bench.path("in")).unwrap();
    for name in ["digits_mlp_external.onnx", "digits_mlp_external.data"] {
        std::fs::copy(bench.path(name), bench.path(&format!("in/{name}"))).unwrap();
    }
    std::fs::rename(bench.path("in/digits_mlp_external.onnx"), bench.path("in/m.onnx")).unwrap();
    std::fs::hard_link(
        bench.path("in/digits_mlp_external.data"),
        bench.path("taken/linked.data"),
    )
    .unwrap();
    let called = bench.call("share in/m.onnx --data linked.data -o taken --force --json");
    called.is_refused("output-is-input-data", "linked");
}

#[test]
fn weights_go_out_and_come_back() {
    let bench = bench();
    let moved = done(&bench, "convert-external digits_mlp.onnx -o apart.onnx");
    assert_eq!(
        (&moved["changed"], &moved["tensors"]),
        (&true.into(), &2.into()),
        "{moved}"
    );
    assert_eq!(moved["bytes"], 9472, "{moved}");
    let files = moved["files"].as_array().unwrap();
    let data = files[1].as_str().unwrap();
    assert!(data.starts_with("apart.") && data.ends_with(".data"), "{moved}");
    let sizes = bench.path("apart.onnx").metadata().unwrap().len() + bench.read(data).len() as u64;
    assert_eq!(moved["after"], sizes);
    same(&bench, "digits_mlp.onnx", "apart.onnx");
    let called = bench.call("single-file apart.onnx -o whole.onnx");
    assert_eq!(called.code, 0, "{}", called.stderr);
    let text = called.text();
    assert!(
        text.contains("moved into the model: 2 tensors of 9472 bytes")
            && text.contains("written: whole.onnx"),
        "{text}"
    );
    assert_eq!(bench.read("whole.onnx"), bench.read("digits_mlp.onnx"));
    // To a stream and from one.
    let piped = bench.call("single-file apart.onnx -o -");
    assert_eq!(
        (piped.code, piped.stdout),
        (0, bench.read("digits_mlp.onnx")),
        "{}",
        piped.stderr
    );
    let stdin = bench.read("digits_mlp.onnx");
    let called = call_with(
        bench.folder(),
        "convert-external - -o from.onnx --data w.data",
        &stdin,
    );
    assert_eq!(called.code, 0, "{}", called.stderr);
    assert!(
        called.text().contains("written: from.onnx, w.data"),
        "{}",
        called.text()
    );
    // Whatever the size, and none of it.
    let all = done(
        &bench,
        "convert-external digits_mlp.onnx -o all.onnx --smallest 1",
    );
    assert_eq!(all["tensors"], 4);
    let again = done(
        &bench,
        "convert-external digits_mlp_external.onnx -o again.onnx --smallest 1 --data all.data",
    );
    assert_eq!(
        (&again["tensors"], &again["files"][1]),
        (&4.into(), &"all.data".into())
    );
    same(&bench, "digits_mlp.onnx", "again.onnx");
}

#[test]
fn a_model_is_converted_in_its_place() {
    let bench = bench();
    std::fs::copy(bench.path("digits_mlp.onnx"), bench.path("m.onnx")).unwrap();
    let names = bench.names();
    done(&bench, "convert-external m.onnx --in-place");
    assert_eq!(bench.names().len(), names.len() + 1);
    same(&bench, "digits_mlp.onnx", "m.onnx");
    let moved = done(&bench, "single-file m.onnx --in-place");
    assert!(moved["notes"].to_string().contains("removed"), "{moved}");
    assert_eq!(bench.names(), names);
    assert_eq!(bench.read("m.onnx"), bench.read("digits_mlp.onnx"));
    // Data that others wrote are left, and that is said.
    let called = bench.call("single-file digits_mlp_external.onnx --in-place");
    assert_eq!(called.code, 0, "{}", called.stderr);
    assert!(called.stderr.contains("it is left"), "{}", called.stderr);
    assert_eq!(bench.names(), names);
    assert_eq!(
        bench.read("digits_mlp_external.onnx"),
        bench.read("digits_mlp.onnx")
    );
}

#[test]
fn where_nothing_moves_the_reason_is_said_and_nothing_is_written() {
    let bench = bench();
    for (arguments, reason) in [
        (
            "convert-external relu.onnx",
            "no initializer has 1024 bytes or more",
        ),
        (
            "convert-external digits_mlp.onnx --smallest 100000",
            "no initializer has 100000 bytes or more",
        ),
        ("single-file digits_mlp.onnx", "the model has no external data"),
    ] {
        let called = bench.call(&format!("{arguments} -o never.onnx"));
        assert_eq!(called.code, 1, "{arguments}\n{}", called.stderr);
        assert!(
            called.stderr.contains("changed nothing") && called.stderr.contains(reason),
            "{arguments}\n{}",
            called.stderr
        );
        assert!(called.text().contains("--allow-unchanged"), "{}", called.text());
        let document = bench.call(&format!("{arguments} -o never.onnx --json"));
        assert_eq!(document.code, 1, "{arguments}");
        let document = document.json();
        assert_eq!(
            (&document["changed"], &document["output"]),
            (&false.into(), &Value::Null)
        );
        assert!(
            document["reason"].as_str().unwrap().contains(reason),
            "{document}"
        );
        assert!(!bench.path("never.onnx").exists(), "{arguments}");
        let model = arguments.split(' ').find(|word| word.ends_with(".onnx")).unwrap();
        let called = bench.call(&format!("{arguments} -o same.onnx --allow-unchanged --force"));
        assert_eq!(called.code, 0, "{arguments}\n{}", called.stderr);
        assert_eq!(bench.read("same.onnx"), bench.read(model), "{arguments}");
        let called = bench.call(&format!("{arguments} --in-place --allow-unchanged"));
        assert_eq!(called.code, 0, "{arguments}\n{}", called.stderr);
    }
}

#[test]
fn outputs_of_conversions_are_refused_as_those_of_other_verbs() {
    let bench = bench();
    let before = bench.names();
    for (arguments, code) in [
        ("convert-external digits_mlp.onnx", "usage"),
        ("convert-external digits_mlp.onnx -o -", "usage"),
        ("convert-external digits_mlp.onnx -o out.onnx --data a/b", "usage"),
        ("convert-external digits_mlp.onnx -o relu.onnx", "output-exists"),
        (
            "convert-external digits_mlp.onnx -o digits_mlp.onnx",
            "output-is-input",
        ),
        (
            "convert-external digits_mlp.onnx -o out.onnx --data relu.onnx",
            "output-exists",
        ),
        (
            "convert-external digits_mlp.onnx -o out.onnx --data out.onnx",
            "output-is-output",
        ),
        // A data file cannot be replaced in one step with its model.
        (
            "convert-external digits_mlp.onnx -o out.onnx --data relu.onnx --force",
            "external-output-exists",
        ),
        (
            "convert-external digits_mlp_external.onnx --in-place --data digits_mlp_external.data --force",
            "output-is-input-data",
        ),
        ("single-file digits_mlp_external.onnx", "usage"),
        (
            "single-file digits_mlp_external.onnx -o relu.onnx",
            "output-exists",
        ),
        (
            "single-file digits_mlp_external.onnx -o digits_mlp_external.data --force",
            "output-is-input-data",
        ),
        ("single-file - --in-place", "usage"),
        ("single-file clean.yaml -o out.onnx", "malformed-protobuf"),
    ] {
        let called = bench.call(&format!("{arguments} --json"));
        called.is_refused(code, arguments);
        assert_eq!(bench.names(), before, "{arguments}");
    }
}

#[test]
fn what_one_file_cannot_hold_is_refused_with_its_size() {
    let bench = bench();
    let bytes = (1u64 << 31) + 4096;
    bench.model(
        "large",
        &format!(
            "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1] x) => (float[1] y)
             <uint8[{bytes}] w = [\"location\": \"large.data\"]> {{ y = Relu(x) }}"
        ),
    );
    // A file with nothing in it takes no room.
    let sparse = std::fs::File::create(bench.path("large.data")).unwrap();
    if sparse.set_len(bytes).is_err() {
        crate::corpus::skip("no file of 2 GiB");
        return;
    }
    let called = bench.call("single-file large.onnx -o whole.onnx --json");
    called.is_refused("model-too-large", "large");
    let document = called.json();
    let message = document["error"]["message"].as_str().unwrap();
    assert!(message.contains("2147483647"), "{message}");
    assert!(!bench.path("whole.onnx").exists());
    let piped = bench.call("single-file large.onnx -o -");
    assert_eq!((piped.code, piped.stdout.len()), (2, 0), "{}", piped.stderr);
}
