//! Pruning of single weights: what becomes zero under each criterion, scope and pattern, what stays and why.

use std::path::Path;

use secateur::data::{Dataset, Spec, write_npz};
use secateur::finetune::Optimizer;
use secateur::ir::Graph;
use secateur::passes::{Finetune, Masks, ResourceError};
use secateur::passes::{
    LossKind, PruneWeights, Resources, WeightCriterion, WeightScope, gradient_statistics,
};
use secateur::statistics::GradientStatistics;

use super::*;

/// Labelled samples `[6, 3]` in an npz.
struct Labelled {
    folder: tempfile::TempDir,
    shard: Option<&'static str>,
    jobs: usize,
}

const X: [f32; 18] = [
    0.5, -1.0, 2.0, 1.5, 0.25, -0.5, -2.0, 1.0, 0.0, 0.75, 0.5, 1.0, -1.5, -0.25, 0.5, 2.0, 1.0, -1.0,
];
const Y: [i64; 6] = [0, 1, 1, 0, 0, 1];

impl Labelled {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let x = Tensor::from_slice(&[6, 3], &X).unwrap();
        let y = Tensor::from_slice(&[6], &Y).unwrap();
        write_npz(&folder.path().join("d.npz"), [("x", &x), ("y", &y)]).unwrap();
        Self {
            folder,
            shard: None,
            jobs: 2,
        }
    }

    fn statistics(&self, text: &str) -> Result<GradientStatistics, ResourceError> {
        let objective = LossKind::CrossEntropy.objective(None);
        let open = |model: &Model| self.data("training", &model.graph);
        gradient_statistics(
            &model(text),
            &objective,
            open,
            &TractEngine,
            self.jobs,
            &|_, _, _| {},
        )
    }
}

impl Resources for Labelled {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, _role: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        let spec = Spec {
            npz: Some("d.npz".into()),
            labels: Some("y".to_owned()),
            shard: self.shard.map(|shard| shard.parse().unwrap()),
            ..Spec::default()
        };
        Dataset::open(&spec, self.folder.path(), graph).map_err(ResourceError::from)
    }

    fn jobs(&self) -> usize {
        self.jobs
    }
}

const LINEAR: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
    m (float[N, 3] x) => (float[N, 2] y)
    <float[3, 2] w = {0.5, -0.25, 1.0, 0.125, -0.75, 0.0625}> { y = MatMul (x, w) }"#;

const W: [f64; 6] = [0.5, -0.25, 1.0, 0.125, -0.75, 0.0625];

fn prune(pass: &PruneWeights, text: &str, data: &Labelled) -> (Model, PassReport) {
    let mut pruned = model(text);
    let context = Context {
        evaluator: &TractEvaluator,
        limits: Limits::default(),
        keep: RegexSet::empty(),
        seed: 3,
        base: data.folder.path().to_owned(),
        progress: &|_, _, _| {},
        resources: Some(data),
    };
    let report = pass
        .run(&mut pruned, &context)
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    secateur::analysis::check(&pruned).unwrap_or_else(|errors| panic!("{errors:?}"));
    (pruned, report)
}

fn values(model: &Model, name: &str) -> Vec<f64> {
    let value = model.graph.find_value(name).unwrap();
    model.graph.constant(value).unwrap().to_f64().unwrap()
}

fn zeros(model: &Model, name: &str) -> Vec<usize> {
    let values = values(model, name);
    (0..values.len()).filter(|at| values[*at] == 0.0).collect()
}

/// Gradients of the cross-entropy of softmax(x·w), a sample at a time: [sample][weight].
fn gradients_by_hand() -> Vec<Vec<f64>> {
    (0..6)
        .map(|sample| {
            let x: Vec<f64> = X[sample * 3..sample * 3 + 3]
                .iter()
                .map(|v| f64::from(*v))
                .collect();
            let z: Vec<f64> = (0..2)
                .map(|c| (0..3).map(|k| x[k] * W[k * 2 + c]).sum())
                .collect();
            let total: f64 = z.iter().map(|z| z.exp()).sum();
            let error: Vec<f64> = (0..2)
                .map(|c| z[c].exp() / total - f64::from(u8::from(Y[sample] == c as i64)))
                .collect();
            (0..6).map(|at| x[at / 2] * error[at % 2]).collect()
        })
        .collect()
}

#[test]
fn gradient_statistics_are_sums_over_single_samples() {
    let found = Labelled::new().statistics(LINEAR).unwrap();
    let gradients = gradients_by_hand();
    let expected = |of: fn(f64) -> f64| -> Vec<f64> {
        (0..6)
            .map(|at| gradients.iter().map(|g| of(g[at])).sum())
            .collect()
    };
    let w = &found.values["w"];
    assert_eq!(
        (found.gradients, found.ranges.as_slice()),
        (6, [(0u64, 6u64)].as_slice())
    );
    for (found, expected) in [
        (&w.sum, expected(|g| g)),
        (&w.absolute, expected(f64::abs)),
        (&w.squared, expected(|g| g * g)),
    ] {
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-5, "{found:?} {expected:?}");
        }
    }
}

#[test]
fn shards_merge_to_the_whole_and_threads_change_nothing() {
    let bytes = |jobs: usize| {
        let data = Labelled {
            jobs,
            ..Labelled::new()
        };
        data.statistics(LINEAR).unwrap().to_bytes().unwrap()
    };
    assert_eq!(bytes(1), bytes(5));
    let part = |shard: &'static str| {
        let data = Labelled {
            shard: Some(shard),
            ..Labelled::new()
        };
        data.statistics(LINEAR).unwrap()
    };
    let (whole, mut merged) = (Labelled::new().statistics(LINEAR).unwrap(), part("1/2"));
    merged.merge(&part("0/2")).unwrap();
    assert_eq!(
        (merged.gradients, &merged.ranges, &merged.subject),
        (6, &whole.ranges, &whole.subject)
    );
    for (a, b) in merged.values["w"].squared.iter().zip(&whole.values["w"].squared) {
        assert!((a - b).abs() <= 1e-12 * b);
    }
}

#[test]
fn an_operator_without_a_product_is_named() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[N, 3] x) => (float[N, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}> {
            h = MatMul (x, w)
            d = Det (h)
            y = Mul (h, d)
        }"#;
    let error = Labelled::new().statistics(text).unwrap_err();
    assert!(error.to_string().contains("Det"), "{error}");
}

#[test]
fn each_criterion_takes_its_lowest() {
    let gradients = gradients_by_hand();
    let lowest = |score: &dyn Fn(usize) -> f64| {
        let mut order: Vec<usize> = (0..6).collect();
        order.sort_by(|a, b| score(*a).total_cmp(&score(*b)));
        let mut lowest = order[..3].to_vec();
        lowest.sort_unstable();
        lowest
    };
    let mean = |at: usize, of: &dyn Fn(f64) -> f64| gradients.iter().map(|g| of(g[at])).sum::<f64>() / 6.0;
    let norm = |k: usize| {
        (0..6)
            .map(|n| f64::from(X[n * 3 + k]).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    let data = Labelled::new();
    for (criterion, expected) in [
        (WeightCriterion::Magnitude, lowest(&|at| W[at].abs())),
        (WeightCriterion::Gradient, lowest(&|at| mean(at, &|g| g).abs())),
        (
            WeightCriterion::Taylor,
            lowest(&|at| mean(at, &|g| (g * W[at]).abs())),
        ),
        (
            WeightCriterion::Fisher,
            lowest(&|at| mean(at, &|g| g * g) * W[at] * W[at]),
        ),
        (WeightCriterion::Wanda, lowest(&|at| W[at].abs() * norm(at / 2))),
    ] {
        let pass = PruneWeights {
            criterion,
            ..PruneWeights::default()
        };
        let (pruned, report) = prune(&pass, LINEAR, &data);
        assert_eq!(zeros(&pruned, "w"), expected, "{criterion:?}");
        assert!(report.changed && report.changes[0].count == 3, "{report:?}");
        let kept: Vec<f64> = values(&pruned, "w").into_iter().filter(|v| *v != 0.0).collect();
        assert!(kept.iter().all(|value| W.contains(value)), "{criterion:?}");
    }
    let random = PruneWeights {
        criterion: WeightCriterion::Random,
        ..PruneWeights::default()
    };
    let runs: Vec<Vec<usize>> = (0..12)
        .map(|seed| {
            let pass = PruneWeights {
                random_seed: Some(seed),
                ..random.clone()
            };
            zeros(&prune(&pass, LINEAR, &data).0, "w")
        })
        .collect();
    assert!(runs.iter().all(|run| run.len() == 3) && runs.iter().any(|run| *run != runs[0]));
}

#[test]
fn statistics_from_a_file_serve_the_model_that_they_are_of() {
    let data = Labelled::new();
    let path = data.folder.path().join("s.safetensors");
    data.statistics(LINEAR).unwrap().write(&path).unwrap();
    let pass = PruneWeights {
        criterion: WeightCriterion::Taylor,
        stats: Some(path),
        ..PruneWeights::default()
    };
    let collected = PruneWeights {
        stats: None,
        ..pass.clone()
    };
    assert_eq!(
        zeros(&prune(&pass, LINEAR, &data).0, "w"),
        zeros(&prune(&collected, LINEAR, &data).0, "w")
    );
    let mut other = model(&LINEAR.replace("0.0625", "0.5"));
    let context = Context {
        base: Path::new("").to_owned(),
        evaluator: &TractEvaluator,
        limits: Limits::default(),
        keep: RegexSet::empty(),
        seed: 0,
        progress: &|_, _, _| {},
        resources: None,
    };
    let error = pass.run(&mut other, &context).unwrap_err().to_string();
    assert!(error.contains("another model"), "{error}");
}

#[test]
fn patterns_run_along_the_sum_of_every_layout() {
    let data = Labelled::new();
    let numbers = |count: usize| {
        (1..=count)
            .map(|i| (i * 7 % 23 + 1).to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[N, 4] x, float[N, 4, 5, 5] i, float[T, N, 4] s) => (float[N, 2] a, float[N, 4] b, float[N, 2, 3, 3] c, float[T, 1, N, 4] d)
        <float[4, 2] w = {{{w}}}, float[4, 4] g = {{{g}}}, float[2, 4, 3, 3] k = {{{k}}}, float[2, 1, 3, 3] depthwise = {{{dw}}},
         float[1, 12, 4] gru = {{{r}}}, float[1, 12, 4] hidden = {{{r}}}> {{
            a = MatMul (x, w)
            t = Transpose <perm = [1, 0]> (g)
            b = Gemm <transB = 1> (x, t)
            p = Conv (i, k)
            c = Conv <group = 2, pads = [1, 1, 1, 1]> (p, depthwise)
            d = GRU <hidden_size = 4> (s, gru, hidden)
        }}"#,
        w = numbers(8),
        g = numbers(16),
        k = numbers(72),
        dw = numbers(18),
        r = numbers(48)
    );
    let pass = PruneWeights {
        pattern: Some("2:4".to_owned()),
        ..PruneWeights::default()
    };
    let (pruned, report) = prune(&pass, &text, &data);
    // outer, size of the sum, inner
    for (name, [outer, size, inner]) in [
        ("w", [1usize, 4, 2]),
        // Read transposed twice, so that the sum runs along the first axis.
        ("g", [1, 4, 4]),
        ("k", [2, 4, 9]),
        ("gru", [12, 4, 1]),
        ("hidden", [12, 4, 1]),
    ] {
        let found = values(&pruned, name);
        for block in 0..outer * inner {
            let (o, i) = (block / inner, block % inner);
            let zero = (0..size)
                .filter(|at| found[(o * size + at) * inner + i] == 0.0)
                .count();
            assert_eq!(zero, 2, "{name} {found:?}");
        }
    }
    assert!(zeros(&pruned, "depthwise").is_empty());
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("depthwise") && note.contains("multiple of 4")),
        "{report:?}"
    );
}

#[test]
fn shared_weights_are_pruned_once_and_kept_ones_stay() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}, float[2, 2] v = {1, 2, 3, 4}> {
            a = MatMul (x, w)
            b = MatMul (a, w)
            y = MatMul (b, v)
        }"#;
    let pass = PruneWeights {
        keep: vec!["^v$".to_owned()],
        masks: Some("masks.npz".into()),
        ..PruneWeights::default()
    };
    let data = Labelled::new();
    let (pruned, report) = prune(&pass, text, &data);
    assert_eq!((zeros(&pruned, "w"), zeros(&pruned, "v")), (vec![0, 1], vec![]));
    assert_eq!(report.changes[0].count, 2);
    assert!(
        report.notes.iter().any(|note| note.starts_with("v ")),
        "{report:?}"
    );
    // The file is written with the result, and not before.
    let masks = data.folder.path().join("masks.npz");
    assert!(!masks.exists());
    assert_eq!(report.files[0].path, masks);
    std::fs::write(&masks, &report.files[0].content).unwrap();
    let written = secateur::data::read_weights(&masks).unwrap();
    assert_eq!((written.len(), written[0].0.as_str()), (1, "w"));
    let (again, report) = prune(&pass, &text.replace("{1, 2, 3, 4}", "{0, 0, 3, 4}"), &data);
    assert_eq!((zeros(&again, "w"), report.changed), (vec![0, 1], false));
}

#[test]
fn weights_that_bodies_capture_and_weights_behind_casts_are_pruned() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        m (bool p, float[N, 2] x) => (float[N, 2] y)
        <float[2, 2] w = {1, 2, 3, 4}, float16[2, 2] h = {15360, 16384, 16896, 17408}> {
            c = Cast <to = 1> (h)
            a = MatMul (x, c)
            y = If (p) <
                then_branch = t () => (float[N, 2] u) { u = MatMul (a, w) },
                else_branch = e () => (float[N, 2] v) <float[2, 2] own = {4, 3, 2, 1}> { v = MatMul (a, own) }
            >
        }"#;
    let (pruned, report) = prune(&PruneWeights::default(), text, &Labelled::new());
    assert_eq!(
        (zeros(&pruned, "w"), zeros(&pruned, "h")),
        (vec![0, 1], vec![0, 1])
    );
    assert_eq!(report.changes[0].count, 6, "{report:?}");
    assert!(report.left.is_empty(), "{report:?}");
    let total = report.changes[0].details.last().unwrap();
    assert!(
        total.starts_with("all 3 weights of Conv, ") && total.contains("6 of 12 zero, 50.0 %"),
        "{total}"
    );
    // What the body knows of the weight is what it is now.
    let inner = pruned.graph_paths().into_iter().find_map(|path| {
        let graph = pruned.graph_at(&path).filter(|_| !path.bodies.is_empty())?;
        let product = graph.node_ids().find(|id| graph.label(*id) == "u")?;
        graph.constant(graph.input(product, 1)?)?.to_f64().ok()
    });
    assert_eq!(inner.unwrap(), [0.0, 0.0, 3.0, 4.0]);
}

#[test]
fn weights_that_cannot_be_pruned_have_their_reason() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
        m (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}, float[2, 2] v = {1, 2, 3, 4}> {
            s = Abs (v)
            a = MatMul (x, s)
            y = my.Product (a, w)
        }
        <domain: "my", opset_import: ["" : 17]> Product (l, r) => (o) { o = MatMul (l, r) }"#;
    let (_, report) = prune(&PruneWeights::default(), text, &Labelled::new());
    assert!(!report.changed);
    for (layer, why) in [
        ("a", "its weight is computed from constants"),
        ("o", "its weight comes in as an argument of the function"),
    ] {
        let left = report.left.iter().find(|left| left.what == layer);
        assert_eq!(left.unwrap().why, why, "{report:?}");
    }
    assert_eq!(report.left.len(), 2, "{report:?}");
    let nothing = PruneWeights {
        sparsity: Some(0.0),
        ..PruneWeights::default()
    };
    let (_, report) = prune(&nothing, LINEAR, &Labelled::new());
    assert!(!report.changed);
    assert!(
        said(&report).contains("asks for no weight to become zero; raise it"),
        "{report:?}"
    );
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    for (pass, word) in [
        (
            PruneWeights {
                sparsity: Some(0.5),
                threshold: Some(0.1),
                ..PruneWeights::default()
            },
            "exclude each other",
        ),
        (
            PruneWeights {
                sparsity: Some(1.5),
                ..PruneWeights::default()
            },
            "sparsity",
        ),
        (
            PruneWeights {
                pattern: Some("4:2".to_owned()),
                ..PruneWeights::default()
            },
            "N:M",
        ),
        (
            PruneWeights {
                criterion: WeightCriterion::Taylor,
                ..PruneWeights::default()
            },
            "needs data",
        ),
    ] {
        let error = run_pass(&pass, &mut model(LINEAR), &Setting::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_global_scope_never_empties_a_layer() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[N, 2] x) => (float[N, 2] y) <float[2, 2] w = {0.1, 0.2, 0.3, 0.4}, float[2, 2] v = {1, 2, 3, 4}> {
            a = MatMul (x, w)
            y = MatMul (a, v)
        }"#;
    let pass = PruneWeights {
        sparsity: Some(0.5),
        scope: WeightScope::Global,
        max_sparsity: 0.75,
        ..PruneWeights::default()
    };
    let (pruned, _) = prune(&pass, text, &Labelled::new());
    assert_eq!(
        (zeros(&pruned, "w"), zeros(&pruned, "v")),
        (vec![0, 1, 2], vec![0])
    );
}

const PERCEPTRON: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
    m (float[N, 3] x) => (float[N, 2] y)
    <float[3, 4] w = {0.5, -0.25, 0.5, 0.125, -0.75, 0.0625, 0, 0.5, 0.25, 0, -0.5, 0.75}, float[4] b = {0, 0, 0, 0},
     float[4, 2] v = {0.25, -0.5, 0, 0.5, -0.25, 0.5, 0.5, 0}> {
        h = MatMul (x, w)
        s = Add (h, b)
        r = Tanh (s)
        y = MatMul (r, v)
    }"#;

fn trained(pass: &Finetune, jobs: usize) -> (Model, PassReport) {
    let data = Labelled {
        jobs,
        ..Labelled::new()
    };
    let mut trained = model(PERCEPTRON);
    let context = Context {
        evaluator: &TractEvaluator,
        limits: Limits::default(),
        keep: RegexSet::empty(),
        seed: 3,
        base: data.folder.path().to_owned(),
        progress: &|_, _, _| {},
        resources: Some(&data),
    };
    let report = pass
        .run(&mut trained, &context)
        .unwrap_or_else(|error| panic!("{error}"));
    secateur::analysis::check(&trained).unwrap_or_else(|errors| panic!("{errors:?}"));
    (trained, report)
}

fn settings() -> Finetune {
    Finetune {
        epochs: 60,
        batch: 4,
        learning_rate: 0.1,
        validation: 0.0,
        ..Finetune::default()
    }
}

#[test]
fn one_step_of_descent_is_the_gradient_times_the_rate() {
    let data = Labelled::new();
    let pass = Finetune {
        epochs: 1,
        batch: 6,
        learning_rate: 0.5,
        weight_decay: 0.25,
        masks: Masks::None,
        ..settings()
    };
    let mut found = model(LINEAR);
    let context = Context {
        evaluator: &TractEvaluator,
        limits: Limits::default(),
        keep: RegexSet::empty(),
        seed: 0,
        base: data.folder.path().to_owned(),
        progress: &|_, _, _| {},
        resources: Some(&data),
    };
    pass.run(&mut found, &context).unwrap();
    let gradients = gradients_by_hand();
    for (at, value) in values(&found, "w").into_iter().enumerate() {
        let mean = gradients.iter().map(|g| g[at]).sum::<f64>() / 6.0;
        let expected = W[at] - 0.5 * (mean + 0.25 * W[at]);
        assert!(
            (value - expected).abs() < 1e-6,
            "{at}: {value} instead of {expected}"
        );
    }
}

#[test]
fn training_lowers_the_loss_holds_zeros_and_does_not_depend_on_threads() {
    for optimizer in [Optimizer::Sgd, Optimizer::Adam] {
        let pass = Finetune {
            optimizer,
            ..settings()
        };
        let ((one, report), (other, _)) = (trained(&pass, 1), trained(&pass, 4));
        for name in ["w", "b", "v"] {
            assert_eq!(values(&one, name), values(&other, name), "{name}");
        }
        assert_eq!((zeros(&one, "w"), zeros(&one, "v")), (vec![6, 9], vec![2, 7]));
        assert!(
            zeros(&one, "b").is_empty(),
            "a bias that starts at zero is trained"
        );
        let losses: Vec<f64> = report.changes[0]
            .details
            .iter()
            .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(losses.len(), 60);
        assert!(losses[59] < 0.5 * losses[0], "{optimizer:?} {losses:?}");
    }
    let free = Finetune {
        masks: Masks::None,
        freeze: vec!["^v$".to_owned()],
        ..settings()
    };
    let found = trained(&free, 2).0;
    assert!(zeros(&found, "w").is_empty());
    assert_eq!(values(&found, "v"), values(&model(PERCEPTRON), "v"));
}

#[test]
fn a_model_that_gets_no_better_on_samples_held_out_is_left_alone() {
    let pass = Finetune {
        learning_rate: 50.0,
        epochs: 5,
        patience: 2,
        validation: 0.34,
        ..settings()
    };
    let (found, report) = trained(&pass, 2);
    if report.changed {
        assert!(report.notes.is_empty());
    } else {
        assert_eq!(values(&found, "w"), values(&model(PERCEPTRON), "w"));
        assert!(
            report.notes.iter().any(|note| note.contains("held out")),
            "{report:?}"
        );
    }
}
