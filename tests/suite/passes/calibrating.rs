//! Ranges and biases from data: calibrators, biases corrected against the float model, data that cannot be calibrated with.

use std::path::{Path, PathBuf};

use secateur::data::{Dataset, Spec, write_npz};
use secateur::engine::{Engine, TractEngine};
use secateur::ir::{Graph, Model, Tensor};
use secateur::passes::{CorrectBias, Form, Pass, PassReport, Quantize, QuantizeWeights, Resources, Rounding};
use secateur::quantize::{Calibrator, Kind};

use super::rounding::{Digits, error, fixture, outputs, read};
use super::{Setting, lines, model, run_with};

/// The digits with the float model at hand.
struct WithReference(PathBuf);

impl Resources for WithReference {
    fn engine(&self) -> Result<&dyn Engine, String> {
        Digits.engine()
    }

    fn data(&self, role: &str, graph: &Graph) -> Result<Dataset, String> {
        Digits.data(role, graph)
    }

    fn model(&self, path: &Path) -> Result<Model, String> {
        assert_eq!(path, self.0);
        Ok(read(path))
    }

    fn jobs(&self) -> usize {
        2
    }
}

#[test]
fn corrected_biases_bring_the_outputs_back() {
    let path = fixture("digits_cnn.onnx");
    let original = read(&path);
    let expected = outputs(&original);
    let weights = QuantizeWeights {
        kind: Kind::Int4,
        operators: vec!["Conv".into(), "Gemm".into()],
        minimum_elements: 0,
        per_channel: false,
        ..QuantizeWeights::default()
    };
    let codes = Quantize {
        correct_bias: false,
        per_channel: false,
        calibrate: Calibrator::Percentile(99.0),
        ..Quantize::default()
    };
    let passes: [(&dyn Pass, f64); 2] = [(&weights, 0.9), (&codes, 1.0)];
    for (pass, share) in passes {
        let mut quantized = original.clone();
        run_with(pass, &mut quantized, &Setting::default(), Some(&Digits)).unwrap();
        let before = error(&quantized, &expected);
        let correction = CorrectBias {
            reference: path.clone(),
            ..CorrectBias::default()
        };
        let reference = WithReference(path.clone());
        let report = run_with(&correction, &mut quantized, &Setting::default(), Some(&reference)).unwrap();
        assert!(report.changed, "{}: {:?}", pass.about().name, report.notes);
        let after = error(&quantized, &expected);
        assert!(
            after < share * before,
            "{}: {after} against {before}",
            pass.about().name
        );
        // What is right already is left alone.
        let again = run_with(
            &correction,
            &mut original.clone(),
            &Setting::default(),
            Some(&reference),
        )
        .unwrap();
        assert!(!again.changed);
    }
    let failure = run_with(
        &CorrectBias::default(),
        &mut original.clone(),
        &Setting::default(),
        Some(&Digits),
    );
    assert!(failure.unwrap_err().to_string().contains("name the float model"));
}

#[test]
fn codes_for_blocked_products_keep_the_output_too() {
    let original = read(&fixture("digits_vit.onnx"));
    let products = |rounding| {
        let mut model = original.clone();
        let pass = QuantizeWeights {
            kind: Kind::Int4,
            block: 16,
            form: Form::MatMulNBits,
            rounding,
            minimum_elements: 0,
            ..QuantizeWeights::default()
        };
        run_with(&pass, &mut model, &Setting::default(), Some(&Digits)).unwrap();
        lines(&model)
    };
    let (nearest, gptq) = (products(Rounding::Nearest), products(Rounding::Gptq));
    let nodes = |lines: &[String]| lines.iter().filter(|line| line.contains("MatMulNBits")).count();
    assert!(nodes(&gptq) > 0);
    assert_eq!(nodes(&nearest), nodes(&gptq));
    assert_ne!(nearest, gptq);
}

/// One convolution that reads the data as it is.
const CONVOLUTION: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
    g (float[N,1,2,2] x) => (float[N,2,1,1] y)
    <float[2,1,2,2] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = Conv (x, w) }"#;

struct Samples {
    folder: tempfile::TempDir,
}

impl Samples {
    /// Samples `[count, 1, 2, 2]`, or another shape of as many elements.
    fn of(values: &[f32], dims: &[u64]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let x = Tensor::from_slice(dims, values).unwrap();
        write_npz(&folder.path().join("x.npz"), [("x", &x)]).unwrap();
        Self { folder }
    }
}

impl Resources for Samples {
    fn engine(&self) -> Result<&dyn Engine, String> {
        Ok(&TractEngine)
    }

    fn data(&self, _: &str, graph: &Graph) -> Result<Dataset, String> {
        let spec = Spec {
            npz: Some("x.npz".into()),
            ..Spec::default()
        };
        Dataset::open(&spec, self.folder.path(), graph).map_err(|error| error.to_string())
    }

    fn jobs(&self) -> usize {
        1
    }
}

fn calibrated(calibrate: Calibrator, samples: &Samples) -> Result<(Vec<String>, PassReport), String> {
    let mut model = model(CONVOLUTION);
    let pass = Quantize {
        calibrate,
        ..Quantize::default()
    };
    let report =
        run_with(&pass, &mut model, &Setting::default(), Some(samples)).map_err(|e| e.to_string())?;
    Ok((lines(&model), report))
}

#[test]
fn the_moving_average_is_the_mean_of_the_samples_extremes() {
    let samples = Samples::of(&[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 9.2], &[2, 1, 2, 2]);
    let (lines, report) = calibrated(Calibrator::MovingAverage, &samples).unwrap();
    // (1 + 9.2) / 2 over 255 steps.
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("x_scale") && line.contains("= 0.0199999")),
        "{lines:?} {report:?}"
    );
    let (lines, _) = calibrated(Calibrator::MinMax, &samples).unwrap();
    assert!(
        !lines
            .iter()
            .any(|line| line.starts_with("x_scale") && line.contains("= 0.0199999"))
    );
}

#[test]
fn data_that_cannot_be_calibrated_with_is_refused_with_the_place() {
    for (values, dims, wanted) in [
        (vec![0.5, f32::NAN, 0.0, 1.0], vec![1, 1, 2, 2], "NaN"),
        (vec![0.5, f32::INFINITY, 0.0, 1.0], vec![1, 1, 2, 2], "inf"),
        (vec![0.5; 6], vec![1, 1, 2, 3], "shape"),
        (vec![0.5; 8], vec![2, 4], "shape"),
    ] {
        let failure = calibrated(Calibrator::MinMax, &Samples::of(&values, &dims)).unwrap_err();
        assert!(
            failure.contains("x") && failure.to_lowercase().contains(&wanted.to_lowercase()),
            "{wanted}: {failure}"
        );
    }
}

#[test]
fn values_that_the_data_never_moves_are_named() {
    let (_, report) = calibrated(Calibrator::MinMax, &Samples::of(&[0.25; 8], &[2, 1, 2, 2])).unwrap();
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("x is 0.25 everywhere in the calibration data")),
        "{:?}",
        report.notes
    );
}
