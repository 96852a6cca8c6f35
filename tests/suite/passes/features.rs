//! Features and linear heads on the fixtures' digits, and on small models.

use std::path::Path;

use secateur::data::{Dataset, Spec, write_npz};
use secateur::format::{ReadOptions, Source, read};
use secateur::ir::{Graph, Model};
use secateur::passes::{HeadMethod, PassError, ResourceError, TransferFeatures};

use super::*;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/");

/// An engine, and one description of data for every role.
struct Given<'a> {
    spec: Spec,
    base: &'a Path,
}

impl Resources for Given<'_> {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, _: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        Dataset::open(&self.spec, self.base, graph).map_err(ResourceError::from)
    }

    fn jobs(&self) -> usize {
        2
    }
}

fn spec(text: &str) -> Spec {
    serde_yaml::from_str(text).unwrap()
}

fn digits() -> Model {
    let source = Source::Path(format!("{FIXTURES}digits_cnn.onnx").into());
    read(source, &ReadOptions::default()).unwrap().model
}

fn digits_data(samples: u64) -> Given<'static> {
    Given {
        spec: spec(&format!(
            "{{npz: digits_test.npz, labels: y, samples: {samples}, batch: 10}}"
        )),
        base: Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/data")),
    }
}

#[test]
fn a_head_trained_on_features_classifies_and_the_old_head_is_gone() {
    for (method, softmax) in [
        (HeadMethod::Logistic, false),
        (HeadMethod::Logistic, true),
        (HeadMethod::Ridge, false),
    ] {
        let mut headed = digits();
        let pass = TransferFeatures {
            method,
            softmax,
            ..TransferFeatures::default()
        };
        let report = run_with(&pass, &mut headed, &Setting::default(), Some(&digits_data(120))).unwrap();
        secateur::analysis::check(&headed).unwrap();
        let trained = report
            .changes
            .iter()
            .find(|change| change.rule == "head trained")
            .unwrap();
        assert!(
            trained
                .details
                .iter()
                .any(|text| text.starts_with("accuracy 0.9") || text.starts_with("accuracy 1.0")),
            "{trained:?}"
        );
        let graph = &headed.graph;
        assert_eq!(graph.outputs().len(), 1);
        assert_eq!(graph.outputs()[0].name, "scores");
        assert!(
            graph.outputs()[0].ty.to_string().ends_with(", 10]"),
            "{}",
            graph.outputs()[0].ty
        );
        let last = graph
            .get(graph.output_values()[0].unwrap().node)
            .unwrap()
            .operator()
            .unwrap();
        assert!(last.is(if softmax { "Softmax" } else { "Gemm" }));
        lines(&headed);
    }
}

#[test]
fn a_head_is_the_same_for_any_number_of_threads_and_the_cut_alone_needs_no_data() {
    let mut one = digits();
    let mut two = digits();
    let pass = TransferFeatures::default();
    struct Single(Given<'static>);
    impl Resources for Single {
        fn engine(&self) -> Result<&dyn Engine, ResourceError> {
            self.0.engine()
        }
        fn data(&self, role: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
            self.0.data(role, graph)
        }
        fn jobs(&self) -> usize {
            1
        }
    }
    run_with(
        &pass,
        &mut one,
        &Setting::default(),
        Some(&Single(digits_data(60))),
    )
    .unwrap();
    run_with(&pass, &mut two, &Setting::default(), Some(&digits_data(60))).unwrap();
    let scores = |model: &Model| {
        let id = model.graph.find_value("scores.weight").unwrap();
        model.graph.constant(id).unwrap().raw().unwrap().into_owned()
    };
    assert_eq!(scores(&one), scores(&two));
    let mut cut = digits();
    let only = TransferFeatures {
        features_only: true,
        ..TransferFeatures::default()
    };
    assert!(!only.about().needs.training && pass.about().needs.training);
    run_pass(&only, &mut cut, &Setting::default()).unwrap();
    assert_eq!(cut.graph.outputs()[0].ty.rank(), Some(2));
    assert!(cut.graph.operator_count() < digits().graph.operator_count());
}

const MAPS: &str = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[n,1,2,2] x) => (float[n,1,2,2] scores) {
  h = Relu (x)
  scores = Neg (h)
}"#;

/// Targets that are a linear function of maps, and a model that has an output named like the head's.
fn linear(folder: &Path) -> Given<'_> {
    let x: Vec<f32> = (0..24).map(|at| ((at * 7 + 3) % 11) as f32).collect();
    let y: Vec<f32> = x.chunks(4).map(|row| 2.0 * row[0] - 0.5 * row[2] + 3.0).collect();
    let x = Tensor::from_slice(&[6, 1, 2, 2], &x).unwrap();
    let y = Tensor::from_slice(&[6], &y).unwrap();
    let bad = Tensor::from_slice(&[6], &[0i64, 2, 2, 0, 2, 0]).unwrap();
    write_npz(&folder.join("d.npz"), [("x", &x), ("y", &y), ("bad", &bad)]).unwrap();
    Given {
        spec: spec("{npz: d.npz, inputs: {x: x}, labels: y}"),
        base: folder,
    }
}

#[test]
fn ridge_finds_a_linear_relation_of_flattened_maps() {
    let folder = tempfile::tempdir().unwrap();
    let given = linear(folder.path());
    let mut headed = model(MAPS);
    let pass = TransferFeatures {
        at: "h".to_owned(),
        method: HeadMethod::Ridge,
        alpha: 1e-9,
        ..TransferFeatures::default()
    };
    run_with(&pass, &mut headed, &Setting::default(), Some(&given)).unwrap();
    let found = lines(&headed);
    let head = [
        "flatten_1 = Flatten <axis = 1> (h)",
        "scores = Gemm <transB = 1> (flatten_1, \"scores.weight\", \"scores.bias\")",
    ];
    assert_eq!(found[found.len() - 2..], head);
    let weights = headed
        .graph
        .constant(headed.graph.find_value("scores.weight").unwrap())
        .unwrap();
    let bias = headed
        .graph
        .constant(headed.graph.find_value("scores.bias").unwrap())
        .unwrap();
    for (found, expected) in weights.to_f64().unwrap().iter().zip([2.0, 0.0, -0.5, 0.0]) {
        assert!((found - expected).abs() < 1e-5, "{weights:?}");
    }
    assert!((bias.to_f64().unwrap()[0] - 3.0).abs() < 1e-4);
}

#[test]
fn what_cannot_be_trained_is_refused_with_the_reason_and_the_model_stays() {
    let folder = tempfile::tempdir().unwrap();
    let h = || TransferFeatures {
        at: "h".to_owned(),
        ..TransferFeatures::default()
    };
    let cases: Vec<(TransferFeatures, &str, &str)> = vec![
        (TransferFeatures::default(), "y", "no Gemm or MatMul"),
        (
            TransferFeatures {
                at: "nothing".to_owned(),
                ..h()
            },
            "y",
            "no value \"nothing\"",
        ),
        (h(), "y", "takes integer labels"),
        (h(), "bad", "class 1 of 3 has no sample"),
        (
            TransferFeatures {
                classes: Some(2),
                ..h()
            },
            "bad",
            "labels up to 2",
        ),
        (
            TransferFeatures {
                softmax: true,
                method: HeadMethod::Ridge,
                ..h()
            },
            "y",
            "no logits",
        ),
        (
            TransferFeatures { c: 0.0, ..h() },
            "bad",
            "c: 0 is not a strength",
        ),
        (
            TransferFeatures {
                method: HeadMethod::Ridge,
                alpha: f64::NAN,
                ..h()
            },
            "y",
            "alpha: NaN",
        ),
        (h(), "", "no labels to train on"),
    ];
    for (pass, labels, message) in cases {
        let mut given = linear(folder.path());
        given.spec.labels = Some(labels.to_owned()).filter(|name| !name.is_empty());
        let mut headed = model(MAPS);
        let before = lines(&headed);
        let error = run_with(&pass, &mut headed, &Setting::default(), Some(&given)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}\n{message}");
        assert!(!matches!(error, PassError::Edit { .. }));
        assert_eq!(lines(&headed), before);
    }
}
