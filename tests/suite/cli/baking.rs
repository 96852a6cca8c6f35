//! Preprocessing and post-processing in the model: the page's commands, figures before and after, and what is refused.

use std::path::Path;

use secateur::ir::Tensor;
use serde_json::Value;

use super::{Called, call_words};

/// Two numbers of each cell of 8 by 8 pixels for two classes, four for the distances of the edges; darker pixels give larger boxes.
const DETECTOR: &str = r#"<ir_version: 8, opset_import: ["" : 11]> detector (float[1, 3, 32, 48] x) => (float[1, 4, 24] loc, float[1, 2, 24] conf)
    <float[4, 3, 1, 1] edges = {1.0, 0.5, 0.0, 0.0, 1.0, 0.5, 1.5, 0.0, 0.0, 0.5, 0.0, 1.0},
     float[2, 3, 1, 1] kinds = {4.0, -4.0, 1.0, -3.0, 4.0, 1.0}> {
      cells = AveragePool <kernel_shape = [8, 8], strides = [8, 8]> (x)
      far = Conv (cells, edges)
      near = Abs (far)
      kind = Conv (cells, kinds)
      four = Constant <value_ints = [1, 4, 24]> ()
      two = Constant <value_ints = [1, 2, 24]> ()
      loc = Reshape (near, four)
      conf = Reshape (kind, two)
    }"#;

/// Scores of three classes by the mean of each colour.
const CLASSIFIER: &str = r#"<ir_version: 8, opset_import: ["" : 17]> classifier (float[N, 3, 24, 24] x) => (float[N, 3] scores) {
      mean = GlobalAveragePool (x)
      scores = Flatten (mean)
    }"#;

fn write_model(folder: &Path, name: &str, text: &str) {
    let text = text.replace("value_ints = [1, 4, 24]", "value = int64[3] {1, 4, 24}");
    let text = text.replace("value_ints = [1, 2, 24]", "value = int64[3] {1, 2, 24}");
    let message =
        secateur::format::text::parse_model(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    std::fs::write(folder.join(name), secateur::format::encode_to_bytes(&message)).unwrap();
}

/// An image with something in it, of any size.
fn picture(width: u32, height: u32, seed: u32) -> image::RgbImage {
    image::RgbImage::from_fn(width, height, |x, y| {
        let wave = |shift: u32| ((x * (3 + shift) + y * (7 + seed) + shift * 50 + seed * 31) % 256) as u8;
        let block = (x / 9 + y / 7 + seed) % 3;
        let lit = |channel: u32| if block == channel { 200 } else { wave(channel) / 3 };
        image::Rgb([lit(0), lit(1), lit(2)])
    })
}

const SIZES: [(u32, u32); 4] = [(60, 40), (48, 32), (31, 57), (120, 33)];

fn bench() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    write_model(path, "detector.onnx", DETECTOR);
    write_model(path, "classifier.onnx", CLASSIFIER);
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    std::fs::create_dir(path.join("photos")).unwrap();
    for (at, (width, height)) in SIZES.into_iter().enumerate() {
        let name = format!("{at}.png");
        picture(width, height, at as u32)
            .save(path.join("photos").join(&name))
            .unwrap();
        images.push(serde_json::json!({"id": at, "file_name": name, "width": width, "height": height}));
        let id = 2 * at + 1;
        annotations
            .push(serde_json::json!({"id": id, "image_id": at, "category_id": 1, "bbox": [3, 4, 20, 18]}));
        annotations.push(
            serde_json::json!({"id": id + 1, "image_id": at, "category_id": 3, "bbox": [9, 2, 14, 25]}),
        );
    }
    let categories = serde_json::json!([{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}]);
    let labels = serde_json::json!({"images": images, "annotations": annotations, "categories": categories});
    std::fs::write(path.join("boxes.json"), labels.to_string()).unwrap();
    for (class, color) in ["0-red", "1-green", "2-blue"].into_iter().enumerate() {
        std::fs::create_dir_all(path.join("colors").join(color)).unwrap();
        for (at, (width, height)) in SIZES.into_iter().enumerate() {
            let mut image = picture(width, height, at as u32 + 5);
            if at > 0 {
                image
                    .pixels_mut()
                    .for_each(|pixel| pixel.0[class] = pixel.0[class].saturating_add(90));
            }
            image
                .save(path.join("colors").join(color).join(format!("{at}.png")))
                .unwrap();
        }
    }
    folder
}

fn run(folder: &Path, words: &[&str]) -> Called {
    call_words(folder, words)
}

fn done(folder: &Path, words: &[&str]) -> Value {
    let called = run(folder, &[words, &["--json"]].concat());
    assert_eq!(called.code, 0, "{words:?}: {} {}", called.text(), called.stderr);
    called.json()
}

fn notes(document: &Value) -> String {
    document["steps"][0]["notes"].to_string()
}

/// What the page has in fences of this kind.
fn fences(kind: &str) -> Vec<String> {
    let page = include_str!("../../../docs/bake.md");
    let fence = format!("```{kind}\n");
    let parts = page.split(&fence).skip(1);
    parts
        .map(|part| part.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_command_of_the_page_runs() {
    let folder = bench();
    let pipelines = fences("yaml");
    assert_eq!(pipelines.len(), 1);
    std::fs::write(folder.path().join("bake.yaml"), &pipelines[0]).unwrap();
    let commands: Vec<String> = fences("sh").concat().lines().map(str::to_owned).collect();
    assert!(commands.len() >= 4, "{commands:?}");
    for command in commands {
        let words = shell_words(&command);
        let called = run(
            folder.path(),
            &words.iter().skip(1).map(String::as_str).collect::<Vec<_>>(),
        );
        assert_eq!(called.code, 0, "{command}\n{}\n{}", called.text(), called.stderr);
    }
}

/// Words apart by spaces, but for those in single quotes.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().unwrap().push(other),
        }
    }
    words
}

const BOXES: &str = "{outputs: {box: loc, scores: conf}, transposed: true, code: distances, strides: [8], activation: sigmoid, score: 0.3, nms: 0.6, most: 50}";

#[test]
fn a_baked_detector_has_the_figures_that_it_had() {
    let mut found = false;
    for (at, preprocess) in [
        "{letterbox: input, interpolation: bilinear, scale: 0.01, mean: [1, 0.9, 0.8], color: bgr}",
        "{letterbox: input, place: top-left, upscale: false, interpolation: bilinear, scale: 0.01, mean: [0.5], std: [0.7]}",
        "{resize: input, interpolation: nearest, scale: 0.01, mean: [1]}",
        "{resize: [40, 60], crop: [32, 48], scale: 0.01, mean: [1]}",
    ]
    .into_iter()
    .enumerate()
    {
        let folder = bench();
        let path = folder.path();
        let data = format!("{{images: {{folder: photos}}, labels: boxes.json, boxes: {BOXES}, preprocess: {preprocess}}}");
        let words = ["bake", "detector.onnx", "-o", "baked.onnx", "--boxes", BOXES, "--preprocess", preprocess];
        let report = done(path, &[&words[..], &["--data", &format!("evaluation={data}")]].concat());
        let said = notes(&report);
        assert!(said.contains("checked on images: on 4 images"), "{said}");
        assert!(said.contains(" 0 are of one model only"), "{said}");
        if at < 3 {
            assert!(said.contains("differ by at most 0.000 steps"), "{said}");
        }
        let evaluate = |model: &str| done(path, &["evaluate", model, "--data", &data, "--latency-runs", "0"]);
        let (before, after) = (evaluate("detector.onnx"), evaluate("baked.onnx"));
        assert!(after["notes"].to_string().contains("left out"), "{after}");
        let (before, after) = (&before["task"]["figures"], &after["task"]["figures"]);
        for (name, value) in before.as_object().unwrap() {
            match (value.as_f64(), after[name].as_f64()) {
                (Some(a), Some(b)) => assert!((a - b).abs() < 1e-6, "{preprocess} {name}: {a} {b}"),
                (a, b) => assert_eq!(a, b, "{name}"),
            }
        }
        found |= before["ar100"].as_f64().is_some_and(|recall| recall > 0.0);
    }
    assert!(found);
}

#[test]
fn a_baked_classifier_takes_images_and_gives_shares_or_the_best_class() {
    let folder = bench();
    let path = folder.path();
    let preprocess = "{resize: 28, crop: [24, 24], scale: 0.00392156862745098}";
    let data = format!("{{images: {{folder: colors}}, preprocess: {preprocess}}}");
    let evaluate =
        |model: &str, data: &str| done(path, &["evaluate", model, "--data", data, "--latency-runs", "0"]);
    let before = evaluate("classifier.onnx", &data);
    assert!(
        before["accuracy"]
            .as_f64()
            .is_some_and(|share| share > 0.5 && share < 1.0),
        "{before}"
    );
    for classes in ["softmax", "argmax"] {
        let out = format!("{classes}.onnx");
        let words = [
            "bake",
            "classifier.onnx",
            "-o",
            &out,
            "--classes",
            classes,
            "--preprocess",
            preprocess,
        ];
        let report = done(
            path,
            &[&words[..], &["--data", &format!("evaluation={data}")]].concat(),
        );
        let said = notes(&report);
        assert!(said.contains("checked on images"), "{said}");
        assert!(
            classes == "softmax" || said.contains("0 of 12 best classes differ"),
            "{said}"
        );
        // Nothing has to be said of preprocessing: the input could be nothing else.
        for data in [data.as_str(), "{images: {folder: colors}}"] {
            let after = evaluate(&out, data);
            assert_eq!(before["accuracy"], after["accuracy"], "{classes} {data}");
            assert_eq!(before["confusion"], after["confusion"], "{classes} {data}");
        }
    }
}

#[test]
fn data_that_are_prepared_otherwise_refuse_the_result() {
    let folder = bench();
    let path = folder.path();
    std::fs::write(
        path.join("pipeline.yaml"),
        "version: 1\ndata:\n  evaluation: {images: {folder: colors}, preprocess: {resize: 28, crop: [24, 24], color: bgr}}\nsteps:\n  - bake: {preprocess: {resize: 28, crop: [24, 24]}}\n",
    )
    .unwrap();
    let called = run(
        path,
        &[
            "run",
            "pipeline.yaml",
            "classifier.onnx",
            "-o",
            "out.onnx",
            "--json",
        ],
    );
    assert_eq!(called.code, 1, "{}", called.text());
    assert!(!path.join("out.onnx").exists());
    let gate = &called.json()["gates"][0];
    assert_eq!(gate["passed"], false, "{gate}");
}

#[test]
fn what_comes_after_is_compared_with_the_baked_model() {
    let folder = bench();
    let path = folder.path();
    let pipeline = format!(
        "version: 1\ndata:\n  evaluation: {{images: {{folder: photos}}, labels: boxes.json, boxes: {BOXES}, preprocess: {{letterbox: input, interpolation: bilinear, scale: 0.01, mean: [1]}}}}\nsteps:\n  - bake: {{preprocess: {{letterbox: input, interpolation: bilinear, scale: 0.01, mean: [1]}}, boxes: {BOXES}}}\n  - simplify\ngates:\n  - map: {{drop: 0.0001}}\n"
    );
    std::fs::write(path.join("pipeline.yaml"), pipeline).unwrap();
    let report = done(path, &["run", "pipeline.yaml", "detector.onnx", "-o", "out.onnx"]);
    assert!(report["gates"].to_string().contains("\"map\""), "{report}");
}

#[test]
fn declarations_that_do_not_fit_are_refused_by_name() {
    let folder = bench();
    let path = folder.path();
    for (words, part) in [
        (&["detector.onnx"][..], "preprocess, boxes or classes"),
        (
            &["detector.onnx", "--set", "input=y", "--preprocess", "yolo"],
            "no input y",
        ),
        (&["detector.onnx", "--boxes", "yolo-v8"], "takes preprocess"),
        (
            &["detector.onnx", "--preprocess", "mnist"],
            "takes [3, 32, 48] an image, and preprocess makes [1, 32, 48]",
        ),
        (
            &["detector.onnx", "--preprocess", "torchvision"],
            "preprocess makes [3, 224, 224]",
        ),
        (
            &["detector.onnx", "--preprocess", "yolo", "--boxes", "nanodet"],
            "there is no output 3; the model has 2: loc, conf",
        ),
        (
            &["detector.onnx", "--preprocess", "yolo", "--boxes", "{nms: 0.5}"],
            "say the layout",
        ),
        (
            &[
                "detector.onnx",
                "--preprocess",
                "yolo",
                "--boxes",
                "{outputs: {box: loc, scores: conf}, code: distances, strides: [16]}",
            ],
            "has 2 predictions where loc has 4",
        ),
        (
            &[
                "detector.onnx",
                "--preprocess",
                "yolo",
                "--boxes",
                "{outputs: {box: loc, scores: conf}, transposed: true, code: distances, strides: [16]}",
            ],
            "strides [16] make 6 of an input of 48x32",
        ),
        (
            &["classifier.onnx", "--classes", "softmax", "--axis", "4"],
            "has no axis 4",
        ),
        (
            &["classifier.onnx", "--classes", "argmax", "--scores", "y"],
            "no output y; the model has scores",
        ),
        (
            &[
                "classifier.onnx",
                "--axis",
                "1",
                "--preprocess",
                "{resize: [24, 24]}",
            ],
            "axis: it is of classes",
        ),
    ] {
        let called = run(path, &[&["bake"], words, &["-o", "out.onnx", "--json"]].concat());
        assert_eq!(called.code, 2, "{words:?} {}", called.text());
        let message = called.json()["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(message.contains(part), "{words:?}: {message}");
        assert!(!path.join("out.onnx").exists());
    }
}

#[test]
fn arrays_of_pixels_go_into_a_baked_model_as_they_are() {
    let folder = bench();
    let path = folder.path();
    let preprocess = "{resize: [24, 24], interpolation: bilinear, scale: 0.00392156862745098}";
    done(
        path,
        &[
            "bake",
            "classifier.onnx",
            "-o",
            "baked.onnx",
            "--preprocess",
            preprocess,
        ],
    );
    let pixels: Vec<u8> = (0..2).flat_map(|at| picture(30, 20, at).into_raw()).collect();
    let arrays = [
        (
            "image",
            Tensor::from_slice::<u8>(&[2, 20, 30, 3], &pixels).unwrap(),
        ),
        ("labels", Tensor::vector_i64(&[0, 1])),
    ];
    secateur::data::write_npz(
        &path.join("a.npz"),
        arrays.iter().map(|(name, tensor)| (*name, tensor)),
    )
    .unwrap();
    let found = done(
        path,
        &[
            "evaluate",
            "baked.onnx",
            "--data",
            "{npz: a.npz, labels: labels, batch: 2}",
            "--latency-runs",
            "0",
        ],
    );
    assert_eq!(found["samples"], 2);
}
