//! Descriptions of data: every example of the page, flags and files alike, and what is refused.

use std::path::Path;

use secateur::data::{Dataset, Spec, page, write_npz};
use secateur::ir::Tensor;

use super::Bench;

/// The files that the page speaks of.
fn files(folder: &Path) {
    let floats = |dims: &[u64]| {
        let count = dims.iter().product::<u64>();
        let values: Vec<f32> = (0..count).map(|index| (index as f32 * 0.37).sin()).collect();
        Tensor::from_slice::<f32>(dims, &values).unwrap()
    };
    let integers = |dims: &[u64], below: i64| {
        let count = dims.iter().product::<u64>() as i64;
        let values: Vec<i64> = (0..count).map(|index| index % below).collect();
        Tensor::from_slice::<i64>(dims, &values).unwrap()
    };
    let pixels = Tensor::from_slice::<u8>(&[2, 28, 28], &[7; 2 * 28 * 28]).unwrap();
    let write = |name: &str, arrays: &[(&str, &Tensor)]| {
        write_npz(
            &folder.join(name),
            arrays.iter().map(|(name, tensor)| (*name, *tensor)),
        )
        .unwrap();
    };
    write(
        "digits.npz",
        &[("x", &floats(&[6, 1, 8, 8])), ("y", &integers(&[6], 10))],
    );
    write(
        "text.npz",
        &[("ids", &integers(&[4, 5], 9)), ("mask", &integers(&[4, 5], 2))],
    );
    write("pixels.npz", &[("x", &pixels)]);
    write(
        "masks.npz",
        &[
            ("pixels", &floats(&[2, 3, 28, 28])),
            ("classes", &integers(&[2, 28, 28], 3)),
        ],
    );
    std::fs::write(folder.join("pairs.tsv"), "0\t1\t1\n2\t3\t0\n1\t4\t0\n").unwrap();
    std::fs::write(folder.join("texts.tsv"), "0\tab\n1\tc\n2\ta\n3\tb\n4\tcab\n").unwrap();
    std::fs::write(folder.join("rows.npy"), npy(&[5, 4])).unwrap();
    for (place, names) in [
        ("photos", ["a.png", "b.png"]),
        ("classes/cat", ["a.png", "b.png"]),
        ("classes/dog", ["c.png", "d.png"]),
    ] {
        std::fs::create_dir_all(folder.join(place)).unwrap();
        for name in names {
            image::RgbImage::from_pixel(40, 40, image::Rgb([10, 20, 30]))
                .save(folder.join(place).join(name))
                .unwrap();
        }
    }
    std::fs::write(folder.join("photos/labels.tsv"), "a.png\t1\nb.png\t0\n").unwrap();
    std::fs::write(
        folder.join("boxes.json"),
        r#"{"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png", "width": 40, "height": 40}],
            "annotations": [{"id": 1, "image_id": 2, "category_id": 3, "bbox": [1, 2, 30, 20]}],
            "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}]}"#,
    )
    .unwrap();
    std::fs::create_dir_all(folder.join("photos/more")).unwrap();
    std::fs::write(folder.join("photos/more/other.tsv"), "file\tlabel\nb.png\t3\n").unwrap();
    let set = folder.join("sets/test_data_set_0");
    std::fs::create_dir_all(&set).unwrap();
    // A tensor: dims 2 and 3, type float, 24 bytes.
    let mut tensor = vec![0x08, 2, 0x08, 3, 0x10, 1, 0x4a, 24];
    tensor.extend([0u8; 24]);
    std::fs::write(set.join("input_0.pb"), tensor).unwrap();
}

/// A `.npy` file of floats.
fn npy(dims: &[u64; 2]) -> Vec<u8> {
    let header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}",
        dims[0], dims[1]
    );
    let length = (10 + header.len()).div_ceil(64) * 64 - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(format!("{header:<width$}\n", width = length - 1).bytes());
    bytes.extend((0..dims[0] * dims[1]).flat_map(|index| (index as f32).to_le_bytes()));
    bytes
}

/// The examples of the page, each with the inputs that it is for.
fn examples() -> Vec<(String, String)> {
    page()
        .split("```yaml\n")
        .skip(1)
        .map(|part| {
            let text = part.split("```").next().unwrap().to_owned();
            let first = text.lines().next().unwrap();
            let inputs = first
                .strip_prefix("# for the inputs ")
                .unwrap_or_else(|| panic!("{first}"));
            (inputs.to_owned(), text)
        })
        .collect()
}

fn graph(inputs: &str) -> secateur::ir::Graph {
    let text = format!(
        "<ir_version: 8, opset_import: [\"\" : 17]> g {inputs} => (float[1] out) <float[1] out = {{1}}> {{ }}"
    );
    let message =
        secateur::format::text::parse_model(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    secateur::format::lift(message, &Default::default())
        .unwrap()
        .graph
}

#[test]
fn every_example_of_the_page_opens_and_gives_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path());
    let found = examples();
    assert!(found.len() >= 10, "{}", found.len());
    for (number, (inputs, text)) in found.iter().enumerate() {
        let path = folder.path().join(format!("{number}.yaml"));
        std::fs::write(&path, text).unwrap();
        let (spec, base) = Spec::from_path(&path).unwrap_or_else(|error| panic!("{text}\n{error}"));
        let data =
            Dataset::open(&spec, &base, &graph(inputs)).unwrap_or_else(|error| panic!("{text}\n{error}"));
        let batch = data
            .batch(data.batches().start)
            .unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(batch.inputs.len(), inputs.matches("] ").count(), "{text}");
        let labelled =
            text.contains("labels") && !text.contains("shard") && !text.contains("labels: reference");
        assert_eq!(
            data.has_labels(),
            labelled || text.contains("folder: classes") || text.contains("pairs:"),
            "{text}"
        );
    }
}

#[test]
fn every_field_is_on_the_page_and_in_the_schema_of_pipelines() {
    let text = page();
    let schema = secateur::pipeline::pipeline_schema().to_string();
    for field in [
        "npz",
        "images",
        "images.folder",
        "images.labels",
        "images.preprocess",
        "onnx",
        "synthetic",
        "synthetic.range",
        "synthetic.below",
        "synthetic.sizes",
        "inputs",
        "labels",
        "preprocess",
        "preprocess.preset",
        "preprocess.resize",
        "preprocess.crop",
        "preprocess.color",
        "preprocess.scale",
        "preprocess.mean",
        "preprocess.std",
        "preprocess.layout",
        "samples",
        "seed",
        "shard",
        "batch",
    ] {
        assert!(
            text.contains(&format!("| `{field}` |")),
            "{field} is not on the page"
        );
        let last = field.rsplit('.').next().unwrap();
        assert!(
            schema.contains(&format!("\"{last}\":")),
            "{last} is not in the schema"
        );
    }
}

#[test]
fn mistakes_in_descriptions_are_shown_at_their_place_in_plain_words() {
    let bench = Bench::new();
    files(bench.folder());
    bench.model(
        "net",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[n, 3, 16, 16] x) => (float[n, 3, 16, 16] y) { y = Relu(x) }",
    );
    for (text, place, words) in [
        (
            "images: { folder: photos }\nlables: a.tsv\n",
            (2, 1),
            vec!["there is no `lables`", "did you mean `labels`?"],
        ),
        (
            "images: { folder: photos, preprocess: { crop: 224 } }\n",
            (1, 47),
            vec!["224 is not allowed", "a list of 2"],
        ),
        (
            "images: { folder: photos }\npreprocess: { resize: [320] }\n",
            (2, 23),
            vec!["[320] is not allowed", "a whole number"],
        ),
        (
            "images: { folder: photos }\npreprocess: torchvison\n",
            (2, 13),
            vec!["torchvison", "did you mean `torchvision`?"],
        ),
        (
            "npz: digits.npz\nsamples: lots\n",
            (2, 10),
            vec!["lots is not allowed", "a whole number"],
        ),
        (
            "npz: digits.npz\nonnx: sets\n",
            (1, 1),
            vec!["exactly one of npz, images, onnx, synthetic"],
        ),
        (
            "onnx: sets\nlabels: y\n",
            (1, 1),
            vec!["`labels` has no meaning for `onnx`"],
        ),
        (
            "images: { folder: photos, labels: a }\nlabels: b\n",
            (1, 1),
            vec!["`labels` stands in `images` and beside it"],
        ),
        ("npz: digits.npz\nshard: 4/2\n", (1, 1), vec!["is not a shard"]),
        ("npz: a\nnpz: b\n", (2, 1), vec!["npz"]),
        ("npz: digits.npz\n inputs: { a: b\n", (2, 8), vec![]),
    ] {
        std::fs::write(bench.path("wrong.yaml"), text).unwrap();
        let called = bench.call("evaluate net.onnx --data wrong.yaml --json");
        let error = called.json()["error"].clone();
        assert_eq!(
            (
                called.code,
                error["code"].as_str().unwrap_or_default().starts_with("data-")
                    || error["code"] == "yaml-syntax"
            ),
            (2, true),
            "{text}\n{error}"
        );
        assert_eq!(
            (error["line"].as_u64(), error["column"].as_u64()),
            (Some(place.0), Some(place.1)),
            "{text}\n{error}"
        );
        let said = error.to_string();
        for word in words {
            assert!(said.contains(word), "{text}: no `{word}` in {said}");
        }
        for foreign in [
            "variant",
            "untagged",
            "f64",
            "u32",
            "\\u{a}",
            "expected",
            "struct",
            "invalid type",
        ] {
            assert!(!said.contains(foreign), "{text}: `{foreign}` in {said}");
        }
        // The same mistake in a pipeline has its place there.
        if place.0 > 0 && !text.contains("\n inputs") && !text.contains("npz: b") {
            let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
            std::fs::write(
                bench.path("wrong.yaml"),
                format!("version: 1\ndata:\n  evaluation:\n{indented}steps: [simplify]\n"),
            )
            .unwrap();
            let called = bench.call("run wrong.yaml net.onnx -o never.onnx --json");
            let error = called.json()["error"].clone();
            assert_eq!(called.code, 2, "{text}\n{error}");
            assert_eq!(
                (error["line"].as_u64(), error["column"].as_u64()),
                (Some(place.0 + 3), Some(place.1 + 4)),
                "{text}\n{error}"
            );
        }
    }
}

#[test]
fn labels_of_images_are_found_and_used_wherever_they_stand() {
    let bench = Bench::new();
    files(bench.folder());
    bench.model(
        "net",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[n, 3, 16, 16] x) => (float[n, 3] y) { s = GlobalAveragePool(x) y = Flatten(s) }",
    );
    let preprocess = "preprocess: { resize: 16, crop: [16, 16] }\n";
    for (name, text) in [
        ("found", "images: { folder: photos }\n"),
        ("inside", "images: { folder: photos, labels: labels.tsv }\n"),
        ("beside", "images: { folder: photos }\nlabels: labels.tsv\n"),
    ] {
        std::fs::write(bench.path(&format!("{name}.yaml")), format!("{text}{preprocess}")).unwrap();
        let called = bench.call(&format!(
            "evaluate net.onnx --data {name}.yaml --latency-runs 0 --json"
        ));
        assert_eq!(called.code, 0, "{name}: {}", called.text());
        assert!(called.json()["accuracy"].is_number(), "{name}: {}", called.text());
    }
    // A folder and a description of it are the same.
    let called = bench.call(
        r#"evaluate net.onnx --data photos --preprocess {"resize":16,"crop":[16,16]} --latency-runs 0 --json"#,
    );
    assert_eq!(called.code, 0, "{}", called.text());
    assert!(called.json()["accuracy"].is_number(), "{}", called.text());
}

#[test]
fn data_in_place_and_preprocess_are_taken_by_every_verb_that_takes_data() {
    let bench = Bench::new();
    files(bench.folder());
    bench.model(
        "net",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[n, 3, 16, 16] x) => (float[n, 4] y)
         <float[3, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> { s = GlobalAveragePool(x) f = Flatten(s) y = MatMul(f, w) }",
    );
    let place = r#"{"images":{"folder":"photos"},"preprocess":{"resize":16,"crop":[16,16]}}"#;
    let bare = r#"--preprocess {"resize":16,"crop":[16,16]}"#;
    for arguments in [
        format!("evaluate net.onnx --latency-runs 0 --data {place}"),
        format!("evaluate net.onnx --latency-runs 0 --data photos {bare}"),
        format!("evaluate net.onnx --latency-runs 0 --data evaluation={place}"),
        format!("verify net.onnx net.onnx --data {place}"),
        format!("verify net.onnx net.onnx --data calibration={place}"),
        format!("verify net.onnx net.onnx --data photos {bare}"),
        format!("stats net.onnx --force -o s1 --data {place}"),
        format!("stats net.onnx --force -o s1 --data calibration={place}"),
        format!("stats net.onnx --force -o s1 --data photos {bare}"),
        format!("features net.onnx --force -o f.npz --data {place}"),
        format!("features net.onnx --force -o f.npz --data photos {bare}"),
        format!("quantize net.onnx --force -o q.onnx --data {place}"),
        format!("quantize net.onnx --force -o q.onnx --data calibration={place}"),
        format!("quantize net.onnx --force -o q.onnx --data calibration=photos {bare}"),
    ] {
        let called = bench.call(&arguments);
        assert_eq!(
            called.code,
            0,
            "{arguments}\n{}\n{}",
            called.text(),
            called.stderr
        );
    }
    let called = bench.call(&format!("quantize net.onnx -o never.onnx {bare}"));
    assert_eq!(called.code, 2, "{}", called.stderr);
}

#[test]
fn steps_and_gates_without_their_data_are_refused_before_anything_runs() {
    let bench = Bench::new();
    files(bench.folder());
    bench.model(
        "net",
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[n, 4] x) => (float[n, 4] y)
         <float[4, 4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}> { y = MatMul(x, w) }",
    );
    for (text, line, words) in [
        (
            "version: 1\nsteps:\n  - simplify\n  - quantize\n",
            4,
            vec!["quantize", "calibration", "--data calibration="],
        ),
        (
            "version: 1\nsteps:\n  - simplify\n  - quantize-weights: { rounding: gptq }\n",
            4,
            vec!["calibration"],
        ),
        (
            "version: 1\nsteps:\n  - simplify\n  - finetune\n",
            4,
            vec!["training", "--data training="],
        ),
        (
            "version: 1\nsteps: [simplify]\ngates:\n  - size: { at-most: 2 }\n  - latency: { at-most: 2 }\n",
            5,
            vec!["latency", "--data evaluation="],
        ),
        (
            "version: 1\nsteps: [simplify]\ngates:\n  - accuracy: { drop: 0.1 }\n",
            4,
            vec!["accuracy", "evaluation"],
        ),
        (
            "version: 1\ndata: { evaluation: rows.npy }\nsteps: [simplify]\ngates:\n  - accuracy: { drop: 0.1 }\n",
            5,
            vec!["accuracy", "labels"],
        ),
    ] {
        std::fs::write(bench.path("lacks.yaml"), text).unwrap();
        let called = bench.call("run lacks.yaml net.onnx -o never.onnx --json");
        let error = called.json()["error"].clone();
        assert_eq!(
            (called.code, error["code"].as_str()),
            (2, Some("data-missing")),
            "{text}\n{error}"
        );
        assert_eq!(error["line"].as_u64(), Some(line), "{text}\n{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{text}: no `{word}` in {error}");
        }
        assert!(!bench.path("never.onnx").exists());
    }
    // A verb names the flag.
    let called = bench.call("quantize net.onnx -o never.onnx");
    assert_eq!(called.code, 2, "{}", called.stderr);
    assert!(called.stderr.contains("--data calibration="), "{}", called.stderr);
}
