//! Operators that are written out for differentiation still compute what the ONNX node tests record.

use secateur::autodiff::{AutodiffError, GradientOptions, Loss, Wrt, gradients};
use secateur::engine::RunValue;
use secateur::ir::{DType, Tensor};

use super::check::{compile, tensor};
use crate::node_tests;

const FAMILIES: &[&str] = &[
    "test_lstm_",
    "test_gru_",
    "test_rnn_",
    "test_simple_rnn_",
    "test_attention_",
];

#[test]
fn written_out_operators_reproduce_the_node_tests() {
    let (mut compared, mut refused) = (0, Vec::new());
    for test in node_tests::all() {
        if !FAMILIES.iter().any(|family| test.name.starts_with(family)) || test.name.ends_with("_expanded") {
            continue;
        }
        let model = test.model();
        let Some(input) = model.graph.inputs().first().map(|id| model.graph.label(*id)) else {
            continue;
        };
        for data in test.data_sets(&model) {
            for (name, expected) in &data.outputs {
                let RunValue::Tensor(expected) = expected else {
                    panic!("{}: {name}", test.name)
                };
                let options = GradientOptions {
                    output: Some(name.clone()),
                    keep_output: true,
                    ..GradientOptions::default()
                };
                let wrt = Wrt::Named(vec![input.clone()]);
                let gradient = match gradients(&model, &Loss::InnerProduct, &wrt, &options) {
                    Ok(gradient) => gradient,
                    // Keys and values that are passed on do not depend on the queries.
                    Err(AutodiffError::Unreachable { .. }) => continue,
                    Err(error) => {
                        refused.push(format!("{} {name}: {error}", test.name));
                        continue;
                    }
                };
                let mut feeds = data.inputs.clone();
                let zeros = vec![0.0; expected.elements() as usize];
                let targets = Tensor::from_f64(expected.dtype(), expected.dims(), &zeros).unwrap();
                feeds.insert("targets".into(), RunValue::Tensor(targets));
                let result = match compile(&gradient).and_then(|session| session.run(&feeds)) {
                    Ok(result) => result,
                    Err(error) => {
                        refused.push(format!("{} {name}: {error}", test.name));
                        continue;
                    }
                };
                let found = tensor(&result, name);
                assert_eq!(found.dims(), expected.dims(), "{} {name}", test.name);
                let tolerance = match expected.dtype() {
                    DType::F16 => 1e-2,
                    DType::BF16 => 5e-2,
                    _ => 1e-5,
                };
                for (a, b) in found.to_f64().unwrap().iter().zip(expected.to_f64().unwrap()) {
                    let near =
                        (a - b).abs() <= tolerance * b.abs().max(1.0) || *a == b || a.is_nan() && b.is_nan();
                    assert!(near, "{} {name}: {a}, not {b}", test.name);
                }
                compared += 1;
            }
        }
    }
    crate::corpus::ran(compared, 150);
    assert!(refused.is_empty(), "{refused:#?}");
}
