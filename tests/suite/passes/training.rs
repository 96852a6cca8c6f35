//! Training on the gradient graph, beyond a plain step: what ends it, how batches are cut, engines that cannot hold inputs, teachers
//! and masks. Linear models with squared errors, whose steps are known in closed form.

use std::path::Path;

use ndarray::{Array1, Array2, s};
use secateur::data::{Dataset, Spec, write_npz};
use secateur::engine::{EngineError, OrtEngine, RunValues, Session};
use secateur::finetune::Optimizer;
use secateur::ir::Graph;
use secateur::passes::{Finetune, Masks, ResourceError, TrainingLoss};

use super::*;

/// Samples `x` and float targets `y` in an npz, a teacher, masks, and an engine.
struct Desk {
    folder: tempfile::TempDir,
    labelled: bool,
    engine: Box<dyn Engine>,
    teacher: Option<Model>,
}

impl Desk {
    fn new(x: &Array2<f32>, y: &Array2<f32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tensor = |array: &Array2<f32>| {
            let dims = [array.nrows() as u64, array.ncols() as u64];
            Tensor::from_slice(&dims, array.as_slice().unwrap()).unwrap()
        };
        write_npz(
            &folder.path().join("d.npz"),
            [("x", &tensor(x)), ("y", &tensor(y))],
        )
        .unwrap();
        Self {
            folder,
            labelled: true,
            engine: Box::new(TractEngine),
            teacher: None,
        }
    }
}

impl Resources for Desk {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&*self.engine)
    }

    fn data(&self, _role: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        let spec = Spec {
            npz: Some("d.npz".into()),
            labels: self.labelled.then(|| "y".to_owned()),
            ..Spec::default()
        };
        Dataset::open(&spec, self.folder.path(), graph).map_err(ResourceError::from)
    }

    fn tensors(&self, path: &Path) -> Result<Vec<(String, Tensor)>, ResourceError> {
        secateur::data::read_weights(&self.folder.path().join(path)).map_err(ResourceError::from)
    }

    fn original(&self) -> Option<&Model> {
        self.teacher.as_ref()
    }

    fn jobs(&self) -> usize {
        2
    }
}

/// tract, whose sessions hold no inputs: they are handed over in every run.
struct Forgetful;

struct ForgetfulSession(Box<dyn Session>);

impl Engine for Forgetful {
    fn name(&self) -> &'static str {
        TractEngine.name()
    }

    fn release(&self) -> String {
        TractEngine.release()
    }

    fn describe(&self) -> String {
        TractEngine.describe()
    }

    fn compile(&self, model: &Model, options: &CompileOptions) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(ForgetfulSession(TractEngine.compile(model, options)?)))
    }
}

impl Session for ForgetfulSession {
    fn run(&self, inputs: &RunValues) -> Result<RunValues, EngineError> {
        self.0.run(inputs)
    }
}

/// `y = x W` for a batch of `batch` (a number or a symbol).
fn linear(batch: &str, w: &Array2<f32>) -> Model {
    let listed: Vec<String> = w.iter().map(f32::to_string).collect();
    model(&format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[{batch}, {0}] x) => (float[{batch}, {1}] y) <float[{0}, {1}] w = {{{2}}}> {{ y = MatMul (x, w) }}"#,
        w.nrows(),
        w.ncols(),
        listed.join(", "),
    ))
}

fn weights(model: &Model) -> Array1<f64> {
    let value = model.graph.find_value("w").unwrap();
    Array1::from(model.graph.constant(value).unwrap().to_f64().unwrap())
}

/// Numbers in -0.5 to 0.5 with few bits, so that sums of products are exact.
fn numbers(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    let mut state = seed;
    Array2::from_shape_fn((rows, columns), |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 60) as f32 - 8.0) / 16.0
    })
}

fn squares() -> Finetune {
    Finetune {
        epochs: 1,
        learning_rate: 0.25,
        momentum: 0.0,
        validation: 0.0,
        masks: Masks::None,
        loss: TrainingLoss::MeanSquaredError,
        ..Finetune::default()
    }
}

/// The gradient of the mean squared error.
fn slope(x: &Array2<f32>, y: &Array2<f32>, w: &Array2<f64>) -> Array2<f64> {
    let (x, y) = (x.mapv(f64::from), y.mapv(f64::from));
    x.t().dot(&(x.dot(w) - &y)) * (2.0 / y.len() as f64)
}

fn train(pass: &Finetune, model: &Model, desk: &Desk) -> (Model, PassReport) {
    let mut trained = model.clone();
    let report = run_with(pass, &mut trained, &Setting::default(), Some(desk))
        .unwrap_or_else(|error| panic!("{error}"));
    (trained, report)
}

fn assert_near(found: &Array1<f64>, expected: &Array2<f64>, tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() < tolerance,
            "{found} instead of {expected}"
        );
    }
}

#[test]
fn nothing_better_to_be_had_stops_it_after_as_many_epochs_as_patience_says() {
    let (x, w) = (numbers(12, 3, 1), numbers(3, 2, 2));
    let desk = Desk::new(&x, &x.dot(&w));
    for patience in [1, 3] {
        let pass = Finetune {
            epochs: 50,
            batch: 4,
            patience,
            validation: 0.25,
            ..squares()
        };
        let (found, report) = train(&pass, &linear("N", &w), &desk);
        // The loss before the first epoch is the first line.
        assert_eq!(
            report.changes[0].details.len(),
            patience as usize + 1,
            "{report:?}"
        );
        assert!(
            !report.changed && report.notes[0].contains("held out"),
            "{report:?}"
        );
        assert_eq!(weights(&found), weights(&linear("N", &w)));
    }
}

#[test]
fn a_shorter_last_batch_counts_its_own_samples_in_one_run_or_several() {
    let row = numbers(1, 3, 4);
    let (x, y) = (
        Array2::from_shape_fn((6, 3), |(_, at)| row[[0, at]]),
        Array2::from_elem((6, 2), 0.75f32),
    );
    let start = numbers(3, 2, 5);
    let desk = Desk::new(&x, &y);
    let pass = Finetune {
        batch: 4,
        ..squares()
    };
    // Two steps on equal samples; the rate of the second is half way down the cosine.
    let mut expected = start.mapv(f64::from);
    for rate in [0.25, 0.125] {
        expected = &expected - &(slope(&x, &y, &expected) * rate);
    }
    for batch in ["N", "2"] {
        let (found, report) = train(&pass, &linear(batch, &start), &desk);
        assert!(report.changed);
        assert_near(&weights(&found), &expected, 1e-6);
    }
    // With three samples a run, the four of a batch give one run, and the last two wait.
    let mut expected = start.mapv(f64::from);
    expected = &expected - &(slope(&x, &y, &expected) * 0.25);
    let (found, _) = train(&pass, &linear("3", &start), &desk);
    assert_near(&weights(&found), &expected, 1e-6);
}

#[test]
fn halves_of_an_expensive_batch_add_up_to_the_whole() {
    let (x, start) = (numbers(1201, 256, 7), numbers(256, 512, 8));
    let y = numbers(1201, 512, 9);
    let desk = Desk::new(&x, &y);
    let pass = Finetune {
        batch: 1201,
        learning_rate: 4096.0,
        ..squares()
    };
    let (found, _) = train(&pass, &linear("N", &start), &desk);
    let begin = start.mapv(f64::from);
    let expected = &begin - &(slope(&x, &y, &begin) * 4096.0);
    let moved = (&expected - &begin)
        .mapv(f64::abs)
        .fold(0.0, |a: f64, b| a.max(*b));
    assert!(moved > 0.1, "{moved}");
    assert_near(&weights(&found), &expected, 1e-4);
}

#[test]
fn engines_that_hold_no_inputs_train_as_those_that_do() {
    let (x, start) = (numbers(10, 3, 11), numbers(3, 2, 12));
    let y = numbers(10, 2, 13);
    let pass = Finetune {
        epochs: 5,
        batch: 3,
        momentum: 0.9,
        validation: 0.2,
        ..squares()
    };
    let (expected, report) = train(&pass, &linear("N", &start), &Desk::new(&x, &y));
    let mut engines: Vec<Box<dyn Engine>> = vec![Box::new(Forgetful)];
    if let Ok(ort) = OrtEngine::load() {
        engines.push(Box::new(ort));
    }
    for engine in engines {
        let desk = Desk {
            engine,
            ..Desk::new(&x, &y)
        };
        let (found, own) = train(&pass, &linear("N", &start), &desk);
        assert_eq!(own.changed, report.changed);
        let found = weights(&found);
        for (found, expected) in found.iter().zip(&weights(&expected)) {
            assert!(
                (found - expected).abs() < 1e-6,
                "{}: {found} instead of {expected}",
                desk.engine.name()
            );
        }
    }
}

/// Logarithms of softened class probabilities.
fn log_probabilities(scores: &Array2<f64>, temperature: f64) -> Array2<f64> {
    let mut out = scores.mapv(|score| score / temperature);
    for mut row in out.rows_mut() {
        let total = row.iter().map(|score| score.exp()).sum::<f64>().ln();
        row.mapv_inplace(|score| score - total);
    }
    out
}

#[test]
fn a_teacher_replaces_labels() {
    let (x, start, taught) = (numbers(8, 3, 21), numbers(3, 4, 22), numbers(3, 4, 23));
    let desk = Desk {
        labelled: false,
        teacher: Some(linear("N", &taught)),
        ..Desk::new(&x, &numbers(8, 4, 24))
    };
    let temperature = 3.0;
    let pass = Finetune {
        epochs: 200,
        batch: 8,
        learning_rate: 1.0,
        momentum: 0.9,
        loss: TrainingLoss::Distillation,
        temperature,
        ..squares()
    };
    let (_, report) = train(&pass, &linear("N", &start), &desk);
    let losses: Vec<f64> = report.changes[0]
        .details
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect();
    let scores = |w: &Array2<f32>| x.mapv(f64::from).dot(&w.mapv(f64::from));
    let (p, q) = (
        log_probabilities(&scores(&taught), temperature),
        log_probabilities(&scores(&start), temperature),
    );
    let divergence = (p.mapv(f64::exp) * (&p - &q)).sum() / 8.0 * temperature * temperature;
    assert!(divergence > 1e-3);
    assert!(
        (losses[0] - divergence).abs() < 1e-4,
        "{} instead of {divergence}",
        losses[0]
    );
    assert!(losses[199] < 1e-2 * losses[0], "{losses:?}");
}

#[test]
fn teachers_that_do_not_fit_are_refused() {
    let (x, start) = (numbers(8, 3, 21), numbers(3, 4, 22));
    let pass = Finetune {
        loss: TrainingLoss::Distillation,
        ..squares()
    };
    let other = model(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[N, 3] image) => (float[N, 3] y) { y = Relu (image) }"#,
    );
    for (teacher, pass, expected) in [
        (Some(other), pass.clone(), "it takes image"),
        (None, pass.clone(), "no model to learn from"),
        (
            None,
            Finetune {
                temperature: 0.0,
                ..pass.clone()
            },
            "temperature",
        ),
        (
            None,
            Finetune {
                teacher: Some("t.onnx".into()),
                ..squares()
            },
            "only the losses distillation and features",
        ),
    ] {
        let desk = Desk {
            teacher,
            ..Desk::new(&x, &numbers(8, 4, 24))
        };
        let failure =
            run_with(&pass, &mut linear("N", &start), &Setting::default(), Some(&desk)).unwrap_err();
        assert!(failure.to_string().contains(expected), "{failure}");
    }
}

#[test]
fn masks_from_a_file_are_zero_from_the_start_and_stay_zero() {
    let (x, start) = (numbers(8, 3, 31), Array2::from_elem((3, 2), 0.5f32));
    let y = numbers(8, 2, 32);
    let desk = Desk::new(&x, &y);
    let write = |name: &str, dims: &[u64], kept: &[bool]| {
        let mask = Tensor::from_bools(dims, kept).unwrap();
        write_npz(&desk.folder.path().join("m.npz"), [(name, &mask)]).unwrap();
    };
    let pass = Finetune {
        epochs: 3,
        batch: 4,
        masks_from: Some("m.npz".into()),
        ..squares()
    };
    write("w", &[3, 2], &[true, false, true, true, true, false]);
    let found = weights(&train(&pass, &linear("N", &start), &desk).0);
    for (at, value) in found.iter().enumerate() {
        assert_eq!(*value == 0.0, at == 1 || at == 5, "{found}");
        assert!(*value != 0.5, "{found}");
    }
    for (name, dims, kept, expected) in [
        ("w", vec![2], vec![true, false], "2 elements instead of 6"),
        ("v", vec![1], vec![true], "no parameter of this name"),
    ] {
        write(name, &dims, &kept);
        let failure =
            run_with(&pass, &mut linear("N", &start), &Setting::default(), Some(&desk)).unwrap_err();
        assert!(failure.to_string().contains(expected), "{failure}");
    }
    let slice = x.slice(s![.., 0..1]).to_owned();
    let tensor = Tensor::from_slice(&[8, 1], slice.as_slice().unwrap()).unwrap();
    write_npz(&desk.folder.path().join("m.npz"), [("w", &tensor)]).unwrap();
    let failure = run_with(&pass, &mut linear("N", &start), &Setting::default(), Some(&desk)).unwrap_err();
    assert!(failure.to_string().contains("a mask is boolean"), "{failure}");
}

/// finetune_bn_1d: scale and offset of BatchNormalization are trained in tract, mean and variance stay.
#[test]
fn batch_normalization_is_trained_with_its_statistics_held() {
    for (rank, opset) in [(2, 17), (3, 14), (4, 9)] {
        let spatial = ["", ", 2", ", 1, 2"][rank - 2];
        let tail = if rank == 2 { 1 } else { 2 };
        let text = format!(
            r#"<ir_version: 8, opset_import: ["" : {opset}]>
            m (float[N, {flat}] x) => (float[N, {flat}] y) <float[3] scale = {{1, 2, 0.5}}, float[3] offset = {{0, 0.25, -0.5}},
             float[3] mean = {{0.125, -0.25, 0}}, float[3] variance = {{1, 4, 0.25}}, int64[{rank}] wide = {{-1, 3{spatial}}},
             int64[2] narrow = {{-1, {flat}}}> {{
              a = Reshape (x, wide) b = BatchNormalization<epsilon = 0.0625> (a, scale, offset, mean, variance) y = Reshape (b, narrow)
            }}"#,
            flat = 3 * tail,
        );
        let (x, t) = (numbers(8, 3 * tail, 3), numbers(8, 3 * tail, 5));
        let desk = Desk::new(&x, &t);
        let pass = Finetune {
            batch: 8,
            learning_rate: 0.5,
            ..squares()
        };
        let (found, report) = train(&pass, &model(&text), &desk);
        assert_eq!(report.changes[0].count, 2, "{report:#?}");
        let numbers_of = |name: &str| {
            let value = found.graph.find_value(name).unwrap();
            found.graph.constant(value).unwrap().to_f64().unwrap()
        };
        let (scale, offset) = ([1.0, 2.0, 0.5], [0.0, 0.25, -0.5]);
        let (mean, variance) = ([0.125, -0.25, 0.0], [1.0, 4.0, 0.25]);
        assert_eq!(
            (numbers_of("mean"), numbers_of("variance")),
            (mean.to_vec(), variance.to_vec())
        );
        // The gradient of the mean squared error in closed form.
        let (mut slopes, mut shifts) = ([0.0; 3], [0.0; 3]);
        for ((row, column), x) in x.indexed_iter() {
            let channel = column / tail;
            let hat = (f64::from(*x) - mean[channel]) / f64::sqrt(variance[channel] + 0.0625);
            let error =
                2.0 * (hat * scale[channel] + offset[channel] - f64::from(t[[row, column]])) / x_len(&t);
            slopes[channel] += error * hat;
            shifts[channel] += error;
        }
        for channel in 0..3 {
            let near =
                |found: f64, expected: f64| assert!((found - expected).abs() < 1e-5, "{found} {expected}");
            near(
                numbers_of("scale")[channel],
                scale[channel] - 0.5 * slopes[channel],
            );
            near(
                numbers_of("offset")[channel],
                offset[channel] - 0.5 * shifts[channel],
            );
        }
        // A teacher in the place of labels: the model itself, from which nothing is to be learned.
        let distilled = Finetune {
            loss: TrainingLoss::Distillation,
            batch: 8,
            ..squares()
        };
        let mut desk = Desk::new(&x, &t);
        (desk.labelled, desk.teacher) = (false, Some(model(&text)));
        let (after, _) = train(&distilled, &model(&text), &desk);
        let value = after.graph.find_value("scale").unwrap();
        let kept = after.graph.constant(value).unwrap().to_f64().unwrap();
        for (a, b) in kept.iter().zip(scale) {
            assert!((a - b).abs() < 1e-5, "{kept:?}");
        }
    }
}

fn x_len(t: &Array2<f32>) -> f64 {
    t.len() as f64
}

/// `h = Relu(x W)`, `y = h V`: `h` is what the head reads.
fn two_layers(hidden: &str, w: &Array2<f32>, v: &Array2<f32>) -> Model {
    let listed = |array: &Array2<f32>| array.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
    model(&format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[N, {0}] x) => (float[N, {2}] y) <float[{0}, {1}] w = {{{3}}}, float[{1}, {2}] v = {{{4}}}> {{
          a = MatMul (x, w) {hidden} = Relu (a) y = MatMul ({hidden}, v)
        }}"#,
        w.nrows(),
        w.ncols(),
        v.ncols(),
        listed(w),
        listed(v),
    ))
}

fn losses(report: &PassReport) -> Vec<f64> {
    let lines = report.changes[0].details.iter();
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn features_are_learnt_relative_to_their_own_size_and_the_head_stays() {
    let (x, taught, start) = (numbers(8, 3, 41), numbers(3, 4, 42), numbers(3, 4, 43));
    let head = numbers(4, 2, 44);
    let desk = Desk {
        labelled: false,
        teacher: Some(two_layers("h", &taught, &head)),
        ..Desk::new(&x, &numbers(8, 2, 45))
    };
    let pass = Finetune {
        epochs: 300,
        batch: 8,
        learning_rate: 0.2,
        momentum: 0.9,
        loss: TrainingLoss::Features,
        ..squares()
    };
    let (found, report) = train(&pass, &two_layers("h", &start, &head), &desk);
    let hidden = |w: &Array2<f32>| {
        x.mapv(f64::from)
            .dot(&w.mapv(f64::from))
            .mapv(|value| value.max(0.0))
    };
    let square = |array: &Array2<f64>| array.iter().map(|value| value * value).sum::<f64>();
    let (t, h) = (hidden(&taught), hidden(&start));
    let expected = square(&(&t - &h)) / square(&t);
    let losses = losses(&report);
    assert!(
        (losses[0] - expected).abs() < 1e-5 * expected,
        "{} {expected}",
        losses[0]
    );
    assert!(losses[299] < 0.5 * losses[0], "{losses:?}");
    assert_eq!(report.changes[0].count, 1);
    assert!(
        report.notes.iter().any(|note| note.ends_with(": h")),
        "{report:?}"
    );
    let head_of = |model: &Model| {
        let value = model.graph.find_value("v").unwrap();
        model.graph.constant(value).unwrap().to_f64().unwrap()
    };
    assert_eq!(head_of(&found), head_of(&two_layers("h", &start, &head)));
    assert_eq!(found.graph.outputs().len(), 1);

    // Of two cuts each counts half, whatever their sizes.
    let both = Finetune {
        epochs: 1,
        features: vec!["^h$".to_owned(), "^y$".to_owned()],
        ..pass.clone()
    };
    let (_, report) = train(&both, &two_layers("h", &start, &head), &desk);
    let out = |hidden: &Array2<f64>| hidden.dot(&head.mapv(f64::from));
    let of_output = square(&(out(&t) - out(&h))) / square(&out(&t));
    let found = self::losses(&report)[0];
    let expected = 0.5 * (expected + of_output);
    assert!((found - expected).abs() < 1e-5 * expected, "{found} {expected}");

    // A teacher whose layer is wider: the output is what both have.
    let wide = Desk {
        labelled: false,
        teacher: Some(two_layers("h", &numbers(3, 6, 46), &numbers(6, 2, 47))),
        ..Desk::new(&x, &numbers(8, 2, 45))
    };
    let one = Finetune {
        epochs: 1,
        ..pass.clone()
    };
    let (_, report) = train(&one, &two_layers("h", &start, &head), &wide);
    assert!(
        report.notes.iter().any(|note| note.ends_with(": y")),
        "{report:?}"
    );
    assert_eq!(report.changes[0].count, 2);

    let named = Finetune {
        features: vec!["^h$".to_owned()],
        ..one.clone()
    };
    let mut student = two_layers("h", &start, &head);
    let failure = run_with(&named, &mut student, &Setting::default(), Some(&wide)).unwrap_err();
    assert!(
        failure.to_string().contains("h: the teacher has no float value"),
        "{failure}"
    );
    let labelled = Finetune {
        features: vec!["^h$".to_owned()],
        ..squares()
    };
    let failure = run_with(&labelled, &mut student, &Setting::default(), Some(&desk)).unwrap_err();
    assert!(
        failure.to_string().contains("only the loss features"),
        "{failure}"
    );
}

#[test]
fn training_that_was_ended_goes_on_to_the_same_result() {
    let (x, start) = (numbers(24, 3, 51), numbers(3, 2, 52));
    let y = numbers(24, 2, 53);
    for (optimizer, average) in [(Optimizer::Sgd, 0.0), (Optimizer::Adam, 0.9)] {
        let desk = Desk::new(&x, &y);
        let pass = Finetune {
            epochs: 6,
            batch: 4,
            learning_rate: 0.05,
            momentum: 0.9,
            validation: 0.25,
            patience: 6,
            warmup: 0.25,
            optimizer,
            average,
            ..squares()
        };
        let (expected, whole) = train(&pass, &linear("N", &start), &desk);
        let kept = Finetune {
            checkpoint: Some(desk.folder.path().join("c.safetensors")),
            ..pass.clone()
        };
        // Ends before the fourth epoch, as the steps of an epoch are five.
        let steps = std::sync::atomic::AtomicU64::new(0);
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let tell = |_: &str, done: u64, _: Option<u64>| {
                steps.fetch_max(done, std::sync::atomic::Ordering::Relaxed);
                assert!(done < 17, "ended");
            };
            let setting = Setting::default();
            let mut context = setting.context(Some(&desk));
            context.progress = &tell;
            kept.run(&mut linear("N", &start), &context).map(|_| ())
        }));
        assert!(ended.is_err());
        assert_eq!(steps.into_inner(), 17);
        let (found, resumed) = train(&kept, &linear("N", &start), &desk);
        assert_eq!(weights(&found), weights(&expected));
        assert_eq!(resumed.changes, whole.changes);
        // Once more: all epochs are done.
        let (again, _) = train(&kept, &linear("N", &start), &desk);
        assert_eq!(weights(&again), weights(&expected));
        // Another training does not take it up, and leaves it alone.
        let before = std::fs::read(desk.folder.path().join("c.safetensors")).unwrap();
        let other = Finetune {
            learning_rate: 0.06,
            ..kept.clone()
        };
        let failure =
            run_with(&other, &mut linear("N", &start), &Setting::default(), Some(&desk)).unwrap_err();
        assert!(failure.to_string().contains("of another training"), "{failure}");
        assert_eq!(
            std::fs::read(desk.folder.path().join("c.safetensors")).unwrap(),
            before
        );
        assert_ne!(weights(&found), weights(&linear("N", &start)));
    }
}
