//! Ranges and biases from data: calibrators, biases corrected against the float model, data that cannot be calibrated with.

use std::path::{Path, PathBuf};

use secateur::data::{Dataset, Spec, write_npz};
use secateur::engine::{Engine, TractEngine};
use secateur::ir::{Graph, Model, Tensor};
use secateur::passes::{
    CorrectBias, Form, Pass, PassReport, Quantize, QuantizeWeights, ResourceError, Resources, Rounding,
};
use secateur::quantize::{Calibrator, Kind};

use super::rounding::{Digits, error, fixture, outputs, read};
use super::{Setting, lines, model, run_with};

/// The digits with the float model at hand.
struct WithReference(PathBuf);

impl Resources for WithReference {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Digits.engine()
    }

    fn data(&self, role: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        Digits.data(role, graph)
    }

    fn model(&self, path: &Path) -> Result<Model, ResourceError> {
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
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, _: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        let spec = Spec {
            npz: Some("x.npz".into()),
            ..Spec::default()
        };
        Dataset::open(&spec, self.folder.path(), graph).map_err(ResourceError::from)
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

/// Quantizes a model with samples under the name `x`.
fn quantized(text: &str, samples: &Samples) -> Result<PassReport, String> {
    let mut model = model(text);
    let setting = Setting::default();
    run_with(&Quantize::default(), &mut model, &setting, Some(samples)).map_err(|e| e.to_string())
}

#[test]
fn samples_are_named_wherever_in_a_batch_they_are() {
    let mut values = [0.5f32; 20];
    values[4 * 3 + 1] = f32::NEG_INFINITY;
    let failure = calibrated(Calibrator::MinMax, &Samples::of(&values, &[5, 1, 2, 2])).unwrap_err();
    assert!(
        failure.contains("x.npz") && failure.contains("sample 3"),
        "{failure}"
    );
}

#[test]
fn layers_that_make_nan_of_finite_samples_are_named() {
    // The second sample has a negative number, and what follows the logarithm is NaN, too.
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[N,1,2,2] x) => (float[N,2,1,1] y)
        <float[2,1,2,2] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[1,1,1,1] one = {1}> {
            moved = Add (x, one)
            logarithm = Log (x)
            later = Mul (logarithm, moved)
            y = Conv (later, w)
        }"#;
    let samples = Samples::of(&[1.0, 2.0, 3.0, 4.0, 1.0, -2.0, 3.0, 4.0], &[2, 1, 2, 2]);
    let failure = quantized(text, &samples).unwrap_err();
    assert!(
        failure.contains("answers NaN or infinity") && failure.contains("sample 1"),
        "{failure}"
    );
    assert!(quantized(text, &Samples::of(&[1.0; 8], &[2, 1, 2, 2])).is_ok());
}

#[test]
fn few_samples_and_models_with_nothing_to_quantize_are_explained() {
    let (_, report) = calibrated(Calibrator::MinMax, &Samples::of(&[0.5; 8], &[2, 1, 2, 2])).unwrap();
    let few = |report: &PassReport| {
        report
            .notes
            .iter()
            .any(|note| note.starts_with("ranges come from"))
    };
    assert!(few(&report), "{:?}", report.notes);
    let many = Samples::of(&[0.5; 32], &[8, 1, 2, 2]);
    assert!(!few(&calibrated(Calibrator::MinMax, &many).unwrap().1));

    let half = CONVOLUTION.replace("float", "float16");
    let unknown = CONVOLUTION
        .replace("{ y = Conv (x, w) }", "{ z = acme.Wobble (x) y = Conv (z, w) }")
        .replace("\"\" : 17", "\"\" : 17, \"acme\" : 1");
    for (text, why) in [(half, "computes in float16"), (unknown, "is not known")] {
        let report = quantized(&text, &many).unwrap();
        assert!(!report.changed);
        assert!(
            report.left.iter().any(|left| left.why.contains(why)),
            "{why}: {:?}",
            report.left
        );
    }
    // A second run finds codes and adds none.
    let mut model = model(CONVOLUTION);
    run_with(&Quantize::default(), &mut model, &Setting::default(), Some(&many)).unwrap();
    let once = lines(&model);
    let report = run_with(&Quantize::default(), &mut model, &Setting::default(), Some(&many)).unwrap();
    assert!(!report.changed && lines(&model) == once);
    assert!(
        report
            .left
            .iter()
            .any(|left| left.why.contains("dequantized codes already")),
        "{:?}",
        report.left
    );
    // An operator that no engine has, where the data would have to pass it.
    let before = CONVOLUTION
        .replace("{ y = Conv (x, w) }", "{ z = Conv (x, w) y = acme.Wobble (z) }")
        .replace("\"\" : 17", "\"\" : 17, \"acme\" : 1");
    let failure = quantized(&before, &many).unwrap_err();
    assert!(failure.contains("acme.Wobble"), "{failure}");
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

/// entropy_digits: the zeros of clamped activations and the few distinct values of the input pulled the bounds far down.
#[test]
fn entropy_on_the_digits_is_within_a_point_of_min_max() {
    let original = read(&fixture("digits_cnn_bn.onnx"));
    let classes = |model: &Model| -> Vec<usize> {
        let scores = outputs(model);
        let best = |row: &[f64]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        scores.chunks(10).map(best).collect()
    };
    let expected = classes(&original);
    let agreement = |calibrate: Calibrator| {
        let pass = Quantize {
            calibrate,
            ..Quantize::default()
        };
        let mut model = original.clone();
        let report = run_with(&pass, &mut model, &Setting::default(), Some(&Digits)).unwrap();
        let warned = report.notes.iter().any(|note| note.contains("cut off much"));
        let same = expected
            .iter()
            .zip(classes(&model))
            .filter(|(a, b)| *a == b)
            .count();
        (same as f64 / expected.len() as f64, warned)
    };
    let (best, warned) = agreement(Calibrator::MinMax);
    assert!(best > 0.97 && !warned, "{best}");
    let (entropy, warned) = agreement(Calibrator::Entropy);
    assert!(entropy > best - 0.01 && !warned, "{entropy} against {best}");
    let (_, warned) = agreement(Calibrator::Percentile(80.0));
    assert!(warned);
}
