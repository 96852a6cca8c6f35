//! Codes by rate and distortion: what they compute, what they take once packed, and what is left alone.

use secateur::passes::{Compress, Importance};

use super::blocks::Samples;
use super::*;

/// Two convolutions, a Gemm that transposes its weight and a MatMul: every way in which codes are stored.
fn network() -> Model {
    let weight = |count: usize, seed: f32| -> String {
        let all = (0..count).map(|at| {
            let at = at as f32;
            ((at * 12.9898 + seed).sin() + (at * 78.233).sin() + (at * 0.11 + seed).sin()).to_string()
        });
        all.collect::<Vec<_>>().join(", ")
    };
    model(&format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[N, 4, 9, 9] x) => (float[N, 10] y) <float[12, 4, 3, 3] a = {{{}}}, float[12] ab = {{{}}}, float[16, 12, 1, 1] b = {{{}}},
          float[16, 24] c = {{{}}}, float[10, 24] d = {{{}}}, float[10] db = {{{}}}> {{
          s = Conv <kernel_shape = [3, 3]> (x, a, ab) t = Relu (s) u = Conv (t, b) v = Relu (u) p = GlobalAveragePool (v)
          f = Flatten (p) q = MatMul (f, c) r = Relu (q) y = Gemm <transB = 1> (r, d, db)
        }}"#,
        weight(432, 0.0),
        weight(12, 3.0),
        weight(192, 1.0),
        weight(384, 2.0),
        weight(240, 4.0),
        weight(10, 5.0),
    ))
}

fn run(pass: &Compress, whole: &Model, data: bool) -> (Model, PassReport) {
    let mut made = whole.clone();
    let samples = Samples(24);
    let report = run_with(
        pass,
        &mut made,
        &Setting::default(),
        data.then_some(&samples as &dyn Resources),
    )
    .unwrap_or_else(|error| panic!("{error}"));
    (made, report)
}

/// The bits a weight that the report states.
fn stated(report: &PassReport) -> f64 {
    let details = report.changes.iter().flat_map(|change| &change.details);
    let mut all = details.filter_map(|line| line.strip_prefix("all: ")?.split(' ').next()?.parse().ok());
    all.next_back().expect("the report states bits")
}

/// Every tensor of codes.
fn codes(model: &Model) -> Vec<Vec<i64>> {
    let graph = &model.graph;
    let constants = graph
        .node_ids()
        .filter_map(|id| graph.constant(ValueId::new(id, 0)));
    constants
        .filter(|tensor| tensor.dtype() == DType::I8 && tensor.elements() > 24)
        .map(|tensor| tensor.to_i64().unwrap())
        .collect()
}

/// Output power of the difference over that of the first, on the samples that codes are chosen by.
fn noise(a: &Model, b: &Model) -> f64 {
    let data = Samples(24).data("calibration", &a.graph).unwrap();
    let batch = data.select(&(0..24).collect::<Vec<_>>()).unwrap();
    let run = |model: &Model| {
        let lowered = secateur::lower::for_engine(model, &TractEngine).unwrap();
        let session = TractEngine.compile(&lowered, &CompileOptions::default()).unwrap();
        let feed = batch.inputs.clone();
        match &session.run(&feed).unwrap()["y"] {
            RunValue::Tensor(tensor) => tensor.to_f64().unwrap(),
            _ => panic!("no tensor"),
        }
    };
    let (a, b) = (run(a), run(b));
    let apart: f64 = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum();
    apart / a.iter().map(|value| value * value).sum::<f64>()
}

#[test]
fn fewer_bits_lose_more_and_every_goal_is_kept() {
    let whole = network();
    let mut before = 0.0;
    for bits in [6.0, 4.0, 2.5] {
        let pass = Compress {
            bits: Some(bits),
            ..Compress::default()
        };
        let (made, report) = run(&pass, &whole, true);
        let found = stated(&report);
        assert!(found <= bits && found > 0.95 * bits, "{bits}: {found}");
        assert_eq!(codes(&made).len(), 4, "every weight has codes");
        let lost = noise(&whole, &made);
        assert!(lost > before, "{bits}: {lost} after {before}");
        before = lost;
    }
    assert!(before < 0.05, "{before}");
}

#[test]
fn data_and_gradients_lose_less_than_weights_alone() {
    let whole = network();
    let lost = |importance: Importance, data: bool| {
        let pass = Compress {
            bits: Some(3.0),
            importance,
            ..Compress::default()
        };
        let (made, report) = run(&pass, &whole, data);
        assert!(stated(&report) <= 3.0);
        noise(&whole, &made)
    };
    let (weights, outputs) = (lost(Importance::Weights, false), lost(Importance::Outputs, true));
    let gradients = lost(Importance::Gradients, true);
    assert!(outputs < weights, "{outputs} {weights}");
    assert!(gradients < weights, "{gradients} {weights}");
}

#[test]
fn without_data_the_weights_say_what_matters_and_the_report_says_so() {
    let (made, report) = run(&Compress::default(), &network(), false);
    assert_eq!(codes(&made).len(), 4);
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.contains("there are no calibration data")),
        "{:?}",
        report.warnings
    );
}

#[test]
fn pruned_weights_stay_zero() {
    let mut whole = network();
    let ids: Vec<_> = whole.graph.node_ids().collect();
    let mut zeros = 0;
    for id in ids {
        let Some(tensor) = whole.graph.constant(ValueId::new(id, 0)).cloned() else {
            continue;
        };
        if tensor.rank() < 2 {
            continue;
        }
        let mut values = tensor.to_f32().unwrap().to_vec();
        for value in values.iter_mut().step_by(2) {
            *value = 0.0;
            zeros += 1;
        }
        let pruned = Tensor::from_slice(tensor.dims(), &values).unwrap();
        whole.graph.edit("test").set_constant(id, pruned).unwrap();
    }
    let pass = Compress {
        bits: Some(4.0),
        ..Compress::default()
    };
    let (made, _) = run(&pass, &whole, true);
    let found: usize = codes(&made)
        .iter()
        .map(|codes| codes.iter().filter(|code| **code == 0).count())
        .sum();
    assert!(found >= zeros, "{found} of {zeros}");
    assert!(noise(&whole, &made) < 0.01);
}

#[test]
fn a_size_is_reached_or_refused_with_what_was_reached() {
    let whole = network();
    let given = secateur::passes::file_bytes(&whole).unwrap();
    let pass = |max_bytes: u64| Compress {
        max_bytes: Some(max_bytes),
        ..Compress::default()
    };
    let (made, report) = run(&pass(given * 2 / 5), &whole, true);
    assert!(stated(&report) < 8.0 && codes(&made).len() == 4);
    let mut again = whole.clone();
    let refused = run_with(&pass(700), &mut again, &Setting::default(), Some(&Samples(24)));
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("700 bytes cannot be reached"), "{message}");
}

#[test]
fn results_do_not_depend_on_threads() {
    let whole = network();
    let pool = |threads: usize| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
    };
    let made: Vec<Vec<Vec<i64>>> = [1, 3]
        .map(|threads| pool(threads).install(|| codes(&run(&Compress::default(), &whole, true).0)))
        .into();
    assert_eq!(made[0], made[1]);
}

#[test]
fn options_that_contradict_are_refused() {
    for (pass, words) in [
        (
            Compress {
                bits: Some(9.0),
                ..Compress::default()
            },
            "bits: 9 is not above 0 and at most 8",
        ),
        (
            Compress {
                ratio: Some(0.5),
                ..Compress::default()
            },
            "ratio: 0.5 is not a number from 1 on",
        ),
        (
            Compress {
                bits: Some(3.0),
                ratio: Some(9.0),
                ..Compress::default()
            },
            "one of `bits`, `ratio` and `max-bytes`",
        ),
    ] {
        let mut model = network();
        let refused = run_with(&pass, &mut model, &Setting::default(), None);
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
    let mut nothing =
        model(r#"<ir_version: 8, opset_import: ["" : 17]> m (float[2] x) => (float[2] y) { y = Relu (x) }"#);
    let report = run_with(&Compress::default(), &mut nothing, &Setting::default(), None).unwrap();
    assert!(!report.changed && report.notes[0].contains("nothing to compress"));
}
