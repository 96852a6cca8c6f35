//! Which elements of a value belong to which sample, and that statistics do not depend on how samples are put into batches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secateur::analysis::batch::{Placement, placements};
use secateur::analysis::infer;
use secateur::data::{Dataset, Spec, write_npz};
use secateur::engine::{Engine, EngineError, RunValue, TractEngine};
use secateur::format::text::parse_model;
use secateur::format::{ExternalFiles, lift};
use secateur::ir::{Graph, Model, Tensor};
use secateur::lower::Lowering;
use secateur::passes::{Pass, Quantize, ResourceError, Resources};
use secateur::quantize::Calibrator;
use secateur::statistics::gram::{GramOptions, collect as collect_grams, layers};
use secateur::statistics::{Along, StatisticsError, Summary, Wanted, collect, second_moments};

fn model(text: &str) -> Model {
    let message = parse_model(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut model = lift(message, &ExternalFiles::default()).unwrap();
    model.name_values();
    infer(&mut model);
    model
}

/// `count` numbers for a weight, none the same.
fn numbers(count: usize, seed: usize) -> String {
    let one = |at: usize| {
        format!(
            "{:.4}",
            ((at * 7919 + seed * 104_729) % 1999) as f64 / 1000.0 - 1.0
        )
    };
    (0..count).map(one).collect::<Vec<_>>().join(",")
}

/// A model whose nodes are `body`; `BATCH` in it is the size of the batch. `w` is `[6, 6]`.
fn with_body(input: &str, body: &str, batch: &str) -> Model {
    let text = format!(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (float[{batch}{input}] x) => (float[] y)
         <float[6,6] w = {{{}}}, float[6] b = {{{}}}, float[1,32,6] r = {{{}}}, float[1,32,8] s = {{{}}}, float[1,24,6] gr = {{{}}}, float[1,24,8] gs = {{{}}},
          int64[2] flat = {{-1, 6}}, int64[3] heads = {{4, -1, 3}}, int64[3] back = {{4, -1, 6}}, int64[5] three = {{-1, 4, 3, 1, 2}},
          int64[5] split = {{-1, 2, 2, 2, 3}}, int64[3] windows = {{-1, 4, 3}}, int64[2] halves = {{3, 3}}, int64[1] one = {{1}}, int64 first = {{0}}> {{ {body} }}",
        numbers(36, 1), numbers(6, 2), numbers(192, 3), numbers(256, 4), numbers(144, 5), numbers(192, 6),
    );
    model(&text)
}

/// A graph in ONNX text, and some of its values.
type Body = (&'static str, &'static [(&'static str, usize, u64)]);

/// Body, and for values in it the axis of the samples and how many neighbours on it belong to one.
const BODIES: &[Body] = &[
    // Sequence first, and as rows.
    (
        "t = Transpose<perm = [1, 0, 2]>(x) m = MatMul(t, w) f = Reshape(m, flat) y = Relu(f)",
        &[("x", 0, 1), ("t", 1, 1), ("m", 1, 1), ("f", 0, 1), ("y", 0, 1)],
    ),
    // Rows of all steps: the steps are the inner factor.
    (
        "f = Reshape(x, flat) m = Gemm(f, w, b) y = Tanh(m)",
        &[("f", 0, 4), ("m", 0, 4), ("y", 0, 4)],
    ),
    // Heads are neighbours within a sample, as PyTorch's attention has them.
    (
        "t = Transpose<perm = [1, 0, 2]>(x) h = Reshape(t, heads) q = Transpose<perm = [1, 0, 2]>(h)
         k = Transpose<perm = [1, 2, 0]>(h) a = MatMul(q, k) p = Softmax<axis = -1>(a) c = MatMul(p, q)
         d = Transpose<perm = [1, 0, 2]>(c) y = Reshape(d, back)",
        &[
            ("h", 1, 2),
            ("q", 0, 2),
            ("a", 0, 2),
            ("p", 0, 2),
            ("d", 1, 2),
            ("y", 1, 1),
        ],
    ),
    // Samples are neighbours within a head.
    (
        "t = Transpose<perm = [1, 0, 2]>(x) u, v = Split<axis = 2>(t, halves) h = Concat<axis = 1>(u, v)
         q = Transpose<perm = [1, 0, 2]>(h) y = Relu(q)",
        &[("h", 1, 1), ("q", 0, 1), ("y", 0, 1)],
    ),
    // Query, key and value in one product.
    (
        "m = Reshape(x, three) t = Transpose<perm = [2, 0, 3, 1, 4]>(m) q = Gather<axis = 0>(t, first) y = Relu(q)",
        &[("m", 0, 1), ("t", 1, 1), ("q", 0, 1), ("y", 0, 1)],
    ),
    // Windows.
    (
        "m = Reshape(x, split) t = Transpose<perm = [0, 3, 1, 2, 4]>(m) f = Reshape(t, windows) y = Relu(f)",
        &[("t", 0, 1), ("f", 0, 2), ("y", 0, 2)],
    ),
    // Recurrent layers put the directions before the batch.
    (
        "t = Transpose<perm = [1, 0, 2]>(x) l, h, c = LSTM<hidden_size = 8>(t, r, s) z = Squeeze(l, one) y = Relu(z)",
        &[("l", 2, 1), ("h", 1, 1), ("c", 1, 1), ("z", 1, 1), ("y", 1, 1)],
    ),
    (
        "t = Transpose<perm = [1, 0, 2]>(x) l, h = GRU<hidden_size = 8>(t, gr, gs) y = Relu(h)",
        &[("l", 2, 1), ("h", 1, 1), ("y", 1, 1)],
    ),
    // Reductions before the batch.
    (
        "t = Transpose<perm = [1, 0, 2]>(x) m = ReduceMean<axes = [0], keepdims = 0>(t) y = Relu(m)",
        &[("m", 0, 1), ("y", 0, 1)],
    ),
    // The batch as a channel, behind and in front of others.
    (
        "t = Transpose<perm = [2, 1, 0]>(x) y = Relu(t)",
        &[("t", 2, 1), ("y", 2, 1)],
    ),
];

#[test]
fn samples_are_followed_through_axes_and_their_factors() {
    for (body, expected) in BODIES {
        // A batch that the file fixes has the size of another axis, so that sizes alone tell nothing.
        for batch in ["N", "4"] {
            let model = with_body(",4,6", body, batch);
            let inputs = BTreeMap::from([("x".to_owned(), vec![4, 4, 6])]);
            let found = placements(&model, &inputs, 4);
            for (name, axis, minor) in *expected {
                let placement = Placement {
                    axis: *axis,
                    minor: *minor,
                };
                assert_eq!(
                    found.get(*name),
                    Some(&placement),
                    "{name} of {body}, batch {batch}"
                );
            }
        }
    }
}

#[test]
fn values_that_mix_samples_belong_to_none() {
    for (body, mixed) in [
        (
            "m = ReduceMean<axes = [0], keepdims = 1>(x) y = Relu(m)",
            &["m", "y"][..],
        ),
        (
            "t = ReverseSequence<batch_axis = 1, time_axis = 0>(x, lengths) y = Relu(t)",
            &["t", "y"],
        ),
        (
            "f = Reshape(x, whole) t = Transpose(f) g = MatMul(f, t) y = MatMul(g, f)",
            &["g"],
        ),
    ] {
        let mut text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,4,6] x) => (float[] y)
            <int64[2] whole = {-1, 24}, int64[4] lengths = {4, 4, 4, 4}> { "
            .to_owned();
        text.push_str(body);
        text.push('}');
        let model = model(&text);
        let inputs = BTreeMap::from([("x".to_owned(), vec![4, 4, 6])]);
        let found = placements(&model, &inputs, 4);
        for name in mixed {
            assert_eq!(found.get(*name), None, "{name} of {body}");
        }
    }
}

#[test]
fn values_without_elements_hold_no_samples() {
    for body in [
        "e = Slice(x, start, end, last) f = Flatten<axis = 2>(e) y = Relu(f)",
        "e = Slice(x, start, end, last) f = Reshape(e, shape) y = Relu(f)",
        "e = Slice(x, start, end, middle) f = Transpose<perm = [0, 2, 1]>(e) g = Unsqueeze(f, last) y = Relu(g)",
    ] {
        for batch in ["N", "4"] {
            let model = model(&format!(
                "<ir_version: 8, opset_import: [\"\" : 17]> g (float[{batch},4,6] x) => (float[] y)
                 <int64[1] start = {{2}}, int64[1] end = {{2}}, int64[1] last = {{2}}, int64[1] middle = {{1}},
                  int64[3] shape = {{0, 4, 0}}> {{ {body} }}"
            ));
            let inputs = BTreeMap::from([("x".to_owned(), vec![4, 4, 6])]);
            let found = placements(&model, &inputs, 4);
            assert_eq!(found.get("x"), Some(&Placement::FIRST), "{body}");
            assert_eq!(found.get("f"), None, "{body}");
        }
    }
}

/// Samples of which each is larger than the one before, and each step than the step before.
struct Samples {
    folder: tempfile::TempDir,
    batch: Option<u64>,
}

impl Samples {
    fn of(count: usize, steps: usize, features: usize, batch: Option<u64>) -> Self {
        let values: Vec<f32> = (0..count * steps * features)
            .map(|at| {
                let (step, sample) = (at / features % steps, at / (steps * features));
                let part = ((at * 7919) % 1013) as f32 / 506.5 - 1.0;
                part * (0.1 + step as f32) * (1.0 + sample as f32 / count as f32)
            })
            .collect();
        Self::from_values(&values, &[count as u64, steps as u64, features as u64], batch)
    }

    fn from_values(values: &[f32], dims: &[u64], batch: Option<u64>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let x = Tensor::from_slice(dims, values).unwrap();
        write_npz(&folder.path().join("x.npz"), [("x", &x)]).unwrap();
        Self { folder, batch }
    }

    fn open(&self, graph: &Graph) -> Dataset {
        let spec = Spec {
            npz: Some("x.npz".into()),
            batch: self.batch,
            ..Spec::default()
        };
        Dataset::open(&spec, self.folder.path(), graph).unwrap()
    }
}

impl Resources for Samples {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, _: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        Ok(self.open(graph))
    }

    fn jobs(&self) -> usize {
        2
    }
}

const EVERYTHING: Wanted = Wanted {
    histograms: true,
    channel_means: true,
    channel_extremes: true,
    sample_extremes: true,
};

fn summaries(model: &Model, names: &[String], data: &Dataset, jobs: usize) -> BTreeMap<String, Summary> {
    collect(model, names, EVERYTHING, data, &TractEngine, jobs, &|_| {}).unwrap()
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-4 * (1.0 + a.abs())
}

/// Counts up to rounding: a product may be added up in another order in a larger batch.
fn same_counts(one: &Summary, other: &Summary, place: &str) {
    let counts = |summary: &Summary| -> Vec<(f64, u64)> { summary.histogram.bins().collect() };
    assert_eq!(one.histogram.count(), other.histogram.count(), "{place}");
    let (a, b) = (counts(one), counts(other));
    let quantile = |bins: &[(f64, u64)], share: f64| {
        let total: u64 = bins.iter().map(|(_, count)| count).sum();
        let mut seen = 0;
        bins.iter()
            .find(|(_, count)| {
                seen += count;
                seen as f64 >= share * total as f64
            })
            .map(|(edge, _)| *edge)
            .unwrap()
    };
    let width = one.histogram.bin_width();
    for share in [0.1, 0.25, 0.5, 0.75, 0.9] {
        assert!(
            (quantile(&a, share) - quantile(&b, share)).abs() <= 2.0 * width,
            "{place} at {share}"
        );
    }
}

#[test]
fn statistics_are_the_same_sample_by_sample_in_batches_and_filled_up() {
    for (body, expected) in BODIES {
        let names: Vec<String> = expected.iter().map(|(name, _, _)| (*name).to_owned()).collect();
        let (free, fixed) = (with_body(",4,6", body, "N"), with_body(",4,6", body, "4"));
        let alone = Samples::of(6, 4, 6, None).open(&free.graph);
        let alone = summaries(&free, &names, &alone, 1);
        let batches = Samples::of(6, 4, 6, Some(4)).open(&free.graph);
        let filled = Samples::of(6, 4, 6, None).open(&fixed.graph);
        assert_eq!((filled.batch_size(), filled.batches()), (4, 0..2));
        for (model, data, how) in [(&free, batches, "batches"), (&fixed, filled, "filled up")] {
            let found = summaries(model, &names, &data, 1);
            assert_eq!(found, summaries(model, &names, &data, 3), "{body}");
            for name in &names {
                let (one, other) = (&alone[name], &found[name]);
                let place = format!("{name} {how} of {body}");
                assert!(!other.repeats, "{place}");
                same_counts(one, other, &place);
                let (a, b) = (
                    one.histogram.extremes().unwrap(),
                    other.histogram.extremes().unwrap(),
                );
                assert!(
                    near(a.0.into(), b.0.into()) && near(a.1.into(), b.1.into()),
                    "{place}"
                );
                let (a, b) = (one.mean_extremes().unwrap(), other.mean_extremes().unwrap());
                assert!(
                    near(a.0.into(), b.0.into()) && near(a.1.into(), b.1.into()),
                    "{place}"
                );
                match (one.channel_means(), other.channel_means()) {
                    (Some(a), Some(b)) => {
                        assert_eq!(a.len(), b.len(), "{place}");
                        assert!(a.iter().zip(&b).all(|(a, b)| near(*a, *b)), "{place}");
                    }
                    (a, b) => assert_eq!(a, b, "{place}"),
                }
            }
        }
    }
}

#[test]
fn moments_and_rows_are_the_same_in_batches_and_filled_up() {
    // calibration_sequence_first, and rows of steps and samples.
    for body in [
        "t = Transpose<perm = [1, 0, 2]>(x) m = MatMul(t, w) k = Relu(m) y = MatMul(k, w)",
        "t = Transpose<perm = [1, 0, 2]>(x) f = Reshape(t, flat) k = Gemm(f, w, b) y = Gemm(k, w, b)",
        "f = Reshape(x, flat) k = Gemm(f, w, b) y = Gemm(k, w, b)",
    ] {
        let (free, fixed) = (with_body(",4,6", body, "N"), with_body(",4,6", body, "4"));
        let along = [Along {
            value: "k".to_owned(),
            axis: -1,
        }];
        let options = GramOptions { rows_per_sample: 3 };
        let run = |model: &Model, batch: Option<u64>, jobs: usize| {
            let data = Samples::of(6, 4, 6, batch).open(&model.graph);
            let moments = second_moments(model, &along, &data, &TractEngine, jobs, &|_| {}).unwrap();
            let (found, _) = layers(&model.graph);
            let grams = collect_grams(model, &found, options, &data, &TractEngine, jobs, &|_| {}).unwrap();
            (moments[&along[0]].clone(), grams)
        };
        let (moments, grams) = run(&free, None, 1);
        assert_eq!(moments.count, 24, "{body}");
        for (model, batch) in [(&free, Some(4)), (&fixed, None)] {
            let (others, other_grams) = run(model, batch, 2);
            assert_eq!(moments.count, others.count, "{body}");
            let mut pairs = moments.squared.values().into_iter().zip(others.squared.values());
            assert!(pairs.all(|(a, b)| near(a, b)), "{body}");
            assert_eq!(moments.largest.len(), others.largest.len());
            for (key, groups) in &grams.by_key {
                for (a, b) in groups.iter().zip(&other_grams.by_key[key]) {
                    assert_eq!((a.rows, b.rows), (18, 18), "{key} of {body}");
                    let mut pairs = a.matrix.iter().zip(b.matrix.iter());
                    assert!(pairs.all(|(a, b)| near(*a, *b)), "{key} of {body}");
                }
            }
        }
    }
}

/// What `quantize` makes of a model, its outputs beside the model's own in dB.
fn decibels(model: &Model, samples: &Samples, pass: &Quantize) -> f64 {
    let mut quantized = model.clone();
    let context = secateur::passes::Context {
        evaluator: &secateur::fold::TractEvaluator,
        limits: secateur::passes::Limits::default(),
        keep: regex::RegexSet::empty(),
        seed: 0,
        base: PathBuf::new(),
        progress: &|_, _, _| {},
        resources: Some(samples),
    };
    pass.run(&mut quantized, &context).unwrap();
    let data = samples.open(&model.graph);
    let (mut signal, mut noise) = (0.0, 0.0);
    let session = |model: &Model| {
        Lowering(&TractEngine)
            .compile(model, &Default::default())
            .unwrap()
    };
    let (float, codes) = (session(model), session(&quantized));
    for index in data.batches() {
        let inputs = data.batch(index).unwrap().inputs;
        let (expected, found) = (float.run(&inputs).unwrap(), codes.run(&inputs).unwrap());
        for (name, value) in &expected {
            let (RunValue::Tensor(a), RunValue::Tensor(b)) = (value, &found[name]) else {
                panic!("{name} is no tensor")
            };
            for (a, b) in a.to_f64().unwrap().iter().zip(b.to_f64().unwrap()) {
                signal += a * a;
                noise += (a - b) * (a - b);
            }
        }
    }
    10.0 * (signal / noise).log10()
}

#[test]
fn calibration_sequence_first_is_as_good_as_batch_first() {
    let first = with_body(",12,6", "m = MatMul(x, w) k = Relu(m) y = MatMul(k, w)", "N");
    let expected = decibels(&first, &Samples::of(16, 12, 6, None), &Quantize::default());
    assert!(expected > 25.0, "{expected}");
    let body = "t = Transpose<perm = [1, 0, 2]>(x) m = MatMul(t, w) k = Relu(m) z = MatMul(k, w)
                y = Transpose<perm = [1, 0, 2]>(z)";
    for batch in ["N", "4", "1"] {
        for calibrate in [Calibrator::Mse, Calibrator::MinMax, Calibrator::MovingAverage] {
            let model = with_body(",12,6", body, batch);
            let pass = Quantize {
                calibrate,
                ..Quantize::default()
            };
            let samples = Samples::of(16, 12, 6, (batch == "N").then_some(5));
            let found = decibels(&model, &samples, &pass);
            // Averages of the samples' extremes cut the largest samples off in either layout.
            let other = match calibrate {
                Calibrator::MovingAverage => decibels(&first, &Samples::of(16, 12, 6, None), &pass),
                _ => expected,
            };
            assert!(
                found > other - 2.0,
                "batch {batch}, {calibrate:?}: {found} dB, batch first {other} dB"
            );
        }
    }
}

#[test]
fn data_of_zeros_is_refused_by_name() {
    let model = with_body(",4,6", "m = MatMul(x, w) y = Relu(m)", "N");
    let samples = Samples::from_values(&[0.0; 72], &[3, 4, 6], None);
    let data = samples.open(&model.graph);
    let found = collect(
        &model,
        &["m".to_owned()],
        Wanted::default(),
        &data,
        &TractEngine,
        1,
        &|_| {},
    );
    let error = found.unwrap_err();
    assert!(
        matches!(error, StatisticsError::Zeros { samples: 3, .. }),
        "{error}"
    );
    let words = error.to_string();
    assert!(
        words.contains("x is 0 everywhere in all 3 samples") && words.contains("x.npz"),
        "{words}"
    );
    let mut almost = [0.0; 72];
    almost[71] = 1.0;
    let samples = Samples::from_values(&almost, &[3, 4, 6], None);
    let data = samples.open(&model.graph);
    collect(
        &model,
        &["m".to_owned()],
        Wanted::default(),
        &data,
        &TractEngine,
        1,
        &|_| {},
    )
    .unwrap();
}

#[test]
fn ids_out_of_a_tables_range_are_named_with_node_and_value() {
    let text = format!(
        "<ir_version: 8, opset_import: [\"\" : 17]> g (int64[N,3] ids) => (float[N,3,6] y)
         <float[5,6] table = {{{}}}, float[6,6] w = {{{}}}> {{
           e = Gather(table, ids)
           y = MatMul(e, w)
         }}",
        numbers(30, 1),
        numbers(36, 2)
    );
    let model = model(&text);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ids.npz");
    let open = |ids: &[i64]| {
        let tensor = Tensor::from_slice(&[2, 3], ids).unwrap();
        write_npz(&path, [("ids", &tensor)]).unwrap();
        let spec = Spec {
            npz: Some(path.clone()),
            ..Spec::default()
        };
        Dataset::open(&spec, Path::new(""), &model.graph).unwrap()
    };
    let run = |data: &Dataset| {
        collect(
            &model,
            &["e".to_owned()],
            Wanted::default(),
            data,
            &TractEngine,
            1,
            &|_| {},
        )
    };
    run(&open(&[0, 4, -5, 1, 2, 3])).unwrap();
    for wrong in [5, -6, 30_522] {
        let error = run(&open(&[0, 4, 1, 2, wrong, 3])).unwrap_err();
        assert!(
            matches!(error, StatisticsError::Engine(EngineError::Input { .. })),
            "{error}"
        );
        let words = error.to_string();
        for part in ["ids.npz", "sample 1", &wrong.to_string(), "table", "0 to 4"] {
            assert!(words.contains(part), "{part:?} in {words}");
        }
    }
}
