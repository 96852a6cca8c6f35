//! Values that weights share, on data: what statistics are worth, and training of the values with the codes held.

use std::path::Path;

use secateur::data::{Dataset, Spec};
use secateur::finetune::Optimizer;
use secateur::passes::{Cluster, Finetune, PruneWeights, Weighting};

use super::cluster::{Labelled, cluster, run, shared};
use super::rounding::{error, fixture, outputs as digit_outputs, read};
use super::*;

#[test]
fn what_data_say_of_weights_lowers_what_outputs_lose() {
    let original = read(&fixture("digits_cnn.onnx"));
    let expected = digit_outputs(&original);
    let lost = |weighting, bits| {
        let pass = Cluster {
            weighting,
            dealt: weighting == Weighting::Gradients,
            ..cluster(bits)
        };
        let (made, report) = run(&pass, &original);
        assert!(report.changed, "{report:?}");
        (error(&made, &expected), report)
    };
    for bits in [4.0, 6.0] {
        let (plain, _) = lost(Weighting::None, bits);
        let (gram, report) = lost(Weighting::Gram, bits);
        assert!(gram < plain, "{bits}: {gram} against {plain}");
        assert!(!said(&report).contains("count alike"), "{}", said(&report));
        lost(Weighting::Gradients, bits);
    }
    // Bits that are dealt out lose less than as many that are not.
    let (plain, _) = lost(Weighting::None, 4.0);
    let (dealt, report) = lost(Weighting::Gradients, 4.0);
    assert!(dealt < plain, "{dealt} against {plain}: {report:#?}");
    let mut alone = original.clone();
    let pass = Cluster {
        weighting: Weighting::Gram,
        stats: Some("no-such-file".into()),
        ..cluster(3.0)
    };
    run_pass(&pass, &mut alone, &Setting::default()).unwrap_err();
}

/// Share of the test digits whose greatest output is the label.
fn accuracy(model: &Model) -> f64 {
    let scores = digit_outputs(model);
    let spec = Spec {
        npz: Some(fixture("data/digits_test.npz")),
        labels: Some("y".to_owned()),
        batch: Some(50),
        samples: Some(200),
        ..Spec::default()
    };
    let data = Dataset::open(&spec, Path::new(""), &model.graph).unwrap();
    let mut labels = Vec::new();
    for index in data.batches() {
        labels.extend(data.batch(index).unwrap().labels.unwrap().to_i64().unwrap());
    }
    let hits = scores.chunks(10).zip(&labels).filter(|(scores, label)| {
        let best = (0..10).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
        best as i64 == **label
    });
    hits.count() as f64 / labels.len() as f64
}

#[test]
fn training_moves_the_shared_values_and_no_code() {
    let original = read(&fixture("digits_cnn.onnx"));
    let mut pruned = original.clone();
    let prune = PruneWeights {
        sparsity: Some(0.3),
        ..PruneWeights::default()
    };
    run_with(&prune, &mut pruned, &Setting::default(), Some(&Labelled)).unwrap();
    for bits in [2.0, 3.0] {
        let (made, _) = run(&cluster(bits), &pruned);
        let mut trained = made.clone();
        let pass = Finetune {
            epochs: 15,
            batch: 30,
            optimizer: Optimizer::Adam,
            learning_rate: 0.01,
            validation: 0.0,
            ..Finetune::default()
        };
        run_with(&pass, &mut trained, &Setting::default(), Some(&Labelled)).unwrap();
        secateur::analysis::check(&trained).unwrap();
        let (before, after) = (shared(&made), shared(&trained));
        assert!(!before.is_empty());
        assert_eq!(before.len(), after.len());
        for (name, (codes, book)) in &before {
            let (same, moved) = &after[name];
            assert!(codes.same_as(same), "{name}: codes moved");
            let (old, new) = (book.to_f64().unwrap(), moved.to_f64().unwrap());
            assert_eq!(old.len(), new.len());
            assert_ne!(old, new, "{name} was not trained");
            for (old, new) in old.iter().zip(&new) {
                assert_eq!(*old == 0.0, *new == 0.0, "{name}: {old} became {new}");
            }
        }
        let (low, high) = (accuracy(&made), accuracy(&trained));
        assert!(high > low && high > 0.85, "{bits} bits: {low}, then {high}");
    }
}
