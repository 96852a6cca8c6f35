//! What the quantizing passes take for a weight: operands on either side, behind Cast and Transpose, in and around bodies, shared, of
//! recurrent layers and tables; the forms of Gemm; names; and the reasons for what stays float.

use secateur::analysis::linear;
use secateur::passes::{
    Form, Heads, LayerPrecision, Precision, Profile, Quantize, QuantizeDynamic, QuantizeWeights, Rounding,
    Runs,
};
use secateur::quantize::{Calibrator, Kind};

use super::quantizing::{Synthetic, check_near, constants, operators};
use super::*;

fn dynamic() -> QuantizeDynamic {
    QuantizeDynamic {
        minimum_elements: 1,
        ..QuantizeDynamic::default()
    }
}

fn weights() -> QuantizeWeights {
    QuantizeWeights {
        minimum_elements: 1,
        ..QuantizeWeights::default()
    }
}

/// Static quantization whose error is that of rounding alone.
fn unclipped() -> Quantize {
    Quantize {
        calibrate: Calibrator::MinMax,
        ..Quantize::default()
    }
}

fn count(model: &Model, operator: &str) -> usize {
    operators(model).iter().filter(|name| *name == operator).count()
}

fn changes(report: &PassReport, rule: &str) -> u64 {
    let change = report.changes.iter().find(|change| change.rule == rule);
    change.map_or(0, |change| change.count)
}

/// A pass on a model whose numbers another check compares: it is valid and can be written and read again.
fn valid(pass: &dyn Pass, text: &str) -> (Model, PassReport, String) {
    let mut after = model(text);
    let report =
        run_pass(pass, &mut after, &Setting::default()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    secateur::analysis::check(&after).unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
    let found = lines(&after).join("\n");
    (after, report, found)
}

const W: &str = "float[4,4] w = {0.5,-1.0,0.25,0.75,1.0,0.5,-0.5,0.1,0.2,-0.3,0.9,-0.8,0.6,0.4,-0.2,0.7}";
const V: &str = "float[4,4] v = {1.0,-0.5,0.3,0.2,-0.7,0.8,0.1,0.4,0.6,-0.9,0.5,0.05,0.3,0.2,-0.6,0.9}";

/// dyn_linear_linear: a product reads what another one gives, at once or through other operators.
#[test]
fn products_that_read_products_become_integer() {
    for (between, count_of) in [
        ("y = MatMul(h, v)", 2),
        ("g = Add(h, b) y = MatMul(g, v)", 2),
        ("g = Reshape(h, s) y = MatMul(g, v)", 2),
        ("y = Gemm<transB = 1>(h, v, b)", 2),
        ("d = MatMul(x, v) u = MatMul(d, w) y = Add(h, u)", 3),
        ("y = MatMul(h, w)", 2),
        (
            "t = Transpose<perm = [1, 0]>(h) y = Gemm<transA = 1, alpha = 0.5, beta = 2.0>(t, v, b)",
            2,
        ),
    ] {
        for prepare in [true, false] {
            let text = format!(
                r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,4] y) <{W}, {V}, float[4] b = {{0.5,-0.25,1.0,0.1}}, int64[2] s = {{2, 4}}> {{
  h = MatMul(x, w) {between}
}}"#
            );
            let pass = QuantizeDynamic { prepare, ..dynamic() };
            let (after, report) = check_near(&pass, &text, 0.06);
            assert_eq!(count(&after, "MatMulInteger"), count_of, "{between}");
            assert_eq!(changes(&report, "integer-product"), count_of as u64, "{between}");
        }
    }
}

#[test]
fn a_product_whose_result_is_an_output_keeps_its_name_and_feeds_the_next() {
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,4] h, float[2,4] y) <{W}, {V}> {{ h = MatMul(x, w) y = MatMul(h, v) }}"#
    );
    let (after, _) = check_near(&dynamic(), &text, 0.05);
    assert_eq!(after.graph.outputs()[0].name.to_string(), "h");
    assert_eq!(count(&after, "MatMulInteger"), 2);
}

const BRANCHES: &str = r#"
  c = ReduceSum<keepdims = 0>(h)
  p = Greater(c, z)
  y = If(p) <
    then_branch = t () => (float[2,4] u) { u = MatMul(h, WEIGHT) },
    else_branch = e () => (float[2,4] r) <float[4,4] own = {1.0,-0.5,0.3,0.2,-0.7,0.8,0.1,0.4,0.6,-0.9,0.5,0.05,0.3,0.2,-0.6,0.9}> { r = MatMul(h, own) }
  >"#;

/// dyn_if_name_clash: a body makes codes of a value whose product in the graph around has made a scale of the same name.
#[test]
fn names_in_bodies_avoid_those_of_the_graphs_around() {
    for (before, weight) in [
        ("h = MatMul(x, w)", "w"),
        ("h = MatMul(x, v)", "w"),
        ("h = Relu(x) h_scale = Relu(h)", "w"),
    ] {
        let text = format!(
            r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,4] y) <{W}, {V}, float z = {{0.0}}> {{ {before} {} }}"#,
            BRANCHES.replace("WEIGHT", weight)
        );
        for pass in [&dynamic() as &dyn Pass, &weights()] {
            let (_, report, found) = valid(pass, &text);
            assert!(report.changed, "{report:#?}");
            assert!(!found.contains("MatMul (h, w)"), "{found}");
        }
    }
}

/// weights_outer_if: one copy of codes beside the graph that holds the weight.
#[test]
fn weights_around_bodies_are_stored_as_codes_once() {
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,4] y) <{W}, float z = {{0.0}}> {{
  h = Relu(x)
  c = ReduceSum<keepdims = 0>(h)
  p = Greater(c, z)
  y = If(p) <
    then_branch = t () => (float[2,4] u) {{ u = MatMul(h, w) }},
    else_branch = e () => (float[2,4] r) {{ q = MatMul(h, w) r = MatMul(q, w) }}
  >
}}"#
    );
    let (after, report) = check_near(&weights(), &text, 0.03);
    assert_eq!(changes(&report, "weight"), 1);
    // Codes without zero points; of floats only the scales and the bound.
    assert_eq!(
        (constants(&after, DType::I8), constants(&after, DType::F32)),
        (1, 2)
    );
    let (after, report) = check_near(&dynamic(), &text, 0.06);
    assert_eq!(changes(&report, "integer-product"), 3);
    assert_eq!(
        (constants(&after, DType::I8), constants(&after, DType::F32)),
        (2, 2)
    );
}

/// fp16_weights_int4: scales in the weight's own type.
#[test]
fn weights_in_half_precision_have_scales_in_half_precision() {
    for (kind, block) in [(Kind::Int8, 0), (Kind::Int4, 2), (Kind::Uint4, 2)] {
        for dtype in ["float16", "bfloat16"] {
            let text = format!(
                r#"<ir_version: 8, opset_import: ["" : 13]>
g ({dtype}[2,4] x) => ({dtype}[2,2] y) <{dtype}[4,2] w = {{14336,13312,12288,14000,15360,48128,11264,14848}}> {{ y = MatMul(x, w) }}"#
            );
            let pass = QuantizeWeights {
                kind,
                block,
                ..weights()
            };
            let (after, report, found) = valid(&pass, &text);
            assert_eq!(changes(&report, "weight"), 1, "{report:#?}");
            assert!(after.opset() >= Some(19), "{found}");
            assert!(found.contains(&format!("w_scale: {dtype}[")), "{found}");
        }
    }
}

#[test]
fn a_weight_behind_a_cast_becomes_codes_of_what_is_computed_with() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,2] y) <float16[4,2] h = {14336,13312,12288,14000,15360,48128,11264,14848}> {
  w = Cast<to = 1>(h)
  y = MatMul(x, w)
}"#;
    let pass = QuantizeWeights {
        prepare: false,
        ..weights()
    };
    let (after, _) = check_near(&pass, text, 0.03);
    assert_eq!(operators(&after), ["DequantizeLinear", "MatMul"]);
    assert_eq!(after.opset(), Some(17));
    let (after, _) = check_near(
        &QuantizeDynamic {
            prepare: false,
            ..dynamic()
        },
        text,
        0.05,
    );
    assert_eq!(count(&after, "MatMulInteger"), 1);
    assert_eq!(constants(&after, DType::F16), 0);
}

/// silent_left_constant: the constant is the first operand.
#[test]
fn constants_on_the_left_are_weights() {
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4,3] x) => (float[2,4,3] y) <{W}> {{ y = MatMul(w, x) }}"#
    );
    let (_, report) = check_near(&weights(), &text, 0.03);
    assert_eq!(changes(&report, "weight"), 1);
    let (after, _) = check_near(&dynamic(), &text, 0.05);
    assert_eq!(count(&after, "MatMulInteger"), 1);
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[3,4] x) => (float[4,3] y) <{W}> {{ y = Gemm<transA = 1, transB = 1>(w, x) }}"#
    );
    check_near(&weights(), &text, 0.03);
    let (after, _) = check_near(&dynamic(), &text, 0.05);
    assert_eq!(count(&after, "MatMulInteger"), 1);
}

/// gemm_transb_int4: the form that ONNX Runtime computes on codes.
#[test]
fn a_gemm_is_written_as_engines_fuse_it() {
    for (attributes, bias, form) in [
        (
            "transB = 1",
            "float[3] b = {0.5,-0.25,1.0}",
            vec!["DequantizeLinear", "Gemm"],
        ),
        (
            "transB = 1, beta = 0.5",
            "float[1,3] b = {0.5,-0.25,1.0}",
            vec!["DequantizeLinear", "Gemm"],
        ),
        ("transB = 1", "float b = {0.5}", vec!["DequantizeLinear", "Gemm"]),
        (
            "transB = 1",
            "float[2,1] b = {0.5, 1.5}",
            vec!["DequantizeLinear", "MatMul", "Add"],
        ),
        (
            "transB = 1, alpha = 2.0",
            "float[3] b = {0.5,-0.25,1.0}",
            vec!["DequantizeLinear", "MatMul", "Mul", "Add"],
        ),
    ] {
        for (kind, block) in [(Kind::Int4, 2), (Kind::Int8, 0), (Kind::Uint8, 2)] {
            let text = format!(
                r#"<ir_version: 8, opset_import: ["" : 21]>
g (float[2,4] x) => (float[2,3] y)
<float[3,4] w = {{1.0,-0.5,0.3,0.2,-0.7,0.8,0.1,0.4,0.6,-0.9,0.5,0.05}}, {bias}> {{ y = Gemm<{attributes}>(x, w, b) }}"#
            );
            let pass = QuantizeWeights {
                kind,
                block,
                prepare: false,
                ..weights()
            };
            let (after, _) = check_near(&pass, &text, 0.2);
            assert_eq!(operators(&after), form, "{text}");
            let found = lines(&after).join("\n");
            assert!(!found.contains("transB = 1"), "{found}");
            assert!(
                found.contains("w_quantized: ") && found.contains("[4, 3]"),
                "{found}"
            );
        }
    }
    let text = r#"<ir_version: 8, opset_import: ["" : 21]>
g (float[2,4] x) => (float[2,3] y)
<float[3,4] w = {1.0,-0.5,0.3,0.2,-0.7,0.8,0.1,0.4,0.6,-0.9,0.5,0.05}, float[3] b = {0.5,-0.25,1.0}> { y = Gemm<transB = 1, alpha = 2.0>(x, w, b) }"#;
    let pass = QuantizeWeights {
        kind: Kind::Uint4,
        block: 16,
        form: Form::MatMulNBits,
        ..weights()
    };
    let (after, _, _) = valid(&pass, text);
    assert_eq!(operators(&after), ["MatMulNBits", "Mul", "Add"]);
}

#[test]
fn a_form_that_a_weight_cannot_have_is_named() {
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 21]>
g (float[2,4,3] x) => (float[2,4,3] y) <{W}> {{ y = MatMul(w, x) }}"#
    );
    let pass = QuantizeWeights {
        kind: Kind::Uint4,
        block: 16,
        form: Form::MatMulNBits,
        ..weights()
    };
    let (_, report, _) = valid(&pass, &text);
    assert!(said(&report).contains("form qdq"), "{report:#?}");
}

/// lstm_weights: the weights of input and state.
#[test]
fn weights_of_recurrent_layers_become_codes() {
    for (operator, gates) in [("LSTM", 4), ("GRU", 3), ("RNN", 1)] {
        let list = |count: usize, seed: usize| {
            let values = (0..count).map(|at| format!("{}", ((at * 37 + seed * 11) % 23) as f32 / 23.0 - 0.5));
            values.collect::<Vec<_>>().join(",")
        };
        let text = format!(
            r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[3,2,2] x) => (float[3,1,2,2] y)
<float[1,{rows},2] w = {{{}}}, float[1,{rows},2] r = {{{}}}> {{ y = {operator}<hidden_size = 2>(x, w, r) }}"#,
            list(gates * 4, 1),
            list(gates * 4, 2),
            rows = gates * 2,
        );
        for pass in [&weights() as &dyn Pass, &dynamic()] {
            let (after, report) = check_near(pass, &text, 0.05);
            assert_eq!(changes(&report, "weight"), 2, "{operator}");
            assert_eq!(count(&after, "DequantizeLinear"), 2, "{operator}");
        }
    }
}

#[test]
fn rows_of_a_table_are_gathered_as_codes() {
    let table = "float[3,4] w = {1.0,-0.5,0.3,0.2,-0.07,0.08,0.01,0.04,6.0,-9.0,5.0,0.5}";
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,4] y) <{table}, int64[2] i = {{2, 1}}> {{ n = Neg(i) g = Gather(w, n) y = Add(x, g) }}"#
    );
    for kind in [Kind::Int8, Kind::Uint8, Kind::Int4] {
        for symmetric in [true, false] {
            let pass = QuantizeWeights {
                kind,
                symmetric,
                prepare: false,
                ..weights()
            };
            let (after, _) = check_near(&pass, &text, 0.01);
            // Rows, never the whole table: engines would dequantize all of it in every run.
            assert_eq!(count(&after, "DequantizeLinear"), 0);
            assert!(count(&after, "Gather") >= 2);
            assert_eq!(constants(&after, DType::I4), 0);
        }
    }
}

#[test]
fn a_table_that_is_also_the_weight_of_a_product_is_stored_once() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (int64[2] i) => (float[2,3] y) <float[3,4] w = {1.0,-0.5,0.3,0.2,-0.07,0.08,0.01,0.04,6.0,-9.0,5.0,0.5}> {
  g = Gather(w, i)
  t = Transpose<perm = [1, 0]>(w)
  y = MatMul(g, t)
}"#;
    let pass = QuantizeWeights {
        prepare: false,
        ..weights()
    };
    let (after, report, found) = valid(&pass, text);
    assert_eq!(changes(&report, "weight"), 1);
    let codes = lines(&after)
        .iter()
        .filter(|line| line.contains("int8[3, 4]"))
        .count();
    assert_eq!(codes, 1, "{found}");
    assert!(!found.contains("float[3, 4]"), "{found}");
}

#[test]
fn grouped_transposed_convolutions_are_covered_when_named() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[1,4,3] x) => (float[1,4,3] y)
<float[4,2,1] w = {1.0,-0.5,0.3,0.2,-0.7,0.8,0.1,0.4}> { y = ConvTranspose<group = 2>(x, w) }"#;
    let pass = QuantizeWeights {
        operators: vec!["ConvTranspose".to_owned()],
        ..weights()
    };
    let (_, report) = check_near(&pass, text, 0.02);
    assert_eq!(changes(&report, "weight"), 1);
    let report = check_untouched(&weights(), text, &Setting::default());
    assert!(
        said(&report)
            .contains("ConvTranspose is not among the operators (y); name it with the others in --operators"),
        "{report:#?}"
    );
}

#[test]
fn functions_and_einsum_have_weights_too() {
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,4] y) <{W}> {{ y = Einsum<equation = "bi, ij -> bj">(x, w) }}"#
    );
    let (after, _) = check_near(&weights(), &text, 0.03);
    assert_eq!(operators(&after)[0], "DequantizeLinear");
}

/// gemm_bias_scalar: what the plan calls integer has one number for each column.
#[test]
fn biases_of_any_shape_become_one_number_for_each_column() {
    for (attributes, bias, operator) in [
        ("transB = 1", "float b = {0.5}", "Gemm"),
        ("transB = 1", "float[1] b = {0.5}", "Gemm"),
        ("transB = 1", "float[1,3] b = {0.5,-0.25,1.0}", "Gemm"),
        ("transB = 1, beta = 0.5", "float[1,1] b = {0.5}", "Gemm"),
        ("transB = 1", "float[2,1] b = {0.5, 1.5}", "MatMul"),
        (
            "transB = 1, alpha = 2.0",
            "float[3] b = {0.5,-0.25,1.0}",
            "MatMul",
        ),
    ] {
        let text = format!(
            r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,3] y)
<float[3,4] w = {{1.0,-0.5,0.3,0.2,-0.7,0.8,0.1,0.4,0.6,-0.9,0.5,0.05}}, {bias}> {{ h = Gemm<{attributes}>(x, w, b) y = Relu(h) }}"#
        );
        let (after, report) = check_near(&unclipped(), &text, 0.1);
        let node = report
            .nodes
            .iter()
            .find(|node| node.operator == operator)
            .unwrap();
        assert_eq!(node.runs, Runs::Integer, "{bias} {report:#?}");
        assert_eq!(
            constants(&after, DType::I32),
            if operator == "Gemm" { 2 } else { 0 },
            "{bias}"
        );
    }
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,3] y)
<float[3,4] w = {1.0,-0.5,0.3,0.2,-0.7,0.8,0.1,0.4,0.6,-0.9,0.5,0.05}, float b = {0.5}> { y = Gemm<transB = 1>(x, w, b) }"#;
    let (_, report) = check_near(
        &Quantize {
            prepare: false,
            ..unclipped()
        },
        text,
        0.1,
    );
    assert!(
        report.nodes.iter().all(|node| node.runs == Runs::Float),
        "{report:#?}"
    );
    assert!(
        said(&report).contains("one number for each output channel"),
        "{report:#?}"
    );
}

#[test]
fn weights_in_half_precision_behind_casts_are_part_of_static_products() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,2] y)
<float16[4,2] h = {14336,13312,12288,14000,15360,48128,11264,14848}, float16[2] c = {14336,13312}> {
  w = Cast<to = 1>(h)
  b = Cast<to = 1>(c)
  y = Gemm(x, w, b)
}"#;
    let pass = Quantize {
        profile: Profile::OrtX86,
        ..unclipped()
    };
    let (_, report) = check_near(&pass, text, 0.12);
    assert!(
        report.nodes.iter().any(|node| node.runs == Runs::Integer),
        "{report:#?}"
    );
}

#[test]
fn reasons_are_grouped_and_say_what_to_do() {
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,2] y, float[4,4] w) <{W}> {{
  a = MatMul(x, w)
  t = Transpose<perm = [1, 0]>(a)
  y = MatMul(a, t)
}}"#
    );
    let report = check_untouched(&weights(), &text, &Setting::default());
    let notes = said(&report);
    assert!(
        notes.contains("an output of the graph reads it as float"),
        "{notes}"
    );
    assert!(notes.contains("it multiplies two activations"), "{notes}");
    let small = QuantizeWeights::default();
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,4] y) <{W}, {V}> {{ a = MatMul(x, w) y = MatMul(a, v) }}"#
    );
    let report = check_untouched(&small, &text, &Setting::default());
    assert!(
        said(&report).contains("2 x its weight has few elements (a, y); lower --minimum-elements"),
        "{report:#?}"
    );
    let report = check_untouched(&QuantizeDynamic::default(), &text, &Setting::default());
    assert!(
        said(&report).contains("2 x its weight has few elements"),
        "{report:#?}"
    );
}

#[test]
fn a_weight_that_one_body_alone_reads_moves_into_it() {
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,4] y) <{W}, float z = {{0.0}}> {{
  c = ReduceSum<keepdims = 0>(x)
  p = Greater(c, z)
  y = If(p) <
    then_branch = t () => (float[2,4] u) {{ q = MatMul(x, w) u = MatMul(q, w) }},
    else_branch = e () => (float[2,4] r) {{ r = Relu(x) }}
  >
}}"#
    );
    let (after, report) = check_near(&weights(), &text, 0.03);
    assert_eq!(changes(&report, "weight"), 1);
    // Codes and what dequantizes them are in the branch.
    assert_eq!(constants(&after, DType::I8), 0);
    assert_eq!(count(&after, "DequantizeLinear"), 0);
    assert!(lines(&after).join("\n").contains("DequantizeLinear"));
}

#[test]
fn a_weight_that_is_also_read_as_float_stays_float() {
    for (ends, why) in [
        ("y = Add(a, w)", "y (Add) reads its weight as float"),
        (
            "b = Relu(a) y = MatMul(b, w)",
            "y (MatMul) reads its weight as float",
        ),
    ] {
        let text = format!(
            r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[4,4] x) => (float[4,4] y) <{W}> {{ a = MatMul(x, w) {ends} }}"#
        );
        let pass = QuantizeDynamic {
            prepare: false,
            exclude: vec!["^y$".to_owned()],
            ..dynamic()
        };
        let report = check_untouched(&pass, &text, &Setting::default());
        assert!(said(&report).contains(why), "{report:#?}");
    }
    // Codes for the weight as it is and for the weight transposed take as much as half precision does.
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,2] x) => (float[2,2] y) <float16[2,2] h = {14336,13312,12288,14000}> {
  w = Cast<to = 1>(h)
  t = Transpose<perm = [1, 0]>(w)
  a = MatMul(x, w)
  y = MatMul(a, t)
}"#;
    let pass = QuantizeDynamic {
        prepare: false,
        ..dynamic()
    };
    let report = check_untouched(&pass, text, &Setting::default());
    assert!(
        said(&report).contains("2 x its weight is read in several ways"),
        "{report:#?}"
    );
    // In float they take half, and it is said that there are two.
    let text = text.replace(
        "float16[2,2] h = {14336,13312,12288,14000}",
        "float[2,2] h = {0.5,0.25,0.1,-0.3}",
    );
    let (after, report) = check_near(&pass, &text, 0.06);
    assert_eq!(count(&after, "MatMulInteger"), 2);
    assert!(
        said(&report).contains("h is stored as codes once for each way"),
        "{report:#?}"
    );
}

#[test]
fn a_float_copy_beside_codes_is_named_with_its_cost() {
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,4] y, float[4,4] w) <{W}> {{ y = MatMul(x, w) }}"#
    );
    let pass = Quantize {
        heads: Heads::Codes,
        ..unclipped()
    };
    let (_, report) = check_near(&pass, &text, 0.1);
    let left = report.left.iter().find(|left| left.what == "w").unwrap();
    assert_eq!(
        left.why,
        "in float beside its codes, as an output of the graph reads it, which costs 64 bytes"
    );
}

const SHARED: &str = "a = MatMul(x, w) r = Relu(a) y = MatMul(r, w)";

#[test]
fn layers_that_share_a_weight_get_the_wider_type_that_they_ask_for() {
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 21]>
g (float[2,4] x) => (float[2,4] y) <{W}> {{ {SHARED} }}"#
    );
    for (first, other) in [("^a$", "^y$"), ("^y$", "^a$")] {
        let of = |pattern: &str, precision| LayerPrecision {
            pattern: pattern.to_owned(),
            precision,
            block: None,
        };
        let pass = QuantizeWeights {
            kind: Kind::Int4,
            layers: vec![of(first, Precision::Int8), of(other, Precision::Int4)],
            ..weights()
        };
        let (after, report) = check_near(&pass, &text, 0.05);
        assert_eq!(constants(&after, DType::I4), 0);
        assert!(constants(&after, DType::I8) > 0);
        let (wide, narrow) = (first.trim_matches(['^', '$']), other.trim_matches(['^', '$']));
        let expected = format!(
            "w is the weight of {wide}, which asks for int8, and of {narrow}, which asks for int4: it is int8 for all"
        );
        assert!(said(&report).contains(&expected), "{report:#?}");
    }
    let pass = QuantizeWeights {
        exclude: vec!["^y$".to_owned()],
        ..weights()
    };
    let report = check_untouched(&pass, &text, &Setting::default());
    assert!(said(&report).contains("1 x excluded (y)"), "{report:#?}");
    assert!(
        said(&report).contains("it shares its weight with a layer that is excluded (a)"),
        "{report:#?}"
    );
}

#[test]
fn weights_that_come_in_as_arguments_of_functions_are_named_so() {
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17, "my" : 1]>
g (float[2,4] x) => (float[2,4] y) <{W}> {{ y = my.Product(x, w) }}
<domain: "my", opset_import: ["" : 17]> Product (l, r) => (o) {{ t = Transpose(r) o = MatMul(l, t) }}"#
    );
    let weights = QuantizeWeights {
        prepare: false,
        ..weights()
    };
    let dynamic = QuantizeDynamic {
        prepare: false,
        ..dynamic()
    };
    for pass in [&weights as &dyn Pass, &dynamic] {
        let (_, report, _) = valid(pass, &text);
        assert!(!report.changed);
        assert!(
            said(&report)
                .contains("its weight comes in as an argument of the function (o); `inline-functions` first"),
            "{report:#?}"
        );
    }
    let pass = Quantize {
        prepare: false,
        ..Quantize::default()
    };
    let (_, report, _) = valid(&pass, &text);
    assert!(said(&report).contains("it calls a function"), "{report:#?}");
    // A product of what the run gives stays one of two activations.
    let text = text
        .replace("my.Product(x, w)", "my.Product(x, x)")
        .replace("[2,4]", "[4,4]");
    let (_, report, _) = valid(&dynamic, &text);
    assert!(
        said(&report).contains("it multiplies two activations"),
        "{report:#?}"
    );
}

#[test]
fn products_that_static_quantization_does_not_reach_have_their_reason() {
    let pass = Quantize {
        prepare: false,
        ..Quantize::default()
    };
    let run = |text: &str| {
        let resources = Synthetic { samples: 2 };
        run_with(&pass, &mut model(text), &Setting::default(), Some(&resources)).unwrap()
    };
    let branches = "else_branch = e () => (float[2,4] r) { r = Relu(x) }";
    let report = run(&format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (bool p, float[2,4] x) => (float[2,4] y) <{W}> {{
  y = If(p) < then_branch = t () => (float[2,4] u) {{ u = MatMul(x, w) }}, {branches} >
}}"#
    ));
    assert!(!report.changed);
    assert!(
        said(&report).contains("is in a body or a function"),
        "{report:#?}"
    );
    assert!(
        said(&report).contains("it is in a body, and what bodies hold stays float (u)"),
        "{report:#?}"
    );
    let report = run(&format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (bool p, float[2,4] x) => (float[2,4] y, float[2,4] z) <float16[4,4] h = {{1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}}, {W}> {{
  c = Cast<to = 1>(h)
  z = MatMul(x, c)
  a = Abs(w)
  q = MatMul(z, a)
  y = If(p) < then_branch = t () => (float[2,4] u) {{ d = Cast<to = 1>(h) u = MatMul(q, d) }}, {branches} >
}}"#
    ));
    let why = |node: &str| {
        let found = report.nodes.iter().find(|one| one.node == node);
        found.unwrap().why.clone()
    };
    assert!(why("z").contains("behind a Cast"), "{report:#?}");
    assert!(why("q").contains("computed from constants"), "{report:#?}");
}

#[test]
fn a_rounding_that_knows_no_rows_says_why() {
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,4] y, float[2,4] z) <{W}, {V}> {{
  y = Einsum<equation = "bi, ij -> bj">(x, w)
  z = MatMul(x, v)
}}"#
    );
    let pass = QuantizeWeights {
        rounding: Rounding::Gptq,
        prepare: false,
        ..weights()
    };
    let (_, report) = check_near(&pass, &text, 0.05);
    let nearest: Vec<_> = report
        .left
        .iter()
        .filter(|left| left.why.starts_with("rounded to nearest: "))
        .collect();
    assert_eq!(nearest.len(), 1, "{report:#?}");
    assert_eq!(nearest[0].what, "w");
    assert!(nearest[0].why.contains("an Einsum reads it"), "{report:#?}");
}

#[test]
fn what_a_body_captures_behind_a_transpose_has_a_pair_of_its_own() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,3,3] x) => (float[1,2,3,3] y) <float[2,2,1,1] w = {4.0,-2.0,0.1,0.2}, float[2] b = {0.5,0.1}, float z = {0.0}> {
  a = Conv(x, w, b)
  t = Transpose<perm = [0, 1, 3, 2]>(a)
  c = ReduceSum<keepdims = 0>(x)
  p = Greater(c, z)
  y = If(p) <
    then_branch = f () => (float[1,2,3,3] u) { u = Relu(t) },
    else_branch = e () => (float[1,2,3,3] r) { r = Tanh(t) }
  >
}"#;
    let (_, report) = check_near(&unclipped(), text, 0.1);
    let node = report
        .nodes
        .iter()
        .find(|node| node.operator == "Transpose")
        .unwrap();
    assert_eq!(node.runs, Runs::Integer, "{report:#?}");
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (bool p, float[2,4] x) => (float[2,4] y, float[2,4] q) <{W}> {{
  t = Transpose<perm = [1, 0]>(w)
  q = MatMul(x, w)
  y = If(p) <
    then_branch = f () => (float[2,4] u) {{ u = MatMul(x, t) }},
    else_branch = e () => (float[2,4] r) {{ r = Relu(x) }}
  >
}}"#
    );
    let pass = QuantizeWeights {
        prepare: false,
        ..weights()
    };
    let report = check_untouched(&pass, &text, &Setting::default());
    assert!(said(&report).contains("behind a Transpose"), "{report:#?}");
}

#[test]
fn a_constant_is_followed_to_every_reader_and_back() {
    let text = format!(
        r#"<ir_version: 8, opset_import: ["" : 17]>
g (bool p, float[2,4] x) => (float[2,4] y, float[2,4] z) <{W}> {{
  t = Transpose<perm = [1, 0]>(w)
  i = Identity(t)
  z = MatMul(x, i)
  y = If(p) <
    then_branch = a () => (float[2,4] u) {{ u = MatMul(x, t) }},
    else_branch = b () => (float[2,4] v) {{ v = Add(x, x) }}
  >
}}"#
    );
    let model = model(&text);
    let weight = model.graph.find_value("w").unwrap();
    let found = linear::readings(&model.graph, weight);
    assert!(found.others.is_empty());
    assert_eq!(found.weights.len(), 2);
    for reading in &found.weights {
        // The product reads `[K, N]` of what is stored `[N, K]`.
        assert_eq!(
            (reading.operand.output_axis, reading.operand.sum_axis),
            (Some(0), Some(1))
        );
        assert!(reading.transposed && !reading.cast);
        let inner = reading.graph(&model.graph).unwrap();
        let operand = inner.input(reading.node, 1).unwrap();
        let mut path = secateur::ir::GraphPath::MAIN;
        path.bodies.clone_from(&reading.bodies);
        let origin = linear::origin(&model, &path, operand).unwrap();
        assert_eq!(
            (origin.value, origin.axes, origin.cast),
            (weight, vec![1, 0], false)
        );
        assert_eq!(origin.path, secateur::ir::GraphPath::MAIN);
    }
}

#[test]
fn blocks_that_are_longer_than_columns_do_not_make_a_weight_larger() {
    for (rows, form) in [(8, "DequantizeLinear"), (64, "MatMulNBits")] {
        let numbers: Vec<String> = (0..rows * 4).map(|at| format!("{}", at % 7 - 3)).collect();
        let before = model(&format!(
            r#"<ir_version: 10, opset_import: ["" : 21]> g (float[2, {rows}] x) => (float[2, 4] y)
               <float[{rows}, 4] w = {{{}}}> {{ y = MatMul (x, w) }}"#,
            numbers.join(", ")
        ));
        let pass = QuantizeWeights {
            kind: Kind::Uint8,
            block: 32,
            form: Form::MatMulNBits,
            ..weights()
        };
        let mut after = before.clone();
        let report = run_pass(&pass, &mut after, &Setting::default()).unwrap();
        let text = lines(&after).join("\n");
        assert!(text.contains(form), "{text}");
        let larger = report
            .notes
            .iter()
            .any(|note| note.contains("would become larger"));
        assert_eq!(larger, rows == 8, "{report:#?}");
    }
}

/// ONNX Runtime 1.32 answers wrong numbers at that level in half precision.
#[test]
fn products_in_half_precision_ask_for_no_accuracy_level() {
    let numbers: Vec<String> = (0..32 * 4).map(|at| format!("{}", at % 7 - 3)).collect();
    for (dtype, level) in [("float", true), ("float16", false)] {
        let before = model(&format!(
            r#"<ir_version: 10, opset_import: ["" : 21]> g ({dtype}[2, 32] x) => ({dtype}[2, 4] y)
               <float[32, 4] w = {{{}}}> {{ h = Cast <to = {}> (w)  y = MatMul (x, h) }}"#,
            numbers.join(", "),
            if level { 1 } else { 10 },
        ));
        let pass = QuantizeWeights {
            kind: Kind::Uint4,
            block: 32,
            form: Form::MatMulNBits,
            ..weights()
        };
        let mut after = before.clone();
        run_pass(&pass, &mut after, &Setting::default()).unwrap();
        let text = lines(&after).join("\n");
        assert!(text.contains("MatMulNBits"), "{text}");
        assert_eq!(text.contains("accuracy_level = 4"), level, "{text}");
    }
}

#[test]
fn a_vector_of_one_block_has_one_scale() {
    // Of a vector of one scale runtimes do not know whether it is for a block or for the tensor.
    for (length, blocked) in [(16, false), (12, false), (32, true)] {
        let numbers: Vec<String> = (0..length).map(|at| format!("{}", at % 5 - 2)).collect();
        let before = model(&format!(
            r#"<ir_version: 10, opset_import: ["" : 21]> g (float[2, {length}] x) => (float[2] y)
               <float[{length}] w = {{{}}}> {{ y = MatMul (x, w) }}"#,
            numbers.join(", ")
        ));
        let pass = QuantizeWeights {
            kind: Kind::Int4,
            block: 16,
            minimum_elements: 1,
            ..QuantizeWeights::default()
        };
        let mut after = before.clone();
        run_pass(&pass, &mut after, &Setting::default()).unwrap();
        let text = lines(&after).join("\n");
        assert!(text.contains("DequantizeLinear"), "{text}");
        assert_eq!(text.contains("block_size = 16"), blocked, "{text}");
        assert_eq!(text.contains("w_scale: float = "), !blocked, "{text}");
    }
}
