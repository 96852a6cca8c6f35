//! Models merged with others, and with low-rank adapters.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secateur::data::Dataset;
use secateur::format::{ReadOptions, read};
use secateur::ir::{Graph, Model};
use secateur::passes::{MergeLora, ResourceError, TransferFeatures, TransferMerge};
use secateur::transfer::merge::MergeMethod;

use super::*;

/// Models and weight files by name.
#[derive(Default)]
struct Files {
    models: BTreeMap<PathBuf, Model>,
    tensors: BTreeMap<PathBuf, Vec<(String, Tensor)>>,
}

impl Files {
    fn with(models: &[(&str, Model)]) -> Self {
        Self {
            models: models
                .iter()
                .map(|(path, model)| (PathBuf::from(path), model.clone()))
                .collect(),
            ..Self::default()
        }
    }
}

impl Resources for Files {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, role: &str, _: &Graph) -> Result<Dataset, ResourceError> {
        Err(format!("no {role} data").into())
    }

    fn model(&self, path: &Path) -> Result<Model, ResourceError> {
        self.models
            .get(path)
            .cloned()
            .ok_or_else(|| format!("{}: not there", path.display()).into())
    }

    fn tensors(&self, path: &Path) -> Result<Vec<(String, Tensor)>, ResourceError> {
        self.tensors
            .get(path)
            .cloned()
            .ok_or_else(|| format!("{}: not there", path.display()).into())
    }

    fn jobs(&self) -> usize {
        1
    }
}

/// Two layers; the numbers and the names of weights are the caller's.
fn net(first: [f32; 6], bias: [f32; 3], second: [f32; 6], names: [&str; 3]) -> Model {
    let list = |numbers: &[f32]| {
        numbers
            .iter()
            .map(|number| format!("{number:?}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let [w, b, v] = names;
    model(&format!(
        r#"<ir_version: 8, opset_import: ["": 17]>
        g (float[1,2] x) => (float[1,2] y)
        <float[2,3] "{w}" = {{{}}}, float[3] "{b}" = {{{}}}, float[3,2] "{v}" = {{{}}}> {{
          h = MatMul (x, "{w}")
          s = Add (h, "{b}")
          r = Relu (s)
          y = MatMul (r, "{v}")
        }}"#,
        list(&first),
        list(&bias),
        list(&second)
    ))
}

const NAMES: [&str; 3] = ["w", "b", "v"];

fn first() -> Model {
    net(
        [1.0, 2.0, 3.0, -4.0, 5.0, 6.0],
        [0.5, -0.5, 1.0],
        [1.0, 0.0, 2.0, 1.0, -1.0, 3.0],
        NAMES,
    )
}

fn second(names: [&str; 3]) -> Model {
    net(
        [3.0, 2.0, 1.0, 0.0, 1.0, 2.0],
        [0.5, 0.5, 3.0],
        [1.0, 2.0, 0.0, 1.0, 1.0, 1.0],
        names,
    )
}

fn weight(model: &Model, name: &str) -> Vec<f64> {
    let id = model.graph.find_value(name).unwrap();
    model.graph.constant(id).unwrap().to_f64().unwrap()
}

fn merge(method: MergeMethod) -> TransferMerge {
    TransferMerge {
        with: vec![PathBuf::from("second")],
        method,
        ..TransferMerge::default()
    }
}

#[test]
fn the_mean_of_two_models_is_that_of_their_weights_whatever_their_names() {
    for names in [NAMES, ["onnx::MatMul_7", "onnx::Add_8", "onnx::MatMul_9"]] {
        let mut merged = first();
        let files = Files::with(&[("second", second(names))]);
        let report = run_with(
            &merge(MergeMethod::Linear),
            &mut merged,
            &Setting::default(),
            Some(&files),
        )
        .unwrap();
        assert_eq!(weight(&merged, "w"), [2.0, 2.0, 2.0, -2.0, 3.0, 4.0]);
        assert_eq!(weight(&merged, "b"), [0.5, 0.0, 2.0]);
        assert_eq!(weight(&merged, "v"), [1.0, 1.0, 1.0, 1.0, 0.0, 2.0]);
        assert_eq!(report.changes.last().unwrap().count, 3);
        secateur::analysis::check(&merged).unwrap();
    }
    let mut merged = first();
    let files = Files::with(&[("second", second(NAMES))]);
    let pass = TransferMerge {
        weights: vec![3.0, 1.0],
        ..merge(MergeMethod::Linear)
    };
    run_with(&pass, &mut merged, &Setting::default(), Some(&files)).unwrap();
    assert_eq!(weight(&merged, "b"), [0.5, -0.25, 1.5]);
}

#[test]
fn differences_from_a_base_add_up() {
    let mut merged = first();
    let files = Files::with(&[("second", second(NAMES)), ("base", second(NAMES))]);
    let pass = TransferMerge {
        base: Some(PathBuf::from("base")),
        scale: 0.5,
        ..merge(MergeMethod::TaskArithmetic)
    };
    run_with(&pass, &mut merged, &Setting::default(), Some(&files)).unwrap();
    // The second model is the base itself: half of what the first differs by is left.
    assert_eq!(weight(&merged, "b"), [0.5, 0.0, 2.0]);
    let mut merged = first();
    let pass = TransferMerge {
        base: Some(PathBuf::from("base")),
        density: 0.2,
        ..merge(MergeMethod::Ties)
    };
    run_with(&pass, &mut merged, &Setting::default(), Some(&files)).unwrap();
    // Three of fifteen differences are left: two of 4 in w and one of the next largest, 2, with all of its size.
    assert_eq!(weight(&merged, "w")[3..], [-4.0, 5.0, 6.0]);
    assert_eq!(weight(&merged, "b")[1], 0.5);
}

#[test]
fn a_permuted_copy_is_put_in_order() {
    let swapped = net(
        [3.0, 1.0, 2.0, 6.0, -4.0, 5.0],
        [1.0, 0.5, -0.5],
        [-1.0, 3.0, 1.0, 0.0, 2.0, 1.0],
        NAMES,
    );
    let files = Files::with(&[("second", swapped)]);
    let mut merged = first();
    let pass = TransferMerge {
        align: true,
        ..merge(MergeMethod::Linear)
    };
    let report = run_with(&pass, &mut merged, &Setting::default(), Some(&files)).unwrap();
    let moved = report
        .changes
        .iter()
        .find(|change| change.rule == "units put in order")
        .unwrap();
    assert_eq!(moved.count, 3, "{report:?}");
    for name in NAMES {
        assert_eq!(weight(&merged, name), weight(&first(), name));
    }
    let mut blurred = first();
    run_with(
        &merge(MergeMethod::Linear),
        &mut blurred,
        &Setting::default(),
        Some(&files),
    )
    .unwrap();
    assert_ne!(weight(&blurred, "w"), weight(&first(), "w"));
}

#[test]
fn models_that_do_not_fit_are_refused_with_what_differs_first() {
    let other = |from: &str, to: &str| {
        let text = r#"<ir_version: 8, opset_import: ["": 17]>
        g (float[1,2] x) => (float[1,2] y)
        <float[2,3] w = {1, 2, 3, 4, 5, 6}, float[3] b = {1, 2, 3}, float[3,2] v = {1, 2, 3, 4, 5, 6}> {
          h = MatMul (x, w)
          s = Add (h, b)
          r = Relu (s)
          y = MatMul (r, v)
        }"#;
        model(&text.replace(from, to))
    };
    let plain = merge(MergeMethod::Linear);
    let cases: Vec<(TransferMerge, Model, &str)> = vec![
        (
            plain.clone(),
            other("Relu (s)", "Tanh (s)"),
            "is Relu, its counterpart",
        ),
        (
            plain.clone(),
            other("Relu (s)", "LeakyRelu <alpha = 0.1> (s)"),
            "is Relu, its counterpart",
        ),
        (
            plain.clone(),
            other("Add (h, b)", "Add (b, h)"),
            "read other values in input 0",
        ),
        (
            plain.clone(),
            other("y = MatMul (r, v)", "z = MatMul (r, v)\n y = Neg (z)"),
            "no counterpart",
        ),
        (plain.clone(), other("\"\": 17", "\"\": 16"), "its opset is 16"),
        (
            plain.clone(),
            other(
                "float[2,3] w = {1, 2, 3, 4, 5, 6}, float[3] b = {1, 2, 3}, float[3,2] v = {1, 2, 3, 4, 5, 6}",
                "float[2,4] w = {1, 2, 3, 4, 5, 6, 7, 8}, float[4] b = {1, 2, 3, 4}, float[4,2] v = {1, 2, 3, 4, 5, 6, 7, 8}",
            ),
            "w is float[2, 3], its counterpart w is float[2, 4]",
        ),
        (
            (TransferMerge {
                with: Vec::new(),
                ..plain.clone()
            }),
            first(),
            "no other model",
        ),
        (
            (TransferMerge {
                weights: vec![1.0],
                ..plain.clone()
            }),
            first(),
            "1 numbers for 2 models",
        ),
        (
            (TransferMerge {
                weights: vec![1.0, -1.0],
                ..plain.clone()
            }),
            first(),
            "divided by their sum",
        ),
        (merge(MergeMethod::Ties), first(), "base: the model"),
        (
            (TransferMerge {
                base: Some("second".into()),
                ..plain.clone()
            }),
            first(),
            "only task-arithmetic",
        ),
        (
            (TransferMerge {
                with: vec!["second".into(), "second".into()],
                ..merge(MergeMethod::Slerp)
            }),
            first(),
            "between 2 models",
        ),
        (
            (TransferMerge {
                density: 0.0,
                ..plain.clone()
            }),
            first(),
            "density: 0",
        ),
        (
            (TransferMerge {
                with: vec!["nowhere".into()],
                ..plain
            }),
            first(),
            "nowhere: not there",
        ),
    ];
    for (pass, other, message) in cases {
        let mut merged = first();
        let files = Files::with(&[("second", other)]);
        let error = run_with(&pass, &mut merged, &Setting::default(), Some(&files)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}\n{message}");
        assert!(!matches!(error, PassError::Edit { .. }));
    }
}

/// A MatMul and a Gemm as exporters write a module path, a convolution by its weight's name, and an embedding.
const LAYERS: &str = r#"<ir_version: 8, opset_import: ["": 17]>
g (int64[2] i, float[1,1,2,2] p) => (float[2,2] y, float[1,2,1,1] c)
<float[4,3] "words.weight" = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, float[3,2] onnx__MatMul_3 = {1, 2, 3, 4, 5, 6},
 float[2,2] "head.weight" = {1, 2, 3, 4}, float[2,1,2,2] "conv.weight" = {1, 2, 3, 4, 5, 6, 7, 8}> {
  e = Gather ("words.weight", i)
  ["/enc/layer.0/query/MatMul"] q = MatMul (e, onnx__MatMul_3)
  y = Gemm <transB = 1> (q, "head.weight")
  c = Conv (p, "conv.weight")
}"#;

fn adapter(list: &[(&str, &[u64], &[f32])]) -> Files {
    let tensors = list
        .iter()
        .map(|(name, dims, values)| ((*name).to_owned(), Tensor::from_slice(dims, values).unwrap()))
        .collect();
    Files {
        tensors: BTreeMap::from([(PathBuf::from("adapter"), tensors)]),
        ..Files::default()
    }
}

fn lora() -> MergeLora {
    MergeLora {
        adapter: PathBuf::from("adapter"),
        alpha: Some(4.0),
        ..MergeLora::default()
    }
}

#[test]
fn an_adapter_is_added_to_weights_however_they_lie() {
    let mut merged = model(LAYERS);
    let files = adapter(&[
        (
            "base_model.model.enc.layer.0.query.lora_A.weight",
            &[2, 3],
            &[1.0, 0.0, 0.0, 0.0, 1.0, 2.0],
        ),
        (
            "base_model.model.enc.layer.0.query.lora_B.weight",
            &[2, 2],
            &[1.0, 0.0, 0.0, -1.0],
        ),
        ("head.lora_A.weight", &[1, 2], &[1.0, 2.0]),
        ("head.lora_B.weight", &[2, 1], &[1.0, 3.0]),
        ("head.alpha", &[], &[0.5]),
        ("conv.lora_down.weight", &[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]),
        ("conv.lora_up.weight", &[2, 1, 1, 1], &[0.0, 1.0]),
        ("words.lora_embedding_A", &[1, 4], &[0.0, 1.0, 0.0, 0.0]),
        ("words.lora_embedding_B", &[3, 1], &[1.0, 2.0, 3.0]),
    ]);
    let report = run_with(&lora(), &mut merged, &Setting::default(), Some(&files)).unwrap();
    assert_eq!(report.changes[0].count, 4);
    // alpha 4, rank 2: twice Bᵀ-wise, as [inputs, outputs].
    assert_eq!(weight(&merged, "onnx__MatMul_3"), [3.0, 2.0, 3.0, 2.0, 5.0, 2.0]);
    assert_eq!(weight(&merged, "head.weight"), [1.5, 3.0, 4.5, 7.0]);
    assert_eq!(
        weight(&merged, "conv.weight"),
        [1.0, 2.0, 3.0, 4.0, 9.0, 14.0, 19.0, 24.0]
    );
    assert_eq!(weight(&merged, "words.weight")[3..6], [8.0, 13.0, 18.0]);
    assert_eq!(weight(&merged, "words.weight")[..3], [1.0, 2.0, 3.0]);
    // Taken out again.
    let back = MergeLora {
        scale: -1.0,
        ..lora()
    };
    run_with(&back, &mut merged, &Setting::default(), Some(&files)).unwrap();
    assert_eq!(lines(&merged), lines(&model(LAYERS)));
}

/// The case lora_kohya: module names with underscores for dots, behind the script's prefix; alpha 2, rank 4, one weight fits.
#[test]
fn an_adapter_with_kohyas_names_finds_its_weights() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/lora");
    let base = read(folder.join("base.onnx"), &ReadOptions::default())
        .unwrap()
        .model;
    let tensors = secateur::data::read_weights(&folder.join("kohya.safetensors")).unwrap();
    let of = |ending: &str| {
        let found = tensors.iter().find(|(name, _)| name.ends_with(ending));
        found.unwrap().1.to_f64().unwrap()
    };
    let (down, up) = (of("lora_down.weight"), of("lora_up.weight"));
    let before = weight(&base, "onnx::MatMul_12");
    let files = Files {
        tensors: BTreeMap::from([(PathBuf::from("adapter"), tensors.clone())]),
        ..Files::default()
    };
    let pass = MergeLora {
        alpha: None,
        ..lora()
    };
    let mut merged = base.clone();
    run_with(&pass, &mut merged, &Setting::default(), Some(&files)).unwrap();
    let after = weight(&merged, "onnx::MatMul_12");
    for (at, (before, after)) in before.iter().zip(&after).enumerate() {
        let (input, output) = (at / 16, at % 16);
        let product: f64 = (0..4).map(|r| up[output * 4 + r] * down[r * 16 + input]).sum();
        assert!((after - (before + 2.0 / 4.0 * product)).abs() < 1e-6, "{at}");
    }
    assert_eq!(weight(&merged, "head.weight"), weight(&base, "head.weight"));
}

#[test]
fn kohyas_names_are_compared_with_dots_as_underscores_and_never_by_a_part_of_a_word() {
    let pair = |module: &str| {
        let (a, b) = (
            format!("{module}.lora_down.weight"),
            format!("{module}.lora_up.weight"),
        );
        adapter(&[(&a, &[1, 3], &[1.0, 0.0, 0.0]), (&b, &[2, 1], &[1.0, 2.0])])
    };
    for (module, fits) in [
        ("lora_unet_enc_layer_0_query", true),
        ("lora_te1_enc_layer_0_query", true),
        ("enc_layer_0_query", true),
        ("lora_te_layer_0_query", true),
        ("lora_unet_ayer_0_query", false),
        ("lora_unet_other_enc_layer_0_query", false),
        ("lora_unet_query", false),
    ] {
        let mut merged = model(LAYERS);
        let done = run_with(&lora(), &mut merged, &Setting::default(), Some(&pair(module)));
        assert_eq!(done.is_ok(), fits, "{module}");
        if fits {
            // Alpha 4, rank 1.
            assert_eq!(
                weight(&merged, "onnx__MatMul_3"),
                [5.0, 10.0, 3.0, 4.0, 5.0, 6.0],
                "{module}"
            );
        }
    }
}

#[test]
fn two_text_encoders_in_one_file_need_a_prefix() {
    let files = adapter(&[
        (
            "lora_te1_enc_layer_0_query.lora_down.weight",
            &[1, 3],
            &[1.0, 0.0, 0.0],
        ),
        ("lora_te1_enc_layer_0_query.lora_up.weight", &[2, 1], &[1.0, 2.0]),
        (
            "lora_te2_enc_layer_0_query.lora_down.weight",
            &[1, 3],
            &[0.0, 1.0, 0.0],
        ),
        ("lora_te2_enc_layer_0_query.lora_up.weight", &[2, 1], &[1.0, 2.0]),
    ]);
    let mut merged = model(LAYERS);
    let error = run_with(&lora(), &mut merged, &Setting::default(), Some(&files)).unwrap_err();
    assert!(
        error.to_string().contains("prefix") && error.to_string().contains("lora_te2_"),
        "{error}"
    );
    let second = MergeLora {
        prefix: "lora_te2_".to_owned(),
        ..lora()
    };
    run_with(&second, &mut merged, &Setting::default(), Some(&files)).unwrap();
    assert_eq!(weight(&merged, "onnx__MatMul_3"), [1.0, 2.0, 7.0, 12.0, 5.0, 6.0]);
    let nowhere = MergeLora {
        prefix: "lora_te3_".to_owned(),
        ..lora()
    };
    let error = run_with(&nowhere, &mut model(LAYERS), &Setting::default(), Some(&files)).unwrap_err();
    assert!(error.to_string().contains("lora_te3_"), "{error}");
}

#[test]
fn other_kinds_of_adapters_and_broken_numbers_are_refused_by_name() {
    let nan = f32::NAN;
    for (name, values, message) in [
        ("head.hada_w1_a", [1.0f32, 1.0], "LoHa"),
        ("head.lokr_w1", [1.0, 1.0], "LoKr"),
        ("head.lora_magnitude_vector", [1.0, 1.0], "DoRA"),
        ("head.dora_scale", [1.0, 1.0], "DoRA"),
        ("head.ia3_l", [1.0, 1.0], "(IA)3"),
        ("head.lora_A.weight", [nan, 1.0], "head.lora_A.weight holds NaN"),
        ("head.lora_A.weight", [1.0, f32::INFINITY], "at element 1"),
    ] {
        let files = adapter(&[
            (name, &[1, 2], &values),
            ("head.lora_B.weight", &[2, 1], &[1.0, 1.0]),
        ]);
        let mut merged = model(LAYERS);
        let error = run_with(&lora(), &mut merged, &Setting::default(), Some(&files)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}\n{message}");
        assert_eq!(lines(&merged), lines(&model(LAYERS)));
    }
}

#[test]
fn weights_that_were_trained_whole_are_put_in_and_have_to_find_a_place() {
    let files = |module: &str| {
        let whole = format!("base_model.model.{module}.modules_to_save.default.weight");
        adapter(&[
            (
                "base_model.model.enc.layer.0.query.lora_A.weight",
                &[1, 3],
                &[1.0, 0.0, 0.0],
            ),
            (
                "base_model.model.enc.layer.0.query.lora_B.weight",
                &[2, 1],
                &[1.0, 2.0],
            ),
            (&whole, &[2, 2], &[9.0, 8.0, 7.0, 6.0]),
        ])
    };
    let mut merged = model(LAYERS);
    let report = run_with(&lora(), &mut merged, &Setting::default(), Some(&files("head"))).unwrap();
    assert_eq!(weight(&merged, "head.weight"), [9.0, 8.0, 7.0, 6.0]);
    assert_eq!(weight(&merged, "onnx__MatMul_3")[..2], [5.0, 10.0]);
    assert!(
        report
            .changes
            .iter()
            .any(|change| change.rule == "whole weight put in" && change.count == 1)
    );
    let error = run_with(
        &lora(),
        &mut model(LAYERS),
        &Setting::default(),
        Some(&files("tail")),
    )
    .unwrap_err();
    assert!(error.to_string().contains("tail.weight"), "{error}");
    let half = MergeLora { scale: 0.5, ..lora() };
    let error = run_with(
        &half,
        &mut model(LAYERS),
        &Setting::default(),
        Some(&files("head")),
    )
    .unwrap_err();
    assert!(error.to_string().contains("scale"), "{error}");
}

#[test]
fn an_adapter_of_one_reader_leaves_the_other_reader_of_a_shared_weight_alone() {
    let shared = r#"<ir_version: 8, opset_import: ["": 17]>
g (float[1,2] x) => (float[1,2] y, float[1,2] z) <float[2,2] w = {1, 2, 3, 4}> {
  ["/a/MatMul"] y = MatMul (x, w)
  ["/b/MatMul"] z = MatMul (x, w)
}"#;
    let files = adapter(&[
        ("b.lora_A.weight", &[1, 2], &[1.0, 0.0]),
        ("b.lora_B.weight", &[2, 1], &[1.0, 1.0]),
    ]);
    let mut merged = model(shared);
    run_with(&lora(), &mut merged, &Setting::default(), Some(&files)).unwrap();
    let graph = &merged.graph;
    let of = |name: &str| {
        let value = graph.find_value(name).unwrap();
        let weight = graph.input(value.node, 1).unwrap();
        graph.constant(weight).unwrap().to_f64().unwrap()
    };
    assert_eq!(of("y"), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(of("z"), [5.0, 6.0, 3.0, 4.0]);
}

/// Codes behind a DequantizeLinear and in an operator of ONNX Runtime, found by the name of the weight or by the path of a node.
#[test]
fn weights_that_are_codes_are_named_with_what_to_do() {
    let text = r#"<ir_version: 8, opset_import: ["": 17, "com.microsoft" : 1]>
        g (float[2,2] x, float[2,16] k) => (float[2,2] y, float[2,1] z)
        <int8[2,2] "head.weight_quantized" = {1, 2, 3, 4}, int8[2,2] onnx__7 = {1, 2, 3, 4}, float s = {0.5},
         uint8[1,1,16] "tail.weight_quantized" = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}> {
          w = DequantizeLinear ("head.weight_quantized", s)  h = MatMul (x, w)
          v = DequantizeLinear (onnx__7, s)  ["/enc/layer.0/query/MatMul"] y = MatMul (h, v)
          z = com.microsoft.MatMulNBits <K: int = 16, N: int = 1, bits: int = 8, block_size: int = 16> (k, "tail.weight_quantized", s)
        }"#;
    for (module, codes) in [
        ("head", "head.weight_quantized"),
        ("enc.layer.0.query", "onnx__7"),
        ("tail", "tail.weight_quantized"),
    ] {
        let (a, b) = (
            format!("{module}.lora_A.weight"),
            format!("{module}.lora_B.weight"),
        );
        let files = adapter(&[(&a, &[1, 2], &[1.0, 1.0]), (&b, &[2, 1], &[1.0, 1.0])]);
        let error = run_with(&lora(), &mut model(text), &Setting::default(), Some(&files)).unwrap_err();
        let expected = format!("{module}: its weight {codes} is stored as codes");
        assert!(error.to_string().contains(&expected), "{error}\n{expected}");
        assert!(error.to_string().contains("then quantize"), "{error}");
        let partial = MergeLora {
            partial: true,
            ..lora()
        };
        let report = run_with(&partial, &mut model(text), &Setting::default(), Some(&files)).unwrap();
        assert!(
            said(&report).contains("merge before quantizing"),
            "{}",
            said(&report)
        );
    }
}

#[test]
fn adapters_without_a_weight_an_alpha_or_a_fit_are_refused() {
    let pair = |module: &str, inputs: u64| {
        let (a, b) = (
            format!("{module}.lora_A.weight"),
            format!("{module}.lora_B.weight"),
        );
        let values = vec![1.0f32; inputs as usize];
        adapter(&[(&a, &[1, inputs], &values), (&b, &[2, 1], &[1.0, 1.0])])
    };
    for (pass, files, message) in [
        (lora(), pair("nothing", 2), "nothing: there is no such weight"),
        (
            lora(),
            pair("head", 3),
            "the adapter is for [2, 3], and head.weight is [2, 2]",
        ),
        (
            MergeLora {
                alpha: None,
                ..lora()
            },
            pair("head", 2),
            "alpha: the file has none for head",
        ),
        (
            MergeLora {
                adapter: PathBuf::new(),
                ..lora()
            },
            pair("head", 2),
            "a file is needed",
        ),
        (
            MergeLora {
                rename: vec![("(".to_owned(), String::new())],
                ..lora()
            },
            pair("head", 2),
            "rename: \"(\" is not a regular expression: unclosed group",
        ),
        (
            MergeLora {
                scale: f64::NAN,
                ..lora()
            },
            pair("head", 2),
            "scale: NaN",
        ),
        (
            lora(),
            adapter(&[("head.table", &[1], &[1.0])]),
            "no part of a low-rank adapter",
        ),
    ] {
        let mut merged = model(LAYERS);
        let error = run_with(&pass, &mut merged, &Setting::default(), Some(&files)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}\n{message}");
        assert_eq!(lines(&merged), lines(&model(LAYERS)));
    }
    let mut merged = model(LAYERS);
    let partial = MergeLora {
        partial: true,
        ..lora()
    };
    let report = run_with(
        &partial,
        &mut merged,
        &Setting::default(),
        Some(&pair("nothing", 2)),
    )
    .unwrap();
    assert!(!report.changed && report.left.len() == 1);
    let renaming = MergeLora {
        rename: vec![("^(no)thing$".to_owned(), "head".to_owned())],
        ..lora()
    };
    run_with(
        &renaming,
        &mut merged,
        &Setting::default(),
        Some(&pair("nothing", 2)),
    )
    .unwrap();
    assert_eq!(weight(&merged, "head.weight"), [5.0, 6.0, 7.0, 8.0]);
}

#[test]
fn several_heads_read_one_backbone_and_store_equal_weights_once() {
    let head = |version: u32, op: &str| {
        model(&format!(
            r#"<ir_version: 8, opset_import: ["": {version}]>
            head (float[n,4] features) => (float[n,2] y)
            <float[4,2] w = {{1, 2, 3, 4, 5, 6, 7, 8}}> {{
              h = MatMul (features, w)
              y = {op} (h)
            }}"#
        ))
    };
    let backbone = r#"<ir_version: 7, opset_import: ["": 15]>
    g (float[2,1,2,2] x) => (float[2,3] y)
    <float[4,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}> {
      h = Relu (x)
      f = Flatten (h)
      y = MatMul (f, w)
    }"#;
    let files = Files::with(&[("a/one.onnx", head(17, "Neg")), ("two.onnx", head(13, "Abs"))]);
    for at in ["auto", "h"] {
        let mut headed = model(backbone);
        let pass = TransferFeatures {
            at: at.to_owned(),
            head: vec!["a/one.onnx".into(), "two.onnx".into()],
            ..TransferFeatures::default()
        };
        assert!(pass.about().needs.source && !pass.about().needs.training);
        let report = run_with(&pass, &mut headed, &Setting::default(), Some(&files)).unwrap();
        secateur::analysis::check(&headed).unwrap();
        let graph = &headed.graph;
        let names: Vec<String> = graph
            .outputs()
            .iter()
            .map(|output| output.name.to_string())
            .collect();
        assert_eq!(names.len(), 2, "{report:?}");
        assert_ne!(names[0], names[1]);
        assert_eq!(graph.initializers().len(), 1, "{:?}", lines(&headed));
        let found = outputs(&headed).unwrap();
        let number = |name: &str| match &found[name] {
            RunValue::Tensor(tensor) => tensor.to_f64().unwrap(),
            other => panic!("{other:?}"),
        };
        let (one, two) = (number(&names[0]), number(&names[1]));
        assert!(one.iter().zip(&two).all(|(a, b)| *a == -*b) && two.iter().any(|value| *value > 0.0));
    }
    let two_inputs = model(
        r#"<ir_version: 8, opset_import: ["": 17]>
        head (float[n,4] a, float[n,4] b) => (float[n,4] y) { y = Add (a, b) }"#,
    );
    let narrow = model(
        r#"<ir_version: 8, opset_import: ["": 17]>
        head (float[n,5] a) => (float[n,5] y) { y = Neg (a) }"#,
    );
    let files = Files::with(&[("two", two_inputs), ("narrow", narrow)]);
    for (head, message) in [
        ("two", "has 2 inputs"),
        ("narrow", "\"a\" is float[n, 5]"),
        ("none", "not there"),
    ] {
        let pass = TransferFeatures {
            head: vec![head.into()],
            ..TransferFeatures::default()
        };
        let error = run_with(&pass, &mut model(backbone), &Setting::default(), Some(&files)).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}
