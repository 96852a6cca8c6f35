//! Lowerings that no node test of the onnx package covers: operators of other domains against the user's ONNX Runtime, and calls
//! of model-local functions against the same model without them.

use secateur::engine::{CompileOptions, Engine, EngineError, OrtEngine, RunValue, RunValues, TractEngine};
use secateur::format::text::parse_model;
use secateur::format::{ExternalFiles, lift};
use secateur::ir::{DType, Model, Tensor};
use secateur::lower::for_engine;

fn model(text: &str) -> Model {
    let message = parse_model(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    lift(message, &ExternalFiles::default()).unwrap()
}

/// Inputs of the declared types and shapes: a fixed pattern around 0, or over the codes of an integer type.
fn inputs(model: &Model) -> RunValues {
    let one = |id: &secateur::ir::NodeId| {
        let value = &model.graph.get(*id).unwrap().outputs()[0];
        let dims: Vec<u64> = value
            .ty
            .fixed_shape()
            .unwrap()
            .into_iter()
            .map(|dim| dim as u64)
            .collect();
        let count = dims.iter().product::<u64>();
        let at = |index: u64| ((index * 37 + 11) % 101) as f64 / 25.0 - 2.0;
        let tensor = match value.ty.dtype().unwrap() {
            DType::U8 => Tensor::from_slice(
                &dims,
                &(0..count).map(|i| (i * 53 % 256) as u8).collect::<Vec<_>>(),
            ),
            DType::I8 => Tensor::from_slice(
                &dims,
                &(0..count).map(|i| (i * 53 % 256) as u8 as i8).collect::<Vec<_>>(),
            ),
            DType::I32 => Tensor::from_slice(
                &dims,
                &(0..count)
                    .map(|i| (i * 53 % 256) as i32 - 128)
                    .collect::<Vec<_>>(),
            ),
            float => Tensor::from_f64(float, &dims, &(0..count).map(at).collect::<Vec<_>>()),
        };
        (value.name.to_string(), RunValue::Tensor(tensor.unwrap()))
    };
    model.graph.inputs().iter().map(one).collect()
}

fn run(engine: &dyn Engine, model: &Model) -> Result<RunValues, EngineError> {
    let options = CompileOptions {
        threads: 1,
        ..CompileOptions::default()
    };
    engine
        .compile(&for_engine(model, engine).unwrap(), &options)?
        .run(&inputs(model))
}

/// Floats to 1e-4 of their size, codes to one: a product of scales that is rounded in another order moves a tie.
fn assert_near(found: &RunValues, expected: &RunValues, case: &str) {
    for (name, expected) in expected {
        let (Some(RunValue::Tensor(found)), RunValue::Tensor(expected)) = (found.get(name), expected) else {
            panic!("{case}: {name} is missing");
        };
        assert_eq!(
            (found.dtype(), found.dims()),
            (expected.dtype(), expected.dims()),
            "{case}: {name}"
        );
        let float = found.dtype().is_float();
        for (a, b) in found.to_f64().unwrap().iter().zip(&expected.to_f64().unwrap()) {
            let near = if float { 1e-4 * b.abs().max(1.0) } else { 1.0 };
            assert!((a - b).abs() <= near, "{case}: {name}: {a} instead of {b}");
        }
    }
}

const HEADER: &str = r#"<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1, "ai.onnx.ml" : 3]>"#;

const SCALES: &str = "float xs = {0.02}, uint8 xz = {120}, float ys = {0.03}, uint8 yz = {130}, float zs = {0.05}, uint8 zz = {125}";

#[test]
fn operators_of_other_domains_agree_with_the_runtime() {
    let engine = match OrtEngine::load() {
        Ok(engine) => engine,
        Err(EngineError::Unavailable { reason, .. }) => return super::corpus::skip(&reason),
        Err(other) => panic!("{other}"),
    };
    let quantized = |arguments: &str, result: &str, body: &str| {
        format!("g ({arguments}) => ({result}) <{SCALES}> {{ {body} }}")
    };
    let cases = [
        "g (float[2,5] x) => (float[2,5] y) { y = com.microsoft.Gelu(x) }".to_owned(),
        "g (float[2,5] x, float[5] b) => (float[2,5] y) { y = com.microsoft.BiasGelu(x, b) }".to_owned(),
        "g (float[2,5] x, float[5] b) => (float[2,5] y) { y = com.microsoft.FastGelu(x, b) }".to_owned(),
        "g (float[2,5] x) => (float[2,5] y) { y = com.microsoft.QuickGelu <alpha: float = 1.5> (x) }".to_owned(),
        "g (float[2,4,3] x, float[2,5,4] w) => (float[2,3,5] y) { y = com.microsoft.FusedMatMul <transA: int = 1, transB: int = 1, alpha: float = 0.5> (x, w) }".to_owned(),
        "g (float[2,4] x, float[5,4] w, float[5] b) => (float[2,5] y) { y = com.microsoft.FusedGemm <transB: int = 1, activation: string = \"LeakyRelu\", activation_alpha: float = 0.2> (x, w, b) }".to_owned(),
        "g (float[1,2,4,4] x, float[3,2,3,3] w, float[3] b) => (float[1,3,2,2] y) { y = com.microsoft.FusedConv <activation: string = \"Relu\", kernel_shape: ints = [3, 3]> (x, w, b) }".to_owned(),
        "g (float[1,2,4,4] x, float[3,2,3,3] w, float[1,3,2,2] z) => (float[1,3,2,2] y) { y = com.microsoft.FusedConv <activation: string = \"Clip\", activation_params: floats = [-0.5, 0.5]> (x, w, , z) }".to_owned(),
        "g (float[1,2,4,4] x, float[3,2,3,3] w, float[3] b) => (float[1,3,2,2] y) { y = com.microsoft.FusedConv <activation: string = \"HardSigmoid\", activation_params: floats = [0.3, 0.4]> (x, w, b) }".to_owned(),
        "g (float[1,3,4] x, float[1,3,4] s, float[4] gamma, float[4] bias) => (float[1,3,4] y, float[1,3,4] sum) { y, m, d, sum = com.microsoft.SkipSimplifiedLayerNormalization <epsilon: float = 1e-5> (x, s, gamma, bias) }".to_owned(),
        "g (float[2,3,4] x, float[4] gamma) => (float[2,3,4] y) { y = com.microsoft.BranchwiseRMSNorm <num_branches: int = 1, epsilon: float = 1e-5> (x, gamma) }".to_owned(),
        "g (float[2,3,8] q, float[2,5,8] k, float[2,5,4] v) => (float[2,3,4] y) { y = com.microsoft.MultiHeadAttention <num_heads: int = 4> (q, k, v) }".to_owned(),
        "g (float[2,3,8] q, float[2,5,8] k, float[2,5,8] v, float[1,2,3,5] b) => (float[2,3,8] y) { y = com.microsoft.MultiHeadAttention <num_heads: int = 2, scale: float = 0.3> (q, k, v, , , b) }".to_owned(),
        "g (float[1,3,4] x, float[1,3,4] s, float[4] gamma, float[4] beta, float[4] bias) => (float[1,3,4] y) { y = com.microsoft.SkipLayerNormalization <epsilon: float = 1e-5> (x, s, gamma, beta, bias) }".to_owned(),
        "g (float[3,4] x) => (float[3,4] y) { y = ai.onnx.ml.Scaler <offset: floats = [1.0, 2.0, 0.0, -1.0], scale: floats = [0.5, 1.0, 2.0, 3.0]> (x) }".to_owned(),
        "g (float[3,4] x) => (float[3,4] y) { y = ai.onnx.ml.Normalizer <norm: string = \"L2\"> (x) }".to_owned(),
        "g (float[3,2] x) => (float[3,1] y) { y = ai.onnx.ml.LinearRegressor <coefficients: floats = [0.5, 2.0], intercepts: floats = [0.25], targets: int = 1> (x) }".to_owned(),
        quantized("uint8[2,5] x, uint8[2,5] y", "uint8[2,5] z", "z = com.microsoft.QLinearAdd(x, xs, xz, y, ys, yz, zs, zz)"),
        quantized("uint8[2,5] x, uint8[1,5] y", "uint8[2,5] z", "z = com.microsoft.QLinearMul(x, xs, xz, y, ys, yz, zs, zz)"),
        quantized("uint8[2,5] x", "uint8[2,5] z", "z = com.microsoft.QLinearSigmoid(x, xs, xz, ys, yz)"),
        quantized("uint8[2,5] x", "uint8[2,5] z", "z = com.microsoft.QLinearLeakyRelu <alpha: float = 0.3> (x, xs, xz, zs, zz)"),
        quantized("uint8[1,2,3,3] x", "uint8[1,2,1,1] z", "z = com.microsoft.QLinearGlobalAveragePool <channels_last: int = 0> (x, xs, xz, ys, yz)"),
        quantized("uint8[1,2,4,4] x", "uint8[1,2,2,2] z", "z = com.microsoft.QLinearAveragePool <kernel_shape: ints = [2, 2], strides: ints = [2, 2]> (x, xs, xz, ys, yz)"),
        quantized("uint8[2,3] x, uint8[2,2] y", "uint8[2,5] z", "z = com.microsoft.QLinearConcat <axis: int = 1> (zs, zz, x, xs, xz, y, ys, yz)"),
        quantized("uint8[2,5] x", "uint8[2,5] z", "z = com.microsoft.QLinearSoftmax <axis: int = -1, opset: int = 13> (x, xs, xz, ys, yz)"),
        quantized("uint8[2,4] x, uint8[5,4] w, int32[5] c", "uint8[2,5] z", "z = com.microsoft.QGemm <transB: int = 1> (x, xs, xz, w, ys, yz, c, zs, zz)"),
        quantized("uint8[2,4] x, uint8[4,5] w", "float[2,5] z", "z = com.microsoft.QGemm(x, xs, xz, w, ys, yz)"),
    ];
    let mut refused = Vec::new();
    for case in &cases {
        let model = model(&format!("{HEADER}\n{case}"));
        let expected = run(&engine, &model).unwrap_or_else(|error| panic!("{case}: {error}"));
        match run(&TractEngine, &model) {
            Ok(found) => assert_near(&found, &expected, case),
            Err(error) => refused.push(format!("{case}: {error}")),
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}

#[test]
fn calls_of_functions_compute_what_their_bodies_compute() {
    let plain = r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,3] x) => (float[2,3] y, float[2,3] z) {
            a = LeakyRelu <alpha: float = 0.25> (x)
            b = Add (a, x)
            y = LeakyRelu <alpha: float = 0.5> (b)
            c = LeakyRelu <alpha: float = 0.125> (y)
            z = Add (c, y)
        }"#;
    let called = r#"<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[2,3] x) => (float[2,3] y, float[2,3] z) {
            b = local.step <slope: float = 0.25> (x)
            y = LeakyRelu <alpha: float = 0.5> (b)
            z = local.outer (y)
        }
        <domain: "local", opset_import: ["" : 17]>
        step <slope> (v) => (w) { l = LeakyRelu <alpha: float = @slope> (v)  w = Add (l, v) }
        <domain: "local", opset_import: ["" : 17, "local" : 1]>
        outer (v) => (w) { w = local.step <slope: float = 0.125> (v) }"#;
    let (plain, called) = (model(plain), model(called));
    let (expected, found) = (
        run(&TractEngine, &plain).unwrap(),
        run(&TractEngine, &called).unwrap(),
    );
    for (name, expected) in &expected {
        let (RunValue::Tensor(expected), Some(RunValue::Tensor(found))) = (expected, found.get(name)) else {
            panic!("{name}")
        };
        assert!(found.same_as(expected), "{name}");
    }
}

#[test]
fn a_function_of_another_opset_is_refused_by_name() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[2,3] x) => (float[2,3] y) { y = local.f (x) }
        <domain: "local", opset_import: ["" : 12]>
        f (v) => (w) { w = Relu (v) }"#;
    match run(&TractEngine, &model(text)) {
        Err(EngineError::Unsupported { operator, .. }) => assert_eq!(operator, "f"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn lowering_leaves_the_interface_and_the_given_model_alone() {
    let text = format!("{HEADER} g (float[2,5] x) => (float[2,5] y) {{ y = com.microsoft.Gelu(x) }}");
    let model = model(&text);
    let lowered = for_engine(&model, &TractEngine).unwrap();
    assert!(
        lowered
            .graph
            .journal()
            .iter()
            .any(|entry| &*entry.origin == "lower/Gelu")
    );
    assert_eq!(model.graph.journal().len(), 0);
    let interface = |model: &Model| {
        let inputs = model
            .graph
            .inputs()
            .iter()
            .map(|id| model.graph.get(*id).unwrap().outputs()[0].name.to_string());
        let outputs = model
            .graph
            .outputs()
            .iter()
            .map(|output| format!("{} {}", output.name, output.ty));
        inputs.chain(outputs).collect::<Vec<_>>()
    };
    assert_eq!(interface(&model), interface(&lowered));
}

/// A product with a weight in blocks of a few bits; `rest` are the constants beside `w`, `slots` what the node reads of them.
fn blocked(x: &str, attributes: &str, codes: &[u8], dims: &str, rest: &str, slots: &str) -> String {
    let codes: Vec<String> = codes.iter().map(u8::to_string).collect();
    format!(
        "{HEADER} g ({x}) => (float[m,n] y) <uint8[{dims}] w = {{{}}}, {rest}> {{ y = com.microsoft.MatMulNBits <{attributes}> ({slots}) }}",
        codes.join(", ")
    )
}

/// Two blocks of one column: 16 codes that stand for 1, then one for -1 and 15 that fill the block up.
fn column() -> Vec<u8> {
    let mut codes = vec![130; 16];
    codes.push(124);
    codes.extend([255; 15]);
    codes
}

const EIGHT_BITS: &str =
    "K: int = 17, N: int = 1, bits: int = 8, block_size: int = 16, accuracy_level: int = 4";

#[test]
fn products_with_weights_of_few_bits_are_those_of_the_numbers_that_the_codes_stand_for() {
    let ones = |model: &Model| {
        let lowered = for_engine(model, &TractEngine).unwrap();
        let value = model
            .graph
            .value(secateur::ir::ValueId::new(model.graph.inputs()[0], 0));
        let dims: Vec<u64> = value
            .unwrap()
            .ty
            .fixed_shape()
            .unwrap()
            .iter()
            .map(|dim| *dim as u64)
            .collect();
        let x = Tensor::from_f64(
            DType::F32,
            &dims,
            &vec![1.0; dims.iter().product::<u64>() as usize],
        );
        let session = TractEngine.compile(&lowered, &CompileOptions::default()).unwrap();
        let given = [("x".to_owned(), RunValue::Tensor(x.unwrap()))];
        let found = session.run(&given.into_iter().collect()).unwrap();
        match &found["y"] {
            RunValue::Tensor(y) => y.to_f64().unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let scales = "float[2] s = {0.5, 0.25}";
    let eight = |rest: &str, slots: &str| {
        let text = blocked("float[1,17] x", EIGHT_BITS, &column(), "1,2,16", rest, slots);
        ones(&model(&text))
    };
    assert_eq!(eight(scales, "x, w, s"), [15.0]);
    assert_eq!(
        eight(&format!("{scales}, uint8[2] z = {{130, 124}}"), "x, w, s, z"),
        [0.0]
    );
    assert_eq!(
        eight(
            &format!("{scales}, float[1] b = {{2.0}}"),
            r#"x, w, s, "", "", b"#
        ),
        [17.0]
    );
    // float16 has no number near 1e-7 but 5.96e-8 and 1.19e-7, and tract keeps scales of 4 bits in it.
    let text = blocked(
        "float[1,32] x",
        "K: int = 32, N: int = 1, bits: int = 4, block_size: int = 32",
        &[0x99; 16],
        "1,1,16",
        "float[1] s = {1e-7}",
        "x, w, s",
    );
    let found = ones(&model(&text));
    assert!((found[0] / 3.2e-6 - 1.0).abs() < 1e-5, "{found:?}");
}

#[test]
fn products_with_weights_of_8_bits_agree_with_the_runtime() {
    let engine = match OrtEngine::load() {
        Ok(engine) => engine,
        Err(EngineError::Unavailable { reason, .. }) => return super::corpus::skip(&reason),
        Err(other) => panic!("{other}"),
    };
    let codes: Vec<u8> = (0..64_u32).map(|at| (at * 53 % 256) as u8).collect();
    let attributes = "K: int = 20, N: int = 2, bits: int = 8, block_size: int = 16";
    let scales = "float[4] s = {0.02, 0.03, 0.01, 0.04}";
    for (rest, slots) in [
        (scales.to_owned(), "x, w, s"),
        (
            format!("{scales}, uint8[4] z = {{120, 128, 130, 7}}"),
            "x, w, s, z",
        ),
    ] {
        let text = blocked("float[3,20] x", attributes, &codes, "2,2,16", &rest, slots);
        let model = model(&text);
        let expected = run(&engine, &model).unwrap_or_else(|error| panic!("{text}: {error}"));
        let found = run(&TractEngine, &model).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_near(&found, &expected, &text);
    }
}

#[test]
fn forms_of_products_in_blocks_that_tract_lacks_are_refused_by_name() {
    let scales = "float[2] s = {0.5, 0.25}";
    let groups = format!("{scales}, int32[17] g = {{{}}}", ["0"; 17].join(", "));
    let zeros = format!("{scales}, float[2] z = {{128.0, 128.0}}");
    for (rest, slots) in [(&groups, r#"x, w, s, "", g"#), (&zeros, "x, w, s, z")] {
        let text = blocked("float[1,17] x", EIGHT_BITS, &column(), "1,2,16", rest, slots);
        match run(&TractEngine, &model(&text)) {
            Err(EngineError::Unsupported { operator, .. }) => {
                assert_eq!(operator, "com.microsoft.MatMulNBits")
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn a_tensor_of_a_size_without_a_value_is_of_zeros_of_type_float() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]> g (float[2,3] x) => (float[2,3] y, float[2,3] z) {
        s = Shape(x)
        z = ConstantOfShape(s)
        y = Add(x, z)
    }"#;
    let model = model(text);
    let found = run(&TractEngine, &model).unwrap();
    let RunValue::Tensor(z) = &found["z"] else {
        panic!("{found:?}")
    };
    assert_eq!((z.dtype(), z.dims()), (DType::F32, [2, 3].as_slice()));
    assert_eq!(z.to_f64().unwrap(), [0.0; 6]);
    let RunValue::Tensor(y) = &found["y"] else {
        panic!("{found:?}")
    };
    let RunValue::Tensor(x) = &inputs(&model)["x"] else {
        panic!("no tensor")
    };
    assert!(y.same_as(x), "{y:?}");
}
