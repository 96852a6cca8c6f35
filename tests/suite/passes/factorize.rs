//! Layers as two: what they compute, which rank they get, and what is left alone.

use secateur::analysis::cost;
use secateur::passes::{Basis, Factorize};

use super::blocks::Samples;
use super::*;

/// A convolution with strides, pads and dilations, one by one after it, and two matrix products. The weights have rank 2 but for noise of
/// this size, so that little is lost.
fn network(noise: f32) -> Model {
    let weight = |rows: usize, columns: usize, seed: f32| -> String {
        let value = |row: usize, column: usize| {
            let (a, b) = (row as f32 + seed, column as f32 * 1.7);
            (a * 1.3).sin() * (b * 0.9).cos()
                + (a * 0.7).cos() * (b * 0.4).sin()
                + noise * (a * 5.1 + b * 3.3).sin()
        };
        let all = (0..rows).flat_map(|row| (0..columns).map(move |column| value(row, column).to_string()));
        all.collect::<Vec<_>>().join(", ")
    };
    model(&format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[N, 4, 9, 9] x) => (float[N, 10] y, float[N, 16, 5, 4] u) <float[12, 4, 3, 3] a = {{{}}}, float[12] ab = {{{}}}, float[16, 12, 1, 1] b = {{{}}},
          float[16, 14] c = {{{}}}, float[10, 14] d = {{{}}}, float[10] db = {{{}}}> {{
          s = Conv <strides = [2, 2], pads = [1, 0, 1, 2], dilations = [1, 2], kernel_shape = [3, 3]> (x, a, ab)
          t = Relu (s) u = Conv (t, b) v = Relu (u) p = GlobalAveragePool (v) f = Flatten (p)
          q = MatMul (f, c) r = Relu (q) y = Gemm <transB = 1> (r, d, db)
        }}"#,
        weight(12, 36, 0.0),
        weight(1, 12, 3.0),
        weight(16, 12, 1.0),
        weight(16, 14, 2.0),
        weight(10, 14, 4.0),
        weight(1, 10, 5.0),
    ))
}

fn run(pass: &Factorize, whole: &Model) -> (Model, PassReport) {
    let mut made = whole.clone();
    let report = run_with(pass, &mut made, &Setting::default(), Some(&Samples(24)))
        .unwrap_or_else(|error| panic!("{error}"));
    (made, report)
}

fn macs(model: &Model) -> u64 {
    cost(model, &|_| None)
        .by_node
        .iter()
        .filter_map(|node| node.macs)
        .sum()
}

fn ranks(report: &PassReport) -> Vec<String> {
    let changes = report
        .changes
        .iter()
        .filter(|change| change.rule == "layer factorized");
    changes.flat_map(|change| change.details.clone()).collect()
}

/// The greatest difference of the outputs of two models, as a share of the greatest output.
fn difference(a: &Model, b: &Model) -> f64 {
    let (a, b) = (run_model(a, "y"), run_model(b, "y"));
    let most = a.iter().fold(0.0_f64, |most, value| most.max(value.abs()));
    let pairs = a.iter().zip(&b);
    pairs.fold(0.0_f64, |worst, (a, b)| worst.max((a - b).abs())) / most
}

fn run_model(model: &Model, output: &str) -> Vec<f64> {
    let values: Vec<f32> = (0..3 * 4 * 81).map(|at| (at as f32 * 0.37).sin()).collect();
    let x = Tensor::from_slice(&[3, 4, 9, 9], &values).unwrap();
    let lowered = secateur::lower::for_engine(model, &TractEngine).unwrap();
    let session = TractEngine.compile(&lowered, &CompileOptions::default()).unwrap();
    let found = session
        .run(&RunValues::from([("x".to_owned(), RunValue::Tensor(x))]))
        .unwrap();
    match &found[output] {
        RunValue::Tensor(tensor) => tensor.to_f64().unwrap(),
        _ => panic!("no tensor"),
    }
}

#[test]
fn weights_of_low_rank_become_two_that_compute_the_same() {
    let whole = network(0.0);
    for basis in [Basis::Outputs, Basis::Weights] {
        let pass = Factorize {
            energy: Some(0.9999),
            basis,
            ..Factorize::default()
        };
        let (made, report) = run(&pass, &whole);
        let ranks = ranks(&report);
        assert_eq!(ranks.len(), 4, "{basis:?}: {ranks:?}");
        assert!(
            ranks
                .iter()
                .all(|words| words.contains("rank 2 of") || words.contains("rank 1 of")),
            "{ranks:?}"
        );
        assert!(
            macs(&made) * 2 < macs(&whole),
            "{} of {}",
            macs(&made),
            macs(&whole)
        );
        let found = difference(&whole, &made);
        assert!(found < 0.01, "{basis:?}: {found}");
    }
}

#[test]
fn as_much_goes_as_the_target_takes_and_not_more_than_a_rank() {
    let whole = network(0.3);
    for share in [0.9, 0.7, 0.5] {
        for basis in [Basis::Outputs, Basis::Weights] {
            let pass = Factorize {
                target_macs: Some(share),
                basis,
                ..Factorize::default()
            };
            let (made, report) = run(&pass, &whole);
            let left = macs(&made) as f64 / macs(&whole) as f64;
            assert!(left <= share && left > share - 0.2, "{share}: {left}");
            assert!(report.requirements.is_empty());
            assert!(difference(&whole, &made) > 0.0);
        }
    }
}

#[test]
fn directions_of_the_outputs_lose_less_than_those_of_the_weights() {
    // What `b` reads comes from a layer of low rank: its outputs vary in fewer directions than its own weights have.
    let whole = network(0.6);
    let lost = |basis: Basis| {
        let pass = Factorize {
            target_bytes: Some(0.87),
            basis,
            layers: vec!["^b$".to_owned()],
            ..Factorize::default()
        };
        let (made, report) = run(&pass, &whole);
        assert!(ranks(&report)[0].contains("rank 2 of"), "{:?}", ranks(&report));
        // The mean over all positions of the squared difference.
        let (a, b) = (run_model(&whole, "u"), run_model(&made, "u"));
        a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / a.len() as f64
    };
    let (outputs, weights) = (lost(Basis::Outputs), lost(Basis::Weights));
    assert!(outputs < 0.95 * weights, "{outputs} against {weights}");
    // One layer cannot take half of all.
    let pass = Factorize {
        target_bytes: Some(0.5),
        layers: vec!["^b$".to_owned()],
        ..Factorize::default()
    };
    let (_, report) = run(&pass, &whole);
    let missed = &report.requirements[0];
    assert!(
        !missed.passed && missed.value > 0.5 && missed.bound == 0.5,
        "{missed:?}"
    );
}

#[test]
fn ranks_are_multiples_and_layers_are_chosen_and_kept() {
    let whole = network(0.3);
    let pass = Factorize {
        energy: Some(0.5),
        round_to: 3,
        keep: vec!["^b$".to_owned(), "^q$".to_owned()],
        ..Factorize::default()
    };
    let (_, report) = run(&pass, &whole);
    let ranks = ranks(&report);
    assert!(
        !ranks.is_empty()
            && ranks
                .iter()
                .all(|words| words.contains("rank 3 of") || words.contains("rank 6 of")),
        "{ranks:?}"
    );
    let kept = report
        .left
        .iter()
        .filter(|left| left.why == "a keep pattern")
        .count();
    assert_eq!(kept, 2, "{:?}", report.left);
}

#[test]
fn what_cannot_be_split_stays_with_a_reason() {
    let whole = model(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[N, 4, 5, 5] x) => (float[N, 4, 3, 3] y, float[N, 4, 5, 2] z) <float[4, 1, 3, 3] a = {1, 2, 3, 4, 5, 6, 7, 8, 9,
          1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9}, float[5, 2] b = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1}> {
          y = Conv <group = 4> (x, a) t = MatMul (x, b) u = MatMul (x, b) z = Add (t, u)
        }"#,
    );
    let pass = Factorize {
        energy: Some(0.5),
        ..Factorize::default()
    };
    let (made, report) = run(&pass, &whole);
    assert!(!report.changed && made.graph.node_ids().count() == whole.graph.node_ids().count());
    let reasons: Vec<&str> = report.left.iter().map(|left| left.why.as_str()).collect();
    assert!(reasons.iter().any(|why| why.contains("groups")), "{reasons:?}");
    assert!(
        reasons.iter().any(|why| why.contains("other readers")),
        "{reasons:?}"
    );
}

#[test]
fn options_that_say_nothing_or_too_much_are_refused() {
    let mut model = network(0.0);
    for (pass, word) in [
        (Factorize::default(), "how far is not said"),
        (
            Factorize {
                energy: Some(0.9),
                target_macs: Some(0.5),
                ..Factorize::default()
            },
            "one of",
        ),
        (
            Factorize {
                energy: Some(1.5),
                ..Factorize::default()
            },
            "not in 0 to 1",
        ),
        (
            Factorize {
                energy: Some(0.5),
                round_to: 0,
                ..Factorize::default()
            },
            "round-to",
        ),
        (
            Factorize {
                energy: Some(0.5),
                basis: Basis::Weights,
                stats: Some("s.npz".into()),
                ..Factorize::default()
            },
            "nothing is read",
        ),
    ] {
        let error = run_with(&pass, &mut model, &Setting::default(), Some(&Samples(4))).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}
