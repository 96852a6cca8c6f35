//! Preprocessing and the reading of boxes as operators, against what data sets and the evaluator do.

use ::image::{DynamicImage, RgbImage};
use secateur::data::{Batch, BoxesSpec, Frame, PreprocessSpec};
use secateur::engine::{Engine as _, RunValue};
use secateur::evaluate::{Found, boxes, names};
use secateur::lower::Lowering;
use secateur::passes::Bake;

use super::*;

fn bake(yaml: &str) -> Bake {
    serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

fn baked(pass: &Bake, before: &Model) -> Model {
    let mut after = before.clone();
    run_pass(pass, &mut after, &Setting::default()).unwrap_or_else(|error| panic!("{error}"));
    secateur::analysis::check(&after).unwrap_or_else(|errors| panic!("{errors:?}"));
    after
}

fn run(model: &Model, inputs: &RunValues) -> RunValues {
    let session = Lowering(&TractEngine)
        .compile(model, &CompileOptions::default())
        .unwrap();
    session.run(inputs).unwrap_or_else(|error| panic!("{error}"))
}

fn tensor<'v>(values: &'v RunValues, name: &str) -> &'v Tensor {
    match values.get(name) {
        Some(RunValue::Tensor(tensor)) => tensor,
        other => panic!("{name}: {other:?}"),
    }
}

fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([
            (x * x * 7 + y * 13) as u8,
            (x * 5 + y * y * 3) as u8,
            (x * y * 11 + 90) as u8,
        ])
    })
}

fn pixels(image: &RgbImage) -> Tensor {
    let dims = [1, u64::from(image.height()), u64::from(image.width()), 3];
    Tensor::from_slice::<u8>(&dims, image.as_raw()).unwrap()
}

fn given(name: &str, tensor: Tensor) -> RunValues {
    RunValues::from([(name.to_owned(), RunValue::Tensor(tensor))])
}

#[test]
fn the_graph_makes_of_images_what_data_sets_make() {
    for (input, yaml, most) in [
        (
            "float[1, 3, 20, 28]",
            "{letterbox: input, interpolation: bilinear, scale: 0.00392156862745098}",
            0.0,
        ),
        (
            "float[1, 3, 20, 28]",
            "{letterbox: input, place: top-left, pad: 7, interpolation: nearest, color: bgr}",
            0.0,
        ),
        (
            "float[1, 3, 64, 64]",
            "{letterbox: 64, upscale: false, interpolation: bilinear, mean: [1, 2, 3], std: [4, 5, 6]}",
            0.0,
        ),
        (
            "float[1, 3, 20, 28]",
            "{letterbox: input, interpolation: antialias}",
            1.0,
        ),
        (
            "float[1, 20, 28, 3]",
            "{resize: input, layout: nhwc, interpolation: bilinear}",
            0.0,
        ),
        (
            "float[1, 1, 20, 28]",
            "{resize: input, color: gray, interpolation: bilinear}",
            1.0,
        ),
        ("float[N, 3, 24, 24]", "torchvision-small", 1.0),
        (
            "float[1, 3, 24, 24]",
            "{resize: [30, 40], crop: [24, 24], interpolation: bilinear}",
            0.0,
        ),
        ("float[1, 3, h, w]", "{resize: 17, interpolation: bilinear}", 0.0),
        ("float[1, 3, h, w]", "{resize: 17}", 1.0),
        ("float[1, 3, h, w]", "{scale: 0.5, mean: [3]}", 0.0),
        ("float[1, 3, h, w]", "{crop: [200, 9]}", 0.0),
        (
            "uint8[1, 3, 20, 28]",
            "{resize: input, interpolation: bilinear}",
            0.0,
        ),
        (
            "double[1, 3, 20, 28]",
            "{resize: input, interpolation: nearest, std: [3]}",
            0.0,
        ),
    ] {
        let yaml = match yaml {
            "torchvision-small" => "{preset: torchvision, resize: 26, crop: [24, 24]}",
            other => other,
        };
        let dtype = input.split('[').next().unwrap();
        let before = model(&format!(
            "<ir_version: 8, opset_import: [\"\" : 17]> g ({input} x) => ({dtype} y) {{ y = Identity (x) }}"
        ));
        let pass = bake(&format!("{{preprocess: {yaml}}}"));
        let after = baked(&pass, &before);
        let spec: PreprocessSpec = serde_yaml::from_str(yaml).unwrap();
        let shape = before
            .graph
            .ty(ValueId::new(before.graph.inputs()[0], 0))
            .shape()
            .unwrap()
            .clone();
        let preprocess = spec.resolve().unwrap().for_input(Some(&shape)).unwrap();
        for (width, height) in [(28, 20), (56, 40), (13, 47), (90, 31), (24, 24), (1, 5)] {
            let image = picture(width, height);
            let (dims, expected) = preprocess.image(&DynamicImage::ImageRgb8(image.clone()));
            let found = run(&after, &given("image", pixels(&image)));
            let found = tensor(&found, "y");
            assert_eq!(found.dims()[1..], dims, "{yaml} {width}x{height}");
            let step = (0..preprocess.channels())
                .map(|channel| (preprocess.value(1.0, channel) - preprocess.value(0.0, channel)).abs())
                .fold(0.0, f64::max);
            let narrow = |value: f64| {
                if found.dtype() == DType::F32 {
                    f64::from(value as f32)
                } else {
                    value
                }
            };
            for (a, b) in expected.iter().zip(found.to_f64().unwrap()) {
                let difference = (narrow(*a) - b).abs();
                assert!(
                    difference <= most * step * 1.001,
                    "{yaml} {width}x{height}: {a} {b}"
                );
            }
        }
    }
}

#[test]
fn images_of_another_size_than_the_input_fail_where_nothing_resizes() {
    let before = model(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[1, 3, 20, 28] x) => (float[1, 3, 1, 1] y) { y = GlobalAveragePool (x) }",
    );
    let pass = bake("{preprocess: {scale: 0.5}}");
    let report = run_pass(&pass, &mut before.clone(), &Setting::default()).unwrap();
    let says = |note: &String| note.contains("images need 20 by 28 pixels");
    assert!(report.notes.iter().any(says), "{:?}", report.notes);
    let after = baked(&pass, &before);
    let session = Lowering(&TractEngine)
        .compile(&after, &CompileOptions::default())
        .unwrap();
    assert!(session.run(&given("image", pixels(&picture(28, 20)))).is_ok());
    assert!(session.run(&given("image", pixels(&picture(20, 28)))).is_err());
}

#[test]
fn a_size_that_not_every_image_gets_is_refused_where_the_model_fixes_it() {
    let mean = |shape: &str| {
        model(&format!(
            "<ir_version: 8, opset_import: [\"\" : 17]> g (float[{shape}] x) => (float[1, 1, 1, 1] y) {{ y = ReduceMean (x) }}"
        ))
    };
    for (shape, yaml, part) in [
        (
            "1, 3, 32, 32",
            "{resize: 40}",
            "the shortest side 40 pixels, and the other side keeps the aspect",
        ),
        ("1, 3, 32, 32", "{resize: 32}", "resize: 32 and crop: [32, 32]"),
        (
            "1, 3, 32, 32",
            "{crop: [64, 64]}",
            "a crop of 64 by 64 leaves what is smaller",
        ),
        ("1, 3, 32, 32", "{crop: [32, 32]}", "nothing resizes images"),
        (
            "1, 3, 32, 48",
            "{resize: 40, crop: [32, 48]}",
            "resize: 48 and crop: [32, 48]",
        ),
        // An image of the size of the crop is not resized.
        (
            "1, 3, 32, 32",
            "{resize: [32, 32], crop: [64, 64]}",
            "leaves what is smaller",
        ),
        (
            "1, 32, 32, 3",
            "{resize: 32, layout: nhwc}",
            "takes [32, 32, 3] an image, and not every image gets that size",
        ),
        ("1, 3, 32, w", "{resize: 32}", "[height, width]"),
        (
            "1, 3, 32, 32",
            "{resize: 70, crop: [64, 64]}",
            "preprocess makes [3, 64, 64]",
        ),
    ] {
        let pass = bake(&format!("{{preprocess: {yaml}}}"));
        let error = run_pass(&pass, &mut mean(shape), &Setting::default()).unwrap_err();
        assert!(error.to_string().contains(part), "{shape} {yaml}: {error}");
    }
    for (shape, yaml) in [
        ("1, 3, 32, 32", "{resize: 32, crop: [32, 32]}"),
        ("1, 3, 32, 48", "{resize: 48, crop: [32, 48]}"),
        ("1, 3, 32, 32", "{resize: [40, 50], crop: [32, 32]}"),
        ("1, 32, 32, 3", "{resize: input, layout: nhwc}"),
        ("1, 3, 32, 32", "{letterbox: 32}"),
        ("1, 3, h, w", "{resize: 40}"),
        ("1, 3, h, w", "{crop: [64, 64]}"),
    ] {
        let after = baked(&bake(&format!("{{preprocess: {yaml}}}")), &mean(shape));
        for (width, height) in [(50, 70), (32, 32), (20, 20), (1, 5)] {
            let found = run(&after, &given("image", pixels(&picture(width, height))));
            assert_eq!(
                tensor(&found, "y").dims(),
                [1, 1, 1, 1],
                "{yaml} {width}x{height}"
            );
        }
    }
}

/// A model that answers numbers of its own, whatever the image is, in outputs of these names and shapes.
fn answering(outputs: &[(&str, &[u64], f32)]) -> Model {
    let mut declared = Vec::new();
    let mut constants = Vec::new();
    let mut nodes = vec![
        "m = ReduceMean <keepdims = 0> (x)".to_owned(),
        "n = Mul (m, nothing)".to_owned(),
    ];
    for (at, (name, dims, scale)) in outputs.iter().enumerate() {
        let shape: Vec<String> = dims.iter().map(u64::to_string).collect();
        let shape = shape.join(", ");
        let numbers: Vec<String> = (0..dims.iter().product::<u64>())
            .map(|index| {
                format!(
                    "{:.5}",
                    scale * ((index as f32 * (1.37 + at as f32 * 0.21)).sin() + 1.02)
                )
            })
            .collect();
        declared.push(format!("float[{shape}] {name}"));
        constants.push(format!("float[{shape}] c{at} = {{{}}}", numbers.join(", ")));
        nodes.push(format!("{name} = Add (c{at}, n)"));
    }
    model(&format!(
        "<ir_version: 8, opset_import: [\"\" : 13]> g (float[1, 3, 32, 48] x) => ({}) <float nothing = {{0.0}}, {}> {{ {} }}",
        declared.join(", "),
        constants.join(", "),
        nodes.join(" ")
    ))
}

/// Boxes of a model for an image of 90x50, as the evaluator reads them.
fn read(spec: &BoxesSpec, model: &Model, frame: &Frame, inputs: RunValues) -> Vec<Found> {
    let answers = run(model, &inputs);
    let batch = Batch {
        index: 0,
        first: 0,
        count: 1,
        ran: 1,
        origin: PathBuf::new(),
        stacked: true,
        inputs,
        labels: None,
    };
    boxes(spec, model, frame, &batch, &answers).unwrap_or_else(|error| panic!("{error}"))
}

fn check_boxes(outputs: &[(&str, &[u64], f32)], yaml: &str, last: &str) {
    let before = answering(outputs);
    let pass = bake(&format!("{{preprocess: {{preset: yolo}}, boxes: {yaml}}}"));
    let after = baked(&pass, &before);
    assert_eq!(names(&after), ["boxes", "scores", last], "{yaml}");
    let layout = BoxesSpec::parse(yaml).unwrap().resolved().unwrap();
    let image = picture(90, 50);
    let letterbox = PreprocessSpec::preset("yolo")
        .unwrap()
        .resolve()
        .unwrap()
        .fitted(Some([32, 48]))
        .unwrap();
    let input = Tensor::from_slice::<f32>(&[1, 3, 32, 48], &[0.0; 3 * 32 * 48]).unwrap();
    let expected = read(&layout, &before, &letterbox.frame(90, 50), given("x", input));
    let own = BoxesSpec::default().baked(&names(&after)).unwrap().unwrap();
    let found = read(
        &own,
        &after,
        &Frame::identity(90, 50),
        given("image", pixels(&image)),
    );
    assert!(expected.len() > 1, "{yaml}: {expected:?}");
    assert_eq!(expected.len(), found.len(), "{yaml}\n{expected:?}\n{found:?}");
    for (a, b) in expected.iter().zip(&found) {
        let sides = a
            .rect
            .iter()
            .zip(b.rect)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        assert!(
            a.category == b.category && (a.score - b.score).abs() < 1e-5 && sides < 1e-3,
            "{yaml}\n{a:?}\n{b:?}"
        );
    }
}

#[test]
fn boxes_are_those_that_the_evaluator_reads() {
    let grids: &[(&str, &[u64], f32)] = &[
        ("s8", &[1, 24, 2], 0.4),
        ("s16", &[1, 6, 2], 0.4),
        ("b8", &[1, 24, 32], 2.0),
        ("b16", &[1, 6, 32], 2.0),
    ];
    check_boxes(
        grids,
        "{outputs: {scores: [s8, s16], box: [b8, b16]}, code: distribution, strides: [8, 16], score: 0.2, nms: 0.5}",
        "classes",
    );
    let faces: &[(&str, &[u64], f32)] = &[
        ("cls", &[1, 24, 1], 0.5),
        ("obj", &[1, 24, 1], 0.5),
        ("loc", &[1, 24, 4], 0.4),
    ];
    check_boxes(
        faces,
        "{outputs: {scores: cls, objectness: obj, box: loc}, code: cell-exp, strides: [8], combine: geometric-mean, score: 0.1, nms: 0.3}",
        "classes",
    );
    let rows: &[(&str, &[u64], f32)] = &[("found", &[1, 24, 8], 0.5)];
    for more in [
        "classes: best",
        "across-classes: true",
        "across-classes: true, classes: best",
        "most: 3",
    ] {
        check_boxes(
            rows,
            &format!(
                "{{columns: {{box: [0, 4], objectness: [4, 5], scores: [5]}}, code: cell-exp, strides: [8], activation: sigmoid, score: 0.1, nms: 0.3, {more}}}"
            ),
            "classes",
        );
    }
    let ssd: &[(&str, &[u64], f32)] = &[("scores", &[1, 9, 4], 0.5), ("boxes", &[1, 9, 4], 0.5)];
    for more in [
        "background: first, nms: 0.45",
        "background: last, activation: softmax, classes: best, nms: 1",
        "nms: 1, most: 5",
    ] {
        for code in ["corners", "corners-yx", "centre", "corner-size"] {
            check_boxes(
                ssd,
                &format!(
                    "{{outputs: {{scores: scores, box: boxes}}, code: {code}, units: normalized, score: 0.2, {more}}}"
                ),
                "classes",
            );
        }
    }
    let anchors: Vec<String> = (0..9)
        .map(|at| format!("[0.{at}5, 0.4, 0.{}, 0.3]", at + 1))
        .collect();
    check_boxes(
        ssd,
        &format!(
            "{{outputs: {{scores: 0, box: 1}}, code: offsets, units: normalized, score: 0.2, nms: 0.4, anchors: [{}]}}",
            anchors.join(", ")
        ),
        "classes",
    );
    let columns: &[(&str, &[u64], f32)] = &[("found", &[1, 6, 24], 10.0)];
    check_boxes(columns, "{layout: yolo-v8, nms: 0.4, score: 0.3}", "classes");
    let numbered: &[(&str, &[u64], f32)] = &[("b", &[7, 4], 20.0), ("l", &[7], 3.0), ("s", &[7], 0.5)];
    check_boxes(numbered, "{layout: torchvision, nms: 1}", "categories");
    check_boxes(
        numbered,
        "{layout: torchvision, numbers: classes, nms: 0.4, across-classes: true}",
        "classes",
    );
    check_boxes(rows, "{layout: rows, score: 0.2}", "categories");
    check_boxes(
        ssd,
        "{outputs: {scores: 0, box: 1}, code: corners, units: normalized, categories: [5, 7, 9, 11], nms: 0.5}",
        "categories",
    );
}

#[test]
fn what_cannot_be_baked_is_said_with_its_value() {
    let numbered = answering(&[("b", &[7, 4], 20.0), ("l", &[7], 3.0), ("s", &[7], 0.5)]);
    for (yaml, part) in [
        (
            "{preprocess: yolo, boxes: {layout: torchvision, nms: 0.5}}",
            "across-classes",
        ),
        (
            "{preprocess: {resize: [17, 17]}, boxes: torchvision}",
            "see resize",
        ),
        ("{preprocess: {letterbox: 0}}", "1 to 16384"),
        (
            "{preprocess: yolo, boxes: {layout: nothing}}",
            "there is no layout `nothing`",
        ),
        (
            "{preprocess: yolo, boxes: ssd, classes: argmax}",
            "only one of both",
        ),
        ("{classes: argmax, scores: s, axis: 1}", "has no axis 1"),
    ] {
        let error = run_pass(&bake(yaml), &mut numbered.clone(), &Setting::default()).unwrap_err();
        assert!(error.to_string().contains(part), "{yaml}: {error}");
    }
    let mut twice = baked(&bake("{preprocess: yolo}"), &numbered);
    let error = run_pass(&bake("{preprocess: yolo}"), &mut twice, &Setting::default()).unwrap_err();
    assert!(error.to_string().contains("as they are already"), "{error}");
    let integers = model(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (uint8[1, 3, 4, 4] x) => (uint8[1, 3, 4, 4] y) { y = Identity (x) }",
    );
    let error = run_pass(
        &bake("{preprocess: {scale: 0.5}}"),
        &mut integers.clone(),
        &Setting::default(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("makes 0.5 of a pixel 1"), "{error}");
}
