//! Factors moved between normalizations and products: the function stays, rounded weights and activations lose less.

use secateur::ir::Model;
use secateur::passes::{Awq, Pass, QuantizeWeights, SmoothQuant};
use secateur::quantize::Kind;

use super::rounding::{Digits, error, fixture, outputs, read};
use super::{Setting, model, run_with};

fn after(pass: &dyn Pass, original: &Model) -> (Model, Vec<String>) {
    let mut moved = original.clone();
    let report = run_with(pass, &mut moved, &Setting::default(), Some(&Digits)).unwrap();
    assert!(report.changed, "{:?}", report.notes);
    (moved, report.notes)
}

fn power(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum()
}

#[test]
fn the_model_computes_the_same_afterwards() {
    for name in ["digits_vit.onnx", "digits_vit_dynamo.onnx"] {
        let original = read(&fixture(name));
        let expected = outputs(&original);
        let passes: [&dyn Pass; 2] = [&SmoothQuant::default(), &Awq::default()];
        for pass in passes {
            let (moved, _) = after(pass, &original);
            let apart = error(&moved, &expected) / power(&expected);
            assert!(apart < 1e-8, "{name} {}: {apart}", pass.about().name);
            assert_ne!(format!("{moved:?}"), format!("{original:?}"));
        }
    }
}

#[test]
fn rounded_weights_lose_less_after_awq() {
    let original = read(&fixture("digits_vit.onnx"));
    let expected = outputs(&original);
    let awq = Awq {
        block: 16,
        ..Awq::default()
    };
    let (moved, notes) = after(&awq, &original);
    let rounded = |model: &Model| {
        let mut model = model.clone();
        let pass = QuantizeWeights {
            kind: Kind::Int4,
            block: 16,
            minimum_elements: 0,
            ..QuantizeWeights::default()
        };
        run_with(&pass, &mut model, &Setting::default(), None).unwrap();
        error(&model, &expected)
    };
    let (plain, better) = (rounded(&original), rounded(&moved));
    assert!(better < plain, "{better} against {plain}: {notes:?}");
}

#[test]
fn what_cannot_be_scaled_stays_and_says_why() {
    let original = model(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,3] x) => (float[2,2] y, float[2,3] n)
        <float[3] s = {1, 2, 3}, float[3] b = {0, 1, 0}, float[3,2] w = {1, 2, 3, 4, 5, 6}> {
            n = LayerNormalization (x, s, b)
            y = MatMul (n, w)
        }"#,
    );
    let mut same = original.clone();
    let report = run_with(
        &SmoothQuant::default(),
        &mut same,
        &Setting::default(),
        Some(&Digits),
    )
    .unwrap();
    assert!(!report.changed);
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("something else than matrix products")),
        "{:?}",
        report.notes
    );
    let wrong = SmoothQuant {
        alpha: 1.5,
        ..SmoothQuant::default()
    };
    let failure = run_with(&wrong, &mut same, &Setting::default(), Some(&Digits)).unwrap_err();
    assert!(failure.to_string().contains("alpha is from 0 to 1"));
}
