//! Cuts that calibration data repairs: what stays makes up for what went, on data that was not seen.

use secateur::data::{Dataset, Spec, SyntheticSpec};
use secateur::engine::Engine;
use secateur::ir::Graph;
use secateur::passes::prune::channels::{Criterion, RefitOrder, Scope};
use secateur::passes::{PruneChannels, ResourceError, Resources};

use super::rounding::{Digits, error, fixture, outputs, read};
use super::*;

/// Normal-ish inputs, other ones for each role.
struct Noise;

impl Noise {
    fn open(graph: &Graph, seed: u64) -> Dataset {
        let spec = Spec {
            synthetic: Some(SyntheticSpec::default()),
            samples: Some(200),
            seed: Some(seed),
            ..Spec::default()
        };
        Dataset::open(&spec, std::path::Path::new(""), graph).unwrap()
    }
}

impl Resources for Noise {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, _: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        Ok(Self::open(graph, 1))
    }

    fn jobs(&self) -> usize {
        1
    }
}

/// Digits with their classes, for every role.
struct Labelled;

impl Resources for Labelled {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, _: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        let (spec, base) = Spec::from_path(&fixture("data/digits_test.yaml")).unwrap();
        let spec = Spec {
            samples: Some(150),
            ..spec
        };
        Ok(Dataset::open(&spec, &base, graph).unwrap())
    }

    fn jobs(&self) -> usize {
        2
    }
}

fn pruned(original: &Model, pass: &PruneChannels, resources: &dyn Resources) -> (Model, PassReport) {
    let mut model = original.clone();
    let report = run_with(pass, &mut model, &Setting::default(), Some(resources)).unwrap();
    secateur::analysis::check(&model).unwrap_or_else(|errors| panic!("{errors:?}"));
    (model, report)
}

/// The second hidden unit is 3 for every input: its part of the output moves into the bias, exactly.
#[test]
fn a_constant_unit_goes_first_and_moves_into_the_bias() {
    let original = model(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[N, 2] x) => (float[N, 2] y)
        <float[2, 3] a = {1, 0, -1, 0.5, 0, 1}, float[3] b = {0.25, 3, 0.5}, float[3, 2] c = {1, 2, 10, -20, 0.5, 1}, float[2] d = {1, 1}>
        { h = Gemm (x, a, b) r = Relu (h) y = Gemm (r, c, d) }"#,
    );
    let pass = PruneChannels {
        ratio: 0.34,
        criterion: Criterion::Reconstruction,
        refit: true,
        ..PruneChannels::default()
    };
    let (cut, report) = pruned(&original, &pass, &Noise);
    let constant = |name: &str| -> Vec<f64> {
        let value = cut.graph.find_value(name).unwrap();
        cut.graph.constant(value).unwrap().to_f64().unwrap()
    };
    assert_eq!(constant("b"), [0.25, 0.5], "{:?}", report.changes);
    assert_eq!(constant("c"), [1.0, 2.0, 0.5, 1.0]);
    assert_eq!(constant("d"), [31.0, -59.0]);
}

/// The third hidden unit is the sum of the others before a product without bias.
#[test]
fn a_unit_that_others_add_up_to_is_made_up_for() {
    let original = model(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        m (float[N, 2] x) => (float[N, 2] y)
        <float[2, 3] a = {1, 0, 1, 0, 1, 1}, float[3, 2] c = {1, 2, 3, 4, 5, 6}>
        { h = MatMul (x, a) y = MatMul (h, c) }"#,
    );
    let pass = |refit: bool| PruneChannels {
        ratio: 0.34,
        criterion: Criterion::Reconstruction,
        refit,
        ..PruneChannels::default()
    };
    let squared = |model: &Model| -> f64 {
        let run = |model: &Model| {
            let session = TractEngine.compile(model, &CompileOptions::default()).unwrap();
            let data = Noise::open(&model.graph, 2);
            let mut all = Vec::new();
            for index in data.batches() {
                for value in session.run(&data.batch(index).unwrap().inputs).unwrap().values() {
                    let RunValue::Tensor(tensor) = value else {
                        panic!("a tensor")
                    };
                    all.extend(tensor.to_f64().unwrap());
                }
            }
            all
        };
        let (found, expected) = (run(model), run(&original));
        let apart: f64 = found.iter().zip(&expected).map(|(a, b)| (a - b).powi(2)).sum();
        apart / expected.iter().map(|value| value * value).sum::<f64>()
    };
    let (plain, better) = (
        squared(&pruned(&original, &pass(false), &Noise).0),
        squared(&pruned(&original, &pass(true), &Noise).0),
    );
    assert!(plain > 0.01 && better < 1e-3, "{better} against {plain}");
}

#[test]
fn a_refit_repairs_most_of_a_cut_of_a_trained_network() {
    for name in ["digits_cnn.onnx", "digits_cnn_bn.onnx", "digits_cnn_dynamo.onnx"] {
        let original = read(&fixture(name));
        let expected = outputs(&original);
        let after = |criterion: Criterion, refit: bool| {
            let pass = PruneChannels {
                ratio: 0.1,
                criterion,
                refit,
                ..PruneChannels::default()
            };
            error(&pruned(&original, &pass, &Digits).0, &expected)
        };
        let plain = after(Criterion::Magnitude, false);
        let refitted = after(Criterion::Magnitude, true);
        let measured = after(Criterion::Reconstruction, true);
        assert!(refitted < 0.5 * plain, "{name}: {refitted} against {plain}");
        assert!(measured < refitted, "{name}: {measured} against {refitted}");
    }
}

#[test]
fn layers_refitted_one_by_one_make_up_for_those_before_them() {
    for name in ["digits_cnn.onnx", "digits_cnn_bn.onnx"] {
        let original = read(&fixture(name));
        let expected = outputs(&original);
        let after = |order: RefitOrder| {
            let pass = PruneChannels {
                ratio: 0.3,
                criterion: Criterion::Reconstruction,
                refit: true,
                refit_order: order,
                ..PruneChannels::default()
            };
            error(&pruned(&original, &pass, &Digits).0, &expected)
        };
        let (at_once, one_by_one) = (after(RefitOrder::AtOnce), after(RefitOrder::OneByOne));
        assert!(
            one_by_one < 0.9 * at_once,
            "{name}: {one_by_one} against {at_once}"
        );
    }
}

/// All layers compete by what a unit costs for each multiply-accumulate that it frees.
#[test]
fn a_budget_is_met_where_it_costs_least() {
    let original = read(&fixture("digits_cnn_bn.onnx"));
    let expected = outputs(&original);
    let after = |scope: Scope| {
        let pass = PruneChannels {
            target_macs: Some(0.6),
            scope,
            criterion: Criterion::Reconstruction,
            refit: true,
            ..PruneChannels::default()
        };
        let (cut, _) = pruned(&original, &pass, &Digits);
        let macs = |model: &Model| secateur::analysis::cost(model, &|_| None).macs.unwrap() as f64;
        assert!(macs(&cut) <= 0.6 * macs(&original), "{scope:?}");
        error(&cut, &expected)
    };
    let (layer, global) = (after(Scope::Layer), after(Scope::Global));
    assert!(global < layer, "{global} against {layer}");
}

#[test]
fn rounds_reach_the_same_share_and_their_history_replays_to_the_same_bytes() {
    let original = read(&fixture("digits_cnn.onnx"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.json");
    let pass = PruneChannels {
        target_macs: Some(0.5),
        iterations: 3,
        criterion: Criterion::Reconstruction,
        history: Some(path.clone()),
        ..PruneChannels::default()
    };
    let (cut, report) = pruned(&original, &pass, &Digits);
    let macs = |model: &Model| secateur::analysis::cost(model, &|_| None).macs.unwrap() as f64;
    let left = macs(&cut) / macs(&original);
    assert!(left <= 0.5 && left > 0.35, "{left}");
    let [file] = report.files.as_slice() else {
        panic!("one file: {:?}", report.files)
    };
    let text = std::str::from_utf8(&file.content).unwrap();
    assert_eq!(text.matches("\"further\"").count(), 1);
    std::fs::write(&path, text).unwrap();
    let again = PruneChannels {
        replay: Some(path),
        ..PruneChannels::default()
    };
    let (replayed, _) = pruned(&original, &again, &Digits);
    let bytes = |model: &Model| {
        let lowered = secateur::format::model_to_proto(model, &Default::default()).unwrap();
        secateur::format::encode_to_bytes(&lowered)
    };
    assert_eq!(bytes(&cut), bytes(&replayed));
}

#[test]
fn no_layer_loses_more_than_the_greatest_share_in_all_rounds_together() {
    let original = read(&fixture("digits_cnn.onnx"));
    let shapes = |model: &Model| -> Vec<(String, u64)> {
        let constants = model.graph.initializers().into_iter();
        let first = |(id, constant): (_, &secateur::ir::Constant)| {
            let name = model.graph.value(ValueId::new(id, 0)).unwrap().name.to_string();
            let tensor = constant.tensor.as_ref().unwrap();
            (tensor.rank() == 4).then(|| (name, tensor.dims()[0]))
        };
        constants.filter_map(first).collect()
    };
    for (iterations, scope) in [(1, Scope::Layer), (3, Scope::Layer), (3, Scope::Global)] {
        let pass = PruneChannels {
            ratio: 0.8,
            max_ratio: 0.5,
            iterations,
            scope,
            ..PruneChannels::default()
        };
        let (cut, _) = pruned(&original, &pass, &Digits);
        let before = shapes(&original);
        let left: Vec<(u64, u64)> = shapes(&cut)
            .iter()
            .zip(&before)
            .map(|((name, now), (known, before))| {
                assert_eq!(name, known);
                (*now, *before)
            })
            .collect();
        assert!(
            !left.is_empty() && left.iter().all(|(now, before)| 2 * now >= *before),
            "{iterations} rounds, {scope:?}: {left:?}"
        );
        assert!(left.iter().any(|(now, before)| now < before));
    }
}

#[test]
fn criteria_that_look_at_the_loss_beat_chance() {
    let original = read(&fixture("digits_cnn.onnx"));
    let expected = outputs(&original);
    let after = |criterion: Criterion| {
        let pass = PruneChannels {
            ratio: 0.25,
            criterion,
            seed: Some(3),
            ..PruneChannels::default()
        };
        error(&pruned(&original, &pass, &Labelled).0, &expected)
    };
    let random = after(Criterion::Random);
    for criterion in [Criterion::Taylor, Criterion::Fisher, Criterion::Wanda] {
        let error = after(criterion);
        assert!(error < random, "{criterion:?}: {error} against {random}");
    }
}

#[test]
fn a_target_of_time_needs_an_engine_and_has_to_be_within_reach() {
    let pass = PruneChannels {
        target_latency: Some(1e-6),
        ..PruneChannels::default()
    };
    assert!(pass.about().needs.runs());
    let original = read(&fixture("digits_mlp.onnx"));
    let mut model = original.clone();
    let without = run_with(&pass, &mut model, &Setting::default(), None).unwrap_err();
    assert!(without.to_string().contains("engine"), "{without}");
    let unreachable = run_with(&pass, &mut model, &Setting::default(), Some(&Digits)).unwrap_err();
    assert!(
        unreachable.to_string().contains("no choice of units"),
        "{unreachable}"
    );
}

#[test]
fn without_data_a_refit_says_what_is_missing() {
    let mut model = read(&fixture("digits_mlp.onnx"));
    let pass = PruneChannels {
        refit: true,
        ..PruneChannels::default()
    };
    let failure = run_with(&pass, &mut model, &Setting::default(), None).unwrap_err();
    assert!(
        failure.to_string().contains("need data and an engine"),
        "{failure}"
    );
}
