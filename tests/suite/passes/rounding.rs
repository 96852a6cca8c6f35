//! Codes chosen by what a layer puts out, on a trained model: less error than the nearest codes at the same size.

use std::path::{Path, PathBuf};

use secateur::data::{Dataset, Spec};
use secateur::engine::{CompileOptions, Engine, RunValue, TractEngine};
use secateur::format::ReadOptions;
use secateur::ir::{DType, Graph, ValueId};
use secateur::passes::{
    LayerPrecision, Precision, QuantizeWeights, ResourceError, Rounding, SearchPrecision, Sensitivity,
};
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
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, role: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
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
        failure.to_string().contains("needs calibration data or stats"),
        "{failure}"
    );
}

/// 4-bit weights of the digits CNN with these options changed.
fn four_bits(change: impl Fn(&mut QuantizeWeights)) -> (Model, PassReport) {
    let mut model = read(&fixture("digits_cnn.onnx"));
    let mut pass = QuantizeWeights {
        kind: Kind::Int4,
        operators: vec!["Conv".into(), "Gemm".into(), "MatMul".into()],
        minimum_elements: 0,
        rounding: Rounding::Gptq,
        ..QuantizeWeights::default()
    };
    change(&mut pass);
    let report = run_with(&pass, &mut model, &Setting::default(), Some(&Digits)).unwrap();
    (model, report)
}

#[test]
fn adaround_and_corrected_biases_keep_more_of_the_output() {
    let expected = outputs(&read(&fixture("digits_cnn.onnx")));
    let of = |change: &dyn Fn(&mut QuantizeWeights)| error(&four_bits(change).0, &expected);
    let nearest = of(&|pass| pass.rounding = Rounding::Nearest);
    let gptq = of(&|_| {});
    let uncorrected = of(&|pass| pass.correct_bias = false);
    let adaround = of(&|pass| pass.rounding = Rounding::Adaround);
    assert!(adaround < 0.8 * nearest, "{adaround} against {nearest}");
    // On small networks the two differ little; the mean error is what must not grow.
    assert!(gptq < 1.1 * uncorrected, "{gptq} against {uncorrected}");
}

#[test]
fn layers_have_the_type_that_the_first_match_gives_them() {
    let layer = |pattern: &str, precision| LayerPrecision {
        pattern: pattern.to_owned(),
        precision,
        block: None,
    };
    let original = read(&fixture("digits_cnn.onnx"));
    let weights: Vec<String> = original
        .graph
        .topological_order()
        .into_iter()
        .filter(|id| {
            original
                .graph
                .operator(*id)
                .is_some_and(|o| o.is("Conv") || o.is("Gemm"))
        })
        .filter_map(|id| {
            Some(
                original
                    .graph
                    .value(original.graph.input(id, 1)?)?
                    .name
                    .to_string(),
            )
        })
        .collect();
    let (first, last) = (weights.first().unwrap(), weights.last().unwrap());
    let (model, report) = four_bits(|pass| {
        pass.layers = vec![
            layer(&format!("^{}$", regex::escape(first)), Precision::Float),
            layer(&format!("^{}$", regex::escape(last)), Precision::Int8),
            layer(&regex::escape(last), Precision::Int2),
        ];
    });
    let constants: Vec<(String, DType)> = model
        .graph
        .node_ids()
        .filter_map(|id| {
            let value = ValueId::new(id, 0);
            Some((
                model.graph.value(value)?.name.to_string(),
                model.graph.constant(value)?.dtype(),
            ))
        })
        .collect();
    let dtype = |name: String| {
        constants
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, dtype)| *dtype)
    };
    assert_eq!(dtype(first.clone()), Some(DType::F32));
    assert_eq!(dtype(format!("{last}_quantized")), Some(DType::I8));
    for middle in &weights[1..weights.len() - 1] {
        assert_eq!(dtype(format!("{middle}_quantized")), Some(DType::I4), "{middle}");
    }
    assert!(said(&report).contains("so `layers` says"), "{:?}", report.left);
}

#[test]
fn a_search_for_precisions_keeps_its_budget_and_writes_a_pipeline_that_gives_the_same_model() {
    let original = read(&fixture("digits_cnn.onnx"));
    let expected = outputs(&original);
    let search = |bits: f64, sensitivity: Sensitivity| {
        let mut model = original.clone();
        let pass = SearchPrecision {
            bits: Some(bits),
            minimum_elements: 0,
            sensitivity,
            samples: 50,
            pipeline: Some("found.yaml".into()),
            ..SearchPrecision::default()
        };
        let report = run_with(&pass, &mut model, &Setting::default(), Some(&Digits)).unwrap();
        (model, report)
    };
    let narrow = error(&search(4.0, Sensitivity::Output).0, &expected);
    let (wide, _) = search(8.0, Sensitivity::Output);
    for sensitivity in [Sensitivity::Output, Sensitivity::Layer] {
        let (model, report) = search(5.0, sensitivity);
        let found = error(&model, &expected);
        assert!(
            found < 0.7 * narrow && found > error(&wide, &expected),
            "{sensitivity:?}: {found} against {narrow}"
        );
        let text = std::str::from_utf8(&report.files[0].content).unwrap();
        let replayed = secateur::pipeline::Pipeline::parse("found.yaml", text, Path::new("")).unwrap();
        let mut again = original.clone();
        for step in &replayed.steps {
            run_with(&*step.pass, &mut again, &Setting::default(), Some(&Digits)).unwrap();
        }
        let message = |model: &Model| model_to_proto(model, &ExternalFiles::default()).unwrap();
        assert_eq!(message(&again), message(&model), "{text}");
    }
}

#[test]
fn a_search_without_a_budget_or_with_one_that_nothing_fits_is_refused() {
    let failure = |pass: SearchPrecision| {
        let mut model = read(&fixture("digits_cnn.onnx"));
        run_with(&pass, &mut model, &Setting::default(), Some(&Digits))
            .unwrap_err()
            .to_string()
    };
    assert!(failure(SearchPrecision::default()).contains("give a budget"));
    let impossible = SearchPrecision {
        bits: Some(3.0),
        samples: 1,
        ..SearchPrecision::default()
    };
    assert!(failure(impossible).contains("below what the narrowest type needs"));
}
