//! Types of codes in static quantization: single layers, 4-bit weights, 16-bit activations, floats of 8 bits, roundings.

use secateur::passes::{
    LayerPrecision, LayerTypes, Precision, Profile, Quantize, QuantizeWeights, Rounding, Runs, Target,
};
use secateur::quantize::{Calibrator, Kind};

use super::quantizing::{CONVOLUTIONS, PRODUCTS, Synthetic, check_near, constants, context, operators};
use super::*;

fn layer(pattern: &str) -> LayerTypes {
    LayerTypes {
        pattern: pattern.to_owned(),
        precision: None,
        activations: None,
        per_channel: None,
        block: None,
    }
}

pub(super) fn plain(profile: Profile) -> Quantize {
    Quantize {
        profile,
        calibrate: Calibrator::MinMax,
        prepare: false,
        ..Quantize::default()
    }
}

pub(super) fn refused(pass: &Quantize, text: &str) -> String {
    let mut model = model(text);
    let before = lines(&model);
    let error = pass
        .run(&mut model, &context(&Synthetic { samples: 2 }, PathBuf::new()))
        .unwrap_err();
    assert!(matches!(error, PassError::Option { .. }), "{error}");
    assert_eq!(lines(&model), before);
    error.to_string()
}

/// Every pair behind `name`: the type of its codes, whether it reads the codes of another pair, and its scale.
pub(super) fn pairs(model: &Model, name: &str) -> Vec<(DType, bool, f64)> {
    let graph = &model.graph;
    let mut found = Vec::new();
    let mut sources = vec![(graph.find_value(name).unwrap(), false)];
    while let Some((value, chained)) = sources.pop() {
        for reader in graph.uses(value) {
            if !graph
                .operator(reader.node)
                .is_some_and(|o| o.is("QuantizeLinear"))
            {
                continue;
            }
            let codes = ValueId::new(reader.node, 0);
            let scale = graph.constant(graph.input(reader.node, 1).unwrap()).unwrap();
            found.push((
                graph.ty(codes).dtype().unwrap(),
                chained,
                scale.single_f64().unwrap(),
            ));
            for dequantize in graph.uses(codes) {
                sources.push((ValueId::new(dequantize.node, 0), true));
            }
        }
    }
    found
}

/// The type of codes that a node reads in slot 0, behind a DequantizeLinear.
fn reads(model: &Model, output: &str) -> Option<DType> {
    let graph = &model.graph;
    let node = graph.find_value(output).unwrap().node;
    let source = graph.input(node, 0)?.node;
    graph
        .operator(source)
        .filter(|operator| operator.is("DequantizeLinear"))?;
    graph.ty(graph.input(source, 0)?).dtype()
}

const CHAIN: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,4,4] x) => (float[1,2,2,2] y)
<float[2,2,1,1] u = {0.7,-0.7,0.35,0.1}, float[2] c = {0.5,0.1}, float[2,2,1,1] v = {0.1,1.4,-0.2,0.6},
 float[2,2,1,1] w = {0.4,0.3,-0.7,0.5}> {
  a = Conv(x, u, c)
  r = Relu(a)
  b = Conv(r, v)
  p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(b)
  d = Conv(p, w)
  y = Add(d, p)
}"#;

#[test]
fn a_value_read_in_two_types_has_a_pair_for_each_made_from_the_codes_of_its_own_operator() {
    for (profile, wide) in [
        (Profile::Generic, Kind::Uint16),
        (Profile::OrtX86, Kind::Uint16),
        (Profile::Qnn, Kind::Int16),
    ] {
        let pass = Quantize {
            layers: vec![LayerTypes {
                activations: Some(wide),
                ..layer("^b$")
            }],
            ..plain(profile)
        };
        let (after, report) = check_near(&pass, CHAIN, 0.08);
        assert_eq!(after.opset(), Some(21));
        // `r` is put out in 8 bits (its Relu is implied: the pair stands behind the convolution) and read by `b` in 16.
        let of_r = pairs(&after, "a");
        assert_eq!(
            of_r.iter().map(|pair| (pair.0, pair.1)).collect::<Vec<_>>(),
            [(DType::U8, false), (wide.dtype(), true)],
            "{profile:?}"
        );
        assert_eq!(reads(&after, "b"), Some(wide.dtype()));
        // Pooling moves codes of 16 bits; what follows reads 8, again from the codes.
        assert_eq!(
            pairs(&after, "b"),
            [(wide.dtype(), false, pairs(&after, "b")[0].2)]
        );
        assert_eq!(reads(&after, "p"), Some(wide.dtype()));
        let of_p = pairs(&after, "p");
        assert_eq!(
            of_p.iter().map(|pair| (pair.0, pair.1)).collect::<Vec<_>>(),
            [(wide.dtype(), false), (DType::U8, true)]
        );
        assert_eq!(of_p[0].2, pairs(&after, "b")[0].2, "pooling keeps the scale");
        assert_eq!(reads(&after, "d"), Some(DType::U8));
        let simulated: Vec<&str> = report
            .nodes
            .iter()
            .filter(|node| node.runs == Runs::Float && node.why.contains("a simulation"))
            .map(|node| node.operator.as_str())
            .collect();
        let expected: &[&str] = if profile == Profile::OrtX86 {
            &["Conv", "MaxPool"]
        } else {
            &[]
        };
        assert_eq!(simulated, expected, "{profile:?} {report:#?}");
    }
}

#[test]
fn codes_of_16_bits_are_spread_over_the_same_range_in_256_times_the_steps() {
    let scale = |scheme| {
        let pass = Quantize {
            scheme,
            ..plain(Profile::Generic)
        };
        let (after, _) = check_near(&pass, CHAIN, 0.08);
        pairs(&after, "x")[0].2
    };
    let (narrow, wide) = (scale(Target::Int8), scale(Target::Int16));
    assert!(
        (narrow * 255.0 - wide * 65535.0).abs() < 1e-5 * narrow * 255.0,
        "{narrow} {wide}"
    );
}

#[test]
fn a_graph_input_read_in_two_types_is_quantized_twice_from_its_floats() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,3,3] x) => (float[1,2,3,3] y, float[1,2,3,3] z)
<float[2,2,1,1] v = {0.1,1.4,-0.2,0.6}, float[2,2,1,1] w = {0.4,0.3,-0.7,0.5}> {
  a = Conv(x, v)
  b = Conv(x, w)
  y = Tanh(a)
  z = Tanh(b)
}"#;
    let pass = Quantize {
        layers: vec![LayerTypes {
            activations: Some(Kind::Uint16),
            ..layer("^b$")
        }],
        ..plain(Profile::Generic)
    };
    let (after, _) = check_near(&pass, text, 0.05);
    let found: Vec<(DType, bool)> = pairs(&after, "x").iter().map(|pair| (pair.0, pair.1)).collect();
    assert!(
        found.len() == 2 && found.contains(&(DType::U8, false)) && found.contains(&(DType::U16, false)),
        "{found:?}"
    );
    assert_eq!(reads(&after, "a"), Some(DType::U8));
    assert_eq!(reads(&after, "b"), Some(DType::U16));
}

#[test]
fn weights_of_single_layers_have_four_bits_blocks_or_stay_float() {
    let pass = Quantize {
        layers: vec![
            LayerTypes {
                precision: Some(Precision::Int4),
                ..layer("^u$")
            },
            LayerTypes {
                precision: Some(Precision::Float),
                ..layer("^d$")
            },
            layer("nothing is called so"),
        ],
        correct_bias: false,
        ..plain(Profile::OrtX86)
    };
    let (after, report) = check_near(&pass, CHAIN, 0.2);
    let value = |name: &str| {
        let id = after
            .graph
            .find_value(name)
            .unwrap_or_else(|| panic!("no {name}"));
        after.graph.constant(id).unwrap().clone()
    };
    // Scales of each channel: 1.4 / 15 and 0.7 / 15.
    assert_eq!(value("u_quantized").dtype(), DType::I4);
    assert_eq!(value("u_quantized").to_i64().unwrap(), [7, -8, 7, 2]);
    let scales = value("u_scale").to_f64().unwrap();
    assert!(
        (scales[0] - 1.4 / 15.0).abs() < 1e-7 && (scales[1] - 0.7 / 15.0).abs() < 1e-7,
        "{scales:?}"
    );
    assert_eq!(value("v_quantized").dtype(), DType::I8);
    assert!(after.graph.find_value("w_quantized").is_none() && value("w").dtype() == DType::F32);
    let why = |label: &str| &report.nodes.iter().find(|node| node.node == label).unwrap().why;
    assert!(why("a").contains("no kernel for int4 weights"), "{report:#?}");
    assert_eq!(why("d"), "so `layers` says");
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("nothing is called so decides on no node")),
        "{report:#?}"
    );

    let blocks = Quantize {
        weights: Some(Kind::Int4),
        block: 2,
        layers: vec![LayerTypes {
            block: Some(0),
            per_channel: Some(false),
            ..layer("^v$")
        }],
        ..plain(Profile::Generic)
    };
    let (after, _) = check_near(&blocks, PRODUCTS, 0.3);
    let found = lines(&after).join("\n");
    assert!(
        found.contains("w_scale: float[2, 4]") && found.contains("block_size = 2"),
        "{found}"
    );
    assert!(
        found.contains("v_scale: float =") || found.contains("v_scale: float[] ="),
        "{found}"
    );
    assert_eq!(constants(&after, DType::I4), 4);
}

#[test]
fn the_list_of_quantize_weights_is_understood() {
    let entry = LayerPrecision {
        pattern: "^u$".to_owned(),
        precision: Precision::Int4,
        block: Some(16),
    };
    let text = serde_json::to_string(&serde_json::json!({ "layers": [entry] })).unwrap();
    let pass: Quantize = serde_json::from_str(&text).unwrap();
    assert_eq!(pass.layers[0].precision, Some(Precision::Int4));
    let weights: QuantizeWeights = serde_json::from_str(&text).unwrap();
    assert_eq!(weights.layers.len(), 1);
}

#[test]
fn qnn_has_fixed_scales_for_wide_results_of_sigmoid_and_tanh() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,3,3] x) => (float[1,2,3,3] y)
<float[2,2,1,1] v = {0.1,1.4,-0.2,0.6}, float[2,2,1,1] w = {0.4,0.3,-0.7,0.5}> {
  a = Conv(x, v)
  s = Sigmoid(a)
  t = Tanh(a)
  m = Mul(s, t)
  n = Softmax(m)
  y = Conv(n, w)
}"#;
    for (kind, scales, tanh_zero) in [
        (Kind::Uint16, (1.0 / 65536.0, 1.0 / 32768.0), 32768),
        (Kind::Int16, (1.0 / 32768.0, 1.0 / 32768.0), 0),
    ] {
        let pass = Quantize {
            activations: Some(kind),
            ..plain(Profile::Qnn)
        };
        let (after, _) = check_near(&pass, text, 0.02);
        assert_eq!((pairs(&after, "s")[0].2, pairs(&after, "t")[0].2), scales);
        let t = after.graph.find_value("t").unwrap();
        let pair = after.graph.uses(t)[0].node;
        let zero = after.graph.constant(after.graph.input(pair, 2).unwrap()).unwrap();
        assert_eq!(zero.to_i64().unwrap(), [tanh_zero]);
        assert!(
            (pairs(&after, "n")[0].2 - 1.0 / 65535.0).abs() < 1e-10,
            "{:?}",
            pairs(&after, "n")
        );
    }
}

#[test]
fn types_that_the_engine_has_no_use_for_are_refused_with_what_it_has() {
    let with = |profile, change: &dyn Fn(&mut Quantize)| {
        let mut pass = plain(profile);
        change(&mut pass);
        pass
    };
    let wide = |pass: &mut Quantize| pass.scheme = Target::Int16;
    for (pass, why) in [
        (
            with(Profile::Tensorrt, &wide),
            "tensorrt does not run int16; it runs int8, float8e4m3fn",
        ),
        (with(Profile::Openvino, &wide), "openvino does not run uint16"),
        (with(Profile::Tract, &wide), "tract does not run int16"),
        (
            with(Profile::OrtX86, &|pass| pass.scheme = Target::Float8),
            "ort-x86 does not run float8e4m3fn",
        ),
        (
            with(Profile::Qnn, &|pass| pass.weights = Some(Kind::Float8e5m2)),
            "does not run float8e5m2",
        ),
        (
            with(Profile::Tensorrt, &|pass| pass.weights = Some(Kind::Float8e4m3fn)),
            "multiplies codes of one type",
        ),
        (
            with(Profile::Generic, &|pass| {
                pass.scheme = Target::Float8;
                pass.calibrate = Calibrator::Entropy;
            }),
            "evenly spaced",
        ),
        (
            with(Profile::OrtX86, &|pass| pass.layers = vec![layer("(")]),
            "layers: ",
        ),
        (
            with(Profile::OrtX86, &|pass| {
                pass.scheme = Target::WeightsInt4;
                pass.layers = vec![layer("a")];
            }),
            "layers: for the schemes int8, int16 and float8",
        ),
        (
            with(Profile::OrtX86, &|pass| {
                pass.rounding = Rounding::Gptq;
                pass.reduce_range = true;
            }),
            "reduce-range",
        ),
    ] {
        let found = refused(&pass, CHAIN);
        assert!(found.contains(why), "{found} instead of {why}");
    }
}

#[test]
fn floats_of_eight_bits_have_their_largest_value_at_the_largest_magnitude() {
    for profile in [Profile::Generic, Profile::Tensorrt] {
        let pass = Quantize {
            scheme: Target::Float8,
            correct_bias: false,
            ..plain(profile)
        };
        let (after, _) = check_near(&pass, CONVOLUTIONS, 0.12);
        assert_eq!(after.opset(), Some(19));
        let value = |name: &str| {
            let id = after.graph.find_value(name).unwrap();
            after.graph.constant(id).unwrap().clone()
        };
        // 4 is 448 and -2 is -224; 0.1 is half of 0.2, which is 448.
        assert_eq!(value("w_quantized").dtype(), DType::F8E4M3FN);
        assert_eq!(
            value("w_quantized").raw().unwrap().to_vec(),
            [0x7e, 0xf6, 0x76, 0x7e]
        );
        let scales = value("w_scale").to_f64().unwrap();
        assert!(
            (scales[0] - 4.0 / 448.0).abs() < 1e-8 && (scales[1] - 0.2 / 448.0).abs() < 1e-9,
            "{scales:?}"
        );
        assert_eq!(value("b").dtype(), DType::F32, "biases stay float");
        // Zero is in the middle of the codes: they imply no clamp, and none is between the product and its pair.
        assert!(operators(&after).contains(&"Relu".to_owned()));
        assert!(pairs(&after, "a").is_empty());
        assert_eq!(pairs(&after, "r")[0].0, DType::F8E4M3FN);
        assert_eq!(constants(&after, DType::I32), 0);
    }
    let per_type = [
        (Kind::Float8e4m3fnuz, DType::F8E4M3FNUZ, 0x7f),
        (Kind::Float8e5m2, DType::F8E5M2, 0x7b),
        (Kind::Float8e5m2fnuz, DType::F8E5M2FNUZ, 0x7f),
    ];
    for (kind, dtype, largest) in per_type {
        let pass = Quantize {
            activations: Some(kind),
            weights: Some(kind),
            ..plain(Profile::Generic)
        };
        let (after, _) = check_near(&pass, CONVOLUTIONS, 0.25);
        let codes = after
            .graph
            .constant(after.graph.find_value("w_quantized").unwrap())
            .unwrap();
        assert_eq!((codes.dtype(), codes.raw().unwrap()[0]), (dtype, largest));
    }
}

#[test]
fn weights_alone_become_floats_of_eight_bits() {
    let pass = QuantizeWeights {
        kind: Kind::Float8e4m3fn,
        minimum_elements: 1,
        ..QuantizeWeights::default()
    };
    let (after, _) = check_near(&pass, PRODUCTS, 0.06);
    assert_eq!(after.opset(), Some(19));
    assert_eq!(constants(&after, DType::F8E4M3FN), 4);
    for wrong in [
        QuantizeWeights {
            rounding: Rounding::Gptq,
            ..pass.clone()
        },
        QuantizeWeights {
            symmetric: false,
            ..pass.clone()
        },
        QuantizeWeights {
            bits: Some(4.0),
            ..pass
        },
    ] {
        let error = run_pass(&wrong, &mut model(PRODUCTS), &Setting::default()).unwrap_err();
        assert!(error.to_string().contains("float8e4m3fn"), "{error}");
    }
}

#[test]
fn codes_that_keep_what_layers_put_out_lose_less_beside_codes_of_activations() {
    // 12 inputs that all have a mean of 0.75: what one weight loses another can give back.
    let row = |seed: u64| {
        let value = |at: u64| ((seed * 31 + at * 17 + at * at * 7) % 41) as f64 / 20.0 - 1.0;
        (0..12)
            .map(|at| format!("{:.3}", value(at)))
            .collect::<Vec<_>>()
            .join(",")
    };
    let rows = |first: u64, count: u64| (first..first + count).map(row).collect::<Vec<_>>().join(",");
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[6,12] x) => (float[6,5] y)
<float[12,12] w = {{{}}}, float[5,12] v = {{{}}}, float[5] c = {{0.1,0.2,-0.3,0.4,0.5}}> {{
  a = MatMul(x, w)
  r = Relu(a)
  y = Gemm<transB = 1>(r, v, c)
}}"#,
        rows(1, 12),
        rows(20, 5)
    );
    let before = model(&text);
    let expected = outputs(&before).unwrap();
    let error = |rounding| {
        let pass = Quantize {
            rounding,
            weights: Some(Kind::Int4),
            ..plain(Profile::Generic)
        };
        let (after, report) = check_near(&pass, &text, 0.5);
        assert!(
            !report.notes.iter().any(|note| note.contains("nearest")),
            "{report:#?}"
        );
        let lowered = secateur::lower::for_engine(&after, &TractEngine).unwrap();
        let found = outputs(&lowered).unwrap();
        let values = |values: &RunValues| match values.get("y") {
            Some(RunValue::Tensor(tensor)) => tensor.to_f64().unwrap(),
            _ => panic!("no y"),
        };
        let (a, b) = (values(&expected), values(&found));
        a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>()
    };
    let (nearest, gptq, adaround) = (
        error(Rounding::Nearest),
        error(Rounding::Gptq),
        error(Rounding::Adaround),
    );
    assert!(
        gptq < 0.7 * nearest && adaround < 0.7 * nearest,
        "{nearest} {gptq} {adaround}"
    );
}
