//! Bits and codes by gradients, on trained models: less error than plain rounding at the same size, and honest about the size.

use std::path::Path;

use secateur::data::{Dataset, Spec};
use secateur::ir::{Graph, NodeKind};
use secateur::passes::{
    BitsBy, LossKind, Precision, QuantizeWeights, ResourceError, Rounding, SearchPrecision, Widths,
    gradient_statistics,
};
use secateur::quantize::Kind;
use secateur::statistics::GradientStatistics;

use super::rounding::{error, fixture, outputs, read};
use super::*;

/// Labelled digits for every role.
struct Labelled;

impl Resources for Labelled {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, _: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        let spec = Spec {
            npz: Some(fixture("data/digits_calib.npz")),
            labels: Some("y".to_owned()),
            samples: Some(100),
            ..Spec::default()
        };
        Dataset::open(&spec, Path::new(""), graph).map_err(ResourceError::from)
    }

    fn jobs(&self) -> usize {
        2
    }
}

fn settings(criterion: BitsBy, bits: f64) -> QuantizeWeights {
    QuantizeWeights {
        kind: Kind::Int4,
        operators: vec!["Conv".into(), "Gemm".into(), "MatMul".into()],
        minimum_elements: 0,
        criterion,
        bits: Some(bits),
        ..QuantizeWeights::default()
    }
}

fn quantized(original: &Model, pass: &QuantizeWeights) -> (Model, PassReport) {
    let mut model = original.clone();
    let report = run_with(pass, &mut model, &Setting::default(), Some(&Labelled)).unwrap();
    secateur::analysis::check(&model).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert!(report.changed, "{:?}", report.notes);
    (model, report)
}

/// The codes of a model: type, elements, and the bits that each output channel needs, in the mean over all weights.
fn codes(model: &Model) -> (Vec<DType>, f64) {
    let (mut types, mut bits, mut total) = (Vec::new(), 0.0, 0.0);
    for (id, constant) in model.graph.initializers() {
        let value = ValueId::new(id, 0);
        let name = &model.graph.value(value).unwrap().name;
        if !name.ends_with("_quantized") {
            continue;
        }
        let tensor = constant.tensor.as_ref().unwrap();
        let reader = model.graph.uses(value)[0].node;
        let axis = model.graph.operator(reader).unwrap().int("axis").unwrap() as usize;
        let dims: Vec<usize> = tensor.dims().iter().map(|dim| *dim as usize).collect();
        let inner: usize = dims[axis + 1..].iter().product();
        let mut widths = vec![1u32; dims[axis]];
        for (at, code) in tensor.to_i64().unwrap().into_iter().enumerate() {
            let width = &mut widths[at / inner % dims[axis]];
            while code < -(1 << (*width - 1)) || code >= 1 << (*width - 1) {
                *width += 1;
            }
        }
        let count = (tensor.elements() / widths.len() as u64) as f64;
        bits += widths.iter().map(|width| f64::from(*width) * count).sum::<f64>();
        total += tensor.elements() as f64;
        types.push(tensor.dtype());
    }
    (types, bits / total)
}

#[test]
fn codes_by_gradients_keep_outputs_better_than_plain_ones_of_as_many_bits() {
    for name in ["digits_cnn.onnx", "digits_mlp.onnx"] {
        let original = read(&fixture(name));
        let expected = outputs(&original);
        // With all four bits of the type there is nothing to deal out, and codes alone make the difference.
        for (bits, most) in [(3.0, 0.8), (4.0, 1.0)] {
            let (plain, _) = quantized(&original, &settings(BitsBy::Range, bits));
            let (better, report) = quantized(&original, &settings(BitsBy::LogGradient, bits));
            let (types, used) = codes(&better);
            assert!(types.iter().all(|ty| *ty == DType::I4), "{types:?}");
            assert!(used <= bits, "{name}: {used} bits instead of {bits}");
            assert!(codes(&plain).1 <= bits);
            let (before, after) = (error(&plain, &expected), error(&better, &expected));
            assert!(
                after < most * before,
                "{name} at {bits} bits: {after} against {before}"
            );
            let all = report
                .changes
                .iter()
                .find(|change| change.rule == "bits dealt out")
                .and_then(|change| change.details.last())
                .unwrap();
            assert!(all.ends_with("stored in 4.000"), "{all}");
        }
    }
}

#[test]
fn wide_types_hold_the_layers_that_need_them_and_the_mean_is_kept() {
    let original = read(&fixture("digits_cnn.onnx"));
    let expected = outputs(&original);
    let wide = |widths: Widths, rounding: Rounding| QuantizeWeights {
        kind: Kind::Int8,
        widths,
        rounding,
        ..settings(BitsBy::LogGradient, 3.5)
    };
    let (layers, report) = quantized(&original, &wide(Widths::Layer, Rounding::Nearest));
    let (types, used) = codes(&layers);
    assert!(types.contains(&DType::I4) && used <= 3.5, "{types:?} {used}");
    assert!(report.notes.iter().all(|note| !note.contains("plainly")));
    let (channels, _) = quantized(&original, &wide(Widths::Channel, Rounding::Nearest));
    assert!(codes(&channels).1 <= 3.5);
    let (plain, _) = quantized(&original, &settings(BitsBy::Range, 3.0));
    assert!(error(&channels, &expected) < error(&plain, &expected));
    let (moments, _) = quantized(&original, &wide(Widths::Channel, Rounding::Gptq));
    assert!(codes(&moments).1 <= 3.5);
    assert!(error(&moments, &expected) < error(&channels, &expected));
}

#[test]
fn budgets_of_size_and_accuracy_are_kept_and_impossible_ones_refused() {
    let original = read(&fixture("digits_cnn.onnx"));
    let bytes = |model: &Model| {
        let message = model_to_proto(model, &ExternalFiles::default()).unwrap();
        secateur::format::encode_to_bytes(&message).len() as f64
    };
    let searched = |pass: &SearchPrecision| {
        let mut model = original.clone();
        run_with(pass, &mut model, &Setting::default(), Some(&Labelled)).map(|report| (model, report))
    };
    let base = SearchPrecision {
        minimum_elements: 0,
        samples: 20,
        rounding: Rounding::Nearest,
        correct_bias: false,
        ..SearchPrecision::default()
    };
    let sized = |share: f64| SearchPrecision {
        max_size: Some(share),
        ..base.clone()
    };
    let (smallest, _) = searched(&SearchPrecision {
        bits: Some(4.0),
        ..base.clone()
    })
    .unwrap();
    let (largest, _) = searched(&SearchPrecision {
        bits: Some(8.0),
        ..base.clone()
    })
    .unwrap();
    let share = |model: &Model| bytes(model) / bytes(&original);
    let (least, most) = (share(&smallest), share(&largest));
    for wanted in [0.9 * least + 0.1 * most, 0.5 * (least + most), 1.01 * most] {
        let (model, _) = searched(&sized(wanted)).unwrap();
        assert!(share(&model) <= wanted, "{} instead of {wanted}", share(&model));
        assert!(share(&model) > least * 0.99);
    }
    let failure = searched(&sized(0.9 * least)).unwrap_err().to_string();
    assert!(
        failure.contains("below what the narrowest type needs"),
        "{failure}"
    );

    // Labels that the float model finds are what the loss of accuracy is of.
    let right = |model: &Model| {
        let data = Labelled.data("evaluation", &model.graph).unwrap();
        let options = CompileOptions::default();
        let session = TractEngine.compile(
            &secateur::lower::for_engine(model, &TractEngine).unwrap(),
            &options,
        );
        let (session, mut right, mut all) = (session.unwrap(), 0, 0);
        for index in data.batches() {
            let batch = data.batch(index).unwrap();
            let results = session.run(&batch.inputs).unwrap();
            let Some(RunValue::Tensor(logits)) = results.values().next() else {
                panic!("no logits")
            };
            let logits = logits.to_f32().unwrap().into_owned();
            let classes = logits.len()
                / batch.inputs.values().next().map_or(1, |value| match value {
                    RunValue::Tensor(tensor) => tensor.dims()[0] as usize,
                    _ => 1,
                });
            let labels = batch.labels.unwrap().to_i64().unwrap();
            for (row, label) in logits.chunks(classes).zip(labels) {
                let best = (0..classes).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
                right += i32::from(best as i64 == label);
                all += 1;
            }
        }
        f64::from(right) / f64::from(all)
    };
    for drop in [0.0, 0.03] {
        let (model, report) = searched(&SearchPrecision {
            max_drop: Some(drop),
            ..base.clone()
        })
        .unwrap();
        assert!(right(&model) >= right(&original) - drop - 1e-9, "{drop}");
        assert!(share(&model) <= most + 1e-9);
        assert!(report.notes.iter().any(|note| note.contains("loss of accuracy")));
    }
    // Two bits cannot hold the accuracy.
    let failure = searched(&SearchPrecision {
        types: vec![Precision::Int2, Precision::Int4],
        bits: Some(2.0),
        max_drop: Some(0.0),
        ..base.clone()
    })
    .unwrap_err()
    .to_string();
    assert!(failure.contains("no choice of the types keeps"), "{failure}");
}

#[test]
fn products_in_bodies_are_said_not_to_be_searched() {
    let numbers = |count: usize| {
        let each: Vec<String> = (0..count).map(|at| format!("{}", at % 7 + 1)).collect();
        each.join(", ")
    };
    let mut found = model(&format!(
        r#"<ir_version: 10, opset_import: ["" : 21]>
        g (float[N, 1, 8, 8] input, bool c) => (float[N, 10] y)
        <float[64, 10] w = {{{}}}, float[10, 10] v = {{{}}}, bool c = {{1}}> {{
            flat = Flatten (input)
            h = MatMul (flat, w)
            y = If (c) <
                then_branch = a () => (float[N, 10] p) {{ p = MatMul (h, v) }},
                else_branch = b () => (float[N, 10] q) {{ q = Neg (h) }}
            >
        }}"#,
        numbers(640),
        numbers(100),
    ));
    let pass = SearchPrecision {
        bits: Some(8.0),
        minimum_elements: 0,
        samples: 2,
        rounding: Rounding::Nearest,
        ..SearchPrecision::default()
    };
    let report = run_with(&pass, &mut found, &Setting::default(), Some(&Labelled)).unwrap();
    assert!(
        report.notes.iter().any(|note| note.contains("not searched: 1;")),
        "{:?}",
        report.notes
    );
}

#[test]
fn statistics_from_a_file_give_what_those_of_the_run_give() {
    let original = read(&fixture("digits_mlp.onnx"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gradients.safetensors");
    let objective = LossKind::CrossEntropy.objective(None);
    let open = |model: &Model| Labelled.data("training", &model.graph);
    let statistics: GradientStatistics =
        gradient_statistics(&original, &objective, open, &TractEngine, 2, &|_, _, _| {}).unwrap();
    std::fs::write(&path, statistics.to_bytes().unwrap()).unwrap();
    let own = settings(BitsBy::LogGradient, 3.0);
    let given = QuantizeWeights {
        gradient_stats: Some(path),
        ..own.clone()
    };
    let (expected, _) = quantized(&original, &own);
    let mut found = original.clone();
    run_with(&given, &mut found, &Setting::default(), None).unwrap();
    assert_eq!(lines(&found), lines(&expected));
    let mut other = read(&fixture("digits_cnn.onnx"));
    let failure = run_with(&given, &mut other, &Setting::default(), None).unwrap_err();
    assert!(failure.to_string().contains("of another model"), "{failure}");
}

#[test]
fn options_that_do_not_fit_each_other_are_refused() {
    let base = settings(BitsBy::LogGradient, 3.0);
    for (pass, expected) in [
        (settings(BitsBy::LogGradient, 4.5), "not in 2 to the 4"),
        (settings(BitsBy::LogGradient, 1.0), "not in 2 to the 4"),
        (settings(BitsBy::LogGradient, f64::NAN), "not in 2 to the 4"),
        (settings(BitsBy::Range, 3.5), "no whole number"),
        (
            QuantizeWeights {
                block: 32,
                ..base.clone()
            },
            "one scale for each output channel",
        ),
        (
            QuantizeWeights {
                gradient_stats: Some("x".into()),
                ..settings(BitsBy::Range, 3.0)
            },
            "uses no gradient statistics",
        ),
        (base, "needs labelled data"),
    ] {
        let mut model = read(&fixture("digits_mlp.onnx"));
        let failure = run_with(&pass, &mut model, &Setting::default(), None).unwrap_err();
        assert!(failure.to_string().contains(expected), "{failure}");
    }
}

#[test]
fn weights_that_no_gradient_reaches_are_rounded_plainly_and_named() {
    let numbers = |count: usize| {
        let each: Vec<String> = (0..count).map(|at| format!("{}", at % 7 + 1)).collect();
        each.join(", ")
    };
    let original = model(&format!(
        r#"<ir_version: 10, opset_import: ["" : 21]>
        g (float[N, 1, 8, 8] input) => (float[N, 10] y, float[N, 3] z)
        <float[64, 10] w = {{{}}}, float[64, 3] v = {{{}}}> {{
            flat = Flatten (input)
            y = MatMul (flat, w)
            z = MatMul (flat, v)
        }}"#,
        numbers(640),
        numbers(192),
    ));
    let (found, report) = quantized(&original, &settings(BitsBy::LogGradient, 3.0));
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.starts_with("v is rounded plainly")),
        "{:?}",
        report.notes
    );
    let codes = found.graph.initializers().into_iter().filter(|(id, _)| {
        let value = found.graph.value(ValueId::new(*id, 0)).unwrap();
        matches!(found.graph.get(*id).unwrap().kind, NodeKind::Constant(_))
            && value.name.ends_with("_quantized")
    });
    assert_eq!(codes.count(), 2);
}
