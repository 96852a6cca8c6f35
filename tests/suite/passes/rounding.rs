//! Codes chosen by what a layer puts out, on a trained model: less error than the nearest codes at the same size.

use std::path::{Path, PathBuf};

use secateur::data::{Dataset, Spec};
use secateur::engine::{CompileOptions, Engine, RunValue, TractEngine};
use secateur::format::ReadOptions;
use secateur::ir::Graph;
use secateur::passes::{QuantizeWeights, Rounding};
use secateur::quantize::Kind;

use super::*;

pub(super) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

pub(super) fn read(path: &Path) -> Model {
    let mut model = secateur::format::read(path, &ReadOptions::default())
        .unwrap()
        .model;
    infer(&mut model);
    model
}

fn digits(file: &str, graph: &Graph) -> Dataset {
    let spec = Spec {
        npz: Some(fixture(file)),
        batch: Some(50),
        samples: Some(200),
        ..Spec::default()
    };
    Dataset::open(&spec, Path::new(""), graph).unwrap()
}

pub(super) struct Digits;

impl Resources for Digits {
    fn engine(&self) -> Result<&dyn Engine, String> {
        Ok(&TractEngine)
    }

    fn data(&self, role: &str, graph: &Graph) -> Result<Dataset, String> {
        assert_eq!(role, "calibration");
        Ok(digits("data/digits_calib.npz", graph))
    }

    fn jobs(&self) -> usize {
        2
    }
}

pub(super) fn outputs(model: &Model) -> Vec<f64> {
    let lowered = secateur::lower::for_engine(model, &TractEngine).unwrap();
    let session = TractEngine.compile(&lowered, &CompileOptions::default()).unwrap();
    let data = digits("data/digits_test.npz", &model.graph);
    let mut all = Vec::new();
    for index in data.batches() {
        let batch = data.batch(index).unwrap();
        for value in session.run(&batch.inputs).unwrap().values() {
            let RunValue::Tensor(tensor) = value else {
                panic!("a tensor")
            };
            all.extend(tensor.to_f64().unwrap());
        }
    }
    all
}

pub(super) fn error(quantized: &Model, expected: &[f64]) -> f64 {
    let found = outputs(quantized);
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum()
}

#[test]
fn codes_that_keep_the_output_beat_the_nearest_ones_on_images_that_were_not_seen() {
    for name in ["digits_cnn.onnx", "digits_mlp.onnx", "digits_mlp_dynamo.onnx"] {
        let original = read(&fixture(name));
        let expected = outputs(&original);
        let quantized = |rounding: Rounding, block: usize| {
            let mut model = original.clone();
            let pass = QuantizeWeights {
                kind: Kind::Int4,
                operators: vec!["Conv".into(), "Gemm".into(), "MatMul".into()],
                minimum_elements: 0,
                rounding,
                block,
                ..QuantizeWeights::default()
            };
            let report = run_with(&pass, &mut model, &Setting::default(), Some(&Digits)).unwrap();
            assert!(report.changed, "{name}: {:?}", report.notes);
            error(&model, &expected)
        };
        for block in [0, 16] {
            let (plain, better) = (
                quantized(Rounding::Nearest, block),
                quantized(Rounding::Gptq, block),
            );
            assert!(
                better < 0.8 * plain,
                "{name} in blocks of {block}: {better} against {plain}"
            );
        }
    }
}

#[test]
fn without_data_it_says_what_is_missing() {
    let mut model = read(&fixture("digits_mlp.onnx"));
    let pass = QuantizeWeights {
        rounding: Rounding::Gptq,
        ..QuantizeWeights::default()
    };
    let failure = run_with(&pass, &mut model, &Setting::default(), None).unwrap_err();
    assert!(
        failure.to_string().contains("needs data and an engine"),
        "{failure}"
    );
}
