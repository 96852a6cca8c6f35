//! The library as a program uses it: what it gives is what the command line gives.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use secateur::{
    Array, CancelToken, Data, Error, Model, Options, Pipeline, Purpose, Runtime, evaluate, explain, stats,
    verify,
};
use serde_json::json;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn open(name: &str) -> Model {
    Model::open(fixture(name)).unwrap()
}

fn npz(name: &str) -> Data {
    Data::npz(fixture(name)).unwrap()
}

/// Calls the command line, which has to answer 0.
fn call(arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_secateur"))
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}\n{said}");
}

/// The images of the calibration set, `[300, 1, 8, 8]`.
fn images() -> (Vec<u64>, Vec<f32>) {
    let read = secateur::data::read_weights(&fixture("data/digits_calib.npz")).unwrap();
    let (_, x) = read.into_iter().find(|(name, _)| name == "x").unwrap();
    (x.dims().to_vec(), x.view::<f32>().unwrap().into_owned())
}

/// The same in pieces of so many samples.
fn pieces(samples: usize) -> Vec<[(&'static str, Array); 1]> {
    let (dims, values) = images();
    let entry = values.len() / dims[0] as usize;
    let piece = |values: &[f32]| {
        let shape = [values.len() / entry, 1, 8, 8];
        [("x", Array::new(shape, values).unwrap())]
    };
    values.chunks(samples * entry).map(piece).collect()
}

#[test]
fn a_pipeline_writes_the_bytes_that_the_command_line_writes() {
    let folder = tempfile::tempdir().unwrap();
    let [by_program, by_library] = ["a.onnx", "b.onnx"].map(|name| folder.path().join(name));
    let (calibration, evaluation) = (fixture("data/digits_calib.npz"), fixture("data/digits_test.yaml"));
    let role = |role: &str, path: &Path| format!("{role}={}", path.display());
    call(&[
        "run",
        "edge-int8",
        &fixture("digits_cnn_bn.onnx").to_string_lossy(),
        "--data",
        &role("calibration", &calibration),
        "--data",
        &role("evaluation", &evaluation),
        "-o",
        &by_program.to_string_lossy(),
    ]);
    let options = Options::new()
        .data("calibration", Data::npz(&calibration).unwrap())
        .data("evaluation", Data::open(evaluation.to_string_lossy()).unwrap())
        .jobs(2)
        .output(&by_library);
    let outcome = Pipeline::preset("edge-int8")
        .unwrap()
        .run(&open("digits_cnn_bn.onnx"), &options)
        .unwrap();
    assert!(outcome.accepted(), "{:?}", outcome.report.gates);
    assert_eq!(outcome.report.output, Some(by_library.display().to_string()));
    assert!(std::fs::read(by_program).unwrap() == std::fs::read(&by_library).unwrap());
    assert!(outcome.model.to_bytes().unwrap() == std::fs::read(by_library).unwrap());
}

#[test]
fn a_step_writes_the_bytes_that_its_verb_writes() {
    let folder = tempfile::tempdir().unwrap();
    let [by_program, by_library] = ["a.onnx", "b.onnx"].map(|name| folder.path().join(name));
    let calibration = fixture("data/digits_calib.npz");
    call(&[
        "quantize",
        &fixture("digits_cnn.onnx").to_string_lossy(),
        "--data",
        &calibration.to_string_lossy(),
        "--calibrate",
        "entropy",
        "-o",
        &by_program.to_string_lossy(),
    ]);
    let options = Options::new().data("calibration", Data::npz(&calibration).unwrap());
    let step = Pipeline::step("quantize", json!({ "calibrate": "entropy" })).unwrap();
    let outcome = step.run(&open("digits_cnn.onnx"), &options).unwrap();
    outcome.save(&by_library).unwrap();
    assert!(std::fs::read(by_program).unwrap() == std::fs::read(by_library).unwrap());
}

#[test]
fn samples_are_the_same_from_a_file_from_memory_and_from_an_iterator() {
    let model = open("digits_cnn.onnx");
    let (dims, values) = images();
    let shape: Vec<usize> = dims.iter().map(|size| *size as usize).collect();
    let sources = [
        npz("data/digits_calib.npz").samples(96),
        Data::arrays([("x", (shape, values))]).unwrap().samples(96),
        Data::stream(pieces(7)).unwrap().samples(96),
    ];
    let quantized = sources.map(|data| {
        let options = Options::new().data("calibration", data).provenance(false);
        let outcome = Pipeline::step("quantize", ())
            .unwrap()
            .run(&model, &options)
            .unwrap();
        assert!(outcome.report.verify.unwrap().samples > 0);
        outcome.model.to_bytes().unwrap()
    });
    assert!(quantized[0] == quantized[1], "memory");
    assert!(quantized[0] == quantized[2], "iterator");
}

#[test]
fn arrays_without_a_file_have_a_digest_by_which_a_result_knows_them() {
    let model = open("digits_mlp.onnx");
    let of = |samples: usize, count: usize| {
        let data = Data::stream(pieces(samples).into_iter().take(count)).unwrap();
        let options = Options::new().data("calibration", data).compare(false);
        let outcome = Pipeline::step("quantize", ())
            .unwrap()
            .run(&model, &options)
            .unwrap();
        outcome.model.to_bytes().unwrap()
    };
    assert!(of(6, 10) == of(12, 5), "the same samples in other pieces");
    assert!(of(6, 10) != of(6, 9), "fewer samples");
}

#[test]
fn what_is_measured_on_arrays_is_what_is_measured_on_their_file() {
    let model = open("digits_cnn.onnx");
    let read = secateur::data::read_weights(&fixture("data/digits_test.npz")).unwrap();
    let take = |name: &str| read.iter().find(|(own, _)| own == name).unwrap().1.clone();
    let (x, y) = (take("x"), take("y"));
    let shape = |dims: &[u64]| dims.iter().map(|size| *size as usize).collect::<Vec<_>>();
    let arrays = vec![
        (
            "x",
            Array::new(shape(x.dims()), x.view::<f32>().unwrap()).unwrap(),
        ),
        ("y", Array::new(shape(y.dims()), y.to_i64().unwrap()).unwrap()),
    ];
    let figures = [
        npz("data/digits_test.npz"),
        Data::arrays(arrays).unwrap().labels("y"),
    ]
    .map(|data| {
        let options = Options::new()
            .data("evaluation", data.samples(120).batch(8))
            .latency_runs(0);
        let found = evaluate(&model, &options).unwrap();
        (found.figures.samples, found.figures.accuracy, found.figures.f1)
    });
    assert_eq!(figures[0], figures[1]);
    assert_eq!(figures[0].0, 120);
    let data = Data::stream(pieces(9)).unwrap().samples(20);
    let options = Options::new().data("calibration", data);
    assert!(verify(&model, &model, &options).unwrap().holds());
    assert_eq!(
        stats(&model, &Purpose::Quantize, &options).unwrap().ranges(),
        [(0, 20)]
    );
}

/// Cancels when progress of this name comes; answers the error and the names that came.
fn cancelled_at(name: &'static str, folder: &Path) -> (Error, BTreeSet<String>) {
    let token = CancelToken::new();
    let names = Arc::new(Mutex::new(BTreeSet::new()));
    let (other, seen) = (token.clone(), names.clone());
    let options = Options::new()
        .data("calibration", npz("data/digits_calib.npz"))
        .jobs(1)
        .output(folder.join("never.onnx"))
        .report(folder.join("never.json"))
        .cancel(&token)
        .progress(move |what, _, _| {
            seen.lock().unwrap().insert(what.to_owned());
            if what == name {
                other.cancel();
            }
        });
    let pipeline = Pipeline::step("simplify", ())
        .unwrap()
        .then("quantize", ())
        .unwrap();
    let error = pipeline.run(&open("digits_cnn_bn.onnx"), &options).unwrap_err();
    let names = names.lock().unwrap().clone();
    (error, names)
}

#[test]
fn cancelled_work_is_an_error_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["simplify", "quantize", "verify"] {
        let (error, names) = cancelled_at(name, folder.path());
        assert_eq!(error.code(), "cancelled", "{name}: {error}");
        assert!(names.contains(name), "{names:?}");
        assert_eq!(
            names.contains("quantize"),
            name != "simplify",
            "{name}: {names:?}"
        );
        assert_eq!(names.contains("verify"), name == "verify", "{name}: {names:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let token = CancelToken::new();
    token.cancel();
    let model = open("digits_cnn.onnx");
    let options = Options::new()
        .data("evaluation", npz("data/digits_test.npz"))
        .cancel(&token);
    assert_eq!(verify(&model, &model, &options).unwrap_err().code(), "cancelled");
    assert_eq!(evaluate(&model, &options).unwrap_err().code(), "cancelled");
    let options = options.data("calibration", npz("data/digits_calib.npz"));
    assert_eq!(
        stats(&model, &Purpose::Quantize, &options).unwrap_err().code(),
        "cancelled"
    );
}

#[test]
fn samples_that_run_after_a_token_is_set_are_no_more_than_were_on_their_way() {
    let token = CancelToken::new();
    let (other, done) = (token.clone(), Arc::new(AtomicU64::new(0)));
    let counted = done.clone();
    let options = Options::new()
        .data("evaluation", npz("data/digits_test.npz"))
        .jobs(2)
        .cancel(&token)
        .progress(move |_, samples, _| {
            counted.fetch_max(samples, Ordering::Relaxed);
            if samples >= 5 {
                other.cancel();
            }
        });
    let error = evaluate(&open("digits_cnn.onnx"), &options).unwrap_err();
    assert_eq!(error.code(), "cancelled");
    let done = done.load(Ordering::Relaxed);
    assert!((5..40).contains(&done), "{done} of 600 samples were counted");
}

#[test]
fn each_mistake_has_its_code_and_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let model = open("digits_cnn.onnx");
    let step = |name: &str, options: serde_json::Value| Pipeline::step(name, options).map(drop).unwrap_err();
    let run = |pipeline: Pipeline, options: Options| pipeline.run(&model, &options).map(drop).unwrap_err();
    let simplify = || Pipeline::preset("simplify").unwrap();
    let quantize = || Pipeline::step("quantize", ()).unwrap();
    let x =
        |shape: [usize; 2]| Data::arrays([("x", (shape, vec![0.0_f32; shape.iter().product()]))]).unwrap();
    let calibrated = |data: Data| Options::new().data("calibration", data);
    for (error, code) in [
        (Model::open("nowhere.onnx").unwrap_err(), "read-failed"),
        (
            Model::open(fixture("README.md")).unwrap_err(),
            "malformed-protobuf",
        ),
        (Model::from_bytes(&b"\x08"[..]).unwrap_err(), "malformed-protobuf"),
        (model.save(folder.path()).unwrap_err(), "not-a-file"),
        (Data::open("nowhere.npz").unwrap_err(), "data-read"),
        (Data::open("{npz: a.npz, lables: y}").unwrap_err(), "data-spec"),
        (Data::stream::<[(&str, Array); 1]>([]).unwrap_err(), "data-empty"),
        (Array::new([2, 2], [0.0_f32; 3]).unwrap_err(), "data-array"),
        (Pipeline::preset("edge").unwrap_err(), "unknown-preset"),
        (Pipeline::parse("steps: {").unwrap_err(), "yaml-syntax"),
        (Pipeline::parse("gates: []").unwrap_err(), "pipeline-shape"),
        (step("simplfy", json!({})), "unknown-pass"),
        (step("quantize", json!({ "weihgts": 1 })), "unknown-option"),
        (step("quantize", json!({ "calibrate": 1 })), "option-value"),
        (step("quantize", json!([1])), "option-value"),
        (
            simplify().set("quantize.calibrate", "mse").unwrap_err(),
            "unknown-variable",
        ),
        (
            run(simplify(), Options::new().data("callibration", x([1, 4]))),
            "unknown-role",
        ),
        (run(simplify(), Options::new().only("exactly")), "pass-option"),
        (run(quantize(), Options::new()), "data-missing"),
        (run(quantize(), calibrated(x([1, 4]))), "data-shape"),
        (run(simplify(), Options::new().keep("(")), "keep-pattern"),
        (run(simplify(), Options::new().size("bach", 1)), "usage"),
        (
            run(simplify(), Options::new().output(fixture("digits_cnn.onnx"))),
            "output-is-input",
        ),
        (
            run(
                simplify(),
                Options::new().output(folder.path().join("no/where.onnx")),
            ),
            "write-failed",
        ),
        (
            explain("nothing-like-it", &Options::new()).unwrap_err(),
            "unknown-name",
        ),
        (evaluate(&model, &Options::new()).unwrap_err(), "data-missing"),
        (Options::new().gate("accuracy").unwrap_err(), "usage"),
    ] {
        assert_eq!(error.code(), code, "{error:?}");
        let document = serde_json::to_value(&error).unwrap();
        assert_eq!(document["error"]["code"], code);
        assert!(!error.to_string().is_empty());
    }
    let failed = Pipeline::step("simplify", ())
        .unwrap()
        .then("extract", json!({ "outputs": ["nowhere"] }))
        .unwrap();
    let error = run(failed, Options::new());
    assert_eq!(
        (error.code(), error.step()),
        ("pass-option", Some(2)),
        "{error:?}"
    );
    let error = Pipeline::parse("steps:\n  - quantize: { calibrate: min }").unwrap_err();
    assert_eq!(
        (error.line(), error.hint().is_some()),
        (Some(2), true),
        "{error:?}"
    );
    assert!(matches!(std::fs::read_dir(folder.path()).unwrap().count(), 0));
}

#[test]
fn a_result_that_is_not_accepted_is_an_answer_and_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    let model = open("digits_mlp.onnx");
    let tight = Pipeline::parse("{ steps: [simplify], gates: [{ size: { at-most: 0.01 } }] }").unwrap();
    let outcome = tight.run(&model, &Options::new().output(&path)).unwrap();
    assert!(!outcome.accepted() && outcome.report.output.is_none());
    assert_eq!(outcome.save(&path).unwrap_err().code(), "not-accepted");
    assert!(!path.exists());
    // Nothing to do is no answer to a change that was asked for, and one where somebody says so.
    let idle = Pipeline::step("convert-opset", json!({ "version": 17 })).unwrap();
    assert!(!idle.run(&model, &Options::new()).unwrap().accepted());
    let outcome = idle.run(&model, &Options::new().allow_unchanged(true)).unwrap();
    assert!(outcome.accepted() && !outcome.changed() && !outcome.warnings().is_empty());
    outcome.save(&path).unwrap();
    assert!(std::fs::read(&path).unwrap() == std::fs::read(fixture("digits_mlp.onnx")).unwrap());
    assert_eq!(outcome.save(&path).unwrap_err().code(), "output-exists");
}

#[test]
fn a_result_is_a_model_for_the_next_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::copy(fixture("digits_cnn_bn.onnx"), &path).unwrap();
    let model = Model::open(&path).unwrap();
    let first = Pipeline::preset("simplify")
        .unwrap()
        .run(&model, &Options::new())
        .unwrap();
    let bind = Pipeline::step("bind", json!({ "sizes": { "batch": 1 } })).unwrap();
    let second = bind.run(&first.model, &Options::new()).unwrap();
    assert_eq!(
        second.report.before.bytes,
        first.model.to_bytes().unwrap().len() as u64
    );
    assert_eq!(second.model.inputs()[0].shape.as_ref().unwrap()[0], 1);
    // The result has the bytes that it would have after a file in between.
    let between = folder.path().join("between.onnx");
    first.save(&between).unwrap();
    let again = bind
        .run(&Model::open(&between).unwrap(), &Options::new())
        .unwrap();
    assert!(again.model.to_bytes().unwrap() == second.model.to_bytes().unwrap());
    assert_eq!(
        bind.run(&first.model, &Options::new().output(&path))
            .unwrap_err()
            .code(),
        "output-is-input"
    );
    bind.run(&first.model, &Options::new().in_place()).unwrap();
    assert!(std::fs::read(&path).unwrap() == second.model.to_bytes().unwrap());
}

#[test]
fn an_engine_that_is_not_there_is_said_and_nothing_runs() {
    let model = open("digits_mlp.onnx");
    let options = Options::new().engine(Runtime::OnnxRuntime);
    match Pipeline::preset("simplify").unwrap().run(&model, &options) {
        Ok(outcome) => assert!(outcome.accepted()),
        Err(error) => assert_eq!(error.code(), "engine-unavailable", "{error}"),
    }
}

#[test]
fn no_report_takes_the_place_of_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.json");
    std::fs::copy("fixtures/digits_mlp.onnx", &path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let model = Model::open(&path).unwrap();
    let other = Model::open("fixtures/digits_cnn.onnx").unwrap();
    let options = Options::new().report(&path).force(true);
    for (reference, judged) in [(&model, &other), (&other, &model)] {
        let error = secateur::verify(reference, judged, &options).unwrap_err();
        assert_eq!(error.code(), "output-is-input");
    }
    let pipeline = Pipeline::preset("simplify").unwrap();
    assert_eq!(
        pipeline.run(&model, &options).unwrap_err().code(),
        "output-is-input"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
