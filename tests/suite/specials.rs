//! What the built-in engine computes where its own kernels are wrong: NaN, infinities, numbers far from zero, bounds at the ends of
//! int64, indices from the end. Expected values follow from ONNX's definitions; those of functions are from tables of many digits.

use secateur::analysis::conflicts;
use secateur::engine::{CompileOptions, Engine, RunValue, RunValues, TractEngine};
use secateur::fold::TractEvaluator;
use secateur::format::text::parse_model;
use secateur::format::{ExternalFiles, lift};
use secateur::ir::{DType, Model, Operator, Tensor, check};
use secateur::lower::Lowering;
use secateur::rewrite::Evaluator;
use secateur::verify::{Verdict, VerifyOptions, verify};

fn model_at(opset: i64, text: &str) -> Model {
    let text = format!("<ir_version: 10, opset_import: [\"\" : {opset}]> g {text}");
    let message = parse_model(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    lift(message, &ExternalFiles::default()).unwrap()
}

fn model(text: &str) -> Model {
    model_at(20, text)
}

fn floats(values: &[f32]) -> Tensor {
    Tensor::from_slice(&[values.len() as u64], values).unwrap()
}

/// The one output of a model of one input, with and without the engine's optimisations.
fn run(model: &Model, input: &Tensor) -> Tensor {
    let outputs = [true, false].map(|optimise| {
        let options = CompileOptions {
            optimise,
            ..CompileOptions::default()
        };
        let session = Lowering(&TractEngine).compile(model, &options).unwrap();
        let inputs = RunValues::from([("x".to_owned(), RunValue::Tensor(input.clone()))]);
        match session.run(&inputs).unwrap().remove("y") {
            Some(RunValue::Tensor(tensor)) => tensor,
            other => panic!("{other:?}"),
        }
    });
    let [optimised, plain] = outputs;
    assert_eq!(optimised.dims(), plain.dims());
    optimised
}

fn close(found: f64, wanted: f64, room: f64) -> bool {
    found.is_nan() && wanted.is_nan() || found == wanted || (found - wanted).abs() <= room * wanted.abs()
}

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

#[test]
fn functions_of_special_numbers_are_those_of_the_specification() {
    let input = [f64::NAN, INF, -INF, 100.0, -17.0, -100.0, 0.0, 3e38];
    #[rustfmt::skip]
    let cases: &[(&str, [f64; 8])] = &[
        ("Relu", [NAN, INF, 0.0, 100.0, 0.0, 0.0, 0.0, 3e38]),
        ("Sigmoid", [NAN, 1.0, 0.0, 1.0, 4.139_937_547_394_33e-8, 3.720_075_976_020_836e-44, 0.5, 1.0]),
        ("Tanh", [NAN, 1.0, -1.0, 1.0, -0.999_999_999_999_996_6, -1.0, 0.0, 1.0]),
        ("Softplus", [NAN, INF, 0.0, 100.0, 4.139_937_461_697_66e-8, 3.720_075_976_020_836e-44, std::f64::consts::LN_2, 3e38]),
        ("HardSigmoid", [NAN, 1.0, 0.0, 1.0, 0.0, 0.0, 0.5, 1.0]),
        ("HardSwish", [NAN, INF, NAN, 100.0, 0.0, 0.0, 0.0, 3e38]),
        ("Celu", [NAN, INF, -1.0, 100.0, -0.999_999_958_600_624_6, -1.0, 0.0, 3e38]),
        ("Elu", [NAN, INF, -1.0, 100.0, -0.999_999_958_600_624_6, -1.0, 0.0, 3e38]),
        ("Selu", [NAN, INF, -1.758_099_340_847_376_6, 105.070_102_214_813_23, -1.758_099_268_064_223, -1.758_099_340_847_376_6, 0.0, 3.152_103_066_444_397e38]),
        ("Erf", [NAN, 1.0, -1.0, 1.0, -1.0, -1.0, 0.0, 1.0]),
        ("Gelu <approximate = \"tanh\">", [NAN, INF, NAN, 100.0, 0.0, 0.0, 0.0, 3e38]),
        ("Mish", [NAN, INF, NAN, 100.0, -7.037_893_684_885_9e-7, -3.720_075_976_020_836e-42, 0.0, 3e38]),
        ("Asinh", [NAN, INF, -INF, 5.298_342_365_610_589, -3.527_224_456_199_966, -5.298_342_365_610_589, 0.0, 89.289_993_003]),
        ("Acosh", [NAN, INF, NAN, 5.298_292_365_610_484, NAN, NAN, NAN, 89.289_993_003]),
        ("Round", [NAN, INF, -INF, 100.0, -17.0, -100.0, 0.0, 3e38]),
    ];
    for (operator, wanted) in cases {
        for (name, dtype, room) in [
            ("float", DType::F32, 2e-6),
            ("double", DType::F64, 1e-7),
            ("float16", DType::F16, 1e-3),
        ] {
            let model = model(&format!("({name}[8] x) => ({name}[8] y) {{ y = {operator}(x) }}"));
            let x = Tensor::from_f64(dtype, &[8], &input).unwrap();
            let found = run(&model, &x).to_f64().unwrap();
            let given = x.to_f64().unwrap();
            for ((found, wanted), x) in found.iter().zip(wanted).zip(given) {
                // 3e38 is infinite in float16, and results below its range are rounded to zero.
                if dtype == DType::F16 && (x == INF && wanted.is_finite() || wanted.abs() < 6e-5) {
                    continue;
                }
                // Denormal numbers have few digits.
                let small = wanted.abs() < 1e-37 && (found - wanted).abs() < 1e-42;
                assert!(
                    small || close(*found, *wanted, room),
                    "{name} {operator} of {x}: {found}, not {wanted}"
                );
            }
        }
    }
}

#[test]
fn extremes_and_clips_keep_nan_alone_and_behind_a_product() {
    let x = [f32::NAN, -8.0, 8.0, f32::NEG_INFINITY];
    let wanted = [NAN, -1.0, 6.0, -1.0];
    for body in [
        "y = Clip(x, l, h)",
        "a = Max(x, l) y = Min(a, h)",
        "a = Identity(x) b = Max(l, a) y = Min(h, b)",
    ] {
        let found = run(
            &model(&format!(
                "(float[4] x) => (float[4] y) <float l = {{-1}}, float h = {{6}}> {{ {body} }}"
            )),
            &floats(&x),
        );
        for (found, wanted) in found.to_f64().unwrap().iter().zip(wanted) {
            assert!(close(*found, wanted, 0.0), "{body}: {found}, not {wanted}");
        }
    }
    // Fused into the matrix product, whose rows are the numbers themselves.
    let product = model(
        "(float[4,1] x) => (float[4,2] y) <float[1,2] w = {1, 1}, float l = {-1}, float h = {6}> \
         { a = MatMul(x, w) y = Clip(a, l, h) }",
    );
    let found = run(&product, &floats(&x).reshaped(&[4, 1]).unwrap())
        .to_f64()
        .unwrap();
    for (pair, wanted) in found.chunks(2).zip(wanted) {
        assert!(pair.iter().all(|v| close(*v, wanted, 0.0)), "{found:?}");
    }
    let two = model("(float[4] x) => (float[4] y) <float[4] c = {1, nan, -1, 0}> { y = Max(x, c) }");
    let found = run(&two, &floats(&x)).to_f64().unwrap();
    assert!(
        found[0].is_nan() && found[1].is_nan() && found[2..] == [8.0, 0.0],
        "{found:?}"
    );
}

#[test]
fn integers_of_64_bits_pass_a_cast_and_quotients_are_whole() {
    let wide = model("(double[3] x) => (int64[3] y) { y = Cast<to = 7>(x) }");
    let x = Tensor::from_slice(&[3], &[1e12, -5e9, 2.5]).unwrap();
    assert_eq!(
        run(&wide, &x).to_i64().unwrap(),
        [1_000_000_000_000, -5_000_000_000, 2]
    );
    // 49 / 49 is 1, and the product with a rounded reciprocal is not.
    let whole =
        model("(float[3] x) => (float[3] y) <float[3] c = {49, 41, 3}> { a = Div(x, c) y = Floor(a) }");
    assert_eq!(
        run(&whole, &floats(&[49.0, 41.0, 9.0])).to_f64().unwrap(),
        [1.0, 1.0, 3.0]
    );
    let modulo = model("(int8[4] x) => (int8[4] y) <int8 c = {-128}> { y = Mod(x, c) }");
    let x = Tensor::from_slice(&[4], &[127i8, -128, 1, 0]).unwrap();
    assert_eq!(run(&modulo, &x).to_i64().unwrap(), [-1, 0, -127, 0]);
    let signed = model("(float[2,2] x) => (float[2,2] y) <float[2] c = {3, -3}> { y = Mod<fmod = 1>(x, c) }");
    let x = Tensor::from_slice(&[2, 2], &[7f32, 7.0, -7.0, -7.0]).unwrap();
    assert_eq!(run(&signed, &x).to_f64().unwrap(), [1.0, 1.0, -1.0, -1.0]);
}

#[test]
fn doubles_are_computed_in_double() {
    const X: [f64; 8] = [0.1, -0.7, 1.3, 2.9, -3.1, 0.4, 0.05, 1.7];
    #[rustfmt::skip]
    let cases: &[(i64, &str, &[f64])] = &[
        (20, "a = Mul(x, x) y = ReduceMean(a, last)", &[2.65, 3.165_625]),
        (20, "a = Mul(x, x) m = ReduceMean(a, last) e = Add(m, k) r = Sqrt(e) i = Reciprocal(r) y = Mul(x, i)",
         &[0.057_543_533_764_843_6, -0.402_804_736_353_905_2, 0.748_065_938_942_966_8, 1.668_762_479_180_464_3,
           -1.648_650_489_208_235_6, 0.212_729_095_381_707_8, 0.026_591_136_922_713_476, 0.904_098_655_372_258_2]),
        (20, "y = LayerNormalization(x, s, b)",
         &[-0.398_742_844_195_823_6, -0.811_579_199_593_165_8, 0.633_348_044_297_532_1, 1.282_090_888_493_355_5,
           -1.535_713_751_590_089_2, 0.575_384_125_438_607, 0.461_960_465_154_996_8, 1.019_154_196_298_232]),
        (21, "z = Reshape(x, channels) y = GroupNormalization<num_groups = 2>(z, s, b)",
         &[-0.398_742_844_195_823_6, -1.047_485_688_391_647_2, 0.515_394_799_898_291_5, 1.576_973_999_491_457_3,
           -1.860_388_979_151_923_5, 0.719_999_292_300_210_1, 0.364_132_558_160_382_87, 1.019_154_196_298_232]),
        (20, "z = Reshape(x, channels) y = GroupNormalization<num_groups = 2>(z, t, u)",
         &[-0.398_742_844_195_823_6, -1.047_485_688_391_647_2, 0.574_371_422_097_911_8, 1.871_857_110_489_559,
           -1.211_038_524_028_254_6, 0.575_384_125_438_607, 0.396_741_860_491_920_84, 1.238_912_538_097_726_8]),
        (20, "y = Gelu(x)",
         &[0.053_982_783_727_702_904, -0.169_374_556_556_151_1, 1.174_159_370_038_706_7, 2.894_589_141_428_886_2,
           -0.002_999_569_960_976_95, 0.262_168_696_644_129_7, 0.025_996_940_291_918_624, 1.624_238_713_310_476_8]),
        (20, "y = LeakyRelu<alpha = 0.3>(x)",
         &[0.1, -0.210_000_008_344_650_27, 1.3, 2.9, -0.930_000_036_954_879_8, 0.4, 0.05, 1.7]),
        (20, "y = Gemm<alpha = 0.3, beta = 0.7, transB = 1>(x, x, c)",
         &[3.250_000_125_169_754, 1.951_500_041_782_856, 1.391_500_051_319_599_2, 4.428_750_140_219_927]),
    ];
    let constants = "<int64[1] last = {1}, double k = {0.37}, double[4] s = {1.1, 0.9, 1.3, 0.7}, double[2] t = {1.1, 0.9}, \
         double[4] b = {0.25, 0.25, 0.25, 0.25}, double[2] u = {0.25, 0.25}, double[2] c = {0.1, 0.9}, int64[3] channels = {1, 4, 2}>";
    for (opset, body, wanted) in cases {
        let model = model_at(
            *opset,
            &format!("(double[2,4] x) => (double y) {constants} {{ {body} }}"),
        );
        let found = run(&model, &Tensor::from_f64(DType::F64, &[2, 4], &X).unwrap())
            .to_f64()
            .unwrap();
        assert_eq!(found.len(), wanted.len(), "{body}");
        for (found, wanted) in found.iter().zip(*wanted) {
            assert!(close(*found, *wanted, 4e-14), "{body}: {found}, not {wanted}");
        }
    }
}

#[test]
fn denormal_numbers_divide() {
    let x = floats(&[-1e-40, 3e-40, -0.5, 6.0]);
    for body in [
        "a = Abs(x) y = Div(x, a)",
        "y = LpNormalization<axis = 0, p = 1>(x)",
    ] {
        let rows = body.contains("Lp");
        let (text, given) = match rows {
            true => (
                format!("(float[1,4] x) => (float[1,4] y) {{ {body} }}"),
                x.reshaped(&[1, 4]).unwrap(),
            ),
            false => (format!("(float[4] x) => (float[4] y) {{ {body} }}"), x.clone()),
        };
        let found = run(&model(&text), &given).to_f64().unwrap();
        assert_eq!(found, [-1.0, 1.0, -1.0, 1.0], "{body}");
    }
}

#[test]
fn products_of_integers_have_factors() {
    let model = model(
        "(int32[2,4] x) => (int32[2,2] y) <int32[2] c = {1, -1}> { y = Gemm<alpha = 2.0, beta = 3.0, transB = 1>(x, x, c) }",
    );
    let x = Tensor::from_slice(&[2, 4], &[1i32, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    assert_eq!(run(&model, &x).to_i64().unwrap(), [63, 137, 143, 345]);
}

#[test]
fn the_hyperbolic_tangent_reaches_one() {
    let model = model("(float[6] x) => (float[6] y) { y = Tanh(x) }");
    let found = run(&model, &floats(&[7.6, -8.0, 8.5, -9.5, 1e6, -1e38]));
    assert_eq!(
        *found.to_f32().unwrap(),
        [0.999_999_5, -0.999_999_76, 0.999_999_94, -1.0, 1.0, -1.0]
    );
}

#[test]
fn slices_at_the_ends_of_int64_take_what_the_specification_says() {
    let (low, high) = (i64::MIN, i64::MAX);
    for (start, end, step, wanted) in [
        (1i64 << 40, high, 1, vec![]),
        (-4, low, -1, vec![0.0]),
        (low, high, 3, vec![0.0]),
        (high, low, -2, vec![2.0, 0.0]),
        (-1, low + 1, -1, vec![2.0, 1.0, 0.0]),
        (5, -9, -2, vec![2.0, 0.0]),
        (0, 3, high, vec![0.0]),
        (2, -5, low, vec![2.0]),
    ] {
        let text = format!(
            "(float[3] x) => (float[n] y) <int64[1] s = {{{start}}}, int64[1] e = {{{end}}}, int64[1] a = {{0}}, \
             int64[1] t = {{{step}}}> {{ y = Slice(x, s, e, a, t) }}"
        );
        let x = floats(&[0.0, 1.0, 2.0]);
        assert_eq!(
            run(&model(&text), &x).to_f64().unwrap(),
            wanted,
            "{start}:{end}:{step}"
        );
        let list = |v: i64| Some(Tensor::vector_i64(&[v]));
        let folded = TractEvaluator
            .evaluate(
                &Operator::new("Slice"),
                17,
                &[Some(x), list(start), list(end), list(0), list(step)],
                1,
            )
            .unwrap();
        assert_eq!(folded[0].to_f64().unwrap(), wanted, "folded {start}:{end}:{step}");
    }
    let attributes = model_at(
        9,
        "(float[3] x) => (float[n] y) { y = Slice<starts = [-9], ends = [2], axes = [0]>(x) }",
    );
    assert_eq!(
        run(&attributes, &floats(&[0.0, 1.0, 2.0])).to_f64().unwrap(),
        [0.0, 1.0]
    );
}

#[test]
fn recurrent_layers_run_backwards_in_every_opset() {
    let numbers = |count: usize, seed: usize| {
        let list: Vec<String> = (0..count)
            .map(|at| format!("{:.2}", ((at * 7 + seed) % 11) as f64 / 5.0 - 1.0))
            .collect();
        list.join(", ")
    };
    let gru = |opset: i64, direction: &str, count: usize| {
        model_at(
            opset,
            &format!(
                "(float[3,1,2] x) => (float[a,b,c,d] y) <float[{count},6,2] w = {{{}}}, float[{count},6,2] r = {{{}}}> \
                 {{ y = GRU<hidden_size = 2, direction = \"{direction}\">(x, w, r) }}",
                numbers(count * 12, 1),
                numbers(count * 12, 4),
            ),
        )
    };
    let x: Vec<f32> = vec![0.5, -1.0, 2.0, 0.25, -0.75, 1.5];
    let turned: Vec<f32> = x.chunks(2).rev().flatten().copied().collect();
    let of = |values: &[f32]| Tensor::from_slice(&[3, 1, 2], values).unwrap();
    for opset in [7, 9, 14] {
        let forward = run(&gru(opset, "forward", 1), &of(&turned)).to_f64().unwrap();
        let reverse = run(&gru(opset, "reverse", 1), &of(&x)).to_f64().unwrap();
        let back: Vec<f64> = forward.chunks(2).rev().flatten().copied().collect();
        for (a, b) in reverse.iter().zip(&back) {
            assert!((a - b).abs() < 1e-6, "opset {opset}: {reverse:?}, not {back:?}");
        }
        // The first direction of two has the weights of the one alone.
        let both = run(&gru(opset, "bidirectional", 2), &of(&x));
        assert_eq!(both.dims(), [3, 2, 1, 2]);
        let alone = run(&gru(opset, "forward", 1), &of(&x)).to_f64().unwrap();
        let first: Vec<f64> = both
            .to_f64()
            .unwrap()
            .chunks(4)
            .flat_map(|step| step[..2].to_vec())
            .collect();
        for (a, b) in first.iter().zip(&alone) {
            assert!((a - b).abs() < 1e-6, "opset {opset}: {first:?}, not {alone:?}");
        }
    }
}

#[test]
fn indices_count_from_the_end_and_sequences_are_read_from_their_parts() {
    let gather =
        model("(float[2,3] x) => (float[2] y) <int64[2,2] i = {0, -1, -1, 0}> { y = GatherND(x, i) }");
    let x = Tensor::from_slice(&[2, 3], &[0f32, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    assert_eq!(run(&gather, &x).to_f64().unwrap(), [2.0, 3.0]);
    let scatter = model(
        "(float[2,3] x) => (float[2,3] y) <int64[1,1] i = {-1}, float[1,3] u = {7, 8, 9}> { y = ScatterND(x, i, u) }",
    );
    assert_eq!(
        run(&scatter, &x).to_f64().unwrap(),
        [0.0, 1.0, 2.0, 7.0, 8.0, 9.0]
    );
    let turned =
        model("(float[2,3] x) => (float[2,3] y) <int64[3] n = {1, 2, 0}> { y = ReverseSequence(x, n) }");
    assert_eq!(run(&turned, &x).to_f64().unwrap(), [0.0, 4.0, 2.0, 3.0, 1.0, 5.0]);
    let part = model(
        "(float[2] x) => (float[2] y) <int64 i = {-1}> { n = Neg(x) s = SequenceConstruct(x, n) y = SequenceAt(s, i) }",
    );
    assert_eq!(run(&part, &floats(&[1.0, 2.0])).to_f64().unwrap(), [-1.0, -2.0]);
    let joined = model(
        "(float[2] x) => (float[2,2] y) { n = Neg(x) s = SequenceConstruct(x, n) \
         y = ConcatFromSequence<axis = 0, new_axis = 1>(s) }",
    );
    assert_eq!(
        run(&joined, &floats(&[1.0, 2.0])).to_f64().unwrap(),
        [1.0, 2.0, -1.0, -2.0]
    );
}

#[test]
fn sums_of_large_exponentials_do_not_overflow() {
    for (text, wanted) in [
        (
            "(float[1,3] x) => (float[1,1] y) <int64[1] a = {1}> { y = ReduceLogSumExp(x, a) }",
            vec![1001.0 + 0.313_261_687_518_222_8],
        ),
        (
            "(float[1,3] x) => (float[1] y) <int64[1] a = {1}> { y = ReduceLogSumExp<keepdims = 0>(x, a) }",
            vec![1001.0 + 0.313_261_687_518_222_8],
        ),
        (
            "(float[1,3] x) => (float[1,3] y) { y = LogSoftmax(x) }",
            vec![-1.313_261_687, -0.313_261_687, -1_001.313_261_687],
        ),
    ] {
        let found = run(
            &model(text),
            &floats(&[1000.0, 1001.0, 0.0]).reshaped(&[1, 3]).unwrap(),
        );
        for (found, wanted) in found.to_f64().unwrap().iter().zip(wanted) {
            assert!(close(*found, wanted, 1e-6), "{text}: {found}, not {wanted}");
        }
    }
}

#[test]
fn a_wider_slope_of_prelu_stretches_the_other_operand() {
    // As ONNX Runtime does; ONNX itself stretches the slope alone.
    let wide = model("(float[1] x) => (float[n] y) <float[2] s = {0.5, 0.25}> { y = PRelu(x, s) }");
    assert!(conflicts(&wide).is_empty());
    assert_eq!(run(&wide, &floats(&[-4.0])).to_f64().unwrap(), [-2.0, -1.0]);
    let apart = model("(float[3] x) => (float[n] y) <float[2] s = {0.5, 0.25}> { y = PRelu(x, s) }");
    assert_eq!(conflicts(&apart).len(), 1);
}

#[test]
fn body_name_before_outer_definition_is_accepted_and_one_behind_it_is_not() {
    let text = |first: &str, second: &str| {
        format!(
            "(float x) => (float v, float w) <int64 n = {{1}}, bool on = {{1}}> {{ {first} \
             v = Loop<body = b (int64 i, bool c, float s) => (bool later, float t) {{ later = Identity(c) t = Neg(s) }}>(n, on, x) \
             {second} w = Add(later, v) }}"
        )
    };
    let outer = "later = Abs(x)";
    check(&model(&text("", outer))).unwrap();
    assert_eq!(check(&model(&text(outer, ""))).unwrap_err().len(), 1);
}

#[test]
fn verify_looks_for_nan_and_infinities_and_leaves_out_where_the_reference_overflows() {
    let judge = |a: &str, b: &str| verify(&model(a), &model(b), &TractEngine, &VerifyOptions::default());
    let same = "(float[N,8] x) => (float[N,8] y) { y = Identity(x) }";
    for test in ["IsNaN", "IsInf"] {
        let cut = format!(
            "(float[N,8] x) => (float[N,8] y) <float z = {{0}}> {{ n = {test}(x) y = Where(n, z, x) }}"
        );
        assert_eq!(judge(same, &cut).verdict, Verdict::Different, "{test}");
        assert_eq!(judge(&cut, &cut).verdict, Verdict::Equal, "{test}");
    }
    let naive = "(float[N,8] x) => (float[N,8] y) { s = Softmax(x) y = Log(s) }";
    let stable = "(float[N,8] x) => (float[N,8] y) { y = LogSoftmax(x) }";
    let found = judge(naive, stable);
    assert_eq!(found.verdict, Verdict::NotChecked, "{found:?}");
    assert!(found.not_checked[0].reason.contains("overflows"), "{found:?}");
    // The other way round the model fails where the reference does not.
    assert_eq!(judge(stable, naive).verdict, Verdict::Different);
    let table =
        |body: &str| format!("(int64[N] x) => (float[N] y) <float[4] w = {{1, 2, 3, 4}}> {{ {body} }}");
    let (plain, positive) = (table("y = Gather(w, x)"), table("a = Abs(x) y = Gather(w, a)"));
    assert_eq!(judge(&plain, &positive).verdict, Verdict::Different);
    assert_eq!(judge(&plain, &plain).verdict, Verdict::Equal);
}
