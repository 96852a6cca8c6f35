//! Quantization passes on small models: what becomes integer, what stays float and why, and how far the outputs move.

use secateur::data::{Dataset, Spec, SyntheticSpec};
use secateur::ir::Graph;
use secateur::passes::{
    ConvertFloat, Form, Profile, Quantize, QuantizeDynamic, QuantizeWeights, ResourceError, Resources, Runs,
    Saturation, collect_statistics,
};
use secateur::quantize::Kind;

use super::*;

/// Synthetic samples and tract.
pub(super) struct Synthetic {
    pub(super) samples: u64,
}

impl Synthetic {
    fn spec(&self) -> Spec {
        let synthetic = SyntheticSpec {
            range: Some([-3.5, 5.0]),
            ..SyntheticSpec::default()
        };
        Spec {
            synthetic: Some(synthetic),
            samples: Some(self.samples),
            seed: Some(5),
            ..Spec::default()
        }
    }
}

impl Resources for Synthetic {
    fn engine(&self) -> Result<&dyn Engine, ResourceError> {
        Ok(&TractEngine)
    }

    fn data(&self, _role: &str, graph: &Graph) -> Result<Dataset, ResourceError> {
        Dataset::open(&self.spec(), std::path::Path::new(""), graph).map_err(ResourceError::from)
    }

    fn jobs(&self) -> usize {
        2
    }
}

pub(super) fn context<'a>(resources: &'a Synthetic, base: PathBuf) -> Context<'a> {
    Context {
        evaluator: &TractEvaluator,
        limits: Limits::default(),
        keep: RegexSet::empty(),
        seed: 0,
        base,
        progress: &|_, _, _| {},
        resources: Some(resources),
    }
}

/// Runs `pass` with synthetic data; the outputs move by at most `error` of their size.
pub(super) fn check_near(pass: &dyn Pass, text: &str, error: f64) -> (Model, PassReport) {
    let before = model(text);
    let mut after = before.clone();
    let report = pass
        .run(&mut after, &context(&Synthetic { samples: 8 }, PathBuf::new()))
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    secateur::analysis::check(&after).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    lines(&after);
    let lowered = secateur::lower::for_engine(&after, &TractEngine).unwrap();
    let (expected, found) = (outputs(&before).unwrap(), outputs(&lowered).unwrap());
    for (name, value) in &expected {
        let (RunValue::Tensor(a), Some(RunValue::Tensor(b))) = (value, found.get(name)) else {
            panic!("no {name}")
        };
        let (a, b) = (a.to_f64().unwrap(), b.to_f64().unwrap());
        let size = a.iter().fold(0f64, |size, v| size.max(v.abs()));
        for (a, b) in a.iter().zip(&b) {
            assert!(
                (a - b).abs() <= error * size,
                "{name}: {a} became {b}\n{text}\n{report:#?}"
            );
        }
    }
    (after, report)
}

pub(super) fn operators(model: &Model) -> Vec<String> {
    let graph = &model.graph;
    graph
        .topological_order()
        .into_iter()
        .filter_map(|id| Some(graph.operator(id)?.op_type.to_string()))
        .collect()
}

pub(super) fn constants(model: &Model, dtype: DType) -> usize {
    let graph = &model.graph;
    graph
        .initializers()
        .iter()
        .filter(|(_, c)| c.tensor.as_ref().is_some_and(|t| t.dtype() == dtype))
        .count()
}

pub(super) const PRODUCTS: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,3] y)
<float[4,4] w = {0.5,-1.0,0.25,0.75,1.0,0.5,-0.5,0.1,0.2,-0.3,0.9,-0.8,0.6,0.4,-0.2,0.7},
 float[3,4] v = {1.0,-0.5,0.3,0.2,-0.7,0.8,0.1,0.4,0.6,-0.9,0.5,0.05}, float[3] b = {0.5,-0.25,1.0}> {
  a = MatMul(x, w)
  r = Relu(a)
  y = Gemm<transB = 1>(r, v, b)
}"#;

pub(super) const CONVOLUTIONS: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,3,3] x) => (float[1,2,3,3] y)
<float[2,2,1,1] w = {4.0,-2.0,0.1,0.2}, float[2] b = {0.5,0.1},
 float[2,2,1,1] v = {0.1,3.0,-0.2,2.5}, float[2] c = {0.0,-0.5}> {
  a = Conv(x, w, b)
  r = Relu(a)
  d = Conv(r, v, c)
  y = Add(d, x)
}"#;

#[test]
fn weights_become_codes_and_activations_stay_float() {
    let pass = QuantizeWeights {
        minimum_elements: 1,
        ..QuantizeWeights::default()
    };
    let (after, report) = check_near(&pass, PRODUCTS, 0.02);
    assert_eq!(
        report.changes.iter().find(|c| c.rule == "weight").unwrap().count,
        2
    );
    assert_eq!(constants(&after, DType::I8), 4);
    assert_eq!(
        operators(&after)
            .iter()
            .filter(|name| *name == "DequantizeLinear")
            .count(),
        2
    );
    let asymmetric = QuantizeWeights {
        kind: Kind::Uint8,
        symmetric: false,
        per_channel: false,
        ..pass
    };
    let (after, _) = check_near(&asymmetric, PRODUCTS, 0.03);
    assert_eq!(constants(&after, DType::U8), 4);
}

#[test]
fn a_weight_with_two_readers_is_stored_once_and_one_that_is_read_as_float_stays() {
    let text = |last: &str| {
        format!(
            r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {{0.5,-1.0,0.25,0.75}}> {{
  a = MatMul(x, w)
  s = Sigmoid(a)
  b = MatMul(s, w)
  {last}
}}"#
        )
    };
    let pass = QuantizeWeights {
        minimum_elements: 1,
        prepare: false,
        ..QuantizeWeights::default()
    };
    let (after, _) = check_near(&pass, &text("y = Tanh(b)"), 0.02);
    assert_eq!(constants(&after, DType::I8), 2);
    assert_eq!(
        operators(&after)
            .iter()
            .filter(|name| *name == "DequantizeLinear")
            .count(),
        2
    );
    let report = check_untouched(&pass, &text("y = Add(b, w)"), &Setting::default());
    assert!(said(&report).contains("reads it as float"), "{report:#?}");
}

#[test]
fn weights_in_bodies_are_covered() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (bool p, float[2,2] x) => (float[2,2] y) {
  y = If(p) <
    then_branch = t () => (float[2,2] u) <float[2,2] w = {0.5,-1.0,0.25,0.75}> { u = MatMul(x, w) },
    else_branch = e () => (float[2,2] v) { v = Identity(x) }
  >
}"#;
    let pass = QuantizeWeights {
        minimum_elements: 1,
        prepare: false,
        ..QuantizeWeights::default()
    };
    let mut after = model(text);
    let report = run_pass(&pass, &mut after, &Setting::default()).unwrap();
    assert_eq!(
        report.changes.iter().find(|c| c.rule == "weight").unwrap().count,
        1
    );
    assert!(lines(&after).join("\n").contains("DequantizeLinear"));
}

#[test]
fn four_bits_need_opset_21_and_blocks_have_a_scale_each() {
    let pass = QuantizeWeights {
        kind: Kind::Int4,
        block: 2,
        minimum_elements: 1,
        prepare: false,
        ..QuantizeWeights::default()
    };
    let mut after = model(PRODUCTS);
    run_pass(&pass, &mut after, &Setting::default()).unwrap();
    assert_eq!(after.opset(), Some(21));
    let found = lines(&after).join("\n");
    assert!(
        found.contains("w_scale: float[2, 4]") && found.contains("v_scale: float[2, 3]"),
        "{found}"
    );
    assert!(found.contains("block_size = 2"), "{found}");
}

#[test]
fn blocked_products_name_their_sizes_and_refuse_odd_blocks() {
    let pass = QuantizeWeights {
        kind: Kind::Uint4,
        block: 16,
        form: Form::MatMulNBits,
        minimum_elements: 1,
        operators: vec!["MatMul".to_owned()],
        ..QuantizeWeights::default()
    };
    let mut after = model(PRODUCTS);
    run_pass(&pass, &mut after, &Setting::default()).unwrap();
    assert!(
        after
            .opset_imports
            .iter()
            .any(|import| import.domain() == "com.microsoft")
    );
    let found = lines(&after).join("\n");
    assert!(
        found.contains("w_quantized: uint8[4, 1, 8]") && found.contains("w_scale: float[4]"),
        "{found}"
    );
    let odd = QuantizeWeights { block: 12, ..pass };
    assert!(matches!(
        run_pass(&odd, &mut model(PRODUCTS), &Setting::default()),
        Err(PassError::Option { .. })
    ));
}

#[test]
fn dynamic_products_share_the_codes_of_their_input() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,2] y, float[2,2] z)
<float[4,2] w = {0.5,-1.0,0.25,0.75,1.0,0.5,-0.5,0.1}, float[4,2] v = {0.2,-0.3,0.9,-0.8,0.6,0.4,-0.2,0.7},
 float[2] b = {1.0,-1.0}> {
  y = MatMul(x, w)
  z = Gemm<beta = 0.5>(x, v, b)
}"#;
    for saturation in [Saturation::Avoid, Saturation::Ignore] {
        let pass = QuantizeDynamic {
            minimum_elements: 1,
            saturation,
            ..QuantizeDynamic::default()
        };
        let (after, _) = check_near(&pass, text, 0.03);
        let found = operators(&after);
        assert_eq!(
            found
                .iter()
                .filter(|name| *name == "DynamicQuantizeLinear")
                .count(),
            1,
            "{found:?}"
        );
        assert_eq!(
            found.iter().filter(|name| *name == "MatMulInteger").count(),
            2,
            "{found:?}"
        );
    }
}

#[test]
fn floats_become_half_with_casts_at_the_interface_only() {
    let converted = |pass: &ConvertFloat| {
        let mut after = model(PRODUCTS);
        let report = run_pass(pass, &mut after, &Setting::default()).unwrap();
        lines(&after);
        (after, report)
    };
    let (after, _) = converted(&ConvertFloat::default());
    assert_eq!(operators(&after), ["Cast", "MatMul", "Relu", "Gemm", "Cast"]);
    assert_eq!(
        (constants(&after, DType::F32), constants(&after, DType::F16)),
        (0, 3)
    );
    let inside = ConvertFloat {
        convert_io: true,
        ..ConvertFloat::default()
    };
    let (after, _) = converted(&inside);
    assert_eq!(operators(&after), ["MatMul", "Relu", "Gemm"]);
    let kept = ConvertFloat {
        keep_operators: vec!["Relu".to_owned()],
        ..ConvertFloat::default()
    };
    let (after, report) = converted(&kept);
    assert_eq!(
        operators(&after),
        ["Cast", "MatMul", "Cast", "Relu", "Cast", "Gemm", "Cast"]
    );
    assert!(said(&report).contains("keep list"));
}

#[test]
fn values_that_half_precision_does_not_hold_stay_float() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,64] x) => (float[2,64] y) <float large = {400.0}, float small = {0.00001}, float[2,1] k = {1, 2}> {
  a = Mul(x, large)
  b = Mul(a, large)
  c = Mul(b, small)
  y = Mul(c, k)
}"#;
    let run = |pass: &ConvertFloat, resources: &Synthetic| {
        let mut after = model(text);
        let report = pass.run(&mut after, &context(resources, PathBuf::new())).unwrap();
        lines(&after);
        (operators(&after), said(&report))
    };
    let data = Synthetic { samples: 2 };
    // What gives and what reads the large value.
    let (found, notes) = run(&ConvertFloat::default(), &data);
    assert_eq!(
        found,
        ["Cast", "Mul", "Cast", "Mul", "Mul", "Cast", "Mul", "Cast"],
        "{notes}"
    );
    assert!(notes.contains("leaves the range"), "{notes:?}");
    let unchecked = ConvertFloat {
        check_ranges: false,
        ..ConvertFloat::default()
    };
    let (found, _) = run(&unchecked, &data);
    assert_eq!(found, ["Cast", "Mul", "Mul", "Mul", "Mul", "Cast"]);
    assert!(!unchecked.about().needs.runs() && ConvertFloat::default().about().needs.engine);
}

#[test]
pub(super) fn constants_that_half_precision_does_not_hold_stay_float() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2] x) => (float[2] y) <float large = {70000.0}, float small = {1e-12}> {
  a = Div(x, large)
  b = Add(a, small)
  y = Neg(b)
}"#;
    let (after, report) = check_near(&ConvertFloat::default(), text, 0.01);
    assert!(said(&report).contains("leaves the range"), "{report:#?}");
    assert!(said(&report).contains("would become 0"), "{report:#?}");
    assert_eq!(constants(&after, DType::F32), 2);
}

#[test]
fn convolutions_between_codes_become_integer_and_clamps_disappear() {
    let pass = Quantize {
        prepare: false,
        ..Quantize::default()
    };
    let (after, report) = check_near(&pass, CONVOLUTIONS, 0.06);
    let found = operators(&after);
    assert!(!found.iter().any(|name| name == "Relu"), "{found:?}");
    // x and both convolutions; nothing integer reads the sum.
    assert_eq!(
        found.iter().filter(|name| *name == "QuantizeLinear").count(),
        3,
        "{found:?}"
    );
    assert!(
        constants(&after, DType::I32) >= 3,
        "two biases as 32-bit codes, and their zero points"
    );
    assert_eq!(
        report
            .changes
            .iter()
            .find(|c| c.rule == "integer-node")
            .unwrap()
            .count,
        2
    );
    assert!(report.left.iter().any(|left| left.what == "y"), "{report:#?}");
    check_near(
        &Quantize {
            correct_bias: false,
            per_channel: false,
            ..pass
        },
        CONVOLUTIONS,
        0.08,
    );
}

#[test]
fn nothing_to_quantize_leaves_the_model_as_it_was() {
    let text = r#"<ir_version: 8, opset_import: ["" : 11]>
g (float[2] x) => (float[2] y) { i = Identity(x) y = Tanh(i) }"#;
    for pass in [
        Box::new(Quantize::default()) as Box<dyn Pass>,
        Box::new(QuantizeDynamic::default()),
        Box::new(QuantizeWeights::default()),
    ] {
        let report = check_untouched(&*pass, text, &Setting::default());
        assert_eq!(report.notes.len(), 1, "{report:#?}");
    }
}

#[test]
fn statistics_of_two_shards_quantize_as_one_run_does() {
    let folder = tempfile::tempdir().unwrap();
    let resources = Synthetic { samples: 6 };
    let collect = |shard: Option<&str>| {
        let mut spec = resources.spec();
        spec.shard = shard.map(|shard| shard.parse().unwrap());
        let mut model = model(CONVOLUTIONS);
        let context = context(&resources, PathBuf::new());
        let open = |graph: &Graph| Dataset::open(&spec, std::path::Path::new(""), graph);
        collect_statistics(&mut model, &context, &open, &TractEngine, 2).unwrap()
    };
    let mut merged = collect(Some("1/2"));
    merged.merge(&collect(Some("0/2"))).unwrap();
    let whole = collect(None);
    assert_eq!(merged.ranges, whole.ranges);
    for (name, summary) in &whole.values {
        assert_eq!(merged.values[name].histogram, summary.histogram, "{name}");
        assert_eq!(
            merged.values[name].channel_extremes, summary.channel_extremes,
            "{name}"
        );
    }
    merged.write(&folder.path().join("s.safetensors")).unwrap();
    let run = |pass: &Quantize, text: &str| {
        let mut model = model(text);
        pass.run(&mut model, &context(&resources, folder.path().to_owned()))
            .map(|_| lines(&model))
    };
    let from_file = Quantize {
        stats: Some("s.safetensors".into()),
        ..Quantize::default()
    };
    assert_eq!(
        run(&from_file, CONVOLUTIONS).unwrap(),
        run(&Quantize::default(), CONVOLUTIONS).unwrap()
    );
    let error = run(&from_file, PRODUCTS).unwrap_err();
    assert!(error.to_string().contains("another model"), "{error}");
}

#[test]
fn names_that_the_model_has_already_are_not_given_again() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,2] x) => (float[2,2] w_dequantized) <float[2,2] w = {0.5,-1.0,0.25,0.75}> {
  w_scale = MatMul(x, w)
  w_dequantized = Tanh(w_scale)
}"#;
    let pass = QuantizeWeights {
        minimum_elements: 1,
        prepare: false,
        ..QuantizeWeights::default()
    };
    let (after, _) = check_near(&pass, text, 0.02);
    assert_eq!(after.graph.outputs()[0].name.to_string(), "w_dequantized");
}

/// The operators of `text` after quantization for `profile`, and the report.
fn for_profile(profile: Profile, text: &str, error: f64) -> (Vec<String>, Model, PassReport) {
    let pass = Quantize {
        profile,
        prepare: false,
        ..Quantize::default()
    };
    let (after, report) = check_near(&pass, text, error);
    (operators(&after), after, report)
}

#[test]
fn each_profile_places_pairs_where_its_engine_wants_them() {
    let count = |found: &[String], name: &str| found.iter().filter(|found| *found == name).count();
    // Profile, QuantizeLinear, Relu, 32-bit biases: two convolutions with a Relu between them and a sum behind them.
    for (profile, pairs, clamps, biases) in [
        (Profile::OrtX86, 3, 0, 2),
        (Profile::OrtArm, 3, 0, 2),
        // The input and what the second convolution reads; the sum is fused, and its other operand is the input.
        (Profile::Tensorrt, 2, 1, 0),
        // Nothing integer reads the sum.
        (Profile::Openvino, 2, 1, 0),
        (Profile::Qnn, 4, 0, 2),
        (Profile::Generic, 3, 0, 2),
    ] {
        let (found, after, report) = for_profile(profile, CONVOLUTIONS, 0.08);
        assert_eq!(count(&found, "QuantizeLinear"), pairs, "{profile:?}: {found:?}");
        assert_eq!(count(&found, "Relu"), clamps, "{profile:?}: {found:?}");
        let coded = after
            .graph
            .initializers()
            .iter()
            .filter(|(_, c)| {
                c.tensor.as_ref().is_some_and(|t| {
                    t.dtype() == DType::I32 && t.elements() == 2 && t.to_i64().unwrap() != [0, 0]
                })
            })
            .count();
        assert_eq!(coded, biases, "{profile:?}");
        let integer = report
            .nodes
            .iter()
            .filter(|node| node.runs == Runs::Integer)
            .count();
        assert!(integer >= 2, "{profile:?}: {report:#?}");
    }
    let mut tract = model(CONVOLUTIONS);
    let pass = Quantize {
        profile: Profile::Tract,
        prepare: false,
        ..Quantize::default()
    };
    let report = pass
        .run(&mut tract, &context(&Synthetic { samples: 2 }, PathBuf::new()))
        .unwrap();
    assert!(!report.changed, "no matrix product: {report:#?}");
}

#[test]
fn symmetric_profiles_have_zero_points_of_zero() {
    let (_, after, _) = for_profile(Profile::Tensorrt, CONVOLUTIONS, 0.08);
    for (id, constant) in after.graph.initializers() {
        if after.graph.label(id).ends_with("zero_point") {
            let zeros = constant.tensor.as_ref().unwrap().to_i64().unwrap();
            assert!(zeros.iter().all(|zero| *zero == 0), "{zeros:?}");
        }
    }
}

#[test]
fn operands_of_a_sum_share_a_scale_where_the_engine_has_one_for_all() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,3,3] x) => (float[1,2,3,3] y)
<float[2,2,1,1] w = {4.0,-2.0,0.1,0.2}, float[2,2,1,1] v = {0.1,3.0,-0.2,2.5}, float[2,2,1,1] u = {0.4,0.3,-0.2,0.5}> {
  a = Conv(x, w)
  b = Conv(x, v)
  c = Add(a, b)
  y = Conv(c, u)
}"#;
    let scales = |profile| {
        let (_, after, _) = for_profile(profile, text, 0.1);
        let value = |name: &str| {
            let id = after.graph.find_value(name).unwrap();
            let pair = after.graph.uses(id).into_iter().find(|u| {
                after
                    .graph
                    .operator(u.node)
                    .is_some_and(|o| o.is("QuantizeLinear"))
            })?;
            after
                .graph
                .constant(after.graph.input(pair.node, 1)?)?
                .single_f64()
        };
        (value("a").unwrap(), value("b").unwrap())
    };
    let (a, b) = scales(Profile::Openvino);
    assert_eq!(a, b);
    let (a, b) = scales(Profile::OrtX86);
    assert_ne!(a, b);
}

#[test]
fn matrix_products_become_integer_operators_for_tract() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,2] y)
<float[4,4] w = {0.5,-1.0,0.25,0.75,1.0,0.5,-0.5,0.1,0.2,-0.3,0.9,-0.8,0.6,0.4,-0.2,0.7},
 float[4,2] v = {0.2,-0.3,0.9,-0.8,0.6,0.4,-0.2,0.7}> {
  a = MatMul(x, w)
  t = Tanh(a)
  y = MatMul(t, v)
}"#;
    let (found, _, report) = for_profile(Profile::Tract, text, 0.05);
    assert_eq!(
        found.iter().filter(|name| *name == "QLinearMatMul").count(),
        2,
        "{found:?}"
    );
    assert!(!found.iter().any(|name| name == "MatMul"), "{found:?}");
    assert!(said(&report).contains("faster in float"), "{report:#?}");
}

#[test]
fn what_bodies_hold_stays_float_and_the_report_says_so() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (bool p, float[2,2] x) => (float[2,2] y) <float[2,2] v = {0.5,-1.0,0.25,0.75}> {
  a = MatMul(x, v)
  y = If(p) <
    then_branch = t () => (float[2,2] u) <float[2,2] w = {0.5,-1.0,0.25,0.75}> { u = MatMul(a, w) },
    else_branch = e () => (float[2,2] z) { z = Identity(a) }
  >
}"#;
    let mut after = model(text);
    let pass = Quantize {
        prepare: false,
        ..Quantize::default()
    };
    let report = pass
        .run(&mut after, &context(&Synthetic { samples: 4 }, PathBuf::new()))
        .unwrap();
    secateur::analysis::check(&after).unwrap();
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("2 operators in the bodies of If stay float")),
        "{report:#?}"
    );
    let body = report.nodes.iter().find(|node| node.operator == "If").unwrap();
    assert_eq!(body.runs, Runs::Float);
}
