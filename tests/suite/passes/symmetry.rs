//! Codes with zero in the middle, and weights with zero points.

use secateur::ir::NodeId;
use secateur::passes::{Profile, Quantize, Saturation};
use secateur::quantize::Kind;

use super::quantizing::{Synthetic, context, operators};
use super::quantizing_types::{pairs, plain, refused};
use super::*;

/// A product that a clamp follows, and another one behind it.
const CLAMPED: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
    <float[2, 2, 1, 1] w = {1, -2, 3, 4}, float[2] b = {1, 2}, float[2, 2, 1, 1] v = {0.5, 2, 1, 3}, float[2] c = {3, -1}>
    { p = Conv(x, w, b) q = Relu(p) r = Conv(q, v, c) y = Relu(r) }"#;

fn run_clamped(pass: &Quantize) -> (Model, PassReport) {
    let mut model = model(CLAMPED);
    let report = pass
        .run(&mut model, &context(&Synthetic { samples: 16 }, PathBuf::new()))
        .unwrap();
    (model, report)
}

fn relus(model: &Model) -> usize {
    operators(model).iter().filter(|name| *name == "Relu").count()
}

/// The zero point of the pair behind a value.
fn zero_point(model: &Model, name: &str) -> i64 {
    let graph = &model.graph;
    let readers = graph.uses(graph.find_value(name).unwrap());
    let is_pair = |id: &NodeId| graph.operator(*id).is_some_and(|one| one.is("QuantizeLinear"));
    let pair = readers.iter().map(|reader| reader.node).find(is_pair).unwrap();
    graph
        .constant(graph.input(pair, 2).unwrap())
        .unwrap()
        .to_i64()
        .unwrap()[0]
}

/// Scale and zero points of the weight of the last product.
fn weight_codes(model: &Model) -> (f32, Vec<i64>) {
    let graph = &model.graph;
    let is_product = |id: &NodeId| graph.operator(*id).is_some_and(|one| one.is("Conv"));
    let product = graph.topological_order().into_iter().rfind(is_product).unwrap();
    let weight = graph.input(product, 1).unwrap();
    let constant = |slot| graph.constant(graph.input(weight.node, slot).unwrap()).unwrap();
    (
        constant(1).to_f32().unwrap()[0],
        constant(2).to_i64().unwrap().to_vec(),
    )
}

#[test]
fn symmetric_activations_have_zero_in_the_middle_and_keep_their_clamps() {
    let plain = plain(Profile::OrtX86);
    let (before, report) = run_clamped(&plain);
    assert_eq!(relus(&before), 0);
    assert!(report.changes.iter().any(|change| change.rule == "implied-clamp"));
    for (kind, middle) in [(Kind::Int8, 0), (Kind::Uint8, 128)] {
        let pass = Quantize {
            symmetric_activations: Some(true),
            activations: Some(kind),
            ..plain.clone()
        };
        let (model, report) = run_clamped(&pass);
        assert_eq!(relus(&model), 2);
        // The product in front of a clamp needs codes of its own result; behind the last one nobody reads codes.
        for value in ["x", "p", "q", "r"] {
            assert_eq!(zero_point(&model, value), middle, "{value}");
            assert_eq!(pairs(&model, value).len(), 1, "{value}");
        }
        assert!(pairs(&model, "y").is_empty());
        let first = report.nodes.iter().find(|node| node.operator == "Relu").unwrap();
        assert!(first.why.contains("begin at zero"), "{}", first.why);
    }
}

#[test]
fn profiles_that_fuse_clamps_have_no_pair_in_front_of_them() {
    let pass = Quantize {
        symmetric_activations: Some(true),
        ..plain(Profile::Generic)
    };
    let (model, _) = run_clamped(&pass);
    assert_eq!(relus(&model), 2);
    assert!(pairs(&model, "p").is_empty() && pairs(&model, "r").is_empty());
    assert_eq!(pairs(&model, "q").len(), 1);
    // The output is what its pair gives.
    let names = operators(&model);
    assert_eq!(names.iter().filter(|name| *name == "QuantizeLinear").count(), 3);
    let output = model.graph.output_values()[0].unwrap();
    assert!(model.graph.operator(output.node).unwrap().is("DequantizeLinear"));
}

#[test]
fn weights_get_zero_points_where_the_engine_takes_them() {
    let ignoring = |profile| Quantize {
        saturation: Saturation::Ignore,
        ..plain(profile)
    };
    let (symmetric, zeros) = weight_codes(&run_clamped(&ignoring(Profile::Generic)).0);
    assert_eq!(zeros, [0, 0]);
    let apart = |profile| Quantize {
        symmetric_weights: false,
        ..ignoring(profile)
    };
    // Both rows of `v` lie above zero: all codes are spent on them.
    let (scale, zeros) = weight_codes(&run_clamped(&apart(Profile::Generic)).0);
    assert_eq!(zeros, [-128, -128]);
    assert!(
        (symmetric / scale - 255.0 / 127.0).abs() < 1e-5,
        "{symmetric} {scale}"
    );
    for profile in [Profile::Tensorrt, Profile::Openvino] {
        let text = refused(&apart(profile), CLAMPED);
        assert!(text.contains("zero point of 0"), "{text}");
    }
    for profile in [Profile::OrtX86, Profile::OrtArm, Profile::Qnn] {
        let text = refused(&apart(profile), CLAMPED);
        assert!(text.contains("per-channel: false"), "{text}");
        let whole = Quantize {
            per_channel: false,
            ..apart(profile)
        };
        assert_eq!(weight_codes(&run_clamped(&whole).0).1, [-128]);
    }
}

#[test]
fn engines_with_symmetric_kernels_are_not_asked_for_others() {
    let pass = Quantize {
        symmetric_activations: Some(false),
        ..plain(Profile::Tensorrt)
    };
    let text = refused(&pass, CLAMPED);
    assert!(text.contains("symmetric-activations: tensorrt"), "{text}");
    let (told, _) = run_clamped(&Quantize {
        symmetric_activations: Some(true),
        ..plain(Profile::Tensorrt)
    });
    assert_eq!(lines(&told), lines(&run_clamped(&plain(Profile::Tensorrt)).0));
}
