//! Weights that make up for pruned ones, on trained models: less error on images that were not seen, under the same mask.

use secateur::passes::{PruneWeights, Update, WeightCriterion, collect_gram_statistics};
use secateur::statistics::gram::GramOptions;

use super::rounding::{Digits, error, fixture, outputs, read};
use super::*;

fn pruned(original: &Model, pass: &PruneWeights) -> (Model, PassReport) {
    let mut model = original.clone();
    let report = run_with(pass, &mut model, &Setting::default(), Some(&Digits)).unwrap();
    secateur::analysis::check(&model).unwrap_or_else(|errors| panic!("{errors:?}"));
    (model, report)
}

/// Where the weights of two and more dimensions are zero.
fn zeros(model: &Model) -> Vec<bool> {
    let constants = model.graph.initializers();
    let tensors = constants
        .into_iter()
        .filter_map(|(_, constant)| constant.tensor.clone());
    tensors
        .filter(|tensor| tensor.rank() >= 2 && tensor.dtype() == DType::F32)
        .flat_map(|tensor| tensor.to_f32().unwrap().into_owned())
        .map(|weight| weight == 0.0)
        .collect()
}

#[test]
fn what_stays_makes_up_for_what_goes_on_images_that_were_not_seen() {
    for name in ["digits_cnn.onnx", "digits_mlp.onnx"] {
        let original = read(&fixture(name));
        let expected = outputs(&original);
        for (sparsity, pattern, criterion) in [
            (Some(0.6), None, WeightCriterion::Magnitude),
            (Some(0.6), None, WeightCriterion::Wanda),
            (None, Some("2:4".to_owned()), WeightCriterion::Magnitude),
        ] {
            let plain = PruneWeights {
                sparsity,
                pattern,
                criterion,
                ..PruneWeights::default()
            };
            let better = PruneWeights {
                update: Update::Obs,
                ..plain.clone()
            };
            let ((before, _), (after, report)) = (pruned(&original, &plain), pruned(&original, &better));
            assert_eq!(zeros(&before), zeros(&after), "{name} {criterion:?}");
            let updated = report
                .changes
                .iter()
                .find(|change| change.rule == "layer updated");
            assert!(updated.is_some_and(|change| change.count >= 2), "{report:?}");
            let (before, after) = (error(&before, &expected), error(&after, &expected));
            assert!(
                after < 0.8 * before,
                "{name} {criterion:?}: {after} against {before}"
            );
        }
    }
}

#[test]
fn gram_matrices_from_a_file_serve_the_model_that_they_are_of_alone() {
    let original = read(&fixture("digits_mlp.onnx"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gram.safetensors");
    let context = Context {
        evaluator: &TractEvaluator,
        limits: Limits::default(),
        keep: RegexSet::empty(),
        seed: 0,
        base: PathBuf::new(),
        progress: &|_, _, _| {},
        resources: None,
    };
    let open = |graph: &secateur::ir::Graph| Ok(Digits.data("calibration", graph).unwrap());
    let (statistics, _) = collect_gram_statistics(
        &original,
        &context,
        GramOptions::default(),
        &open,
        &TractEngine,
        2,
    )
    .unwrap();
    statistics.write(&path).unwrap();
    let own = PruneWeights {
        sparsity: Some(0.5),
        update: Update::Obs,
        ..PruneWeights::default()
    };
    let given = PruneWeights {
        gram_stats: Some(path),
        ..own.clone()
    };
    let mut found = original.clone();
    run_with(&given, &mut found, &Setting::default(), None).unwrap();
    assert_eq!(lines(&found), lines(&pruned(&original, &own).0));
    let mut other = read(&fixture("digits_cnn.onnx"));
    let failure = run_with(&given, &mut other, &Setting::default(), None).unwrap_err();
    assert!(failure.to_string().contains("of another model"), "{failure}");
    let idle = PruneWeights {
        update: Update::None,
        ..given
    };
    let failure = run_with(&idle, &mut found, &Setting::default(), None).unwrap_err();
    assert!(failure.to_string().contains("only update: obs"), "{failure}");
}
