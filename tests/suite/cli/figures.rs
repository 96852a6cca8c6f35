//! Figures of tasks as a user gets them: what is read, what is counted, what is refused.

use std::path::Path;

use secateur::data::write_npz;
use secateur::ir::Tensor;
use serde_json::Value;

use super::{Called, call_words};

/// A model that hands its input on, for answers that a test writes down itself.
fn echo(folder: &Path, name: &str, dtype: &str, shape: &str) {
    let text = format!(
        "<ir_version: 8, opset_import: [\"\" : 17]> echo ({dtype}[{shape}] x) => ({dtype}[{shape}] y) {{ y = Identity (x) }}"
    );
    model(folder, name, &text);
}

fn model(folder: &Path, name: &str, text: &str) {
    let message = secateur::format::text::parse_model(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    std::fs::write(folder.join(name), secateur::format::encode_to_bytes(&message)).unwrap();
}

fn array(folder: &Path, name: &str, arrays: &[(&str, Tensor)]) {
    write_npz(
        &folder.join(name),
        arrays.iter().map(|(name, tensor)| (*name, tensor)),
    )
    .unwrap();
}

fn floats(dims: &[u64], values: &[f32]) -> Tensor {
    Tensor::from_slice::<f32>(dims, values).unwrap()
}

fn evaluate(folder: &Path, model: &str, data: &str, more: &[&str]) -> Called {
    let mut words = vec!["evaluate", model, "--data", data, "--latency-runs", "0", "--json"];
    words.extend(more);
    call_words(folder, &words)
}

fn figure(called: &Called, name: &str) -> f64 {
    let json = called.json();
    json["task"]["figures"][name]
        .as_f64()
        .unwrap_or_else(|| panic!("no {name}: {}", called.text()))
}

/// Two images: a cat and a dog, and nothing.
const COCO: &str = r#"{"images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 80},
                                  {"id": 2, "file_name": "b.png", "width": 100, "height": 80}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 40]},
                    {"id": 2, "image_id": 1, "category_id": 3, "bbox": [60, 20, 30, 30]}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}]}"#;

/// What finds both, and a dog on the empty image with a lower score.
fn boxes(folder: &Path) {
    echo(folder, "rows.onnx", "float", "1, k, 6");
    std::fs::write(folder.join("true.json"), COCO).unwrap();
    let right = [10.0, 10.0, 50.0, 50.0, 0.9, 1.0, 60.0, 20.0, 90.0, 50.0, 0.8, 3.0];
    let wrong = [5.0, 5.0, 30.0, 30.0, 0.4, 3.0, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0];
    let values: Vec<f32> = right.into_iter().chain(wrong).collect();
    array(folder, "found.npz", &[("x", floats(&[2, 2, 6], &values))]);
    // The second of the boxes with a score that nobody believes.
    let mut weaker = values;
    weaker[10] = 0.1;
    array(folder, "weaker.npz", &[("x", floats(&[2, 2, 6], &weaker))]);
}

const BOXES: &str = "{npz: found.npz, labels: true.json, boxes: rows}";

#[test]
fn boxes_are_judged_by_their_categories() {
    let folder = tempfile::tempdir().unwrap();
    boxes(folder.path());
    let found = evaluate(folder.path(), "rows.onnx", BOXES, &[]);
    assert_eq!(found.code, 0, "{}", found.text());
    assert!((figure(&found, "map") - 1.0).abs() < 1e-12);
    let json = found.json();
    assert_eq!(json["task"]["by_class"][1]["name"], "dog");
    assert_eq!(json["task"]["by_class"][1]["support"], 1);
    assert_eq!(json["task"]["figures"]["map-large"], Value::Null);
}

#[test]
fn a_gate_that_two_images_cannot_decide_says_so() {
    let folder = tempfile::tempdir().unwrap();
    boxes(folder.path());
    let passed = evaluate(folder.path(), "rows.onnx", BOXES, &["--gate", "map.at-least=0.9"]);
    assert_eq!(
        (passed.code, passed.json()["gates"][0]["decision"].clone()),
        (0, "passed".into())
    );
    let broken = evaluate(
        folder.path(),
        "rows.onnx",
        BOXES,
        &["--gate", "map75.at-most=0.9"],
    );
    assert_eq!(
        (broken.code, broken.json()["gates"][0]["decision"].clone()),
        (1, "broken".into())
    );
    let other = evaluate(
        folder.path(),
        "rows.onnx",
        BOXES,
        &["--gate", "miou.at-least=0.9"],
    );
    assert!(
        other.code == 1 && other.text().contains("the task has map"),
        "{}",
        other.text()
    );
}

#[test]
fn more_samples_decide_what_few_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    echo(path, "rows.onnx", "float", "1, k, 6");
    // A cat on each image, of which the model finds nine in ten.
    let decided = |count: usize| {
        let images: Vec<String> = (1..=count)
            .map(|id| format!(r#"{{"id": {id}, "file_name": "{id}.png", "width": 100, "height": 80}}"#))
            .collect();
        let cats: Vec<String> = (1..=count)
            .map(|id| {
                format!(r#"{{"id": {id}, "image_id": {id}, "category_id": 1, "bbox": [10, 10, 40, 40]}}"#)
            })
            .collect();
        let json = format!(
            r#"{{"images": [{}], "annotations": [{}], "categories": [{{"id": 1, "name": "cat"}}]}}"#,
            images.join(","),
            cats.join(",")
        );
        std::fs::write(path.join("cats.json"), json).unwrap();
        let rows: Vec<f32> = (0..count)
            .flat_map(|at| [10.0, 10.0, 50.0, 50.0, 0.9, if at % 10 == 0 { -1.0 } else { 1.0 }])
            .collect();
        array(path, "cats.npz", &[("x", floats(&[count as u64, 1, 6], &rows))]);
        let data = "{npz: cats.npz, labels: cats.json, boxes: rows}";
        let gate = "{map: {at-least: 0.8, confidence: 0.95}}";
        let called = evaluate(path, "rows.onnx", data, &["--gate", gate]);
        (called.code, called.json()["gates"][0].clone())
    };
    let (code, gate) = decided(20);
    assert_eq!(
        (code, gate["decision"].as_str()),
        (1, Some("undecided")),
        "{gate}"
    );
    assert!(
        gate["more_samples"].as_u64().unwrap() > 0 && gate["passed"] == false,
        "{gate}"
    );
    let (code, gate) = decided(400);
    assert_eq!((code, gate["decision"].as_str()), (0, Some("passed")), "{gate}");
    assert!(gate.get("more_samples").is_none(), "{gate}");
}

#[test]
fn what_the_reference_finds_is_true_where_labels_say_so() {
    let folder = tempfile::tempdir().unwrap();
    boxes(folder.path());
    // The reference is the same model, so everything is found.
    let data = "{npz: found.npz, labels: reference, boxes: rows}";
    let same = evaluate(folder.path(), "rows.onnx", data, &["--against", "rows.onnx"]);
    assert_eq!(same.code, 0, "{}", same.text());
    assert_eq!((figure(&same, "found"), figure(&same, "new")), (1.0, 0.0));
    assert_eq!(same.json()["task"]["labels_from_reference"], true);
    let alone = evaluate(folder.path(), "rows.onnx", data, &[]);
    assert!(
        alone.code == 2 && alone.text().contains("--against"),
        "{}",
        alone.text()
    );
}

#[test]
fn masks_are_judged_by_intersection_over_union() {
    let folder = tempfile::tempdir().unwrap();
    echo(folder.path(), "scores.onnx", "float", "n, 2, 2, 2");
    // Class 1 where the second channel is higher: all but the first pixel; the last does not count.
    let scores = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
    let classes = Tensor::from_slice::<i64>(&[1, 2, 2], &[0, 0, 1, 255]).unwrap();
    array(
        folder.path(),
        "d.npz",
        &[("x", floats(&[1, 2, 2, 2], &scores)), ("m", classes)],
    );
    let data = "{npz: d.npz, inputs: {x: x}, labels: m, task: segmentation}";
    let found = evaluate(folder.path(), "scores.onnx", data, &[]);
    assert_eq!(found.code, 0, "{}", found.text());
    // Class 0: one of two true pixels, none too much; class 1: one of two predicted ones.
    assert!((figure(&found, "miou") - 0.5).abs() < 1e-12);
    assert!((figure(&found, "pixel-accuracy") - 2.0 / 3.0).abs() < 1e-12);
}

#[test]
fn vectors_texts_tokens_and_signals_have_their_figures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    echo(path, "v.onnx", "float", "n, 2");
    array(
        path,
        "v.npz",
        &[("x", floats(&[4, 2], &[1.0, 0.0, 1.0, 0.1, 0.0, 1.0, 0.1, 1.0]))],
    );
    std::fs::write(path.join("pairs.tsv"), "0\t1\t1\n2\t3\t1\n0\t2\t0\n1\t3\t0\n").unwrap();
    let data = "{npz: v.npz, embedding: {pairs: pairs.tsv, far: [0.5]}}";
    let vectors = evaluate(
        path,
        "v.onnx",
        data,
        &["--against", "v.onnx", "--gate", "cosine.at-least=0.999"],
    );
    assert_eq!(vectors.code, 0, "{}", vectors.text());
    assert_eq!((figure(&vectors, "tar"), figure(&vectors, "auc")), (1.0, 1.0));

    echo(path, "t.onnx", "float", "n, 3, 3");
    // Blank is 0: "ab" and then "b", of which the table has "ab" and "a".
    let scores = [
        0., 1., 0., 1., 0., 0., 0., 0., 1., 1., 0., 0., 0., 0., 1., 0., 0., 1.,
    ];
    array(path, "t.npz", &[("x", floats(&[2, 3, 3], &scores))]);
    std::fs::write(path.join("texts.tsv"), "0\tab\n1\ta\n").unwrap();
    let data = "{npz: t.npz, labels: texts.tsv, text: {characters: ab}}";
    let texts = evaluate(path, "t.onnx", data, &[]);
    assert_eq!(texts.code, 0, "{}", texts.text());
    assert!((figure(&texts, "cer") - 1.0 / 3.0).abs() < 1e-12);
    assert_eq!(figure(&texts, "exact"), 0.5);

    let even = floats(&[1, 2, 4], &[0.0; 8]);
    let next = Tensor::from_slice::<i64>(&[1, 2], &[3, -100]).unwrap();
    echo(path, "l.onnx", "float", "n, 2, 4");
    array(path, "l.npz", &[("x", even), ("next", next)]);
    let data = "{npz: l.npz, inputs: {x: x}, labels: next, task: tokens}";
    let tokens = evaluate(path, "l.onnx", data, &[]);
    assert!((figure(&tokens, "perplexity") - 4.0).abs() < 1e-12);

    echo(path, "s.onnx", "float", "n, 4");
    let wave = floats(&[1, 4], &[1.0, -1.0, 1.0, -1.0]);
    let target = floats(&[1, 4], &[1.1, -1.1, 1.1, -1.1]);
    array(path, "s.npz", &[("x", wave), ("t", target)]);
    let data = "{npz: s.npz, inputs: {x: x}, labels: t, task: signals}";
    let signals = evaluate(path, "s.onnx", data, &[]);
    // The error is a tenth of 1.1.
    assert!((figure(&signals, "snr") - 20.0 * 11f64.log10()).abs() < 1e-5);
}

#[test]
fn pairs_are_of_rows_whichever_samples_are_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    echo(path, "v.onnx", "float", "n, 2");
    // Rows 2k and 2k+1 are the same thing, each thing another direction.
    let rows: Vec<f32> = (0..20)
        .flat_map(|row| {
            let angle = (row / 2) as f32 * 0.3 + (row % 2) as f32 * 0.01;
            [angle.cos(), angle.sin()]
        })
        .collect();
    array(path, "v.npz", &[("x", floats(&[20, 2], &rows))]);
    let same = (0..10).map(|k| format!("{}\t{}\t1\n", 2 * k, 2 * k + 1));
    let different = (0..17).map(|row| format!("{row}\t{}\t0\n", row + 3));
    std::fs::write(path.join("pairs.tsv"), same.chain(different).collect::<String>()).unwrap();
    for seed in 0..5 {
        let data = format!(
            "{{npz: v.npz, samples: 14, seed: {seed}, embedding: {{pairs: pairs.tsv, far: [0.01]}}}}"
        );
        let found = evaluate(path, "v.onnx", &data, &[]);
        assert_eq!(found.code, 0, "{}", found.text());
        assert_eq!(
            (figure(&found, "tar"), figure(&found, "auc")),
            (1.0, 1.0),
            "seed {seed}"
        );
    }
}

#[test]
fn classes_may_be_the_references_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1, 3, 8, 8] x) => (float[1, 3] y)
        { m = GlobalAveragePool (x) y = Flatten (m) }";
    model(path, "mean.onnx", text);
    std::fs::create_dir(path.join("images")).unwrap();
    for (name, colour) in [("a.png", [200, 0, 0]), ("b.png", [0, 200, 0])] {
        let image = image::RgbImage::from_pixel(8, 8, image::Rgb(colour));
        image.save(path.join("images").join(name)).unwrap();
    }
    // Labels that stand in the folder are not asked for.
    std::fs::write(path.join("images/labels.tsv"), "a.png\t2\nb.png\t2\n").unwrap();
    let data = "{images: {folder: images}, labels: reference, preprocess: {scale: 1.0}}";
    let found = evaluate(path, "mean.onnx", data, &["--against", "mean.onnx"]);
    assert_eq!(found.code, 0, "{}{}", found.text(), found.stderr);
    let json = found.json();
    assert_eq!(
        (json["against"]["agreement"].as_f64(), json["accuracy"].clone()),
        (Some(1.0), Value::Null)
    );
}

#[test]
fn the_worst_images_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    // Boxes of the test stand in the input itself: a constant model that finds one box at the left half of every image.
    let text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1, 3, 80, 100] x) => (float[1, 1, 6] y)
        <float[1, 1, 6] found = {10.0, 10.0, 50.0, 50.0, 0.9, 1.0}> { y = Identity (found) }";
    model(path, "fixed.onnx", text);
    std::fs::create_dir(path.join("images")).unwrap();
    for name in ["a.png", "b.png"] {
        image::RgbImage::new(100, 80)
            .save(path.join("images").join(name))
            .unwrap();
    }
    std::fs::write(path.join("true.json"), COCO).unwrap();
    let data = "{images: {folder: images}, labels: true.json, boxes: rows, preprocess: yolo}";
    let found = evaluate(path, "fixed.onnx", data, &["--show", "1", "--show-folder", "out"]);
    assert_eq!(found.code, 0, "{}{}", found.text(), found.stderr);
    // The first image has a lost dog, the second a cat that is not there: the first one comes first.
    assert_eq!(found.json()["pictures"][0], "out/001-a.png");
    let picture = image::open(path.join("out/001-a.png")).unwrap().to_rgb8();
    assert_eq!(picture.get_pixel(60, 20).0, [230, 40, 40]);
    assert_eq!(picture.get_pixel(10, 10).0, [60, 200, 80]);
    let again = evaluate(path, "fixed.onnx", data, &["--show", "1", "--show-folder", "out"]);
    assert_eq!(again.code, 2, "an existing picture is not overwritten");
}

#[test]
fn each_mistake_is_named() {
    let folder = tempfile::tempdir().unwrap();
    boxes(folder.path());
    let path = folder.path();
    std::fs::write(
        path.join("unknown.json"),
        COCO.replace("\"category_id\": 3", "\"category_id\": 9"),
    )
    .unwrap();
    std::fs::write(
        path.join("outside.json"),
        COCO.replace("60, 20, 30, 30", "60, 20, 30, 300"),
    )
    .unwrap();
    std::fs::write(
        path.join("one.json"),
        r#"{"images": [{"id": 1}], "annotations": [], "categories": []}"#,
    )
    .unwrap();
    std::fs::write(path.join("broken.json"), "{\n\"images\": [,\n").unwrap();
    for (data, parts) in [
        (
            "{npz: found.npz, labels: unknown.json, boxes: rows}",
            &["unknown.json", "annotation 2", "category 9"][..],
        ),
        (
            "{npz: found.npz, labels: outside.json, boxes: rows}",
            &["outside.json", "annotation 2", "not inside"][..],
        ),
        (
            "{npz: found.npz, labels: one.json, boxes: rows}",
            &["one.json", "1 images", "2 samples"][..],
        ),
        (
            "{npz: found.npz, labels: broken.json, boxes: rows}",
            &["broken.json", "line 2"][..],
        ),
        (
            "{npz: found.npz, labels: true.json, boxes: yolo-v88}",
            &["yolo-v88", "yolo-v8-pose"][..],
        ),
        (
            "{npz: found.npz, labels: true.json, boxes: yolo-v8}",
            &["y", "columns"][..],
        ),
        (
            "{npz: found.npz, labels: true.json, boxes: {layout: rows, nmss: 1}}",
            &["nmss"][..],
        ),
        (
            "{npz: found.npz, labels: true.json}",
            &["no known layout", "rows", "boxes: { layout"][..],
        ),
        (
            "{npz: found.npz, labels: true.json, segmentation: {}, task: detection}",
            &["segmentation"][..],
        ),
        (
            "{images: {folder: nowhere}, labels: true.json, boxes: rows, preprocess: yolo}",
            &["a.png", "true.json"][..],
        ),
    ] {
        let called = evaluate(path, "rows.onnx", data, &[]);
        let text = format!("{}{}", called.text(), called.stderr);
        assert_eq!(called.code, 2, "{data}\n{text}");
        for part in parts {
            assert!(text.contains(part), "{data}: no {part:?} in\n{text}");
        }
    }
}
